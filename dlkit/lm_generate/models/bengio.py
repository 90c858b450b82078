"""The neural probabilistic language model of Bengio et al. 2003.

Shapes: B texts, T tokens, V vocabulary, W numbers that describe a token, C tokens looked back on,
H hidden units.
"""

from typing import Any

import torch
from torch import Tensor, nn

from dlkit.core.nn.layers import Dropout
from dlkit.lm_generate.model import DecoderState, LanguageModel


class Latest(DecoderState):
    """The last tokens (B, C) of each text."""

    def __init__(self, ids: Tensor) -> None:
        self.ids = ids

    def select(self, rows: Tensor) -> "Latest":
        return Latest(self.ids[rows])

    def detach(self) -> None:
        """Ids have no gradient."""

    def state_dict(self) -> dict[str, Any]:
        return {"ids": self.ids}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.ids = state["ids"]


class Bengio(LanguageModel):
    """logits = b + U tanh(d + H x) [+ W x]; x are the last `context` tokens' vectors in a row.

    Where a text has fewer, a vector of its own stands for what is missing. A state goes on
    without end.
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
        """`direct` adds the connections W from the words to the output."""
        super().__init__()
        self.looks_back = context
        self.embedding = nn.Embedding(vocab_size, width)
        self.before = nn.Parameter(torch.zeros(width))  # in place of tokens before the text
        self.hidden = nn.Linear(context * width, hidden)
        self.head = nn.Linear(hidden, vocab_size)
        self.direct = nn.Linear(context * width, vocab_size, bias=False) if direct else None
        self.dropout = Dropout(dropout)

    def start(self, batch: int, capacity: int) -> Latest:
        nothing = torch.full((batch, self.looks_back), -1, device=self.before.device)
        return Latest(nothing)

    def forward(
        self, ids: Tensor, state: DecoderState | None = None, lengths: Tensor | None = None
    ) -> Tensor:
        tokens = ids.shape[1]
        if state is None:
            state = self.start(len(ids), tokens)
        assert isinstance(state, Latest)
        seen = torch.cat([state.ids, ids], dim=1)  # (B, C + T)
        if lengths is None:
            state.ids = seen[:, tokens:]
        else:
            latest = lengths[:, None] + torch.arange(self.looks_back, device=ids.device)
            state.ids = seen.gather(1, latest)
        there = (seen >= 0)[..., None]
        vectors = torch.where(there, self.embedding(seen.clamp(min=0)), self.before)
        # The vectors of tokens t - C + 1 to t, for each t.
        x = vectors.unfold(1, self.looks_back, 1)[:, 1:].transpose(2, 3).flatten(2)
        x = self.dropout(x)
        logits: Tensor = self.head(self.dropout(torch.tanh(self.hidden(x))))
        if self.direct is not None:
            logits = logits + self.direct(x)
        return logits.float()
