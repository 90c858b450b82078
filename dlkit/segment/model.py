"""The architectures by name; `Segmenter` says what all of them do."""

import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from dlkit.classify import backbones
from dlkit.core.errors import DlkitError
from dlkit.segment.models.dilated import Dilated
from dlkit.segment.models.fcn import fcn8s, fcn16s, fcn32s
from dlkit.segment.models.patch import Patch, ShiftAndStitch
from dlkit.segment.models.segmenter import Segmenter
from dlkit.segment.models.segnet import SegNet
from dlkit.segment.models.torchvision_models import MaskRCNN, deeplabv3, lraspp
from dlkit.segment.models.unet import unet

__all__ = ["ARCHITECTURES", "Segmenter", "build", "load_backbone", "options"]

ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {
    "fcn32s": fcn32s,
    "fcn16s": fcn16s,
    "fcn8s": fcn8s,
    "segnet": SegNet,
    "unet": unet,
    "dilated": Dilated,
    "deeplabv3": deeplabv3,
    "lraspp": lraspp,
    "maskrcnn": MaskRCNN,
    "patch": Patch,
    "shift-and-stitch": ShiftAndStitch,
}
# Those whose `backbone` is a network of `dlkit.classify`, and those that use its wide layers.
ON_CLASSIFIERS = (
    "fcn32s", "fcn16s", "fcn8s", "segnet", "unet", "dilated", "patch", "shift-and-stitch",
)  # fmt: skip
WITH_HEAD = ("fcn32s", "fcn16s", "fcn8s", "dilated")


def options(arch: str) -> list[str]:
    """What can be chosen in an architecture, beside its classes."""
    if arch not in ARCHITECTURES:
        raise DlkitError(f"no architecture {arch!r}: there is {', '.join(ARCHITECTURES)}")
    return list(inspect.signature(ARCHITECTURES[arch]).parameters)[1:]


def build(arch: str, classes: int, **settings: Any) -> Any:
    """The network of that name, untrained; `settings` are those that `options(arch)` lists.

    A Segmenter, or a MaskRCNN. All fit in JSON; None is the architecture's own choice.
    """
    chosen = {name: value for name, value in settings.items() if value is not None}
    possible = options(arch)
    if unknown := [name for name in chosen if name not in possible]:
        raise DlkitError(f"{arch} has no {unknown[0]} to choose: there is {', '.join(possible)}")
    return ARCHITECTURES[arch](classes, **chosen)


def load_backbone(arch: str, name: str) -> tuple[backbones.Backbone, dict[str, Any]]:
    """A trained network of `dlkit.classify` in the form that `arch` starts from.

    With it comes the setting `backbone` for `build`; its state fits the built one's `backbone`.
    """
    if arch not in ON_CLASSIFIERS:
        raise DlkitError(f"{arch} takes no network of dlkit classify: its backbones are its own")
    return backbones.load(name, head=arch in WITH_HEAD)
