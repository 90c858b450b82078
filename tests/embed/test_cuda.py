"""Training in large batches, the engine for CUDA devices, here on the CPU."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dlkit.core.errors import DlkitError
from dlkit.embed import cuda, loss
from dlkit.embed.config import EmbedMethod, ResolvedConfig
from tests.embed.helpers import (
    END,
    random_sentences,
    settings,
    topic_sentences,
    topic_separation,
)


def even_and_odd_rows() -> tuple[np.ndarray, np.ndarray]:
    """Rows of 20 words: each its own, and one that even or odd words share."""
    words = np.arange(20)
    return np.stack([words, 20 + words % 2], axis=1).flatten(), np.arange(0, 41, 2)


def one_batch(config: ResolvedConfig) -> cuda.GroupBatch:
    ids, counts = topic_sentences(sentences=20)
    until = torch.from_numpy(np.cumsum(counts) / counts.sum()).float()
    generator = torch.Generator().manual_seed(0)
    drawn = cuda.make_batches(torch.from_numpy(ids), torch.ones(20), until, config, generator)
    return next(drawn)[0]


@pytest.mark.slow
@pytest.mark.parametrize("method", [EmbedMethod.skipgram, EmbedMethod.cbow])
@pytest.mark.parametrize("subwords", [False, True])
def test_a_step_on_the_device_follows_autograd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: EmbedMethod, subwords: bool
) -> None:
    """At a rate so small that no curvature matters; each row of a mean takes all of its change."""
    monkeypatch.setattr(cuda, "NEGATIVES", 8)
    config = settings(tmp_path, method, window=3, negative=5)
    group = one_batch(config)
    group.pairs, group.counts = group.pairs.double(), group.counts.double()
    rows, starts = even_and_odd_rows() if subwords else (None, None)
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
    ids = torch.from_numpy(
        np.where(
            random_sentences(3) == END, END, np.arange(len(random_sentences(3)), dtype=np.int32)
        )
    )
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


@pytest.mark.parametrize("method", [EmbedMethod.skipgram, EmbedMethod.cbow, EmbedMethod.fasttext])
def test_batches_find_topics_and_reduce_the_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: EmbedMethod
) -> None:
    """A batch of the whole text: each word has hundreds of gradients in it."""
    monkeypatch.setattr(cuda, "BLOCK", 2600)
    ids, counts = topic_sentences()
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
    assert topic_separation(vectors) > 0.5
    np.testing.assert_array_equal(vectors, run(start())[0])


def test_batches_resume_where_they_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "BLOCK", 2600)
    ids, counts = topic_sentences()
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
    ids, counts = topic_sentences()
    state = cuda.TorchState.start(20, 20, 8, 0, "cpu")
    config = settings(tmp_path, EmbedMethod.skipgram, hs=True)
    with pytest.raises(DlkitError, match="--device cpu"):
        cuda.train_batches(ids, counts, config, state, lambda _: None)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("method", [EmbedMethod.skipgram, EmbedMethod.cbow])
def test_batches_learn_the_same_on_a_gpu(tmp_path: Path, method: EmbedMethod) -> None:
    ids, counts = topic_sentences()
    config = settings(tmp_path, method, dim=8, epochs=40, sample=0, lr=0.2)
    state = cuda.TorchState.start(20, 20, 8, 0, "cuda")
    assert topic_separation(cuda.train_batches(ids, counts, config, state, lambda _: None)) > 0.5


def test_inputs_can_start_from_given_vectors() -> None:
    state = cuda.TorchState.start(5, 3, 4, 0, "cpu")
    before = state.inputs.clone()
    state.set_inputs(np.array([1, 4]), np.ones((2, 4), np.float32))
    assert state.inputs[[1, 4]].eq(1).all()
    assert state.inputs[[0, 2, 3]].equal(before[[0, 2, 3]])
