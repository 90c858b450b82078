"""torchvision's pretrained segmenters by name, downloaded once and converted to checkpoints."""

from pathlib import Path

from torchvision.models.detection import MaskRCNN_ResNet50_FPN_Weights
from torchvision.models.segmentation import LRASPP_MobileNet_V3_Large_Weights

from dlkit.core.environment import cache
from dlkit.core.io.download import download
from dlkit.core.store import checkpoint
from dlkit.core.store.checkpoint import Header
from dlkit.core.store.torchvision import read, weights_of
from dlkit.segment.architecture import SegmenterSettings
from dlkit.segment.config import PUBLISHED

# Architecture, settings, and the longest side to which torchvision resizes a 4:3 image.
MODELS: dict[str, tuple[str, SegmenterSettings, int]] = {
    "deeplabv3-voc": ("deeplabv3", {"backbone": "resnet50"}, 693),
    "deeplabv3-mobilenet-voc": ("deeplabv3", {"backbone": "mobilenet"}, 693),
    "lraspp-voc": ("lraspp", {}, 693),
    "maskrcnn-coco": ("maskrcnn", {"backbone": "resnet50"}, 1066),
}


def fetch(name: str) -> Path:
    """The checkpoint of a pretrained model, downloaded unless it is in the cache."""
    target = cache() / "segment" / f"{name}.safetensors"
    if target.exists():
        return target
    file = download(PUBLISHED[name])
    state = read(file)
    arch, settings, image_size = MODELS[name]
    instances = arch == "maskrcnn"
    card = {
        "data": "COCO train2017" if instances else "COCO train2017, the 20 classes of Pascal VOC",
        "source": PUBLISHED[name],
        "license": "BSD-3-Clause",
    }
    config = {"image_size": image_size}
    header = Header("segment", arch, settings, coco_labels(instances), config, card=card)
    checkpoint.save(target, weights_of(state, frozen_eps=instances), header)
    file.unlink()
    return target


def coco_labels(instances: bool) -> list[str]:
    """The class names; the gaps in COCO's object numbering are named "unused N"."""
    if not instances:
        names: list[str] = LRASPP_MobileNet_V3_Large_Weights.DEFAULT.meta["categories"]
        return [name.strip("_") for name in names]
    objects = MaskRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"][1:]
    return [c if c != "N/A" else f"unused {i}" for i, c in enumerate(objects, 1)]
