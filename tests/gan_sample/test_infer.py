"""Sampling pictures from noise."""

from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from dlkit.core.store import checkpoint
from dlkit.gan_sample import infer, latents
from tests.conftest import run
from tests.gan_sample.helpers import CELL, alone, array, assert_nearly_equal, cell, records


def test_a_grid_shows_the_pictures_of_the_seed(models: dict[str, Path], tmp_path: Path) -> None:
    grid = tmp_path / "grid.png"
    assert records("-m", models["dcgan"], "-n", 7, "--seed", 3, "-o", grid) == [
        {"path": str(grid), "number": 0, "pictures": 7, "label": None}
    ]
    sheet = array(grid)
    assert sheet.shape == (3 * CELL, 3 * CELL, 3)
    network = infer.load(str(models["dcgan"]), precision="fp32").network
    for number, z in enumerate(latents.draw(3, range(7), 6)):
        assert_nearly_equal(cell(sheet, *divmod(number, 3)), alone(network, z))
    assert len(np.unique(cell(sheet, 0, 0))) > 50  # there is something in it
    assert (cell(sheet, 2, 1) == 255).all()  # the eighth place is empty


def test_a_picture_is_the_same_however_many_are_drawn(
    models: dict[str, Path], tmp_path: Path
) -> None:
    few, many = tmp_path / "few", tmp_path / "many"
    assert len(records("-m", models["dcgan"], "-n", 3, "--separate", few)) == 3
    assert len(records("-m", models["dcgan"], "-n", 70, "--separate", many)) == 70
    for name in ("000000.png", "000001.png", "000002.png"):
        assert (few / name).read_bytes() == (many / name).read_bytes()
    all_of_them = {path.read_bytes() for path in many.iterdir()}
    assert len(all_of_them) == 70
    other = records("-m", models["dcgan"], "-n", 1, "--seed", 1, "--separate", tmp_path / "other")
    assert Path(other[0]["path"]).read_bytes() not in all_of_them


def test_nothing_but_files_where_only_files_are_asked_for(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    records("-m", models["dcgan"], "-n", 2, "--separate", "files")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["files"]
    records("-m", models["dcgan"], "-n", 2)
    assert array("grid.png").shape == (CELL, 2 * CELL, 3)


def test_classes_take_turns_in_columns_and_folders(models: dict[str, Path], tmp_path: Path) -> None:
    grid, folder = tmp_path / "grid.png", tmp_path / "files"
    found = records("-m", models["cgan"], "-n", 8, "-o", grid, "--separate", folder)
    assert [record["label"] for record in found[:-1]] == list("01201201")
    assert found[4]["path"] == str(folder / "1" / "000004.png")
    assert found[-1] == {"path": str(grid), "number": 0, "pictures": 8, "label": None}
    sheet = array(grid)
    assert sheet.shape == (3 * CELL, 3 * CELL)
    network = infer.load(str(models["cgan"]), precision="fp32").network
    for number, z in enumerate(latents.draw(0, range(8), 6)):
        expected = alone(network, z, number % 3)
        assert_nearly_equal(cell(sheet, *divmod(number, 3)), expected)
        assert (array(found[number]["path"]) == cell(sheet, *divmod(number, 3))).all()
    assert (alone(network, z, 0) != alone(network, z, 1)).any()


def test_a_class_that_is_asked_for(models: dict[str, Path], tmp_path: Path) -> None:
    grid = tmp_path / "grid.png"
    (found,) = records("-m", models["cgan"], "-n", 4, "--class", "2", "-o", grid)
    assert found["label"] == "2"
    sheet = array(grid)
    network = infer.load(str(models["cgan"]), precision="fp32").network
    for number, z in enumerate(latents.draw(0, range(4), 6)):
        assert_nearly_equal(cell(sheet, *divmod(number, 2)), alone(network, z, 2))
    two = ("--class", "2", "--class", "0")
    labels = [
        r["label"] for r in records("-m", models["cgan"], "-n", 3, *two, "--separate", tmp_path)
    ]
    assert labels == ["2", "0", "2"]


def test_truncation_keeps_vectors_short(models: dict[str, Path], tmp_path: Path) -> None:
    written = []
    for truncation in ([], ["--truncation", 0.5]):
        path = tmp_path / f"{len(truncation)}.npy"
        grid = tmp_path / "grid.png"
        records("-m", models["dcgan"], "-n", 50, *truncation, "--save-latents", path, "-o", grid)
        written.append(np.load(path))
    free, short = written
    assert free.shape == short.shape == (50, 6)
    assert np.abs(free).max() > 2
    assert np.abs(short).max() <= 0.5
    # The same draws: the order along each number stays.
    assert (free.argsort(axis=0) == short.argsort(axis=0)).all()


def test_latent_vectors_written_and_read_again(models: dict[str, Path], tmp_path: Path) -> None:
    first, again, vectors = tmp_path / "1.png", tmp_path / "2.png", tmp_path / "z.npy"
    options = ("-m", models["dcgan"])
    records(*options, "-n", 40, "--seed", 5, "--save-latents", vectors, "-o", first)
    assert records(*options, "--latents", vectors, "-o", again)[0]["pictures"] == 40
    assert first.read_bytes() == again.read_bytes()
    np.save(vectors, np.load(vectors)[5:6].astype(np.float64))
    records(*options, "--latents", vectors, "-o", again)
    assert (cell(array(again), 0, 0) == cell(array(first), 0, 5)).all()


def test_a_million_pictures_come_one_by_one(models: dict[str, Path], tmp_path: Path) -> None:
    sampler = infer.load(str(models["dcgan"]))
    vectors = infer.seeded_vectors(sampler, 0, None)
    drawing = infer.sample(sampler, 1_000_000, vectors, separate=tmp_path)
    first = list(islice(drawing, 3))
    drawing.close()  # type: ignore[attr-defined]
    assert [record.number for record in first] == [0, 1, 2]
    assert len(list(tmp_path.iterdir())) < 200


def test_weights_of_another_size_are_refused(models: dict[str, Path], tmp_path: Path) -> None:
    header, weights = checkpoint.load(models["dcgan"])
    header = replace(header, settings={**header.settings, "width": 8})
    checkpoint.save(tmp_path / "odd.safetensors", weights, header)
    done = run("gan-sample", "-m", tmp_path / "odd.safetensors", "-o", tmp_path / "grid.png")
    assert done.code == 2
    assert "do not fit the architecture dcgan: generator.body.0.linear.weight needs" in done.err
