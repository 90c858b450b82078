"""What every network does that paints in one pass."""

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Painter(nn.Module, ABC):
    """Paints batches of photographs, whose sides may be any."""

    any_style: bool  # whether a style is any picture, or one of those it was trained on

    @abstractmethod
    def code(self, style: Tensor | int) -> Tensor:
        """What the network needs of a style, (1, N): of a picture (1, 3, h, w) or a number.

        Codes can be mixed: a weighted mean of codes is a style between.
        """

    @abstractmethod
    def paint(self, images: Tensor, code: Tensor, strength: float = 1.0) -> Tensor:
        """Pictures (B, 3, H, W) from 0 to 1 of photographs likewise; `code` is (1 or B, N).

        `strength` 0 leaves the photograph as far as the network can, 1 is the whole style.
        """

    def forward(self, images: Tensor, style: Tensor | int, strength: float = 1.0) -> Tensor:
        """Pictures (B, 3, H, W) from 0 to 1, of photographs and a style as `code` takes it."""
        return self.paint(images, self.code(style), strength)
