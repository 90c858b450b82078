"""Recurrent networks: Elman's and Jordan's, written out, and torch's GRU and LSTM.

Shapes: B texts, T tokens, V vocabulary, W numbers that describe a token and units of a layer,
L layers.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from dlkit.core.nn.layers import Dropout
from dlkit.lm_generate.model import DecoderState, LanguageModel

BEGIN_ANEW = 1 / 16  # of the texts of a step, where the start is learned


class Recurrence(DecoderState):
    """What the units say to themselves: tensors with a row for each text."""

    def __init__(self, *tensors: Tensor) -> None:
        self.tensors = list(tensors)  # each (L, B, W), or (L, B, V) of Jordan's network

    def select(self, rows: Tensor) -> "Recurrence":
        return Recurrence(*(tensor[:, rows] for tensor in self.tensors))

    def detach(self) -> None:
        self.tensors = [tensor.detach() for tensor in self.tensors]

    def state_dict(self) -> dict[str, Any]:
        return {"tensors": self.tensors}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.tensors = state["tensors"]


class Recurrent(LanguageModel):
    """Embedding, recurrent layers with dropout before, between and after them (Zaremba et al.
    2014), and an output layer that shares the embedding's matrix (Press and Wolf 2017).
    """

    states = 1  # tensors that a layer remembers

    def __init__(
        self,
        vocab_size: int,
        width: int = 128,
        layers: int = 1,
        dropout: float = 0.0,
        untied: bool = False,
        learn_start: bool = False,
    ) -> None:
        super().__init__()
        self.layers, self.width = layers, width
        self.embedding = nn.Embedding(vocab_size, width)
        self.dropout = Dropout(dropout)
        self.make_layers(dropout)
        self.head = nn.Linear(width, vocab_size, bias=False) if untied else None
        self.bias = nn.Parameter(torch.zeros(vocab_size))
        self.first: nn.Parameter | None = None
        if learn_start:
            self.first = nn.Parameter(torch.zeros(self.states, layers, self.memory()))
        nn.init.normal_(self.embedding.weight, std=1 / math.sqrt(width))

    def make_layers(self, dropout: float) -> None:
        raise NotImplementedError

    def memory(self) -> int:
        """Numbers that a layer remembers of a text, in each of its tensors."""
        return self.width

    def start(self, batch: int, capacity: int) -> Recurrence:
        if self.first is not None:
            return Recurrence(*(first[:, None].expand(-1, batch, -1) for first in self.first))
        zeros = self.bias.new_zeros(self.layers, batch, self.memory())
        return Recurrence(*[zeros] * self.states)

    def logits(self, hidden: Tensor) -> Tensor:
        """hidden (..., W) -> (..., V)."""
        weight = self.embedding.weight if self.head is None else self.head.weight
        return F.linear(self.dropout(hidden), weight, self.bias)

    def forward(
        self, ids: Tensor, state: DecoderState | None = None, lengths: Tensor | None = None
    ) -> Tensor:
        if state is None:
            state = self.start(len(ids), ids.shape[1])
        assert isinstance(state, Recurrence)
        if self.training and self.first is not None:
            self.begin_anew(state, self.first)
        x = self.dropout(self.embedding(ids))
        return self.read(x, state, lengths).float()

    def begin_anew(self, state: Recurrence, first: Tensor) -> None:
        """Start some texts again: else the start would hardly occur in training."""
        batch = state.tensors[0].shape[1]
        again = torch.rand(batch, 1, device=first.device) < BEGIN_ANEW
        state.tensors = [
            torch.where(again, start[:, None].to(tensor.dtype), tensor)
            for start, tensor in zip(first, state.tensors, strict=True)
        ]

    def read(self, x: Tensor, state: Recurrence, lengths: Tensor | None) -> Tensor:
        """Logits (B, T, V) from embedded tokens (B, T, W)."""
        raise NotImplementedError


class Gated(Recurrent):
    """GRU and LSTM, as torch computes them."""

    cell: Callable[..., nn.RNNBase]

    def make_layers(self, dropout: float) -> None:
        self.cells = type(self).cell(
            self.width,
            self.width,
            self.layers,
            batch_first=True,
            dropout=dropout if self.layers > 1 else 0.0,
        )

    def read(self, x: Tensor, state: Recurrence, lengths: Tensor | None) -> Tensor:
        # Half precision is for the products: torch wants the state in the type of the input.
        before = [tensor.to(x.dtype).contiguous() for tensor in state.tensors]
        past = tuple(before) if self.states > 1 else before[0]
        if lengths is None:
            hidden, after = self.cells(x, past)
        else:
            # A row without tokens is read as if it had one, and keeps its state.
            packed = pack_padded_sequence(
                x, lengths.clamp(min=1).cpu(), batch_first=True, enforce_sorted=False
            )
            packed_hidden, after = self.cells(packed, past)
            hidden, _ = pad_packed_sequence(
                packed_hidden, batch_first=True, total_length=x.shape[1]
            )
        state.tensors = list(after) if self.states > 1 else [after]
        if lengths is not None:
            read = (lengths > 0)[None, :, None]
            state.tensors = [
                torch.where(read, new, old) for new, old in zip(state.tensors, before, strict=True)
            ]
        return self.logits(hidden)


class GRU(Gated):
    """Cho et al. 2014, in torch's form."""

    cell = nn.GRU


class LSTM(Gated):
    """Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000."""

    cell = nn.LSTM
    states = 2  # the output and the cell

    def make_layers(self, dropout: float) -> None:
        super().make_layers(dropout)
        for name, bias in self.cells.named_parameters():
            if name.startswith("bias_ih"):  # it remembers until it learns to forget
                bias.data[self.width : 2 * self.width] += 1


class Written(Recurrent):
    """A network whose recurrence is computed step by step: see `step`."""

    def make_layers(self, dropout: float) -> None:
        self.inputs = nn.ModuleList(nn.Linear(self.width, self.width) for _ in range(self.layers))
        self.recurrent = nn.ModuleList(
            nn.Linear(self.memory(), self.width, bias=False) for _ in range(self.layers)
        )


class Elman(Written):
    """Elman 1990: the hidden units hear themselves, one step before.

    h[t] = tanh(A x[t] + R h[t - 1] + b), logits[t] = E h[t] + c. As torch.nn.RNN, with one bias.
    """

    def read(self, x: Tensor, state: Recurrence, lengths: Tensor | None) -> Tensor:
        last = []
        for layer in range(self.layers):
            driven = self.inputs[layer](x if layer == 0 else self.dropout(x)).unbind(1)
            hidden = state.tensors[0][layer]
            outputs = []
            for part in driven:
                hidden = torch.tanh(part + self.recurrent[layer](hidden))
                outputs.append(hidden)
            x = torch.stack(outputs, dim=1)
            last.append(at_length(x, state.tensors[0][layer], lengths))
        state.tensors = [torch.stack(last)]
        return self.logits(x)


class Jordan(Written):
    """Jordan 1986: the hidden units hear the network's output, one step before.

    y[t] = softmax(E h[t] + c), h[t] = tanh(A x[t] + R y[t - 1] + b); before the first token, y is
    zero. In a stack of layers each hears the output.
    """

    def memory(self) -> int:
        return self.embedding.num_embeddings

    def read(self, x: Tensor, state: Recurrence, lengths: Tensor | None) -> Tensor:
        heard = list(state.tensors[0].to(x.dtype).unbind(0))
        driven = self.inputs[0](x).unbind(1)
        outputs, logits = [], []
        for part in driven:
            hidden = torch.tanh(part + self.recurrent[0](heard[0]))
            for layer in range(1, self.layers):
                below = self.inputs[layer](self.dropout(hidden))
                hidden = torch.tanh(below + self.recurrent[layer](heard[layer]))
            logits.append(self.logits(hidden))
            outputs.append(logits[-1].float().softmax(-1).to(x.dtype))
            heard = [outputs[-1]] * self.layers
        after = torch.stack(outputs, dim=1)
        state.tensors = [
            torch.stack([at_length(after, before, lengths) for before in state.tensors[0]])
        ]
        return torch.stack(logits, dim=1)


def at_length(outputs: Tensor, before: Tensor, lengths: Tensor | None) -> Tensor:
    """What outputs (B, T, W) are after each row's length (B), by default T; before it if 0."""
    if lengths is None:
        return outputs[:, -1]
    rows = torch.arange(len(outputs), device=outputs.device)
    after = outputs[rows, (lengths - 1).clamp(min=0)]
    return torch.where((lengths > 0)[:, None], after, before.to(after.dtype))
