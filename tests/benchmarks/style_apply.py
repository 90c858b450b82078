"""Speed of `dlkit style-transfer apply`: `python -m tests.benchmarks.style_apply`.

Images per second from JPEG files to JPEG files, with random weights; there is no peer.
"""

import argparse
import os
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from dlkit.core.store import checkpoint
from dlkit.core.store.checkpoint import Header
from dlkit.style_transfer.apply import ApplyOptions, apply, load
from dlkit.style_transfer.config import StyleTrainConfig
from dlkit.style_transfer.model import build
from dlkit.style_transfer.plan import Style, plan_paintings
from tests.benchmarks import harness

DATA = Path(__file__).parents[2] / "data"
AT_LEAST = 15  # images a second on 2 cores
# Half of a VGG-13's channels, as the bundled feature network has them.
FEATURES = {"stages": [2, 2, 2, 2, 2], "widths": [32, 64, 128, 256, 256]}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.style_apply", description=__doc__
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    settings = parser.parse_args()

    harness.machine(settings.threads, "pillow")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photos = photographs(folder / "photos", settings.images, settings.side)
        shapes: dict[str, dict[str, Any]] = {
            "fast": {"styles": 1, "width": StyleTrainConfig.width},
            "adain": {"features": FEATURES},
        }
        contenders: dict[str, Callable[[], Callable[[], object]]] = {}
        for arch, shape in shapes.items():
            path = stored(folder / f"{arch}.safetensors", arch, shape, settings.side)
            for precision in ("auto", "fp32"):
                prepared = partial(ours, path, photos, folder / "out", precision, settings.batch)
                contenders[f"{arch} {precision}"] = prepared
        measured = harness.compare_apart(
            f"apply at {settings.side} pixels",
            contenders,
            "images",
            len(photos),
            settings.repeats,
            None,
            settings.threads,
            settings.clock,
        )
    for arch in shapes:
        found = measured[f"{arch} auto"].value
        harness.note(target=arch, images=round(found, 1), at_least=AT_LEAST, met=found >= AT_LEAST)


def photographs(folder: Path, count: int, side: int) -> list[str]:
    """Write JPEG files of one size: parts of the two photographs in data/."""
    folder.mkdir()
    paths = []
    for number in range(count):
        name = ("astronaut.jpg", "cat.jpg")[number % 2]
        with Image.open(DATA / name) as photo:
            left, top = (7 * number % 40, 5 * number % 30)
            part = photo.resize((side, side), box=(left, top, left + 250, top + 250))
        paths.append(str(folder / f"{number:03}.jpg"))
        part.save(paths[-1], quality=90)
    return paths


def stored(path: Path, arch: str, shape: dict[str, Any], side: int) -> Path:
    """Save a network with random weights; print its multiply-adds."""
    torch.manual_seed(0)
    network = build(arch, **shape)
    labels = [] if network.any_style else ["style"]
    checkpoint.save(path, network.state_dict(), Header("style-transfer", arch, shape, labels))
    photo = torch.zeros(1, 3, side, side)
    code = network.code(photo if network.any_style else 0)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network.paint(photo, code)
    harness.note(network=arch, multiply_adds=f"{counter.get_total_flops() / 2e9:.1f}G")
    return path


def ours(
    model: Path, photos: Sequence[str], output: Path, precision: str, batch: int
) -> Callable[[], str]:
    """Run `dlkit style-transfer apply MODEL PHOTO... -o FOLDER`."""
    painter = load(str(model), "cpu", precision)
    style = Style(str(DATA / "great-wave.jpg") if painter.network.any_style else "style")
    planned = plan_paintings(photos, [(style,)], output)

    def work() -> str:
        results = list(apply(planned, [(style,)], painter, ApplyOptions(batch_size=batch)))
        return f"{len(results)} paintings"

    return work


if __name__ == "__main__":
    main()
