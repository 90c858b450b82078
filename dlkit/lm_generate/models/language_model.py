"""Base class of the networks that predict the next token, and of their decoder states.

Shapes: B texts, T tokens of each, V tokens in the vocabulary.
"""

from typing import Any

import torch
from torch import Tensor, nn


class DecoderState:
    """The past of the texts of a batch: a cache, or the state of recurrent layers."""

    def select(self, rows: Tensor) -> "DecoderState":
        """Return the state of these rows (N), which may repeat, be fewer, or change places."""
        raise NotImplementedError

    def detach(self) -> None:
        """Keep the values and drop their graph: no gradient flows further back."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """Return the values, to be saved with a run."""
        raise NotImplementedError

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load saved values."""
        raise NotImplementedError


class NextTokenNetwork(nn.Module):
    """A network that predicts the next token of each text.

    `context` is the number of tokens that a state can hold, new ones included; None: a state has
    no limit, and the network is trained on streams of text instead of windows.
    """

    context: int | None = None
    embedding: nn.Embedding

    def start(self, batch: int, capacity: int) -> DecoderState:
        """Return the empty state of `batch` texts that will have at most `capacity` tokens."""
        raise NotImplementedError

    def forward(self, ids: Tensor, state: Any = None, lengths: Tensor | None = None) -> Tensor:
        """Logits (B, T, V) in fp32 from ids (B, T): those at t are of the token after t.

        With a state, the ids continue each row's text, and the state advances in place by lengths
        (B) tokens, by default T; tokens beyond a row's length have no effect. Without one, each row
        is a text from its start.
        """
        raise NotImplementedError

    def next_logits(self, ids: Tensor, state: Any, lengths: Tensor | None = None) -> Tensor:
        """Logits (B, V) of the next token of each row; otherwise as `forward`."""
        logits = self(ids, state, lengths)
        if lengths is None:
            last: Tensor = logits[:, -1]
        else:
            last = logits[torch.arange(len(ids), device=ids.device), lengths - 1]
        return last

    def stream_step(self, context: int) -> int:
        """Tokens of a stream that one training step reads: those that gradients flow through."""
        return context
