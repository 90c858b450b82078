"""Pictures and commands for the tests of style-transfer."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from dlkit.core.vision import images
from dlkit.style_transfer.config import StyleTrainConfig
from tests.conftest import Result, run

CPU = torch.device("cpu")


def picture(seed: int, height: int = 32, width: int = 40) -> Tensor:
    """Smooth noise (1, 3, H, W) from 0 to 1."""
    noise = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(noise, size=(height, width), mode="bicubic").clamp(0, 1)


def settings(examples: Path, out: Path, arch: str, **options: Any) -> StyleTrainConfig:
    """The settings of a tiny training."""
    chosen: dict[str, Any] = {
        "data": [str(examples / "styles")],
        "images": [str(examples / "photos")],
        "out": out,
        "arch": arch,
        "features": "random:0",
        "image_size": 32,
        "steps_per_epoch": 4,
        "epochs": 2,
        "batch_size": 2,
        "val_share": 0.3,
        "allow_skipped": 0.5,
        "workers": 0,
        "device": "cpu",
        "precision": "fp32",
    }
    if arch == "fast":
        chosen |= {"width": 4, "style_size": 40}
    return StyleTrainConfig(**{**chosen, **options})


QUICK = ("--features", "random:0", "--device", "cpu", "--precision", "fp32")

ON_CPU = ("--device", "cpu", "--precision", "fp32")

TINY = {"stages": [1, 1, 1, 1], "widths": [4, 4, 4, 4]}


def smooth(height: int, width: int, seed: int = 0) -> Tensor:
    """A picture (3, H, W) from 0 to 1 with soft forms and some noise."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 6, 6, generator=generator)
    forms = F.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=False)[0]
    return (forms + 0.05 * torch.randn(3, height, width, generator=generator)).clamp(0, 1)


def values(path: str | Path) -> Tensor:
    """The pixels (3, H, W) of an image from 0 to 1."""
    return images.read(str(path)).pixels.float() / 255


def paint(*args: object) -> Result:
    """`dlkit style-transfer ARGS` with a small untrained feature network."""
    return run("style-transfer", *args, *QUICK)


def paint_in_one_pass(model: str, *args: object) -> Result:
    """`dlkit style-transfer apply MODEL ARGS`."""
    return run("style-transfer", "apply", f"{model}.safetensors", *args, *ON_CPU)
