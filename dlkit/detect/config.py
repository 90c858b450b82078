"""Settings of `dlkit detect`. Loads no torch."""

from dataclasses import dataclass
from typing import Literal

from dlkit.core.config import SkipSettings, SplitSettings, TrainConfig, option

DEFAULT_MODEL = "animals"

Nms = Literal["hard", "soft-linear", "soft-gaussian", "weighted"]

# COCO weights of torchvision, downloaded when requested by name; the hash is in the file's name.
HUB = "https://download.pytorch.org/models/"
PUBLISHED = {
    "fasterrcnn-coco": f"{HUB}fasterrcnn_resnet50_fpn_coco-258fb6c6.pth#sha256=258fb6c6",
    "fasterrcnn-mobilenet-coco": (
        f"{HUB}fasterrcnn_mobilenet_v3_large_fpn-fb6a3cc7.pth#sha256=fb6a3cc7"
    ),
    "retinanet-coco": f"{HUB}retinanet_resnet50_fpn_coco-eeacb38b.pth#sha256=eeacb38b",
    "fcos-coco": f"{HUB}fcos_resnet50_fpn_coco-99b0c9b7.pth#sha256=99b0c9b7",
}

# Names of model.ARCHITECTURES, here for the command line, which must not load torch.
Arch = Literal[
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
    "keypoints",
]


@dataclass(kw_only=True)
class DetectTrainConfig(TrainConfig, SkipSettings, SplitSettings):
    """The settings of `dlkit detect train`."""

    arch: Arch = option("yolo", "Architecture to train.", group="Architecture")
    size: Literal["nano", "small", "medium"] = option(
        "small", "Size of a yolo.", group="Architecture"
    )
    backbone: str | None = option(
        None,
        "Backbone: a model of dlkit classify with its weights (default: caltech101; yolo has its"
        " own layers), or an untrained one of torchvision: mobilenet (default of fasterrcnn),"
        " resnet50 (fasterrcnn, retinanet, fcos).",
        group="Architecture",
    )
    pretrained_backbone: bool = option(
        True,
        "Start from the backbone's trained weights, or from random ones.",
        group="Architecture",
    )
    alpha: float = option(
        0.5,
        "Weight of the label loss of localize; the box loss has the rest.",
        min=0,
        max=1,
        group="Loss",
    )
    keypoints: int = option(
        0,
        "Number of keypoints that localize finds instead of a label and a box; 0 with --arch"
        " keypoints: that of the data.",
        min=0,
        group="Architecture",
    )
    teacher: str | None = option(
        None, "A trained, larger yolo of the same labels, for knowledge distillation.", group="Loss"
    )
    image_size: int = option(256, "Longest side of the images, in pixels.", min=64, group="Data")
    epochs: int = option(100, "Passes over the training data.", min=1)
    lr: float = option(2e-3, "Learning rate after warm-up.", min=0)
    ema: float = option(0.9995, "Decay of the moving average of the weights.", min=0, max=1)
    mosaic: float = option(
        0.7, "Probability of a mosaic of four images.", min=0, max=1, group="Augmentation"
    )
    copy_paste: float = option(
        0.0, "Probability of pasting objects of other images.", min=0, max=1, group="Augmentation"
    )
    close_mosaic: int = option(
        10, "Last epochs without mosaic and copy-paste.", min=0, group="Augmentation"
    )
    multi_scale: float = option(
        1.0,
        "Resize each batch by up to this factor, in steps of 32 pixels.",
        min=1,
        group="Augmentation",
    )
    zoom: float = option(1.6, "Zoom in or out by up to this factor.", min=1, group="Augmentation")
    color_jitter: float = option(
        0.3,
        "Change brightness, contrast and colors by up to this fraction.",
        min=0,
        max=1,
        group="Augmentation",
    )
    flip: float = option(
        0.5, "Probability of mirroring left to right.", min=0, max=1, group="Augmentation"
    )
    flip_vertical: float = option(
        0.0, "Probability of mirroring top to bottom.", min=0, max=1, group="Augmentation"
    )
