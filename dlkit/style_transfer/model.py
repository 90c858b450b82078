"""The painters, networks that transfer a style in one pass, by name."""

from collections.abc import Callable
from typing import Any, cast

from dlkit.core.errors import DlkitError
from dlkit.core.store.checkpoint import Header
from dlkit.style_transfer.models.adain import AdaIN, AdaINSettings
from dlkit.style_transfer.models.fast import Fast, FastSettings
from dlkit.style_transfer.models.painter import Painter

__all__ = ["ARCHITECTURES", "Painter", "build", "build_from"]

ARCHITECTURES: dict[str, Callable[..., Painter]] = {"fast": Fast, "adain": AdaIN}


def build(arch: str, **settings: Any) -> Painter:
    """Build an untrained painter; `settings` are values that JSON can hold."""
    if arch not in ARCHITECTURES:
        raise DlkitError(f"unknown architecture {arch!r}; choose from {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[arch](**settings)


def build_from(header: Header) -> Painter:
    """Build the painter that a checkpoint's header describes."""
    return build(header.arch, **cast(FastSettings | AdaINSettings, header.settings))
