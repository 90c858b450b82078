"""Reconstruction by an encoder or a search."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dlkit.gan_sample import infer
from dlkit.gan_sample.data import from_uint8, to_uint8
from tests.conftest import run
from tests.gan_sample.helpers import array, assert_nearly_equal, cell, records


@pytest.mark.parametrize("arch", ["vae", "autoencoder"])
def test_reconstructions_are_those_of_the_codes(
    models: dict[str, Path], photos: Path, arch: str, tmp_path: Path
) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    sheet, folder, vectors = tmp_path / "all.png", tmp_path / "files", tmp_path / "z.npy"
    done = run(
        "gan-sample", "reconstruct", photos, tmp_path / "broken.png", "-m", models[arch],
        "-f", "json", "-o", sheet, "--separate", folder, "--save-latents", vectors,
    )  # fmt: skip
    assert done.code == 1
    assert "broken.png: not an image" in done.err
    assert "pictures center-cropped, since they are not square: 12" in done.err
    found = json.loads(done.out)
    assert len(found) == 13
    network: Any = infer.load(str(models[arch]), precision="fp32").network
    everything = array(sheet)
    for number, record in enumerate(found[:12]):
        given = torch.tensor(cell(everything, 0, number))
        given = given.permute(2, 0, 1) if given.dim() == 3 else given[None]
        with torch.inference_mode():
            back = to_uint8(network.reconstruct(from_uint8(given[None])))[0]
        written = array(record["output"])
        assert_nearly_equal(np.atleast_3d(written), back.permute(1, 2, 0).numpy())
        assert (cell(everything, 1, number) == written).all()
        difference = cell(everything, 0, number).astype(float) - written
        mse = float(((difference / 255) ** 2).mean())
        assert record["mse"] == pytest.approx(mse, abs=1e-6)
        assert record["psnr"] == pytest.approx(10 * math.log10(1 / mse), abs=0.01)
    again = tmp_path / "again"
    drawn = records("-m", models[arch], "--latents", vectors, "--separate", again)
    for record, one in zip(found[:12], drawn, strict=True):
        assert_nearly_equal(array(record["output"]), array(one["path"]))


def test_a_search_finds_what_the_model_can_draw(models: dict[str, Path], tmp_path: Path) -> None:
    made = records("-m", models["cgan"], "-n", 6, "--seed", 9, "--separate", tmp_path / "made")
    paths = [record["path"] for record in made]
    sheet = tmp_path / "sheet.png", "--force"
    found = records("reconstruct", *paths, "-m", models["cgan"], "--steps", 100, "-o", *sheet)
    assert [record["label"] for record in found] == [record["label"] for record in made]
    assert min(record["psnr"] for record in found) > 30
    start = records("reconstruct", *paths, "-m", models["cgan"], "--steps", 1, "-o", *sheet)
    assert sum(r["mse"] for r in found) < 0.1 * sum(r["mse"] for r in start)
    one = records("reconstruct", paths[1], "-m", models["cgan"], "--class", "0", "-o", *sheet)
    assert one[0]["label"] == "0"
    assert one[0]["mse"] > found[1]["mse"]


def test_a_search_is_each_pictures_own(models: dict[str, Path], photos: Path) -> None:
    options = ("-m", models["dcgan"], "--steps", 20, "--separate", photos.parent / "found")
    alone_, *_ = records("reconstruct", photos / "03.png", *options)
    together = records("reconstruct", photos, *options, "--force")
    assert together[3]["mse"] == pytest.approx(alone_["mse"], rel=1e-3)


def test_nothing_is_written_where_nothing_can_be_read(
    models: dict[str, Path], tmp_path: Path
) -> None:
    sheet, vectors = tmp_path / "sheet.png", tmp_path / "z.npy"
    options = ("-m", models["vae"], "-o", sheet, "--save-latents", vectors)
    done = run("gan-sample", "reconstruct", tmp_path / "none.png", *options)
    assert (done.code, done.out) == (1, "")
    assert "none.png: no such file" in done.err
    done = run("gan-sample", "reconstruct", "-", *options)
    assert (done.code, done.out) == (0, "")
    assert not list(tmp_path.iterdir())


def test_a_search_is_refused_where_there_is_an_encoder(
    models: dict[str, Path], photos: Path
) -> None:
    done = run("gan-sample", "reconstruct", photos, "-m", models["vae"], "--steps", 5)
    assert done.code == 2
    assert "--steps is for models without an encoder" in done.err
