"""The base class of networks that transfer a style in one pass."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.style_transfer.models.statistics import mean_and_std


class InstanceNorm(nn.Module):
    """Instance normalization of maps (B, C, H, W), optionally with fixed statistics.

    With the statistics of a thumbnail of the photograph, its tiles show no seams (Chen et al. 2022,
    "Toward ultra-resolution neural style transfer via thumbnail instance normalization").
    """

    def __init__(self) -> None:
        super().__init__()
        self.recording = False
        self.fixed: tuple[Tensor, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.recording:
            self.fixed = mean_and_std(x.float())
        if self.fixed is None:
            return F.instance_norm(x)
        mean, std = self.fixed
        return ((x.float() - mean) / std).to(x.dtype)


class Painter(nn.Module, ABC):
    """Paints batches of photographs of any size."""

    any_style: bool  # whether styles are arbitrary images, or those of the training
    stride: int  # of the deepest maps, in pixels

    @abstractmethod
    def code(self, style: Tensor | int) -> Tensor:
        """The code (1, N) of a style, an image (1, 3, h, w) or an index.

        A weighted mean of codes is a mixture of their styles.
        """

    @abstractmethod
    def paint(self, images: Tensor, code: Tensor, strength: float = 1.0) -> Tensor:
        """Paint photographs (B, 3, H, W) from 0 to 1; `code` is (1 or B, N).

        `strength` interpolates from the photograph, as the network reconstructs it, to the style.
        """

    def forward(self, images: Tensor, style: Tensor | int, strength: float = 1.0) -> Tensor:
        """Paint photographs (B, 3, H, W) from 0 to 1 in a style, an image or an index."""
        return self.paint(images, self.code(style), strength)

    @contextmanager
    def use_statistics(self, photo: Tensor, code: Tensor) -> Iterator[None]:
        """Fix the statistics of all norms to those of painting this photograph (1, 3, h, w)."""
        norms = [module for module in self.modules() if isinstance(module, InstanceNorm)]
        try:
            for norm in norms:
                norm.recording = True
            self.paint(photo, code)
            for norm in norms:
                norm.recording = False
            yield
        finally:
            for norm in norms:
                norm.recording, norm.fixed = False, None
