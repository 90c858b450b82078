"""`gan_sample` in Python: the pictures of the command."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dlkit.core.errors import DlkitError
from dlkit.gan_sample import Samples, evaluate, gan_sample, load
from tests.conftest import records, run


def printed(model: Path, folder: Path, *arguments: object) -> list[np.ndarray]:
    """The pictures that the command writes."""
    out = folder / "out"
    done = run("gan-sample", "-m", model, "--separate", out, *arguments, "-f", "jsonl")
    assert done.code == 0, done.err
    return [np.array(Image.open(record["path"])) for record in records(done)]


@pytest.mark.parametrize("kind", ["dcgan", "cgan", "vae"])
def test_pictures_are_those_of_the_command(
    kind: str, models: dict[str, Path], tmp_path: Path
) -> None:
    found = gan_sample(5, models[kind], seed=3, truncation=1.5)
    assert isinstance(found, Samples)
    expected = printed(models[kind], tmp_path, "-n", 5, "--seed", 3, "--truncation", 1.5)
    assert len(found) == len(expected) == 5
    for picture, truth in zip(found, expected, strict=True):
        assert np.array_equal(np.array(picture), truth)
    assert np.array_equal(np.array(found[2]), expected[2])
    assert len(gan_sample(model=models[kind])) == 16


def test_classes_and_their_labels(models: dict[str, Path], tmp_path: Path) -> None:
    sampler = load(models["cgan"])
    one, two = sampler.labels[:2]
    found = sampler(4, classes=[two, one])
    assert found.labels == [two, one, two, one]
    expected = printed(models["cgan"], tmp_path, "-n", 4, "--class", two, "--class", one)
    assert all(np.array_equal(a, b) for a, b in zip(map(np.array, found), expected, strict=True))
    assert sampler(2, classes=one).labels == [one, one]
    assert gan_sample(2, models["dcgan"]).labels == [None, None]


def test_a_grid_and_a_folder_are_those_of_the_command(
    models: dict[str, Path], tmp_path: Path
) -> None:
    for kind, scale in (("dcgan", 1), ("cgan", 3)):
        file = tmp_path / f"{kind}.png"
        run("gan-sample", "-m", models[kind], "-n", 7, "-o", file, "--scale", scale)
        saved = gan_sample(7, models[kind]).save(tmp_path / "python.png", scale)
        assert np.array_equal(np.array(Image.open(saved)), np.array(Image.open(file)))
        printed(models[kind], tmp_path / kind, "-n", 7)
        gan_sample(7, models[kind]).save(tmp_path / kind / "python")
        ours, theirs = (
            {p.relative_to(root): p.read_bytes() for p in root.rglob("*.png")}
            for root in (tmp_path / kind / "python", tmp_path / kind / "out")
        )
        assert ours == theirs
    with pytest.raises(DlkitError, match="no format has the suffix '.txt'; choose from .jpeg"):
        gan_sample(1, models["dcgan"]).save(tmp_path / "a.txt")


def test_latents_draw_the_same_pictures(models: dict[str, Path], tmp_path: Path) -> None:
    found = gan_sample(4, models["dcgan"], seed=1)
    run("gan-sample", "-m", models["dcgan"], "-n", 4, "--seed", 1, "-o", tmp_path / "a.png",
        "--save-latents", tmp_path / "z.npy")  # fmt: skip
    assert np.array_equal(found.latents, np.load(tmp_path / "z.npy"))
    again = gan_sample(model=models["dcgan"], latents=found.latents)
    assert (again.pixels == found.pixels).all()
    assert len(gan_sample(2, models["dcgan"], latents=found.latents)) == 2


def test_a_result_is_shown(models: dict[str, Path]) -> None:
    found = gan_sample(3, models["cgan"])
    assert found._repr_html_().startswith("<img")
    assert repr(found) == f"<3 pictures of {models['cgan']}, 16 x 16 pixels>"
    assert found.rows()[1] == {"number": 1, "label": found.labels[1]}


def test_wrong_options_are_refused(models: dict[str, Path]) -> None:
    vectors = np.zeros((2, 3), np.float32)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"count": 0}, "count=0: not in the range"),
        ({"classes": "cat"}, "has no classes"),
        ({"latents": vectors}, r"an array of shape \(2, 3\); the model needs rows"),
        ({"latents": vectors, "seed": 1}, "seed and truncation are for random vectors"),
        ({"model": models["cyclegan"]}, "a cyclegan, which does not sample from noise"),
    ]
    for options, message in wrong:
        with pytest.raises(DlkitError, match=message):
            gan_sample(**{"model": models["dcgan"], **options})


def test_evaluate_has_the_scores_of_the_command(models: dict[str, Path], bars: Path) -> None:
    scores = evaluate(bars, "train", models["dcgan"], samples=20)
    done = run("gan-sample", "evaluate", bars, "--split", "train", "-m", models["dcgan"],
               "--samples", 20, "-f", "jsonl")  # fmt: skip
    assert [asdict(score) for score in scores] == records(done)
    assert scores["fid"] == scores[0].value
