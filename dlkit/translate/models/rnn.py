"""The encoder-decoder of two recurrent networks (Cho et al. 2014; Sutskever et al. 2014).

The first one reads the source; the second one starts from its last state and writes the target.
Dropout is before, between and after the layers (Zaremba et al. 2014); the output shares the
embedding's matrix (Press and Wolf 2017).

Shapes: B sentences, S source tokens, T target tokens, V vocabulary, W width.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from dlkit.core.errors import DlkitError
from dlkit.core.layers import Dropout
from dlkit.translate.model import State, Translator

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

    def forward(self, x: Tensor, past: Sequence[Past]) -> tuple[Tensor, list[Past]]:
        """x (B, T, W) that goes on from `past` -> (B, T, W), and each layer's last state."""
        states: list[Past] = []
        for number, layer in enumerate(self.layers):
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


class Recurrence(State):
    """Each layer's state, and with attention what was read and the last attentional state."""

    def __init__(self, past: list[Past]) -> None:
        self.past = past

    def select(self, rows: Tensor) -> "Recurrence":
        return Recurrence([tuple(tensor[rows] for tensor in layer) for layer in self.past])


class Recurrent(Translator):
    """What translators with a recurrent decoder share.

    A subclass says how a source is read, in `start`, and what tells the next tokens, in `write`.
    """

    def __init__(
        self,
        vocab_size: int,
        pad: int,
        bos: int,
        eos: int,
        unk: int,
        width: int,
        dropout: float,
        untied: bool,
    ) -> None:
        super().__init__(vocab_size, pad, bos, eos, unk)
        self.embedding = nn.Embedding(vocab_size, width)
        self.dropout = Dropout(dropout)
        self.head = nn.Linear(width, vocab_size, bias=False) if untied else None
        self.bias = nn.Parameter(torch.zeros(vocab_size))
        nn.init.normal_(self.embedding.weight, std=1 / math.sqrt(width))

    def embed(self, ids: Tensor) -> Tensor:
        x: Tensor = self.dropout(self.embedding(ids))
        return x

    def write(self, x: Tensor, state: Any) -> tuple[Tensor, Tensor | None]:
        """From embedded tokens (B, T, W) what tells the next ones (B, T, W), and the attention
        (B, T, S), if there is any; the state moves on in place.
        """
        raise NotImplementedError

    def logits(self, x: Tensor) -> Tensor:
        """x (..., W) -> (..., V), fp32."""
        if self.head is None:
            return F.linear(x, self.embedding.weight, self.bias).float()
        y: Tensor = self.head(x)
        return y.float() + self.bias.float()

    def forward(
        self,
        source: Tensor,
        lengths: Tensor,
        target: Tensor,
        sampled: float = 0.0,
        at: Tensor | None = None,
    ) -> Tensor:
        state = self.start(source, lengths, target.shape[1])
        if sampled:
            x = self.write_sampled(target, state, sampled)
        else:
            x, _ = self.write(self.embed(target), state)
        return self.logits(x if at is None else x[at])

    def write_sampled(self, target: Tensor, state: State, sampled: float) -> Tensor:
        """`write`, token by token, where that share of the target is what the model wrote."""
        outputs: list[Tensor] = []
        for t in range(target.shape[1]):
            ids = target[:, t]
            if outputs:
                with torch.no_grad():
                    written = self.logits(outputs[-1][:, 0]).argmax(-1)
                ids = torch.where(torch.rand(ids.shape, device=ids.device) < sampled, written, ids)
            outputs.append(self.write(self.embed(ids[:, None]), state)[0])
        return torch.cat(outputs, dim=1)

    def step(self, ids: Tensor, state: State) -> tuple[Tensor, Tensor | None]:
        x, attention = self.write(self.embed(ids[:, None]), state)
        return self.logits(x[:, 0]), None if attention is None else attention[:, 0]


class RNN(Recurrent):
    def __init__(
        self,
        vocab_size: int,
        pad: int,
        bos: int,
        eos: int,
        unk: int,
        width: int = 256,
        layers: int = 1,
        dropout: float = 0.1,
        cell: str = "gru",
        residual: bool = False,
        reverse: bool = False,
        untied: bool = False,
    ) -> None:
        """With `reverse` it reads the source from its last word to its first, then </s>."""
        super().__init__(vocab_size, pad, bos, eos, unk, width, dropout, untied)
        self.reverse = reverse
        self.encoder = Stack(cell, width, layers, dropout, residual)
        self.decoder = Stack(cell, width, layers, dropout, residual)

    def start(self, source: Tensor, lengths: Tensor, capacity: int) -> Recurrence:
        if self.reverse:
            source = turned(source, lengths)
        return Recurrence(self.encoder.read(self.embed(source), lengths)[1])

    def write(self, x: Tensor, state: Recurrence) -> tuple[Tensor, None]:
        y, state.past = self.decoder(x, state.past)
        return y, None

    def align(self, source: Tensor, lengths: Tensor, target: Tensor) -> Tensor:
        raise DlkitError(
            "the architecture rnn has no attention to align by: take attention or transformer"
        )


def turned(source: Tensor, lengths: Tensor) -> Tensor:
    """source (B, S) with its words from the last to the first; </s> and padding stay."""
    places = torch.arange(source.shape[1], device=source.device).expand_as(source)
    words = lengths[:, None] - 1
    return source.gather(1, torch.where(places < words, words - 1 - places, places))
