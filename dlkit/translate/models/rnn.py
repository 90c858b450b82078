"""The encoder-decoder of two recurrent networks (Cho et al. 2014; Sutskever et al. 2014).

The first one reads the source; the second one starts from its last state and writes the target.
Dropout is before, between and after the layers (Zaremba et al. 2014); the output shares the
embedding's matrix (Press and Wolf 2017).

Shapes: B sentences, S source tokens, T target tokens, V vocabulary, W width.
"""

from typing import Any

import torch
from torch import Tensor

from dlkit.core.errors import DlkitError
from dlkit.core.nn.decoder_state import DecoderState
from dlkit.core.nn.recurrent import Recurrence, RecurrentWriting, Stack
from dlkit.translate.model import Translator


class Recurrent(RecurrentWriting, Translator):
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
        self.add_embedding(vocab_size, width, dropout, untied)

    def write(self, x: Tensor, state: Any) -> tuple[Tensor, Tensor | None]:
        """From embedded tokens (B, T, W) what tells the next ones (B, T, W), and the attention
        (B, T, S), if there is any; the state moves on in place.
        """
        raise NotImplementedError

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

    def write_sampled(self, target: Tensor, state: DecoderState, sampled: float) -> Tensor:
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

    def step(self, ids: Tensor, state: DecoderState) -> tuple[Tensor, Tensor | None]:
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
