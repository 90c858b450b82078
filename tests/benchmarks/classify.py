"""Quality and speed of `dlkit classify`: `python -m tests.benchmarks.classify PACKS`.

PACKS holds the unpacked packs mnist, cifar10, caltech101 and text. `architectures` trains each
architecture on digits of MNIST or on reviews and prints its test accuracy; `inference` and
`training` compare with timm and `search` with faiss (`pip install timm faiss-cpu`), which are no
dependencies of dlkit.
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

import numpy as np
import torch
from torch import nn

from dlkit.classify.config import DEFAULTS, NGRAMS, TEXTS, Arch, ClassifyTrainConfig
from dlkit.classify.evaluate import evaluate_checkpoint
from dlkit.classify.infer import Classification, classify, load_ensemble
from dlkit.classify.model import build
from dlkit.classify.search import nearest, open_index, write_index
from dlkit.classify.train import train
from dlkit.core.io.scores import Score
from dlkit.core.store import checkpoint
from dlkit.core.store.checkpoint import Header
from dlkit.core.vision import imagenet
from tests.benchmarks import harness

# Settings other than the defaults, for which one or two epochs on a CPU are enough.
NARROW = {"width_multiplier": 0.25}
SETTINGS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("resnet50", "resnet101", "resnet152"), NARROW),
    **dict.fromkeys(("vgg11", "vgg13", "vgg16", "vgg19"), {"norm": "batch"}),
    "nin": {"lr": 4e-4},
    "attention-sentences": {"data": "movie_reviews", "sentences": True, "batch_size": 16},
}
ROWS = 1_000_000


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.classify", description=__doc__
    )
    parser.add_argument("packs", type=Path)
    parser.add_argument("--only", choices=["architectures", "inference", "training", "search"])
    parser.add_argument("--arch", action="append", help="only these, of architectures")
    parser.add_argument("--epochs", type=int, default=2, help="of architectures")
    parser.add_argument("--batch-size", type=int, default=32, help="of architectures")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--images", type=int, default=5000, help="to train on")
    settings = parser.parse_args()
    harness.machine(settings.threads, "timm")
    if settings.only in {None, "architectures"}:
        architectures(settings.packs, settings)
    if settings.only in {None, "inference"}:
        inference(settings.packs / "caltech101" / "test", settings)
    if settings.only in {None, "training"}:
        compare_training(settings.packs / "cifar10", settings)
    if settings.only in {None, "search"}:
        compare_search(settings)


def architectures(packs: Path, settings: argparse.Namespace) -> None:
    """Print parameters, accuracy on the test split and minutes of each architecture."""
    for name in settings.arch or [*sorted(get_args(Arch)), "attention-sentences"]:
        arch = name.removesuffix("-sentences")
        own = SETTINGS.get(name, {})
        if arch not in TEXTS and DEFAULTS[arch]["batch_size"] > 1:
            own = {"batch_size": settings.batch_size, **own}
        with tempfile.TemporaryDirectory() as folder:
            if arch in TEXTS:
                data = packs / "text" / own.get("data", "sentence_polarity")
            else:
                data = subset(packs / "mnist", settings.images, Path(folder) / "data")
            start = time.perf_counter()
            passes = {} if arch in NGRAMS else {"epochs": settings.epochs}
            config = {**passes, "arch": arch, **own, "data": data}
            best = train(ClassifyTrainConfig(**config, out=Path(folder) / "run"))
            minutes = (time.perf_counter() - start) / 60
            scores = evaluate_checkpoint([str(data)], "test", str(best))
            accuracy = next(s.value for s in scores if isinstance(s, Score) and s.metric == "top1")
            _, weights = checkpoint.load(best)
            harness.note(
                arch=name,
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
            # In this process: the processes of compare_apart cannot start worker processes.
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
    mean, std = imagenet.MEAN, imagenet.STD
    described = {
        "network": network,
        "preprocessing": {**inputs, "mean": mean, "std": std},
        "loss": "cross-entropy",
    }
    labels = [str(number) for number in range(1000)]
    weights = build(arch, **network).state_dict()
    checkpoint.save(path, weights, Header("classify", arch, described, labels))


def ours(paths: list[str], model: str, precision: str) -> Callable[[], str]:
    classifiers = load_ensemble([model], "cpu", precision)

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
        data = subset(folder, settings.images, Path(place))
        measured = harness.compare(
            "training on images of 32 pixels, resnet18",
            {
                "dlkit": our_epoch(data, "auto"),
                "dlkit fp32": our_epoch(data, "fp32"),
                "timm": their_epoch(data / "train", False),
                "timm bf16": their_epoch(data / "train", True),
            },
            "images",
            settings.images,
            settings.repeats,
            "timm",
            settings.threads,
        )
        harness.require(measured["dlkit"], at_least=2)


def subset(folder: Path, images: int, target: Path) -> Path:
    """Copy the data set to `target` with `images` training images, equally many per label."""
    labels = sorted(path for path in (folder / "train").iterdir() if path.is_dir())
    for label in labels:
        (target / "train" / label.name).mkdir(parents=True)
        for path in sorted(label.iterdir())[: images // len(labels)]:
            (target / "train" / label.name / path.name).symlink_to(path.resolve())
    (target / "test").symlink_to((folder / "test").resolve())
    return target


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
            return str(checkpoint.read_header(train(config)).metrics["loss"])

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


def compare_search(settings: argparse.Namespace) -> None:
    """Search a million descriptors of 256 numbers on disk: one query, then 16 at once.

    faiss holds its exact index, IndexFlatIP over descriptors of length 1, in memory. The first
    query after the file was evicted from the page cache is printed separately.
    """
    faiss = import_module("faiss")
    draw = np.random.default_rng(0)
    descriptors = draw.standard_normal((ROWS, 256), np.float32)
    norms = np.linalg.norm(descriptors, axis=1)
    theirs = faiss.IndexFlatIP(256)
    theirs.add(descriptors / norms[:, None])
    faiss.omp_set_num_threads(settings.threads)
    queries = draw.standard_normal((16, 256), np.float32)
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "index.safetensors"
        names = [f"{row:07}.jpg" for row in range(ROWS)]
        stamps = dict.fromkeys(names, (0, 0))
        write_index(path, "", stamps, None, {}, dict(zip(names, descriptors, strict=True)), {})
        del descriptors
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        start = time.perf_counter()
        ours = open_index(path)
        nearest(ours, queries[:1], 10)
        harness.note(first_query_s=round(time.perf_counter() - start, 2))
        for count in (1, 16):
            asked = queries[:count]
            measured = harness.compare(
                f"{count} queries of {ROWS:,} descriptors",
                {
                    "dlkit": partial(nearest, ours, asked, 10),
                    "faiss": partial(theirs.search, asked / np.linalg.norm(asked), 10),
                },
                "queries",
                count,
                settings.repeats,
                "faiss",
                settings.threads,
            )
            found = [rows.tolist() for rows, _ in nearest(ours, asked, 10)]
            assert found == theirs.search(asked, 10)[1].tolist()
        harness.require(measured["dlkit"], at_least=1)


if __name__ == "__main__":
    main()
