"""Scores of models."""

import json
from pathlib import Path

import pytest

from tests.conftest import run
from tests.gan_sample.helpers import records


def scores_of(*arguments: object) -> dict[tuple[str, str], float]:
    return {(r["metric"], r["label"]): r["value"] for r in records("evaluate", *arguments)}


def test_a_model_scores_best_against_its_own_pictures(
    models: dict[str, Path], tmp_path: Path
) -> None:
    own, options = tmp_path / "own", ("-m", models["cgan"], "-n", 60)
    made = records(*options, "--seed", 2, "--separate", own)
    same = scores_of(own, *options, "--seed", 2)
    assert same["fid", "all"] == pytest.approx(0, abs=1e-3)
    assert same["precision", "all"] == same["recall", "all"] == 1
    assert same["diversity", "all"] == pytest.approx(1)
    other = scores_of(own, *options, "--seed", 3)
    assert other["fid", "all"] > 10 * same["fid", "all"]
    # What the classifier says of the files, asked by itself.
    paths = [record["path"] for record in made]
    answers = json.loads(run("classify", *paths, "-m", "digits", "-f", "json").out)
    right = [a["labels"][0]["label"] == r["label"] for a, r in zip(answers, made, strict=True)]
    assert same["class_accuracy", "all"] == pytest.approx(sum(right) / 60, abs=0.04)
    assert {label for name, label in same if name == "class_accuracy"} == {"all", "0", "1", "2"}


def test_definitions_name_the_features_and_how_many_pictures(
    models: dict[str, Path], photos: Path
) -> None:
    found = records("evaluate", photos, "-m", models["dcgan"], "-n", 11)
    assert all(
        "11 pictures and 11 real ones, in the features of cifar10" in r["definition"] for r in found
    )
    found = records("evaluate", photos, "-m", models["dcgan"], "--features", "digits")
    assert all(
        "12 pictures and 12 real ones, in the features of digits" in r["definition"] for r in found
    )


def test_autoencoders_are_scored_by_their_reconstructions_too(
    models: dict[str, Path], photos: Path, tmp_path: Path
) -> None:
    scores = scores_of(photos, "-m", models["vae"])
    each = records("reconstruct", photos, "-m", models["vae"], "-o", tmp_path / "all.png")
    psnr = sum(record["psnr"] for record in each) / len(each)
    assert scores["reconstruction_psnr", "all"] == pytest.approx(psnr, abs=0.01)
    mse = sum(record["mse"] for record in each) / len(each)
    assert scores["reconstruction_mse", "all"] == pytest.approx(mse, abs=1e-5)


def test_translations_are_compared_with_the_other_domain(
    models: dict[str, Path], photos: Path, tmp_path: Path
) -> None:
    for domain in ("testA", "testB"):
        (tmp_path / domain).symlink_to(photos)
    scores = scores_of(tmp_path, "-m", models["cyclegan"])
    assert {label for _, label in scores} == {"a-to-b", "b-to-a"}
    assert scores["fid", "a-to-b"] > 0
    done = run("gan-sample", "evaluate", photos, "-m", models["cyclegan"])
    assert done.code == 2
    assert "a cyclegan is evaluated on testA and testB" in done.err


def test_three_pictures_are_too_few_to_compare_with(
    models: dict[str, Path], photos: Path, tmp_path: Path
) -> None:
    for name in ("00.png", "01.png", "02.png"):
        (tmp_path / name).symlink_to(photos / name)
    done = run("gan-sample", "evaluate", tmp_path, "-m", models["dcgan"])
    assert (done.code, done.out) == (2, "")
    assert "3 pictures are too few to compare with; give 10 or more" in done.err
