"""Settings of `dlkit segment`. Loads no torch."""

from dataclasses import dataclass
from typing import Literal

from dlkit.core.config import SkipSettings, SplitSettings, TrainConfig, option

DEFAULT_MODEL = "street"

# torchvision's COCO weights, downloaded when named; the file name holds the hash.
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
class SegmentTrainConfig(TrainConfig, SkipSettings, SplitSettings):
    """The settings of `dlkit segment train`."""

    arch: Arch = option("unet", "Architecture to train.", group="Architecture")
    task: Literal["semantic", "instance"] = option(
        "semantic",
        "semantic: a class for every pixel; instance: a mask for every object.",
        group="Architecture",
    )
    backbone: str | None = option(
        None,
        "Encoder: a dlkit classify model, or none (default: caltech101 for a unet without other"
        " network options); mobilenet or resnet50 for torchvision's architectures.",
        group="Architecture",
    )
    pretrained_backbone: bool = option(
        True,
        "Start from the backbone's trained weights instead of random ones.",
        group="Architecture",
    )
    width_multiplier: float | None = option(
        None,
        "Channels relative to the paper's, without a backbone.",
        min=0.02,
        max=4,
        group="Architecture",
    )
    depth: int | None = option(
        None, "unet: number of downsampling levels.", min=1, max=8, group="Architecture"
    )
    padding: Literal["same", "valid"] | None = option(
        None, "unet: same (default), or valid convolutions as in the paper.", group="Architecture"
    )
    context: Literal["basic", "large", "none"] | None = option(
        None,
        "dilated: context module on top of the front end (default: basic).",
        group="Architecture",
    )
    window: int | None = option(
        None, "patch: side of the window around each pixel.", min=8, group="Architecture"
    )
    step: int | None = option(
        None,
        "patch and shift-and-stitch: stride of the outputs; logits are interpolated in between.",
        min=1,
        group="Architecture",
    )
    places: int = option(
        64, "patch: pixels sampled from each image for one step.", min=1, group="Optimization"
    )
    image_size: int | None = option(
        None, "Resize images to this longest side; default: original size.", min=32, group="Data"
    )
    crop: int = option(
        0, "Side of random square crops; 0: whole images.", min=0, group="Augmentation"
    )
    epochs: int = option(100, "Passes over the training data.", min=1)
    batch_size: int = option(8, "Images per step, over all processes together.", min=1)
    ema: float = option(0.0, "Decay of the moving average of the weights.", min=0, max=1)

    loss: Literal["cross-entropy", "focal", "dice", "cross-entropy+dice"] = option(
        "cross-entropy", "Loss function.", group="Loss"
    )
    focal_gamma: float = option(2.0, "Focusing parameter of the focal loss.", min=0, group="Loss")
    class_weights: Literal["none", "inverse", "median"] = option(
        "none",
        "Weigh classes by inverse frequency, or by median-frequency balancing.",
        group="Loss",
    )
    border_weight: float = option(
        0.0,
        "Maximum extra weight of pixels between two objects (w0 of U-Net: 10).",
        min=0,
        group="Loss",
    )
    border_sigma: float = option(5.0, "Width of these borders in pixels.", min=0.1, group="Loss")
    loss_share: float = option(
        1.0, "Fraction of the pixels, sampled at each step, that count in the loss.",
        min=0.001, max=1,group="Loss")  # fmt: skip

    flip: float = option(
        0.5, "Probability of a horizontal flip.", min=0, max=1, group="Augmentation"
    )
    flip_vertical: float = option(
        0.0, "Probability of a vertical flip.", min=0, max=1, group="Augmentation"
    )
    zoom: float = option(1.5, "Zoom in or out by up to this factor.", min=1, group="Augmentation")
    rotate: float = option(
        0.0, "Maximum rotation in degrees.", min=0, max=180, group="Augmentation"
    )
    color_jitter: float = option(
        0.2,
        "Maximum relative change of brightness, contrast and colors.",
        min=0,
        max=1,
        group="Augmentation",
    )
    elastic: float = option(
        0.0,
        "Standard deviation of elastic deformations in pixels (U-Net: 10).",
        min=0,
        group="Augmentation",
    )
