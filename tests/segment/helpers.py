"""Data, toy networks and checks that several tests of `dlkit segment` share."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from dlkit.classify.backbones import BackboneSettings
from dlkit.classify.data import PreprocessingSettings
from dlkit.core.store import checkpoint
from dlkit.core.store.checkpoint import Header
from dlkit.segment import model
from dlkit.segment.architecture import Architecture, InstancePrediction
from dlkit.segment.config import SegmentTrainConfig
from dlkit.segment.losses.instance import instance_loss
from dlkit.segment.losses.semantic import (
    semantic_loss,
)
from dlkit.segment.model import ARCHITECTURES
from dlkit.segment.models.segmenter import Segmenter

NAMES = ["background", "disc", "square"]


COLORS = [(0, 0, 0), (60, 120, 255), (255, 60, 40)]


SPLITS = {"train": [0, 1, 2, 3], "val": [4, 5]}


HEIGHT, WIDTH = 48, 64


def scene(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An image (H, W, 3), its mask and the numbers of its objects (H, W): a disc and a square."""
    rng = np.random.default_rng(seed)
    mask, numbers = np.zeros((2, HEIGHT, WIDTH), np.uint8)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    for label, left in ((1, 0), (2, WIDTH // 2)):
        radius = int(rng.integers(8, 13))
        middle_y, middle_x = int(rng.integers(14, HEIGHT - 14)), left + int(rng.integers(14, 18))
        inside = (
            (y - middle_y) ** 2 + (x - middle_x) ** 2 <= radius**2
            if label == 1
            else (abs(y - middle_y) < radius) & (abs(x - middle_x) < radius)
        )
        mask[inside] = label
        numbers[inside] = label
    noise = rng.integers(0, 40, (HEIGHT, WIDTH, 3))
    return (np.array(COLORS)[mask] * 0.8 + noise).astype(np.uint8), mask, numbers


def write(path: Path, content: str | Image.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, str):
        path.write_text(content)
    else:
        content.save(path)


def picture(values: np.ndarray, palette: bool = False) -> Image.Image:
    image = Image.fromarray(values)
    if palette:
        image = image.convert("P")
        image.putdata(values.reshape(-1).tolist())
        image.putpalette([number for color in COLORS for number in color])
    return image


def folders(root: Path, kind: str = "index", beside: bool = False) -> Path:
    """images/SPLIT/ and masks/SPLIT/, or with `beside` SPLIT/images/ and SPLIT/masks/."""
    colored = kind == "color"
    write(
        root / "classes.txt",
        "".join(
            f"{name} {r} {g} {b}\n" if colored else f"{name}\n"
            for name, (r, g, b) in zip(NAMES, COLORS, strict=True)
        ),
    )
    for split, seeds in SPLITS.items():
        for seed in seeds:
            image, mask, numbers = scene(seed)
            truth = np.array(COLORS, np.uint8)[mask] if colored else mask
            parts = {"images": image, "masks": truth, "instances": numbers}
            for part, values in parts.items():
                place = root / split / part if beside else root / part / split
                write(place / f"{seed}.png", picture(values, kind == "palette" and part == "masks"))
    return root


def voc(root: Path) -> Path:
    write(root / "classes.txt", "\n".join(NAMES))
    for split, seeds in SPLITS.items():
        write(root / f"ImageSets/Segmentation/{split}.txt", "".join(f"{s}\n" for s in seeds))
        for seed in seeds:
            image, mask, numbers = scene(seed)
            write(root / f"JPEGImages/{seed}.png", picture(image))
            write(root / f"SegmentationClass/{seed}.png", picture(mask, palette=True))
            write(root / f"SegmentationObject/{seed}.png", picture(numbers))
    return root


def camvid(root: Path, listed: bool = True) -> Path:
    write(root / "classes.txt", "\n".join(NAMES))
    for split, seeds in SPLITS.items():
        for seed in seeds:
            image, mask, _ = scene(seed)
            write(root / split / f"{seed}.png", picture(image))
            write(root / f"{split}annot/{seed}.png", picture(mask))
        if listed:
            lines = (f"/SegNet/CamVid/{split}/{s}.png {split}annot/{s}.png\n" for s in seeds)
            write(root / f"{split}.txt", "".join(lines))
    return root


def coco(root: Path) -> Path:
    """The disc as run lengths, the square as a polygon."""
    for split, seeds in SPLITS.items():
        content: dict[str, list[dict[str, Any]]] = {
            "categories": [{"id": 5, "name": "disc"}, {"id": 9, "name": "square"}],
            "images": [],
            "annotations": [],
        }
        for seed in seeds:
            image, mask, _ = scene(seed)
            write(root / f"{split}2017/{seed}.png", picture(image))
            content["images"].append(
                {"id": seed, "file_name": f"{seed}.png", "width": WIDTH, "height": HEIGHT}
            )
            flat = (mask == 1).T.reshape(-1).astype(int)
            changes = [0, *(np.flatnonzero(np.diff(flat)) + 1).tolist(), flat.size]
            rows, columns = np.nonzero(mask == 2)
            x1, y1, x2, y2 = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
            polygon = [int(v) for v in (x1, y1, x2, y1, x2, y2, x1, y2)]
            forms: list[Any] = [
                {"size": [HEIGHT, WIDTH], "counts": np.diff(changes).tolist()},
                [polygon],
            ]
            for number, (category, form) in enumerate(zip((5, 9), forms, strict=True)):
                content["annotations"].append(
                    {
                        "id": 2 * seed + number,
                        "image_id": seed,
                        "category_id": category,
                        "segmentation": form,
                    }
                )
        write(root / f"annotations/instances_{split}2017.json", json.dumps(content))
    return root


LAYOUTS: dict[str, Callable[[Path], Path]] = {
    "index masks": folders,
    "palette masks": lambda root: folders(root, "palette"),
    "color masks": lambda root: folders(root, "color", beside=True),
    "voc": voc,
    "camvid": camvid,
    "camvid without lists": lambda root: camvid(root, listed=False),
    "coco": coco,
}


STILL: dict[str, Any] = {"flip": 0.0, "zoom": 1.0, "color_jitter": 0.0}


def settings(**changes: Any) -> SegmentTrainConfig:
    return SegmentTrainConfig(data=Path("data"), **{**STILL, **changes})


def tensors(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    image, mask, numbers = scene(seed)
    return torch.from_numpy(image).permute(2, 0, 1), torch.from_numpy(np.stack([mask, numbers]))


SMALL = [
    "--width-multiplier", "0.125", "--depth", "2", "--batch-size", "4", "--workers", "0",
    "--device", "cpu", "--precision", "fp32",
]  # fmt: skip


NARROW = ["--width-multiplier", "0.05", "--crop", "32", "--batch-size", "2"]


COLOR_NAMES = ["red", "green", "blue"]


FP32 = ("--device", "cpu", "--precision", "fp32")


class ColorSegmenter(Segmenter):
    """Labels each pixel by the largest of its colors."""

    stride = 8

    def __init__(self, num_labels: int) -> None:
        super().__init__()
        self.mean, self.std = [0.5] * 3, [0.1] * 3
        self.score = nn.Conv2d(3, num_labels, 1, bias=False)
        self.score.weight = nn.Parameter(torch.eye(3).view(3, 3, 1, 1))

    def logits(self, images: Tensor) -> Tensor:
        out: Tensor = self.score(images)
        return out


class ColorFinder(nn.Module):
    """Finds what is red and what is blue, each as one object."""

    def __init__(self, num_labels: int) -> None:
        super().__init__()
        self.one = nn.Parameter(torch.ones(1))

    def normalize(self, images: Tensor) -> Tensor:
        return images / 255

    def predict(
        self, images: list[Tensor], threshold: float, limit: int
    ) -> list[InstancePrediction]:
        found = []
        for image in images:
            masks = torch.stack([image.argmax(dim=0) == 0, image.argmax(dim=0) == 2])
            scores = torch.tensor([0.9, 0.4])
            boxes = torch.tensor([[0.0, 0.0, 2.0, 3.0]] * 2)
            kept = scores >= threshold
            labels = torch.tensor([0, 2])
            found.append(InstancePrediction(masks[kept], labels[kept], scores[kept], boxes[kept]))
        return found

    def prepare(self, dtype: torch.dtype) -> None:
        self.eval()


COLOR_SEGMENTER = Architecture(ColorSegmenter, semantic_loss)


COLOR_FINDER = Architecture(ColorFinder, instance_loss, instances=True)


def save_model(path: Path, arch: str) -> Path:
    weights = model.build(arch, 3).state_dict()
    header = Header("segment", arch, {}, COLOR_NAMES, {"image_size": None})
    checkpoint.save(path, weights, header)
    return path


def truth_of(seed: int, shape: tuple[int, int] = (40, 56)) -> np.ndarray:
    """A label map: green on red with a blue corner."""
    labels = np.zeros(shape, np.uint8)
    top, left = np.random.default_rng(seed).integers(2, 12, 2)
    labels[top : top + 20, left : left + 25] = 1
    labels[-7:, -9:] = 2
    return labels


def picture_of(labels: np.ndarray) -> Image.Image:
    values = np.full((*labels.shape, 3), 40, np.uint8)
    for k in range(3):
        values[labels == k, k] = 220
    return Image.fromarray(values)


SEMANTIC = [name for name, arch in ARCHITECTURES.items() if not arch.instances]


PREPROCESSING: PreprocessingSettings = {
    "image_size": 96,
    "fit": "squash",
    "channels": 3,
    "mean": [0.4, 0.5, 0.6],
    "std": [0.2, 0.25, 0.3],
}


RESNET: BackboneSettings = {
    "arch": "resnet18",
    "network": {"num_labels": 2, "image_size": 96, "channels": 3, "width_multiplier": 0.0625},
    "preprocessing": PREPROCESSING,
}


def vgg(image_size: int, **settings: Any) -> BackboneSettings:
    network = {
        "num_labels": 2,
        "image_size": image_size,
        "channels": 3,
        "width_multiplier": 0.05,
        **settings,
    }
    preprocessing = PREPROCESSING | {"image_size": image_size}
    return {"arch": "vgg13", "network": network, "preprocessing": preprocessing}


def random_norms(network: nn.Module) -> None:
    """Norms and scores as after training: otherwise errors in their order would not show."""
    for name, module in network.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
        elif name.startswith("scores."):
            nn.init.normal_(module.weight, std=0.1)
