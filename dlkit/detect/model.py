"""The registry of architectures."""

from typing import Any

from torch import nn

from dlkit.core.errors import DlkitError
from dlkit.core.store import schema
from dlkit.detect import svm
from dlkit.detect.architecture import Architecture
from dlkit.detect.losses.localize import keypoint_losses, localize_losses
from dlkit.detect.losses.regions import fast_rcnn_losses, rcnn_losses
from dlkit.detect.losses.sliding_window import sliding_window_losses
from dlkit.detect.losses.ssd import ssd_losses
from dlkit.detect.losses.torchvision import torchvision_losses
from dlkit.detect.losses.yolo import yolo_losses
from dlkit.detect.losses.yolo_v1 import yolo_v1_losses
from dlkit.detect.models.fast_rcnn import FastRCNN
from dlkit.detect.models.fasterrcnn import FasterRCNN
from dlkit.detect.models.fcos import FCOS
from dlkit.detect.models.localize import KeypointLocalizer, Localizer
from dlkit.detect.models.rcnn import RCNN
from dlkit.detect.models.retinanet import RetinaNet
from dlkit.detect.models.sliding_window import SlidingWindow
from dlkit.detect.models.ssd import SSD
from dlkit.detect.models.yolo import STRIDES, Yolo
from dlkit.detect.models.yolo_v1 import YoloV1

MOSAIC = ("mosaic", "copy_paste", "close_mosaic")  # for networks that find several objects
MULTI_SCALE = (*MOSAIC, "multi_scale")

ARCHITECTURES: dict[str, Architecture] = {
    "yolo": Architecture(
        Yolo,
        yolo_losses,
        options=("size", "teacher", *MULTI_SCALE),
        settings=("size",),
        backbone=None,
        image_multiple=STRIDES[-1],
    ),
    "yolo-v1": Architecture(YoloV1, yolo_v1_losses, options=MOSAIC, settings=("image_size",)),
    "ssd": Architecture(SSD, ssd_losses, options=MULTI_SCALE, settings=("image_size",)),
    "retinanet": Architecture(
        RetinaNet, torchvision_losses, options=MULTI_SCALE, torchvision_backbones=("resnet50",)
    ),
    "fcos": Architecture(
        FCOS, torchvision_losses, options=MULTI_SCALE, torchvision_backbones=("resnet50",)
    ),
    "fasterrcnn": Architecture(
        FasterRCNN,
        torchvision_losses,
        options=MULTI_SCALE,
        backbone="mobilenet",
        torchvision_backbones=("mobilenet", "resnet50"),
    ),
    "fast-rcnn": Architecture(FastRCNN, fast_rcnn_losses, options=MULTI_SCALE, proposals=True),
    "rcnn": Architecture(RCNN, rcnn_losses, options=MULTI_SCALE, proposals=True, fit=svm.fit),
    "sliding-window": Architecture(SlidingWindow, sliding_window_losses, options=MULTI_SCALE),
    "localize": Architecture(
        Localizer,
        localize_losses,
        options=("alpha", "keypoints"),
        settings=("image_size",),
        loss_settings=("alpha",),
    ),
    # Also trained by `--arch localize --keypoints K`.
    "keypoints": Architecture(
        KeypointLocalizer, keypoint_losses, options=("keypoints",), settings=("image_size",)
    ),
}


def find(arch: str) -> Architecture:
    """The architecture of that name."""
    if arch not in ARCHITECTURES:
        raise DlkitError(f"unknown architecture {arch!r}; choose from {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[arch]


def build(arch: str, **settings: Any) -> nn.Module:
    """The untrained network of the architecture of that name."""
    return schema.call(find(arch).build, settings)


def options_by_architecture() -> dict[str, tuple[str, ...]]:
    """The architectures that have each option which not every architecture has."""
    names = {name for architecture in ARCHITECTURES.values() for name in architecture.options}
    return {
        name: tuple(arch for arch, own in ARCHITECTURES.items() if name in own.options)
        for name in names
    }
