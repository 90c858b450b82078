"""Drawing, interpolating, reconstructing, translating and evaluating with tiny models."""

import json
import math
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from dlkit.classify import infer as classifying
from dlkit.core.cli.publish import publish
from dlkit.core.store import checkpoint
from dlkit.core.store.checkpoint import Header
from dlkit.gan_sample import infer, latents
from dlkit.gan_sample.cli import TASK
from dlkit.gan_sample.data import from_uint8, to_uint8
from dlkit.gan_sample.model import build
from tests.conftest import on_processes, run
from tests.test_cluster import dlkit as on_rank

SIDE = 16
CELL = SIDE + 4  # with the white around it
SETTINGS: dict[str, dict[str, Any]] = {
    "dcgan": {"channels": 3, "latent": 6, "width": 4},
    "cgan": {"channels": 1, "latent": 6, "width": 4, "classes": 3},
    "vae": {"channels": 1, "latent": 5, "width": 4},
    "autoencoder": {"channels": 3, "latent": 5, "network": "dense", "hidden": 20},
    "cyclegan": {"channels": 3, "width": 4, "blocks": 1},
}
LABELS = {"cgan": ["0", "1", "2"]}

Records = list[dict[str, Any]]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model of each kind, untrained, with contrast and without discriminators."""
    folder = tmp_path_factory.mktemp("models")
    paths = {}
    for arch, settings in SETTINGS.items():
        torch.manual_seed(1)
        settings = {"image_size": SIDE, **settings}
        model = build(arch, **settings)
        for name, layer in model.named_modules():
            if name.startswith(("generator", "decoder")) and hasattr(layer, "weight"):
                nn.init.normal_(layer.weight, std=0.4)
        if arch == "autoencoder":
            model.fit(torch.randn(50, 5) * torch.arange(5.0) + 1)  # the first code is constant
        weights = {k: v for k, v in model.state_dict().items() if "discriminator" not in k}
        paths[arch] = folder / f"{arch}.safetensors"
        header = Header("gan-sample", arch, settings, LABELS.get(arch, []))
        checkpoint.save(paths[arch], weights, header)
    return paths


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures of several sizes, one of them gray, and two that cannot be read."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for number in range(12):
        height, width = rng.integers(16, 40, 2)
        smooth = Image.fromarray(rng.integers(0, 255, (3, 3, 3), dtype=np.uint8))
        picture = smooth.resize((int(width), int(height)), Image.Resampling.BICUBIC)
        (picture.convert("L") if number == 5 else picture).save(folder / f"{number:02}.png")
    return folder


def records(*arguments: object) -> Records:
    """What a command prints, which must go well."""
    done = run("gan-sample", *arguments, "--precision", "fp32", "-f", "json")
    assert done.code == 0, done.err
    found: Records = json.loads(done.out)
    return found


def array(path: Path | str) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def cell(sheet: np.ndarray, row: int, column: int) -> np.ndarray:
    """One picture of a grid."""
    y, x = row * CELL + 2, column * CELL + 2
    return sheet[y : y + SIDE, x : x + SIDE]


def alone(model: Any, z: Tensor, label: int | None = None) -> np.ndarray:
    """The picture (S, S, C) or (S, S) of one vector (Z,), straight from the network."""
    labels = None if label is None else torch.tensor([label])
    with torch.inference_mode():
        found = to_uint8(model.sample(z[None], labels))[0]
    return found.permute(1, 2, 0).numpy() if len(found) == 3 else found[0].numpy()


def assert_nearly_equal(found: np.ndarray, expected: np.ndarray) -> None:
    """But for the last digits of a matrix product, which may end in another of 256 levels."""
    assert np.abs(found.astype(int) - expected.astype(int)).max() <= 1


# Drawing


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


@pytest.mark.parametrize(
    ("arch", "arguments", "message"),
    [
        ("dcgan", ["-n", 0], "0 is not in the range x>=1"),
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
        ("dcgan", ["--truncation", -1], "-1.0 is not in the range x>=0"),
    ],
)
def test_what_cannot_be_drawn_is_said_in_a_line(
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


def test_weights_of_another_size_are_refused(models: dict[str, Path], tmp_path: Path) -> None:
    header, weights = checkpoint.load(models["dcgan"])
    header.settings["width"] = 8
    checkpoint.save(tmp_path / "odd.safetensors", weights, header)
    done = run("gan-sample", "-m", tmp_path / "odd.safetensors", "-o", tmp_path / "grid.png")
    assert done.code == 2
    assert "do not fit the architecture dcgan: generator.body.0.linear.weight needs" in done.err


# Interpolating


def test_a_strip_goes_from_seed_to_seed(models: dict[str, Path], tmp_path: Path) -> None:
    strip = tmp_path / "strip.png"
    (found,) = records("interpolate", 4, 5, "4:2", "-m", models["dcgan"], "-o", strip)
    assert found["pictures"] == 18
    sheet = array(strip)
    assert sheet.shape == (2 * CELL, 9 * CELL, 3)
    network = infer.load(str(models["dcgan"]), precision="fp32").network
    ends = [latents.draw(seed, [number], 6)[0] for seed, number in ((4, 0), (5, 0), (4, 2))]
    for row, (start, end) in enumerate(zip(ends, ends[1:], strict=False)):
        assert_nearly_equal(cell(sheet, row, 0), alone(network, start))
        assert_nearly_equal(cell(sheet, row, 8), alone(network, end))
    # Halfway on the arc, which halves the angle.
    unit = [end / end.norm() for end in ends[:2]]
    cosine = torch.dot(*unit)
    middle = (ends[0] + ends[1]) / (2 * torch.cos(torch.acos(cosine) / 2))
    assert_nearly_equal(cell(sheet, 0, 4), alone(network, middle))


def test_a_gif_moves_through_all_points_and_shows_all_classes(
    models: dict[str, Path], tmp_path: Path
) -> None:
    vectors, gif = tmp_path / "z.npy", tmp_path / "way.gif"
    np.save(vectors, latents.draw(0, range(3), 6).numpy())
    options = ("-m", models["cgan"], "--latents", vectors, "--steps", 4)
    records("interpolate", *options, "-o", gif)
    with Image.open(gif) as image:
        assert image.n_frames == 7  # type: ignore[attr-defined]
        assert image.size == (2 * CELL, 2 * CELL)
        image.seek(6)
        last = np.asarray(image.convert("L"))
    network = infer.load(str(models["cgan"]), precision="fp32").network
    expected = alone(network, latents.draw(0, [2], 6)[0], 1)
    assert_nearly_equal(cell(last, 0, 1), expected)
    strip = tmp_path / "way.png"
    assert records("interpolate", *options, "-o", strip)[0]["pictures"] == 2 * 3 * 4
    assert array(strip).shape == (6 * CELL, 4 * CELL)
    assert_nearly_equal(cell(array(strip), 4, 3), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["1"], "give two seeds or more"),
        ([], "SEEDS: none given; give two or more, such as 1 2 3, or --latents FILE"),
        (["1", "x"], "'x': not a picture; give SEED, such as 7"),
        (["1", "2:"], "'2:': not a picture; give SEED"),
        (["1", "-o", "strip.mp4"], "strip.mp4: not the name of an image"),
    ],
)
def test_ways_that_lead_nowhere(
    models: dict[str, Path], arguments: list[str], message: str
) -> None:
    done = run("gan-sample", "interpolate", *arguments, "-m", models["dcgan"])
    assert (done.code, done.out) == (2, "")
    assert message in done.err


# Reconstructing


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
    assert "12 pictures are not square: center-cropped" in done.err
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
    sheet = tmp_path / "sheet.png"
    found = records("reconstruct", *paths, "-m", models["cgan"], "--steps", 100, "-o", sheet)
    assert [record["label"] for record in found] == [record["label"] for record in made]
    assert min(record["psnr"] for record in found) > 30
    start = records("reconstruct", *paths, "-m", models["cgan"], "--steps", 1, "-o", sheet)
    assert sum(r["mse"] for r in found) < 0.1 * sum(r["mse"] for r in start)
    one = records("reconstruct", paths[1], "-m", models["cgan"], "--class", "0", "-o", sheet)
    assert one[0]["label"] == "0"
    assert one[0]["mse"] > found[1]["mse"]


def test_a_search_is_each_pictures_own(models: dict[str, Path], photos: Path) -> None:
    options = ("-m", models["dcgan"], "--steps", 20, "--separate", photos.parent / "found")
    alone_, *_ = records("reconstruct", photos / "03.png", *options)
    together = records("reconstruct", photos, *options)
    assert together[3]["mse"] == pytest.approx(alone_["mse"], rel=1e-3)


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
    assert on_processes(2, on_rank, notices, *command_line) == [1, 1], notices.read_text()
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


# Translating


def test_translations_are_the_networks_and_keep_their_size(
    models: dict[str, Path], tmp_path: Path
) -> None:
    given, folder = tmp_path / "given", tmp_path / "there"
    given.mkdir()
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(given / "a.png")
    Image.fromarray(rng.integers(0, 255, (31, 46, 3), dtype=np.uint8)).save(given / "b.png")
    Image.fromarray(rng.integers(0, 255, (8, 240, 3), dtype=np.uint8)).save(given / "c.png")
    (given / "d.png").write_bytes(b"")
    done = run(
        "gan-sample", "translate-images", given, "-m", models["cyclegan"], "--save", folder,
        "--precision", "fp32", "-f", "json",
    )  # fmt: skip
    assert done.code == 1
    assert "d.png: an empty file" in done.err
    found = json.loads(done.out)
    sizes = [(record["width"], record["height"]) for record in found[:3]]
    assert sizes == [(16, 16), (16, 11), (16, 1)]
    assert array(found[1]["output"]).shape == (11, 16, 3)
    network = infer.load_translator(str(models["cyclegan"]), precision="fp32").network
    images = from_uint8(torch.from_numpy(pixels).permute(2, 0, 1)[None])
    for back, arguments in ((False, []), (True, ["--back"])):
        records(
            "translate-images",
            given / "a.png",
            "-m",
            models["cyclegan"],
            "--save",
            folder,
            *arguments,
        )
        with torch.inference_mode():
            expected = to_uint8(network.translate(images, back))[0].permute(1, 2, 0).numpy()
        assert_nearly_equal(array(folder / "a.png"), expected)


def test_pictures_are_not_written_over(models: dict[str, Path], photos: Path) -> None:
    done = run("gan-sample", "translate-images", photos, "-m", models["cyclegan"], "--save", photos)
    assert done.code == 2
    assert "the folder holds inputs, which are not overwritten" in done.err
    one = photos / "00.png"
    done = run("gan-sample", "reconstruct", one, "-m", models["vae"], "-o", one)
    assert done.code == 2
    assert "00.png: an input, which must not be overwritten" in done.err
    done = run("gan-sample", "translate-images", photos, "-m", models["dcgan"])
    assert done.code == 2
    assert "not a cyclegan, which translate-images needs" in done.err


# Evaluating


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


# An autoencoder's encoder as the start of a classifier


@pytest.fixture(scope="module")
def labeled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten bright and ten dark pictures of 28 pixels, in a folder each."""
    folder = tmp_path_factory.mktemp("labeled")
    rng = np.random.default_rng(2)
    for label, level in (("bright", 120), ("dark", 0)):
        (folder / label).mkdir()
        for number in range(10):
            pixels = rng.integers(level, level + 100, (28, 28), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def trained(labeled: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    def train(network: str) -> Path:
        out = tmp_path_factory.mktemp(network) / "run"
        size = ("--hidden", 24) if network == "dense" else ("--width", 4)
        done = run(
            "gan-sample", "train", labeled, "--arch", "autoencoder", "--network", network, *size,
            "--latent", 5, "--epochs", 1, "--steps-per-epoch", 3, "--batch-size", 8, "--out", out,
            "--device", "cpu", "--precision", "fp32",
        )  # fmt: skip
        assert done.code == 0, done.err
        return Path(done.out.strip())

    return train


@pytest.mark.parametrize(("network", "arch"), [("convolutional", "encoder"), ("dense", "mlp")])
def test_an_encoder_starts_a_classifier(
    labeled: Path, trained: Callable[[str], Path], network: str, arch: str, tmp_path: Path
) -> None:
    model = trained(network)
    options = (
        "--epochs",
        1,
        "--batch-size",
        4,
        "--device",
        "cpu",
        "--precision",
        "fp32",
        "--workers",
        0,
    )
    start = ("--init-from", model, "--out", tmp_path / "run")
    done = run("classify", "train", labeled, "--arch", arch, *start, *options, "--lr", 0)
    assert done.code == 0, done.err
    assert "tensors start from" in done.err
    classifier = classifying.load(done.out.strip(), "cpu", "fp32")
    autoencoder: Any = infer.load(str(model), precision="fp32").network
    pixels = torch.randint(0, 256, (3, 1, 28, 28), dtype=torch.uint8)
    with torch.inference_mode():
        expected = autoencoder.encoder.features(from_uint8(pixels))
        inputs = classifier.preprocessing.normalize(pixels)
        if network == "dense":
            found = classifier.network.head[:-1](inputs)  # type: ignore[index,operator]
        else:
            maps = classifier.network.features(inputs)  # type: ignore[operator]
            found = maps.permute(0, 2, 3, 1).flatten(1)
    # Training moved the statistics of batch norm, and nothing else, at a rate of 0.
    if network == "dense":
        torch.testing.assert_close(found, expected)
    header, weights = checkpoint.load(Path(done.out.strip()), "classify")
    theirs = autoencoder.encoder.features.state_dict()
    ours = {k.partition(".")[2]: v for k, v in weights.items() if k.startswith("features.")}
    if network == "convolutional":
        assert ours.keys() == theirs.keys()
        assert found.shape == expected.shape
        for name, tensor in theirs.items():
            if "running" not in name and "num" not in name:
                torch.testing.assert_close(ours[name], tensor)
    assert header.config["init_from"] == str(model)
    wrong = run("classify", "train", labeled, "--arch", "resnet9", *start, *options)
    assert wrong.code == 2
    assert f"its encoder needs --arch {arch}" in wrong.err
