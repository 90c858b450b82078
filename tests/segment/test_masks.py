"""Masks from polygons, and the classes of the values in masks' files."""

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dlkit.segment.masks import (
    IGNORED,
    BadMask,
    Color,
    MaskFile,
    fill_polygon,
    make_class_table,
)
from tests.conftest import run

TABLE: list[tuple[str, Color | None]] = [
    ("background", (0, 0, 0)), ("cat", (128, 0, 0)), ("dog", (255, 255, 255)),
]  # fmt: skip
NAMES: list[tuple[str, Color | None]] = [(name, None) for name, _ in TABLE]
INDICES = np.array([[0, 1, 2, 0], [2, 1, 0, 0]], np.uint8)


def read(
    image: Image.Image, table: list[tuple[str, Color | None]], folder: Path, suffix: str = "png"
) -> list[list[int]]:
    """The classes of a saved mask."""
    path = folder / f"mask.{suffix}"
    image.save(path)
    found: list[list[int]] = MaskFile(path, make_class_table(table, None, [])).mask().tolist()
    return found


def colored(mode: str) -> Image.Image:
    """INDICES as the colors of TABLE, in a file of that mode."""
    colors = np.array([color for _, color in TABLE], np.uint8)[INDICES]
    if mode == "P":
        # Neither the order nor the number of the palette's colors is that of the classes.
        order = np.array([7, 3, 5], np.uint8)
        image = Image.fromarray(order[INDICES]).convert("P")
        palette = [9] * 768
        for place, (_, color) in zip(order, TABLE, strict=True):
            palette[3 * place : 3 * place + 3] = color or (0, 0, 0)
        image.putpalette(palette)
        return image
    return Image.fromarray(colors).convert(mode)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_colors_of_a_table_decide_in_every_mode(mode: str, tmp_path: Path) -> None:
    assert read(colored(mode), TABLE, tmp_path) == INDICES.tolist()


@pytest.mark.parametrize("mode", ["L", "1", "LA", "RGB", "P"])
def test_white_of_a_table_is_its_class_and_not_ignored(mode: str, tmp_path: Path) -> None:
    table: list[tuple[str, Color | None]] = [("background", None), ("object", (255, 255, 255))]
    values = np.array([[0, 255], [255, 255]], np.uint8)
    for entries in (table, [("background", (0, 0, 0)), table[1]]):
        found = read(Image.fromarray(values).convert(mode), entries, tmp_path)
        assert found == [[0, 1], [1, 1]]
    assert read(Image.fromarray(values), NAMES, tmp_path) == [[0, IGNORED], [IGNORED] * 2]


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P", "I;16"])
@pytest.mark.parametrize("table", [NAMES, TABLE])
def test_indices_in_every_mode(
    mode: str, table: list[tuple[str, Color | None]], tmp_path: Path
) -> None:
    values = np.where(INDICES == 2, 2, INDICES)
    if mode == "I;16":
        image = Image.fromarray(values.astype(np.uint16))
    elif mode == "P":
        image = Image.fromarray(values).convert("P")
    else:
        image = Image.fromarray(values).convert(mode)
    assert read(image, table, tmp_path) == INDICES.tolist()


def test_a_palette_without_the_table_s_colors_is_refused(tmp_path: Path) -> None:
    image = colored("P")
    palette = image.getpalette() or []
    palette[9:12] = [1, 2, 3]
    image.putpalette(palette)
    with pytest.raises(BadMask, match="color 1 2 3"):
        read(image, TABLE, tmp_path)


def test_a_color_of_two_classes_decides_nothing(tmp_path: Path) -> None:
    table: list[tuple[str, Color | None]] = [("car", (0, 0, 142)), ("plate", (0, 0, 142))]
    with pytest.raises(BadMask, match="color 0 0 142"):
        read(Image.new("RGB", (8, 8), (0, 0, 142)), table, tmp_path)
    assert read(Image.new("L", (2, 1), 1), table, tmp_path) == [[1, 1]]


def test_a_mask_in_jpeg_or_that_was_one_is_refused_by_that_reason(tmp_path: Path) -> None:
    with pytest.raises(BadMask, match="JPEG"):
        read(Image.fromarray(INDICES), NAMES, tmp_path, "jpg")
    noise = np.arange(200, dtype=np.uint8).reshape(10, 20)
    with pytest.raises(BadMask, match=r"compression as JPEG: .*value 3 and 196 more"):
        read(Image.fromarray(noise), NAMES, tmp_path)


def write_data(folder: Path, values: list[int], suffix: str = "png") -> None:
    """Two images a split, half of whose masks is 0, the other one of the values."""
    (folder / "images").mkdir(parents=True)
    (folder / "classes.txt").write_text("background\ncat\ndog\n")
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (folder / kind / split).mkdir(parents=True, exist_ok=True)
        for number, value in enumerate(values):
            mask = np.zeros((32, 32), np.uint8)
            mask[16:] = value
            Image.new("RGB", (32, 32), (8 * number, 90, 9)).save(
                folder / "images" / split / f"{number}.png"
            )
            Image.fromarray(mask).save(folder / "masks" / split / f"{number}.{suffix}")


def test_a_class_without_a_pixel_is_named_with_the_ignored_value(tmp_path: Path) -> None:
    write_data(tmp_path / "data", [1, 255, 255], "PNG")
    settings = "--arch unet --backbone none --width-multiplier 0.125 --depth 2 --epochs 1"
    found = run(
        "segment", "train", tmp_path / "data", "--out", tmp_path / "run", *settings.split(),
        "--batch-size", 2, "--workers", 0,
    )  # fmt: skip
    assert found.code == 0
    line = next(line for line in found.err.splitlines() if line.startswith("dog: no pixel"))
    assert "1,024 pixels have the value 255, which is ignored" in line


def test_a_polygon_holds_the_pixels_whose_centers_it_holds() -> None:
    triangle = np.array([[1.0, 1], [7, 1], [1, 7]])
    y, x = np.mgrid[:9, :9] + 0.5
    expected = (x > 1) & (y > 1) & (x + y < 8)
    assert np.array_equal(fill_polygon(triangle, 9, 9), expected)
    assert np.array_equal(fill_polygon(triangle[::-1], 9, 9), expected)


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # pycocotools and numpy 2
def test_polygons_are_nearly_those_of_pycocotools() -> None:
    coco_masks = pytest.importorskip("pycocotools.mask")
    rng = np.random.default_rng(0)
    angles = np.sort(rng.uniform(0, 2 * math.pi, 12))
    radii = rng.uniform(15, 40, 12)
    corners = np.stack([50 + radii * np.cos(angles), 45 + radii * np.sin(angles)], axis=1)
    (code,) = coco_masks.frPyObjects([corners.reshape(-1).tolist()], 90, 100)
    theirs, ours = coco_masks.decode(code).astype(bool), fill_polygon(corners, 90, 100)
    assert (theirs & ours).sum() / (theirs | ours).sum() > 0.95
