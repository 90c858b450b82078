"""`dlkit segment` in use: metrics, masks, tiles, and the command as it is typed."""

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.core.store import checkpoint
from dlkit.core.store.checkpoint import Header
from dlkit.core.vision import images
from dlkit.core.vision.average_precision import COCO_DEFINITIONS
from dlkit.core.vision.tile import in_tiles, spans, tile_weights
from dlkit.segment import model, rle
from dlkit.segment.architecture import Architecture, InstancePrediction
from dlkit.segment.draw import draw_overlay, palette
from dlkit.segment.infer import load
from dlkit.segment.instance_metrics import instance_metrics, mask_overlaps
from dlkit.segment.losses.instance import instance_loss
from dlkit.segment.losses.semantic import semantic_loss
from dlkit.segment.masks import IGNORED, ObjectMask
from dlkit.segment.metrics import (
    DEFINITIONS,
    LABEL_DEFINITIONS,
    boundary_f1,
    confusion_matrix,
    count_pixels,
    segmentation_metrics,
    sum_counts,
)
from dlkit.segment.models.segmenter import Segmenter
from dlkit.segment.predictor import InferOptions, SemanticPredictor, predict, upsample_strips
from tests.conftest import Result, run

NAMES = ["red", "green", "blue"]
FP32 = ("--device", "cpu", "--precision", "fp32")


class Colors(Segmenter):
    """Labels each pixel by the largest of its colors."""

    stride = 8

    def __init__(self, num_labels: int) -> None:
        super().__init__()
        self.mean, self.std = [0.5] * 3, [0.1] * 3
        self.score = nn.Conv2d(3, num_labels, 1, bias=False)
        self.score.weight = nn.Parameter(torch.eye(3).view(3, 3, 1, 1))

    def logits(self, images: Tensor) -> Tensor:
        out: Tensor = self.score(images)
        return out


class Objects(nn.Module):
    """Finds what is red and what is blue, each as one object."""

    def __init__(self, num_labels: int) -> None:
        super().__init__()
        self.one = nn.Parameter(torch.ones(1))

    def normalize(self, images: Tensor) -> Tensor:
        return images / 255

    def predict(
        self, images: list[Tensor], threshold: float, limit: int
    ) -> list[InstancePrediction]:
        found = []
        for image in images:
            masks = torch.stack([image.argmax(dim=0) == 0, image.argmax(dim=0) == 2])
            scores = torch.tensor([0.9, 0.4])
            boxes = torch.tensor([[0.0, 0.0, 2.0, 3.0]] * 2)
            kept = scores >= threshold
            labels = torch.tensor([0, 2])
            found.append(InstancePrediction(masks[kept], labels[kept], scores[kept], boxes[kept]))
        return found

    def prepare(self, dtype: torch.dtype) -> None:
        self.eval()


COLORS = Architecture(Colors, semantic_loss)
OBJECTS = Architecture(Objects, instance_loss, instances=True)


def stored(path: Path, arch: str) -> Path:
    weights = model.build(arch, 3).state_dict()
    header = Header("segment", arch, {}, NAMES, {"image_size": None})
    checkpoint.save(path, weights, header)
    return path


@pytest.fixture
def segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`dlkit segment ARGS` with a model that knows three colors, and pictures in `in/`."""
    monkeypatch.chdir(tmp_path)
    for name, arch in (("colors", COLORS), ("objects", OBJECTS)):
        monkeypatch.setitem(model.ARCHITECTURES, name, arch)
    path, objects = (stored(Path(f"{n}.safetensors"), n) for n in ("colors", "objects"))
    Path("in").mkdir()
    for seed in range(3):
        picture_of(truth_of(seed)).save(f"in/{seed}.png")

    def call(*args: object, stdin: str = "", finds_objects: bool = False) -> Result:
        return run("segment", "-m", objects if finds_objects else path, *FP32, *args, stdin=stdin)

    return call


def truth_of(seed: int, shape: tuple[int, int] = (40, 56)) -> np.ndarray:
    """A label map: green on red with a blue corner."""
    labels = np.zeros(shape, np.uint8)
    top, left = np.random.default_rng(seed).integers(2, 12, 2)
    labels[top : top + 20, left : left + 25] = 1
    labels[-7:, -9:] = 2
    return labels


def picture_of(labels: np.ndarray) -> Image.Image:
    values = np.full((*labels.shape, 3), 40, np.uint8)
    for k in range(3):
        values[labels == k, k] = 220
    return Image.fromarray(values)


def records(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.out.splitlines()]


def one_line(result: Result, *parts: str) -> None:
    """The command was refused with a single line on stderr that holds these parts."""
    assert result.code == 2, result
    assert result.out == ""
    (line,) = result.err.splitlines()
    assert line.startswith("dlkit: ")
    for part in parts:
        assert part in line


# ---- run-length coding ---------------------------------------------------------------------------


def test_run_lengths_by_hand() -> None:
    """Column by column: one zero, three ones, two zeros. 15 is one digit of five bits, 32 two."""
    mask = np.array([[0, 1, 0], [1, 1, 0]], bool)
    assert rle.run_lengths(mask).tolist() == [1, 3, 2]
    assert rle.encode(mask) == {"size": [2, 3], "counts": "132"}
    assert rle.encode(np.ones((1, 15), bool))["counts"] == "0?"
    assert rle.encode(np.ones((1, 32), bool))["counts"] == "0P1"
    assert rle.decode({"size": [2, 3], "counts": [1, 3, 2]}).tolist() == mask.tolist()


@pytest.mark.parametrize("shape", [(1, 1), (1, 90), (90, 1), (37, 51), (200, 300)])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.98, 1.0])
def test_run_lengths_are_those_of_pycocotools(shape: tuple[int, int], share: float) -> None:
    mask = np.random.default_rng(0).random(shape) < share
    theirs = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    ours = rle.encode(mask)
    assert (ours["size"], ours["counts"].encode()) == (list(shape), theirs["counts"])
    assert (rle.decode(ours) == mask).all()
    assert (rle.decode({**ours, "counts": theirs["counts"]}) == mask).all()


@pytest.mark.parametrize(
    "bad",
    [
        {},
        {"size": [2, 3]},
        {"size": [2, 3], "counts": ""},
        {"size": [2, 3], "counts": "13"},
        {"size": [2, 3], "counts": "P"},
        {"size": [2, 3], "counts": "1é2"},
        {"size": [2, 3], "counts": [7, -1]},
        {"size": [2, 3], "counts": "PPPPPPPPPPPP1"},
        {"size": "x", "counts": [6]},
    ],
)
def test_bad_run_lengths_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(DlkitError, match="mask"):
        rle.decode(bad)


# ---- metrics -------------------------------------------------------------------------------------


def test_metrics_by_hand() -> None:
    """3 of 4 pixels right. Red: 2 of 2 found, 3 predicted; green: 1 of 2; blue: nowhere."""
    truth = np.array([[0, 0], [1, 1]])
    found = np.array([[0, 0], [0, 1]])
    metrics = segmentation_metrics(count_pixels(truth, found, 3, boundaries=False), NAMES)
    assert metrics.summary == {
        "pixel_accuracy": 0.75,
        "mean_class_accuracy": 0.75,
        "mean_iou": pytest.approx((2 / 3 + 1 / 2) / 2),
        "frequency_weighted_iou": pytest.approx((2 / 3 + 1 / 2) / 2),
        "dice": pytest.approx((4 / 5 + 2 / 3) / 2),
        "boundary_f1": pytest.approx(np.nan, nan_ok=True),
    }
    assert metrics.per_label["red"]["iou"] == pytest.approx(2 / 3)
    assert np.isnan(metrics.per_label["blue"]["iou"])
    assert metrics.summary.keys() == DEFINITIONS.keys()
    assert metrics.per_label["blue"].keys() == LABEL_DEFINITIONS.keys()


def test_a_class_that_is_only_predicted_has_no_accuracy_and_an_iou_of_zero() -> None:
    metrics = segmentation_metrics(
        count_pixels(np.zeros((4, 4)), np.eye(4, dtype=int), 2), NAMES[:2]
    )
    assert metrics.summary["mean_class_accuracy"] == 0.75
    assert metrics.summary["mean_iou"] == 0.75 / 2
    assert metrics.per_label["green"]["boundary_f1"] == 0


def test_metrics_are_those_of_scikit_learn() -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    truths, maps = rng.integers(0, 5, (2, 3, 30, 40))
    truths[rng.random(truths.shape) < 0.1] = IGNORED
    counts = sum_counts(count_pixels(t, m, 5) for t, m in zip(truths, maps, strict=True))
    known = truths != IGNORED
    true, found = truths[known], maps[known]
    assert (counts.confusion == sklearn.confusion_matrix(true, found)).all()
    summary = segmentation_metrics(counts, list("abcde")).summary
    ious = sklearn.jaccard_score(true, found, average=None)
    assert summary["pixel_accuracy"] == pytest.approx(sklearn.accuracy_score(true, found))
    assert summary["mean_class_accuracy"] == pytest.approx(
        sklearn.balanced_accuracy_score(true, found)
    )
    assert summary["mean_iou"] == pytest.approx(ious.mean())
    assert summary["frequency_weighted_iou"] == pytest.approx(
        sklearn.jaccard_score(true, found, average="weighted")
    )
    assert summary["dice"] == pytest.approx(sklearn.f1_score(true, found, average="macro"))


def test_ignored_pixels_count_nowhere() -> None:
    truth = truth_of(0)
    ignored = truth.copy()
    ignored[:, 20:] = IGNORED
    worse = truth.copy()
    worse[:, 20:] = 2
    assert confusion_matrix(ignored, worse, 3).sum() == 20 * len(truth)
    assert (confusion_matrix(ignored, truth, 3) == confusion_matrix(ignored, worse, 3)).all()
    for k in (0, 1):
        assert boundary_f1(ignored, worse, 3)[k] == 1


def test_boundary_f1_is_that_of_measured_distances() -> None:
    """Every pair of boundary pixels compared; a diagonal of 400 pixels tolerates 3."""
    truth, found = np.zeros((2, 240, 320), int)
    truth[50:150, 60:200] = 1
    found[52:155, 58:200] = 1
    found[170:190, 20:60] = 1
    expected = []
    for k in (0, 1):
        edges = []
        for labels in (truth, found):
            padded = np.pad(labels, 1, mode="edge")
            shifted = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
            on_edge = np.any([labels != other for other in shifted], axis=0)
            edges.append(np.argwhere(on_edge & (labels == k)))
        squares = ((edges[0][:, None] - edges[1]) ** 2).sum(axis=2)
        recall = (squares.min(axis=1) <= 3**2).mean()
        precision = (squares.min(axis=0) <= 3**2).mean()
        assert 0.5 < precision < 1
        expected.append(2 * precision * recall / (precision + recall))
    assert boundary_f1(truth, found, 2) == pytest.approx(expected)
    assert boundary_f1(truth, truth, 3)[:2].tolist() == [1, 1]
    assert np.isnan(boundary_f1(truth, truth, 3)[2])


def test_mask_average_precision_is_that_of_pycocotools() -> None:
    rng = np.random.default_rng(0)
    truths, predictions = [], []
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []

    def blob(cx: float, cy: float, r: float) -> np.ndarray:
        y, x = np.mgrid[:120, :160]
        return np.asarray((x - cx) ** 2 + (y - cy) ** 2 <= r**2)

    for image in range(6):
        objects = []
        masks, labels, scores = [], [], []
        for _ in range(6):
            label, crowd = int(rng.integers(3)), bool(rng.random() < 0.1)
            cx, cy, r = rng.uniform(20, 140), rng.uniform(20, 100), rng.uniform(5, 55)
            mask = blob(cx, cy, r)
            objects.append(ObjectMask(label, mask, float(mask.sum()), crowd))
            about = {"image_id": image, "category_id": label, "iscrowd": int(crowd)}
            code = {**rle.encode(mask)}
            area = int(mask.sum())
            annotations.append(
                {**about, "id": len(annotations) + 1, "area": area, "segmentation": code}
            )
            for _ in range(int(rng.integers(0, 3))):
                near = blob(*(v * rng.uniform(0.9, 1.1) for v in (cx, cy, r)))
                masks.append(near)
                labels.append(label)
                scores.append(round(float(rng.random()), 3))
                results.append(
                    {
                        "image_id": image,
                        "category_id": label,
                        "score": scores[-1],
                        "segmentation": rle.encode(near),
                    }
                )
        truths.append(objects)
        predictions.append((np.array(masks), np.array(labels), np.array(scores)))
    with mock.patch("builtins.print"):
        coco = COCO()
        coco.dataset = {
            "images": [{"id": i, "width": 160, "height": 120} for i in range(6)],
            "annotations": annotations,
            "categories": [{"id": k, "name": NAMES[k]} for k in range(3)],
        }
        coco.createIndex()
        theirs = COCOeval(coco, coco.loadRes(results), "segm")
        theirs.evaluate()
        theirs.accumulate()
        theirs.summarize()
    pool = [mask_overlaps(*p, t) for p, t in zip(predictions, truths, strict=True)]
    ours = instance_metrics(pool, NAMES)
    assert list(ours.summary.values()) == pytest.approx(theirs.stats.tolist())
    assert ours.summary.keys() == COCO_DEFINITIONS.keys()
    assert 0.2 < ours.summary["map_50_95_coco101"] < 0.9


def test_images_without_objects_have_no_average_precision() -> None:
    none = mask_overlaps(np.zeros((0, 9, 9), bool), np.zeros(0, int), np.zeros(0), [])
    assert np.isnan(instance_metrics([none], NAMES).summary["map_50_95_coco101"])


# ---- tiles and sizes -----------------------------------------------------------------------------


@pytest.mark.parametrize("stride", [1, 8, 32])
@pytest.mark.parametrize("side", [30, 64, 65, 127, 500, 1001])
@pytest.mark.parametrize("tile", [64, 100, 256])
def test_tiles_cover_a_side_and_count_as_one(side: int, tile: int, stride: int) -> None:
    found = spans(side, tile, stride)
    assert found[0][0] == 0
    assert found[-1][1] == side
    assert all(start % stride == 0 for start, _ in found)
    assert len({stop - start for start, stop in found[:-1]}) <= 1
    total = torch.zeros(side)
    for (start, stop), share in zip(found, tile_weights(found, side), strict=True):
        assert (share >= 0).all()
        total[start:stop] += share
    torch.testing.assert_close(total, torch.ones(side))
    for (_, end), (begin, _) in zip(found, found[1:], strict=False):
        assert end - begin >= stride


class Deep(Segmenter):
    """Sees 3 pixels in each direction at half the resolution: 7 in the image, and so 8."""

    stride = 2

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.down = nn.Conv2d(3, 8, 2, 2)
        self.middle = nn.Sequential(*(nn.Conv2d(8, 8, 3, padding=1) for _ in range(3)))
        self.up = nn.ConvTranspose2d(8, 4, 2, 2)

    def logits(self, images: Tensor) -> Tensor:
        out: Tensor = self.up(self.middle(self.down(images)).relu())
        return out


def predictor_of(network: Segmenter, count: int) -> SemanticPredictor:
    names = [f"class {k}" for k in range(count)]
    return SemanticPredictor(network.eval(), names, None, torch.device("cpu"), palette(count))


@pytest.mark.parametrize("shape", [(150, 211), (64, 300), (40, 50), (129, 128)])
def test_tiles_give_what_the_whole_image_gives(shape: tuple[int, int]) -> None:
    """With tiles of 64 a quarter of the overlap is 4 pixels; with 128 it is 8, all that is seen."""
    torch.manual_seed(1)
    pixels = torch.randint(0, 256, (3, *shape), dtype=torch.uint8)
    predictor = predictor_of(Deep(), 4)
    whole = predictor.probabilities(pixels[None], tta=False)[0]
    work = lambda part: predictor.probabilities(part, tta=False)  # noqa: E731
    torch.testing.assert_close(torch.cat(list(in_tiles(work, pixels, 128, 2)), dim=1), whole)
    small = torch.cat(list(in_tiles(work, pixels, 64, 2)), dim=1)
    inside = torch.ones(shape, dtype=torch.bool)
    for axis, side in enumerate(shape):
        found = spans(side, 64, 2)
        for (_, end), (begin, _) in zip(found, found[1:], strict=False):
            inside.index_fill_(axis, torch.arange(begin, end), False)
    assert inside.float().mean() > 0.2
    torch.testing.assert_close(small[:, inside], whole[:, inside])
    assert (small - whole).abs().max() < 0.2


@pytest.mark.parametrize("size", [(40, 56), (41, 55), (90, 200), (13, 17), (400, 9)])
def test_enlarged_is_bilinear_interpolation(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    scores = torch.randn(3, 40, 56)
    expected = F.interpolate(scores[None], size=size, mode="bilinear", align_corners=False)[0]
    with mock.patch("dlkit.segment.predictor.STRIP_PIXELS", 1000):
        strips = list(upsample_strips(scores, *size))
    torch.testing.assert_close(torch.cat(strips, dim=1), expected, atol=1e-5, rtol=1e-5)
    assert size == (40, 56) or len(strips) > 1 or size[0] * size[1] < 1000


def test_tta_is_the_mean_of_its_views() -> None:
    """Scales 0.75, 1, 1.25, each mirrored too: the average that is made here by hand."""
    torch.manual_seed(1)
    pixels = torch.randint(0, 256, (1, 3, 32, 48), dtype=torch.uint8)
    network = Deep().eval()
    inputs = network.normalize(pixels)
    views = []
    with torch.inference_mode():
        for size in [(24, 36), (32, 48), (40, 60)]:
            seen = F.interpolate(inputs, size=size, mode="bilinear", align_corners=False)
            for logits in (network(seen), network(seen.flip(-1)).flip(-1)):
                back = F.interpolate(logits, size=(32, 48), mode="bilinear", align_corners=False)
                views.append(back.softmax(dim=1))
    expected = torch.stack(views).mean(dim=0)
    found = predictor_of(network, 4).probabilities(pixels, tta=True)
    torch.testing.assert_close(found, expected)
    mirrored = predictor_of(network, 4).probabilities(pixels.flip(-1), tta=True)
    torch.testing.assert_close(mirrored, found.flip(-1))


# ---- the command ---------------------------------------------------------------------------------


def test_it_names_what_is_there_in_every_format(segment: Any) -> None:
    truth = truth_of(0)
    rows, columns = np.nonzero(truth == 1)
    lines = [line.split("\t") for line in segment("in/0.png").out.splitlines()]
    assert [line[1] for line in lines] == ["red", "green", "blue"]
    assert [float(line[2]) for line in lines] == [
        pytest.approx((truth == k).mean(), abs=1e-5) for k in range(3)
    ]
    box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert [int(side) for side in lines[1][3:]] == box
    table = list(csv.DictReader(io.StringIO(segment("in/0.png", "-f", "csv").out)))
    assert [list(row.values()) for row in table] == lines
    (record,) = records(segment("in/0.png", "-f", "jsonl"))
    assert record.keys() == {"path", "width", "height", "segments"}
    for region, line in zip(record["segments"], lines, strict=True):
        code = region.pop("rle")
        assert [str(value) for value in region.values()] == line[1:]
        assert (rle.decode(code) == (truth == NAMES.index(region["label"]))).all()
    assert json.loads(segment("in/0.png", "-f", "json").out)[0]["path"] == "in/0.png"


def test_files_that_are_saved(segment: Any) -> None:
    done = segment("in", "--save", "out", "--probabilities", "numbers")
    assert done.code == 0
    assert done.out == segment("in").out
    saved = {path.name for path in Path("out").iterdir()}
    assert saved == {f"{n}{end}" for n in range(3) for end in (".png", "-overlay.jpg")}
    for seed in range(3):
        with Image.open(f"out/{seed}.png") as picture:
            assert picture.mode == "P"
            assert (np.array(picture) == truth_of(seed)).all()
            assert len({*map(tuple, np.array(picture.convert("RGB")).reshape(-1, 3))}) == 3
        width, height = images.size(Path(f"out/{seed}-overlay.jpg"))
        assert width == 56
        assert height > 40  # the legend is below
        with np.load(f"numbers/{seed}.npz") as arrays:
            assert arrays["labels"].tolist() == NAMES
            numbers = arrays["probabilities"]
        assert numbers.shape == (3, 40, 56)
        np.testing.assert_allclose(numbers.astype(float).sum(axis=0), 1, atol=2e-3)
        assert (numbers.argmax(axis=0) == truth_of(seed)).all()


def test_the_overlay_colors_the_chosen_classes_only() -> None:
    labels = truth_of(0)
    picture = picture_of(labels)
    colors = palette(3)
    drawn = np.array(draw_overlay(picture, labels, colors, ["", "green", ""]))[: len(labels)]
    before = np.array(picture)
    assert (drawn[labels != 1] == before[labels != 1]).all()
    mixed = 0.45 * before[labels == 1] + 0.55 * np.array(colors[1])
    assert np.abs(drawn[labels == 1] - mixed).max() <= 1


def test_classes_leave_out_all_others(segment: Any) -> None:
    every = segment("in").out.splitlines()
    some = segment("in", "--classes", " green,blue ").out.splitlines()
    assert some == [line for line in every if line.split("\t")[1] != "red"]
    one_line(segment("in", "--classes", "green,gray"), "gray", "red, green, blue")


@pytest.mark.parametrize("options", ["--tile 32", "--tta", "--tile 32 --tta", "--batch-size 1"])
def test_other_ways_of_computing_agree(options: str, segment: Any) -> None:
    """Views of other scales are soft at borders, so a few pixels there may differ."""
    picture_of(truth_of(5, (90, 130))).save("in/large.png")
    segment("in", "--save", "plain")
    assert segment("in", "--save", "other", "--workers", 0, *options.split()).code == 0
    for path in Path("plain").glob("*.png"):
        ones, twos = (np.array(Image.open(Path(f, path.name))) for f in ("plain", "other"))
        assert (ones != twos).mean() < (0.03 if "tta" in options else 1e-9)


def test_image_size_is_what_the_network_sees(segment: Any) -> None:
    """Half of the pixels give nearly the same map, at the image's own size."""
    picture_of(truth_of(0).repeat(4, axis=0).repeat(4, axis=1)).save("big.png")
    seen: list[torch.Size] = []
    logits = Colors.logits

    def watched(self: Colors, images: Tensor) -> Tensor:
        seen.append(images.shape)
        return logits(self, images)

    with mock.patch.object(Colors, "logits", watched):
        segment("big.png", "--save", "out", "--image-size", 112)
    assert [tuple(shape[-2:]) for shape in seen] == [(80, 112)]
    with Image.open("out/big.png") as picture:
        labels = np.array(picture)
    assert labels.shape == (160, 224)
    assert (labels != truth_of(0).repeat(4, axis=0).repeat(4, axis=1)).mean() < 0.03


def test_a_picture_on_its_side_is_labeled_as_shown(segment: Any) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture_of(truth_of(0)).transpose(Image.Transpose.ROTATE_90).save("lying.png", exif=exif)
    segment("lying.png", "--save", "out")
    assert (np.array(Image.open("out/lying.png")) == truth_of(0)).all()


def test_images_smaller_than_the_stride(segment: Any, tmp_path: Path) -> None:
    picture_of(truth_of(0)[:9, :8]).save("tiny.png")
    assert len(segment("tiny.png").out.splitlines()) >= 1
    settings = {"width_multiplier": 0.05, "depth": 4}
    network = model.build("unet", 3, **settings)
    header = Header("segment", "unet", settings, NAMES, {"image_size": None})
    checkpoint.save(tmp_path / "u.safetensors", network.state_dict(), header)
    done = run("segment", "tiny.png", "in", "-m", "u.safetensors", *FP32, "-f", "jsonl")
    assert done.code == 0, done.err
    assert sum(region["fraction"] for region in records(done)[-1]["segments"]) == pytest.approx(1)


def test_a_url_is_fetched_once(segment: Any) -> None:
    content = Path("in/0.png").read_bytes()
    answers = [iter([content]), DlkitError("the server answered 503")]
    with mock.patch("dlkit.core.vision.images.fetch", side_effect=answers):
        options = ("--save", "out", "--image-size", 32, "-f", "jsonl")
        done = segment("http://host/a.png?size=full", "in/1.png", *options)
    assert done.code == 0
    assert ["error" in record for record in records(done)] == [False, False]
    assert len(list(Path("out").iterdir())) == 4


def test_an_image_that_cannot_be_read_again_fails_alone(segment: Any) -> None:
    read = images.full_size

    def full_size(source: str, picture: images.Picture) -> images.Picture:
        if source == "in/0.png":
            raise DlkitError("no such file")
        return read(source, picture)

    with mock.patch("dlkit.core.vision.images.full_size", full_size):
        options = ("--save", "out", "--image-size", 32, "-f", "jsonl")
        done = segment("in/0.png", "in/1.png", *options)
    assert done.code == 1
    assert ["error" in record for record in records(done)] == [True, False]
    assert {path.name for path in Path("out").iterdir()} == {"1.png", "1-overlay.jpg"}


def test_a_folder_that_cannot_be_written_ends_the_command(segment: Any) -> None:
    Path("file").touch()
    one_line(segment("in", "--save", "file/out"), "cannot be written")


# ---- objects -------------------------------------------------------------------------------------


def test_a_model_that_finds_objects(segment: Any) -> None:
    done = segment("in/0.png", "-f", "jsonl", "--save", "out", finds_objects=True)
    (record,) = records(done)
    (found,) = record["objects"]
    assert (found["label"], found["score"]) == ("red", 0.9)
    assert (rle.decode(found["rle"]) == (truth_of(0) == 0)).all()
    with Image.open("out/0.png") as picture:
        assert (np.array(picture) == (truth_of(0) == 0)).all()
    assert images.size(Path("out/0-overlay.jpg")) == (56, 40)
    table = segment("in/0.png", "--threshold", 0.1, finds_objects=True).out.splitlines()
    assert [line.split("\t")[1:3] for line in table] == [["red", "0.9"], ["blue", "0.4"]]
    blue = segment("in/0.png", "--threshold", 0.1, "--classes", "blue", finds_objects=True)
    assert blue.out.splitlines() == table[1:]
    done = segment("in/0.png", "missing.png", "in/1.png", "-f", "jsonl", finds_objects=True)
    assert done.code == 1
    assert [r["path"] for r in records(done)] == ["in/0.png", "missing.png", "in/1.png"]


def test_objects_are_in_pixels_of_the_image_as_shown(segment: Any) -> None:
    """The network sees half of the pixels a side; masks and boxes come back doubled."""
    large = truth_of(0).repeat(2, axis=0).repeat(2, axis=1)
    picture_of(large).save("large.png")
    options = ("--image-size", 56, "-f", "jsonl", "--save", "out")
    (record,) = records(segment("large.png", *options, finds_objects=True))
    (found,) = record["objects"]
    assert [found[side] for side in ("x1", "y1", "x2", "y2")] == [0, 0, 4, 6]
    mask = rle.decode(found["rle"])
    assert mask.shape == (80, 112)
    assert (mask != (large == 0)).mean() < 0.02
    assert images.size(Path("out/large-overlay.jpg")) == (112, 80)


@pytest.mark.parametrize("option", ["--tile 64", "--tta", "--probabilities out"])
def test_what_objects_do_not_have_is_refused(option: str, segment: Any) -> None:
    done = segment("in", *option.split(), finds_objects=True)
    one_line(done, option.split()[0], "use a semantic segmentation model")


def test_threshold_is_for_objects(segment: Any) -> None:
    one_line(
        segment("in", "--threshold", 0.5),
        "--threshold",
        "labels pixels; use an instance segmentation model",
    )


# ---- inputs that fail, commands that are refused -------------------------------------------------


@pytest.mark.parametrize("options", [[], ["--tile", "32"], ["--workers", "0", "--batch-size", "1"]])
def test_every_input_has_its_record_in_order(options: list[str], segment: Any) -> None:
    Path("text.jpg").write_text("hello")
    Path("zero.png").touch()
    Image.new("RGB", (1, 1)).save("one.png")
    whole = Path("in/0.png").read_bytes()
    Path("cut.jpg").write_bytes(whole[: len(whole) // 2])
    bad = ["missing.jpg", "text.jpg", "zero.png", "one.png", "cut.jpg"]
    inputs = ["in/0.png", *bad[:2], "in/1.png", *bad[2:], "in/0.png"]
    done = segment(*inputs, "-f", "jsonl", "--save", "out", *options)
    assert done.code == 1
    assert [record["path"] for record in records(done)] == inputs
    assert [r["path"] for r in records(done) if "error" in r] == bad
    *lines, last = done.err.splitlines()
    assert [line.split(": ")[:2] for line in lines] == [["dlkit", path] for path in bad]
    assert last == "dlkit: 5 of 8 inputs failed"
    names = {path.name for path in Path("out").glob("*.png")}
    assert names == {"0.png", "1.png", "0-2.png"}


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ("in --save in", "in: the folder holds inputs"),
        ("in --probabilities in", "in: the folder holds inputs"),
        ("in -o map.png", "not a text format"),
        ("in --device nonsense", "nonsense"),
        ("in --precision fp16", "fp16"),
    ],
)
def test_what_cannot_be_done_is_one_line(args: str, said: str, segment: Any) -> None:
    before = sorted(Path().rglob("*"))
    one_line(segment(*args.split()), said)
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize("args", ["", "in --tile 8", "in --batch-size 0", "in --image-size 3"])
def test_wrong_usage(args: str, segment: Any) -> None:
    done = segment(*args.split())
    assert (done.code, done.out) == (2, "")
    assert "Error" in done.err


def test_models_that_do_not_fit(segment: Any) -> None:
    weights = model.build("colors", 3).state_dict()
    path = Path("other.safetensors")
    for wrong, said in [
        (Header("detect", "yolo", {}, NAMES), "dlkit detect"),
        (Header("segment", "nothing", {}, NAMES, {"image_size": None}), "nothing"),
        (
            Header("segment", "unet", {"width_multiplier": 0.1}, NAMES, {"image_size": None}),
            "do not fit",
        ),
        (Header("segment", "colors", {}, NAMES), "no setting 'image_size'"),
    ]:
        checkpoint.save(path, weights, wrong)
        one_line(run("segment", "in", "-m", path, *FP32), said)


# ---- evaluation ----------------------------------------------------------------------------------


@pytest.fixture
def data(segment: Any) -> Path:
    """Images with masks as folders; one image's mask is wrong in the blue corner."""
    for kind in ("images", "masks"):
        Path("set", kind, "test").mkdir(parents=True)
    Path("set/classes.txt").write_text("red\ngreen\nblue\n")
    for seed in range(3):
        labels = truth_of(seed)
        picture_of(labels).save(f"set/images/test/{seed}.png")
        if seed == 2:
            labels = np.where(labels == 2, 0, labels).astype(np.uint8)
        labels[0] = IGNORED
        Image.fromarray(labels).save(f"set/masks/test/{seed}.png")
    return Path("set")


def test_evaluate(data: Path, segment: Any) -> None:
    done = run("segment", "evaluate", data, "-m", "colors.safetensors", *FP32, "--save", "out",
               "-f", "json")  # fmt: skip
    assert done.code == 0, done.err
    scores = {(s["metric"], s["label"]): s["value"] for s in json.loads(done.out)}
    wrong, counted = 7 * 9, 3 * 39 * 56
    assert scores["pixel_accuracy", "all"] == pytest.approx(1 - wrong / counted, abs=1e-5)
    assert scores["iou", "blue"] == pytest.approx(2 / 3, abs=1e-5)
    assert scores["iou", "green"] == scores["class_accuracy", "blue"] == 1
    assert scores["pixels", "blue"] == 2 * wrong
    assert 0 < scores["boundary_f1", "all"] < 1
    assert {label for _, label in scores} == {"all", *NAMES}
    assert all(record["definition"] for record in json.loads(done.out))
    with Image.open("out/examples.png") as sheet:
        assert sheet.width == 4 * 320
    assert Path("out/confusion.png").exists()


def test_evaluate_says_what_is_missing(data: Path, segment: Any) -> None:
    command = ("segment", "evaluate", "-m", "colors.safetensors", *FP32)
    one_line(run(*command, "in"), "no masks")
    one_line(run(*command, data, "--split", "val"), "val")
    one_line(run(*command, "nowhere"), "nowhere")
    Path("set/classes.txt").write_text("cat\ndog\nbird\n")
    one_line(run(*command, data), "no mask of 'test' contains a class of the model")
    for path in Path("set/masks/test").iterdir():
        Image.new("RGB", (56, 40)).save(path)
    done = run(*command, data)
    assert (done.code, done.out) == (2, "")
    assert "color mask without a color table in classes.txt" in done.err


def test_evaluate_objects(data: Path, segment: Any) -> None:
    """The red one is right in two images of three; the blue one, of low score, is right as well."""
    Path("set/instances/test").mkdir(parents=True)
    for seed in range(3):
        numbers = np.array(truth_of(seed)) + 1
        shutil.copy(f"set/images/test/{seed}.png", "set/instances/test")
        Image.fromarray(numbers.astype(np.uint8)).save(f"set/instances/test/{seed}.png")
        Image.fromarray(truth_of(seed)).save(f"set/masks/test/{seed}.png")
    done = run("segment", "evaluate", data, "-m", "objects.safetensors", *FP32, "--save", "out",
               "-f", "json")  # fmt: skip
    assert done.code == 0, done.err
    scores = {(s["metric"], s["label"]): s["value"] for s in json.loads(done.out)}
    assert scores["map_50_95_coco101", "red"] == 1
    assert scores["map_50_95_coco101", "green"] == 0
    assert scores["map_50_95_coco101", "all"] == pytest.approx(2 / 3, abs=1e-5)
    with Image.open("out/examples.png") as sheet:
        assert sheet.width == 3 * 320


def test_python_gets_maps_and_failures(segment: Any) -> None:
    predictor = load("colors.safetensors", "cpu", "fp32")
    assert isinstance(predictor, SemanticPredictor)
    found = list(predict(predictor, ["in/0.png", "no"], InferOptions()))
    assert not isinstance(found[0], Failure)
    assert (found[0][2].labels == truth_of(0)).all()
    assert isinstance(found[1], Failure)
    assert vars(found[1]) == {"path": "no", "error": "no such file"}
