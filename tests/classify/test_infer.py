"""Inference with one or more models."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch import Tensor

from dlkit.classify import infer
from tests.classify.helpers import COLORS, SIDE, TINY, striped, trained
from tests.conftest import run


def test_answers_do_not_depend_on_the_batch(stripes: Path, model: Path) -> None:
    options = ["-m", model, "--top", 3, "--device", "cpu", "--precision", "fp32", "-f", "json"]
    one = json.loads(run("classify", stripes / "test", *options, "--batch-size", 1).out)
    many = json.loads(run("classify", stripes / "test", *options, "--batch-size", 7).out)
    for left, right in zip(one, many, strict=True):
        assert left["path"] == right["path"]
        for a, b in zip(left["labels"], right["labels"], strict=True):
            assert a["label"] == b["label"]
            assert a["score"] == pytest.approx(b["score"], abs=2e-4)


def test_several_models_vote(stripes: Path, model: Path, tmp_path: Path) -> None:
    other = trained(stripes, tmp_path / "other", *TINY, "--seed", 5, "--epochs", 1)
    path = stripes / "test" / "amber" / "0.png"
    options = [path, "--top", 3, "-f", "json", "--device", "cpu", "--precision", "fp32"]

    def answer(*models: Path) -> dict[str, float]:
        chosen = [word for m in models for word in ("-m", m)]
        record = json.loads(run("classify", *options, *chosen).out)[0]
        return {prediction["label"]: prediction["score"] for prediction in record["labels"]}

    first, second, both = answer(model), answer(other), answer(model, other)
    for label in COLORS:
        assert both[label] == pytest.approx((first[label] + second[label]) / 2, abs=2e-4)


def test_mirror_averages_the_outputs_of_both_views(model: Path, tmp_path: Path) -> None:
    """Against the outputs of the picture and of its mirrored file, and said in the scores."""
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8))
    paths = [str(tmp_path / "a.png"), str(tmp_path / "b.png")]
    picture.save(paths[0])
    ImageOps.mirror(picture).save(paths[1])
    classifier = infer.load(str(model), "cpu", "fp32")
    one, other = (out for _, out in infer.predict(classifier, paths))
    assert isinstance(one, Tensor)
    assert isinstance(other, Tensor)
    assert not torch.allclose(one, other, atol=1e-3)
    expected = ((one + other) / 2).softmax(dim=0)
    options = ["-m", model, "--top", 3, "--device", "cpu", "--precision", "fp32", "-f", "json"]
    for record in json.loads(run("classify", *paths, *options, "--test-views", "mirror").out):
        for answer in record["labels"]:
            wanted = float(expected[classifier.labels.index(answer["label"])])
            assert answer["score"] == pytest.approx(wanted, abs=2e-4)


def test_mirrored_views_are_named_in_the_scores(stripes: Path, model: Path) -> None:
    found = run(
        "classify", "evaluate", stripes, "-m", model, "--test-views", "mirror", "-f", "json"
    )
    assert all(
        "the image and its mirror image" in one["definition"] for one in json.loads(found.out)
    )
    plain = run("classify", "evaluate", stripes, "-m", model, "-f", "json")
    assert not any("mirror" in one["definition"] for one in json.loads(plain.out))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("evaluate . --folds 2", "--folds: scores one view; remove --test-views mirror"),
        ("evaluate . -m reviews", "--test-views mirror: reviews classifies texts; remove it"),
        ("-m reviews --text good", "--test-views: reviews classifies texts; choose an image model"),
        ("data/cat.jpg --dense", "--dense: maps one view; remove --test-views mirror"),
    ],
)
def test_mirrored_views_where_there_are_none(line: str, message: str) -> None:
    result = run("classify", *line.split(), "--test-views", "mirror")
    assert result.code == 2
    assert message in result.err


def test_a_class_map_of_a_larger_image(model: Path, tmp_path: Path) -> None:
    """Blue on the left, cyan on the right: so say the map's first and last columns."""
    wide = Image.new("RGB", (4 * SIDE, 2 * SIDE))
    for row in range(2):
        for column in range(4):
            tile = striped("blue" if column < 2 else "cyan", 3)
            wide.paste(tile, (column * SIDE, row * SIDE))
    path = tmp_path / "wide.png"
    wide.save(path)
    record = json.loads(run("classify", path, "-m", model, "--dense", "-f", "json").out)[0]
    assert {row[0] for row in record["labels"]} == {"blue"}
    assert {row[-1] for row in record["labels"]} == {"cyan"}
    assert record["x"][0] == SIDE / 2
    assert record["x"][-1] == 3.5 * SIDE
    assert record["y"] == sorted(record["y"])
    text = run("classify", path, "-m", model, "--dense").out.splitlines()
    assert len(text) == len(record["x"]) * len(record["y"])
    small = run("classify", path, "-m", model, "--dense", "--image-size", 40)
    assert small.code == 1
    assert "--dense needs 28 a side" in small.err
