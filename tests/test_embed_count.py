"""Counted and batched word vectors: co-occurrence, GloVe, LSA, and the engine for devices."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dlkit.core.errors import DlkitError
from dlkit.embed import cooccurrence, cuda, glove, loss, lsa, sampling
from dlkit.embed.config import EmbedMethod, EmbedTrainConfig, ResolvedConfig, resolve_config
from dlkit.embed.corpus import SENTENCE_END

END = SENTENCE_END


def text(seed: int = 0, sentences: int = 60, num_words: int = 30, longest: int = 25) -> np.ndarray:
    """Ids of random sentences, some of them empty, with frequent and rare words."""
    rng = np.random.default_rng(seed)
    ids: list[int] = []
    for _ in range(sentences):
        drawn = num_words * rng.random(rng.integers(0, longest)) ** 2
        ids += [*drawn.astype(int), END]
    return np.array(ids, np.int32)


def topics(seed: int = 0, sentences: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Ids of sentences of even words or of odd ones, of 20; and the words' counts."""
    rng = np.random.default_rng(seed)
    parts = [[*(2 * rng.integers(10, size=12) + rng.integers(2)), END] for _ in range(sentences)]
    ids = np.array(parts, np.int32).flatten()
    return ids, np.bincount(ids[ids >= 0], minlength=20)


def separation(vectors: np.ndarray) -> float:
    """The mean cosine within a topic less the one between the two topics."""
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = units @ units.T
    same = (np.arange(20)[:, None] - np.arange(20)) % 2 == 0
    return float(cosines[same & ~np.eye(20, dtype=bool)].mean() - cosines[~same].mean())


def settings(tmp_path: Path, method: EmbedMethod, **changed: Any) -> ResolvedConfig:
    return resolve_config(EmbedTrainConfig(corpus=[], out=tmp_path, method=method, **changed))


def by_brute_force(ids: np.ndarray, num_words: int, window: int) -> np.ndarray:
    """x(i, j) (N, N): every word with each word before and after it."""
    x = np.zeros((num_words, num_words))
    for a, word in enumerate(ids):
        for b, other in enumerate(ids):
            near = 0 < abs(a - b) <= window
            if near and word >= 0 and other >= 0 and END not in ids[min(a, b) : max(a, b)]:
                x[word, other] += 1 / abs(a - b)
    return x


def dense(counts: np.ndarray, num_words: int) -> np.ndarray:
    x = np.zeros((num_words, num_words))
    i, j = np.divmod(counts["key"], num_words)
    assert (i <= j).all()
    x[i, j] = x[j, i] = counts["x"]
    return x


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("window", [1, 5, 15])
def test_counts_are_those_of_brute_force(tmp_path: Path, seed: int, window: int) -> None:
    ids = text(seed)
    counts = cooccurrence.count_cooccurrences(ids, 30, window, tmp_path)
    np.testing.assert_allclose(dense(counts, 30), by_brute_force(ids, 30, window), rtol=1e-12)


@pytest.mark.parametrize("threads", [1, 3])
def test_little_memory_makes_runs_that_merge_to_the_same(tmp_path: Path, threads: int) -> None:
    ids = text(5, sentences=300)
    whole = np.array(cooccurrence.count_cooccurrences(ids, 30, 15, tmp_path, threads=threads))
    pieces = list(cooccurrence.read_parts(ids, 400 // cooccurrence.BYTES_PER_WORD))
    assert len(pieces) > 50
    assert np.array_equal(np.concatenate(pieces), ids)
    assert all(piece[-1] == END for piece in pieces)
    merged = cooccurrence.count_cooccurrences(
        ids, 30, 15, tmp_path, memory=400 / 2**30, threads=threads
    )
    assert np.array_equal(merged["key"], whole["key"])
    assert (np.diff(merged["key"]) > 0).all()
    np.testing.assert_allclose(merged["x"], whole["x"], rtol=1e-12)
    assert [path.name for path in tmp_path.iterdir()] == [cooccurrence.COUNTS_FILE]


def test_threads_do_not_change_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cooccurrence, "SLICE", 50)
    ids = text(6, sentences=200)
    one = np.array(cooccurrence.count_cooccurrences(ids, 30, 15, tmp_path))
    three = cooccurrence.count_cooccurrences(ids, 30, 15, tmp_path, threads=3)
    assert np.array_equal(one, three)


def test_shuffled_pairs_are_the_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cooccurrence, "BUCKET", 16)
    counts = cooccurrence.count_cooccurrences(text(7, sentences=200), 30, 15, tmp_path)
    pairs = cooccurrence.shuffle_pairs(counts, 30, tmp_path / "pairs.bin", seed=1)
    keys = pairs["i"].astype(np.int64) * 30 + pairs["j"]
    assert not np.array_equal(keys, counts["key"])
    order = np.argsort(keys)
    assert np.array_equal(keys[order], counts["key"])
    np.testing.assert_array_equal(pairs["x"][order], counts["x"].astype(np.float32))
    # Every tenth of the file has words of all frequencies.
    for part in np.array_split(pairs["i"], 10):
        assert abs(part.mean() - pairs["i"].mean()) < 4
    again = cooccurrence.shuffle_pairs(counts, 30, tmp_path / "again.bin", seed=1)
    other = cooccurrence.shuffle_pairs(counts, 30, tmp_path / "other.bin", seed=2)
    assert np.array_equal(pairs, again)
    assert not np.array_equal(pairs, other)


@pytest.mark.parametrize("x", [0.5, 7.0, 250.0])
def test_a_step_of_glove_is_adagrad_along_autograd(x: float) -> None:
    dim, lr = 5, 0.05
    state = glove.GloveState.start(2, dim, seed=3)
    state.vectors[:, :, glove.VALUE, :dim] *= 20
    state.vectors[:, :, glove.SQUARES] = 1.5
    before_vectors, before_biases = state.vectors.copy(), state.biases.copy()
    pairs = np.array([(0, 1, x)], cooccurrence.PAIR)
    cost = glove.train_pairs(pairs, state.vectors, state.biases, 100.0, 0.75, lr)

    values = torch.tensor(before_vectors[:, :, glove.VALUE, :dim], requires_grad=True)
    biases = torch.tensor(before_biases[:, :, glove.VALUE], requires_grad=True)
    total = loss.weighted_least_squares(
        values[:, glove.WORD],
        values.flip(0)[:, glove.CONTEXT],
        biases[:, glove.WORD],
        biases.flip(0)[:, glove.CONTEXT],
        torch.tensor([x, x]),
    )
    total.backward()
    assert cost == pytest.approx(total.item(), rel=1e-5)
    for after, before, gradient in [
        (state.vectors[..., :dim], before_vectors[..., :dim], values.grad),
        (state.biases, before_biases, biases.grad),
    ]:
        assert gradient is not None
        change = lr * gradient.numpy()
        old, squares = before[:, :, glove.VALUE], before[:, :, glove.SQUARES]
        np.testing.assert_allclose(
            after[:, :, glove.VALUE], old - change / np.sqrt(squares), rtol=1e-5, atol=1e-7
        )
        np.testing.assert_allclose(after[:, :, glove.SQUARES], squares + change**2, rtol=1e-6)
    assert not state.vectors[:, :, glove.VALUE, dim:].any()


def test_both_directions_at_once_are_one_after_the_other() -> None:
    """x(i, j) and x(j, i) change different parameters: glove.c's two records in a row."""
    state = glove.GloveState.start(2, 7, seed=0)
    other = replace(state, vectors=state.vectors.copy(), biases=state.biases.copy())
    rates = (100.0, 0.75, 0.05)
    glove.train_pairs(np.array([(0, 1, 3)], cooccurrence.PAIR), state.vectors, state.biases, *rates)
    glove.train_pairs(np.array([(1, 0, 3)], cooccurrence.PAIR), other.vectors, other.biases, *rates)
    np.testing.assert_array_equal(state.vectors, other.vectors)
    np.testing.assert_array_equal(state.biases, other.biases)


def test_a_word_beside_itself_is_trained_once() -> None:
    state = glove.GloveState.start(1, 4, seed=0)
    word, context = state.vectors[0, :, glove.VALUE].copy()
    pairs = np.array([(0, 0, 2)], cooccurrence.PAIR)
    cost = glove.train_pairs(pairs, state.vectors, state.biases, 100.0, 0.75, 0.05)
    start = glove.GloveState.start(1, 4, seed=0)
    difference = word @ context + start.biases[0, :, glove.VALUE].sum() - np.log(2)
    assert cost == pytest.approx(0.5 * 0.02**0.75 * difference**2, rel=1e-5)


def test_gradients_of_glove_are_limited() -> None:
    state = glove.GloveState.start(2, 4, seed=0)
    state.biases[:, :, glove.VALUE] = 1e6
    before = state.biases.copy()
    pairs = np.array([(0, 1, 1000)], cooccurrence.PAIR)
    glove.train_pairs(pairs, state.vectors, state.biases, 100.0, 0.75, 0.05)
    np.testing.assert_allclose(
        state.biases[:, :, glove.SQUARES], before[:, :, glove.SQUARES] + 25, rtol=1e-6
    )


def prepared(
    ids: np.ndarray, num_words: int, config: ResolvedConfig, threads: int, resuming: bool
) -> np.ndarray:
    glove.count_corpus(ids, num_words, config, threads, resuming)
    return glove.load_pairs(num_words, config)


def glove_run(config: ResolvedConfig, threads: int = 1) -> tuple[np.ndarray, list[float]]:
    ids, _ = topics()
    pairs = prepared(ids, 20, config, threads, resuming=False)
    state = glove.GloveState.start(20, config.dim, config.seed)
    costs = []
    vectors = glove.train_glove(
        pairs, state, config, threads, lambda state: costs.append(state.cost / len(pairs))
    )
    return vectors, costs


def test_glove_costs_less_in_each_epoch_and_finds_topics(tmp_path: Path) -> None:
    config = settings(tmp_path, EmbedMethod.glove, dim=8, epochs=20)
    vectors, costs = glove_run(config)
    assert len(costs) == 20
    assert all(later < earlier for earlier, later in pairwise(costs))
    assert vectors.shape == (20, 8)
    assert separation(vectors) > 0.5
    assert [path.name for path in tmp_path.iterdir()] == ["pairs.bin"]
    again, _ = glove_run(config)
    np.testing.assert_array_equal(vectors, again)
    shared, costs = glove_run(config, threads=2)
    assert costs[-1] < costs[0] / 2
    assert separation(shared) > 0.5


def test_glove_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glove, "STEP", 50)
    config = settings(tmp_path, EmbedMethod.glove, dim=8, epochs=3)
    whole, _ = glove_run(config)
    ids, _ = topics()
    pairs = prepared(ids, 20, config, 1, resuming=False)
    assert len(pairs) > 2 * glove.STEP
    state = glove.GloveState.start(20, 8, config.seed)
    kept: list[glove.GloveState] = []

    def stop(state: glove.GloveState) -> None:
        if state.epoch == 1 and not kept:
            kept.append(replace(state, vectors=state.vectors.copy(), biases=state.biases.copy()))

    glove.train_glove(pairs, state, config, 1, stop)
    assert 0 < kept[0].done < len(pairs)
    pairs = prepared(ids[:0], 20, config, 1, resuming=True)  # not counted again
    again = glove.train_glove(pairs, kept[0], config, 1, lambda _: None)
    np.testing.assert_array_equal(whole, again)


def test_lonely_words_are_nothing_to_learn_from(tmp_path: Path) -> None:
    ids = np.array([0, END, 1, END], np.int32)
    config = settings(tmp_path, EmbedMethod.glove)
    with pytest.raises(DlkitError, match="no line of the corpus holds two words"):
        prepared(ids, 2, config, 1, resuming=False)


def as_dense(matrix: lsa.SparseMatrix) -> np.ndarray:
    x = np.zeros(matrix.shape)
    for row in range(matrix.shape[0]):
        part = slice(matrix.starts[row], matrix.starts[row + 1])
        x[row, matrix.columns[part]] = matrix.values[part]
    return x


def test_tf_idf_by_hand() -> None:
    matrix = as_dense(lsa.tf_idf(np.array([0, 1, 0, END, 0, 2, END], np.int32), 3))
    rare = 1 + np.log(3 / 2)
    first = np.array([1 + np.log(2), rare, 0])
    second = np.array([1, 0, rare])
    expected = np.stack([first / np.linalg.norm(first), second / np.linalg.norm(second)], axis=1)
    np.testing.assert_allclose(matrix, expected, rtol=1e-6)


def test_ppmi_is_what_the_formula_says(tmp_path: Path) -> None:
    ids = text(8)
    matrix = as_dense(lsa.positive_pmi(cooccurrence.count_cooccurrences(ids, 30, 5, tmp_path), 30))
    x = by_brute_force(ids, 30, 5)
    smoothed = x.sum(axis=0) ** 0.75 / (x.sum(axis=0) ** 0.75).sum()
    with np.errstate(divide="ignore"):
        expected = np.log(x / x.sum() / (x.sum(axis=1, keepdims=True) / x.sum() * smoothed))
    np.testing.assert_allclose(matrix, expected.clip(min=0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_decomposition_is_that_of_a_full_one(threads: int) -> None:
    rng = np.random.default_rng(9)
    low_rank = rng.standard_normal((80, 20)) * 0.8 ** np.arange(20) @ rng.standard_normal((20, 120))
    x = np.where(rng.random((80, 120)) < 0.4, low_rank, 0)
    rows, columns = np.nonzero(x)
    shuffled = rng.permutation(len(rows))
    rows, columns = rows[shuffled], columns[shuffled]
    matrix = lsa.SparseMatrix.from_entries(rows, columns, x[rows, columns], x.shape)
    np.testing.assert_allclose(as_dense(matrix), x, rtol=1e-6)
    np.testing.assert_allclose(as_dense(matrix.transpose()), x.T, rtol=1e-6)

    left, values = lsa.truncated_svd(matrix, 5, seed=0, threads=threads)
    full, all_values, _ = np.linalg.svd(x)
    np.testing.assert_allclose(values, all_values[:5], rtol=1e-4)
    angles = np.linalg.svd(left.T @ full[:, :5])[1]
    np.testing.assert_allclose(angles, 1, atol=1e-3)
    assert (np.take_along_axis(left, np.abs(left).argmax(axis=0)[None], axis=0) > 0).all()


@pytest.mark.parametrize("weighting", ["tfidf", "ppmi"])
def test_lsa_finds_topics_again_and_again(tmp_path: Path, weighting: Any) -> None:
    ids, _ = topics()
    config = settings(tmp_path, EmbedMethod.lsa, weighting=weighting, dim=4)
    vectors = lsa.train_lsa(ids, 20, config, threads=2)
    assert vectors.shape == (20, 4)
    assert vectors.dtype == np.float32
    assert separation(vectors) > 0.2
    np.testing.assert_array_equal(vectors, lsa.train_lsa(ids, 20, config, threads=2))
    with pytest.raises(DlkitError, match="--dim 21"):
        lsa.train_lsa(ids, 20, replace(config, dim=21), threads=1)


def test_a_matrix_of_low_rank_gives_zeros(tmp_path: Path) -> None:
    ids = np.tile(np.array([0, 1, 2, END], np.int32), 5)
    vectors = lsa.train_lsa(ids, 3, settings(tmp_path, EmbedMethod.lsa, dim=2), threads=1)
    assert np.isfinite(vectors).all()
    np.testing.assert_allclose(vectors[:, 1], 0, atol=1e-5)


def rows_of_even_and_odd() -> tuple[np.ndarray, np.ndarray]:
    """Rows of 20 words: each its own, and one that even or odd words share."""
    words = np.arange(20)
    return np.stack([words, 20 + words % 2], axis=1).flatten(), np.arange(0, 41, 2)


def one_group(config: ResolvedConfig) -> cuda.GroupBatch:
    ids, counts = topics(sentences=20)
    until = torch.from_numpy(np.cumsum(counts) / counts.sum()).float()
    generator = torch.Generator().manual_seed(0)
    drawn = cuda.make_batches(torch.from_numpy(ids), torch.ones(20), until, config, generator)
    return next(drawn)[0]


@pytest.mark.parametrize("method", [EmbedMethod.skipgram, EmbedMethod.cbow])
@pytest.mark.parametrize("subwords", [False, True])
def test_a_step_on_the_device_follows_autograd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: EmbedMethod, subwords: bool
) -> None:
    """At a rate so small that no curvature matters; each row of a mean takes all of its change."""
    monkeypatch.setattr(cuda, "NEGATIVES", 8)
    config = settings(tmp_path, method, window=3, negative=5)
    group = one_group(config)
    group.pairs, group.counts = group.pairs.double(), group.counts.double()
    rows, starts = rows_of_even_and_odd() if subwords else (None, None)
    torch.manual_seed(0)
    inputs = torch.randn(22 if subwords else 20, 6, dtype=torch.double)
    outputs = torch.randn(20, 6, dtype=torch.double)
    table = cuda.RowTable(inputs.clone(), rows, starts)
    targets = cuda.RowTable(outputs.clone(), None, None)
    rate = 1e-9
    step = cuda.cbow_step if method is EmbedMethod.cbow else cuda.skipgram_step
    total, pairs = step(group, table, targets, rate)

    vectors = inputs if rows is None else inputs[rows.reshape(20, 2)].mean(dim=1)
    np.testing.assert_allclose(
        cuda.RowTable(inputs, rows, starts).vectors(torch.arange(20)), vectors
    )
    vectors = vectors.clone().requires_grad_()
    outputs.requires_grad_()
    expected = torch.zeros(())
    number = 0
    for around, centers, mask, negatives in zip(
        group.context, group.centers, group.pairs, group.negatives, strict=True
    ):
        for center, near in zip(centers, mask, strict=True):
            words = around[near > 0]
            if not len(words):
                continue
            given = vectors[words]
            if method is EmbedMethod.cbow:
                mean = loss.mean_of_rows(given[None], torch.ones(1, len(words)))
                given = mean.detach() + (given - given.detach()).sum(dim=0)  # a sum's gradient
            number += len(given)
            positive = outputs[center].expand(len(given), -1)
            for negative in negatives:
                share = float(negative != center) * config.negative / cuda.NEGATIVES
                wrong = outputs[negative].expand(len(given), 1, -1)
                with_negative = loss.negative_sampling(given, positive, wrong)
                without = loss.negative_sampling(given, positive, wrong[:, :0])
                expected = expected + share * (with_negative - without)
            expected = expected + loss.negative_sampling(given, positive, wrong[:, :0])
    expected.backward()
    assert pairs == number
    assert total.item() == pytest.approx(expected.item(), rel=1e-4)
    assert vectors.grad is not None
    assert outputs.grad is not None
    changes = vectors.grad
    if rows is not None:
        of_rows = changes.repeat_interleave(2, dim=0)
        changes = torch.zeros_like(inputs).index_add_(0, torch.from_numpy(rows), of_rows)
    for before, after, gradient in [
        (inputs, table.weights, changes),
        (outputs.detach(), targets.weights, outputs.grad),
    ]:
        torch.testing.assert_close((before - after) / rate, gradient, rtol=1e-4, atol=1e-4)


def test_frequent_rows_do_not_overshoot() -> None:
    """A thousand times the gradient of -log s(x): a plain step would go 500 too far."""
    weights = torch.zeros(2, 1)
    gradients, curvatures = torch.full((1000, 1), 0.5), torch.full((1000,), 0.25)
    update = cuda.RowUpdate(torch.zeros(1000, dtype=torch.long), gradients, curvatures)
    cuda.RowTable(weights, None, None).apply(update, rate=1.0)
    assert 0 < weights[0, 0] < 2
    assert weights[1, 0] == 0


def test_windows_stay_in_their_sentence(tmp_path: Path) -> None:
    config = settings(tmp_path, EmbedMethod.skipgram, window=4)
    ids = torch.from_numpy(np.where(text(3) == END, END, np.arange(len(text(3)), dtype=np.int32)))
    keep, until = torch.ones(len(ids)), torch.linspace(0, 1, len(ids))
    sentence = (ids < 0).cumsum(0)
    reaches = set()
    for group, _ in cuda.make_batches(ids, keep, until, config, torch.Generator().manual_seed(0)):
        b, g, c = torch.nonzero(group.pairs, as_tuple=True)
        center, other = group.centers[b, g], group.context[b, c]
        distance = (center - other).abs()
        assert (distance > 0).all()
        assert (distance <= 4).all()
        assert (sentence[center] == sentence[other]).all()
        reaches |= set(distance.tolist())
    assert reaches == {1, 2, 3, 4}


def test_the_share_of_frequent_words_is_that_of_word2vec() -> None:
    keep = sampling.keep_probabilities(np.array([900, 99, 1]), sample=1e-2)
    frequent = np.array([0.9, 0.099]) / 1e-2
    np.testing.assert_allclose(keep[:2], np.sqrt(1 / frequent) + 1 / frequent, rtol=1e-6)
    assert keep[2] == 1
    assert (sampling.keep_probabilities(np.array([900, 99, 1]), sample=0) == 1).all()


@pytest.mark.parametrize("method", [EmbedMethod.skipgram, EmbedMethod.cbow, EmbedMethod.fasttext])
def test_batches_find_topics_and_lose_less(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: EmbedMethod
) -> None:
    """A batch of the whole text: each word has hundreds of gradients in it."""
    monkeypatch.setattr(cuda, "BLOCK", 2600)
    ids, counts = topics()
    config = settings(tmp_path, method, dim=8, epochs=15, sample=0, lr=0.2)
    rows, starts = (None, None)
    if method is EmbedMethod.fasttext:
        rows, starts = np.arange(40).reshape(2, 20).T.flatten(), np.arange(0, 41, 2)

    def run(state: cuda.TorchState) -> tuple[np.ndarray, list[float]]:
        losses: list[float] = []
        vectors = cuda.train_batches(
            ids, counts, config, state, lambda state: losses.append(state.loss), rows, starts
        )
        return vectors, losses

    def start() -> cuda.TorchState:
        return cuda.TorchState.start(20 if rows is None else 40, 20, 8, 0, "cpu")

    vectors, losses = run(start())
    assert len(losses) == 30
    assert losses[-1] < losses[0] - 0.1
    assert separation(vectors) > 0.5
    np.testing.assert_array_equal(vectors, run(start())[0])


def test_batches_go_on_where_they_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "BLOCK", 2600)
    ids, counts = topics()
    config = settings(tmp_path, EmbedMethod.skipgram, dim=8, epochs=3)
    kept: list[cuda.TorchState] = []

    def keep(state: cuda.TorchState) -> None:
        if state.epoch == 1 and not kept:
            kept.append(replace(state, inputs=state.inputs.clone(), outputs=state.outputs.clone()))

    whole = cuda.train_batches(
        ids, counts, config, cuda.TorchState.start(20, 20, 8, 0, "cpu"), keep
    )
    assert kept[0].done == 2600
    again = cuda.train_batches(ids, counts, config, kept[0], lambda _: None)
    np.testing.assert_array_equal(whole, again)


def test_hierarchical_softmax_is_not_for_batches(tmp_path: Path) -> None:
    ids, counts = topics()
    state = cuda.TorchState.start(20, 20, 8, 0, "cpu")
    config = settings(tmp_path, EmbedMethod.skipgram, hs=True)
    with pytest.raises(DlkitError, match="--device cpu"):
        cuda.train_batches(ids, counts, config, state, lambda _: None)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("method", [EmbedMethod.skipgram, EmbedMethod.cbow])
def test_batches_learn_the_same_on_a_gpu(tmp_path: Path, method: EmbedMethod) -> None:
    ids, counts = topics()
    config = settings(tmp_path, method, dim=8, epochs=40, sample=0, lr=0.2)
    state = cuda.TorchState.start(20, 20, 8, 0, "cuda")
    assert separation(cuda.train_batches(ids, counts, config, state, lambda _: None)) > 0.5
