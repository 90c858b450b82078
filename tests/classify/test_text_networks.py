"""Text networks against results by hand."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.classify.models.text import (
    PADDING,
    AdditiveAttention,
    AttentionNetwork,
    FastText,
    SequenceNetwork,
    sinusoidal_positions,
)
from dlkit.classify.text import pad_ids
from tests.classify.helpers import END, TEXT_NETWORKS, WORDS, text_network


def some_texts() -> list[Tensor]:
    """Texts of 1 to 17 words, with sentences in them; one is empty."""
    draw = torch.Generator().manual_seed(1)
    lengths = [5, 1, 17, 9, 0, 12]
    texts = [torch.randint(1, WORDS, (length,), generator=draw) for length in lengths]
    texts[2][[4, 5, 11]] = END
    texts[3][-1] = END
    return texts


@pytest.mark.parametrize("name", TEXT_NETWORKS)
def test_padding_order_and_batch_have_no_effect(name: str) -> None:
    model, texts = text_network(name), some_texts()
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


@pytest.mark.parametrize("name", TEXT_NETWORKS)
def test_word_weights_do_not_depend_on_the_batch(name: str) -> None:
    model, texts = text_network(name), some_texts()
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


@pytest.mark.parametrize("name", TEXT_NETWORKS)
def test_mixed_precision(name: str) -> None:
    model, ids = text_network(name).train(), pad_ids(some_texts())
    exact = text_network(name)(ids)
    with torch.autocast("cpu", torch.bfloat16):
        loss = F.cross_entropy(model(ids).float(), torch.tensor([0, 1, 2, 0, 1, 2]))
        close = text_network(name)(ids)
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    torch.testing.assert_close(close.float(), exact, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("name", TEXT_NETWORKS)
def test_padding_stays_zero_in_training(name: str) -> None:
    model = text_network(name).train()
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
    model = text_network("fasttext")
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
    model = text_network("hierarchical")
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
    deep, ids = text_network("hierarchical"), torch.tensor([[7, 8, 9, 10, END]])
    flat = text_network("attention")
    flat.load_state_dict(deep.state_dict(), strict=False)
    torch.testing.assert_close(deep.word_weights(ids), flat.word_weights(ids))


def test_positions_are_the_papers() -> None:
    table = sinusoidal_positions(6, 8, torch.device("cpu"))
    assert table.shape == (6, 8)
    angle = torch.tensor(5 / 10_000 ** (4 / 8))
    torch.testing.assert_close(table[5, 4:6], torch.stack([angle.sin(), angle.cos()]))


def test_bilstm_equals_torchs_own_on_one_text() -> None:
    model = text_network("bilstm-mean")
    ids = torch.tensor([[5, 6, 7, 8]])
    rnn = model.encoder.rnn
    states, _ = rnn(model.embedding(ids))
    torch.testing.assert_close(model(ids), model.fc(states.mean(dim=1)))
