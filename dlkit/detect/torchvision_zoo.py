"""torchvision's COCO detectors: downloaded once and cached as checkpoints of dlkit."""

from pathlib import Path

from torch import Tensor
from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

from dlkit.core.environment import cache
from dlkit.core.io.download import download
from dlkit.core.store import checkpoint
from dlkit.core.store.checkpoint import Header
from dlkit.core.store.torchvision import read, weights_of
from dlkit.detect.architecture import DetectorSettings
from dlkit.detect.config import PUBLISHED

# Architecture, backbone, and whether the batch norms were trained without epsilon.
FORMS = {
    "fasterrcnn-coco": ("fasterrcnn", "resnet50", True),
    "fasterrcnn-mobilenet-coco": ("fasterrcnn", "mobilenet", False),
    "retinanet-coco": ("retinanet", "resnet50", True),
    "fcos-coco": ("fcos", "resnet50", False),
}
CLASSES = 91  # COCO's category ids, from 0, the background
IMAGE_SIZE = 1066  # of a 4:3 image whose shortest side is torchvision's 800


def fetch(name: str) -> Path:
    """The checkpoint of a published model, which is downloaded unless it is cached."""
    target = cache() / "detect" / f"{name}.safetensors"
    if target.exists():
        return target
    file = download(PUBLISHED[name])
    state = read(file)
    categories = FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"][1:]
    labels = [c if c != "N/A" else f"unused {i}" for i, c in enumerate(categories, 1)]
    arch, backbone, frozen_eps = FORMS[name]
    settings: DetectorSettings = {"num_labels": len(labels), "backbone": backbone}
    card = {"data": "COCO train2017", "source": PUBLISHED[name], "license": "BSD-3-Clause"}
    header = Header("detect", arch, settings, labels, {"image_size": IMAGE_SIZE}, card=card)
    checkpoint.save(target, without_background(weights_of(state, frozen_eps)), header)
    file.unlink()
    return target


def without_background(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Remove the outputs of class 0, which one-stage networks have but do not use."""
    for name, tensor in weights.items():
        if ".cls_logits." in name and tensor.shape[0] % CLASSES == 0:
            by_class = tensor.reshape(-1, CLASSES, *tensor.shape[1:])  # for each anchor of a cell
            weights[name] = by_class[:, 1:].flatten(0, 1).contiguous()
    return weights
