"""Class activation maps, Grad-CAM and their boxes, on networks with known outputs."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torch import nn

from dlkit.classify.data import Preprocessing
from dlkit.classify.explain import (
    Explanation,
    HeatMap,
    Localization,
    Region,
    class_activation_maps,
    connected_boxes,
    explain,
    find_regions,
    grad_cam,
    overlay,
    visible_part,
)
from dlkit.classify.infer import Classifier
from dlkit.classify.model import build
from dlkit.classify.models.network import Network, PooledHead
from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.core.io.files import FileNames
from dlkit.core.io.writers import write
from dlkit.core.vision.images import Fit, Picture

SIDE = 64  # pixels the hand-made network sees


def brightness_finder(fit: Fit = "crop", head: nn.Module | None = None) -> Classifier:
    """It says `light` where an image is bright, on a map of 16 x 16 places, and else `dark`."""
    squares = nn.Conv2d(3, 1, 4, stride=4)
    nn.init.constant_(squares.weight, 1 / 48)
    nn.init.zeros_(squares.bias)  # type: ignore[arg-type]
    pooled = PooledHead(1, 2)
    pooled.fc.weight.data = torch.tensor([[-1.0], [1.0]])
    pooled.fc.bias.data = torch.tensor([0.1, 0.0])
    network = Network(squares, head or pooled).eval()
    inputs = Preprocessing(SIDE, fit, 3, [0.0] * 3, [1.0] * 3)
    return Classifier(network, ["dark", "light"], inputs, torch.device("cpu"))


def with_square(path: Path, width: int, height: int, box: tuple[int, int, int, int]) -> Path:
    image = Image.new("RGB", (width, height), "black")
    x1, y1, x2, y2 = box
    ImageDraw.Draw(image).rectangle((x1, y1, x2 - 1, y2 - 1), fill="white")
    image.save(path)
    return path


@pytest.fixture
def trained() -> Network:
    """A tiny network with weights, and norms, that are not those of the start."""
    torch.manual_seed(0)
    network = build("resnet9", 5, 32, width_multiplier=0.1).eval()
    assert isinstance(network, Network)
    nn.init.normal_(network.head.get_submodule("fc").bias)  # type: ignore[arg-type]
    return network


def test_cam_is_the_linear_layer_at_every_place(trained: Network) -> None:
    images, labels = torch.randn(3, 3, 32, 32), torch.tensor([4, 0, 2])
    head = trained.head
    assert isinstance(head, PooledHead)
    with torch.no_grad():
        features = trained.features(images)
        everywhere = head.fc(features.permute(0, 2, 3, 1)) - head.fc.bias
        logits = trained(images)
    maps = class_activation_maps(head, features, labels)
    assert maps.shape == (3, 4, 4)
    for index, label in enumerate(labels):
        torch.testing.assert_close(maps[index], everywhere[index, :, :, label])
        logit = logits[index, label] - head.fc.bias[label]
        torch.testing.assert_close(maps[index].mean(), logit)


def test_grad_cam_is_cam_up_to_scale_where_both_are_possible(trained: Network) -> None:
    labels = torch.tensor([1, 3])
    with torch.no_grad():
        features = trained.features(torch.randn(2, 3, 32, 32))
    cam = class_activation_maps(trained.head, features, labels)
    places = features.shape[2] * features.shape[3]
    torch.testing.assert_close(
        grad_cam(trained.head, features, labels), cam.relu() / places, rtol=1e-4, atol=1e-6
    )


def test_grad_cam_weighs_the_maps_by_finite_differences() -> None:
    torch.manual_seed(1)
    hidden = nn.Linear(2 * 9, 4)
    # In-place, and first: the head must not change the map that is weighed.
    head = nn.Sequential(nn.Hardswish(inplace=True), nn.Flatten(), hidden, nn.Tanh())
    head.append(nn.Linear(4, 3)).double().eval()
    features = torch.randn(1, 2, 3, 3, dtype=torch.float64)
    before = features.clone()
    found = grad_cam(head, features, torch.tensor([2]))
    assert torch.equal(features, before)
    weights = torch.zeros(2)
    for channel in range(2):
        for place in range(9):
            step = torch.zeros_like(features)
            step[0, channel, place // 3, place % 3] = 1e-5
            with torch.no_grad():
                change = head(before + step)[0, 2] - head(before - step)[0, 2]
            weights[channel] += change / 2e-5 / 9
    expected = (weights[:, None, None] * before[0].float()).sum(dim=0).relu()
    torch.testing.assert_close(found[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("x", "y"), [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_the_quadrant_with_the_square_lights_up(x: int, y: int, tmp_path: Path) -> None:
    corner = (8 + 32 * x, 8 + 32 * y)
    path = with_square(tmp_path / "a.png", 64, 64, (*corner, corner[0] + 16, corner[1] + 16))
    classifier = brightness_finder()
    pixels = classifier.preprocessing.read(str(path))[None]
    with torch.no_grad():
        features = classifier.network.get_submodule("features")(
            classifier.preprocessing.normalize(pixels)
        )
    head = classifier.network.get_submodule("head")
    for method in (class_activation_maps, grad_cam):
        heat = method(head, features, torch.tensor([1]))[0]
        quadrants = heat.view(2, 8, 2, 8).sum(dim=(1, 3))
        assert quadrants[y, x] == quadrants.sum() > 0


@pytest.mark.parametrize("fit", ["crop", "squash"])
@pytest.mark.parametrize("size", [(192, 96), (96, 192), (128, 128)])
def test_the_box_is_in_the_pixels_of_the_image(
    fit: Fit, size: tuple[int, int], tmp_path: Path
) -> None:
    width, height = size
    middle_x, middle_y = width // 2, height // 2
    box = (middle_x - 24, middle_y - 36, middle_x + 12, middle_y + 24)
    path = with_square(tmp_path / "a.png", width, height, box)
    classifier = brightness_finder(fit)
    (found,) = explain([str(path)], classifier, label="light", boxes=True, threshold=0.5)
    assert isinstance(found, Localization)
    corners = list(vars(found.regions[0]).values())
    # A place covers this many pixels of the image.
    place = max(size) / 16 if fit == "squash" else min(size) / 16
    assert np.abs(np.array(corners) - box).max() <= place / 2
    assert found.rows()[0]["x1"] == corners[0]


def test_a_turned_photograph_is_explained_as_shown(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees to the right
    stored = Image.open(with_square(tmp_path / "a.png", 96, 48, (40, 8, 56, 24)))
    stored.save(tmp_path / "a.jpg", exif=exif, quality=95)
    classifier = brightness_finder("squash")
    (found,) = explain(
        [str(tmp_path / "a.jpg")], classifier, boxes=True, threshold=0.5, label="light"
    )
    assert isinstance(found, Localization)
    box = np.array(list(vars(found.regions[0]).values()))
    assert np.abs(box - (24, 40, 40, 56)).max() <= 3


def test_boxes_in_numbers() -> None:
    heat = torch.zeros(4, 4)
    heat[1, 1] = 8.0
    found = HeatMap("a", Picture(torch.zeros(3, 4, 4), 400, 200), "x", 0.5, heat)
    # Cut at half: a triangle-shaped bump between middles of places is half as high at their edge.
    expected = Region(150.0, 50.0, 200.0, 100.0)
    (crop,) = find_regions(found, "crop", 0.5)
    assert vars(crop) == pytest.approx(vars(expected), abs=1.0)
    (squash,) = find_regions(found, "squash", 0.5)
    assert vars(squash) == pytest.approx(vars(Region(100.0, 50.0, 200.0, 100.0)), abs=1.0)
    assert find_regions(replace(found, heat=-heat), "crop", 0.2) == []
    assert visible_part(400, 201, "crop") == (99.5, 0.0, 300.5, 201.0)


def test_connected_regions_are_those_of_a_flood_fill() -> None:
    rng = np.random.default_rng(0)
    for density in (0.3, 0.45, 0.6):
        mask = rng.random((23, 31)) < density
        assert sorted(connected_boxes(mask)) == sorted(flood_filled(mask))
    assert connected_boxes(np.zeros((3, 3), dtype=bool)) == []
    two = np.array([[1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 1]], dtype=bool)
    assert connected_boxes(two) == [(2, 1, 4, 3), (0, 0, 1, 1)]


def flood_filled(mask: np.ndarray) -> list[tuple[int, int, int, int]]:
    """Box of each region, place by place."""
    left, boxes = {(int(y), int(x)) for y, x in np.argwhere(mask)}, []
    while left:
        waiting = [left.pop()]
        region = list(waiting)
        while waiting:
            y, x = waiting.pop()
            near = {(y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left -= near
            waiting += near
            region += near
        ys, xs = zip(*region, strict=True)
        boxes.append((min(xs), min(ys), max(xs) + 1, max(ys) + 1))
    return boxes


def test_batches_failures_labels_and_pictures(tmp_path: Path) -> None:
    good = [with_square(tmp_path / f"{n}.png", 80, 40, (30, 10, 50, 30)) for n in range(3)]
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    paths = [str(path) for path in (good[0], bad, good[1], good[2])]
    classifier = brightness_finder()
    results = list(explain(paths, classifier, names=FileNames(tmp_path / "maps"), batch_size=2))
    assert [type(result) for result in results] == [Explanation, Failure, Explanation, Explanation]
    pixels = torch.stack([classifier.preprocessing.read(str(path)) for path in good])
    scores = classifier.probabilities(classifier.outputs(pixels))
    for result, of_image in zip([results[0], *results[2:]], scores, strict=True):
        assert isinstance(result, Explanation)
        assert result.label == classifier.labels[int(of_image.argmax())]
        assert result.score == pytest.approx(float(of_image.max()), abs=1e-4)
    assert sorted(p.name for p in (tmp_path / "maps").iterdir()) == ["0.png", "1.png", "2.png"]
    with Image.open(tmp_path / "maps" / "0.png") as drawn:
        assert drawn.size == (256, 128)  # enlarged for the eye

    (dark,) = explain(paths[:1], classifier, label="dark", boxes=True)
    assert isinstance(dark, Localization)
    assert (dark.label, dark.score) == ("dark", pytest.approx(float(scores[0, 0]), abs=1e-4))
    assert dark.regions == []  # no place speaks for it
    assert dark.rows()[0]["x1"] is None


def test_the_overlay_is_hot_where_the_map_is_and_dark_where_nothing_is_seen() -> None:
    heat = torch.zeros(2, 2)
    heat[0, 0] = 3.0
    gray = Image.new("RGB", (200, 100), (128, 128, 128))
    drawn = np.asarray(overlay(gray, heat, visible_part(200, 100, "crop"))).astype(int)
    assert drawn[5, 10].tolist() == [45, 45, 45]
    hot, cold = drawn[10, 60], drawn[90, 140]
    assert hot[0] > hot[2] + 50  # red
    assert cold[2] > cold[0] + 20  # blue


def test_networks_that_cannot_be_explained_are_refused() -> None:
    def refused(classifier: Classifier, method: str = "auto") -> str:
        with pytest.raises(DlkitError) as error:
            list(explain(["data/cat.jpg"], classifier, method))  # type: ignore[arg-type]
        return str(error.value)

    finder = brightness_finder()
    flat = Network(nn.Identity(), nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE**2, 2)))
    assert "flat pixels" in refused(replace(finder, network=flat))
    head = nn.Sequential(nn.Flatten(), nn.Linear(256, 2))
    assert "global average pooling" in refused(brightness_finder(head=head), "cam")
    one_place = Network(nn.AdaptiveAvgPool2d(1), PooledHead(3, 2))
    assert "1 x 1" in refused(replace(finder, network=one_place.eval()))
    assert "not labels" in refused(replace(finder, descriptor=True))
    with pytest.raises(
        DlkitError, match="--label cat: unknown to the model; choose from dark, light"
    ):
        explain([], finder, label="cat")
    # A linear layer on the flattened map is no PooledHead, and has a Grad-CAM.
    (found,) = explain(["data/cat.jpg"], brightness_finder(head=head))
    assert isinstance(found, Explanation)


def test_results_are_json_and_csv(tmp_path: Path) -> None:
    path = str(with_square(tmp_path / "a.png", 64, 64, (8, 8, 24, 24)))
    finder = brightness_finder()
    write(explain([path], finder, label="light", boxes=True), "jsonl", tmp_path / "results.jsonl")
    record = json.loads((tmp_path / "results.jsonl").read_text())
    assert set(record) == {"path", "label", "score", "regions"}
    assert set(record["regions"][0]) == {"x1", "y1", "x2", "y2"}
    write(explain([path], finder, label="light", boxes=True), "csv", tmp_path / "results.csv")
    header, _ = (tmp_path / "results.csv").read_text().splitlines()
    assert header == "path,label,score,x1,y1,x2,y2"
