"""LabelMe's layout: a JSON file for each image. Loads no torch.

ID.json beside ID.jpg, in one folder or in a folder for each split
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dlkit.core.datasets.classes import read_classes
from dlkit.core.datasets.coco import declared_size
from dlkit.core.datasets.pictures import checked
from dlkit.core.datasets.samples import ALL, Annotation, Box, Classes, Sample
from dlkit.core.datasets.texts import read_json
from dlkit.core.errors import DlkitError
from dlkit.core.io.files import is_file
from dlkit.core.io.image_files import has_suffix, with_image_suffix
from dlkit.core.io.splits import find_splits
from dlkit.core.io.walk import walk
from dlkit.core.ledger import Ledger

PEEKED = 1 << 16  # bytes


class LabelMe:
    """The JSON files of a folder, or of a folder for each split."""

    layout = "LabelMe"

    def __init__(self, root: Path) -> None:
        self.root = root
        names = [folder.name for folder in root.glob("*/") if has_shapes(folder)]
        found = find_splits(names, root)
        self.folders = {s: root / name for s, name in found.items()} or {ALL: root}

    @property
    def classes(self) -> Classes:
        """The classes of the data set's list, if any."""
        return read_classes(self.root) or Classes()

    @property
    def splits(self) -> Sequence[str]:
        """The splits that have a folder."""
        return list(self.folders)

    def read(self, split: str, ledger: Ledger) -> list[Sample]:
        """The images with their shapes."""
        folder = str(self.folders[split])
        samples = []
        for path in walk(folder, lambda name: name.lower().endswith(".json")):
            try:
                samples.append(read_sample(Path(path)))
            except DlkitError as error:
                ledger.skip("images", "JSON file that is not LabelMe's", str(error))
        annotated = {sample.path for sample in samples}
        for name in walk(folder, has_suffix):
            if Path(name) not in annotated:
                ledger.skip("images", "image without a JSON file", name)
        return checked(samples, ledger)


def has_shapes(folder: Path) -> bool:
    """Whether the first JSON file of a folder is one of LabelMe."""
    if not folder.is_dir() or folder.name.startswith("."):
        return False
    file = min(folder.glob("[!.]*.json"), default=None)
    if file is None:
        return False
    try:
        with file.open("rb") as stream:
            return b'"shapes"' in stream.read(PEEKED)
    except OSError:
        return False


def read_sample(file: Path) -> Sample:
    """The image of a JSON file. Raises DlkitError for another file."""
    content = read_json(file)
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        raise DlkitError("no list `shapes`", file)
    name = content.get("imagePath")
    path = file.parent / str(name).replace("\\", "/") if isinstance(name, str) else file
    if not is_file(path) or path == file:
        path = with_image_suffix(file.with_suffix(""))
    flags = content.get("flags")
    labels = [name for name, is_set in flags.items() if is_set] if isinstance(flags, dict) else []
    return Sample(
        path,
        str(file),
        declared_size({name: content.get(f"image{name.title()}") for name in ("width", "height")}),
        tuple(group_shapes(content["shapes"], file)),
        tuple(labels),
    )


def group_shapes(shapes: Sequence[Any], file: Path) -> list[Annotation]:
    """The objects of the shapes; polygons of one label and group are one object."""
    found: dict[object, Annotation] = {}
    for place, shape in enumerate(shapes):
        annotation = read_shape(shape, f"{file}: shape {place + 1}")
        group = shape.get("group_id") if isinstance(shape, dict) else None
        key: object = place
        if group is not None and annotation.polygons:
            key = annotation.label, str(group)
            if (first := found.get(key)) is not None:
                polygons = first.polygons + annotation.polygons
                annotation = Annotation(first.label, first.where, polygons=polygons)
        found[key] = annotation
    return list(found.values())


def read_shape(shape: Any, where: str) -> Annotation:
    """The object of a shape."""
    label = shape.get("label") if isinstance(shape, dict) else None
    if not isinstance(label, str) or not label.strip():
        return Annotation("", where, flaw="shape without a label")
    label = label.strip()
    kind = str(shape.get("shape_type") or "polygon")
    try:
        points = [(float(x), float(y)) for x, y in shape["points"]]
    except (KeyError, TypeError, ValueError, OverflowError):
        points = []
    if not points or not all(map(math.isfinite, (v for point in points for v in point))):
        return Annotation(label, where, flaw=f"{kind} whose points are not pairs of numbers")
    if kind == "polygon" and len(points) > 2:
        return Annotation(label, where, polygons=(tuple(v for point in points for v in point),))
    if kind in {"rectangle", "mask"} and len(points) in {2, 4}:
        flaw = "mask of LabelMe, of which only the box is read" if kind == "mask" else ""
        flaw = flaw or "rectangle, which has no outline"
        return Annotation(label, where, around(points), flaw=flaw)
    if kind == "circle" and len(points) == 2:
        (x, y), radius = points[0], math.dist(*points)
        box = (x - radius, y - radius, x + radius, y + radius)
        return Annotation(label, where, box, flaw="circle, of which only the box is read")
    reason = "of too few points" if kind == "polygon" else "which is neither a polygon nor a box"
    return Annotation(label, where, flaw=f"{kind}, {reason}")


def around(points: Sequence[tuple[float, float]]) -> Box:
    """The box around points."""
    xs, ys = [x for x, _ in points], [y for _, y in points]
    return min(xs), min(ys), max(xs), max(ys)
