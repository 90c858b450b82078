"""Figures: names as they are, bounded sizes, and nothing that ends a command."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dlkit.core.io import plots
from dlkit.core.io.files import draw_beside, draw_in_training

NAMES = ["a$b", "$x_1$", r"$\frac$", "_c", "d" * 3000, "e\nf"]


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def test_names_are_no_formulas(tmp_path: Path) -> None:
    square = np.ones((len(NAMES), len(NAMES)))
    plots.heat_map(square, NAMES, NAMES, "counts", tmp_path / "a.png")
    plots.attention(square, NAMES, NAMES, "y", "x", tmp_path / "b.png")
    line = np.linspace(0, 1, 3)
    plots.lines(dict.fromkeys(NAMES, (line, line)), "x", "y", "title", tmp_path / "c.png")
    assert all(max(size(tmp_path / f"{name}.png")) < 2000 for name in "abc")


def test_many_labels_do_not_enlarge_a_confusion_matrix(tmp_path: Path) -> None:
    sizes = set()
    for count in (40, 90):
        names = [f"label {n}" for n in range(count)]
        plots.heat_map(np.eye(count), names, names, "counts", tmp_path / "a.png")
        sizes.add(size(tmp_path / "a.png"))
    assert len(sizes) == 1


def test_a_picture_beside_results_never_ends_a_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def draw(path: Path) -> None:
        raise ValueError("y1 must be greater than or equal to y0")

    (failure,) = draw_beside(tmp_path / "a.png", draw, tmp_path / "a.png")
    assert failure.path == str(tmp_path / "a.png")
    assert failure.error == "could not be drawn (y1 must be greater than or equal to y0)"
    draw_in_training(tmp_path / "a.png", draw, tmp_path / "a.png")
    assert capsys.readouterr().err == f"{failure.path}: {failure.error}\n"
    assert list(draw_beside(tmp_path / "b.png", Path.touch, tmp_path / "b.png")) == []
