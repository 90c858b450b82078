"""Settings of `dlkit detect`. Loads no torch."""

from dataclasses import dataclass
from typing import Literal

from dlkit.core.config import TrainConfig, option

DEFAULT_MODEL = "animals"

Nms = Literal["hard", "soft-linear", "soft-gaussian", "weighted"]

# COCO weights of torchvision, fetched when asked for by name; the hash is in the file's name.
HUB = "https://download.pytorch.org/models/"
PUBLISHED = {
    "fasterrcnn-coco": f"{HUB}fasterrcnn_resnet50_fpn_coco-258fb6c6.pth#sha256=258fb6c6",
    "fasterrcnn-mobilenet-coco": (
        f"{HUB}fasterrcnn_mobilenet_v3_large_fpn-fb6a3cc7.pth#sha256=fb6a3cc7"
    ),
    "retinanet-coco": f"{HUB}retinanet_resnet50_fpn_coco-eeacb38b.pth#sha256=eeacb38b",
    "fcos-coco": f"{HUB}fcos_resnet50_fpn_coco-99b0c9b7.pth#sha256=99b0c9b7",
}

# Backbones of torchvision's own, untrained.
TORCHVISION_BACKBONES = {
    "fasterrcnn": ("mobilenet", "resnet50"),
    "retinanet": ("resnet50",),
    "fcos": ("resnet50",),
}
# What stands first in a network if nobody says; yolo has layers of its own.
DEFAULT_BACKBONES = {"yolo": None, "fasterrcnn": "mobilenet"}
DEFAULT_BACKBONE = "caltech101"  # of all others

PROPOSING = ("rcnn", "fast-rcnn")  # architectures that look at regions of selective search
# All but localize, which learns one object an image and so sees whole ones.
SEVERAL_OBJECTS = (
    *("yolo", "yolo-v1", "ssd", "retinanet", "fcos", "fasterrcnn", "sliding-window"),
    *PROPOSING,
)

# Architectures of the options that are not for all.
OWN = {
    "size": ("yolo",),
    "teacher": ("yolo",),
    "mosaic": SEVERAL_OBJECTS,
    "copy_paste": SEVERAL_OBJECTS,
    "close_mosaic": SEVERAL_OBJECTS,
    "multi_scale": ("yolo", "ssd", "retinanet", "fcos", "fasterrcnn", "sliding-window", *PROPOSING),
    "alpha": ("localize",),
    "keypoints": ("localize",),
}
# Options of localize that mean nothing to keypoints: a mirrored left eye would be a right one.
WITHOUT_KEYPOINTS = {"alpha", "flip", "flip_vertical"}


@dataclass(kw_only=True)
class DetectTrainConfig(TrainConfig):
    arch: Literal[
        "yolo",
        "yolo-v1",
        "ssd",
        "retinanet",
        "fcos",
        "fasterrcnn",
        "fast-rcnn",
        "rcnn",
        "sliding-window",
        "localize",
    ] = option("yolo", "Architecture to train.")
    size: Literal["nano", "small", "medium"] = option("small", "How large a yolo.")
    backbone: str | None = option(
        None,
        "First part of the network: a model of dlkit classify to start from (default: caltech101,"
        " but yolo has layers of its own), or torchvision's untrained: mobilenet (fasterrcnn's"
        " default), resnet50 (fasterrcnn, retinanet, fcos).",
    )
    from_scratch: bool = option(False, "Of the --backbone take the form, not the trained weights.")
    alpha: float = option(
        0.5, "Share of the label in the loss of localize; the box has the rest.", min=0, max=1
    )
    keypoints: int = option(
        0,
        "Points of an object that localize finds, in place of a label and a box; from CSV files,"
        " see the README.",
        min=0,
    )
    teacher: str | None = option(
        None, "A trained, larger yolo of the same labels, to learn from besides the truth."
    )
    image_size: int = option(256, "Longest side of the images, in pixels.", min=64)
    epochs: int = option(100, "Passes over the training data.", min=1)
    lr: float = option(2e-3, "Learning rate after warm-up.", min=0)
    ema: float = option(0.9995, "Decay of the moving average of the weights.", min=0, max=1)
    mosaic: float = option(0.7, "Share of training pictures made of four.", min=0, max=1)
    copy_paste: float = option(
        0.0, "Share of training pictures with objects of others pasted in.", min=0, max=1
    )
    close_mosaic: int = option(10, "Epochs at the end without mosaic and copies.", min=0)
    multi_scale: float = option(
        1.0, "Each batch is made up to this factor smaller or larger, in steps of 32 pixels.", min=1
    )
    scale: float = option(1.6, "Zoom in or out by up to this factor.", min=1)
    color_jitter: float = option(
        0.3, "Change brightness and colors by up to this share.", min=0, max=1
    )
    flip: float = option(0.5, "Share of pictures mirrored left to right.", min=0, max=1)
    flip_vertical: float = option(0.0, "Share of pictures mirrored top to bottom.", min=0, max=1)
