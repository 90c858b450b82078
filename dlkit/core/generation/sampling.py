"""Sampling of the next token, in NumPy; tensor_sampling.py has the same in torch.

Every filter is a floor: tokens with a lower logit are excluded. So the choice depends on the
distribution alone, not on the order in which equal logits are sorted.

Shapes: B texts, V tokens.
"""

import math
from dataclasses import dataclass

import numpy as np

from dlkit.core.errors import DlkitError

FEW = 256  # the most probable tokens, among which top-p nearly always ends: no need to sort all


@dataclass(frozen=True)
class Sampling:
    """Settings of sampling; with the defaults a token is drawn from the model's distribution.

    They take effect in this order.

    The repetition penalty is Keskar's (2019): positive logits of tokens in the text are divided by
    it, negative ones multiplied. top_k keeps the most probable tokens, top_p (Holtzman 2020) the
    fewest that together have this probability, min_p (Nguyen 2024) those at least this share as
    probable as the most probable one.
    """

    greedy: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        if not (self.temperature > 0 and math.isfinite(self.temperature)):
            raise DlkitError(
                f"--temperature {self.temperature:g} is not above 0: --greedy always takes the most"
                " probable token"
            )
        if self.top_k < 0:
            raise DlkitError(f"--top-k {self.top_k} is below 0 (0: all tokens)")
        if not 0 < self.top_p <= 1:
            raise DlkitError(f"--top-p {self.top_p:g} is not above 0 and at most 1")
        if not 0 <= self.min_p <= 1:
            raise DlkitError(f"--min-p {self.min_p:g} is not from 0 to 1")
        if not (self.repetition_penalty > 0 and math.isfinite(self.repetition_penalty)):
            raise DlkitError(
                f"--repetition-penalty {self.repetition_penalty:g} is not above 0 (1: none)"
            )


class Uniforms:
    """Uniform random numbers for one text, which depend on the seed and on the text's numbers."""

    def __init__(self, seed: int, prompt: int, sample: int) -> None:
        self.generator = np.random.default_rng([seed, prompt, sample])

    def next(self) -> float:
        """The next number, from 0 to below 1."""
        # A number of 24 bits: its product with a double is never rounded up to that double.
        return float(self.generator.random(dtype=np.float32))


def choose(logits: np.ndarray, sampling: Sampling, uniforms: np.ndarray) -> np.ndarray:
    """The next tokens (B) from logits (B, V), by one uniform number (B) from 0 to below 1 each."""
    tokens: np.ndarray
    if sampling.greedy:
        tokens = logits.argmax(-1)
        return tokens
    scaled = logits.astype(np.float64) / sampling.temperature
    highest = scaled.max(-1, keepdims=True)
    kept = np.where(scaled >= floor(scaled, sampling), np.exp(scaled - highest), 0)
    cumulated = kept.cumsum(-1)
    tokens = (cumulated <= uniforms[:, None] * cumulated[:, -1:]).sum(-1)
    return tokens


def floor(scaled: np.ndarray, sampling: Sampling) -> np.ndarray:
    """The lowest logit (B, 1) that top-k, top-p and min-p keep."""
    lowest = np.full((len(scaled), 1), -np.inf)
    among = scaled
    if 0 < sampling.top_k < scaled.shape[-1]:
        among = -np.partition(-scaled, sampling.top_k - 1)[:, : sampling.top_k]
        lowest = among.min(-1, keepdims=True)
    if sampling.top_p < 1:
        ranked = -np.sort(-among)
        mass = np.exp(ranked - ranked[:, :1]).cumsum(-1)
        place = (mass < sampling.top_p * mass[:, -1:]).sum(-1, keepdims=True)
        lowest = np.maximum(lowest, np.take_along_axis(ranked, place, -1))
    if sampling.min_p:
        lowest = np.maximum(lowest, scaled.max(-1, keepdims=True) + math.log(sampling.min_p))
    return lowest


def penalized(logits: np.ndarray, seen: np.ndarray, penalty: float) -> np.ndarray:
    """The logits (B, V) with the repetition penalty on the tokens `seen` (B, V) in the texts."""
    return np.where(seen, np.where(logits > 0, logits / penalty, logits * penalty), logits)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Log-probabilities (B, V)."""
    shifted: np.ndarray = logits - logits.max(-1, keepdims=True)
    logprobs: np.ndarray = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return logprobs
