"""GloVe: gradient steps, training, resuming."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from dlkit.core.errors import DlkitError
from dlkit.embed import cooccurrence, glove, loss
from dlkit.embed.config import EmbedMethod, ResolvedConfig
from tests.embed.helpers import END, settings, topic_sentences, topic_separation


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


def prepare_pairs(
    ids: np.ndarray, num_words: int, config: ResolvedConfig, threads: int, resuming: bool
) -> np.ndarray:
    glove.count_corpus(ids, num_words, config, threads, resuming)
    return glove.load_pairs(num_words, config)


def run_glove(config: ResolvedConfig, threads: int = 1) -> tuple[np.ndarray, list[float]]:
    ids, _ = topic_sentences()
    pairs = prepare_pairs(ids, 20, config, threads, resuming=False)
    state = glove.GloveState.start(20, config.dim, config.seed)
    costs = []
    vectors = glove.train_glove(
        pairs, state, config, threads, lambda state: costs.append(state.cost / len(pairs))
    )
    return vectors, costs


def test_glove_costs_less_in_each_epoch_and_finds_topics(tmp_path: Path) -> None:
    config = settings(tmp_path, EmbedMethod.glove, dim=8, epochs=20)
    vectors, costs = run_glove(config)
    assert len(costs) == 20
    assert all(later < earlier for earlier, later in pairwise(costs))
    assert vectors.shape == (20, 8)
    assert topic_separation(vectors) > 0.5
    assert [path.name for path in tmp_path.iterdir()] == ["pairs.bin"]
    again, _ = run_glove(config)
    np.testing.assert_array_equal(vectors, again)
    shared, costs = run_glove(config, threads=2)
    assert costs[-1] < costs[0] / 2
    assert topic_separation(shared) > 0.5


def test_glove_resumes_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glove, "STEP", 50)
    config = settings(tmp_path, EmbedMethod.glove, dim=8, epochs=3)
    whole, _ = run_glove(config)
    ids, _ = topic_sentences()
    pairs = prepare_pairs(ids, 20, config, 1, resuming=False)
    assert len(pairs) > 2 * glove.STEP
    state = glove.GloveState.start(20, 8, config.seed)
    kept: list[glove.GloveState] = []

    def stop(state: glove.GloveState) -> None:
        if state.epoch == 1 and not kept:
            kept.append(replace(state, vectors=state.vectors.copy(), biases=state.biases.copy()))

    glove.train_glove(pairs, state, config, 1, stop)
    assert 0 < kept[0].done < len(pairs)
    pairs = prepare_pairs(ids[:0], 20, config, 1, resuming=True)  # not counted again
    again = glove.train_glove(pairs, kept[0], config, 1, lambda _: None)
    np.testing.assert_array_equal(whole, again)


def test_a_corpus_without_pairs_is_an_error(tmp_path: Path) -> None:
    ids = np.array([0, END, 1, END], np.int32)
    config = settings(tmp_path, EmbedMethod.glove)
    with pytest.raises(DlkitError, match="no line of the corpus holds two words"):
        prepare_pairs(ids, 2, config, 1, resuming=False)
