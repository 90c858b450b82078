"""Speed of `dlkit segment`: `python -m tests.benchmarks.segment`.

Images per second from JPEG files to saved masks against segmentation_models.pytorch
(`pip install segmentation-models-pytorch`), and the memory of a large image in tiles.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from dlkit.core.failures import Failure
from dlkit.core.parallel import device
from dlkit.core.store import checkpoint
from dlkit.core.store.checkpoint import Header
from dlkit.core.vision import imagenet, images
from dlkit.segment.draw import indexed_image
from dlkit.segment.infer import load, segment
from dlkit.segment.model import build
from dlkit.segment.outputs import OutputFolders
from dlkit.segment.predictor import InferOptions, SemanticPredictor, predict
from tests.benchmarks import harness

REPOSITORY = Path(__file__).parents[2]
CLASSES = 11
SIDE = 4096  # of the large image
MOST_MEGABYTES = 2000
IMAGENET = list(imagenet.MEAN), list(imagenet.STD)
# ResNet-18 at full width, as segmentation_models.pytorch has it.
ENCODER = {
    "arch": "resnet18",
    "network": {"num_labels": 1, "channels": 3, "image_size": 224, "width_multiplier": 1.0},
    "preprocessing": {
        "image_size": 224, "fit": "squash", "channels": 3, "mean": IMAGENET[0], "std": IMAGENET[1],
    },
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.segment", description=__doc__)
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared" / "data")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--only", choices=["throughput", "memory"], help="default: both")
    settings = parser.parse_args()
    if not (settings.data / "camvid.zip").is_file():
        sys.exit(f"{settings.data}: no camvid.zip there; --data names the folder that has it")

    harness.machine(settings.threads, "segmentation-models-pytorch", "pillow")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = extract(settings.data / "camvid.zip", folder / "images", settings.images)
        model = random_model(folder)
        if settings.only != "memory":
            throughput(paths, model, folder, settings)
        if settings.only != "throughput":
            memory(paths[0], model, folder)


def extract(archive: Path, folder: Path, count: int) -> list[str]:
    """Extract photographs of 480 x 360 pixels, spread over the test images."""
    with zipfile.ZipFile(archive) as file:
        names = sorted(n for n in file.namelist() if n.endswith(".jpg") and "test/" in n)
        return [file.extract(name, folder) for name in names[:: len(names) // count][:count]]


def random_model(folder: Path) -> Path:
    """Save a checkpoint of dlkit's U-Net on ResNet-18 with random weights."""
    torch.manual_seed(0)
    network = build("unet", CLASSES, backbone=ENCODER)
    path = folder / "unet.safetensors"
    names = [f"class {k}" for k in range(CLASSES)]
    header = Header("segment", "unet", {"backbone": ENCODER}, names, {"image_size": None})
    checkpoint.save(path, network.state_dict(), header)
    return path


def throughput(
    paths: Sequence[str], model: Path, folder: Path, settings: argparse.Namespace
) -> None:
    """From JPEG files to index PNGs, each contender in a process of its own, after a warm-up.

    Both networks are U-Nets on ResNet-18 with random weights and get the same files and batches.
    - dlkit decodes ahead in two threads and folds its norms into the convolutions; its decoder
      ends at half the resolution, from where the logits are interpolated.
    - segmentation_models.pytorch is a library of networks; the loop around it is the one that its
      examples have: decode, normalize, pad to 32, argmax, save. Its decoder continues to the full
      resolution. On the CPU its precision is fp32; the row in bf16 is under autocast.
    """
    contenders: dict[str, Callable[[], Callable[[], object]]] = {
        "dlkit": partial(ours, paths, model, folder, "auto", settings.batch, False),
        "dlkit with overlays": partial(ours, paths, model, folder, "auto", settings.batch, True),
        "dlkit fp32": partial(ours, paths, model, folder, "fp32", settings.batch, False),
    }
    describe("dlkit", build("unet", CLASSES, backbone=ENCODER))
    peer: str | None = "smp"
    if find_spec("segmentation_models_pytorch") is None:
        harness.print_text("no peer: pip install segmentation-models-pytorch to compare")
        peer = None
    else:
        describe("smp", their_network())
        contenders["smp"] = partial(theirs, paths, folder, settings.batch, "fp32")
        contenders["smp in bf16"] = partial(theirs, paths, folder, settings.batch, "bf16")
    measured = harness.compare_apart(
        "JPEG files to saved masks",
        contenders,
        "images",
        len(paths),
        settings.repeats,
        peer,
        settings.threads,
        settings.clock,
    )
    if peer is not None:
        harness.require(measured["dlkit"], at_least=3)


def ours(
    paths: Sequence[str], model: Path, folder: Path, precision: str, batch: int, overlays: bool
) -> Callable[[], str]:
    """Run `dlkit segment --save FOLDER` on the files; without overlays, only its label maps."""
    predictor = load(str(model), "cpu", precision)
    assert isinstance(predictor, SemanticPredictor)
    target = folder / f"ours-{precision}-{overlays}"
    method = InferOptions(batch_size=batch)

    def maps() -> str:
        for entry in predict(predictor, paths, method):
            assert not isinstance(entry, Failure)
            path, _, found = entry
            picture = indexed_image(found.labels, predictor.colors)
            images.save(picture, target / f"{Path(path).stem}.png")
        return f"{len(list(target.glob('*.png')))} masks"

    def everything() -> str:
        results = list(segment(paths, predictor, method, folders=OutputFolders(target)))
        return f"{len(results)} results"

    return everything if overlays else maps


def their_network() -> Any:
    torch.manual_seed(0)
    smp = import_module("segmentation_models_pytorch")
    return smp.Unet("resnet18", encoder_weights=None, classes=CLASSES).eval()


def theirs(paths: Sequence[str], folder: Path, batch: int, precision: str) -> Callable[[], str]:
    """The loop of segmentation_models.pytorch's examples."""
    network = their_network()
    target = folder / f"theirs-{precision}"
    target.mkdir()
    mean, std = torch.tensor(IMAGENET).view(2, 1, 3, 1, 1)

    def work() -> str:
        for start in range(0, len(paths), batch):
            some = paths[start : start + batch]
            pixels = [np.array(Image.open(path).convert("RGB")) for path in some]
            values = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 255
            values = (values - mean) / std
            height, width = values.shape[-2:]
            padded = nn.functional.pad(values, (0, -width % 32, 0, -height % 32))
            with torch.inference_mode(), device.autocast(torch.device("cpu"), precision):
                logits = network(padded)[..., :height, :width]
            labels = logits.argmax(dim=1).to(torch.uint8).numpy()
            for path, own in zip(some, labels, strict=True):
                Image.fromarray(own).save(target / f"{Path(path).stem}.png")
        return f"{len(list(target.iterdir()))} masks"

    return work


def describe(name: str, network: nn.Module) -> None:
    """Print the multiply-adds of a network for an image of 480 x 384 pixels."""
    network.eval()
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, 384, 480))
    harness.note(
        network=name,
        multiply_adds=f"{counter.get_total_flops() / 2e9:.1f}G",
        parameters=f"{sum(p.numel() for p in network.parameters()) / 1e6:.1f}M",
    )


def memory(path: str, model: Path, folder: Path) -> None:
    """Print the peak resident memory of the command for one large image in tiles of 512."""
    large = folder / "large.jpg"
    Image.open(path).resize((SIDE, SIDE), Image.Resampling.BILINEAR).save(large, quality=90)
    command = [
        *(sys.executable, "-m", "dlkit", "segment", str(large), "-m", str(model)),
        *("--tile", "512", "--save", str(folder / "large")),
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed: its error is above")
    megabytes = used.ru_maxrss / 1000
    harness.note(
        benchmark=f"{SIDE} x {SIDE} in tiles",
        megabytes=round(megabytes),
        at_most=MOST_MEGABYTES,
        met=megabytes <= MOST_MEGABYTES,
    )


if __name__ == "__main__":
    main()
