"""Suspects: confident learning against cleanlab and by hand, boxes by hand, and the command."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dlkit.data import confident
from tests.conftest import run, write_voc


def noisy(samples: int = 400, classes: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True labels (N,), labels of which some are wrong, and probabilities (N, K)."""
    rng = np.random.default_rng(0)
    true = rng.integers(0, classes, samples)
    labels = true.copy()
    wrong = rng.random(samples) < 0.1
    labels[wrong] = (true[wrong] + 1) % classes
    logits = rng.normal(size=(samples, classes)) + 3 * np.eye(classes)[true]
    probabilities = np.exp(logits)
    return true, labels, probabilities / probabilities.sum(axis=1, keepdims=True)


def test_the_confident_joint_by_hand() -> None:
    labels = np.array([0, 0, 0, 1, 1, 1])
    of_one = np.array([0.1, 0.3, 0.9, 0.8, 0.7, 0.2])
    probabilities = np.stack([1 - of_one, of_one], axis=1)
    # Of the label 0: mean of 0.9, 0.7, 0.1; of the label 1: mean of 0.8, 0.7, 0.2.
    assert confident.thresholds(labels, probabilities) == pytest.approx([17 / 30, 17 / 30])
    assert confident.confident_classes(labels, probabilities).tolist() == [0, 0, 1, 1, 1, 0]
    assert confident.suspect_labels(labels, probabilities).tolist() == [2, 5]


def test_suspects_are_cleanlab_s() -> None:
    filters = pytest.importorskip("cleanlab.filter")
    _, labels, probabilities = noisy()
    expected = filters.find_label_issues(
        labels,
        probabilities,
        filter_by="confident_learning",
        return_indices_ranked_by="self_confidence",
        n_jobs=1,
    )
    assert confident.suspect_labels(labels, probabilities).tolist() == expected.tolist()


def test_most_wrong_labels_are_found_and_few_right_ones() -> None:
    true, labels, probabilities = noisy()
    found = confident.suspect_labels(labels, probabilities)
    wrong = np.flatnonzero(true != labels)
    hits = np.isin(found, wrong).sum()
    assert hits / len(wrong) > 0.5
    assert hits / len(found) > 0.8


def test_probabilities_are_those_of_samples_that_were_held_out() -> None:
    """A sample's own label has no effect on its probabilities."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 30)
    descriptors = rng.normal(size=(60, 5)).astype(np.float32) + labels[:, None]
    folds = confident.stratified_folds(labels, 3, 0)
    assert [np.bincount(labels[folds == fold]).tolist() for fold in range(3)] == [[10, 10]] * 3
    found = confident.held_out_probabilities(descriptors, labels, 2, 3, 0)
    assert found.sum(axis=1) == pytest.approx(np.ones(60))
    assert (found.argmax(axis=1) == labels).mean() > 0.8
    held = folds == 1
    again = confident.softmax_regression(descriptors[~held], labels[~held], descriptors[held], 2)
    assert found[held] == pytest.approx(again)


def test_boxes_by_hand() -> None:
    given = np.array([[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10], [60, 0, 70, 10]])
    labels = ["cat", "cat", "cat", "dog"]
    found = np.array(
        [[0, 0, 10, 10], [25, 0, 35, 10], [60, 0, 70, 10], [80, 0, 90, 10], [80, 20, 90, 30]]
    )
    found_labels = ["cat", "cat", "cat", "cow", "cow"]
    scores = np.array([0.9, 0.9, 0.8, 0.7, 0.4])
    suspects = {
        s.kind: s for s in confident.suspect_boxes(given, labels, found, found_labels, scores)
    }
    assert set(suspects) == {"box", "no object", "label", "missing box"}
    # An overlap of 5 x 10 of 150 pixels: 0.9 - 0.9 / 3.
    assert (suspects["box"].given, suspects["box"].predicted) == (1, 1)
    assert suspects["box"].score == pytest.approx(0.6)
    assert suspects["no object"].given == 2
    assert (suspects["label"].given, suspects["label"].predicted) == (3, 2)
    assert suspects["label"].score == pytest.approx(0.8)
    assert (suspects["missing box"].given, suspects["missing box"].predicted) == (None, 3)


@pytest.fixture(scope="module")
def colored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Red and blue images in folders of their names; 7.png of red is blue."""
    folder = tmp_path_factory.mktemp("colored")
    rng = np.random.default_rng(0)
    for label, channel in (("blue", 2), ("red", 0)):
        (folder / "train" / label).mkdir(parents=True)
        for number in range(12):
            pixels = rng.integers(0, 60, (32, 32, 3), dtype=np.uint8)
            pixels[..., 2 if (label, number) == ("red", 7) else channel] += 180
            Image.fromarray(pixels).save(folder / "train" / label / f"{number}.png")
    return folder


def test_a_wrong_label_is_found(colored: Path, tmp_path: Path) -> None:
    out = tmp_path / "found.jsonl"
    done = run("data", "suspects", colored, "--folds", 3, "--workers", 0, "-o", out,
               "--save", tmp_path / "report")  # fmt: skip
    assert done.code == 1, done.err
    first = json.loads(out.read_text().splitlines()[0])
    assert Path(first["path"]).parts[-2:] == ("red", "7.png")
    assert (first["label"], first["suggested"]) == ("red", "blue")
    assert "train: 24 images" in done.err
    page = (tmp_path / "report" / "report.html").read_text()
    assert "red → blue" in page
    assert "data:image/jpeg;base64," in page


def test_other_models_probabilities(colored: Path, tmp_path: Path) -> None:
    rows = np.tile([[0.9, 0.1]], (24, 1))
    rows[12:] = 0.2, 0.8
    rows[3] = 0.05, 0.95
    np.save(tmp_path / "p.npy", rows)
    done = run("data", "suspects", colored, "--predictions", tmp_path / "p.npy")
    assert done.code == 1
    assert len(done.out.splitlines()) == 1
    for array, reason in [
        (rows[:5], "numbers of shape (5, 2), not (24, 2)"),
        (rows * 2, "their sum is not 1"),
    ]:
        np.save(tmp_path / "p.npy", array)
        refused = run("data", "suspects", colored, "--predictions", tmp_path / "p.npy")
        assert refused.code == 2
        assert reason in refused.err


def test_a_shifted_and_a_missing_box_are_found(model: Path, tmp_path: Path) -> None:
    """The detector was trained on other scenes of the same kind."""
    data = write_voc(tmp_path / "shapes", {"train": [30, 31, 32, 33]})
    clean = run("data", "suspects", data, "-m", model, "-f", "jsonl")
    file = data / "Annotations" / f"{30:03}.xml"
    text = file.read_text()
    start = text.index("<object>")
    x1, x2 = (text[text.index(f"<{k}>", start) + 6 : text.index(f"</{k}>", start)]
              for k in ("xmin", "xmax"))  # fmt: skip
    shift = (float(x2) - float(x1)) / 2
    file.write_text(
        text.replace(f"<xmin>{x1}<", f"<xmin>{float(x1) + shift:g}<", 1).replace(
            f"<xmax>{x2}<", f"<xmax>{float(x2) + shift:g}<", 1
        )
    )
    other = data / "Annotations" / f"{31:03}.xml"
    text = other.read_text()
    end = text.index("</object>") + len("</object>")
    other.write_text(text[: text.index("<object>")] + text[end:])
    done = run("data", "suspects", data, "-m", model, "-f", "jsonl")
    assert done.code == 1
    old = {json.loads(line)["image"] for line in clean.out.splitlines()}
    new = [json.loads(line) for line in done.out.splitlines()]
    added = {(row["kind"], Path(row["image"]).stem) for row in new if row["image"] not in old}
    assert ("box", "030") in added
    assert ("missing box", "031") in added


def test_refusals(colored: Path, tmp_path: Path) -> None:
    assert "fewer than --folds 20" in run("data", "suspects", colored, "--folds", 20).err
    (tmp_path / "one" / "train" / "a").mkdir(parents=True)
    for number in range(6):
        Image.new("RGB", (16, 16)).save(tmp_path / "one" / "train" / "a" / f"{number}.png")
    refused = run("data", "suspects", tmp_path / "one")
    assert refused.code == 2
    assert refused.err.count("dlkit: ") == 1
