"""The encoder-decoder of two recurrent networks (Cho et al. 2014; Sutskever et al. 2014).

The encoder reads the source; the decoder starts from its last state and generates the target.
Dropout is before, between and after the layers (Zaremba et al. 2014); the output layer shares the
embedding's matrix (Press and Wolf 2017).

Shapes: B sentences, S source tokens, T target tokens, V vocabulary, W width.
"""

from typing import Any

import torch
from torch import Tensor

from dlkit.core.errors import DlkitError
from dlkit.core.nn.decoder_state import DecoderState
from dlkit.core.nn.recurrent import RecurrentDecoder, RecurrentState, Stack
from dlkit.translate.models.translator import Translator


class RecurrentTranslator(RecurrentDecoder, Translator):
    """The base class of translators with a recurrent decoder.

    A subclass encodes the source in `start`, and runs the decoder in `write`.
    """

    def __init__(self, width: int, dropout: float, tie_embeddings: bool, **translator: Any) -> None:
        """The other arguments are those of `Translator`."""
        super().__init__(**translator)
        self.add_embedding(self.vocab_size, width, dropout, tie_embeddings)

    def write(self, x: Tensor, state: Any) -> tuple[Tensor, Tensor | None]:
        """The decoder's output (B, T, W) for embedded tokens (B, T, W), and attention (B, T, S).

        The attention weights are None without attention. Updates the state in place.
        """
        raise NotImplementedError

    def forward(
        self,
        source: Tensor,
        lengths: Tensor,
        target: Tensor,
        sampling_share: float = 0.0,
        at: Tensor | None = None,
    ) -> Tensor:
        state = self.start(source, lengths, target.shape[1])
        if sampling_share:
            x = self.write_sampled(target, state, sampling_share)
        else:
            x, _ = self.write(self.embed(target), state)
        return self.logits(x if at is None else x[at])

    def write_sampled(self, target: Tensor, state: DecoderState, share: float) -> Tensor:
        """`write`, token by token, with a random share of the target replaced by predictions."""
        outputs: list[Tensor] = []
        for t in range(target.shape[1]):
            ids = target[:, t]
            if outputs:
                with torch.no_grad():
                    predicted = self.logits(outputs[-1][:, 0]).argmax(-1)
                chosen = torch.rand(ids.shape, device=ids.device) < share
                ids = torch.where(chosen, predicted, ids)
            outputs.append(self.write(self.embed(ids[:, None]), state)[0])
        return torch.cat(outputs, dim=1)

    def step(self, ids: Tensor, state: DecoderState) -> tuple[Tensor, Tensor | None]:
        x, attention = self.write(self.embed(ids[:, None]), state)
        return self.logits(x[:, 0]), None if attention is None else attention[:, 0]


class RNN(RecurrentTranslator):
    """Encoder and decoder of recurrent layers without attention (Sutskever et al. 2014)."""

    def __init__(
        self,
        width: int = 256,
        layers: int = 1,
        dropout: float = 0.1,
        cell: str = "gru",
        residual: bool = False,
        reverse: bool = False,
        tie_embeddings: bool = True,
        **translator: Any,
    ) -> None:
        """With `reverse` the encoder reads the source's words from last to first, then </s>.

        The other arguments are those of `Translator`.
        """
        super().__init__(width, dropout, tie_embeddings, **translator)
        self.reverse = reverse
        self.encoder = Stack(cell, width, layers, dropout, residual)
        self.decoder = Stack(cell, width, layers, dropout, residual)

    def start(self, source: Tensor, lengths: Tensor, capacity: int) -> RecurrentState:
        if self.reverse:
            source = reverse_words(source, lengths)
        return RecurrentState(self.encoder.read(self.embed(source), lengths)[1])

    def write(self, x: Tensor, state: RecurrentState) -> tuple[Tensor, None]:
        y, state.past = self.decoder(x, state.past)
        return y, None

    def align(self, source: Tensor, lengths: Tensor, target: Tensor) -> Tensor:
        raise DlkitError(
            "the architecture rnn has no attention to align by; choose attention or transformer"
        )


def reverse_words(source: Tensor, lengths: Tensor) -> Tensor:
    """source (B, S) with its words in reverse order; </s> and padding keep their places."""
    places = torch.arange(source.shape[1], device=source.device).expand_as(source)
    words = lengths[:, None] - 1
    return source.gather(1, torch.where(places < words, words - 1 - places, places))
