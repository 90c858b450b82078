"""The neural probabilistic language model of Bengio et al. 2003.

Shapes: B texts, T tokens, V vocabulary, W model dimension, C tokens of context, H hidden units.
"""

from typing import Any

import torch
from torch import Tensor, nn

from dlkit.core.nn.layers import Dropout
from dlkit.lm_generate.models.language_model import DecoderState, NextTokenNetwork

STREAM_STEP = 64  # tokens of a stream that one training step predicts


class LastTokens(DecoderState):
    """The last tokens (B, C) of each text; -1 where a text has fewer."""

    def __init__(self, ids: Tensor) -> None:
        self.ids = ids

    def select(self, rows: Tensor) -> "LastTokens":
        return LastTokens(self.ids[rows])

    def detach(self) -> None:
        """Ids have no gradient."""

    def state_dict(self) -> dict[str, Any]:
        return {"ids": self.ids}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.ids = state["ids"]


class Bengio(NextTokenNetwork):
    """logits = b + U tanh(d + H x) [+ W x]; x is the vectors of the last `context` tokens.

    Where a text has fewer, a learned padding vector takes their place.
    """

    def __init__(
        self,
        vocab_size: int,
        context: int = 4,
        width: int = 128,
        hidden: int = 256,
        dropout: float = 0.0,
        direct: bool = False,
    ) -> None:
        """`direct` adds the connections W from the embeddings to the output."""
        super().__init__()
        self.order = context
        self.embedding = nn.Embedding(vocab_size, width)
        self.before = nn.Parameter(torch.zeros(width))  # the padding before a text
        self.hidden = nn.Linear(context * width, hidden)
        self.head = nn.Linear(hidden, vocab_size)
        self.direct = nn.Linear(context * width, vocab_size, bias=False) if direct else None
        self.dropout = Dropout(dropout)

    def stream_step(self, context: int) -> int:
        return STREAM_STEP

    def start(self, batch: int, capacity: int) -> LastTokens:
        padding = torch.full((batch, self.order), -1, device=self.before.device)
        return LastTokens(padding)

    def forward(
        self, ids: Tensor, state: DecoderState | None = None, lengths: Tensor | None = None
    ) -> Tensor:
        tokens = ids.shape[1]
        if state is None:
            state = self.start(len(ids), tokens)
        assert isinstance(state, LastTokens)
        seen = torch.cat([state.ids, ids], dim=1)  # (B, C + T)
        if lengths is None:
            state.ids = seen[:, tokens:]
        else:
            latest = lengths[:, None] + torch.arange(self.order, device=ids.device)
            state.ids = seen.gather(1, latest)
        present = (seen >= 0)[..., None]
        vectors = torch.where(present, self.embedding(seen.clamp(min=0)), self.before)
        # The vectors of tokens t - C + 1 to t, for each t.
        x = vectors.unfold(1, self.order, 1)[:, 1:].transpose(2, 3).flatten(2)
        x = self.dropout(x)
        logits: Tensor = self.head(self.dropout(torch.tanh(self.hidden(x))))
        if self.direct is not None:
            logits = logits + self.direct(x)
        return logits.float()
