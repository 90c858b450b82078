"""The choice of tokens."""

from typing import Any

import numpy as np
import pytest
import torch

from dlkit.core.errors import DlkitError
from dlkit.core.generation import sampling, tensor_sampling
from dlkit.core.generation.sampling import Sampling

LOGITS = np.random.default_rng(0).normal(size=(3, 50)) * 2


CHOICES = [
    Sampling(),
    Sampling(temperature=0.5),
    Sampling(top_k=5),
    Sampling(top_p=0.7),
    Sampling(min_p=0.1),
    Sampling(temperature=1.7, top_k=20, top_p=0.9, min_p=0.02),
]


def expected_distribution(logits: np.ndarray, chosen: Sampling) -> np.ndarray:
    """The distribution that is drawn from, by the definitions, token by token."""
    p = np.exp(logits / chosen.temperature)
    p /= p.sum()
    order = sorted(range(len(p)), key=lambda i: -p[i])
    kept = order[: chosen.top_k or len(p)]
    of_kept = sum(p[i] for i in kept)
    nucleus, mass = [], 0.0
    for i in kept:
        nucleus.append(i)
        mass += p[i] / of_kept
        if mass >= chosen.top_p:
            break
    final = [i for i in nucleus if p[i] >= chosen.min_p * p[order[0]]]
    result = np.zeros(len(p))
    result[final] = p[final]
    return result / result.sum()


@pytest.mark.parametrize("chosen", CHOICES, ids=str)
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_frequencies_follow_the_distribution(chosen: Sampling, library: str) -> None:
    draws = 20_000
    uniforms = np.random.default_rng(1).random(draws, dtype=np.float32).astype(float)
    for logits in LOGITS:
        if library == "numpy":
            tokens = sampling.choose(np.tile(logits, (draws, 1)), chosen, uniforms)
        else:
            many = torch.from_numpy(np.tile(logits.astype(np.float32), (draws, 1)))
            tokens = tensor_sampling.choose(many, chosen, torch.from_numpy(uniforms)).numpy()
        p = expected_distribution(logits, chosen)
        counts = np.bincount(tokens, minlength=len(p))
        assert not counts[p == 0].any()
        often = p * draws > 5
        chi_square = float((((counts - p * draws) ** 2)[often] / (p * draws)[often]).sum())
        freedom = max(int(often.sum()) - 1, 1)
        # Wilson and Hilferty: chi-square's cube root is nearly normal; 4 deviations.
        limit = freedom * (1 - 2 / (9 * freedom) + 4 * (2 / (9 * freedom)) ** 0.5) ** 3
        assert chi_square < limit


@pytest.mark.parametrize("chosen", CHOICES, ids=str)
def test_torch_and_numpy_choose_alike(chosen: Sampling) -> None:
    rng = np.random.default_rng(2)
    logits = rng.normal(size=(200, 400)).astype(np.float32) * 3
    uniforms = rng.random(200, dtype=np.float32).astype(float)
    ours = tensor_sampling.choose(torch.from_numpy(logits), chosen, torch.from_numpy(uniforms))
    assert (ours.numpy() == sampling.choose(logits, chosen, uniforms)).mean() > 0.99


def test_top_p_of_a_flat_distribution_keeps_more_than_it_first_ranks() -> None:
    flat = torch.zeros(1, 4 * sampling.FEW)
    flat[0, : 2 * sampling.FEW] = 1.0
    lowest = tensor_sampling.floor(flat, Sampling(top_p=0.9))
    assert lowest.item() == 0.0
    assert tensor_sampling.floor(flat, Sampling(top_p=0.7)).item() == 1.0
    assert sampling.floor(flat.numpy(), Sampling(top_p=0.9)).item() == 0.0


def test_greedy_takes_the_most_probable() -> None:
    greedy = Sampling(greedy=True)
    assert (sampling.choose(LOGITS, greedy, np.zeros(3)) == LOGITS.argmax(-1)).all()
    ours = tensor_sampling.choose(torch.from_numpy(LOGITS), greedy, torch.zeros(3))
    assert (ours.numpy() == LOGITS.argmax(-1)).all()


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"temperature": 0}, "--greedy"),
        ({"temperature": -1.0}, "--temperature -1"),
        ({"temperature": float("nan")}, "--temperature nan"),
        ({"top_k": -1}, "--top-k"),
        ({"top_p": 0.0}, "--top-p"),
        ({"top_p": 1.1}, "--top-p"),
        ({"min_p": -0.1}, "--min-p"),
        ({"repetition_penalty": 0.0}, "--repetition-penalty"),
    ],
)
def test_invalid_sampling_settings_are_refused(settings: dict[str, Any], word: str) -> None:
    with pytest.raises(DlkitError, match=word):
        Sampling(**settings)
