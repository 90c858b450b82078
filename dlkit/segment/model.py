"""The architectures by name; `Segmenter` says what all of them do."""

import inspect
from collections.abc import Callable
from typing import Any

from dlkit.classify import backbones
from dlkit.core.errors import DlkitError
from dlkit.segment.models.segmenter import Segmenter
from dlkit.segment.models.unet import unet

__all__ = ["ARCHITECTURES", "Segmenter", "build", "load_backbone", "options"]

ARCHITECTURES: dict[str, Callable[..., Segmenter]] = {"unet": unet}


def options(arch: str) -> list[str]:
    """What can be chosen in an architecture, beside its classes."""
    if arch not in ARCHITECTURES:
        raise DlkitError(f"no architecture {arch!r}: there is {', '.join(ARCHITECTURES)}")
    return list(inspect.signature(ARCHITECTURES[arch]).parameters)[1:]


def build(arch: str, classes: int, **settings: Any) -> Segmenter:
    """The network of that name, untrained; `settings` are those that `options(arch)` lists.

    All fit in JSON; None is the architecture's own choice.
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
    return backbones.load(name)
