"""Data and commands that several tests of classify share."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from dlkit.classify.model import ARCHITECTURES, build
from dlkit.classify.models.network import Network
from dlkit.classify.models.text import TEXT_ARCHITECTURES
from tests.conftest import Result, run

SIDE = 28
COLORS = {"amber": (230, 160, 20), "blue": (20, 60, 230), "cyan": (20, 210, 210)}
QUICK = "--epochs 3 --batch-size 8 --lr 5e-3 --warmup 0.2 --workers 0 --device cpu --precision fp32"
TINY = ["--arch", "resnet9", "--width-multiplier", "0.125"]


def striped(label: str, seed: int) -> Image.Image:
    """Stripes of the label's color on dark noise: horizontal for blue, vertical for the others."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 50, (SIDE, SIDE, 3))
    start, width = int(rng.integers(0, 4)), int(rng.integers(2, 5))
    for at in range(start, SIDE, 2 * width):
        where = np.s_[at : at + width] if label == "blue" else np.s_[:, at : at + width]
        pixels[where] = np.array(COLORS[label]) + rng.integers(-20, 20, 3)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def write_folders(root: Path, counts: dict[str, int]) -> Path:
    """Write ROOT/SPLIT/LABEL/N.png, with `counts` images per label in each split."""
    for split, count in counts.items():
        for label in COLORS:
            (root / split / label).mkdir(parents=True)
            for seed in range(count):
                place = root / split / label / f"{seed}.png"
                striped(label, 1000 * len(split) + seed).save(place)
    return root


def train(data: Path, out: Path, *options: Any) -> Result:
    return run("classify", "train", data, "--out", out, *QUICK.split(), *options)


def trained(data: Path, out: Path, *options: Any) -> Path:
    result = train(data, out, *options)
    assert result.code == 0, result.err
    return Path(result.out.strip())


def scores(result: Result) -> dict[tuple[str, str], float]:
    assert result.code == 0, result.err
    return {(s["metric"], s["label"]): s["value"] for s in json.loads(result.out)}


def evaluated(data: Path, *options: Any) -> dict[tuple[str, str], float]:
    return scores(run("classify", "evaluate", data, "-f", "json", *options))


TEXTS = {
    "cold": ["snow and ice", "a frozen lake", "ice in the wind", "frost, snow, frost"],
    "warm": ["sun and sand", "a hot beach", "sand in the sun", "heat, sun, heat"],
}


TRAINABLE = [arch for arch in ARCHITECTURES if arch != "knn"]  # which has no weights to train
FAMILIES = list({ARCHITECTURES[arch]: arch for arch in reversed(TRAINABLE)}.values())


def on_meta(arch: str, image_size: int, num_labels: int = 1000, **settings: Any) -> Network:
    """A network on the meta device, in eval mode."""
    with torch.device("meta"):
        return build(arch, num_labels, image_size, **settings).eval()


def random_statistics(network: nn.Module) -> None:
    """Norms as after training: otherwise errors in their order would not show."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)


FOLDER_COLORS = {"red": (220, 30, 20), "green": (20, 200, 40), "blue": (30, 40, 230)}


def save_picture(path: Path, seed: int, color: tuple[int, int, int]) -> Path:
    noise = np.random.default_rng(seed).integers(-20, 20, (32, 32, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((noise + color).clip(0, 255).astype(np.uint8)).save(path)
    return path


WORDS = 50  # in the vocabulary of the networks here
END = 3  # the id of a sentence's end
TEXT_NETWORKS: dict[str, dict[str, Any]] = {
    "fasttext": {"ngrams": 3, "buckets": 100},
    "bilstm": {"layers": 2, "hidden": 16},
    "bilstm-mean": {"layers": 1, "hidden": 16, "pooling": "mean"},
    "attention": {"hidden": 16},
    "hierarchical": {"hidden": 16, "sentence_ends": [END]},
    "transformer": {"heads": 2},
}


GOOD = ["good", "lovely", "great"]
BAD = ["bad", "dull", "awful"]


def text_network(name: str, num_labels: int = 3) -> Any:
    torch.manual_seed(0)
    arch = {"bilstm-mean": "bilstm", "hierarchical": "attention"}.get(name, name)
    made = TEXT_ARCHITECTURES[arch](num_labels, WORDS, embedding_size=12, **TEXT_NETWORKS[name])
    return made.eval()


def write_lines(folder: Path, count: int = 40) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for label, words in (("pos", GOOD), ("neg", BAD)):
        lines = [f"A {words[i % 3]} film, number {i} ." for i in range(count)]
        (folder / f"{label}.txt").write_text("\n".join(lines) + "\n")
    return folder
