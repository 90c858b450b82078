"""Pictures of labels: strips of scores and maps."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dlkit.classify.draw import draw_map, draw_scores
from dlkit.classify.infer import Classification, ClassMap, Prediction
from dlkit.core.io.colors import label_colors
from tests.conftest import run

LABELS = ["cat", "dog", "horse"]
COLORS = label_colors(LABELS)


def gray(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height), (100, 100, 100))


def row_lengths(pixels: np.ndarray, label: str) -> list[int]:
    """How many pixels of each row have a label's color, in rows that have some."""
    counts = (pixels == COLORS[label]).all(axis=2).sum(axis=1)
    return [int(n) for n in counts[counts > 0]]


def test_a_strip_has_a_bar_of_each_score_below_the_image() -> None:
    found = Classification("x.png", [Prediction("dog", 0.8), Prediction("horse", 0.2)])
    drawn = np.array(draw_scores(gray(600, 400), found, LABELS))
    assert (drawn[:400] == 100).all()
    strip = drawn[400:]
    (dog,), (horse,) = set(row_lengths(strip, "dog")), set(row_lengths(strip, "horse"))
    assert dog / horse == pytest.approx(4, rel=0.05)
    assert row_lengths(strip, "cat") == []
    assert (strip < 60).all(axis=2).sum() > 100  # names and scores
    one = draw_scores(gray(600, 400), Classification("x.png", found.labels[:1]), LABELS)
    assert 400 < one.height < len(drawn)


def test_small_images_are_enlarged_pixel_by_pixel() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    found = Classification("x.png", [Prediction("a label longer than the picture is wide", 1.0)])
    drawn = np.array(draw_scores(Image.fromarray(pixels), found, [found.labels[0].label]))
    assert (drawn[4:256:8, 4:256:8] == pixels).all()


def test_an_image_without_labels_says_so() -> None:
    drawn = draw_scores(gray(300, 200), Classification("x.png", []), LABELS)
    assert (np.array(drawn)[200:] < 200).any()


def test_a_map_colors_each_pixel_by_the_nearest_place() -> None:
    # Places at x = 40, 120, 200 and y = 50, 150 of an image of 240 x 200.
    found = ClassMap(
        "x.png",
        [40.0, 120.0, 200.0],
        [50.0, 150.0],
        [["cat", "cat", "dog"], ["cat", "dog", "dog"]],
        [[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]],
    )
    drawn = np.array(draw_map(gray(240, 200), found, LABELS))
    assert len(drawn) > 200  # a legend
    shades = {label: 0.4 * 100 + 0.6 * np.array(COLORS[label]) for label in LABELS}
    for (x, y), label in {
        (79, 99): "cat",
        (81, 99): "cat",
        (161, 10): "dog",
        (81, 101): "dog",
    }.items():
        assert np.abs(drawn[y, x] - shades[label]).max() <= 1
    assert (drawn[150, 200] == 100).all()  # nothing is certain there
    assert row_lengths(drawn[200:], "dog")
    assert not row_lengths(drawn[200:], "horse")


def test_saved_pictures_change_no_output(stripes: Path, model: Path, tmp_path: Path) -> None:
    folder = stripes / "test" / "blue"
    plain = run("classify", folder, "-m", model)
    saved = run("classify", folder, "-m", model, "--save", tmp_path / "out")
    assert saved.out == plain.out
    assert {p.name for p in (tmp_path / "out").iterdir()} == {p.name for p in folder.iterdir()}
    dense = ("classify", folder, "-m", model, "--dense", "--image-size", 64)
    assert run(*dense, "--save", tmp_path / "maps").out == run(*dense).out
    assert len(list((tmp_path / "maps").iterdir())) == 4


def test_pictures_of_one_name_are_kept_apart_when_resumed(
    stripes: Path, model: Path, tmp_path: Path
) -> None:
    inputs = sorted(stripes.glob("test/*/*.png"))
    assert len({path.name for path in inputs}) < len(inputs)
    command = ("classify", *inputs, "-m", model, "--save", tmp_path / "out")
    records = tmp_path / "out.jsonl"
    assert run(*command, "-o", records).code == 0
    before = {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()}
    assert len(before) == len(inputs)
    lines = records.read_text().splitlines(keepends=True)
    records.unlink()
    Path(f"{records}.partial").write_text("".join(lines[:2]))
    assert run(*command, "-o", records, "--resume").code == 0
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == before


@pytest.mark.parametrize("option", [("--save", "out"), ("--dense",)])
def test_texts_have_no_pictures(option: tuple[str, ...], words: Path) -> None:
    done = run("classify", "-m", words, "--text", "ice", *option)
    assert done.code == 2
    assert done.err.startswith(f"dlkit: {option[0]}: ")


def test_inputs_are_not_overwritten(stripes: Path, model: Path) -> None:
    folder = stripes / "test" / "blue"
    done = run("classify", folder, "-m", model, "--save", folder)
    assert done.code == 2
    assert "the folder holds inputs" in done.err
