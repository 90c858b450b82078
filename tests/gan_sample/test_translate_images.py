"""Translation of pictures by a CycleGAN."""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from dlkit.gan_sample import infer
from dlkit.gan_sample.data import from_uint8, to_uint8
from tests.conftest import run
from tests.gan_sample.helpers import SIDE, array, assert_nearly_equal, records


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
            "--force",
            *arguments,
        )
        with torch.inference_mode():
            expected = to_uint8(network.translate(images, back))[0].permute(1, 2, 0).numpy()
        assert_nearly_equal(array(folder / "a.png"), expected)
