"""How good and how fast `dlkit classify` is: `python -m tests.benchmarks.classify PACKS`.

PACKS holds the unpacked packs mnist, cifar10 and caltech101. `architectures` trains each
architecture on MNIST and prints its test accuracy; `inference` and `training` compare with timm
(`pip install timm`), which dlkit does not depend on.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

import torch
from torch import nn

from dlkit.classify import train as training
from dlkit.classify.config import Arch, ClassifyTrainConfig
from dlkit.classify.evaluate import evaluate_checkpoint
from dlkit.classify.infer import Classification, classify, ensemble
from dlkit.classify.model import build
from dlkit.classify.models.text import TEXT_ARCHITECTURES
from dlkit.core import checkpoint
from dlkit.core.checkpoint import Header
from tests.benchmarks import harness

# What differs from the command's defaults, so that one or two epochs on a CPU are enough.
NARROW = {"width": 0.25}
SETTINGS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("resnet50", "resnet101", "resnet152"), NARROW),
    "nin": {"lr": 4e-4},
}
IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.classify", description=__doc__
    )
    parser.add_argument("packs", type=Path)
    parser.add_argument("--only", choices=["architectures", "inference", "training"])
    parser.add_argument("--arch", action="append", help="only these, of architectures")
    parser.add_argument("--epochs", type=int, default=2, help="of architectures")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--images", type=int, default=5000, help="of training")
    settings = parser.parse_args()
    harness.machine(settings.threads, "timm")
    if settings.only in {None, "architectures"}:
        architectures(settings.packs / "mnist", settings)
    if settings.only in {None, "inference"}:
        inference(settings.packs / "caltech101" / "test", settings)
    if settings.only in {None, "training"}:
        compare_training(settings.packs / "cifar10" / "train", settings)


def architectures(data: Path, settings: argparse.Namespace) -> None:
    """Parameters, accuracy on the test digits and minutes of each architecture."""
    for arch in settings.arch or sorted(set(get_args(Arch)) - set(TEXT_ARCHITECTURES)):
        with tempfile.TemporaryDirectory() as folder:
            own = SETTINGS.get(arch, {})
            start = time.perf_counter()
            best = training.train(
                ClassifyTrainConfig(
                    data=data, out=Path(folder) / "run", arch=arch, epochs=settings.epochs, **own
                )
            )
            minutes = (time.perf_counter() - start) / 60
            scores = evaluate_checkpoint(data, "test", str(best))
            accuracy = next(s.value for s in scores if s.metric == "top1")
            _, weights = checkpoint.load(best)
            harness.note(
                arch=arch,
                settings=json.dumps(own),
                parameters=f"{sum(t.numel() for t in weights.values()) / 1e6:.2f}M",
                accuracy=accuracy,
                minutes=round(minutes, 2),
            )


def inference(folder: Path, settings: argparse.Namespace) -> None:
    """From JPEG files to labels at 224 pixels, batches of 32, random weights, ImageNet's labels.

    timm: its ImageDataset and its loader with two worker processes, a model in evaluation mode.
    Its CPU precision is fp32; with autocast to bf16 it is a contender of its own.
    """
    paths = sorted(str(path) for path in folder.rglob("*.jpg"))[:200]
    with tempfile.TemporaryDirectory() as place:
        for arch in ("resnet50", "mobilenet-v2"):
            model = str(Path(place) / f"{arch}.safetensors")
            random_model(arch, Path(model))
            name = arch.replace("-", "") + ("_100" if "mobilenet" in arch else "")
            contenders = {
                "dlkit": partial(ours, paths, model, "auto"),
                "dlkit fp32": partial(ours, paths, model, "fp32"),
                "timm": partial(theirs, folder, name, len(paths), False),
                "timm bf16": partial(theirs, folder, name, len(paths), True),
            }
            # In this process: those of compare_apart may not start workers of their own.
            measured = harness.compare(
                f"JPEG files to labels, {arch}",
                {label: contender() for label, contender in contenders.items()},
                "images",
                len(paths),
                settings.repeats,
                "timm",
                settings.threads,
            )
            harness.require(measured["dlkit"], at_least=3)


def random_model(arch: str, path: Path) -> None:
    torch.manual_seed(0)
    network = {"num_labels": 1000, "image_size": 224, "channels": 3}
    inputs = {"image_size": 224, "fit": "crop", "channels": 3}
    mean, std = IMAGENET
    described = {
        "network": network,
        "preprocessing": {**inputs, "mean": mean, "std": std},
        "loss": "cross-entropy",
    }
    labels = [str(number) for number in range(1000)]
    weights = build(arch, **network).state_dict()
    checkpoint.save(path, weights, Header("classify", arch, described, labels))


def ours(paths: list[str], model: str, precision: str) -> Callable[[], str]:
    classifiers = ensemble([model], "cpu", precision)

    def work() -> str:
        found = classify(paths, classifiers, 5, batch_size=32)
        return f"{sum(isinstance(result, Classification) for result in found)} images"

    return work


def theirs(folder: Path, name: str, count: int, bf16: bool) -> Callable[[], str]:
    timm = import_module("timm")
    data = import_module("timm.data")
    model = timm.create_model(name).eval()
    images = data.ImageDataset(str(folder))
    config = data.resolve_data_config({}, model=model)
    images.transform = data.create_transform(**{**config, "crop_pct": 1.0})
    dataset = torch.utils.data.Subset(images, range(count))

    @torch.inference_mode()
    def work() -> str:
        loader = torch.utils.data.DataLoader(dataset, 32, num_workers=2)
        seen = 0
        for pixels, _ in loader:
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                top = model(pixels).softmax(-1).topk(5)
            seen += len(top.indices)
        return f"{seen} images"

    return work


def compare_training(folder: Path, settings: argparse.Namespace) -> None:
    """One epoch of ResNet-18 with CIFAR's stem, from the files on, batches of 128.

    Both mirror and shift images at random. timm: its transforms in two worker processes; its
    training script computes in fp32 on a CPU, or with --amp in bf16.
    """
    with tempfile.TemporaryDirectory() as place:
        data = Path(place) / "train"
        for label in sorted(path for path in folder.iterdir() if path.is_dir()):
            (data / label.name).mkdir(parents=True)
            for path in sorted(label.iterdir())[: settings.images // 10]:
                (data / label.name / path.name).symlink_to(path.resolve())
        measured = harness.compare(
            "training on images of 32 pixels, resnet18",
            {
                "dlkit": our_epoch(data.parent, "auto"),
                "dlkit fp32": our_epoch(data.parent, "fp32"),
                "timm": their_epoch(data, False),
                "timm bf16": their_epoch(data, True),
            },
            "images",
            settings.images,
            settings.repeats,
            "timm",
            settings.threads,
        )
        harness.require(measured["dlkit"], at_least=2)


def our_epoch(data: Path, precision: Any) -> Callable[[], str]:
    def work() -> str:
        with tempfile.TemporaryDirectory() as folder:
            config = ClassifyTrainConfig(
                data=data,
                out=Path(folder) / "run",
                arch="resnet18",
                epochs=1,
                val_share=0.0,
                precision=precision,
            )
            return str(checkpoint.read_header(training.train(config)).metrics["loss"])

    return work


def their_epoch(data: Path, bf16: bool) -> Callable[[], str]:
    timm = import_module("timm")
    of_timm = import_module("timm.data")
    optim = import_module("timm.optim")

    def work() -> str:
        model = timm.create_model("resnet18", num_classes=10)
        model.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        model.maxpool = nn.Identity()
        model.train()
        transform = of_timm.create_transform(
            (3, 32, 32), is_training=True, no_aug=False, scale=(0.8, 1.0), color_jitter=None
        )
        dataset = of_timm.ImageDataset(str(data), transform=transform)
        loader = torch.utils.data.DataLoader(
            dataset, 128, shuffle=True, num_workers=2, drop_last=True
        )
        optimizer = optim.create_optimizer_v2(model, "adamw", lr=1e-3, weight_decay=0.05)
        loss = torch.zeros(())
        for images, targets in loader:
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                loss = nn.functional.cross_entropy(model(images), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return f"{float(loss.detach()):.3f}"

    return work


if __name__ == "__main__":
    main()
