"""Recurrent networks: Elman's and Jordan's, unrolled step by step, and torch's GRU and LSTM.

Shapes: B texts, T tokens, V vocabulary, W model dimension, L layers.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from dlkit.core.nn.layers import Dropout
from dlkit.lm_generate.models.language_model import DecoderState, NextTokenNetwork

RESTART_RATE = 1 / 16  # share of the texts of a step that restart, where the start is learned


class RecurrentState(DecoderState):
    """State of the recurrent layers: tensors with a row for each text."""

    def __init__(self, *tensors: Tensor) -> None:
        self.tensors = list(tensors)  # each (L, B, W), or (L, B, V) of Jordan's network

    def select(self, rows: Tensor) -> "RecurrentState":
        return RecurrentState(*(tensor[:, rows] for tensor in self.tensors))

    def detach(self) -> None:
        self.tensors = [tensor.detach() for tensor in self.tensors]

    def state_dict(self) -> dict[str, Any]:
        return {"tensors": self.tensors}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.tensors = state["tensors"]


class Recurrent(NextTokenNetwork):
    """Embedding, recurrent layers and output layer.

    Dropout comes before, between and after the layers (Zaremba et al. 2014); the output layer
    shares the embedding's matrix (Press and Wolf 2017).
    """

    states = 1  # tensors of a layer's state

    def __init__(
        self,
        vocab_size: int,
        width: int = 128,
        layers: int = 1,
        dropout: float = 0.0,
        tie_embeddings: bool = True,
        learn_start: bool = False,
    ) -> None:
        super().__init__()
        self.layers, self.width = layers, width
        self.embedding = nn.Embedding(vocab_size, width)
        self.dropout = Dropout(dropout)
        self.make_layers(dropout)
        self.head = None if tie_embeddings else nn.Linear(width, vocab_size, bias=False)
        self.bias = nn.Parameter(torch.zeros(vocab_size))
        self.first: nn.Parameter | None = None
        if learn_start:
            self.first = nn.Parameter(torch.zeros(self.states, layers, self.state_size()))
        nn.init.normal_(self.embedding.weight, std=1 / math.sqrt(width))

    def make_layers(self, dropout: float) -> None:
        raise NotImplementedError

    def state_size(self) -> int:
        """Size of each tensor of a layer's state."""
        return self.width

    def start(self, batch: int, capacity: int) -> RecurrentState:
        if self.first is not None:
            return RecurrentState(*(first[:, None].expand(-1, batch, -1) for first in self.first))
        zeros = self.bias.new_zeros(self.layers, batch, self.state_size())
        return RecurrentState(*[zeros] * self.states)

    def logits(self, hidden: Tensor) -> Tensor:
        """hidden (..., W) -> (..., V)."""
        weight = self.embedding.weight if self.head is None else self.head.weight
        return F.linear(self.dropout(hidden), weight, self.bias)

    def forward(
        self, ids: Tensor, state: DecoderState | None = None, lengths: Tensor | None = None
    ) -> Tensor:
        if state is None:
            state = self.start(len(ids), ids.shape[1])
        assert isinstance(state, RecurrentState)
        if self.training and self.first is not None:
            self.restart_rows(state, self.first)
        x = self.dropout(self.embedding(ids))
        return self.read(x, state, lengths).float()

    def restart_rows(self, state: RecurrentState, first: Tensor) -> None:
        """Restart some texts at random: else the learned start would hardly occur in training."""
        batch = state.tensors[0].shape[1]
        again = torch.rand(batch, 1, device=first.device) < RESTART_RATE
        state.tensors = [
            torch.where(again, start[:, None].to(tensor.dtype), tensor)
            for start, tensor in zip(first, state.tensors, strict=True)
        ]

    def read(self, x: Tensor, state: RecurrentState, lengths: Tensor | None) -> Tensor:
        """Logits (B, T, V) from embedded tokens (B, T, W)."""
        raise NotImplementedError


class GatedRNN(Recurrent):
    """GRU and LSTM, computed by torch."""

    cell: Callable[..., nn.RNNBase]

    def make_layers(self, dropout: float) -> None:
        self.cells = type(self).cell(
            self.width,
            self.width,
            self.layers,
            batch_first=True,
            dropout=dropout if self.layers > 1 else 0.0,
        )

    def read(self, x: Tensor, state: RecurrentState, lengths: Tensor | None) -> Tensor:
        # torch needs the state in the dtype of the input, which autocast may have changed.
        before = [tensor.to(x.dtype).contiguous() for tensor in state.tensors]
        past = tuple(before) if self.states > 1 else before[0]
        if lengths is None:
            hidden, after = self.cells(x, past)
        else:
            # A row without tokens is read as if it had one; its state is restored below.
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


class GRU(GatedRNN):
    """Cho et al. 2014, in torch's form."""

    cell = nn.GRU


class LSTM(GatedRNN):
    """Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000."""

    cell = nn.LSTM
    states = 2  # the output and the cell

    def make_layers(self, dropout: float) -> None:
        super().make_layers(dropout)
        for name, bias in self.cells.named_parameters():
            if name.startswith("bias_ih"):  # the forget gate starts open
                bias.data[self.width : 2 * self.width] += 1


class UnrolledRNN(Recurrent):
    """A network whose recurrence is a loop over the tokens."""

    def make_layers(self, dropout: float) -> None:
        self.inputs = nn.ModuleList(nn.Linear(self.width, self.width) for _ in range(self.layers))
        self.recurrent = nn.ModuleList(
            nn.Linear(self.state_size(), self.width, bias=False) for _ in range(self.layers)
        )


class Elman(UnrolledRNN):
    """Elman 1990: the hidden layer receives its own output of the step before.

    h[t] = tanh(A x[t] + R h[t - 1] + b), logits[t] = E h[t] + c. As torch.nn.RNN, with one bias.
    """

    def read(self, x: Tensor, state: RecurrentState, lengths: Tensor | None) -> Tensor:
        last = []
        for layer in range(self.layers):
            inputs = self.inputs[layer](x if layer == 0 else self.dropout(x)).unbind(1)
            hidden = state.tensors[0][layer]
            outputs = []
            for part in inputs:
                hidden = torch.tanh(part + self.recurrent[layer](hidden))
                outputs.append(hidden)
            x = torch.stack(outputs, dim=1)
            last.append(at_length(x, state.tensors[0][layer], lengths))
        state.tensors = [torch.stack(last)]
        return self.logits(x)


class Jordan(UnrolledRNN):
    """Jordan 1986: the hidden layer receives the network's output of the step before.

    y[t] = softmax(E h[t] + c), h[t] = tanh(A x[t] + R y[t - 1] + b); before the first token, y is
    zero. In a stack of layers each receives the output.
    """

    def state_size(self) -> int:
        return self.embedding.num_embeddings

    def read(self, x: Tensor, state: RecurrentState, lengths: Tensor | None) -> Tensor:
        feedback = list(state.tensors[0].to(x.dtype).unbind(0))
        inputs = self.inputs[0](x).unbind(1)
        outputs, logits = [], []
        for part in inputs:
            hidden = torch.tanh(part + self.recurrent[0](feedback[0]))
            for layer in range(1, self.layers):
                below = self.inputs[layer](self.dropout(hidden))
                hidden = torch.tanh(below + self.recurrent[layer](feedback[layer]))
            logits.append(self.logits(hidden))
            outputs.append(logits[-1].float().softmax(-1).to(x.dtype))
            feedback = [outputs[-1]] * self.layers
        after = torch.stack(outputs, dim=1)
        state.tensors = [
            torch.stack([at_length(after, before, lengths) for before in state.tensors[0]])
        ]
        return torch.stack(logits, dim=1)


def at_length(outputs: Tensor, before: Tensor, lengths: Tensor | None) -> Tensor:
    """Select from outputs (B, T, W) those at each row's length (B), by default T.

    A row of length 0 keeps the output `before`."""
    if lengths is None:
        return outputs[:, -1]
    rows = torch.arange(len(outputs), device=outputs.device)
    after = outputs[rows, (lengths - 1).clamp(min=0)]
    return torch.where((lengths > 0)[:, None], after, before.to(after.dtype))
