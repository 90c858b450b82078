"""Interpolation between pictures."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dlkit.gan_sample import infer, latents
from tests.conftest import run
from tests.gan_sample.helpers import CELL, alone, array, assert_nearly_equal, cell, records


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
