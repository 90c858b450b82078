"""COCO's captions: annotations/captions_SPLIT*.json, or one JSON file. Loads no torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dlkit.core.datasets.captions import CaptionLine, captioned
from dlkit.core.datasets.coco import Id, ImagePaths, find, id_of
from dlkit.core.datasets.samples import ALL, Classes, Sample
from dlkit.core.datasets.texts import read_json
from dlkit.core.errors import DlkitError
from dlkit.core.io.splits import split_of
from dlkit.core.ledger import Ledger


class CocoCaptions:
    """The JSON files of captions of a folder, one for each split, or one file."""

    layout = "COCO's captions"

    def __init__(self, data: Path) -> None:
        self.root = data.parent if data.is_file() else data
        self.files = {ALL: data} if data.is_file() else find(data, "captions")
        self.classes = Classes()

    @property
    def splits(self) -> Sequence[str]:
        """The splits that have a file."""
        return list(self.files)

    def read(self, split: str, ledger: Ledger) -> list[Sample]:
        """The images of a split with their captions, in the order of the images."""
        file = self.files[split]
        images, annotations = lists_of(file)
        paths = ImagePaths(self.root, file, split if split != ALL else split_of(file.stem) or ALL)
        lines: dict[Id, list[CaptionLine]] = {}
        of_id: dict[Id, tuple[Path, str]] = {}
        for place, image in enumerate(images):
            number, name = id_of(image.get("id")), image.get("file_name")
            where = f"{file}: image {image.get('id', f'number {place}')}"
            if number is None or not isinstance(name, str) or not name:
                ledger.skip("images", "image without an id or a file_name", where)
                continue
            path = paths.find(name)
            if number in of_id and of_id[number][0] != path:
                other = of_id[number][0].name
                raise DlkitError(f"image id {number} is given to {other} and {name}", file)
            of_id[number] = path, where
            lines.setdefault(number, [])
        for place, annotation in enumerate(annotations):
            where = f"{file}: annotation {annotation.get('id', f'number {place}')}"
            of_image, caption = id_of(annotation.get("image_id")), annotation.get("caption")
            if of_image is None or of_image not in of_id:
                ledger.skip("captions", "caption of no image", where)
            elif caption is not None and not isinstance(caption, str):
                ledger.skip("captions", "caption that is no text", where)
            else:
                lines[of_image].append(CaptionLine(of_id[of_image][0], caption, where))
        for number, (path, where) in of_id.items():
            if not lines[number]:
                ledger.skip("images", "image without a caption", f"{path} ({where})")
        return captioned((line for found in lines.values() for line in found), ledger)


def lists_of(file: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The images and annotations of a JSON file. Raises DlkitError for a file without them."""
    content = read_json(file)
    if not isinstance(content, dict):
        raise DlkitError("not COCO's captions: no object with images and annotations", file)
    lists = []
    for name in ("images", "annotations"):
        found = content.get(name)
        if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
            raise DlkitError(f"not COCO's captions: no usable {name!r}", file)
        lists.append(found)
    return lists[0], lists[1]
