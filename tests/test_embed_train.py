"""Training word vectors: what kernels compute, what is read, runs and how they go on."""

import gzip
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dlkit.core.errors import DlkitError
from dlkit.embed import compiled, data, huffman, loss, phrases
from dlkit.embed.cbow import train_cbow
from dlkit.embed.config import EmbedMethod, EmbedTrainConfig, ResolvedConfig, resolve_config
from dlkit.embed.data import Corpus
from dlkit.embed.fasttext import train_fasttext
from dlkit.embed.hogwild import HogwildState, chunk_seed, padded_width, sampling_tables
from dlkit.embed.model import load_embedding
from dlkit.embed.skipgram import train_skipgram
from dlkit.embed.subwords import vector_of_unknown
from dlkit.embed.train import EmbedRun, train
from tests.conftest import run

DIM = 20  # fills a vector of 16 and a part of another
RATE = 0.1
SENTENCE = np.array([0, 1, -1], np.int32)


def settings(**changed: Any) -> ResolvedConfig:
    return resolve_config(EmbedTrainConfig(corpus=[], dim=DIM, **changed))


def weights(rows: int, seed: int) -> np.ndarray:
    """Rows (rows, W) of random numbers, padded with zeros."""
    matrix = np.zeros((rows, padded_width(DIM)), np.float32)
    matrix[:, :DIM] = np.random.default_rng(seed).normal(size=(rows, DIM)) / 2
    return matrix


def always_drawing(word: int, num_words: int, negative: int) -> compiled.SamplingTables:
    """Keeps all words; every negative word is `word`."""
    alias = compiled.alias_table(np.eye(num_words)[word])
    keep = np.full(num_words, 0xFFFFFFFF, np.uint32)
    no_path = np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32)
    return compiled.SamplingTables(1, negative, keep, alias, *no_path)


def tensors(inputs: np.ndarray, outputs: np.ndarray) -> tuple[Tensor, Tensor]:
    return tuple(torch.from_numpy(x.astype(np.float64)).requires_grad_() for x in (inputs, outputs))  # type: ignore[return-value]


def descend(value: Tensor, inputs: Tensor, outputs: Tensor) -> None:
    """One step of gradient descent."""
    gradients = torch.autograd.grad(value, (inputs, outputs))
    with torch.no_grad():
        inputs -= RATE * gradients[0]
        outputs -= RATE * gradients[1]


def test_skipgram_follows_the_gradient_of_negative_sampling() -> None:
    inputs, outputs = weights(3, 1), weights(4, 2)
    outputs[3] = 0
    expected_inputs, expected_outputs = tensors(inputs, outputs)
    for target, context in ((0, 1), (1, 0)):
        value = loss.negative_sampling(
            expected_inputs[[context]], expected_outputs[[target]], expected_outputs[[2] * 5][None]
        )
        descend(value, expected_inputs, expected_outputs)
    draw = always_drawing(2, 3, 5)
    own = compiled.new_scratch(1, 12, padded_width(DIM))
    flat = inputs.reshape(-1), outputs.reshape(-1), padded_width(DIM)
    train_skipgram(SENTENCE, 0, 3, *flat, draw, np.float32(RATE), np.uint64(1), own)
    np.testing.assert_allclose(inputs, expected_inputs.detach(), atol=1e-6)
    np.testing.assert_allclose(outputs, expected_outputs.detach(), atol=1e-6)


def test_a_step_on_several_inputs_and_groups_is_one_gradient() -> None:
    inputs, outputs = weights(5, 3), weights(12, 4)
    own = compiled.new_scratch(2, 12, padded_width(DIM))
    own.input_offsets[:] = np.array([4, 0, 2, 3]) * padded_width(DIM)
    own.output_offsets[:12] = np.arange(12) * padded_width(DIM)
    own.labels[0] = own.labels[7] = 1
    own.weights[:11] = 1
    used = [4, 0, 2, 3]
    expected_inputs, expected_outputs = tensors(inputs, outputs)
    scores = expected_inputs[used] @ expected_outputs[:11].T
    signs = torch.from_numpy(2 * own.labels[:11].astype(np.float64) - 1)
    value = -torch.nn.functional.logsigmoid(scores * signs).sum()
    descend(value, expected_inputs, expected_outputs)
    flat = inputs.reshape(-1), own.input_offsets, 4, outputs.reshape(-1), 12, padded_width(DIM)
    compiled.step(*flat, np.float32(RATE), True, True, own)
    np.testing.assert_allclose(inputs, expected_inputs.detach(), atol=1e-6)
    np.testing.assert_allclose(outputs, expected_outputs.detach(), atol=1e-6)
    assert own.stats[0] == pytest.approx(value.item(), rel=1e-5)


def test_hierarchical_softmax_follows_its_gradient() -> None:
    counts = np.array([9, 5, 4, 2], np.int64)
    starts, nodes, codes = huffman.huffman_paths(counts)
    inputs, outputs = weights(4, 5), weights(5, 6)
    outputs[4] = 0
    expected_inputs, expected_outputs = tensors(inputs, outputs)
    for target, context in ((0, 1), (1, 0)):
        path = slice(starts[target], starts[target + 1])
        code = torch.from_numpy(codes[path].astype(np.float64))[None]
        value = loss.hierarchical_softmax(
            expected_inputs[[context]], expected_outputs[nodes[path]][None], code,
            torch.ones_like(code),
        )  # fmt: skip
        descend(value, expected_inputs, expected_outputs)
    draw = sampling_tables(counts, settings(method="skipgram", hs=True, window=1, sample=0))
    own = compiled.new_scratch(1, 12, padded_width(DIM))
    flat = inputs.reshape(-1), outputs.reshape(-1), padded_width(DIM)
    train_skipgram(SENTENCE, 0, 3, *flat, draw, np.float32(RATE), np.uint64(1), own)
    np.testing.assert_allclose(inputs, expected_inputs.detach(), atol=1e-6)
    np.testing.assert_allclose(outputs, expected_outputs.detach(), atol=1e-6)


@pytest.mark.parametrize("kernel", [train_cbow, train_fasttext])
def test_means_of_rows_follow_the_gradient(kernel: Any) -> None:
    """Each row takes the gradient of the mean whole, as in word2vec.c and fastText."""
    rows, starts = np.array([0, 3, 4, 1, 4, 2], np.int32), np.array([0, 3, 5, 6])
    inputs, outputs = weights(5, 7), weights(4, 8)
    outputs[3] = 0
    expected, expected_outputs = tensors(inputs, outputs)
    for target, context in ((0, 1), (1, 0)):
        if kernel is train_fasttext:
            target, context = context, target
        own_rows = rows[starts[context] : starts[context + 1]].tolist()
        mean = loss.mean_of_rows(expected[own_rows][None], torch.ones(1, len(own_rows)))
        mean = mean.detach().requires_grad_()
        positive, negatives = expected_outputs[[target]], expected_outputs[[2] * 5][None]
        value = loss.negative_sampling(mean, positive, negatives)
        of_mean, of_outputs = torch.autograd.grad(value, (mean, expected_outputs))
        with torch.no_grad():
            expected[own_rows] -= RATE * of_mean
            expected_outputs -= RATE * of_outputs
    draw = always_drawing(2, 3, 5)
    own = compiled.new_scratch(1, 12, padded_width(DIM))
    flat = inputs.reshape(-1), outputs.reshape(-1), padded_width(DIM), rows, starts
    kernel(SENTENCE, 0, 3, *flat, draw, np.float32(RATE), np.uint64(1), own)
    np.testing.assert_allclose(inputs, expected.detach(), atol=1e-6)
    np.testing.assert_allclose(outputs, expected_outputs.detach(), atol=1e-6)


def test_sigmoid() -> None:
    x = np.linspace(-12, 12, 1001, dtype=np.float32)
    found = [compiled.sigmoid.py_func(value) for value in x]
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-x.astype(float))), atol=1e-5)


def test_huffman_codes_by_hand() -> None:
    # d and c (2 + 4 = 6) make node 0; b (5) and node 0 (6) node 1; a (9) and node 1 (11) the root.
    starts, nodes, codes = huffman.huffman_paths(np.array([9, 5, 4, 2], np.int64))
    words_codes = [
        codes[a:b].astype(int).tolist() for a, b in zip(starts, starts[1:], strict=False)
    ]
    assert words_codes == [[0], [1, 0], [1, 1, 1], [1, 1, 0]]
    assert nodes.tolist() == [2, 2, 1, 2, 1, 0, 2, 1, 0]


def test_huffman_merges_an_inner_node_before_a_word_of_the_same_count() -> None:
    starts, _, _ = huffman.huffman_paths(np.array([2, 2, 1, 1], np.int64))
    assert np.diff(starts).tolist() == [1, 2, 3, 3]
    starts, _, _ = huffman.huffman_paths(np.array([4, 3, 2, 1, 1, 1], np.int64))
    assert (np.diff(starts) * [4, 3, 2, 1, 1, 1]).sum() == 29  # 2 + 3 + 5 + 7 + 12


def test_negative_words_and_kept_words_have_their_probabilities() -> None:
    counts = np.array([1000, 100, 10, 1])
    draw = sampling_tables(counts, settings(method="skipgram", sample=0.1))
    wanted = counts**0.75 / (counts**0.75).sum()
    state, drawn = compiled.seed_state(np.uint64(3)), np.zeros(4)
    for _ in range(20000):
        state = np.uint64((int(state) * int(compiled.MULTIPLIER) + int(compiled.INCREMENT)) % 2**64)
        drawn[compiled.draw_negative.py_func(draw.alias, state)] += 1
    np.testing.assert_allclose(drawn / 20000, wanted, atol=0.01)
    share = counts / counts.sum()
    kept = np.minimum(np.sqrt(0.1 / share) + 0.1 / share, 1)
    np.testing.assert_allclose(draw.keep / 2**32, kept, atol=1e-6)


def encode(tmp_path: Path, stdin: str | None = None, **changed: Any) -> Corpus:
    config = resolve_config(EmbedTrainConfig(**{"min_count": 1, **changed}))
    with data.encode_corpus(config, tmp_path / "run") as found:
        return Corpus(found.words, found.counts, np.array(found.ids), found.total)


def test_a_corpus_in_numbers(tmp_path: Path) -> None:
    plain, packed = tmp_path / "a.txt", tmp_path / "b.txt.gz"
    plain.write_text("b a a\n\nc\na b x\u00a0y")
    packed.write_bytes(gzip.compress(b"a\tb\n"))
    corpus = encode(tmp_path, corpus=[str(plain), str(packed)], min_count=2)
    assert corpus.words == ["a", "b"]
    assert corpus.counts.tolist() == [4, 3]
    assert corpus.ids.tolist() == [1, 0, 0, -1, 0, 1, -1, 0, 1, -1]
    assert corpus.total == 9
    assert not list((tmp_path / "run").iterdir())


def test_raw_text(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("Don't STOP: it's 'quoted' snake_case, Größe!\n")
    corpus = encode(tmp_path, corpus=[str(path)], lower=True, words=True)
    assert corpus.words == ["don't", "stop", "it's", "quoted", "snake", "case", "größe"]
    assert encode(tmp_path, corpus=[str(path)]).words[1] == "STOP:"


def test_long_lines_are_cut() -> None:
    ids = np.append(np.arange(2500) % 7, [-1, 3, -1, -1, 4, 5, -1]).astype(np.int32)
    found = data.split_sentences(ids)
    assert np.diff(np.flatnonzero(found == -1), prepend=-1).tolist() == [1001, 1001, 501, 3]
    edges = data.chunk_bounds(found, 1200)
    assert edges[0] == 0
    assert edges[-1] == len(found)
    assert all(found[edge - 1] == -1 for edge in edges[1:])


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (b"", [], "the corpus is empty"),
        (b" \n \n", [], "the corpus is empty"),
        (b"a a a a a a\n", [], "only one word, 'a'"),
        (b"a b a b\n", [], "no word of the corpus occurs 5 times .* lower --min-count"),
        (b"a a a a a b\n", [], "only 'a' is left of 2 words; lower --min-count 5"),
        (b"a\nb\n" * 5, [], "no line of the corpus holds two words"),
        (b"good \xff\n", [], "byte 5 is not UTF-8 .*--errors replace continues"),
        (b"a b\n", ["--bucket", "9"], "--bucket is for fasttext, not skipgram"),
        (
            b"a b\n",
            ["--hs", "--negative", "3"],
            "--negative has no effect with --hs; give only one",
        ),
        (b"a b\n", ["--threshold", "3"], "--threshold has no effect without --phrases"),
        (
            b"a b\n",
            ["--method", "glove", "--sample", "1"],
            "--sample is for skipgram, cbow, fasttext, not glove",
        ),
    ],
)
def test_what_cannot_be_trained_on(
    tmp_path: Path, content: bytes, options: list[str], message: str
) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    result = run("embed", "train", path, "--out", tmp_path / "run", *options)
    assert result.code == 2
    assert len(result.err.strip().splitlines()) == 1
    assert re.search(message, result.err), result.err


def test_phrases_by_hand(tmp_path: Path) -> None:
    """T (count(a b) - min_count) / (count(a) count(b)): 30 words, new york 3 of 3 and 3."""
    path = tmp_path / "a.txt"
    path.write_text("in new york new york\na new york b c d e f g\n" + "x y\n" * 8)
    config = EmbedTrainConfig(
        corpus=[str(path)], phrases=1, min_count=1, threshold=30 * 2 / 9 - 0.01
    )
    text = b"".join(phrases.corpus_with_phrases(resolve_config(config))).decode()
    assert text.splitlines()[:2] == ["in new_york new_york", "a new_york b c d e f g"]
    config = EmbedTrainConfig(
        corpus=[str(path)], phrases=1, min_count=1, threshold=30 * 2 / 9 + 0.01
    )
    assert b"".join(phrases.corpus_with_phrases(resolve_config(config))) == path.read_bytes()


@pytest.fixture(scope="module")
def topics(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sentences of words of one topic: red0 to red9, or blue0 to blue9."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("topics") / "topics.txt"
    lines = [
        " ".join(f"{('red', 'blue')[i % 2]}{k}" for k in rng.integers(10, size=12))
        for i in range(1200)
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


def separation(path: Path) -> float:
    """The mean cosine within a topic less the one between the two topics."""
    embedding = load_embedding(path)
    units = embedding.vectors / np.linalg.norm(embedding.vectors, axis=1, keepdims=True)
    cosines = units @ units.T
    is_red = np.array([word.startswith("red") for word in embedding.words.to_list()])
    same = is_red[:, None] == is_red
    return float(cosines[same & ~np.eye(20, dtype=bool)].mean() - cosines[~same].mean())


@pytest.mark.parametrize(
    "options",
    [
        "--method skipgram",
        "--method cbow",
        "--method skipgram --hs",
        "--method cbow --hs",
        "--method fasttext --minn 2 --maxn 3 --bucket 1000",
        "--method fasttext --fasttext-model cbow",
        "--method fasttext --maxn 0",
        "--method glove --x-max 10",
        "--method lsa --dim 2",
        "--method lsa --weighting ppmi --dim 2",
    ],
)
def test_every_method_tells_topics_apart(tmp_path: Path, topics: Path, options: str) -> None:
    words = options.split()
    more = [] if "--dim" in words else ["--dim", "12"]
    if "lsa" not in words:
        more += ["--epochs", "8"]
    if "lsa" not in words and "glove" not in words:
        more += ["--sample", "0", "--device", "cpu", "--lr", "0.1"]
    out = tmp_path / "run"
    result = run("embed", "train", topics, *words, *more, "--out", out, "--threads", "2")
    assert result.code == 0, result.err
    assert result.out.strip() == str(out / "best.safetensors")
    assert separation(out / "best.safetensors") > 0.5
    kept = {path.name for path in out.iterdir()}
    assert kept <= {"best.safetensors", "log.jsonl"}
    if "lsa" not in words:
        records = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
        assert [record["epoch"] for record in records] == [*range(1, 9)]
        assert records[-1]["loss"] < records[0]["loss"]


def test_fasttext_knows_unseen_words(tmp_path: Path, topics: Path) -> None:
    config = EmbedTrainConfig(
        corpus=[str(topics)], out=tmp_path / "run", method=EmbedMethod.fasttext, dim=12, epochs=2,
        sample=0.0, device="cpu",
    )  # fmt: skip
    embedding = load_embedding(train(config))
    assert embedding.subwords is not None
    unseen = vector_of_unknown("redred", embedding.subwords)
    assert unseen is not None
    names = embedding.words.to_list()
    cosines = embedding.vectors @ unseen / embedding.norms
    assert names[int(np.argmax(cosines))].startswith("red")


def one_thread(out: Path, topics: Path, **changed: Any) -> EmbedTrainConfig:
    defaults = {"dim": 12, "epochs": 3, "threads": 1, "device": "cpu", "seed": 5}
    return EmbedTrainConfig(corpus=[str(topics)], out=out, **{**defaults, **changed})


@pytest.mark.parametrize("method", ["skipgram", "cbow", "fasttext", "glove"])
def test_a_resumed_run_ends_like_one_that_was_never_interrupted(
    tmp_path: Path, topics: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed: dict[str, Any] = {"method": EmbedMethod(method)}
    if method == "glove":
        changed["device"] = "auto"
    whole = train(one_thread(tmp_path / "whole", topics, **changed))
    again = train(one_thread(tmp_path / "again", topics, **changed))
    np.testing.assert_array_equal(load_embedding(whole).vectors, load_embedding(again).vectors)

    save, saves = EmbedRun.save, 0

    def killed(self: EmbedRun, state: Any) -> None:
        nonlocal saves
        save(self, state)
        saves += 1
        if saves == 2:
            raise KeyboardInterrupt

    cut = one_thread(tmp_path / "cut", topics, **changed)
    with monkeypatch.context() as patch:
        patch.setattr(EmbedRun, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            train(cut)
    with pytest.raises(DlkitError, match="holds a run already; add --resume"):
        train(cut)
    with pytest.raises(DlkitError, match="was started with --dim 12; resume it with the same"):
        train(one_thread(tmp_path / "cut", topics, **changed, resume=True, dim=13))
    (tmp_path / "cut" / "corpus-of-a-killed-run").mkdir()
    resumed = train(one_thread(tmp_path / "cut", topics, **changed, resume=True))
    assert not list((tmp_path / "cut").glob("corpus-*"))
    np.testing.assert_array_equal(load_embedding(whole).vectors, load_embedding(resumed).vectors)
    log = (tmp_path / "cut" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in log] == [1, 2, 3]
    assert train(one_thread(tmp_path / "cut", topics, **changed, resume=True)) == resumed


def test_a_run_goes_on_with_its_corpus_only(
    tmp_path: Path, topics: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    save = EmbedRun.save

    def killed(self: EmbedRun, state: Any) -> None:
        save(self, state)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(EmbedRun, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            train(one_thread(out, topics))
    other = tmp_path / "other.txt"
    other.write_text("a b c\n" * 9)
    with pytest.raises(DlkitError, match="was started with another corpus"):
        train(one_thread(out, other, resume=True))
    (out / "last.state").write_bytes(b"PK")
    with pytest.raises(DlkitError, match=r"last\.state: damaged"):
        train(one_thread(out, topics, resume=True))


def test_a_rate_that_is_too_high_is_an_error(tmp_path: Path, topics: Path) -> None:
    with pytest.raises(DlkitError, match="lower --lr"):
        train(one_thread(tmp_path / "run", topics, lr=1e30))


def test_seeds_and_starts_differ() -> None:
    seeds = {chunk_seed(s, e, c) for s in (-1, 0, 1) for e in range(3) for c in range(3)}
    assert len(seeds) == 27
    state = HogwildState.start(3, 3, settings(method="skipgram"), 0.5)
    matrix = state.matrix(DIM)
    assert np.abs(matrix).max() <= 0.5 / DIM
    assert np.unique(matrix).size == matrix.size
    assert not state.outputs.any()
