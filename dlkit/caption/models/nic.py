"""The Neural Image Caption generator (Vinyals et al. 2015): the image is an LSTM's first input.

The LSTM then generates the caption word by word. The output layer shares the embedding's matrix.

Shapes: B images, P locations of C channels, T tokens, V vocabulary, W width.
"""

from typing import Any

from torch import Tensor, nn

from dlkit.caption.models.captioner import Captioner, DecoderOutput
from dlkit.core.nn.recurrent import Past, RecurrentDecoder, RecurrentState, Stack


class NIC(RecurrentDecoder, Captioner):
    def __init__(
        self, width: int = 256, layers: int = 1, dropout: float = 0.3, **captioner: Any
    ) -> None:
        """The other arguments are those of `Captioner`."""
        super().__init__(**captioner)
        self.add_embedding(self.vocab_size, width, dropout)
        self.image = nn.Linear(self.channels, width)
        self.decoder = Stack("lstm", width, layers, dropout, residual=False)

    def encode_image(self, memory: Tensor) -> list[Past]:
        """The layers' states after the image, as the mean of its locations."""
        x: Tensor = self.dropout(self.image(memory.mean(1)))
        past: list[Past] = self.decoder(x[:, None])[1]
        return past

    def forward(
        self, inputs: Tensor, target: Tensor, at: Tensor | None = None, owners: Tensor | None = None
    ) -> DecoderOutput:
        x, _ = self.decoder(self.embed(target), self.encode_image(self.as_memory(inputs, owners)))
        return DecoderOutput(self.logits(x if at is None else x[at]))

    def start(self, memory: Tensor, lengths: Tensor, capacity: int) -> RecurrentState:
        return RecurrentState(self.encode_image(memory))

    def step(self, ids: Tensor, state: RecurrentState) -> tuple[Tensor, None]:
        x, state.past = self.decoder(self.embed(ids[:, None]), state.past)
        return self.logits(x[:, 0]), None
