"""What several tests of `dlkit detect` share."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dlkit.detect import model


def build(arch: str, **settings: Any) -> Any:
    """An untrained network, whose own attributes may be used."""
    return model.build(arch, **settings)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


CORNERS = "file,x1,y1,x2,y2,x3,y3"


NO_IMAGES = torch.zeros(1, 3, 100, 100, dtype=torch.uint8)


class Says(nn.Module):
    """A network that always answers the same."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, images: Tensor) -> Any:
        return self.answer
