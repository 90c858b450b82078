"""torchvision's published segmenters by name: fetched once, kept as checkpoints of ours."""

from pathlib import Path
from typing import Any

from torchvision.models.detection import MaskRCNN_ResNet50_FPN_Weights
from torchvision.models.segmentation import LRASPP_MobileNet_V3_Large_Weights

from dlkit.core.io.download import cache, download
from dlkit.core.store import checkpoint
from dlkit.core.store.checkpoint import Header
from dlkit.core.store.torchvision import read, weights_of
from dlkit.segment.config import PUBLISHED

# Architecture, its settings, and the longest side of a 4:3 image as torchvision resizes it.
BUILT: dict[str, tuple[str, dict[str, Any], int]] = {
    "deeplabv3-voc": ("deeplabv3", {"backbone": "resnet50"}, 693),
    "deeplabv3-mobilenet-voc": ("deeplabv3", {"backbone": "mobilenet"}, 693),
    "lraspp-voc": ("lraspp", {}, 693),
    "maskrcnn-coco": ("maskrcnn", {"backbone": "resnet50"}, 1066),
}


def fetch(name: str) -> Path:
    """The checkpoint of a published model, downloaded when it is not yet in the cache."""
    target = cache() / "segment" / f"{name}.safetensors"
    if target.exists():
        return target
    file = download(PUBLISHED[name])
    state = read(file)
    arch, settings, image_size = BUILT[name]
    instances = arch == "maskrcnn"
    card = {
        "data": "COCO train2017" if instances else "COCO train2017, the 20 classes of Pascal VOC",
        "source": PUBLISHED[name],
        "license": "BSD-3-Clause",
    }
    config = {"image_size": image_size}
    header = Header("segment", arch, settings, labels_of(instances), config, card=card)
    checkpoint.save(target, weights_of(state, frozen_eps=instances), header)
    file.unlink()
    return target


def labels_of(instances: bool) -> list[str]:
    """The classes' names; COCO numbers its objects with gaps, which get a name here."""
    if not instances:
        names: list[str] = LRASPP_MobileNet_V3_Large_Weights.DEFAULT.meta["categories"]
        return [name.strip("_") for name in names]
    objects = MaskRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"][1:]
    return [c if c != "N/A" else f"unused {i}" for i, c in enumerate(objects, 1)]
