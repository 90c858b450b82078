"""Paths in COCO's layout: the JSON file of a split, and its images."""

from collections.abc import Iterator
from pathlib import Path

from dlkit.core.errors import DlkitError
from dlkit.core.io.files import exists, is_file


def json_files(data: Path) -> Iterator[Path]:
    """Yield annotations/*.json, */_annotations.coco.json and *.json."""
    yield from sorted((data / "annotations").glob("*.json"))
    yield from sorted(data.glob("*/_annotations.coco.json"))
    yield from sorted(data.glob("*.json"))


def annotation_file(data: Path, split: str, kind: str = "instances") -> Path:
    """The JSON file of a split in the folder `data`; `data` itself if it is a file.

    Of several the one of this kind: instances, captions or person_keypoints in COCO's own folder.
    """
    if is_file(data):
        return data
    # "val" is in "valid", as some tools call it.
    candidates = [f for f in json_files(data) if split in f.stem or split in f.parent.name]
    candidates.sort(key=lambda f: (kind not in f.stem, str(f)))
    if not candidates:
        there = ", ".join(str(f.relative_to(data)) for f in json_files(data))
        raise DlkitError(f"no split {split!r} among {there}", data)
    return candidates[0]


def image_path(data: Path, file: Path, split: str, name: str) -> Path:
    """The path of the image `name` in the JSON `file`: beside it, or in a usual folder."""
    root = data.parent if is_file(data) else data
    folders = [root / split, root / "images" / split, root / "images", root, file.parent]
    folders += [root / f"{split}2017", root / "images" / f"{split}2017", root / f"{split}2014"]
    return next((f / name for f in folders if exists(f / name)), root / name)
