"""Training speed of `dlkit segment train`: `python -m tests.benchmarks.segment_train DATA`.

Training images per second against the loop of torchvision's references/segmentation/train.py, which
is copied here: the same network, images, crops, batch size and threads.
"""

import argparse
import random
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as transform

from dlkit.core.ledger import Ledger
from dlkit.core.parallel import distributed
from dlkit.core.store.checkpoint import Header
from dlkit.core.train.run import Run
from dlkit.core.vision import imagenet
from dlkit.core.vision.augment import jitter_color
from dlkit.segment.config import SegmentTrainConfig
from dlkit.segment.data import SegmentationDataset, collate
from dlkit.segment.layouts import AnnotatedImage, read_split
from dlkit.segment.losses.semantic import segmentation_loss
from dlkit.segment.masks import IGNORED, MaskFile
from dlkit.segment.model import build, load_backbone
from dlkit.segment.models.segmenter import Segmenter
from tests.benchmarks import harness

CLASSES = 11
SCALE = 1.75


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.segment_train", description=__doc__
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--crop", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    options = parser.parse_args()
    harness.machine(options.threads)
    arguments = (options.data, options.images, options.crop, options.batch_size)
    results = harness.compare_apart(
        "segment train",
        {
            "dlkit": partial(ours, *arguments, "auto"),
            "dlkit fp32": partial(ours, *arguments, "fp32"),
            "torchvision's loop": partial(theirs, *arguments),
        },
        "images",
        options.images,
        options.repeats,
        peer="torchvision's loop",
        threads=options.threads,
        clock=options.clock,
    )
    harness.require(results["dlkit"], at_least=2)


def samples_of(data: Path, images: int) -> list[AnnotatedImage]:
    return read_split(data, "train").samples[:images]


def network() -> Segmenter:
    """The U-Net on the bundled backbone, as `dlkit segment train` builds it by default."""
    trained, settings = load_backbone("unet", "caltech101")
    model: Segmenter = build("unet", CLASSES, backbone=settings)
    model.backbone.load_state_dict(trained.state_dict())
    return model


def ours(data: Path, images: int, crop: int, batch_size: int, precision: str) -> Callable[[], str]:
    """One epoch of dlkit.segment.train, without its validation."""
    folder = tempfile.TemporaryDirectory()
    config = SegmentTrainConfig(
        data=data,
        out=Path(folder.name),
        crop=crop,
        zoom=SCALE,
        batch_size=batch_size,
        device="cpu",
        precision=precision,  # type: ignore[arg-type]
        workers=0,
    )
    model = network()
    run = Run(config, distributed.Process(0, 1, torch.device("cpu")), model, header())
    run.process.wrap(model)
    optimizer = run.optimizer(model)
    batches = run.loader(
        SegmentationDataset(samples_of(data, images), config, objects=False, ledger=Ledger()),
        collate,
    )

    def work() -> str:
        assert folder.name  # lives as long as the work
        run.done = 0  # each round repeats the first epoch
        for pictures, indices, _ in run.batches(batches):
            inputs = model.normalize(jitter_color(pictures.float(), config.color_jitter))
            with run.autocast():
                logits = model(inputs)
                loss = segmentation_loss(logits, indices[:, 0], config)
            run.step(loss, optimizer)
        return f"loss {run.loss():.3f}"

    return work


def header() -> Header:
    return Header("segment", "unet", {}, [""] * CLASSES)


class Reference(Dataset[tuple[Tensor, Tensor]]):
    """The reference's data set: decode, resize, mirror, crop and normalize at each access."""

    def __init__(self, samples: list[AnnotatedImage], crop: int) -> None:
        self.samples, self.crop = samples, crop

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        sample = self.samples[index]
        assert isinstance(sample.truth, MaskFile)
        with Image.open(sample.path) as file, Image.open(sample.truth.path) as mask_file:
            image, mask = file.convert("RGB"), mask_file.copy()
        side = round(min(image.size) * random.uniform(1 / SCALE, SCALE))
        image = transform.resize(image, [side])
        mask = transform.resize(mask, [side], interpolation=v2.InterpolationMode.NEAREST)
        if random.random() < 0.5:
            image, mask = transform.horizontal_flip(image), transform.horizontal_flip(mask)
        beyond = [0, 0, *(max(0, self.crop - length) for length in image.size)]
        image, mask = transform.pad(image, beyond), transform.pad(mask, beyond, fill=IGNORED)
        left, top = (random.randint(0, length - self.crop) for length in image.size)
        image, mask = (
            transform.crop(picture, top, left, self.crop, self.crop) for picture in (image, mask)
        )
        pixels = transform.to_dtype(transform.pil_to_tensor(image), torch.float, scale=True)
        classes = transform.pil_to_tensor(mask)[0].long()
        # CamVid's index after the last class means no class.
        classes[classes == CLASSES] = IGNORED
        return transform.normalize(pixels, list(imagenet.MEAN), list(imagenet.STD)), classes


def theirs(data: Path, images: int, crop: int, batch_size: int) -> Callable[[], str]:
    """One epoch of the reference's loop: fp32, SGD with momentum, the polynomial schedule."""
    loader = DataLoader(
        Reference(samples_of(data, images), crop), batch_size, shuffle=True, drop_last=True
    )
    model = network().train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.PolynomialLR(optimizer, 30 * len(loader), power=0.9)

    def work() -> str:
        for pixels, classes in loader:
            loss = F.cross_entropy(model(pixels), classes, ignore_index=IGNORED)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        return f"loss {loss.item():.3f}"

    return work


if __name__ == "__main__":
    main()
