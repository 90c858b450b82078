"""Tiles and test-time augmentation."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from dlkit.core.vision.images import Picture
from dlkit.detect import tta
from dlkit.detect.boxes import iou
from dlkit.detect.models.detector import ScoredBoxes
from tests.conftest import SIDE, run, scene

FP32 = ("--device", "cpu", "--precision", "fp32")


def found(boxes: Sequence[Sequence[float]], scores: list[float], labels: list[int]) -> ScoredBoxes:
    return ScoredBoxes(
        torch.tensor(boxes).reshape(-1, 4), torch.tensor(scores), torch.tensor(labels)
    )


class AllSeeing:
    """A detector that misses nothing: reads from the pixels which part of the scene it is given.

    Red and green hold each pixel's column and row, so it finds the objects' boxes cut at its edges.
    """

    def __init__(self, boxes: Tensor, labels: list[int], height: int, width: int) -> None:
        self.boxes, self.labels = boxes, torch.tensor(labels)
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        pixels = torch.stack([x, y, torch.zeros_like(x)])
        self.picture = Picture(pixels, width, height)
        self.sizes: list[tuple[int, int]] = []

    def __call__(self, pictures: Sequence[Picture]) -> list[ScoredBoxes]:
        results = []
        for picture in pictures:
            left, top = (int(picture.pixels[channel].min()) for channel in (0, 1))
            self.sizes.append((picture.width, picture.height))
            corner = torch.tensor([left, top, left, top])
            size = torch.tensor([picture.width, picture.height] * 2)
            boxes = torch.minimum((self.boxes - corner).clamp(min=0), size)
            seen = ((boxes[:, 2:] - boxes[:, :2]).amin(dim=1) >= 4).nonzero().flatten()
            scores = torch.linspace(0.9, 0.5, len(self.boxes))[seen]
            results.append(ScoredBoxes(boxes[seen], scores, self.labels[seen]))
        return results


def apart(count: int, side: int, largest: int) -> Tensor:
    """Boxes that are a little apart from one another."""
    boxes: list[Tensor] = []
    while len(boxes) < count:
        corner = torch.rand(2) * (side - 12)
        size = 12 + torch.rand(2) * (largest - 12)
        box = torch.cat([corner, torch.minimum(corner + size, torch.tensor(side))]).round()
        if all((box[:2] > b[2:] + 4).any() or (box[2:] + 4 < b[:2]).any() for b in boxes):
            boxes.append(box)
    return torch.stack(boxes)


@pytest.mark.parametrize("tile", [64, 100, 128, 300])
@pytest.mark.parametrize("whole", [True, False], ids=["whole seen", "tiles only"])
def test_tiles_hold_each_object_once_and_whole(tile: int, whole: bool) -> None:
    """Small ones, those at many tiles' edges, and those larger than a tile."""
    torch.manual_seed(tile)
    for largest, count in [(30, 12), (150, 3)]:
        boxes = apart(count, 240, largest)
        look = AllSeeing(boxes, [n % 2 for n in range(count)], 240, 256)

        def shrunk(pictures: Sequence[Picture], look: AllSeeing = look) -> list[ScoredBoxes]:
            """The picture as a whole is too small to show anything, unless `whole`."""
            results = look(pictures)
            return results if whole or tile >= 256 else [empty(), *results[1:]]

        result = tta.predict_tiles(look.picture, tile, shrunk, 0.5, 100, False)
        assert look.sizes[0] == (256, 240)
        assert all(max(size) <= tile for size in look.sizes[1:])
        order = result.boxes[:, 0].argsort()
        expected = boxes[:, 0].argsort()
        assert torch.equal(result.boxes[order], boxes[expected])
        assert torch.equal(result.labels[order], look.labels[expected])
        assert result.scores.tolist() == sorted(result.scores.tolist(), reverse=True)


def empty() -> ScoredBoxes:
    return found([], [], [])._replace(labels=torch.zeros(0, dtype=torch.long))


def test_neighbors_of_one_label_stay_two() -> None:
    """They touch, within two tiles' common part and across it."""
    boxes = torch.tensor([[90.0, 40, 110, 60], [110.0, 40, 130, 60], [40.0, 90, 60, 130]])
    look = AllSeeing(boxes, [0, 0, 0], 240, 240)
    result = tta.predict_tiles(look.picture, 128, look, 0.5, 100, False)
    assert sorted(result.boxes.tolist()) == sorted(boxes.tolist())


def test_labels_are_kept_apart_unless_suppression_is_of_all() -> None:
    regions = torch.tensor([[0.0, 0, 100, 100], [0, 0, 60, 60]])
    box = [10.0, 10, 30, 30]
    parts = [found([box], [0.6], [0]), found([box], [0.8], [1])]
    assert tta.merge_tiles(parts, regions, 0.5, 10).labels.tolist() == [1, 0]
    assert tta.merge_tiles(parts, regions, 0.5, 10, agnostic=True).labels.tolist() == [1]
    assert tta.merge_tiles(parts, regions, 0.5, 1).labels.tolist() == [1]


def test_weighted_boxes_by_hand() -> None:
    """Solovyev et al. 2021, eq. 1-3 and section 3's step 6, with T = 2 views."""
    first = found([[0.0, 0, 10, 10], [50, 50, 60, 60]], [0.8, 0.6], [0, 0])
    second = found([[2.0, 0, 12, 10], [0, 0, 10, 10]], [0.4, 0.5], [0, 1])
    boxes, scores, labels = tta.fuse_boxes([first, second], 10)
    # x: (0.8 * 0 + 0.4 * 2) / 1.2; score: mean 0.6 of two in two views. The others are alone.
    expected = [[2 / 3, 0, 32 / 3, 10], [50, 50, 60, 60], [0, 0, 10, 10]]
    assert torch.allclose(boxes, torch.tensor(expected))
    assert scores.tolist() == pytest.approx([0.6, 0.3, 0.25])
    assert labels.tolist() == [0, 0, 1]
    assert tta.fuse_boxes([first, second], 1).scores.tolist() == pytest.approx([0.6])
    # Of any label: (0.8 + 0.5 + 0.4) / 3, and three boxes count as the two views.
    assert tta.fuse_boxes([first, second], 10, agnostic=True).scores[0] == pytest.approx(1.7 / 3)
    assert tta.fuse_boxes([empty(), empty()], 10).boxes.shape == (0, 4)


def test_augmentation_of_a_perfect_detector_is_perfect() -> None:
    """It finds a bright rectangle in pixels of whatever view it is given."""
    pixels = torch.zeros(3, 120, 200, dtype=torch.uint8)
    pixels[:, 40:80, 20:120] = 255
    widths: list[int] = []

    def look(pictures: Sequence[Picture]) -> list[ScoredBoxes]:
        results = []
        for picture in pictures:
            bright = (picture.pixels[0] > 127).nonzero()
            (y1, x1), (y2, x2) = bright.amin(dim=0).tolist(), (bright.amax(dim=0) + 1).tolist()
            share = picture.width / picture.pixels.shape[2]
            widths.append(picture.pixels.shape[2])
            results.append(found([[v * share for v in (x1, y1, x2, y2)]], [0.7], [0]))
        return results

    (result,) = tta.predict_augmented([Picture(pixels, 200, 120)], 160, look, 10, False)
    assert result.boxes[0].tolist() == pytest.approx([20, 40, 120, 80], abs=1.5)
    assert result.scores.tolist() == pytest.approx([0.7])
    assert widths == [120, 120, 160, 160, 200, 200]


@pytest.fixture
def sheet(tmp_path: Path) -> Path:
    """Four by four scenes in one picture, which hold 32 objects."""
    picture = Image.new("RGB", (4 * SIDE, 4 * SIDE))
    for number in range(16):
        picture.paste(scene(number)[0], (number % 4 * SIDE, number // 4 * SIDE))
    picture.save(tmp_path / "sheet.png")
    return tmp_path / "sheet.png"


def objects(path: Path, model: Path, *options: object) -> list[dict[str, float]]:
    done = run("detect", path, "-m", model, *FP32, "--threshold", 0.3, "-f", "json", *options)
    assert done.code == 0, done.err
    (record,) = json.loads(done.out)
    kept: list[dict[str, float]] = record["objects"]
    return kept


def matched(ones: list[dict[str, float]], others: list[dict[str, float]], pixels: float) -> int:
    """How many of `ones` are among `others`, up to these pixels."""
    return sum(
        any(
            a["label"] == b["label"]
            and all(abs(a[k] - b[k]) <= pixels for k in ("x1", "y1", "x2", "y2"))
            for b in others
        )
        for a in ones
    )


def test_tiles_find_what_the_whole_does_not_show(sheet: Path, model: Path) -> None:
    """The network knows scenes of 64 pixels; as a whole, the picture has 16 for each."""
    truth = [
        dict(zip(("x1", "y1", "x2", "y2"), (b[0] + x, b[1] + y, b[2] + x, b[3] + y), strict=True))
        | {"label": label}
        for number in range(16)
        for x, y in [(number % 4 * SIDE, number // 4 * SIDE)]
        for label, b in scene(number)[1]
    ]
    assert matched(truth, objects(sheet, model), 12) < 8  # type: ignore[arg-type]
    tiled = objects(sheet, model, "--tile", 120, "--image-size", 80)
    assert matched(truth, tiled, 12) >= 30  # type: ignore[arg-type]
    # A cut square may be taken for a small one, but no box is there twice.
    assert len(tiled) <= 40
    corners = torch.tensor([[one[k] for k in ("x1", "y1", "x2", "y2")] for one in tiled])
    alike = torch.tensor([[a["label"] == b["label"] for b in tiled] for a in tiled])
    assert int(((iou(corners[:, None], corners) > 0.5) & alike).sum()) == len(tiled)


def test_a_picture_of_one_tile_is_the_picture(tmp_path: Path, model: Path) -> None:
    path = tmp_path / "a.png"
    scene(20)[0].save(path)
    expected = objects(path, model)
    assert len(expected) == 2
    assert objects(path, model, "--tile", 200) == expected


def test_views_agree_with_the_plain_look(tmp_path: Path, model: Path) -> None:
    path = tmp_path / "a.png"
    scene(20)[0].save(path)
    expected = objects(path, model)
    several = objects(path, model, "--tta")
    assert matched(expected, several, 6) == len(expected) == len(several)
    assert several != expected
    assert matched(several, objects(path, model, "--tta", "--tile", 200), 1) == len(several)
