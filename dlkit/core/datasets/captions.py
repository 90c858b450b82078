"""Captions of images, gathered from their lines. Loads no torch."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dlkit.core.datasets.samples import Sample
from dlkit.core.io.image_files import exists
from dlkit.core.ledger import Ledger

MISSING_IMAGE = "missing image"
EMPTY = {"none", "null", "nan"}  # what programs write for a caption that is missing


@dataclass(frozen=True)
class CaptionLine:
    """One caption of an image, None if it is missing, and its place in the data."""

    path: Path
    caption: str | None
    where: str


def captioned(lines: Iterable[CaptionLine], ledger: Ledger) -> list[Sample]:
    """The images that exist, each with its captions, in their order.

    The ledger counts the skipped images and captions. A caption None, null or NaN is a missing one.
    """
    found: dict[Path, list[str]] = {}
    places: dict[Path, str] = {}
    missing: set[Path] = set()
    for line in lines:
        if line.path not in places:
            places[line.path] = line.where
            if not exists(line.path):
                missing.add(line.path)
                ledger.skip("images", MISSING_IMAGE, f"{line.path} ({line.where})")
        if line.path in missing:
            ledger.skip("captions", "caption of a missing image", line.where)
            continue
        captions = found.setdefault(line.path, [])
        caption = " ".join((line.caption or "").split())
        if line.caption is None or caption.lower() in EMPTY:
            ledger.skip("captions", f"caption {line.caption or 'null'}", line.where)
        elif not caption:
            ledger.skip("captions", "empty caption", line.where)
        else:
            captions.append(caption)
    for path, captions in found.items():
        if not captions:
            ledger.skip("images", "image without a caption", f"{path} ({places[path]})")
    return [
        Sample(path, places[path], captions=tuple(captions))
        for path, captions in found.items()
        if captions
    ]
