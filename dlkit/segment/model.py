"""The registry of architectures."""

from functools import partial
from typing import Any

from dlkit.classify import backbones
from dlkit.core.config import option_name
from dlkit.core.errors import DlkitError
from dlkit.core.store import schema
from dlkit.segment.architecture import Architecture
from dlkit.segment.losses.instance import instance_loss
from dlkit.segment.losses.semantic import sampled_pixel_loss, semantic_loss
from dlkit.segment.models.dilated import Dilated
from dlkit.segment.models.fcn import FCN
from dlkit.segment.models.patch import Patch, ShiftAndStitch
from dlkit.segment.models.segnet import SegNet
from dlkit.segment.models.torchvision_models import DEEPLAB, MASK_RCNN, MaskRCNN, deeplabv3, lraspp
from dlkit.segment.models.unet import unet

PIXEL_LOSS = ("loss", "focal_gamma", "class_weights")
DENSE_LOSS = (*PIXEL_LOSS, "border_weight", "border_sigma", "loss_share")
WIDTH = ("width_multiplier",)

ARCHITECTURES: dict[str, Architecture] = {
    **{
        f"fcn{stride}s": Architecture(
            partial(FCN, finest=stride), semantic_loss, DENSE_LOSS, WIDTH, backbone_head=True
        )
        for stride in (32, 16, 8)
    },
    "segnet": Architecture(SegNet, semantic_loss, DENSE_LOSS, WIDTH),
    "unet": Architecture(
        unet,
        semantic_loss,
        DENSE_LOSS,
        (*WIDTH, "depth", "padding"),
        default_backbone="caltech101",
    ),
    "dilated": Architecture(
        Dilated, semantic_loss, DENSE_LOSS, (*WIDTH, "context"), backbone_head=True
    ),
    "deeplabv3": Architecture(
        deeplabv3,
        semantic_loss,
        DENSE_LOSS,
        classifier_backbone=False,
        torchvision_backbones=tuple(DEEPLAB),
    ),
    "lraspp": Architecture(lraspp, semantic_loss, DENSE_LOSS, classifier_backbone=False),
    "maskrcnn": Architecture(
        MaskRCNN,
        instance_loss,
        classifier_backbone=False,
        torchvision_backbones=MASK_RCNN,
        instances=True,
    ),
    "patch": Architecture(
        Patch, sampled_pixel_loss, (*PIXEL_LOSS, "places"), (*WIDTH, "window", "step")
    ),
    "shift-and-stitch": Architecture(ShiftAndStitch, semantic_loss, DENSE_LOSS, (*WIDTH, "step")),
}


def find(arch: str) -> Architecture:
    """The architecture of that name."""
    if arch not in ARCHITECTURES:
        raise DlkitError(f"unknown architecture {arch!r}; choose from {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[arch]


def build(arch: str, num_labels: int, **settings: Any) -> Any:
    """The untrained network of the architecture of that name.

    `settings` are the architecture's, and `backbone`: the name of a torchvision backbone, or the
    settings of a `dlkit classify` model. They are JSON values; None selects the default.
    """
    architecture = find(arch)
    given = {name: value for name, value in settings.items() if value is not None}
    possible = (*architecture.settings, *(["backbone"] if architecture.has_backbone else []))
    if unknown := [name for name in given if name not in possible]:
        raise DlkitError(
            f"{option_name(unknown[0])}: not an option of {arch}; its options are"
            f" {', '.join(map(option_name, possible)) or 'none'}"
        )
    backbone, names = given.get("backbone"), architecture.torchvision_backbones
    if isinstance(backbone, str) and backbone not in names:
        raise DlkitError(
            f"--backbone: unknown backbone {backbone!r} of {arch}; choose from {', '.join(names)}"
        )
    return schema.call(architecture.build, given, num_labels)


def load_backbone(arch: str, name: str) -> tuple[backbones.Backbone, backbones.BackboneSettings]:
    """Load a trained `dlkit classify` model as a backbone of the architecture.

    Also returns the setting `backbone` for `build`, whose `backbone` has the same state_dict.
    """
    architecture = find(arch)
    if not architecture.classifier_backbone:
        raise DlkitError(
            f"--backbone {name}: {arch} takes no dlkit classify model; choose one of its own"
            " backbones"
        )
    return backbones.load(name, head=architecture.backbone_head)


def options_by_architecture() -> dict[str, tuple[str, ...]]:
    """The architectures that have each option which not every architecture has."""
    names = {
        name
        for architecture in ARCHITECTURES.values()
        for name in (*architecture.options, *architecture.settings)
    }
    return {
        name: tuple(
            arch
            for arch, architecture in ARCHITECTURES.items()
            if name in architecture.options or name in architecture.settings
        )
        for name in names
    }
