"""torchvision's published COCO detectors by name: fetched once, kept as checkpoints of ours."""

from pathlib import Path

from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

from dlkit.core import checkpoint
from dlkit.core.checkpoint import Header
from dlkit.core.torchvision_weights import read, weights_of
from dlkit.core.weights import cache, download
from dlkit.detect.config import PUBLISHED

BACKBONES = {"fasterrcnn-coco": "resnet50", "fasterrcnn-mobilenet-coco": "mobilenet"}
IMAGE_SIZE = 1066  # of a 4:3 image whose shortest side is torchvision's 800


def fetch(name: str) -> Path:
    """The checkpoint of a published model, downloaded when it is not yet in the cache."""
    target = cache() / "detect" / f"{name}.safetensors"
    if target.exists():
        return target
    file = download(PUBLISHED[name])
    state = read(file)
    categories = FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"][1:]
    labels = [c if c != "N/A" else f"unused {i}" for i, c in enumerate(categories, 1)]
    settings = {"num_labels": len(labels), "backbone": BACKBONES[name]}
    card = {"data": "COCO train2017", "source": PUBLISHED[name], "license": "BSD-3-Clause"}
    header = Header("detect", "fasterrcnn", settings, labels, {"image_size": IMAGE_SIZE}, card=card)
    checkpoint.save(target, weights_of(state, frozen_eps=BACKBONES[name] == "resnet50"), header)
    file.unlink()
    return target
