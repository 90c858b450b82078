"""`style_transfer` in Python: the paintings of the commands, for files and images in memory."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.style_transfer import OptimizedPicture, StyledPicture, evaluate, load, style_transfer
from tests.conftest import records, run
from tests.style_transfer.helpers import ON_CPU, paint, paint_in_one_pass

FP32: dict[str, Any] = {"device": "cpu", "precision": "fp32"}
GATYS = "gatys:random:0"


def pixels(file: str | Path) -> np.ndarray:
    return np.array(Image.open(file).convert("RGB"))


def painted(photo: Any, style: Any, model: str, **options: Any) -> Any:
    return style_transfer(photo, style, model, **FP32, **options)


def test_a_painting_in_one_pass_is_that_of_the_command(folder: Path) -> None:
    pairs: list[tuple[dict[str, Any], list[object]]] = [
        ({}, []),
        ({"size": 48, "strength": 0.5}, ["--size", 48, "--strength", 0.5]),
        ({"preserve_color": "luminance", "style_size": 40},
         ["--preserve-color", "luminance", "--style-size", 40]),
    ]  # fmt: skip
    for number, (options, arguments) in enumerate(pairs):
        file = f"{number}.png"
        done = paint_in_one_pass(
            "adain",
            "photos/a.png",
            "--style",
            "styles/wave.png",
            "-o",
            file,
            "-f",
            "jsonl",
            *arguments,
        )
        found = painted("photos/a.png", "styles/wave.png", "adain.safetensors", **options)
        assert isinstance(found, StyledPicture)
        assert np.array_equal(np.array(found.picture()), pixels(file))
        assert {**asdict(found), "output": file} == records(done)[0]


def test_a_painting_by_optimization_is_that_of_the_command(folder: Path) -> None:
    options: dict[str, Any] = {"steps": 3, "size": 48, "style_weight": 20.0, "tile": None}
    arguments = ["--steps", 3, "--size", 48, "--style-weight", 20, "-f", "jsonl"]
    done = paint("photos/a.png", "styles/wave.png", "-o", "a.png", *arguments)
    found = painted("photos/a.png", "styles/wave.png", GATYS, **options)
    assert isinstance(found, OptimizedPicture)
    assert np.array_equal(np.array(found.picture()), pixels("a.png"))
    record = records(done)[0]
    del record["seconds"], record["output"]
    assert asdict(found) == record


def test_images_in_memory_are_painted_like_their_files(folder: Path) -> None:
    photo, style = pixels("photos/a.png"), pixels("styles/wave.png")
    tensor = torch.from_numpy(photo).permute(2, 0, 1)
    for model, options in (("adain.safetensors", {}), (GATYS, {"steps": 1, "size": 32})):
        expected = np.array(painted("photos/a.png", "styles/wave.png", model, **options).picture())
        for one in (photo, Image.open("photos/a.png"), tensor, photo / 255):
            found = painted(one, style, model, **options)
            assert np.array_equal(np.array(found.picture()), expected)
        assert np.array_equal(np.array(found.image()), photo)
        batch = painted(torch.stack([tensor, tensor]), style, model, **options)
        assert [np.array_equal(np.array(one.picture()), expected) for one in batch] == [True, True]


def test_styles_by_name_and_mixed(folder: Path) -> None:
    by_name = painted("photos/a.png", "wave", "fast.safetensors")
    by_file = painted("photos/a.png", "styles/wave.png", "fast.safetensors")
    assert np.array_equal(np.array(by_name.picture()), np.array(by_file.picture()))
    for model in ("adain", "fast"):
        styles = ["--style", "styles/wave.png", "--style", "styles/night.png", "--blend", "0.7,0.3"]
        paint_in_one_pass(model, "photos/a.png", *styles, "-o", f"{model}.png")
        found = painted(
            "photos/a.png",
            ["styles/wave.png", "styles/night.png"],
            f"{model}.safetensors",
            blend=[0.7, 0.3],
        )
        assert np.array_equal(np.array(found.picture()), pixels(f"{model}.png"))
        assert found.style == "styles/wave.png+styles/night.png"


def test_many_photographs_and_a_loaded_painter(folder: Path) -> None:
    painter = load("adain.safetensors", **FP32)
    many = ["photos/a.png", "none.png", "photos/b.jpg"]
    found = painter(many, "styles/wave.png", errors="return")
    assert [one.path for one in found] == many
    assert isinstance(found[1], Failure)
    for one in (found[0], found[2]):
        alone = painted(one.path, "styles/wave.png", "adain.safetensors")
        assert np.array_equal(np.array(one.picture()), np.array(alone.picture()))
    with pytest.raises(DlkitError, match="none.png: no such file"):
        painter(many, "styles/wave.png")
    found = load(GATYS, **FP32)(many, "styles/wave.png", steps=1, size=32, errors="return")
    assert [isinstance(one, Failure) for one in found] == [False, True, False]


def test_a_painting_is_saved_and_shown(folder: Path) -> None:
    found = painted("photos/a.png", "styles/wave.png", "adain.safetensors")
    saved = found.save(folder / "new" / "a.png")
    assert np.array_equal(pixels(saved), np.array(found.picture()))
    assert "<img" in found._repr_html_()
    assert found.save("a.json").read_text().count("styles/wave.png") == 1


def test_wrong_options_are_refused(folder: Path) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"steps": 3}, "steps is for gatys"),
        ({"model": GATYS, "strength": 0.5}, "strength is for a painter"),
        ({"style": None}, "no style; give a picture"),
        ({"style": None, "model": "fast.safetensors"}, "no style; choose from wave, night"),
        ({"style": "nothing", "model": "fast.safetensors"}, "choose from wave, night"),
        ({"style": ["styles/wave.png"] * 2}, "2 styles; give blend to mix them"),
        ({"blend": [1, 2]}, "a positive share for each of the 1"),
        ({"size": 4}, "size=4: not in the range"),
        ({"style": "none.png"}, "the style none.png: no such file"),
        ({"model": "natural"}, "a feature network, which does not paint"),
        (
            {"model": GATYS, "content_weight": 0, "style_weight": 0, "tv_weight": 0},
            "all three weights are 0",
        ),
    ]
    for options, message in wrong:
        arguments = {"style": "styles/wave.png", "model": "adain.safetensors", **options}
        with pytest.raises(DlkitError, match=message):
            style_transfer("photos/a.png", **arguments)


def test_evaluate_measures_as_the_command(folder: Path) -> None:
    scores = evaluate(["photos", "styles/wave.png"], model="adain.safetensors", **FP32)
    done = run("style-transfer", "evaluate", "photos", "styles/wave.png", "-m", "adain.safetensors",
               *ON_CPU, "-f", "jsonl")  # fmt: skip
    measured = {s["metric"]: s["value"] for s in records(done) if s["label"] == "adain.safetensors"}
    assert {score.metric: score.value for score in scores} == measured
