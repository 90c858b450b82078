"""`classify` in Python: the labels of the command, for files, images in memory and texts."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dlkit.classify import (
    Classification,
    ClassMap,
    TextClassification,
    classify,
    evaluate,
    load,
)
from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from tests.classify.helpers import save_picture, striped
from tests.conftest import records, run


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    striped("cyan", 5).save(tmp_path / "cyan.png")
    return tmp_path / "cyan.png"


def printed(model: Path, *arguments: object) -> list[dict[str, Any]]:
    done = run("classify", *arguments, "-m", model, "-f", "jsonl")
    assert done.code == 0, done.err
    return records(done)


def test_a_file_has_the_record_of_the_command(model: Path, picture: Path) -> None:
    pairs: Sequence[tuple[dict[str, Any], list[str]]] = (
        ({}, []),
        ({"top": 3}, ["--top", "3"]),
        ({"top": 3, "threshold": 0.2}, ["--top", "3", "--threshold", "0.2"]),
    )
    for options, arguments in pairs:
        found = classify(picture, model, **options)
        assert isinstance(found, Classification)
        assert [asdict(found)] == printed(model, picture, *arguments)


def test_an_image_in_memory_has_the_labels_of_its_file(model: Path, picture: Path) -> None:
    expected = classify(picture, model, top=3).labels
    pixels = np.array(Image.open(picture))
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    for image in (Image.open(picture), pixels, pixels / 255, tensor, tensor / 255):
        assert classify(image, model, top=3).labels == expected
    batch: Any = classify(torch.stack([tensor, tensor]), model, top=3)
    assert [one.labels for one in batch] == [expected] * 2


def test_models_are_averaged(model: Path, picture: Path) -> None:
    done = run("classify", picture, "-m", model, "-m", model, "--top", 3, "-f", "jsonl")
    for models in ([model, load(model)], (str(model), load(model).loaded)):
        assert [asdict(classify(picture, models, top=3))] == records(done)


def test_a_map_of_labels(model: Path, tmp_path: Path) -> None:
    save_picture(tmp_path / "wide.png", 0, (20, 60, 230))
    Image.open(tmp_path / "wide.png").resize((90, 60)).save(tmp_path / "wide.png")
    found: Any = classify(tmp_path / "wide.png", model, dense=True)
    assert isinstance(found, ClassMap)
    assert [asdict(found)] == printed(model, tmp_path / "wide.png", "--dense")
    run("classify", tmp_path / "wide.png", "-m", model, "--dense", "--save", tmp_path / "out")
    drawn = np.array(Image.open(tmp_path / "out" / "wide.png"))
    assert np.array_equal(np.array(found.picture()), drawn)


def test_the_picture_is_that_of_the_command(model: Path, picture: Path, tmp_path: Path) -> None:
    run("classify", picture, "-m", model, "--top", 3, "--save", tmp_path / "out")
    expected = np.array(Image.open(tmp_path / "out" / "cyan.png"))
    for image in (picture, np.array(Image.open(picture))):
        found = classify(image, model, top=3)
        assert np.array_equal(np.array(found.picture()), expected)
    assert found._repr_html_().count("<tr>") == 4
    run("classify", picture, "-m", model, "-o", tmp_path / "command.csv")
    saved = classify(picture, model).save(tmp_path / "python.csv")
    assert saved.read_text() == (tmp_path / "command.csv").read_text()


def test_a_string_is_one_text(words: Path) -> None:
    text = "good and cheap"
    found: Any = classify(text, words, top=2)
    assert isinstance(found, TextClassification)
    assert found.text == text
    assert [asdict(found)] == printed(words, "--text", text, "--top", 2)
    several: Any = load(words)([text, "bad"], top=2)
    assert [one.text for one in several] == [text, "bad"]
    assert several[0] == found
    assert "<table>" in found._repr_html_()


def test_wrong_inputs_and_options_are_refused(
    model: Path, words: Path, picture: Path, tmp_path: Path
) -> None:
    for options, message in (
        ({"image_size": 64}, "image_size needs dense=True"),
        ({"top": 0}, "top=0: not in the range; give 1 or more"),
        ({"dense": True, "model": [model, model]}, "dense takes one model; 2 are given"),
        ({"model": [model, words]}, "some models classify images and some texts"),
        ({"model": words, "dense": True}, "dense is for images"),
        ({"model": words, "inputs": 3}, "3: not a text"),
        ({"model": "nothing"}, "unknown model 'nothing'"),
    ):
        arguments: dict[str, Any] = {"inputs": picture, "model": model, **options}
        with pytest.raises(DlkitError, match=message):
            classify(**arguments)
    found = classify([picture, tmp_path / "none.png"], model, errors="return")
    assert isinstance(found[1], Failure)


def test_evaluate_has_the_scores_of_the_command(model: Path, stripes: Path) -> None:
    scores = evaluate(stripes, "test", model)
    done = run("classify", "evaluate", stripes, "-m", model, "-f", "jsonl")
    assert [asdict(score) for score in scores] == records(done)
    assert scores["top1"] == scores[0].value
    assert scores["recall", "cyan"] is not None
