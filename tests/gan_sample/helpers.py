"""Tiny models, trainings and pictures for the tests of gan-sample."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dlkit.cli import main
from dlkit.gan_sample.config import GanTrainConfig
from dlkit.gan_sample.data import (
    to_uint8,
)
from dlkit.gan_sample.model import build
from tests.conftest import run

SMALL: dict[str, dict[str, Any]] = {
    "gan": {"hidden": 20},
    "cgan": {"width": 4, "classes": 3},
    "cyclegan": {"width": 4, "blocks": 1},
}


def small(arch: str, image_size: int = 16, channels: int = 3, **settings: Any) -> Any:
    torch.manual_seed(0)
    chosen = SMALL.get(arch, {"width": 4})
    latent = {} if arch == "cyclegan" else {"latent": 6}
    return build(arch, image_size, channels, **{**chosen, **latent, **settings})


SIDE = 16

ARCHS: dict[str, dict[str, Any]] = {
    "residual": {"width": 4},
    "gan": {"hidden": 20, "loss": "minimax"},
    "dcgan": {"width": 4, "spectral_norm": True, "augment": "translation", "ema": 0.9},
    "wgan": {"width": 4, "d_steps": 2},
    "wgan-gp": {"width": 4, "d_steps": 2},
    "cgan": {"width": 4, "loss": "least-squares"},
    "autoencoder": {"width": 4, "noise": 0.3, "masking": 0.2, "sparsity": 0.1},
    "vae": {"network": "dense", "hidden": 20},
    "cyclegan": {"width": 4, "blocks": 1, "batch_size": 2, "image_size": 32},
}


def draw(path: Path, label: int, seed: int, size: tuple[int, int] = (SIDE, SIDE)) -> None:
    """A bright bar on dark noise: across with label 0, upright with label 1."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 60, (size[1], size[0]), dtype=np.uint8)
    place = int(rng.integers(3, 9))
    if label:
        pixels[:, place : place + 4] = 220
    else:
        pixels[place : place + 4] = 220
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def settings(data: Path, out: Path, arch: str, **changed: Any) -> GanTrainConfig:
    given: dict[str, Any] = {
        "data": data, "out": out, "arch": arch, "epochs": 2, "steps_per_epoch": 6,
        "batch_size": 8, "workers": 0, "device": "cpu", "precision": "fp32", **ARCHS[arch],
    }  # fmt: skip
    if arch != "cyclegan":
        given["latent"] = 5
    if arch != "autoencoder":
        given["eval_samples"] = 20
    return GanTrainConfig(**{**given, **changed})


def data_of(arch: str, bars: Path, domains: Path) -> Path:
    return domains if arch == "cyclegan" else bars


def log_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def same(first: Any, second: Any) -> bool:
    """Whether two saved states are equal to the last bit."""
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[k], second[k]) for k in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return torch.equal(first, second) if isinstance(first, torch.Tensor) else first == second


CELL = SIDE + 4  # with the white around it

SETTINGS: dict[str, dict[str, Any]] = {
    "dcgan": {"channels": 3, "latent": 6, "width": 4},
    "cgan": {"channels": 1, "latent": 6, "width": 4, "classes": 3},
    "vae": {"channels": 1, "latent": 5, "width": 4},
    "autoencoder": {"channels": 3, "latent": 5, "network": "dense", "hidden": 20},
    "cyclegan": {"channels": 3, "width": 4, "blocks": 1},
}

LABELS = {"cgan": ["0", "1", "2"]}

Records = list[dict[str, Any]]


def records(*arguments: object) -> Records:
    """What a command prints, which must go well."""
    done = run("gan-sample", *arguments, "--precision", "fp32", "-f", "json")
    assert done.code == 0, done.err
    found: Records = json.loads(done.out)
    return found


def array(path: Path | str) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def cell(sheet: np.ndarray, row: int, column: int) -> np.ndarray:
    """One picture of a grid."""
    y, x = row * CELL + 2, column * CELL + 2
    return sheet[y : y + SIDE, x : x + SIDE]


def alone(model: Any, z: Tensor, label: int | None = None) -> np.ndarray:
    """The picture (S, S, C) or (S, S) of one vector (Z,), straight from the network."""
    labels = None if label is None else torch.tensor([label])
    with torch.inference_mode():
        found = to_uint8(model.sample(z[None], labels))[0]
    return found.permute(1, 2, 0).numpy() if len(found) == 3 else found[0].numpy()


def assert_nearly_equal(found: np.ndarray, expected: np.ndarray) -> None:
    """But for the last digits of a matrix product, which may end in another of 256 levels."""
    assert np.abs(found.astype(int) - expected.astype(int)).max() <= 1


def run_rank(notices: Path, *arguments: object) -> None:
    """`dlkit ARGUMENTS` on the CPU as one of several processes, with stderr appended to a file."""
    sys.stdout = sys.stderr = notices.open("a", buffering=1)
    main([*map(str, arguments), "--device", "cpu", "--precision", "fp32"])
