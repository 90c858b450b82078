"""The networks that paint in one pass, by name; `Painter` says what all of them do."""

from collections.abc import Callable
from typing import Any

from dlkit.core.errors import DlkitError
from dlkit.style_transfer.models.adain import AdaIN
from dlkit.style_transfer.models.fast import Fast
from dlkit.style_transfer.models.painter import Painter

__all__ = ["ARCHITECTURES", "Painter", "build"]

ARCHITECTURES: dict[str, Callable[..., Painter]] = {"fast": Fast, "adain": AdaIN}


def build(arch: str, **settings: Any) -> Painter:
    """The network of that name, untrained; `settings` fit in JSON."""
    if arch not in ARCHITECTURES:
        raise DlkitError(f"no architecture {arch!r}: there is {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[arch](**settings)
