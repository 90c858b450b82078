"""What every network does that paints in one pass."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.style_transfer.loss import mean_and_std


class InstanceNorm(nn.Module):
    """Maps (B, C, H, W) with mean 0 and deviation 1 in each; `kept` are other maps' statistics.

    With those of the whole photograph, small, its tiles are painted as one (Chen et al. 2022,
    "Toward ultra-resolution neural style transfer via thumbnail instance normalization").
    """

    def __init__(self) -> None:
        super().__init__()
        self.keeping = False
        self.kept: tuple[Tensor, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.keeping:
            self.kept = mean_and_std(x.float())
        if self.kept is None:
            return F.instance_norm(x)
        mean, std = self.kept
        return ((x.float() - mean) / std).to(x.dtype)


class Painter(nn.Module, ABC):
    """Paints batches of photographs, whose sides may be any."""

    any_style: bool  # whether a style is any picture, or one of those it was trained on
    stride: int  # of its deepest maps, in pixels

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

    @contextmanager
    def statistics_of(self, photo: Tensor, code: Tensor) -> Iterator[None]:
        """Within, all norms use what they see when they paint this photograph (1, 3, h, w)."""
        norms = [module for module in self.modules() if isinstance(module, InstanceNorm)]
        try:
            for norm in norms:
                norm.keeping = True
            self.paint(photo, code)
            for norm in norms:
                norm.keeping = False
            yield
        finally:
            for norm in norms:
                norm.keeping, norm.kept = False, None
