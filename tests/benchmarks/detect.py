"""Speed of `dlkit detect`: `python -m tests.benchmarks.detect`.

Images per second from JPEG files to boxes against ultralytics (`pip install ultralytics`), and
the start-up of the command against importing torch and against Python itself.
"""

import argparse
import math
import os
import sys
import sysconfig
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from dlkit.core.store import checkpoint, weights
from dlkit.core.store.checkpoint import Header
from dlkit.core.vision import images
from dlkit.detect.config import DEFAULT_MODEL
from dlkit.detect.infer import Detections, detect, load
from dlkit.detect.model import build
from dlkit.detect.models.yolo import WIDTHS, Yolo
from dlkit.detect.options import DetectOptions, Suppression
from tests.benchmarks import harness

REPOSITORY = Path(__file__).parents[2]
LABELS = ["cat", "cow", "dog", "horse", "person", "sheep"]
COUNT = 200
THRESHOLD, IOU, MOST = 0.25, 0.5, 100


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.detect", description=__doc__)
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared" / "data")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--image-size", type=int, default=256)
    parser.add_argument("--peer", default="yolov8n", help="an architecture of ultralytics")
    parser.add_argument("--models", nargs="*", default=[], help="further checkpoints to time")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall", help="of throughput")
    parser.add_argument("--only", choices=["throughput", "start"], help="default: both")
    settings = parser.parse_args()
    if not (settings.data / "voc-animals.zip").is_file():
        sys.exit(f"{settings.data}: no voc-animals.zip there; --data names the folder that has it")

    harness.machine(settings.threads, "ultralytics", "opencv-python-headless", "pillow")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = extract(settings.data / "voc-animals.zip", folder / "images")
        if settings.only != "start":
            throughput(paths, folder, settings)
        if settings.only != "throughput":
            start_up(paths, folder, settings.repeats)


def extract(archive: Path, folder: Path) -> list[str]:
    """Extract COUNT photographs, spread over the archive."""
    with zipfile.ZipFile(archive) as file:
        names = sorted(name for name in file.namelist() if name.endswith(".jpg"))
        chosen = names[:: len(names) // COUNT][:COUNT]
        return [file.extract(name, folder) for name in chosen]


def throughput(paths: list[str], folder: Path, settings: argparse.Namespace) -> None:
    """From JPEG files to boxes, each contender in a process of its own, after a warm-up.

    Both sides get the same files, threshold, IoU, number of boxes, batch size and threads, and
    fold their normalizations into their convolutions.
    - dlkit decodes ahead in two threads, sorts windows of 128 images into batches of one shape,
      pads them to multiples of 32 (192 x 256 for a 4:3 photograph), keeps every label of a cell
      that scores well, and returns objects with labels and rounded boxes.
    - ultralytics decodes between batches, letterboxes to a square where the shapes in a batch
      differ (so also a row with batches of one, which stay rectangular), keeps the best label of
      a cell, and returns tensors. Its CPU precision is fp32; it has no bf16.
    """
    size, batch, peer = settings.image_size, settings.batch, settings.peer
    default = default_model(paths, folder, size)
    models = {"dlkit": default, "dlkit fp32": default}
    models |= {f"dlkit {name}": random_model(name, paths, folder, size) for name in WIDTHS}
    for model in settings.models:
        models[checkpoint.read_header(weights.find("detect", model)).arch] = model
    contenders = {
        label: partial(ours, paths, model, "fp32" if "fp32" in label else "auto", size, batch)
        for label, model in models.items()
    }
    for label, model in models.items():
        header = checkpoint.read_header(weights.find("detect", model))
        network = build(header.arch, **header.settings)
        describe(label, network, size, torch.uint8, partial(look, network))
    if find_spec("ultralytics") is None:
        harness.print_text(
            "no peer: pip install ultralytics (dlkit does not depend on it) to compare"
        )
        peer = None
    else:
        network = their_network(peer, folder)
        describe(peer, network, size, torch.float32, network)
        contenders[peer] = partial(theirs, paths, peer, folder, size, batch, settings.threads)
        contenders[f"{peer} one by one"] = partial(
            theirs, paths, peer, folder, size, 1, settings.threads
        )
    measured = harness.compare_apart(
        "JPEG files to boxes",
        contenders,
        "images",
        len(paths),
        settings.repeats,
        peer,
        settings.threads,
        settings.clock,
    )
    if peer is not None:
        for label in models:
            if label != "dlkit fp32":
                harness.require(measured[label], at_least=3)


def default_model(paths: list[str], folder: Path, size: int) -> str:
    """Return the bundled model, or a random one of the same size."""
    if DEFAULT_MODEL in {path.stem for path in weights.bundled("detect")}:
        return DEFAULT_MODEL
    return random_model("small", paths, folder, size)


def random_model(yolo_size: str, paths: list[str], folder: Path, size: int) -> str:
    """A checkpoint with random weights that find few objects."""
    torch.manual_seed(0)
    network = Yolo(len(LABELS), yolo_size)
    settings = {"num_labels": len(LABELS), "size": yolo_size}
    finals = [head.labels for head in network.heads]  # a cell's confidence, then its labels
    settle(network, sample(paths, size), finals, slice(0, 1))
    path = folder / f"{yolo_size}.safetensors"
    header = Header("detect", "yolo", settings, LABELS, {"image_size": size})
    checkpoint.save(path, network.state_dict(), header)
    return str(path)


def ours(paths: list[str], model: str, precision: str, size: int, batch: int) -> Callable[[], str]:
    """Run `dlkit detect --model MODEL` on the files, without printing."""
    detector = load(model, "cpu", precision)
    method = DetectOptions(
        THRESHOLD,
        suppression=Suppression(iou=IOU),
        max_detections=MOST,
        image_size=size,
        batch_size=batch,
    )

    def work() -> str:
        found = detect(paths, detector, method)
        counts = [len(result.objects) for result in found if isinstance(result, Detections)]
        return f"{sum(counts)} boxes in {len(counts)} images"

    return work


def their_network(architecture: str, folder: Path) -> Any:
    """Build one of ultralytics' networks for the same number of labels, with random weights."""
    # No downloads, and its settings file not in the home folder.
    os.environ.update(YOLO_CONFIG_DIR=str(folder), YOLO_OFFLINE="true", YOLO_VERBOSE="false")
    tasks = import_module("ultralytics.nn.tasks")
    torch.manual_seed(0)
    return tasks.DetectionModel(f"{architecture}.yaml", nc=len(LABELS), verbose=False)


def theirs(
    paths: list[str], architecture: str, folder: Path, size: int, batch: int, threads: int
) -> Callable[[], str]:
    """Run ultralytics' `YOLO.predict` on the files."""
    network = their_network(architecture, folder)
    finals = [branch[-1] for branch in network.model[-1].cv3]
    settle(network, sample(paths, size) / 255, finals, slice(0, len(LABELS)))
    yolo = import_module("ultralytics").YOLO("yolov8n.yaml", verbose=False)
    yolo.model = network
    import_module("cv2").setNumThreads(threads)  # which ultralytics sets to 0

    def work() -> str:
        results = yolo.predict(
            paths,
            stream=True,
            imgsz=size,
            batch=batch,
            conf=THRESHOLD,
            iou=IOU,
            max_det=MOST,
            device="cpu",
            verbose=False,
            save=False,
        )
        counts = [len(result.boxes) for result in results]
        return f"{sum(counts)} boxes in {len(counts)} images"

    return work


def look(network: Any, images: Tensor) -> None:
    """Detect at a threshold close to 1, which finds almost nothing."""
    network.predict(images, 0.99, Suppression(), 1)


def describe(
    name: str, network: nn.Module, size: int, dtype: torch.dtype, work: Callable[[Tensor], object]
) -> None:
    """Print the multiply-adds of a network for a square image."""
    network.eval()
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        work(torch.zeros(1, 3, size, size, dtype=dtype))
    harness.note(
        network=name,
        multiply_adds=f"{counter.get_total_flops() / 2e9:.2f}G",
        parameters=f"{sum(p.numel() for p in network.parameters()) / 1e6:.2f}M",
    )


def sample(paths: list[str], size: int) -> Tensor:
    """Return some of the images, padded to squares."""
    batch = torch.full((32, 3, size, size), 114, dtype=torch.uint8)
    for canvas, path in zip(batch, paths[:: len(paths) // 32], strict=False):
        pixels = images.read(path, size).pixels
        canvas[:, : pixels.shape[1], : pixels.shape[2]] = pixels
    return batch


@torch.no_grad()
def settle(network: nn.Module, batch: Tensor, finals: Sequence[Any], rare: slice) -> None:
    """Give random weights the statistics of trained ones, so that few cells pass the threshold.

    The normalizations take theirs from the batch. Then the last convolutions are scaled so that
    their logits spread, and those of the channels `rare` moved down until one cell in 3000 passes.
    """
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the plain average
            module.reset_running_stats()
    network.train()(batch)
    network.eval()
    with outputs(finals) as seen:
        network(batch)
    for convolution, logits in zip(finals, seen, strict=True):
        scale = 4 / logits.std(dim=(0, 2, 3))
        convolution.weight *= scale[:, None, None, None]
        convolution.bias *= scale
        cells = (logits[:, rare] * scale[rare, None, None]).amax(dim=1)
        convolution.bias[rare] -= cells.quantile(1 - 1 / 3000) - math.log(THRESHOLD)


@contextmanager
def outputs(modules: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """Collect the outputs of the modules in the next forward pass, in order of execution."""
    seen: list[Tensor] = []
    hooks = [
        module.register_forward_hook(lambda _, __, output: seen.append(output))
        for module in modules
    ]
    yield seen
    for hook in hooks:
        hook.remove()


def start_up(paths: list[str], folder: Path, repeats: int) -> None:
    """Time whole processes: the boxes of one image, and the help page."""
    # Installed packages have their bytecode; without this, some machines compile it every time.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    dlkit = str(Path(sysconfig.get_path("scripts")) / "dlkit")
    cat = REPOSITORY / "data" / "cat.jpg"
    image = str(cat) if cat.exists() else paths[0]
    model = default_model(paths, folder, 256)
    measured = harness.compare_processes(
        "one image, whole process",
        {
            "dlkit detect cat.jpg": [dlkit, "detect", image, "--model", model],
            "import torch, torchvision": [sys.executable, "-c", "import torch, torchvision"],
        },
        "wall",
        repeats,
        peer="import torch, torchvision",
    )
    harness.require(measured["dlkit detect cat.jpg"], at_most=1.5)
    measured = harness.compare_processes(
        "help, whole process",
        {
            "dlkit --help": [dlkit, "--help"],
            "dlkit detect --help": [dlkit, "detect", "--help"],
            "python -c pass": [sys.executable, "-c", "pass"],
        },
        "cpu",
        repeats,
        peer="python -c pass",
    )
    harness.require(measured["dlkit --help"], at_most=12)


if __name__ == "__main__":
    main()
