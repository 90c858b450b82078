"""Recurrent layers one above the other, and what decoding remembers of them.

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
    """Recurrent layers of `width` units, those of both directions together.

    With `residual`, what a layer reads is added to what it says, from the second on, as in Wu et
    al. 2016.
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
        """`inputs` is the width of what the first layer reads, by default `width`."""
        super().__init__()
        if cell not in CELLS:
            raise DlkitError(f"no cell {cell!r}: there is {', '.join(CELLS)}")
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
                if "bias_ih" in name:  # it remembers until it learns to forget
                    bias.data[units : 2 * units] += 1

    def read(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, list[Past]]:
        """x (B, S, W) from zeros -> (B, S, W), and each layer's last state.

        What is right of `lengths` (B) is padding, and zero in the output.
        """
        states: list[Past] = []
        for number, layer in enumerate(self.layers):
            packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
            said, last = layer(packed)
            y, _ = pad_packed_sequence(said, batch_first=True, total_length=x.shape[1])
            x = self.passed_on(number, x, y)
            # (directions, B, units) -> (B, W)
            tensors = last if isinstance(last, tuple) else (last,)
            states.append(tuple(tensor.transpose(0, 1).flatten(1) for tensor in tensors))
        return x, states

    def forward(self, x: Tensor, past: Sequence[Past] | None = None) -> tuple[Tensor, list[Past]]:
        """x (B, T, W) that goes on from `past` -> (B, T, W), and each layer's last state.

        Without a past all states are zero.
        """
        states: list[Past] = []
        for number, layer in enumerate(self.layers):
            if past is None:
                y, last = layer(x)
            else:
                before = tuple(tensor[None].to(x.dtype) for tensor in past[number])
                y, last = layer(x, before if len(before) > 1 else before[0])
            x = self.passed_on(number, x, y)
            tensors = last if isinstance(last, tuple) else (last,)
            states.append(tuple(tensor[0] for tensor in tensors))
        return x, states

    def passed_on(self, number: int, x: Tensor, y: Tensor) -> Tensor:
        """What a layer that read x and said y tells the next one."""
        said: Tensor = self.dropout(y)
        return x + said if self.residual and number else said


class Recurrence(DecoderState):
    """Each layer's state."""

    def __init__(self, past: list[Past]) -> None:
        self.past = past

    def select(self, rows: Tensor) -> "Recurrence":
        return Recurrence([tuple(tensor[rows] for tensor in layer) for layer in self.past])


class RecurrentWriting(nn.Module):
    """The part of a model that writes: an embedding, and logits by the same matrix.

    It is a base class beside the task's own, so that its layers stand in the model itself under
    the same names in all tasks: a subclass calls `add_embedding`.
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
        x: Tensor = self.dropout(self.embedding(ids))
        return x

    def logits(self, x: Tensor) -> Tensor:
        """x (..., W) -> (..., V), fp32."""
        if self.head is None:
            return F.linear(x, self.embedding.weight, self.bias).float()
        y: Tensor = self.head(x)
        return y.float() + self.bias.float()
