"""A data set in memory, and images that differ."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from dlkit.core.datasets.samples import Classes, Sample
from dlkit.core.ledger import Ledger


@dataclass
class MemorySource:
    """A source whose samples are given."""

    samples: dict[str, list[Sample]]
    root: Path
    layout: str = "memory"
    classes: Classes = field(default_factory=Classes)

    @property
    def splits(self) -> Sequence[str]:
        return list(self.samples)

    def read(self, split: str, ledger: Ledger) -> list[Sample]:
        return self.samples[split]


def paint(path: Path, seed: int, size: tuple[int, int] = (64, 48)) -> Path:
    """Save an image of random patches, another one for each seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    patches = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    Image.fromarray(patches).resize(size, Image.Resampling.BICUBIC).save(path)
    return path
