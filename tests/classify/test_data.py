"""Preprocessing chosen from the data."""

from pathlib import Path

from PIL import Image

from dlkit.core.store import checkpoint
from tests.classify.helpers import TINY, trained, write_folders
from tests.conftest import run


def test_gray_data_trains_a_gray_network(tmp_path: Path) -> None:
    data = write_folders(tmp_path / "data", {"train": 4, "val": 2})
    for path in data.rglob("*.png"):
        with Image.open(path) as image:
            gray = image.convert("L")
        gray.save(path)
    best = trained(data, tmp_path / "run", *TINY, "--epochs", 1)
    header = checkpoint.read_header(best)
    assert header.settings["preprocessing"]["channels"] == 1
    assert header.config["flip"] == 0.0
    assert run("classify", data / "val", "-m", best).code == 0
