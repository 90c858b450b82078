"""Evaluation."""

from pathlib import Path

import numpy as np
from PIL import Image

from tests.classify.helpers import scores, striped
from tests.conftest import run


def test_gray_and_16_bit_images_and_labels_unknown_to_the_model(
    stripes: Path, model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "test" / "blue"
    folder.mkdir(parents=True)
    picture = striped("blue", 7)
    picture.convert("LA").save(folder / "alpha.png")
    wide = np.asarray(picture.convert("L"), dtype=np.uint16) * 257
    Image.fromarray(wide).save(folder / "deep.png")
    (tmp_path / "test" / "violet").mkdir()
    picture.save(tmp_path / "test" / "violet" / "0.png")
    command = ("classify", "evaluate", tmp_path, "-m", model, "-f", "json")
    assert "(33 %), most often: unknown label" in run(*command).err
    result = run(*command, "--allow-skipped", "0.34")
    assert scores(result)["samples", "blue"] == 2
    assert "unknown label" in result.err
    assert "2 of the model's 3 labels are not in" in result.err
