"""Text classification: networks against results by hand, vocabularies, layouts, batches."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.classify.models.text import (
    PADDING,
    TEXT_ARCHITECTURES,
    AdditiveAttention,
    AttentionNetwork,
    FastText,
    SequenceNetwork,
    sinusoidal_positions,
)
from dlkit.classify.text import TextDataset, WordVocabulary, pad_ids, read_texts
from dlkit.core.errors import DlkitError

WORDS = 50  # in the vocabulary of the networks here
END = 3  # the id of a sentence's end
NETWORKS: dict[str, dict[str, Any]] = {
    "fasttext": {"ngrams": 3, "buckets": 100},
    "bilstm": {"layers": 2, "hidden": 16},
    "bilstm-mean": {"layers": 1, "hidden": 16, "pooling": "mean"},
    "attention": {"hidden": 16},
    "hierarchical": {"hidden": 16, "sentence_ends": [END]},
    "transformer": {"heads": 2},
}
GOOD, BAD = ["good", "lovely", "great"], ["bad", "dull", "awful"]


def network(name: str, num_labels: int = 3) -> Any:
    torch.manual_seed(0)
    arch = {"bilstm-mean": "bilstm", "hierarchical": "attention"}.get(name, name)
    made = TEXT_ARCHITECTURES[arch](num_labels, WORDS, embedding_size=12, **NETWORKS[name])
    return made.eval()


def some_texts() -> list[Tensor]:
    """Texts of 1 to 17 words, with sentences in them; one is empty."""
    draw = torch.Generator().manual_seed(1)
    lengths = [5, 1, 17, 9, 0, 12]
    texts = [torch.randint(1, WORDS, (length,), generator=draw) for length in lengths]
    texts[2][[4, 5, 11]] = END
    texts[3][-1] = END
    return texts


@pytest.mark.parametrize("name", NETWORKS)
def test_padding_order_and_company_change_nothing(name: str) -> None:
    model, texts = network(name), some_texts()
    together = pad_ids(texts)
    order = torch.tensor([3, 0, 5, 4, 2, 1])
    with torch.inference_mode():
        logits = model(together)
        alone = torch.cat([model(pad_ids([text])) for text in texts])
        torch.testing.assert_close(logits, alone, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(model(F.pad(together, (0, 7))), logits, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(model(together[order]), logits[order], atol=1e-6, rtol=1e-5)
    assert logits.shape == (6, 3)
    assert logits.isfinite().all()


@pytest.mark.parametrize("name", NETWORKS)
def test_word_weights_are_of_words_and_need_no_company(name: str) -> None:
    model, texts = network(name), some_texts()
    ids = pad_ids(texts)
    with torch.inference_mode():
        weights = model.word_weights(ids)
    assert weights.shape == ids.shape
    assert not weights.requires_grad
    assert (weights[ids == PADDING] == 0).all()
    for row, text in zip(weights, texts, strict=True):
        alone = model.word_weights(pad_ids([text]))[0]
        torch.testing.assert_close(row[: len(text)], alone[: len(text)], atol=1e-6, rtol=1e-4)
    if name in {"attention", "hierarchical"}:
        expected = torch.tensor([float(len(text) > 0) for text in texts])
        torch.testing.assert_close(weights.sum(dim=1), expected)


@pytest.mark.parametrize("name", NETWORKS)
def test_mixed_precision(name: str) -> None:
    model, ids = network(name).train(), pad_ids(some_texts())
    exact = network(name)(ids)
    with torch.autocast("cpu", torch.bfloat16):
        loss = F.cross_entropy(model(ids).float(), torch.tensor([0, 1, 2, 0, 1, 2]))
        close = network(name)(ids)
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    torch.testing.assert_close(close.float(), exact, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("name", NETWORKS)
def test_padding_stays_zero_in_training(name: str) -> None:
    model = network(name).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(pad_ids(some_texts())).square().sum().backward()
    optimizer.step()
    assert (model.embedding.weight[PADDING] == 0).all()


def test_fasttext_is_the_mean_of_words_and_pairs() -> None:
    torch.manual_seed(0)
    model = FastText(2, WORDS, embedding_size=4, ngrams=2, buckets=1000).eval()
    table = model.embedding.weight
    # fastText's hash of a pair: the first times 116049371, plus the second.
    pair = lambda a, b: WORDS + (a * 116_049_371 + b) % 1000  # noqa: E731
    rows = [7, 8, 9, pair(7, 8), pair(8, 9)]
    expected = table[rows].mean(dim=0) @ model.fc.weight.T + model.fc.bias
    torch.testing.assert_close(model(torch.tensor([[7, 8, 9]]))[0], expected)
    torch.testing.assert_close(model(torch.tensor([[7, 8, 9, 0]]))[0], expected)


def test_fasttext_trigrams_wrap_around_at_64_bits() -> None:
    model = FastText(2, WORDS, ngrams=3, buckets=977)
    ids = [41, 17, 49]
    whole = (ids[0] * 116_049_371 + ids[1]) * 116_049_371 + ids[2]
    signed = (whole + 2**63) % 2**64 - 2**63
    assert model.features(torch.tensor([ids]))[2].tolist() == [[WORDS + signed % 977]]


def test_fasttext_weights_sum_to_the_logit() -> None:
    model = network("fasttext")
    ids = pad_ids([text for text in some_texts() if len(text)])
    logits = model(ids)
    highest, label = logits.max(dim=1)
    bias = model.fc.bias[label]
    torch.testing.assert_close(model.word_weights(ids).sum(dim=1), highest - bias)


def test_attention_by_hand() -> None:
    attention = AdditiveAttention(2, 2)
    with torch.no_grad():
        attention.project.weight.copy_(torch.eye(2))
        attention.project.bias.zero_()
        attention.query.weight.copy_(torch.tensor([[2.0, 0.0]]))
    states = torch.tensor([[[0.0, 5.0], [1.0, 7.0], [9.0, 9.0]]])
    summed, weights = attention(states, torch.tensor([[True, True, False]]))
    # Scores 2 tanh 0 = 0 and 2 tanh 1 = 1.5232; softmax 1 / (1 + e^1.5232) = 0.17899.
    torch.testing.assert_close(weights, torch.tensor([[0.17899, 0.82101, 0.0]]), atol=1e-5, rtol=0)
    expected = torch.tensor([[0.82101, 0.17899 * 5 + 0.82101 * 7]])
    torch.testing.assert_close(summed, expected, atol=1e-4, rtol=0)


def test_gradient_weights_are_exact_where_the_network_is_linear() -> None:
    class Linear(SequenceNetwork):
        def __init__(self) -> None:
            super().__init__(WORDS, 4)
            self.fc = nn.Linear(4, 2)

        def classify_vectors(self, words: Tensor, ids: Tensor) -> Tensor:
            logits: Tensor = self.fc(words.sum(dim=1))
            return logits

    model, ids = Linear(), torch.tensor([[4, 5, 6], [7, 8, 0]])
    highest, label = model(ids).max(dim=1)
    each = (model.embedding(ids) * model.fc.weight[label][:, None]).sum(dim=2)
    torch.testing.assert_close(model.word_weights(ids), each.detach())


def test_sentences_are_cut_after_their_last_end() -> None:
    model = AttentionNetwork(2, WORDS, sentence_ends=[END, 4])
    ids = torch.tensor([[7, 8, END, 4, END, 9, 4, 0], [END, 7, 8, 9, 9, 9, 9, END]])
    number, place = model.sentences(ids)
    assert number.tolist() == [[0, 0, 0, 0, 0, 1, 1, 1], [0, 1, 1, 1, 1, 1, 1, 1]]
    assert place.tolist() == [[0, 1, 2, 3, 4, 0, 1, 2], [0, 0, 1, 2, 3, 4, 5, 6]]


def test_hierarchy_by_hand_from_its_sentences() -> None:
    model = network("hierarchical")
    sentences = [torch.tensor([7, 8, 9, END]), torch.tensor([10, END]), torch.tensor([11, 12])]
    vectors, attentions = [], []
    for ids in sentences:
        mask = torch.ones(1, len(ids), dtype=torch.bool)
        states = model.word_encoder(model.embedding(ids[None]), mask)
        vector, attention = model.word_attention(states, mask)
        vectors.append(vector)
        attentions.append(attention[0])
    mask = torch.ones(1, 3, dtype=torch.bool)
    states = model.sentence_encoder(torch.stack(vectors, dim=1), mask)
    features, shares = model.sentence_attention(states, mask)
    ids = torch.cat(sentences)[None]
    torch.testing.assert_close(model(ids), model.fc(features))
    weights = torch.cat([a * share for a, share in zip(attentions, shares[0], strict=True)])
    torch.testing.assert_close(model.word_weights(ids)[0], weights.detach())


def test_one_sentence_has_the_words_attention_of_the_flat_network() -> None:
    deep, ids = network("hierarchical"), torch.tensor([[7, 8, 9, 10, END]])
    flat = network("attention")
    flat.load_state_dict(deep.state_dict(), strict=False)
    torch.testing.assert_close(deep.word_weights(ids), flat.word_weights(ids))


def test_positions_are_the_papers() -> None:
    table = sinusoidal_positions(6, 8, torch.device("cpu"))
    assert table.shape == (6, 8)
    angle = torch.tensor(5 / 10_000 ** (4 / 8))
    torch.testing.assert_close(table[5, 4:6], torch.stack([angle.sin(), angle.cos()]))


def test_bilstm_equals_torchs_own_on_one_text() -> None:
    model = network("bilstm-mean")
    ids = torch.tensor([[5, 6, 7, 8]])
    rnn = model.encoder.rnn
    states, _ = rnn(model.embedding(ids))
    torch.testing.assert_close(model(ids), model.fc(states.mean(dim=1)))


def write_lines(folder: Path, count: int = 40) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for label, words in (("pos", GOOD), ("neg", BAD)):
        lines = [f"A {words[i % 3]} film, number {i} ." for i in range(count)]
        (folder / f"{label}.txt").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.parametrize("name", NETWORKS)
def test_a_small_set_is_learned(name: str, tmp_path: Path) -> None:
    data = write_lines(tmp_path / "films", 60)
    labels, samples, _ = read_texts(data, "train")
    assert labels == ["neg", "pos"]
    vocabulary = WordVocabulary.learn([text for text, _ in samples], WORDS)
    texts = TextDataset(samples, vocabulary, 20, word_dropout=0.1)
    model = network(name, 2).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
    torch.manual_seed(0)
    for _ in range(15):
        for batch in torch.randperm(len(texts)).split(16):
            ids, targets = texts.__getitems__(batch.tolist())
            optimizer.zero_grad()
            F.cross_entropy(model(ids), targets).backward()
            optimizer.step()
    model.eval()
    _, held_out, _ = read_texts(data, "test", labels)
    (ids, targets), *_ = TextDataset(held_out, vocabulary, 20).batches(100, range(len(held_out)))
    assert (model(ids).argmax(dim=1) == targets).all()
    if name == "fasttext":
        weights = model.word_weights(pad_ids([torch.tensor(vocabulary.encode("a dull film", 9))]))
        assert weights[0].argmax() == 1


def test_words_and_ids_go_together() -> None:
    vocabulary = WordVocabulary.learn(["the film is n't GREAT, the film."] * 3, 100)
    text = "The FILM isn't odd ."
    assert vocabulary.words(text) == ["The", "FILM", "is", "n't", "odd", "."]
    ids = vocabulary.encode(text, 100)
    names = vocabulary.tokenizer.names
    assert [names[i] for i in ids] == ["the", "film", "is", "n't", "<unk>", "."]
    assert vocabulary.encode(text, 2) == ids[:2]
    assert names[0] == "<pad>"
    assert names[1] == "<unk>"
    assert vocabulary.encode("", 5) == []
    assert vocabulary.sentence_ends() == [vocabulary.tokenizer.vocab["."]]


def test_the_most_frequent_words_are_kept() -> None:
    vocabulary = WordVocabulary.learn(["rare rare some some some often often often often"], 4)
    assert len(vocabulary) == 4
    assert sorted(vocabulary.tokenizer.vocab) == ["often", "some"]


@pytest.mark.parametrize("tokenizer", ["words", "english-8k", "english-wordpiece-8k"])
def test_a_vocabulary_travels_as_json(tokenizer: str) -> None:
    texts = ["One sentence. And another, isn't it?", "Naïve café 日本", "x"]
    vocabulary = WordVocabulary.learn(texts * 2, 100, tokenizer)
    again = WordVocabulary.from_settings(json.loads(json.dumps(vocabulary.to_settings())))
    assert len(again) == len(vocabulary)
    for text in texts:
        ids = vocabulary.encode(text, 100)
        assert again.encode(text, 100) == ids
        assert len(vocabulary.words(text)) == len(ids)
        assert min(ids) > PADDING
        assert max(ids) < len(vocabulary)
    batch = vocabulary.encode_batch(texts, 4)
    assert [ids.tolist() for ids in batch] == [vocabulary.encode(text, 4) for text in texts]
    assert len(vocabulary.sentence_ends()) >= 1


def test_word_dropout_leaves_words_out() -> None:
    vocabulary = WordVocabulary.learn(["a b c d e f g h"] * 2, 100)
    texts = TextDataset([("a b c d e f g h", 1)] * 200, vocabulary, 8, word_dropout=0.5)
    torch.manual_seed(0)
    ids, targets = texts.__getitems__(list(range(200)))
    assert 700 < int((ids != PADDING).sum()) < 900
    assert targets.tolist() == [1] * 200
    present = (ids != PADDING).int()
    assert (present.diff(dim=1) <= 0).all()  # padding only at the end


def contents(data: Path, split: str, labels: list[str] | None = None) -> list[tuple[str, int]]:
    return read_texts(data, split, labels)[1]


def test_shares_are_stratified_seeded_and_apart(tmp_path: Path) -> None:
    data = write_lines(tmp_path)
    parts = {split: contents(data, split) for split in ("train", "val", "test")}
    assert {split: len(part) for split, part in parts.items()} == {"train": 64, "val": 8, "test": 8}
    assert [sum(label for _, label in part) for part in parts.values()] == [32, 4, 4]
    assert sorted(sum(parts.values(), [])) == sorted(contents(data, "all"))
    assert contents(data, "val") == parts["val"]
    assert read_texts(data, "val", seed=1)[1] != parts["val"]


def test_equal_texts_stay_together(tmp_path: Path) -> None:
    for label in ("x", "y"):
        lines = [f"{label} {i % 10}" for i in range(40)]
        (tmp_path / f"{label}.txt").write_text("\n".join(lines))
    training, held_out = contents(tmp_path, "train"), contents(tmp_path, "test")
    assert len(held_out) == 8
    assert not set(training) & set(held_out)


def test_every_layout_gives_the_same(tmp_path: Path) -> None:
    rows = [("fine, really", "pos"), ("poor", "neg"), ("nice", "pos")]
    expected = [("poor", 0), ("fine, really", 1), ("nice", 1)]
    for split in ("train", "test"):
        for number, (text, label) in enumerate(rows):
            for name in ("documents", "lines"):
                (tmp_path / name / split / label).mkdir(parents=True, exist_ok=True)
            file = tmp_path / "documents" / split / label / f"{number}.txt"
            file.write_text(text + "\n")
            with (tmp_path / "lines" / split / f"{label}.txt").open("a") as listing:
                listing.write(text + "\n")
            (tmp_path / "lines" / split / label).rmdir()
        table = "".join(f'"{text}",{label}\n' for text, label in rows)
        (tmp_path / "tables").mkdir(exist_ok=True)
        (tmp_path / "tables" / f"{split}.csv").write_text("text,label\n" + table)
    table = "".join(
        f'{label},"{text}",{split}\n' for text, label in rows for split in ("train", "test")
    )
    (tmp_path / "one.csv").write_text("Label,text,split\n" + table)
    for name in ("documents", "lines", "tables", "one.csv"):
        found = [read_texts(tmp_path / name, split, None, 0.0) for split in ("train", "test")]
        for labels, samples, _ in found:
            assert labels == ["neg", "pos"]
            assert sorted(samples, key=lambda sample: sample[1]) == expected


def test_what_cannot_be_used_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.txt").write_bytes(b"one\n\ntwo\n\xff\xfe bad\nthree\r\n")
    (tmp_path / "b.txt").write_text("\ufeffother\n")
    (tmp_path / "c.txt").write_text("unknown\n")
    _, samples, skipped = read_texts(tmp_path, "all", ["a", "b"])
    assert samples == [("one", 0), ("two", 0), ("three", 0), ("other", 1)]
    assert {kind: len(places) for kind, places in skipped.places.items()} == {
        "empty text": 1,
        "not UTF-8": 1,
        "unknown label": 1,
    }
    skipped.report()
    assert f"skipped 1 x not UTF-8: {tmp_path}/a.txt:4" in capsys.readouterr().err


def test_a_long_text_in_a_csv(tmp_path: Path) -> None:
    file = tmp_path / "long.csv"
    file.write_text(f"text,label\n{'word ' * 50_000},a\nshort,b\n")
    assert len(contents(file, "all")) == 2


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no texts; give LABEL"),
        ({"a.txt": "x\ny\n"}, r"only one label \(a\)"),
        ({"a/1.txt": "x", "b/readme.md": "y"}, "b: a label without any text"),
        ({"a.txt": "x\n", "b.txt": "\n"}, "b.txt: a label without any text"),
        ({"train.csv": "words,label\nx,a\n"}, "no column named text or"),
        ({"train.csv": "text,label\n"}, "no row has both"),
        ({"train/a.txt": "x\n", "train/b.txt": "y\n"}, "no texts in the split 'test'"),
    ],
)
def test_bad_data_is_said_in_a_line(tmp_path: Path, files: dict[str, str], message: str) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    with pytest.raises(DlkitError, match=message):
        read_texts(tmp_path, "test" if "train/a.txt" in files else "train")


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(DlkitError, match="no such folder"):
        read_texts(tmp_path / "none", "train")
    with pytest.raises(DlkitError, match="unknown split 'dev'"):
        read_texts(write_lines(tmp_path), "dev")
