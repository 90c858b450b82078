"""Stacked recurrent layers, and their state in decoding.

Shapes: B sentences, S source tokens, T target tokens, V vocabulary, W width.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from dlkit.core.errors import DlkitError
from dlkit.core.nn.decoder_state import DecoderState
from dlkit.core.nn.layers import Dropout

Past = tuple[Tensor, ...]  # of a layer: the output (B, W), and of an LSTM the cell (B, W)
CELLS: dict[str, type[nn.GRU] | type[nn.LSTM]] = {"gru": nn.GRU, "lstm": nn.LSTM}


class Stack(nn.Module):
    """Recurrent layers of `width` units, which both directions share.

    With `residual`, the input of a layer is added to its output, from the second layer on (Wu et
    al. 2016).
    """

    def __init__(
        self,
        cell: str,
        width: int,
        layers: int,
        dropout: float,
        residual: bool,
        inputs: int | None = None,
        bidirectional: bool = False,
    ) -> None:
        """`inputs` is the width of the first layer's input, by default `width`."""
        super().__init__()
        if cell not in CELLS:
            raise DlkitError(f"unknown cell {cell!r}; choose from {', '.join(CELLS)}")
        self.residual, self.bidirectional = residual, bidirectional
        units = width // 2 if bidirectional else width
        self.layers = nn.ModuleList(
            CELLS[cell](
                (inputs or width) if number == 0 else width,
                units,
                batch_first=True,
                bidirectional=bidirectional,
            )
            for number in range(layers)
        )
        self.dropout = Dropout(dropout)
        if cell == "lstm":
            for name, bias in self.named_parameters():
                if "bias_ih" in name:  # the forget gate is open at first
                    bias.data[units : 2 * units] += 1

    def read(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, list[Past]]:
        """x (B, S, W) from a zero state -> (B, S, W), and each layer's last state.

        Padding, right of `lengths` (B), is zero in the output.
        """
        states: list[Past] = []
        for number, layer in enumerate(self.layers):
            packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
            output, last = layer(packed)
            y, _ = pad_packed_sequence(output, batch_first=True, total_length=x.shape[1])
            x = self.combine(number, x, y)
            # (directions, B, units) -> (B, W)
            tensors = last if isinstance(last, tuple) else (last,)
            states.append(tuple(tensor.transpose(0, 1).flatten(1) for tensor in tensors))
        return x, states

    def forward(self, x: Tensor, past: Sequence[Past] | None = None) -> tuple[Tensor, list[Past]]:
        """x (B, T, W) from the state `past` -> (B, T, W), and each layer's last state.

        Without a past all states are zero.
        """
        states: list[Past] = []
        for number, layer in enumerate(self.layers):
            if past is None:
                y, last = layer(x)
            else:
                before = tuple(tensor[None].to(x.dtype) for tensor in past[number])
                y, last = layer(x, before if len(before) > 1 else before[0])
            x = self.combine(number, x, y)
            tensors = last if isinstance(last, tuple) else (last,)
            states.append(tuple(tensor[0] for tensor in tensors))
        return x, states

    def combine(self, number: int, x: Tensor, y: Tensor) -> Tensor:
        """The input of the next layer, from input x and output y of this one."""
        output: Tensor = self.dropout(y)
        return x + output if self.residual and number else output


class RecurrentState(DecoderState):
    """The state of each recurrent layer."""

    def __init__(self, past: list[Past]) -> None:
        self.past = past

    def select(self, rows: Tensor) -> "RecurrentState":
        return RecurrentState([tuple(tensor[rows] for tensor in layer) for layer in self.past])


class RecurrentDecoder(nn.Module):
    """The embedding and the output layer of a recurrent decoder, which share a matrix.

    It is a mixin, so that its layers have the same names in the models of all tasks: a subclass
    calls `add_embedding`.
    """

    bias: Tensor

    def add_embedding(
        self, vocab_size: int, width: int, dropout: float, tie_embeddings: bool = True
    ) -> None:
        """With `tie_embeddings` the output layer shares the embedding's matrix."""
        self.embedding = nn.Embedding(vocab_size, width)
        self.dropout = Dropout(dropout)
        self.head = None if tie_embeddings else nn.Linear(width, vocab_size, bias=False)
        self.bias = nn.Parameter(torch.zeros(vocab_size))
        nn.init.normal_(self.embedding.weight, std=1 / math.sqrt(width))

    def embed(self, ids: Tensor) -> Tensor:
        """ids (B, T) -> (B, T, W)."""
        x: Tensor = self.dropout(self.embedding(ids))
        return x

    def logits(self, x: Tensor) -> Tensor:
        """x (..., W) -> (..., V), fp32."""
        if self.head is None:
            return F.linear(x, self.embedding.weight, self.bias).float()
        y: Tensor = self.head(x)
        return y.float() + self.bias.float()
