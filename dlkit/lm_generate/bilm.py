"""Bidirectional language models as ELMo: each token is predicted from left and from right.

Shapes: B texts, T tokens, N ids of a text, V tokens in the vocabulary.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from dlkit.core.errors import DlkitError
from dlkit.core.parallel.distributed import Process
from dlkit.lm_generate.models.bilm import BidirectionalLSTM
from dlkit.lm_generate.neural import NeuralLM, Objective, cross_entropy
from dlkit.lm_generate.perplexity import vocab_size, windows
from dlkit.lm_generate.scoring import target_logprobs
from dlkit.lm_generate.text_codec import TextCodec


def bidirectional_loss(network: Any, ids: Tensor, targets: Tensor, state: Any) -> Tensor:
    """Mean cross-entropy of the tokens after ids, read forwards, and before them, read backwards.

    As ELMo (Peters et al. 2018), but the mean of the two and not their sum.
    """
    forwards, backwards = network(ids)
    before = cross_entropy(backwards[:, 1:], ids[:, :-1])
    return (cross_entropy(forwards, targets) + before) / 2


class BiLM(NeuralLM):
    """A bidirectional model: its scores are the mean of both directions."""

    network: BidirectionalLSTM

    verbs: ClassVar[frozenset[str]] = frozenset({"score", "features"})
    predicts_line_ends: ClassVar[bool] = False

    @property
    def sliding_context(self) -> int | None:
        return self.context

    @torch.inference_mode()
    def token_logprobs(self, texts: Sequence[list[int]]) -> list[list[float]]:
        """The mean of each token's log-probabilities from left and right.

        Without a token that begins texts, the first token is predicted from the right only, and the
        last one from the left.
        """
        frame = self.start_ids
        found: list[list[float]] = []
        for ids in texts:
            whole = torch.tensor([[*frame, *ids, *frame]], dtype=torch.long)
            if whole.shape[1] < 2:
                found.append([])
                continue
            whole = whole.to(self.device)
            right, left = self.network(whole)
            sums = torch.zeros(whole.shape[1], device=whole.device)
            directions = torch.zeros_like(sums)
            sums[1:] += target_logprobs(right[:, :-1], whole[:, 1:])[0]
            directions[1:] += 1
            sums[:-1] += target_logprobs(left[:, 1:], whole[:, :-1])[0]
            directions[:-1] += 1
            found.append((sums / directions)[len(frame) : len(frame) + len(ids)].tolist())
        return found

    @torch.inference_mode()
    def losses(self, ids: np.ndarray, stride: int | None) -> np.ndarray:
        stride = stride or max(self.network.context // 2, 1)
        return bidirectional_losses(self.network, ids, stride, self.process)

    def describe_losses(self, stride: int | None) -> str:
        return "each predicted from the left and from the right: the mean of the two"

    @torch.inference_mode()
    def features(self, ids: list[int], layer: int | None) -> list[list[float]]:
        layers = self.network.features(torch.tensor([ids], device=self.device))
        if not 0 <= (len(layers) - 1 if layer is None else layer) < len(layers):
            raise DlkitError(
                f"--layer {layer}: {self.name} has none; choose from 0 to {len(layers) - 1}"
            )
        vectors: list[list[float]] = layers[-1 if layer is None else layer][0].float().tolist()
        return vectors

    @classmethod
    def objective(cls, codec: TextCodec, next_sentence: bool = False) -> Objective:
        return bidirectional_loss


def bidirectional_losses(
    network: BidirectionalLSTM, ids: np.ndarray, stride: int, process: Process
) -> np.ndarray:
    """Mean losses (N - 1) of each id from those before it and from those after it."""
    context = network.context

    def backwards(reversed_ids: Tensor) -> Tensor:
        logits: Tensor = network(reversed_ids.flip(1))[1].flip(1)
        return logits

    size = vocab_size(network)
    left = windows(lambda cut: network(cut)[0], ids, context, stride, size, process)
    right = windows(backwards, ids[::-1], context, stride, size, process)
    return np.asarray((left + right) / 2)
