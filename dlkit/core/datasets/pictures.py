"""The images of a data set: their sizes, which are compared with those that the data set declares.

Loads no torch.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from dlkit.core.datasets import folders
from dlkit.core.datasets.samples import Annotation, Keypoint, Sample
from dlkit.core.errors import DlkitError
from dlkit.core.io.walk import Ignored
from dlkit.core.ledger import Ledger
from dlkit.core.progress import track

Size = tuple[int, int]
Move = Callable[[float, float], tuple[float, float]]
CHUNK = 64  # images that a thread measures at once

SCALED = "images of another size than declared, whose annotations are scaled"
TURNED = "images with annotations of the stored image, which are turned upright like it"


def find_images(folder: Path, ledger: Ledger) -> list[Path]:
    """The images below a folder in the order of their names.

    The ledger counts broken links and folders that are closed, and notes hidden files.
    """
    ignored = Ignored()
    found = [Path(path) for path in folders.find_images(folder, folder, ledger, ignored)]
    if ignored.hidden:
        ledger.note(
            f"folders with hidden files, which are ignored ({ignored.hidden:,})", f"{folder}"
        )
    return found


def by_stem(folder: Path, paths: Iterable[Path]) -> dict[str, list[Path]]:
    """Paths by their path from the folder without suffix, with forward slashes."""
    found: dict[str, list[Path]] = {}
    for path in paths:
        found.setdefault(path.relative_to(folder).with_suffix("").as_posix(), []).append(path)
    return found


def measure(paths: Sequence[Path], name: str) -> list[Size | str]:
    """Width and height of each upright image, or the reason why it cannot be used."""
    chunks = [paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK)]
    with ThreadPoolExecutor() as pool:
        measured = pool.map(lambda chunk: [measure_image(path) for path in chunk], chunks)
        sizes = (size for chunk in measured for size in chunk)
        return list(track(sizes, f"checking {name}", len(paths)))


def measure_image(path: Path) -> Size | str:
    """Width and height of an upright image, or the reason why it cannot be used."""
    from dlkit.core.vision import images  # loads torch

    try:
        return images.size(path)
    except DlkitError:
        return "unreadable image" if os.path.exists(path) else "missing image"


def checked(samples: Sequence[Sample], ledger: Ledger) -> list[Sample]:
    """The samples whose images can be read, with their measured sizes.

    `size` is the declared one on entry. Where the image has another one, the annotations are turned
    or scaled with it where the two sizes determine how, else the image is skipped.
    """
    kept = []
    sizes = measure([sample.path for sample in samples], ledger.name)
    for sample, size in zip(samples, sizes, strict=True):
        if isinstance(size, str):
            ledger.skip("images", size, str(sample.path))
        elif sample.size is None or sample.size == size:
            kept.append(sample if sample.size else replace(sample, size=size))
        elif (fitted := fit(sample, sample.size, size, ledger)) is not None:
            kept.append(fitted)
    return kept


def fit(sample: Sample, declared: Size, size: Size, ledger: Ledger) -> Sample | None:
    """The sample at the size of its image; None, and skipped, where the sizes do not fit."""
    place = f"{sample.path} ({size[0]} x {size[1]}, declared {declared[0]} x {declared[1]})"
    move = turn(sample.path, declared, size) or scale(declared, size)
    if move is None or any(annotation.rle for annotation in sample.annotations):
        ledger.skip("images", "image of another size than declared", place)
        return None
    ledger.note(SCALED if declared != size[::-1] else TURNED, place)
    moved = tuple(move_annotation(annotation, move) for annotation in sample.annotations)
    return replace(sample, size=size, annotations=moved)


def scale(declared: Size, size: Size) -> Move | None:
    """The scaling from the declared size to another of the same proportions, to a pixel."""
    if abs(declared[0] * size[1] - declared[1] * size[0]) > max(*declared, *size):
        return None
    x_factor, y_factor = size[0] / declared[0], size[1] / declared[1]
    return lambda x, y: (x * x_factor, y * y_factor)


def turn(path: Path, declared: Size, size: Size) -> Move | None:
    """The turn from the stored image, which was declared, to the upright one; None for another."""
    from PIL import Image

    from dlkit.core.vision import images

    if declared != size[::-1]:
        return None
    width, height = declared
    with Image.open(path) as image:
        transposition = images.find_transposition(image)
    moves: dict[Image.Transpose | None, Move] = {
        Image.Transpose.TRANSPOSE: lambda x, y: (y, x),
        Image.Transpose.TRANSVERSE: lambda x, y: (height - y, width - x),
        Image.Transpose.ROTATE_270: lambda x, y: (height - y, x),
        Image.Transpose.ROTATE_90: lambda x, y: (y, width - x),
    }
    return moves.get(transposition)


def move_annotation(annotation: Annotation, move: Move) -> Annotation:
    """The annotation with all points moved."""
    box = annotation.box
    if box is not None:
        (x1, y1), (x2, y2) = move(*box[:2]), move(*box[2:])
        box = min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)
    polygons = tuple(
        tuple(value for x, y in zip(p[::2], p[1::2], strict=False) for value in move(x, y))
        for p in annotation.polygons
    )
    points = tuple(Keypoint(*move(k.x, k.y), k.visibility) for k in annotation.keypoints)
    # An area is that of the declared image.
    return replace(annotation, box=box, polygons=polygons, keypoints=points, area=None)
