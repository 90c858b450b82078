"""Fixtures of the tests of `dlkit segment`."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dlkit.segment import model
from dlkit.segment.masks import IGNORED
from tests.conftest import Result, run
from tests.segment.helpers import (
    COLOR_FINDER,
    COLOR_SEGMENTER,
    FP32,
    picture_of,
    save_model,
    truth_of,
)


@pytest.fixture
def segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`dlkit segment ARGS` with a model that knows three colors, and pictures in `in/`."""
    monkeypatch.chdir(tmp_path)
    for name, arch in (("colors", COLOR_SEGMENTER), ("objects", COLOR_FINDER)):
        monkeypatch.setitem(model.ARCHITECTURES, name, arch)
    path, objects = (save_model(Path(f"{n}.safetensors"), n) for n in ("colors", "objects"))
    Path("in").mkdir()
    for seed in range(3):
        picture_of(truth_of(seed)).save(f"in/{seed}.png")

    def call(*args: object, stdin: str = "", finds_objects: bool = False) -> Result:
        return run("segment", "-m", objects if finds_objects else path, *FP32, *args, stdin=stdin)

    return call


@pytest.fixture
def data(segment: Any) -> Path:
    """Images with masks as folders; one image's mask is wrong in the blue corner."""
    for kind in ("images", "masks"):
        Path("set", kind, "test").mkdir(parents=True)
    Path("set/classes.txt").write_text("red\ngreen\nblue\n")
    for seed in range(3):
        labels = truth_of(seed)
        picture_of(labels).save(f"set/images/test/{seed}.png")
        if seed == 2:
            labels = np.where(labels == 2, 0, labels).astype(np.uint8)
        labels[0] = IGNORED
        Image.fromarray(labels).save(f"set/masks/test/{seed}.png")
    return Path("set")
