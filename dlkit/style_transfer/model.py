"""The painters, networks that transfer a style in one pass, by name."""

from collections.abc import Callable
from typing import Any

from dlkit.core.errors import DlkitError
from dlkit.core.store import schema
from dlkit.core.store.checkpoint import Header
from dlkit.style_transfer.models.adain import AdaIN
from dlkit.style_transfer.models.fast import Fast
from dlkit.style_transfer.models.painter import Painter

__all__ = ["ARCHITECTURES", "Painter", "build", "build_from"]

ARCHITECTURES: dict[str, Callable[..., Painter]] = {"fast": Fast, "adain": AdaIN}


def build(arch: str, **settings: Any) -> Painter:
    """Build an untrained painter; `settings` are values that JSON can hold."""
    if arch not in ARCHITECTURES:
        raise DlkitError(f"unknown architecture {arch!r}; choose from {', '.join(ARCHITECTURES)}")
    return schema.call(ARCHITECTURES[arch], settings)


def build_from(header: Header) -> Painter:
    """Build the painter that a checkpoint's header describes."""
    painter = build(header.arch, **header.settings)
    if not painter.any_style and getattr(painter, "styles", 0) != len(header.labels):
        raise DlkitError(f"{len(header.labels)} names of styles, but not as many styles")
    return painter
