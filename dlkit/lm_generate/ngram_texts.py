"""n-gram models in use: texts that grow together. Loads no torch.

Shapes: B texts, V tokens of the vocabulary.
"""

from collections.abc import Collection, Sequence

import numpy as np

from dlkit.core.generation.sampling import Sampling, choose, penalized
from dlkit.lm_generate.ngram import NGram


class NGramTexts:
    """Texts that an n-gram model continues; see generate.Texts."""

    slid = False

    def __init__(
        self, model: NGram, prompts: Sequence[Sequence[int]], banned: Collection[int]
    ) -> None:
        self.model = model
        self.banned = sorted(banned)
        self.ids = [list(prompt) for prompt in prompts]

    def logprobs(self) -> np.ndarray:
        """Log-probabilities (B, V) of the next token of each text."""
        return np.stack([self.model.log_probs(ids) for ids in self.ids])

    def without_banned(self, logprobs: np.ndarray) -> np.ndarray:
        """The log-probabilities of what may be written.

        Where nothing of that can follow, for want of smoothing, a text goes on as without context.
        """
        allowed = logprobs.copy()
        allowed[:, self.banned] = -np.inf
        stuck = np.isneginf(allowed).all(-1)
        if stuck.any():
            allowed[stuck] = self.model.unigrams
            allowed[:, self.banned] = -np.inf
        return allowed

    def choose(
        self, sampling: Sampling, uniforms: Sequence[float]
    ) -> tuple[list[int], list[float]]:
        logprobs = self.logprobs()
        allowed = self.without_banned(logprobs)
        if sampling.repetition_penalty != 1:
            seen = np.zeros(allowed.shape, bool)
            for row, ids in enumerate(self.ids):
                seen[row, ids] = True
            allowed = penalized(allowed, seen, sampling.repetition_penalty)
        tokens = choose(allowed, sampling, np.asarray(uniforms))
        return tokens.tolist(), logprobs[np.arange(len(tokens)), tokens].tolist()

    def best(self, count: int) -> tuple[list[list[int]], list[list[float]]]:
        logprobs = self.without_banned(self.logprobs())
        tokens = np.argsort(-logprobs, axis=-1, kind="stable")[:, :count]
        return tokens.tolist(), np.take_along_axis(logprobs, tokens, -1).tolist()

    def append(self, tokens: Sequence[int]) -> None:
        for ids, token in zip(self.ids, tokens, strict=True):
            ids.append(token)

    def select(self, rows: Sequence[int]) -> None:
        self.ids = [list(self.ids[row]) for row in rows]
