"""Scores of captioners on data."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dlkit.caption.evaluate import EvaluatedCaption, save_sheet, scores
from dlkit.caption.layouts import CaptionedImage
from tests.caption.helpers import pictures
from tests.conftest import run


def test_evaluate_scores_what_was_learned_and_saves_a_sheet(
    shapes: Path, tmp_path: Path, learned: Callable[[str], Path]
) -> None:
    command = ("caption", "evaluate", shapes, "-m", learned("patches"), "--save", tmp_path)
    done = run(*command, "--device", "cpu", "-f", "json")
    assert done.code == 0, done.err
    records = json.loads(done.out)
    scores = {record["metric"]: record["value"] for record in records}
    assert all(record["definition"] for record in records)
    assert scores["images"] == 10
    assert [scores[f"bleu_{n}"] for n in (1, 2, 3, 4)] == [1, 1, 1, 1]
    assert scores["rouge_l"] == scores["distinct"] == 1
    assert scores["new"] == 0
    said = {word for _, text in pictures() for word in text.split()}
    assert scores["words_used"] == len(said)
    assert scores["words_used_share"] == pytest.approx(len(said) / (len(said) + 2), abs=1e-4)
    with Image.open(tmp_path / "best-and-worst.png") as sheet:
        assert sheet.width == 4 * 240


def test_new_captions_are_those_that_nobody_wrote() -> None:
    known = [
        CaptionedImage(Path("a.jpg"), ["A dog runs ."]),
        CaptionedImage(Path("b.jpg"), ["A cat sits ."]),
    ]
    described = [EvaluatedCaption(known[0], "a dog runs"), EvaluatedCaption(known[1], "a dog sits")]
    found = {s.metric: s.value for s in scores(described, ["A Dog runs !", "Two men walk ."])}
    assert found["new"] == 0.5
    assert found["distinct"] == 1
    assert found["words_used"] == 4
    assert "new" not in {s.metric for s in scores(described, None)}


def test_the_sheet_shows_the_best_first(tmp_path: Path) -> None:
    samples, described = [], []
    for number in range(20):
        path = tmp_path / f"{number}.png"
        Image.new("RGB", (40, 40), (10 * number, 0, 0)).save(path)
        samples.append(
            CaptionedImage(path, [f"picture {number} of word{number} and thing{number}"])
        )
        right = samples[-1].captions[0].split()
        described.append(EvaluatedCaption(samples[-1], " ".join(right[: 6 - number % 6])))
    save_sheet(described, tmp_path / "sheet.png")
    sheet = np.array(Image.open(tmp_path / "sheet.png").convert("RGB"))
    assert sheet.shape[1] == 4 * 240
    first = sheet[120, 120]
    assert first[0] % 60 == 0  # the whole reference: pictures 0, 6, 12 and 18
    row = sheet.shape[0] // 4  # of eight and eight
    assert sheet[3 * row + 120, 3 * 240 + 120][0] == 170  # two words of six: the last is 17


def test_unreadable_images_are_skipped_in_the_scores(
    shapes: Path, tmp_path: Path, learned: Callable[[str], Path]
) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    with (tmp_path / "data.csv").open("w", newline="") as file:
        good = str(shapes / "Images" / "0.png")
        rows = [["bad.png", "a thing", "test"], [good, "a disc", "test"]]
        csv.writer(file).writerows([["path", "caption", "split"], *rows])
    command = ("caption", "evaluate", tmp_path / "data.csv", "-m", learned("patches"))
    assert "--allow-skipped 0.5" in run(*command, "-f", "json").err
    done = run(*command, "-f", "json", "--allow-skipped", "0.5")
    assert done.code == 0, done.err
    assert "test: skipped 1 of 2 images (50 %): 1 unreadable image" in done.err
    found = {record["metric"]: record["value"] for record in json.loads(done.out)}
    assert found["images"] == 1
    assert "new" not in found
