"""torchvision's published COCO detectors by name: fetched once, kept as checkpoints of ours."""

from pathlib import Path

import torch
from torch import Tensor
from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

from dlkit.core import checkpoint
from dlkit.core.checkpoint import Header
from dlkit.core.errors import DlkitError
from dlkit.core.weights import cache, download
from dlkit.detect.config import PUBLISHED

BACKBONES = {"fasterrcnn-coco": "resnet50", "fasterrcnn-mobilenet-coco": "mobilenet"}
IMAGE_SIZE = 1066  # of a 4:3 image whose shortest side is torchvision's 800
NORM_EPS = 1e-5


def fetch(name: str) -> Path:
    """The checkpoint of a published model, downloaded when it is not yet in the cache."""
    target = cache() / "detect" / f"{name}.safetensors"
    if target.exists():
        return target
    file = download(PUBLISHED[name])
    try:
        state: dict[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise DlkitError(f"{file}: not a file of weights; remove it and try again") from error
    categories = FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"][1:]
    labels = [c if c != "N/A" else f"unused {i}" for i, c in enumerate(categories, 1)]
    settings = {"num_labels": len(labels), "backbone": BACKBONES[name]}
    card = {"data": "COCO train2017", "source": PUBLISHED[name], "license": "BSD-3-Clause"}
    header = Header("detect", "fasterrcnn", settings, labels, {"image_size": IMAGE_SIZE}, card=card)
    checkpoint.save(target, weights_of(state, frozen_eps=BACKBONES[name] == "resnet50"), header)
    file.unlink()
    return target


def weights_of(state: dict[str, Tensor], frozen_eps: bool) -> dict[str, Tensor]:
    """torchvision's weights under our names.

    With `frozen_eps`, the norms were trained without epsilon: taking ours from the variance gives
    the same numbers. Frozen norms count no batches; ours expect the count.
    """
    weights = {}
    for name, tensor in state.items():
        if name.endswith("running_var"):
            weights[f"network.{name.replace('running_var', 'num_batches_tracked')}"] = torch.tensor(
                0
            )
            tensor = (tensor - NORM_EPS).clamp(min=0) if frozen_eps else tensor
        weights[f"network.{name}"] = tensor
    return weights
