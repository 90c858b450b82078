"""Errors of the commands, shards and processes, and publishing."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dlkit.core.cli.publish import publish
from dlkit.core.store import checkpoint
from dlkit.core.store.checkpoint import Header
from dlkit.gan_sample.cli import TASK
from dlkit.gan_sample.model import build
from tests.conftest import on_processes, run
from tests.gan_sample.helpers import (
    SETTINGS,
    SIDE,
    array,
    assert_nearly_equal,
    cell,
    records,
    run_rank,
)


@pytest.mark.parametrize(
    ("arch", "arguments", "message"),
    [
        ("dcgan", ["-n", 0], "--count: 0 must be at least 1"),
        ("dcgan", ["-n", 1_000_000, "-o", "grid.png"], "20000 x 20000 pixels, over 179 million"),
        ("dcgan", ["--class", "1"], "dcgan.safetensors has no classes; remove it"),
        ("cgan", ["--class", "9"], "cgan.safetensors; choose from 0, 1, 2"),
        ("dcgan", ["-o", "grid.txt"], "grid.txt: not the name of an image; choose from .bmp"),
        (
            "dcgan",
            ["--save-latents", "z.txt"],
            "z.txt: not a name for latent vectors",
        ),
        ("dcgan", ["--latents", "none.npy"], "none.npy: no such file"),
        ("dcgan", ["--latents", "text.npy"], "text.npy: not a NumPy array file"),
        ("dcgan", ["--latents", "wide.npy"], "shape (4, 7); the model needs rows of 6"),
        ("dcgan", ["--latents", "nan.npy"], "nan.npy: some numbers are not finite"),
        ("dcgan", ["--latents", "words.npy"], "words.npy: not an array of numbers"),
        ("dcgan", ["--latents", "good.npy", "-n", 5], "good.npy: 4 vectors are fewer than -n 5"),
        (
            "dcgan",
            ["--latents", "good.npy", "--seed", 1],
            "--seed is for random vectors; remove it",
        ),
        ("cyclegan", [], "a cyclegan, which does not sample from noise; use translate-images"),
        ("dcgan", ["--truncation", -1], "--truncation: -1.0 must be at least 0"),
    ],
)
def test_an_impossible_request_is_refused_in_a_line(
    models: dict[str, Path],
    arch: str,
    arguments: list[Any],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.npy").write_text("not an array")
    np.save("wide.npy", np.zeros((4, 7)))
    np.save("good.npy", np.zeros((4, 6)))
    np.save("nan.npy", np.full((4, 6), math.nan))
    np.save("words.npy", np.full((4, 6), "a"))
    before = sorted(tmp_path.iterdir())
    done = run("gan-sample", "-m", models[arch], *arguments)
    assert done.code == 2
    assert message in done.err
    assert "Traceback" not in done.err
    assert not done.out
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.slow
@pytest.mark.parametrize("command", ["reconstruct -m vae --separate", "translate-images --save"])
def test_shards_and_processes_make_what_one_run_makes(
    command: str, models: dict[str, Path], photos: Path, tmp_path: Path
) -> None:
    options = command.replace("vae", str(models["vae"])).split()
    if "vae" not in command:
        options[1:1] = ["-m", str(models["cyclegan"])]
    options[1:1] = ["--precision", "fp32"]
    for name in ("a/00.png", "a/broken.png"):  # a second 00.png, and no picture
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((photos / "05.png").read_bytes() if "00" in name else b"-")
    inputs = [photos, tmp_path / "a"]
    one, two, three = (tmp_path / name for name in ("one", "two", "three"))
    everything = run("gan-sample", *options, one, *inputs, "-f", "json")
    assert everything.code == 1
    names = [Path(r["output"]).name for r in json.loads(everything.out) if "error" not in r]
    assert len(names) == 13
    assert names[-1] == "00-2.png"

    of_shards = [
        json.loads(run("gan-sample", *options, two, *inputs, "--shard", f"{i}/3", "-f", "json").out)
        for i in range(3)
    ]
    assert [len(records) for records in of_shards] == [5, 5, 4]
    (two / names[2]).unlink()
    again = run("gan-sample", *options, two, *inputs, "--resume", "-f", "json")
    assert [r.get("output", r.get("error")) for r in json.loads(again.out)] == [
        str(two / names[2]),
        json.loads(everything.out)[-1]["error"],
    ]
    notices = tmp_path / "notices"
    command_line = ["gan-sample", *options, three, *inputs]
    if "vae" in command:
        command_line += ["-o", tmp_path / "all.png", "--save-latents", tmp_path / "z.npy"]
    assert on_processes(2, run_rank, notices, *command_line) == [1, 1], notices.read_text()
    assert notices.read_text().count("broken.png: not an image") == 1
    for name in names:
        assert_nearly_equal(array(two / name), array(one / name))
        assert_nearly_equal(array(three / name), array(one / name))
    if "vae" in command:
        for number, name in enumerate(names):
            assert (cell(array(tmp_path / "all.png"), 1, number) == array(three / name)).all()
        assert np.load(tmp_path / "z.npy").shape == (13, 5)


def test_shards_are_refused_for_files_of_all_pictures(
    models: dict[str, Path], photos: Path, tmp_path: Path
) -> None:
    command = ("gan-sample", "reconstruct", photos, "-m", models["vae"])
    done = run(*command, "--shard", "0/2")
    assert done.code == 2
    assert "--shard needs one file per picture; give --separate FOLDER" in done.err
    done = run(*command, "--resume", "--separate", tmp_path / "one", "-o", tmp_path / "all.png")
    assert done.code == 2
    assert "--output holds all pictures; remove --shard and --resume" in done.err
    assert not list(tmp_path.iterdir())


def test_pictures_are_not_written_over(models: dict[str, Path], photos: Path) -> None:
    done = run("gan-sample", "translate-images", photos, "-m", models["cyclegan"], "--save", photos)
    assert done.code == 2
    assert "the folder holds inputs, which are not overwritten" in done.err
    one = photos / "00.png"
    done = run("gan-sample", "reconstruct", one, "-m", models["vae"], "-o", one, "--force")
    assert done.code == 2
    assert "00.png: an input, which must not be overwritten" in done.err
    done = run("gan-sample", "translate-images", photos, "-m", models["dcgan"])
    assert done.code == 2
    assert "not a cyclegan, which translate-images needs" in done.err


def test_a_bundled_model_has_eight_bits_a_weight_and_no_discriminator(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(1)
    settings = {"image_size": SIDE, **SETTINGS["dcgan"]}
    model = build("dcgan", **settings)
    path = tmp_path / "run" / "best.safetensors"
    checkpoint.save(path, model.state_dict(), Header("gan-sample", "dcgan", settings, []))
    monkeypatch.setattr("dlkit.core.cli.publish.folder", lambda task: tmp_path)
    publish(TASK, path.parent, "tiny", [photos], "fid", "photographs", "free", bits=8)
    header, weights = checkpoint.load(tmp_path / "tiny.safetensors", "gan-sample")
    assert header.card["score"] == f"fid {header.metrics['fid']:.3f} on {photos.name} test"
    names = model.generator.state_dict()
    assert weights.keys() == {f"generator.{name}" for name in names}
    records("-m", tmp_path / "tiny.safetensors", "-n", 4, "-o", tmp_path / "tiny.png")
