"""Scores of the bundled model, and pictures of examples."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dlkit.core.store import checkpoint
from dlkit.detect import infer, layouts
from dlkit.detect.evaluate import save_examples
from tests.conftest import run

PACK = Path(__file__).parents[3] / "shared" / "data" / "voc-animals.zip"


@pytest.mark.slow
@pytest.mark.skipif(not PACK.exists(), reason="the data packs are not on this machine")
def test_the_bundled_animals_hold_their_score(tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(PACK) as archive:
        archive.extractall(tmp_path)
    scores = run("detect", "evaluate", tmp_path, "-f", "jsonl").out
    values = {(r["metric"], r["label"]): r["value"] for r in map(json.loads, scores.splitlines())}
    header = checkpoint.read_header(
        Path(__file__).parents[2] / "dlkit/detect/weights/animals.safetensors"
    )
    assert values["ap50_coco101", "all"] >= 0.40
    assert values["ap50_coco101", "all"] == pytest.approx(header.metrics["ap50_coco101"], abs=0.01)


def test_examples_show_images_as_they_are_shown(model: Path, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "images/train").mkdir(parents=True)
    Image.new("RGB", (200, 100), "red").save(tmp_path / "images/train/a.png", exif=exif)
    (tmp_path / "labels").mkdir()
    samples = layouts.read_split(tmp_path, "train").samples
    detector = infer.load(str(model), "cpu", "fp32")
    save_examples(detector, samples, tmp_path / "examples.png")
    with Image.open(tmp_path / "examples.png") as sheet:
        red = np.array(sheet)[..., 1] < 128
    assert red[:, :320].any(axis=1).sum() > 1.5 * red[:, :320].any(axis=0).sum()
    # Black letters below both halves: "truth" is shorter than "prediction".
    below = np.array(sheet.convert("L"))[320:] < 100
    truth, prediction = below[:, :320].any(axis=0).sum(), below[:, 320:640].any(axis=0).sum()
    assert 0 < truth < prediction
