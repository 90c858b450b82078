"""Files of masks beside images. Loads no torch."""

from pathlib import Path

MASK_SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".gif")


def by_name(stem: Path) -> Path | None:
    """The mask of that name with any suffix."""
    for suffix in MASK_SUFFIXES:
        for path in (stem.with_name(stem.name + s) for s in (suffix, suffix.upper())):
            if path.is_file():
                return path
    return None
