"""Detectors that classify regions: selective search, R-CNN, Fast R-CNN; all learn."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dlkit.core.store import checkpoint
from dlkit.detect.boxes import decode, encode, iou
from dlkit.detect.compiled_regions import blur, describe_segments, find_segments, merge_segments
from dlkit.detect.losses.regions import fast_rcnn_losses, rcnn_losses, sample_regions
from dlkit.detect.models.fast_rcnn import RegionOutput
from dlkit.detect.models.rcnn import linear
from dlkit.detect.models.regions import to_rois
from dlkit.detect.selective_search import LIMIT, SIDE, gaussian, propose
from dlkit.detect.svm import (
    COST,
    POSITIVE_COST,
    calibration,
    fit,
    fit_ridge,
    fit_svm,
    linear_svm,
)
from tests.conftest import loud, run, scene, write_voc
from tests.detect.helpers import build
from tests.test_detect import NARROW, random_boxes


def test_offsets_by_hand_and_back() -> None:
    """A box 20 x 40 around (30, 50), from a reference 10 x 20 around (25, 40)."""
    box, reference = torch.tensor([20.0, 30, 40, 70]), torch.tensor([20.0, 30, 30, 50])
    expected = [0.5, 0.5, np.log(2), np.log(2)]
    assert encode(box, reference).tolist() == pytest.approx(expected, abs=1e-6)
    torch.manual_seed(0)
    boxes, references = random_boxes(50), random_boxes(50)
    assert torch.allclose(decode(encode(boxes, references), references), boxes, atol=1e-3)
    assert torch.isfinite(decode(torch.full((4,), 1e4), reference)).all()


def test_blurring_is_a_gaussian_of_that_deviation() -> None:
    spot = np.zeros((21, 21, 1), np.float32)
    spot[10, 10] = 1
    found = blur(spot, gaussian(1.5))[:, :, 0]
    y, x = np.mgrid[:21, :21] - 10
    assert found.sum() == pytest.approx(1, abs=1e-5)
    assert (found * x**2).sum() == pytest.approx(1.5**2, rel=0.02)
    assert (found * y**2).sum() == pytest.approx(1.5**2, rel=0.02)
    assert np.allclose(blur(np.full((5, 4, 3), 7.0, np.float32), gaussian(0.8)), 7)


def segments_by_the_book(image: np.ndarray, scale: float) -> np.ndarray:
    """Felzenszwalb and Huttenlocher's algorithm 1 on sets of pixels, as it is written."""
    height, width, _ = image.shape
    edges = [
        (float(np.linalg.norm(image[y, x] - image[v, u])), (y, x), (v, u))
        for y in range(height)
        for x in range(width)
        for v, u in ((y, x + 1), (y + 1, x))
        if v < height and u < width
    ]
    parts = {(y, x): {(y, x)} for y in range(height) for x in range(width)}
    inside = {id(part): 0.0 for part in parts.values()}
    for weight, a, b in sorted(edges):
        one, other = parts[a], parts[b]
        if one is other:
            continue
        if weight <= min(inside[id(p)] + scale / len(p) for p in (one, other)):
            one |= other
            inside[id(one)] = weight
            parts.update(dict.fromkeys(other, one))
    numbers: dict[int, int] = {}
    flat = [parts[y, x] for y in range(height) for x in range(width)]
    for part in flat:
        numbers.setdefault(id(part), len(numbers))
    return np.array([numbers[id(part)] for part in flat]).reshape(height, width)


@pytest.mark.parametrize("scale", [50.0, 200.0, 800.0])
def test_segments_are_those_of_the_paper(scale: float) -> None:
    # Gray levels whose differences are told apart by the sorting in steps.
    image = np.random.default_rng(0).integers(0, 64, (7, 9, 1)).astype(np.float32) * 4
    labels, count = find_segments(image, scale, 0)
    expected = segments_by_the_book(image, scale)
    assert 1 < count < 63
    assert (labels == expected).all()


def test_small_segments_join_a_neighbor() -> None:
    image = np.zeros((8, 8, 1), np.float32)
    image[:, 4:] = 200
    image[2, 2] = 100
    assert find_segments(image, 1.0, 0)[1] == 3
    labels, count = find_segments(image, 1.0, 5)
    assert count == 2
    assert (labels == np.repeat([[0, 0, 0, 0, 1, 1, 1, 1]], 8, axis=0)).all()


def test_merging_takes_the_two_most_alike_each_time() -> None:
    """Against the algorithm on masks of pixels, where all is measured anew each time."""
    rng = np.random.default_rng(1)
    # Of unlike sizes, so that no two pairs are equally alike.
    labels = np.arange(20, dtype=np.int32).reshape(4, 5)
    labels = labels.repeat([3, 5, 4, 7], axis=0).repeat([2, 6, 3, 5, 4], axis=1)
    bins = rng.integers(0, 4, (*labels.shape, 3)).astype(np.uint8)
    found = merge_segments(labels, 20, *describe_segments(labels, 20, bins, 4))

    def box(mask: np.ndarray) -> tuple[int, int, int, int]:
        y, x = mask.nonzero()
        return x.min(), y.min(), x.max() + 1, y.max() + 1

    def histogram(mask: np.ndarray) -> np.ndarray:
        each = [np.bincount(bins[mask][:, c], minlength=4) for c in range(3)]
        return np.concatenate(each) / mask.sum() / 3

    def likeness(a: np.ndarray, b: np.ndarray) -> float:
        x1, y1, x2, y2 = box(a | b)
        both = a.sum() + b.sum()
        color = np.minimum(histogram(a), histogram(b)).sum()
        return color + 1 - both / labels.size + 1 - ((x2 - x1) * (y2 - y1) - both) / labels.size

    def touch(a: np.ndarray, b: np.ndarray) -> bool:
        grown = a.copy()
        grown[1:] |= a[:-1]
        grown[:-1] |= a[1:]
        grown[:, 1:] |= a[:, :-1]
        grown[:, :-1] |= a[:, 1:]
        return bool((grown & b).any())

    masks = [labels == k for k in range(20)]
    expected = [box(mask) for mask in masks]
    while len(masks) > 1:
        pairs = [
            (likeness(a, b), i, k)
            for i, a in enumerate(masks)
            for k, b in enumerate(masks[:i])
            if touch(a, b)
        ]
        _, i, k = max(pairs)
        masks = [m for n, m in enumerate(masks) if n not in (i, k)] + [masks[i] | masks[k]]
        expected.append(box(masks[-1]))
    assert found.tolist() == [list(map(float, corners)) for corners in expected]


def test_proposals_meet_the_objects_of_a_scene() -> None:
    image, objects = scene(3)
    boxes = torch.from_numpy(propose(np.asarray(image)))
    truth = torch.tensor([box for _, box in objects]).double()
    overlaps = iou(truth[:, None], boxes[None]).amax(dim=1)
    assert (overlaps > 0.8).all()
    assert len(boxes) <= LIMIT
    assert len(boxes.unique(dim=0)) == len(boxes)


def test_a_large_image_is_searched_small_and_its_boxes_are_in_its_pixels() -> None:
    image, _ = scene(3)
    large = image.resize((4 * SIDE, 3 * SIDE), Image.Resampling.NEAREST)
    boxes = propose(np.asarray(large))
    assert boxes[:2].max() == pytest.approx(4 * SIDE)
    assert boxes[:, 3].max() == pytest.approx(3 * SIDE)
    assert len(propose(np.full((40, 30, 3), 9, np.uint8))) == 1  # one color, one segment


def test_a_quarter_of_the_regions_shows_objects_and_hard_background_comes_first() -> None:
    torch.manual_seed(0)
    boxes, labels = torch.tensor([[0.0, 0, 40, 40], [0, 0, 0, 0]]), torch.tensor([2, -1])
    near = torch.tensor([[0.0, 0, 40, 10]] * 6)  # IoU 0.25
    far = torch.tensor([[50.0, 50, 60, 60]] * 50)
    good = torch.tensor([[0.0, 0, 40, 30]] * 20)  # IoU 0.75
    padding = torch.zeros(5, 4)
    regions = sample_regions(torch.cat([far, good, near, padding]), boxes, labels, 16)
    assert len(regions.boxes) == 16
    assert regions.labels.tolist() == [3] * 4 + [0] * 12
    assert (regions.objects[:4] == boxes[0]).all()
    assert (regions.boxes[4:, 2] == 40).sum() == 6
    assert regions.boxes.prod(dim=1).ne(-1).all()
    nothing = sample_regions(far, torch.zeros(1, 4), torch.tensor([-1]), 16)
    assert nothing.labels.tolist() == [0] * 16
    assert len(sample_regions(padding, torch.zeros(1, 4), torch.tensor([-1]), 16).labels) == 0


class Fixed(torch.nn.Module):
    """A network that says the same of each region."""

    def __init__(self, logits: list[float], offset: float | None = None) -> None:
        super().__init__()
        self.logits, self.offset = torch.tensor(logits), offset

    def forward(self, images: torch.Tensor, regions: list[torch.Tensor]) -> Any:
        count = sum(map(len, regions))
        labels = self.logits.expand(count, -1)
        if self.offset is None:
            return labels
        return RegionOutput(labels, torch.full((count, labels.shape[1] - 1, 4), self.offset))


def test_losses_by_hand() -> None:
    """One object, proposed exactly: itself twice and 2 x background, three even odds."""
    box = [0.0, 0, 10, 10]
    proposals = torch.tensor([[box, [5.0, 0, 15, 10], [50, 50, 60, 60]]])
    truth = torch.zeros(1, 3, 64, 64), torch.tensor([[box]]), torch.tensor([[1]]), proposals
    losses = fast_rcnn_losses(Fixed([0.0, 0, 0], 2.0), *truth)
    ln3 = 1.0986123
    assert float(losses["labels"]) == pytest.approx(ln3, rel=1e-5)
    # Targets are 0; smooth L1 of 2 is 1.5, for 4 numbers of 2 of the 4 regions.
    assert float(losses["boxes"]) == pytest.approx(2 * 4 * 1.5 / 4, rel=1e-5)
    found = rcnn_losses(Fixed([0.0, 0, 0]), *truth)
    assert {name: float(loss) for name, loss in found.items()} == {"labels": pytest.approx(ln3)}


def pooled_by_hand(maps: torch.Tensor, region: list[float], cells: int) -> torch.Tensor:
    """The maxima in the cells of a region (x1, y1, x2, y2) of maps (C, h, w), cell by cell."""
    x1, y1, x2, y2 = (int(value + 0.5) for value in region)
    width, height = max(x2 - x1 + 1, 1), max(y2 - y1 + 1, 1)
    result = torch.zeros(len(maps), cells, cells)
    for row in range(cells):
        for column in range(cells):
            top, bottom = y1 + row * height // cells, y1 - (-(row + 1) * height // cells)
            left, right = x1 + column * width // cells, x1 - (-(column + 1) * width // cells)
            cell = maps[:, max(top, 0) : bottom, max(left, 0) : right]
            if cell.numel():
                result[:, row, column] = cell.amax(dim=(1, 2))
    return result


def test_fast_rcnn_pools_the_maxima_of_each_region() -> None:
    """The whole network, with the pooling of each region replaced by one by hand."""
    torch.manual_seed(0)
    network = loud(build("fast-rcnn", num_labels=3, backbone=NARROW))
    images = torch.randint(0, 255, (2, 3, 96, 128), dtype=torch.uint8)
    regions = [torch.tensor([[3.0, 5, 90, 70], [40, 8, 60, 90]]), torch.tensor([[0.0, 0, 128, 96]])]
    with torch.no_grad():
        found = network(images, regions)
        maps = network.backbone(network.backbone.preprocessing.normalize(images))
        coarse = maps[-1].repeat_interleave(2, 2).repeat_interleave(2, 3)
        shared = network.join(torch.cat([maps[-2], coarse], dim=1)).relu()
        pooled = torch.stack(
            [
                pooled_by_hand(shared[number], [value / 16 for value in region], 7)
                for number, own in enumerate(regions)
                for region in own.tolist()
            ]
        )
        x = network.fc7(network.fc6(pooled.flatten(1)).relu()).relu()
        expected = network.labels(x)
    assert found.labels.shape == (3, 4)
    assert found.offsets.shape == (3, 3, 4)
    assert expected.std() > 0.01
    assert torch.allclose(found.labels, expected, atol=1e-4)


def test_rcnn_sees_what_is_in_the_region_and_a_little_around_it() -> None:
    network = build("rcnn", num_labels=2, backbone=NARROW)
    pixels = np.random.default_rng(0).integers(0, 255, (12, 16, 3)).astype(np.uint8)
    image = Image.fromarray(pixels).resize((160, 120), Image.Resampling.BICUBIC)
    images = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
    region = [30.0, 20, 100, 90]
    [crop] = network.warp(images, torch.tensor([[0.0, *region]]))
    # 96 pixels of the crop show 96 - 2 * 16 * 96 / 227 of the region, the rest surrounds it.
    margin = 70 * ((1 / (1 - 32 / 227)) - 1) / 2
    box = (30 - margin, 20 - margin, 100 + margin, 90 + margin)
    expected = image.resize((96, 96), Image.Resampling.BILINEAR, box)
    normal = network.backbone.preprocessing.normalize(
        torch.from_numpy(np.array(expected)).permute(2, 0, 1)[None]
    )[0]
    assert (crop - normal).abs().mean() < 0.03
    beyond = network.warp(images, torch.tensor([[0.0, -300, -300, -200, -200]]))
    assert not beyond.any()


def objective(w: np.ndarray, x: np.ndarray, signs: np.ndarray, costs: np.ndarray) -> float:
    return float(w @ w / 2 + (costs * np.maximum(0, 1 - signs * (x @ w))).sum())


def test_the_svm_is_the_best_one() -> None:
    """By the objective: gradient descent from zero and from the solution finds none better."""
    rng = np.random.default_rng(0)
    positive, negative = rng.normal(0.4, 1, (40, 5)), rng.normal(-0.4, 1, (120, 5))
    w = linear_svm(positive, negative, 0.2, 0.1)
    x = np.concatenate([positive, negative])
    signs = np.array([1.0] * 40 + [-1.0] * 120)
    costs = np.array([0.2] * 40 + [0.1] * 120)
    best = objective(w, x, signs, costs)
    other = np.zeros(5)
    for step in range(1, 20_000):
        wrong = signs * (x @ other) < 1
        other -= (other - (costs * signs * wrong) @ x) / (step + 10)
    assert best <= objective(other, x, signs, costs) * 1.0001
    assert best == pytest.approx(objective(other, x, signs, costs), rel=0.01)
    for _ in range(200):
        assert best <= objective(w + rng.normal(0, 0.05, 5), x, signs, costs) + 1e-3


def test_the_svm_is_scikit_learns() -> None:
    svm = pytest.importorskip("sklearn.svm")
    rng = np.random.default_rng(0)
    positive, negative = rng.normal(0.4, 1, (40, 5)), rng.normal(-0.4, 1, (120, 5))
    peer = svm.LinearSVC(
        loss="hinge", C=0.1, class_weight={1: 2.0}, fit_intercept=False, tol=1e-6, max_iter=100_000
    ).fit(np.concatenate([positive, negative]), [1] * 40 + [0] * 120)
    found = linear_svm(positive, negative, 0.2, 0.1)
    assert np.allclose(found, peer.coef_[0], atol=0.01)


def test_adding_hard_negatives_ends_with_the_svm_of_all_of_them() -> None:
    rng = np.random.default_rng(0)
    positive = torch.from_numpy(rng.normal(1.0, 1, (50, 6))).float()
    negative = torch.from_numpy(rng.normal(-0.5, 1, (5000, 6))).float()
    found = fit_svm(positive, negative).numpy()
    scale = 20.0 / float(torch.cat([positive, negative]).norm(dim=1).mean())
    x, others = (np.c_[p.numpy() * scale, np.full(len(p), 10.0)] for p in (positive, negative))
    w = linear_svm(x.astype(float), others.astype(float), COST * POSITIVE_COST, COST)
    expected = np.r_[w[:-1] * scale, w[-1] * 10]
    points = torch.cat([positive, negative]).numpy()
    ours, theirs = (points @ v[:-1] + v[-1] for v in (found, expected))
    assert np.abs(ours - theirs).max() < 0.05
    assert ours[:50].mean() > 0 > ours[50:].mean()


def test_margins_become_the_chances_that_made_them() -> None:
    rng = np.random.default_rng(0)
    margins = rng.normal(0, 2, 40_000)
    for slope, offset in [(2.0, -1.0), (0.3, -3.0)]:
        shows = rng.random(len(margins)) < 1 / (1 + np.exp(-slope * margins - offset))
        assert calibration(margins, shows) == pytest.approx((slope, offset), rel=0.06)
    # The scale of the margins makes no difference to the chances.
    first, second = calibration(margins, shows), calibration(margins * 50, shows)
    assert (second[0] * 50, second[1]) == pytest.approx(first, rel=1e-4)
    apart = calibration(np.array([-1.0, -1, 1, 1]), np.array([False, False, True, True]))
    assert np.isfinite(apart).all()
    assert apart[0] > 0
    # Where all is background, that is all that is known.
    assert calibration(np.zeros(98), np.zeros(98, bool)) == pytest.approx((0, np.log(1 / 99)))


def test_scores_of_rcnn_are_chances_in_each_label() -> None:
    """Over all regions that it was fitted to, the scores of a label add up to its regions."""
    torch.manual_seed(0)
    network = build("rcnn", num_labels=3, backbone=NARROW).eval()
    examples, shown, scores = [], [], []
    for seed in range(4):
        image, objects = scene(seed)
        pixels = np.asarray(image)
        boxes = torch.tensor([box for _, box in objects]).float()
        proposed = torch.from_numpy(propose(pixels)).float()[:40]
        tensor = torch.from_numpy(pixels.transpose(2, 0, 1).copy())
        examples.append((tensor, boxes, torch.tensor([0, 1]), proposed))
    fit(network, examples)
    for tensor, boxes, _, proposed in examples:
        regions = torch.cat([boxes, proposed])
        shown.append(iou(regions[:, None], boxes[None]) >= 0.5)
        with torch.no_grad():
            maps = torch.cat(list(network.last_maps(tensor[None], to_rois([regions]))))
        scores.append(linear(maps.mean(dim=(2, 3)), network.svms).sigmoid())
    truth, found = torch.cat(shown), torch.cat(scores)
    for label in (0, 1):
        yes, no = int(truth[:, label].sum()), int((~truth[:, label]).sum())
        expected = yes * (yes + 1) / (yes + 2) + no / (no + 2)  # by Platt's targets
        assert yes > 4
        assert float(found[:, label].sum()) == pytest.approx(expected, rel=1e-3)
        assert found[truth[:, label], label].mean() > 2 * found[~truth[:, label], label].mean()
    assert found[:, 2].max() < 0.02  # a label that the images do not show


@pytest.mark.parametrize("count", [10, 60])
def test_corrections_solve_the_ridge_regression(count: int) -> None:
    """Where the objective is least, its gradient vanishes."""
    torch.manual_seed(0)
    x, targets = torch.randn(count, 20) + 3, torch.randn(count, 4)
    found = fit_ridge(x, targets, 5.0).double().requires_grad_()
    off = x.double() @ found[:, :-1].T + found[:, -1] - targets
    (off.square().sum() + 5.0 * found[:, :-1].square().sum()).backward()
    assert found.grad is not None
    assert found.grad.abs().max() < 1e-3


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    splits = {"train": [*range(8)] * 4, "val": [8, 9], "test": [12, 13]}
    return write_voc(tmp_path_factory.mktemp("few") / "shapes", splits)


@pytest.mark.parametrize(
    ("arch", "options", "least"),
    [
        ("fast-rcnn", "--epochs 5 --lr 0.005 --batch-size 4", 0.3),
        ("rcnn", "--epochs 1 --lr 0.003 --batch-size 4", 0.5),
        ("sliding-window", "--epochs 3 --lr 0.005 --batch-size 4", 0.3),
    ],
)
def test_an_architecture_learns_squares_and_discs(
    few: Path, narrow: Path, tmp_path: Path, arch: str, options: str, least: float
) -> None:
    command = [
        "detect", "train", few, "--out", tmp_path / "run", "--arch", arch, *options.split(),
        "--backbone", narrow, "--image-size", 96, "--workers", 0, "--device", "cpu", "--ema", 0,
        "--mosaic", 0, "--zoom", 1.1, "--seed", 1, "--warmup", 0.2, "--precision", "fp32",
    ]  # fmt: skip
    done = run(*command)
    assert done.code == 0, done.err
    best = Path(done.out.strip())
    assert checkpoint.read_header(best).metrics["ap50_coco101"] > least
    found = run("detect", few / "JPEGImages" / "012.jpg", "-m", best, "--threshold", 0.01)
    assert found.code == 0
    assert {line.split("\t")[1] for line in found.out.splitlines()} == {"disc", "square"}
    if arch == "sliding-window":
        return
    # The proposals are there when the run goes on.
    kept = (tmp_path / "run" / "proposals.npz").stat().st_mtime_ns
    assert run(*command, "--resume").code == 0
    assert (tmp_path / "run" / "proposals.npz").stat().st_mtime_ns == kept


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--arch fast-rcnn --size nano", "--size is for yolo, not fast-rcnn"),
        ("--arch rcnn --backbone digits", "1-channel"),
        (
            "--arch fasterrcnn --no-pretrained-backbone",
            "--no-pretrained-backbone: needs a --backbone",
        ),
    ],
)
def test_options_that_do_not_fit(shapes: Path, tmp_path: Path, options: str, message: str) -> None:
    done = run("detect", "train", shapes, "--out", tmp_path / "run", *options.split())
    assert done.code == 2
    assert message in done.err
    assert len(done.err.strip().splitlines()) == 1
