"""Sampling pictures from noise."""

from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from dlkit.core.store import checkpoint
from dlkit.gan_sample import infer, latents
from dlkit.gan_sample.grid import GAP
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
        grid = path.with_suffix(".png")
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
    records(*options, "--latents", vectors, "-o", again, "--force")
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


def enlarged(picture: np.ndarray, scale: int) -> np.ndarray:
    return picture.repeat(scale, axis=0).repeat(scale, axis=1)


def test_enlarged_pictures_repeat_their_pixels(models: dict[str, Path], tmp_path: Path) -> None:
    def draw(name: str, *options: object) -> Path:
        places = ("-o", tmp_path / f"{name}.png", "--separate", tmp_path / name)
        records("-m", models["dcgan"], "-n", 3, *places, *options)
        return tmp_path / name

    plain, large = draw("plain"), draw("large", "--scale", 3)
    for path in plain.iterdir():
        assert (array(large / path.name) == enlarged(array(path), 3)).all()
    cells = [array(f"{folder}.png") for folder in (plain, large)]
    side = CELL - 2 * GAP
    first, second = cells[0][GAP : GAP + side, GAP : GAP + side], cells[1]
    assert second.shape == (2 * (3 * side + 2 * GAP), 2 * (3 * side + 2 * GAP), 3)
    assert (second[GAP : GAP + 3 * side, GAP : GAP + 3 * side] == enlarged(first, 3)).all()


def test_columns_of_an_enlarged_grid_have_the_names_of_their_classes(
    models: dict[str, Path], tmp_path: Path
) -> None:
    grid = tmp_path / "grid.png"
    records("-m", models["cgan"], "-n", 6, "-o", grid, "--scale", 4)
    sheet, side = array(grid), 4 * (CELL - 2 * GAP) + 2 * GAP
    names = sheet[: len(sheet) - 2 * side]
    assert sheet.shape[1] == 3 * side
    for column in range(3):
        assert (names[:, column * side : (column + 1) * side] < 100).any()
    assert (names[:, : side // 3] == 255).all()


def test_files_that_exist_are_kept_unless_forced(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    draw = ("gan-sample", "-m", models["dcgan"], "-n", 3)
    places = {
        "grid.png": (),
        "files/000002.png": ("--separate", "files"),
        "z.npy": ("-o", "other.png", "--save-latents", "z.npy"),
    }
    for name, options in places.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("mine")
        before = sorted(tmp_path.rglob("*"))
        done = run(*draw, *options)
        assert done.code == 2
        assert done.err == f"dlkit: {name}: exists already; add --force to overwrite it\n"
        assert sorted(tmp_path.rglob("*")) == before
        assert run(*draw, *options, "--force").code == 0
        assert Path(name).read_bytes() != b"mine"
    assert run(*draw, "--seed", 1, "-o", "new.png").saved == ("new.png",)
