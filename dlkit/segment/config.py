"""Settings of `dlkit segment`. Loads no torch."""

from dataclasses import dataclass
from typing import Literal

from dlkit.core.config import TrainConfig, option

DEFAULT_MODEL = "street"

# torchvision's weights on COCO, fetched when asked for by name; the hash is in the file's name.
HUB = "https://download.pytorch.org/models/"
PUBLISHED = {
    "deeplabv3-voc": f"{HUB}deeplabv3_resnet50_coco-cd0a2569.pth#sha256=cd0a2569",
    "deeplabv3-mobilenet-voc": f"{HUB}deeplabv3_mobilenet_v3_large-fc3c493d.pth#sha256=fc3c493d",
    "lraspp-voc": f"{HUB}lraspp_mobilenet_v3_large-d234d4ea.pth#sha256=d234d4ea",
    "maskrcnn-coco": f"{HUB}maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth#sha256=bf2d0c1e",
}

Arch = Literal[
    "fcn32s", "fcn16s", "fcn8s", "segnet", "unet", "dilated", "deeplabv3", "lraspp", "maskrcnn",
    "patch", "shift-and-stitch",
]  # fmt: skip


@dataclass(kw_only=True)
class SegmentTrainConfig(TrainConfig):
    arch: Arch = option("unet", "Architecture to train.")
    task: Literal["semantic", "instance"] = option(
        "semantic", "semantic: a class for every pixel; instance: a mask for every object."
    )
    backbone: str | None = option(
        None,
        "First part of the network: a model of dlkit classify to start from, or none (default:"
        " caltech101 for a unet of which nothing else is chosen); in torchvision's networks"
        " mobilenet or resnet50, untrained.",
    )
    from_scratch: bool = option(False, "Of the --backbone take the form, not the trained weights.")
    width: float | None = option(
        None, "Channels as a share of the paper's, without a backbone.", min=0.02, max=4
    )
    depth: int | None = option(None, "unet: how often the resolution is halved.", min=1, max=8)
    padding: Literal["same", "valid"] | None = option(
        None, "unet: same (default), or valid convolutions as in the paper."
    )
    context: Literal["basic", "large", "none"] | None = option(
        None, "dilated: the module on top of the front end (default: basic)."
    )
    window: int | None = option(None, "patch: side of the window around each pixel.", min=8)
    step: int | None = option(
        None,
        "patch and shift-and-stitch: outputs at each pixel of this number, between them"
        " interpolated.",
        min=1,
    )
    places: int = option(64, "patch: pixels of each image that a step learns from.", min=1)
    image_size: int | None = option(
        None, "Longest side at which the network sees images; default: their own.", min=32
    )
    crop: int = option(0, "Side of the square parts to train on; 0: whole images.", min=0)
    epochs: int = option(100, "Passes over the training data.", min=1)
    batch_size: int = option(8, "Images of one step, over all processes together.", min=1)
    ema: float = option(0.0, "Decay of the moving average of the weights.", min=0, max=1)

    loss: Literal["cross-entropy", "focal", "dice", "cross-entropy+dice"] = option(
        "cross-entropy", "What is minimized."
    )
    focal_gamma: float = option(2.0, "How much less the focal loss counts easy pixels.", min=0)
    class_weights: Literal["none", "inverse", "median"] = option(
        "none", "Weigh classes by their inverse frequency, or median-frequency balanced."
    )
    border_weight: float = option(
        0.0, "Largest extra weight of pixels between two objects (w0 of U-Net; there 10).", min=0
    )
    border_sigma: float = option(5.0, "Width of these borders in pixels.", min=0.1)
    loss_share: float = option(
        1.0, "Share of the pixels, drawn anew for each step, whose loss counts.", min=0.001, max=1
    )

    flip: float = option(0.5, "Share of pictures mirrored left to right.", min=0, max=1)
    flip_vertical: float = option(0.0, "Share of pictures mirrored top to bottom.", min=0, max=1)
    scale: float = option(1.5, "Zoom in or out by up to this factor.", min=1)
    rotate: float = option(0.0, "Rotate by up to this many degrees.", min=0, max=180)
    color_jitter: float = option(
        0.2, "Change brightness, contrast and colors by up to this share.", min=0, max=1
    )
    elastic: float = option(
        0.0, "Bend by random shifts of this many pixels (standard deviation; U-Net: 10).", min=0
    )
