"""What every generating language model offers, and the past it carries along.

Shapes: B texts, T tokens, V tokens in the vocabulary.
"""

from typing import Self

import torch
from torch import Tensor, nn


class State:
    """What a model keeps of the texts so far."""

    def select(self, rows: Tensor) -> Self:
        """The past of these rows; they may repeat (beams) or be fewer (finished texts leave)."""
        raise NotImplementedError

    def detach(self) -> None:
        """Let gradients go back no further than here."""
        raise NotImplementedError


class LanguageModel(nn.Module):
    """Scores the next token; `context` is how many tokens it looks back on (None: no limit)."""

    context: int | None

    def start(self, batch: int, capacity: int) -> State:
        """An empty past for `batch` texts of at most `capacity` tokens."""
        raise NotImplementedError

    def forward(
        self, ids: Tensor, state: State | None = None, lengths: Tensor | None = None
    ) -> Tensor:
        """Logits (B, T, V), fp32, of the tokens after each of ids (B, T).

        With a state the ids continue each row's text, and the state moves on in place by
        `lengths[b]` tokens of row b (all T by default); what is right of those does not matter.
        """
        raise NotImplementedError

    def next_logits(self, ids: Tensor, state: State, lengths: Tensor | None = None) -> Tensor:
        """Logits (B, V) after the last token of each row; the state moves on as in forward."""
        logits: Tensor = self(ids, state, lengths)
        if lengths is None:
            return logits[:, -1]
        return logits[torch.arange(len(ids), device=ids.device), lengths - 1]
