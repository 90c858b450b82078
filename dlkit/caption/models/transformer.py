"""A Transformer decoder that attends to the image (Vaswani et al. 2017; Cornia et al. 2020).

Each location of the feature map, or patch of the image (Dosovitskiy et al. 2021), is projected to
the model dimension and gets a learned position embedding. Transformer encoder layers follow.

Shapes: B images, P locations of C channels, T tokens, V vocabulary, W width.
"""

from typing import Any

import torch
from torch import Tensor, nn

from dlkit.caption.models.captioner import Captioner, DecoderOutput
from dlkit.core.nn.transformer import EncoderLayer, KeyValueCache, TransformerDecoder


class Transformer(TransformerDecoder, Captioner):
    def __init__(
        self,
        width: int = 256,
        layers: int = 3,
        encoder_layers: int = 2,
        dropout: float = 0.3,
        heads: int = 4,
        ffn_width: int | None = None,
        pre_norm: bool = False,
        **captioner: Any,
    ) -> None:
        """`ffn_width` is the width of the feed-forward layers, by default 4 times `width`.

        The other arguments are those of `Captioner`.
        """
        super().__init__(**captioner)
        ffn_width = ffn_width or 4 * width
        self.add_embedding(self.vocab_size, width, heads, dropout)
        self.memory_norm = nn.LayerNorm(self.channels)
        self.image = nn.Linear(self.channels, width)
        rows, columns = self.grid
        self.places = nn.Parameter(torch.randn(rows * columns, width) * 0.02)
        shape = width, heads, ffn_width, dropout, pre_norm
        self.image_layers = nn.ModuleList(EncoderLayer(*shape) for _ in range(encoder_layers))
        self.image_layers_norm = nn.LayerNorm(width) if pre_norm else nn.Identity()
        self.add_decoder(layers, heads, ffn_width, dropout, pre_norm)
        self.initialize()

    def read(self, memory: Tensor) -> tuple[list[Tensor], Tensor]:
        """Each decoder layer's keys and values of memory (B, P, C), and a mask of zeros."""
        x = self.dropout(self.image(self.memory_norm(memory)) + self.places)
        mask = torch.zeros(len(memory), 1, 1, memory.shape[1], device=memory.device)
        for layer in self.image_layers:
            x = layer(x, mask)
        return self.keys_and_values(self.image_layers_norm(x)), mask

    def forward(
        self, inputs: Tensor, target: Tensor, at: Tensor | None = None, owners: Tensor | None = None
    ) -> DecoderOutput:
        x = self.decode(target, *self.read(self.as_memory(inputs, owners)))
        return DecoderOutput(self.logits(x if at is None else x[at]))

    def start(self, memory: Tensor, lengths: Tensor, capacity: int) -> KeyValueCache:
        memories, mask = self.read(memory)
        return self.begin(memories, mask, capacity)
