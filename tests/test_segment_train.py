"""Masks are read alike in every layout, bad ones are named, pixels move with their masks, the
losses are those of the papers, and training learns, and resumes exactly.
"""

import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from dlkit.classify import backbones
from dlkit.core.failures import Skipped
from dlkit.core.store import checkpoint
from dlkit.segment.architecture import TrainingBatch
from dlkit.segment.augment import warp
from dlkit.segment.config import SegmentTrainConfig
from dlkit.segment.data import (
    SegmentationDataset,
    border_map,
    class_weights,
    collate,
    number_objects,
)
from dlkit.segment.layouts import AnnotatedImage, read_split
from dlkit.segment.losses.instance import instance_loss
from dlkit.segment.losses.semantic import (
    as_single_pixels,
    dice_loss,
    pixel_loss,
    random_pixels,
    segmentation_loss,
)
from dlkit.segment.masks import IGNORED, MaskFile, ObjectMask, fill_polygon, make_class_table
from tests.conftest import assert_killed_ends_as_whole, run

NAMES = ["background", "disc", "square"]
COLORS = [(0, 0, 0), (60, 120, 255), (255, 60, 40)]
SPLITS = {"train": [0, 1, 2, 3], "val": [4, 5]}
HEIGHT, WIDTH = 48, 64


def scene(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An image (H, W, 3), its mask and the numbers of its objects (H, W): a disc and a square."""
    rng = np.random.default_rng(seed)
    mask, numbers = np.zeros((2, HEIGHT, WIDTH), np.uint8)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    for label, left in ((1, 0), (2, WIDTH // 2)):
        radius = int(rng.integers(8, 13))
        middle_y, middle_x = int(rng.integers(14, HEIGHT - 14)), left + int(rng.integers(14, 18))
        inside = (
            (y - middle_y) ** 2 + (x - middle_x) ** 2 <= radius**2
            if label == 1
            else (abs(y - middle_y) < radius) & (abs(x - middle_x) < radius)
        )
        mask[inside] = label
        numbers[inside] = label
    noise = rng.integers(0, 40, (HEIGHT, WIDTH, 3))
    return (np.array(COLORS)[mask] * 0.8 + noise).astype(np.uint8), mask, numbers


# ---- writing the layouts -------------------------------------------------------------------------


def write(path: Path, content: str | Image.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, str):
        path.write_text(content)
    else:
        content.save(path)


def picture(values: np.ndarray, palette: bool = False) -> Image.Image:
    image = Image.fromarray(values)
    if palette:
        image = image.convert("P")
        image.putdata(values.reshape(-1).tolist())
        image.putpalette([number for color in COLORS for number in color])
    return image


def folders(root: Path, kind: str = "index", beside: bool = False) -> Path:
    """images/SPLIT/ and masks/SPLIT/, or with `beside` SPLIT/images/ and SPLIT/masks/."""
    colored = kind == "color"
    write(
        root / "classes.txt",
        "".join(
            f"{name} {r} {g} {b}\n" if colored else f"{name}\n"
            for name, (r, g, b) in zip(NAMES, COLORS, strict=True)
        ),
    )
    for split, seeds in SPLITS.items():
        for seed in seeds:
            image, mask, numbers = scene(seed)
            truth = np.array(COLORS, np.uint8)[mask] if colored else mask
            parts = {"images": image, "masks": truth, "instances": numbers}
            for part, values in parts.items():
                place = root / split / part if beside else root / part / split
                write(place / f"{seed}.png", picture(values, kind == "palette" and part == "masks"))
    return root


def voc(root: Path) -> Path:
    write(root / "classes.txt", "\n".join(NAMES))
    for split, seeds in SPLITS.items():
        write(root / f"ImageSets/Segmentation/{split}.txt", "".join(f"{s}\n" for s in seeds))
        for seed in seeds:
            image, mask, numbers = scene(seed)
            write(root / f"JPEGImages/{seed}.png", picture(image))
            write(root / f"SegmentationClass/{seed}.png", picture(mask, palette=True))
            write(root / f"SegmentationObject/{seed}.png", picture(numbers))
    return root


def camvid(root: Path, listed: bool = True) -> Path:
    write(root / "classes.txt", "\n".join(NAMES))
    for split, seeds in SPLITS.items():
        for seed in seeds:
            image, mask, _ = scene(seed)
            write(root / split / f"{seed}.png", picture(image))
            write(root / f"{split}annot/{seed}.png", picture(mask))
        if listed:
            lines = (f"/SegNet/CamVid/{split}/{s}.png {split}annot/{s}.png\n" for s in seeds)
            write(root / f"{split}.txt", "".join(lines))
    return root


def coco(root: Path) -> Path:
    """The disc as run lengths, the square as a polygon."""
    for split, seeds in SPLITS.items():
        content: dict[str, list[dict[str, Any]]] = {
            "categories": [{"id": 5, "name": "disc"}, {"id": 9, "name": "square"}],
            "images": [],
            "annotations": [],
        }
        for seed in seeds:
            image, mask, _ = scene(seed)
            write(root / f"{split}2017/{seed}.png", picture(image))
            content["images"].append(
                {"id": seed, "file_name": f"{seed}.png", "width": WIDTH, "height": HEIGHT}
            )
            flat = (mask == 1).T.reshape(-1).astype(int)
            changes = [0, *(np.flatnonzero(np.diff(flat)) + 1).tolist(), flat.size]
            rows, columns = np.nonzero(mask == 2)
            x1, y1, x2, y2 = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
            polygon = [int(v) for v in (x1, y1, x2, y1, x2, y2, x1, y2)]
            forms: list[Any] = [
                {"size": [HEIGHT, WIDTH], "counts": np.diff(changes).tolist()},
                [polygon],
            ]
            for number, (category, form) in enumerate(zip((5, 9), forms, strict=True)):
                content["annotations"].append(
                    {
                        "id": 2 * seed + number,
                        "image_id": seed,
                        "category_id": category,
                        "segmentation": form,
                    }
                )
        write(root / f"annotations/instances_{split}2017.json", json.dumps(content))
    return root


LAYOUTS: dict[str, Callable[[Path], Path]] = {
    "index masks": folders,
    "palette masks": lambda root: folders(root, "palette"),
    "color masks": lambda root: folders(root, "color", beside=True),
    "voc": voc,
    "camvid": camvid,
    "camvid without lists": lambda root: camvid(root, listed=False),
    "coco": coco,
}


# ---- layouts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_masks(
    layout: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = LAYOUTS[layout](tmp_path / "data")
    for split, seeds in SPLITS.items():
        read = read_split(root, split)
        assert read.labels == NAMES
        assert [sample.path.name for sample in read.samples] == [f"{seed}.png" for seed in seeds]
        for sample, seed in zip(read.samples, seeds, strict=True):
            mask = scene(seed)[1]
            assert np.array_equal(sample.truth.mask(), mask)
            assert sample.pixels.tolist() == np.bincount(mask.reshape(-1), minlength=3).tolist()
            assert (sample.width, sample.height) == (WIDTH, HEIGHT)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("layout", ["index masks", "color masks", "voc", "coco"])
def test_objects_have_a_class_and_a_mask(layout: str, tmp_path: Path) -> None:
    read = read_split(LAYOUTS[layout](tmp_path / "data"), "val", instances=True)
    assert read.labels == ["disc", "square"]
    for sample, seed in zip(read.samples, SPLITS["val"], strict=True):
        found = sample.truth.objects()
        assert sorted(o.label for o in found) == [0, 1]
        for thing in found:
            expected = scene(seed)[1] == thing.label + 1
            assert np.array_equal(thing.mask, expected)
            assert thing.area == expected.sum()
            assert not thing.crowd


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


def test_labels_given_fix_the_order_and_the_rest_is_ignored(tmp_path: Path) -> None:
    read = read_split(camvid(tmp_path), "val", ["square", "cat", "background"])
    mask = scene(4)[1]
    expected = np.array([2, IGNORED, 0])[mask]
    assert np.array_equal(read.samples[0].truth.mask(), expected)


def test_pixels_of_no_class(tmp_path: Path) -> None:
    """255 anywhere, void by name, and CamVid's index after the last class."""
    camvid(tmp_path)
    write(tmp_path / "classes.txt", "background\nvoid\nsquare\n")
    values = scene(4)[1]
    values[0, :2] = 255, 3
    write(tmp_path / "valannot/4.png", picture(values))
    read = read_split(tmp_path, "val")
    assert read.labels == ["background", "square"]
    mask = read.samples[0].truth.mask()
    assert mask[0, :2].tolist() == [IGNORED, IGNORED]
    expected = np.array([0, IGNORED, 1], np.uint8)[scene(4)[1]]
    assert np.array_equal(mask[1:], expected[1:])


def bad_masks(root: Path) -> list[str]:
    """A good image and bad ones; returns what is said of each."""
    folders(root)
    mask = scene(0)[1]
    masks, images = root / "masks/train", root / "images/train"
    write(masks / "1.png", picture(mask[:-1]))
    write(masks / "2.png", picture(np.where(mask == 1, 77, mask).astype(np.uint8)))
    write(masks / "3.png", picture(np.array(COLORS, np.uint8)[mask]))
    for name in ("alone", "broken"):
        write(images / f"{name}.png", picture(scene(0)[0]))
    write(masks / "broken.png", "text")
    write(masks / "nobody.png", picture(mask))
    write(images / "torn.png", "text")
    write(masks / "torn.png", picture(mask))
    return [
        f"mask of another size: {masks / '1.png'} (64 x 47, its image 64 x 48)",
        f"mask with an unknown value: {masks / '2.png'} (77)",
        f"color mask without a color table in classes.txt: {masks / '3.png'}",
        f"image without a mask: {images / 'alone.png'}",
        f"unreadable mask: {masks / 'broken.png'}",
        f"mask without an image: {masks / 'nobody.png'}",
        f"unreadable image: {images / 'torn.png'}",
    ]


def test_bad_masks_are_named_and_skipped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = bad_masks(tmp_path)
    read = read_split(tmp_path, "train")
    assert [sample.path.name for sample in read.samples] == ["0.png"]
    said = sorted(capsys.readouterr().err.splitlines())
    assert said == sorted(f"skipped 1 x {line}" for line in expected)


@pytest.mark.parametrize(
    "form",
    [
        [[1, 1, 5]],
        [[float("nan"), 1, 5, 1, 5, 5]],
        ["corners"],
        {"size": [2, 2], "counts": [4]},
        {"size": [HEIGHT, WIDTH], "counts": [7]},
        {"counts": "?"},
    ],
)
def test_bad_segmentations_of_coco_are_named(
    form: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = coco(tmp_path) / "annotations/instances_train2017.json"
    content = json.loads(file.read_text())
    content["annotations"][0]["segmentation"] = form
    file.write_text(json.dumps(content))
    assert [s.path.name for s in read_split(tmp_path, "train").samples] == [
        "1.png", "2.png", "3.png",
    ]  # fmt: skip
    assert capsys.readouterr().err == "skipped 1 x bad segmentation: annotation 0\n"


def test_masks_of_more_than_eight_bits(tmp_path: Path) -> None:
    root = folders(tmp_path)
    mask = scene(0)[1].astype(np.int32)
    write(root / "masks/train/0.png", Image.fromarray(mask.astype(np.uint16)))
    assert np.array_equal(read_split(root, "train").samples[0].truth.mask(), mask)
    (root / "masks/train/0.png").unlink()
    mask[0, 0] = -1
    write(root / "masks/train/0.tif", Image.fromarray(mask))
    names = [sample.path.name for sample in read_split(root, "train").samples]
    assert names == ["1.png", "2.png", "3.png"]


def color_of_no_class(root: Path) -> None:
    folders(root, "color")
    values = np.array(COLORS, np.uint8)[scene(0)[1]]
    values[0, 0] = 1, 2, 3
    for seed in SPLITS["train"]:
        write(root / f"masks/train/{seed}.png", picture(values))


def no_masks(root: Path) -> None:
    folders(root)
    for path in (root / "masks/train").iterdir():
        path.unlink()


def colors_without_table(root: Path) -> None:
    folders(root, "color")
    write(root / "classes.txt", "\n".join(NAMES))


def one_class(root: Path) -> None:
    folders(root)
    for path in (root / "masks/train").iterdir():
        write(path, picture(np.ones((HEIGHT, WIDTH), np.uint8)))


def damaged_coco(root: Path) -> None:
    write(root / "annotations/instances_train.json", '{"images": []}')


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (color_of_no_class, "mask with an unknown value"),
        (no_masks, "no image of 'train' has a usable mask: image without a mask"),
        (colors_without_table, "color mask without a color table in classes.txt"),
        (one_class, "the training masks contain a single class (disc)"),
        (damaged_coco, "not a COCO file (KeyError: 'categories')"),
        (lambda root: write(root / "a.txt", ""), "no masks in a known layout"),
        (lambda root: write(root / "images/train/a.txt", ""), "no masks in a known layout"),
        (lambda root: (root / "masks").mkdir(parents=True), "classes.txt: no such file"),
        (lambda root: write(folders(root) / "classes.txt", "a\nb\na\n"), "a is listed twice"),
        (lambda root: write(folders(root) / "classes.txt", "a 1 2 300\n"), "classes.txt:1"),
    ],
)
def test_data_that_cannot_be_used_is_one_line(
    make: Callable[[Path], object], message: str, tmp_path: Path
) -> None:
    make(tmp_path / "data")
    done = run("segment", "train", tmp_path / "data", "--out", tmp_path / "run", "--device", "cpu")
    assert done.code == 2
    last = done.err.strip().splitlines()[-1]
    assert last.startswith("dlkit: ")
    assert message in last
    assert "Traceback" not in done.err


# ---- augmentation --------------------------------------------------------------------------------

STILL: dict[str, Any] = {"flip": 0.0, "zoom": 1.0, "color_jitter": 0.0}


def settings(**changes: Any) -> SegmentTrainConfig:
    return SegmentTrainConfig(data=Path("data"), **{**STILL, **changes})


def tensors(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    image, mask, numbers = scene(seed)
    return torch.from_numpy(image).permute(2, 0, 1), torch.from_numpy(np.stack([mask, numbers]))


@pytest.mark.parametrize(
    ("changes", "dims"),
    [({}, []), ({"flip": 1.0}, [-1]), ({"flip_vertical": 1.0}, [-2])],
)
def test_mirroring_is_exact(changes: dict[str, Any], dims: list[int]) -> None:
    image, indices = tensors()
    same = warp(image, indices, (HEIGHT, WIDTH), settings(**changes))
    assert torch.equal(same[0], image.flip(dims))
    assert torch.equal(same[1], indices.flip(dims))


def test_a_crop_is_a_part_of_the_image() -> None:
    """Positions are not whole pixels; masks, taken from the nearest, are some part exactly."""
    random.seed(3)
    image, indices = tensors()
    _, part = warp(image, indices, (20, 24), settings())
    windows = indices[0].unfold(0, 20, 1).unfold(1, 24, 1)
    assert (windows == part[0]).flatten(2).all(dim=-1).any()


@pytest.mark.parametrize(
    "changes",
    [{"zoom": 2.0}, {"rotate": 180.0}, {"elastic": 4.0}, {"zoom": 1.5, "rotate": 30.0}],
)
def test_masks_move_with_their_pixels(changes: dict[str, Any]) -> None:
    """In an image painted by its mask, the moved image still tells the moved mask."""
    random.seed(0)
    torch.manual_seed(0)
    _, indices = tensors()
    image = (100 * indices[:1]).expand(3, -1, -1)
    for _ in range(5):
        pixels, found = warp(image, indices, (HEIGHT, WIDTH), settings(**changes))
        counted = found[0] != IGNORED
        told = (pixels[0].float() / 100).round()
        # Both interpolations round differently at the objects' borders.
        assert (told == found[0])[counted].float().mean() > 0.93
        assert set(found[1][~counted].tolist()) <= {0}
        assert counted.float().mean() > 0.2


def test_rotation_keeps_shapes() -> None:
    """A square picture content stays square: a disc's area and extent are the same at any angle."""
    y, x = torch.meshgrid(torch.arange(40), torch.arange(80), indexing="ij")
    disc = (((y - 19.5) ** 2 + (x - 39.5) ** 2) < 15**2).to(torch.uint8)[None]
    for seed in range(5):
        random.seed(seed)
        _, found = warp(disc.expand(3, -1, -1), disc, (40, 80), settings(rotate=180.0))
        different = (found[0] == 1) != (disc[0] == 1)
        assert different.float().mean() < 0.01


def test_a_batch_pads_with_pixels_that_do_not_count(tmp_path: Path) -> None:
    root = folders(tmp_path)
    write(root / "images/train/1.png", picture(scene(1)[0][:30]))
    write(root / "masks/train/1.png", picture(scene(1)[1][:30]))
    pictures = SegmentationDataset(
        read_split(root, "train").samples, settings(), objects=False, skipped=Skipped()
    )
    images, indices, labels = collate([pictures[0], pictures[1], None])
    assert images.shape == (2, 3, HEIGHT, WIDTH)
    assert (indices[1, 0, 30:] == IGNORED).all()
    assert not (indices[:, 0] == IGNORED)[:, :30].any()
    assert labels.shape == (2, 0)


def test_smaller_images_have_smaller_masks(tmp_path: Path) -> None:
    samples = read_split(folders(tmp_path), "train").samples
    example = SegmentationDataset(
        samples, settings(image_size=32), objects=True, skipped=Skipped()
    )[0]
    assert example is not None
    assert example.image.shape == (3, 24, 32)
    assert torch.equal(example.indices[0], torch.from_numpy(scene(0)[1][1::2, 1::2].copy()))
    # Object 1 is the larger one.
    areas = np.bincount(scene(0)[1].reshape(-1))[1:]
    assert example.labels.tolist() == [1 + int(areas.argmax()), 1 + int(areas.argmin())]


# ---- weights -------------------------------------------------------------------------------------


def test_border_weights_are_those_of_brute_force() -> None:
    """Equation 2 of Ronneberger et al. 2015, with the distance to every pixel of every object."""
    rng = np.random.default_rng(0)
    numbers = np.zeros((40, 50), np.uint8)
    for number in range(1, 5):
        y, x = rng.integers(0, 32), rng.integers(0, 42)
        numbers[y : y + 8, x : x + 8] = number
    sigma = 4.0
    own = [np.argwhere(numbers == n) for n in np.unique(numbers) if n]
    expected = np.zeros(numbers.shape)
    for place in np.argwhere(numbers == 0):
        nearest = sorted(np.sqrt(((points - place) ** 2).sum(axis=1)).min() for points in own)
        expected[tuple(place)] = math.exp(-((nearest[0] + nearest[1]) ** 2) / (2 * sigma**2))
    found = border_map(numbers, sigma) / 255
    assert expected.max() > 0.3
    assert np.abs(found - expected).max() <= 0.5 / 255 + 1e-9


def test_one_object_has_no_border() -> None:
    numbers = np.zeros((9, 9), np.uint8)
    numbers[3:6, 3:6] = 1
    assert not border_map(numbers, 5.0).any()
    assert not border_map(np.zeros_like(numbers), 5.0).any()


def test_objects_are_numbered_the_smaller_in_front() -> None:
    large, small, crowd = np.zeros((3, 4, 4), bool)
    large[:3], small[2:], crowd[:] = True, True, True
    objects = [
        ObjectMask(7, small, 8.0),
        ObjectMask(5, large, 12.0),
        ObjectMask(1, crowd, 16.0, crowd=True),
    ]
    numbers, labels = number_objects(objects, (4, 4))
    assert labels.tolist() == [5, 7]
    assert numbers[:, 0].tolist() == [1, 1, 2, 2]


def sample_of(*pixels: int) -> AnnotatedImage:
    truth = MaskFile(Path("mask.png"), make_class_table([], None, []))
    return AnnotatedImage(Path("image.png"), 10, 10, truth, np.array(pixels))


def test_class_weights_by_hand() -> None:
    samples = [sample_of(60, 40, 0), sample_of(80, 0, 0), sample_of(60, 20, 0)]
    # Class 0 is 200 of 260 pixels, class 1 60 of them; both weigh the same in all.
    inverse = class_weights(samples, "inverse")
    assert inverse.tolist() == pytest.approx([260 / 400, 260 / 120, 0], rel=1e-5)
    # In the images that have it, class 1 is 60 of 180 pixels; 0 is 200 of 260.
    median = class_weights(samples, "median")
    assert median[1] / median[0] == pytest.approx((200 / 260) / (60 / 180), rel=1e-5)
    assert float((median * torch.tensor([200, 60, 0])).sum()) == pytest.approx(260, rel=1e-5)


# ---- losses --------------------------------------------------------------------------------------


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 6, 8, generator=generator)
    mask = torch.randint(0, 3, (2, 6, 8), generator=generator)
    mask[0, :2] = IGNORED
    return logits, mask


def test_cross_entropy_leaves_out_ignored_pixels() -> None:
    logits, mask = batch()
    flat, goals = logits.movedim(1, -1)[mask != IGNORED], mask[mask != IGNORED]
    expected = -flat.log_softmax(dim=-1).gather(1, goals[:, None]).mean()
    assert torch.allclose(segmentation_loss(logits, mask, settings()), expected)
    weights = torch.tensor([0.2, 1.0, 5.0])
    weighted = segmentation_loss(logits, mask, settings(), weights)
    theirs = F.cross_entropy(logits, mask, weights, ignore_index=IGNORED)
    assert torch.allclose(weighted, theirs)
    nothing = torch.full_like(mask, IGNORED)
    for loss in ("cross-entropy", "focal", "cross-entropy+dice"):
        assert segmentation_loss(logits, nothing, settings(loss=loss), weights) == 0


def test_focal_loss_is_torchvisions_for_two_classes() -> None:
    logits, mask = batch()
    logits, mask = logits[:, :2], mask.clamp(max=1)
    odds = logits[:, 1] - logits[:, 0]
    expected = sigmoid_focal_loss(odds, mask.float(), alpha=-1, gamma=2.5, reduction="mean")
    assert torch.allclose(pixel_loss(logits, mask, 2.5, None), expected, atol=1e-6)


def test_dice_loss_by_hand() -> None:
    """Two pixels of class 0 and one of class 1, all at even odds; class 2 is not in the truth."""
    logits = torch.tensor([0.0, 0.0, -100.0]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    mask = torch.tensor([[[0, 0], [1, IGNORED]]])
    # 2 * 1 / (2 + 1.5) and 2 * 0.5 / (1 + 1.5).
    expected = 1 - (2 / 3.5 + 1 / 2.5) / 2
    assert float(dice_loss(logits, mask)) == pytest.approx(expected, rel=1e-5)
    sure = F.one_hot(mask.clamp(max=2), 3).movedim(-1, 1) * 100.0
    assert float(dice_loss(sure, mask)) == pytest.approx(0, abs=1e-5)


def test_the_border_adds_to_the_weight_of_a_class() -> None:
    logits, mask = batch()
    config = settings(border_weight=10.0)
    border = torch.rand(mask.shape)
    class_weight = torch.tensor([0.2, 1.0, 5.0])
    losses = F.cross_entropy(logits, mask, ignore_index=IGNORED, reduction="none")
    weights = (class_weight[mask.clamp(max=2)] + 10 * border) * (mask != IGNORED)
    expected = (losses * weights).sum() / weights.sum()
    assert torch.allclose(segmentation_loss(logits, mask, config, class_weight, border), expected)


def test_a_random_part_of_the_pixels_has_the_same_mean_loss() -> None:
    torch.manual_seed(0)
    logits, mask = batch()
    whole = segmentation_loss(logits, mask, settings())
    parts = [float(segmentation_loss(logits, mask, settings(loss_share=0.3))) for _ in range(400)]
    assert len(set(parts)) > 100
    assert np.mean(parts) == pytest.approx(float(whole), rel=0.03)


def test_places_are_of_pixels_with_a_class() -> None:
    logits, mask = batch()
    mask[1] = IGNORED
    places = random_pixels(mask, 200)
    assert places.shape == (400, 3)
    assert len({tuple(place) for place in places.tolist()}) > 30
    image, row, column = places.unbind(1)
    _, pixels = as_single_pixels(logits[image, :, row, column], mask, places)
    assert (pixels[:200] != IGNORED).all()
    # The image without a class leaves the loss of the other as it is.
    both = segmentation_loss(logits[image, :, row, column][..., None, None], pixels, settings())
    assert torch.isfinite(both)


def test_targets_of_objects_are_torchvisions() -> None:
    numbers = torch.zeros(2, 10, 12, dtype=torch.uint8)
    numbers[0, 2:5, 3:9] = 1
    numbers[0, 7, 0] = 3  # nothing is left of the second
    seen: list[Any] = []

    class Network(torch.nn.Module):
        def forward(self, images: Any, targets: Any) -> dict[str, torch.Tensor]:
            seen.append((images, targets))
            return {"a": torch.tensor(1.0), "b": torch.tensor(2.5)}

    images = torch.full((2, 3, 10, 12), 1.0)
    labels = torch.tensor([[4, 0, 6], [-1, -1, -1]])
    batch = TrainingBatch(images, torch.zeros_like(numbers), numbers, labels, None)
    assert instance_loss(Network(), batch, settings()) == 3.5
    ((inputs, (first, second)),) = seen
    assert len(inputs) == 2
    assert float(inputs[0].max()) == 1
    assert first["boxes"].tolist() == [[3, 2, 9, 5], [0, 7, 1, 8]]
    assert first["labels"].tolist() == [5, 7]
    assert first["masks"].sum(dim=(1, 2)).tolist() == [18, 1]
    assert second["boxes"].shape == (0, 4)


# ---- training ------------------------------------------------------------------------------------

SMALL = [
    "--width-multiplier", "0.125", "--depth", "2", "--batch-size", "4", "--workers", "0",
    "--device", "cpu", "--precision", "fp32",
]  # fmt: skip


def test_a_unet_learns_discs_and_squares(tmp_path: Path) -> None:
    root = folders(tmp_path / "data")
    done = run(
        "segment", "train", root, "--out", tmp_path / "run", *SMALL, "--epochs", 12, "--lr", 0.01,
        "--batch-size", 1, "--zoom", 1.1, "--rotate", 5, "--class-weights", "median",
    )  # fmt: skip
    assert done.code == 0, done.err
    records = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert records[-1]["mean_iou"] > 0.55
    assert records[-1]["score"] == records[-1]["mean_iou"]
    assert records[-1]["loss"] < 0.5 * records[0]["loss"]
    header = checkpoint.read_header(Path(done.out.strip()))
    assert header.labels == NAMES
    assert header.settings == {"width_multiplier": 0.125, "depth": 2}
    assert (tmp_path / "run/examples.png").exists()


@pytest.mark.parametrize(
    "options",
    [
        "--loss dice --ema 0.9",
        "--loss focal --focal-gamma 1 --class-weights inverse --border-weight 10 --border-sigma 3",
        "--loss cross-entropy+dice --loss-share 0.5 --crop 32 --elastic 3",
        "--padding valid --image-size 48",
    ],
)
def test_one_epoch_with_every_option(options: str, tmp_path: Path) -> None:
    done = run(
        "segment", "train", voc(tmp_path / "data"), "--out", tmp_path / "run", *SMALL,
        "--epochs", 1, *options.split(),
    )  # fmt: skip
    assert done.code == 0, done.err
    record = json.loads((tmp_path / "run/log.jsonl").read_text())
    assert math.isfinite(record["loss"])
    assert 0 <= record["score"] <= 1


def test_a_border_map_needs_masks_of_objects(tmp_path: Path) -> None:
    done = run(
        "segment", "train", camvid(tmp_path), "--out", tmp_path / "run", "--border-weight", 5
    )
    assert done.code == 2
    assert "no object mask" in done.err.splitlines()[-1]


NARROW = ["--width-multiplier", "0.05", "--crop", "32", "--batch-size", "2"]


@pytest.mark.parametrize(
    ("arch", "options"),
    [
        ("fcn8s", NARROW),
        ("segnet", NARROW),
        ("dilated", NARROW),
        ("patch", [*NARROW, "--places", "8", "--step", "16"]),
        ("shift-and-stitch", [*NARROW, "--step", "16"]),
        ("lraspp", ["--crop", "32", "--batch-size", "2"]),
        ("maskrcnn", ["--task", "instance", "--backbone", "mobilenet", "--image-size", "32"]),
    ],
)
def test_every_kind_of_architecture_trains(arch: str, options: list[str], tmp_path: Path) -> None:
    done = run(
        "segment", "train", voc(tmp_path / "data"), "--out", tmp_path / "run", "--arch", arch,
        *options, "--epochs", 1, "--workers", 0, "--device", "cpu", "--precision", "fp32",
    )  # fmt: skip
    assert done.code == 0, done.err
    record = json.loads((tmp_path / "run/log.jsonl").read_text())
    assert math.isfinite(record["loss"])
    labels = NAMES[1:] if arch == "maskrcnn" else NAMES
    assert checkpoint.read_header(Path(done.out.strip())).labels == labels


def test_16s_starts_as_the_32s_it_takes_over(tmp_path: Path) -> None:
    root = folders(tmp_path / "data")
    fixed = [*NARROW, "--epochs", 1, "--workers", 0, "--device", "cpu"]
    coarse = run(
        "segment", "train", root, "--out", tmp_path / "32s", "--arch", "fcn32s", *fixed
    ).out.strip()
    done = run(
        "segment", "train", root, "--out", tmp_path / "16s", "--arch", "fcn16s", *fixed,
        "--init-from", coarse, "--lr", 0,
    )  # fmt: skip
    assert done.code == 0, done.err
    _, before = checkpoint.load(Path(coarse))
    _, after = checkpoint.load(Path(done.out.strip()))
    same = [name for name in before if name in after and name.endswith("weight")]
    assert len(same) > 10
    assert all(torch.equal(before[name], after[name]) for name in same)


def test_a_unet_starts_from_the_backbone_or_only_from_its_form(tmp_path: Path) -> None:
    root = folders(tmp_path / "data")

    def first_weights(out: str, *options: str) -> torch.Tensor:
        # At this learning rate nothing moves.
        done = run(
            "segment", "train", root, "--out", tmp_path / out, "--epochs", 1, "--lr", 0,
            "--workers", 0, "--device", "cpu", *options,
        )  # fmt: skip
        assert done.code == 0, done.err
        _, weights = checkpoint.load(Path(done.out.strip()))
        return weights["backbone.stages.0.0.weight"]

    trained = backbones.load("caltech101")[0].state_dict()["stages.0.0.weight"]
    assert torch.equal(first_weights("default"), trained)
    assert not torch.equal(first_weights("form", "--no-pretrained-backbone"), trained)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--task instance", "--arch maskrcnn"),
        ("--arch maskrcnn", "--task instance"),
        ("--focal-gamma 1", "--loss focal"),
        ("--border-sigma 3", "--border-weight"),
        ("--loss dice --class-weights median", "not dice"),
        ("--task instance --arch maskrcnn --loss dice", "--loss is for fcn32s"),
        ("--no-pretrained-backbone --width-multiplier 0.5", "--backbone"),
        ("--backbone none --no-pretrained-backbone", "--backbone"),
        ("--backbone caltech101 --depth 3", "depth"),
        ("--backbone digits", "1-channel"),
        ("--window 32", "window"),
        ("--places 9", "--places is for patch, not unet"),
        ("--arch patch --window 16", "window"),
        ("--arch patch --loss-share 0.5", "not patch"),
        ("--arch lraspp --backbone caltech101", "backbone"),
    ],
)
def test_options_that_do_not_go_together_are_one_line(
    options: str, message: str, tmp_path: Path
) -> None:
    done = run(
        "segment", "train", camvid(tmp_path / "data"), "--out", tmp_path / "run", *options.split(),
        "--epochs", 1,
    )  # fmt: skip
    assert done.code == 2
    assert message in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_a_killed_training_resumes_to_the_same_weights(tmp_path: Path) -> None:
    root = folders(tmp_path / "data")
    command = ["segment", "train", str(root), *SMALL, "--ema", "0.9", "--crop", "40"]
    assert_killed_ends_as_whole(tmp_path, 4, *command, "--elastic", "2")
