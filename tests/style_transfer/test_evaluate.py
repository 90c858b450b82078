"""Distances of paintings."""

import csv
import json
import math
from pathlib import Path
from unittest import mock

import pytest
import torch
from torch import Tensor

from dlkit.core.vision import images
from dlkit.style_transfer import infer
from dlkit.style_transfer.evaluate import evaluate_checkpoint
from dlkit.style_transfer.models.features import load_features
from dlkit.style_transfer.optimize import Objective
from tests.conftest import Result, one_line, run
from tests.style_transfer.helpers import CPU, QUICK, paint, smooth, values


def scores(result: Result) -> dict[tuple[str, str], float]:
    return {(r["label"], r["metric"]): r["value"] for r in json.loads(result.out)}


def by_hand(photo: str, style: str, painting: str, side: int) -> tuple[float, float]:
    """The distances with einsum and loops, at the size the tool says it measures at."""
    network, aim = load_features("random:0", CPU), Objective()

    def maps(path: str, size: tuple[int, int] | None = None) -> dict[str, Tensor]:
        pixels = values(path)
        size = size or infer.working_size(pixels.shape[2], pixels.shape[1], side)
        with torch.no_grad():
            return network(infer.resize(pixels, size)[None], network.layers)

    content, strokes, own = maps(photo), maps(style), maps(painting)
    contents = [
        weight * (own[name] - content[name]).square().mean()
        for name, weight in aim.content_layers.items()
    ]
    grams = []
    for name, weight in aim.style_layers.items():
        first, second = (
            torch.einsum("chw,dhw->cd", m[name][0], m[name][0]) / m[name][0, 0].numel()
            for m in (own, strokes)
        )
        grams.append(weight * (first - second).square().mean())
    return float(sum(contents)), float(sum(grams))


def test_distances_of_finished_paintings(folder: Path) -> None:
    assert paint("photos/a.png", "styles/wave.png", "-o", "x.png", "--steps", 5).code == 0
    result = run(
        *("style-transfer", "evaluate", "photos/a.png", "styles/wave.png", "--size", 64),
        *("--picture", "x.png", "--features", "random:0", "-f", "json"),
    )
    assert result.code == 0, result.err
    found = scores(result)
    content, style = by_hand("photos/a.png", "styles/wave.png", "x.png", 64)
    assert math.isclose(found["x.png", "content_distance"], content, rel_tol=1e-2)
    assert math.isclose(found["x.png", "style_distance"], style, rel_tol=1e-2)
    assert found["photo", "content_distance"] == 0
    assert found["photo", "style_distance"] > found["x.png", "style_distance"]
    definition = json.loads(result.out)[1]["definition"]
    assert "relu5_1" in definition
    assert "64 pixels" in definition


def test_methods_are_compared_with_a_sheet_and_a_table(folder: Path) -> None:
    common = ("style-transfer", "evaluate", "photos", "styles", "--size", 64)
    options = ("-m", "gatys", "-m", "fast.safetensors", "-m", "adain.safetensors", "--steps", 10)
    result = run(*common, *options, *QUICK, "--save", "scores", "-f", "json")
    assert result.code == 0, result.err
    found = scores(result)
    labels = ["photo", "gatys", "fast.safetensors", "adain.safetensors"]
    assert list(dict.fromkeys(label for label, _ in found)) == labels
    assert found["gatys", "style_distance"] < 0.5 * found["photo", "style_distance"]
    with Path("scores/distances.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 * 4
    own = [float(row["style_distance"]) for row in rows if row["method"] == "gatys"]
    assert math.isclose(sum(own) / 4, found["gatys", "style_distance"], abs_tol=1e-4)
    sheet = values("scores/sheet.jpg")
    assert sheet.shape[2] == 3 * 256
    assert len(list(Path("scores").glob("*/*"))) == 12


def test_feature_networks_are_compared(folder: Path) -> None:
    common = ("style-transfer", "evaluate", "photos/a.png", "styles/wave.png", "--size", 64)
    options = ("-m", "gatys:random:0", "-m", "gatys:random:1", "--steps", 10)
    result = run(*common, *options, "--features", "random:0", "--save", "scores", "-f", "json")
    assert result.code == 0, result.err
    found = scores(result)
    own, other = (found[f"gatys:random:{n}", "style_distance"] for n in (0, 1))
    # Measured in the first network, a painting made with it is nearer to the style.
    assert own < min(other, found["photo", "style_distance"])
    assert {path.parent.name for path in Path("scores").glob("*/*")} == {
        "gatys-random-0",
        "gatys-random-1",
    }


def test_a_painter_is_measured_on_the_styles_that_it_knows(folder: Path) -> None:
    images.save(infer.to_pillow(smooth(64, 64, 9)), Path("styles/other.png"))
    files = ["photos", "styles"]
    network = load_features("random:0", CPU)
    with mock.patch.object(infer, "load", return_value=network):
        (content, style) = evaluate_checkpoint(files, "", "fast.safetensors")
    assert (content.label, content.metric) == ("all", "content_distance")
    assert style.value is not None
    assert style.value > 0
    result = run("style-transfer", "evaluate", "photos", "styles/other.png", *QUICK, "-m",
                 "fast.safetensors")  # fmt: skip
    assert result.code == 2
    assert "supports none of these styles; choose from wave, night" in result.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["-m", "gatys", "-m", "gatys"], "a method is repeated"),
        (["-m", "a/x.safetensors", "-m", "b/x.safetensors"], "two methods share a name"),
        (["-m", "fast.safetensors", "--steps", "3"], "--steps is for gatys"),
        (["--picture", "photos/a.png", "-m", "gatys"], "--model is for painting"),
        (["--picture", "photos/a.png", "--style", "styles/night.png"], "one photograph and one"),
        (["-m", "no-such"], "unknown model 'no-such'"),
    ],
)
def test_what_cannot_be_evaluated(options: list[str], said: str, folder: Path) -> None:
    common = ("style-transfer", "evaluate", "photos/a.png", "styles/wave.png")
    one_line(run(*common, *options, "--features", "random:0"), said)
