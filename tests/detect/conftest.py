"""Data that several tests of `dlkit detect` share."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from tests.conftest import voc_xml
from tests.detect.helpers import CORNERS


@pytest.fixture(scope="session")
def corners(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bright rectangle an image; its keypoints are three corners, some not annotated."""
    root = tmp_path_factory.mktemp("keypoints")
    (root / "images").mkdir()
    for split, seeds in {"train": range(40), "val": range(40, 48), "test": range(48, 56)}.items():
        lines = [CORNERS]
        for seed in seeds:
            rng = np.random.default_rng(seed)
            image = Image.fromarray(rng.integers(0, 60, (64, 64, 3), dtype=np.uint8))
            left, top = (int(v) for v in rng.integers(2, 30, 2))
            right, bottom = left + int(rng.integers(16, 32)), top + int(rng.integers(16, 32))
            box = (left, top, right - 1, bottom - 1)
            ImageDraw.Draw(image).rectangle(box, fill=(255, 60, 40))
            image.save(root / "images" / f"{seed}.png")
            fields = [left, top, right, top, right, bottom]
            texts = [*map(str, fields)]
            if split == "train" and seed % 4 == 0:
                texts[2:4] = ["", ""]
            lines.append(",".join([f"images/{seed}.png", *texts]))
        (root / f"{split}.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture
def single(tmp_path: Path) -> Path:
    """One square or disc an image."""
    root = tmp_path / "single"
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for split, seeds in {"train": range(24), "val": range(24, 32)}.items():
        for seed in seeds:
            rng = np.random.default_rng(seed)
            image = Image.fromarray(rng.integers(0, 60, (64, 64, 3), dtype=np.uint8))
            x, y = (int(v) for v in rng.integers(2, 30, 2))
            box = (x, y, x + 30, y + 30)
            draw = ImageDraw.Draw(image)
            corners = (x, y, x + 29, y + 29)
            if seed % 2:
                draw.rectangle(corners, fill=(255, 60, 40))
            else:
                draw.ellipse(corners, fill=(60, 120, 255))
            image.save(root / "JPEGImages" / f"{seed}.png")
            label = "square" if seed % 2 else "disc"
            (root / "Annotations" / f"{seed}.xml").write_text(voc_xml([(label, box)]))
        lines = "".join(f"{seed}\n" for seed in seeds) * (4 if split == "train" else 1)
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text(lines)
    return root
