"""Tables of images with keypoints: CSV, TSV and JSON lines. Loads no torch.

train.csv, val.csv, test.csv    file, x1, y1, ..., xK, yK: a path from the table's folder, or from
                                images/ in it, and pixels of the upright image; empty if not
                                annotated. Each row is an object.
"""

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from dlkit.core.datasets.pictures import checked
from dlkit.core.datasets.samples import ALL, Annotation, Classes, Keypoint, Pose, Sample
from dlkit.core.datasets.tables import PATHS, TableRow, image_path, table_files
from dlkit.core.errors import DlkitError
from dlkit.core.io.rows import Column, Row, first_line, read_rows
from dlkit.core.ledger import Ledger

LABEL = "object"  # of every row
COORDINATE = re.compile(r"[xy][1-9][0-9]*")
NOT_ANNOTATED = Keypoint(0.0, 0.0, 0)


class KeypointTables:
    """The tables of a data set: one, or one for each split."""

    layout = "tables of keypoints"

    def __init__(self, data: Path) -> None:
        self.root = data.parent if data.is_file() else data
        self.files = {ALL: data} if data.is_file() else table_files(data)

    @property
    def classes(self) -> Classes:
        """One class, with the keypoints of `train` if there is one."""
        file = self.files.get("train") or next(iter(self.files.values()))
        first, _ = first_line(file)
        return Classes(poses={LABEL: Pose(keypoint_count(first, file))})

    @property
    def splits(self) -> Sequence[str]:
        """The splits that have a file, or only `all`."""
        return list(self.files)

    def read(self, split: str, ledger: Ledger) -> list[Sample]:
        """The images of a split, each with the objects of its rows."""
        file = self.files[split]
        first, lines = first_line(file)
        count = keypoint_count(first, file)
        names = [f"{axis}{k}" for k in range(1, count + 1) for axis in "xy"]
        columns = {name: Column((name,), number=True) for name in names}
        columns["file"] = Column(PATHS)
        objects: dict[Path, list[Annotation]] = {}
        for row in read_rows(file, columns, partial(ledger.skip, "images"), (first, lines)):
            path = image_path(TableRow(row[1]["file"], "", row[0]))
            objects.setdefault(path, []).append(annotation(row, count, ledger))
        samples = [Sample(path, own[0].where, None, tuple(own)) for path, own in objects.items()]
        return checked(samples, ledger)


def keypoint_count(first: str, file: Path) -> int:
    """The number of keypoints by the names of the columns in a table's first line."""
    if first.lstrip().startswith("{"):
        names = re.findall(r'"(\w+)"\s*:', first)
    else:
        names = re.findall(r"\w+", first)
    found = {name.lower() for name in names if COORDINATE.fullmatch(name.lower())}
    count = max(1, -(-len(found) // 2))
    for number in range(1, count + 1):
        for name in (f"x{number}", f"y{number}"):
            if name not in found:
                raise DlkitError(f"no column named {name}; keypoints are x1, y1, x2, y2 ...", file)
    return count


def annotation(row: Row, count: int, ledger: Ledger) -> Annotation:
    """The object of a row."""
    where, cells = row
    points = []
    for number in range(1, count + 1):
        x, y = cells[f"x{number}"].strip(), cells[f"y{number}"].strip()
        point = NOT_ANNOTATED
        if x or y:
            try:
                point = Keypoint(float(x), float(y))
            except ValueError:
                place = f"{where}: keypoint {number}"
                ledger.skip("keypoints", "keypoint that is not two numbers", place)
        points.append(point)
    return Annotation(LABEL, where, keypoints=tuple(points))
