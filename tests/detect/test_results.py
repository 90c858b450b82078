"""Crops of objects."""

from pathlib import Path

from PIL import Image

from dlkit.detect.infer import Object
from dlkit.detect.results import Crops


def test_no_label_leads_out_of_the_folder(tmp_path: Path) -> None:
    crops = Crops(tmp_path / "out")
    for label in ("../../up", "..", "/etc", "a\\b", ""):
        crops.save(Image.new("RGB", (20, 20)), [Object(label, 1.0, 20.0, 0.0, 20.0, 0.2)], "x.png")
    assert len(list((tmp_path / "out").glob("*/x*.png"))) == 5
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
