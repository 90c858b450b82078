"""Reading and augmentation of keypoints."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from dlkit.core.errors import DlkitError
from dlkit.detect.config import DetectTrainConfig
from dlkit.detect.keypoint_data import KeypointDataset, KeypointSample, read_keypoints
from tests.detect.helpers import CORNERS

NAN = float("nan")


def test_keypoints_move_with_their_pictures(tmp_path: Path) -> None:
    """A spot at the first keypoint is where the keypoint is said to be, after all changes."""
    image = Image.new("RGB", (120, 80))
    ImageDraw.Draw(image).ellipse((26, 46, 34, 54), fill="white")
    image.save(tmp_path / "a.png")
    points = np.array([[30.5, 50.5], [119, 79], [NAN, NAN]], np.float32)
    config = DetectTrainConfig(data=tmp_path, image_size=96, zoom=2.0, color_jitter=0)
    pictures = KeypointDataset([KeypointSample(tmp_path / "a.png", 120, 80, points)], config)
    unseen = 0
    for _ in range(20):
        pixels, moved = pictures[0]
        assert moved[2].isnan().all()
        unseen += int(moved[1].isnan().any())
        y, x = np.nonzero((pixels[0] > 200).numpy())
        # At the border, only a part of the spot is seen.
        if len(x) and not moved[0].isnan().any() and min(moved[0]) > 8 and max(moved[0]) < 88:
            assert moved[0].tolist() == pytest.approx([x.mean() + 0.5, y.mean() + 0.5], abs=1)
        else:
            unseen += 1
    assert 0 < unseen < 20


def test_bad_keypoints_are_skipped_and_named(
    corners: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (64, 48)).save(tmp_path / "a.png")
    rows = [CORNERS, "a.png,1,2,64,48,,", "a.png,65,2,1,x,nan,3", "gone.png,1,2,3,4,5,6"]
    (tmp_path / "val.csv").write_text("\n".join(rows))
    with pytest.raises(DlkitError, match=r"3 of 5 keypoints of 'val' cannot be used \(60 %\)"):
        read_keypoints(tmp_path, "val", 3)
    samples, ledger = read_keypoints(tmp_path, "val", 3, allowed=1)
    expected = np.array([[[1, 2], [64, 48], [NAN, NAN]], [[NAN, NAN]] * 3])
    found = np.array([sample.points for sample in samples])
    assert np.array_equal(found, expected, equal_nan=True)
    where = f"{tmp_path / 'val.csv'}:3: keypoint"
    assert ledger.places == {
        "keypoints": {
            "keypoint outside its image": [f"{where} 1", f"{where} 3"],
            "keypoint that is not two numbers": [f"{where} 2"],
        },
        "images": {"missing image": [str(tmp_path / "gone.png")]},
    }
    assert (ledger.used["keypoints"], ledger.used["images"]) == (2, 2)
    assert "gone.png" in capsys.readouterr().err
