"""The Transformer (Vaswani et al. 2017): encoder and decoder of attention and feed-forward layers.

Source, target and output layer share one embedding (section 3.4).

Shapes: B sentences, S source tokens, T target tokens, V vocabulary, W width.
"""

from typing import Any

import torch
from torch import Tensor, nn

from dlkit.core.nn.transformer import (
    EncoderLayer,
    KeyValueCache,
    TransformerDecoder,
    additive_mask,
    padding,
)
from dlkit.translate.models.translator import Translator


class Transformer(TransformerDecoder, Translator):
    def __init__(
        self,
        width: int = 256,
        layers: int = 4,
        dropout: float = 0.1,
        heads: int = 4,
        ffn_width: int | None = None,
        pre_norm: bool = False,
        tie_embeddings: bool = True,
        **translator: Any,
    ) -> None:
        """`ffn_width` is the width of the feed-forward layers, by default 4 times `width`.

        The other arguments are those of `Translator`.
        """
        super().__init__(**translator)
        ffn_width = ffn_width or 4 * width
        self.add_embedding(self.vocab_size, width, heads, dropout)
        shape = width, heads, ffn_width, dropout, pre_norm
        self.encoder = nn.ModuleList(EncoderLayer(*shape) for _ in range(layers))
        self.encoder_norm = nn.LayerNorm(width) if pre_norm else nn.Identity()
        self.add_decoder(layers, heads, ffn_width, dropout, pre_norm, tie_embeddings)
        self.initialize()

    def read(self, source: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """Each decoder layer's keys and values of source (B, S), and the mask of its padding."""
        x = self.embed(source)
        mask = additive_mask(padding(source.shape[1], lengths))
        for layer in self.encoder:
            x = layer(x, mask)
        return self.keys_and_values(self.encoder_norm(x)), mask

    def forward(
        self,
        source: Tensor,
        lengths: Tensor,
        target: Tensor,
        sampling_share: float = 0.0,
        at: Tensor | None = None,
    ) -> Tensor:
        """Scheduled sampling in two passes (Mihaylova and Martins 2019).

        The first pass of the decoder predicts each token from the true ones; in the second one,
        some predictions replace true tokens.
        """
        memories, mask = self.read(source, lengths)
        if sampling_share:
            with torch.no_grad():
                predicted = self.logits(self.decode(target, memories, mask)).argmax(-1)
            target = self.mix_in_predictions(target, predicted, sampling_share)
        x = self.decode(target, memories, mask)
        return self.logits(x if at is None else x[at])

    def start(self, source: Tensor, lengths: Tensor, capacity: int) -> KeyValueCache:
        memories, mask = self.read(source, lengths)
        return self.begin(memories, mask, capacity)

    def align(self, source: Tensor, lengths: Tensor, target: Tensor) -> Tensor:
        """The mean over the heads of the decoder's layer before the last (Garg et al. 2019)."""
        return self.attention(target, *self.read(source, lengths))
