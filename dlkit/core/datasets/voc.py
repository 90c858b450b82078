"""Pascal VOC's layout, and folders of images with its XML files beside them. Loads no torch.

Annotations/ID.xml, JPEGImages/ID.jpg, ImageSets/Main/SPLIT.txt; classes.txt if any
SegmentationClass/ID.png, SegmentationObject/ID.png, ImageSets/Segmentation/SPLIT.txt
SPLIT/ID.jpg, SPLIT/ID.xml
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from xml.parsers import expat

from dlkit.core.datasets.classes import read_classes
from dlkit.core.datasets.masks import by_name
from dlkit.core.datasets.pictures import by_stem, checked, find_images
from dlkit.core.datasets.samples import ALL, Annotation, Box, Classes, Sample
from dlkit.core.datasets.texts import read_text, refuse_entities
from dlkit.core.errors import DlkitError, os_reason
from dlkit.core.io.splits import find_splits, split_of
from dlkit.core.io.walk import walk
from dlkit.core.ledger import Ledger
from dlkit.core.progress import log

VOC_CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair",
    "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa",
    "train", "tvmonitor",
)  # fmt: skip
IMAGE_FOLDERS = ("JPEGImages", "images")
FLAGS = {"1", "-1", "0"}  # behind an id in the list of a class


class Voc:
    """Lists of ids in ImageSets/, and for each id an image, an XML file and masks.

    Without lists all images are one split. `masks` reads the lists and files of segmentation.
    """

    layout = "Pascal VOC"

    def __init__(self, root: Path, masks: bool) -> None:
        self.root, self.masks = root, masks
        self.lists = self.find_lists()

    @property
    def classes(self) -> Classes:
        """The classes of the data set's list; of masks without one, Pascal VOC's own."""
        listed = read_classes(self.root)
        if listed is None and self.masks:
            log(f"{self.root}: no classes.txt or labelmap.txt; the classes are Pascal VOC's own")
            return Classes(VOC_CLASSES)
        return choice(listed)

    def find_lists(self) -> dict[str, Path]:
        """The list of ids of each split."""
        names = ("Segmentation", "Main") if self.masks else ("Main", "Segmentation")
        for folder in (self.root / "ImageSets" / name for name in names):
            stems = sorted(path.stem for path in folder.glob("*.txt"))
            if stems:
                found = find_splits(stems, folder)
                found |= {stem: stem for stem in stems if split_of(stem) is None}
                return {split: folder / f"{stem}.txt" for split, stem in found.items()}
        return {}

    @property
    def splits(self) -> Sequence[str]:
        """The splits that have a list."""
        return list(self.lists) or [ALL]

    def read(self, split: str, ledger: Ledger) -> list[Sample]:
        """The images of a list with their objects or masks."""
        folder = self.image_folder()
        images = by_stem(folder, find_images(folder, ledger))
        samples = []
        for name, where in self.ids(split, images, ledger):
            found = images.get(name, [folder / f"{name}.jpg"])
            if len(found) > 1:
                both = ", ".join(map(str, found))
                ledger.skip("images", "several images of one id", f"{where} ({both})")
            elif (sample := self.sample(name, found[0], where, ledger)) is not None:
                samples.append(sample)
        return checked(samples, ledger)

    def image_folder(self) -> Path:
        """The folder of the images."""
        folders = [self.root / name for name in IMAGE_FOLDERS]
        return next((folder for folder in folders if folder.is_dir()), folders[0])

    def ids(
        self, split: str, images: dict[str, list[Path]], ledger: Ledger
    ) -> Iterator[tuple[str, str]]:
        """Each id of a split with its place, as often as it is listed."""
        if split not in self.lists:
            annotations = self.root / ("SegmentationClass" if self.masks else "Annotations")
            suffix = ".png" if self.masks else ".xml"
            for path in walk(str(annotations), lambda name: name.lower().endswith(suffix)):
                yield Path(path).relative_to(annotations).with_suffix("").as_posix(), path
            return
        file = self.lists[split]
        seen = set()
        for number, line in enumerate(read_text(file).split("\n"), 1):
            if not line.strip():
                continue
            name = self.id_of(line.strip(), images)
            if name in seen:
                ledger.note("images listed again, which count again", f"{file}:{number}")
            seen.add(name)
            yield name, f"{file}:{number}"

    def id_of(self, line: str, images: dict[str, list[Path]]) -> str:
        """The id in a line: all of it, what precedes a flag, or the name of a file."""
        if line in images:
            return line
        words = line.split()
        if len(words) > 1 and words[-1] in FLAGS:
            line = line[: -len(words[-1])].rstrip()
        without = Path(line).with_suffix("")
        for name in (line, without.as_posix(), without.name):
            if name in images:
                return name
        return line

    def sample(self, name: str, image: Path, where: str, ledger: Ledger) -> Sample | None:
        """The sample of an id; None, and skipped, if its files cannot be used."""
        if not self.masks:
            return xml_sample(self.root / "Annotations" / f"{name}.xml", image, ledger)
        mask = by_name(self.root / "SegmentationClass" / name)
        if mask is None:
            mask = self.root / "SegmentationClass" / f"{name}.png"
        objects = by_name(self.root / "SegmentationObject" / name)
        return Sample(image, where, mask=mask, object_mask=objects)


class VocBeside:
    """Images with XML files beside them, in a folder for each split or in one folder."""

    layout = "Pascal VOC (XML files beside the images)"

    def __init__(self, root: Path) -> None:
        self.root = root
        names = [folder.name for folder in root.iterdir() if has_xml(folder)]
        self.folders = {s: root / name for s, name in find_splits(names, root).items()}
        if not self.folders:
            self.folders = {ALL: root}

    @property
    def classes(self) -> Classes:
        """The classes of the data set's list, if any."""
        return choice(read_classes(self.root))

    @property
    def splits(self) -> Sequence[str]:
        """The splits that have a folder."""
        return list(self.folders)

    def read(self, split: str, ledger: Ledger) -> list[Sample]:
        """The images of a folder with their objects."""
        folder = self.folders[split]
        samples = []
        images = find_images(folder, ledger)
        for image in images:
            sample = xml_sample(image.with_suffix(".xml"), image, ledger)
            if sample is not None:
                samples.append(sample)
        stems = by_stem(folder, images)
        for path in walk(str(folder), lambda name: name.lower().endswith(".xml")):
            if Path(path).relative_to(folder).with_suffix("").as_posix() not in stems:
                ledger.skip("images", "XML file without an image", path)
        return checked(samples, ledger)


def choice(listed: Classes | None) -> Classes:
    """The listed classes, which choose among those of the XML files."""
    return Classes() if listed is None else replace(listed, chosen=True)


def has_xml(folder: Path) -> bool:
    """Whether a folder has XML files of Pascal VOC in it."""
    if not folder.is_dir() or folder.name.startswith("."):
        return False
    first = next(iter(sorted(folder.glob("*.xml"))), None)
    try:
        return first is not None and b"<annotation" in first.read_bytes()[:1000]
    except OSError:
        return False


def xml_sample(xml: Path, image: Path, ledger: Ledger) -> Sample | None:
    """The image with the objects of its XML file; None, and skipped, without such a file."""
    try:
        content = xml.read_bytes()
    except (OSError, ValueError) as error:
        missing = isinstance(error, FileNotFoundError)
        reason = "image without an annotation" if missing else "annotation that cannot be read"
        ledger.skip("images", reason, str(xml) if missing else f"{xml} ({os_reason(error)})")
        return None
    try:
        size, annotations = parse_xml(content, xml)
    except DlkitError as error:
        ledger.skip("images", "XML file that cannot be read", str(error))
        return None
    return Sample(image, str(xml), size, tuple(annotations))


def parse_xml(content: bytes, xml: Path) -> tuple[tuple[int, int] | None, list[Annotation]]:
    """The declared size, if any, and the objects of an XML file.

    Boxes count pixels from 1 and include both ends.
    """
    refuse_entities(content, xml)
    found: list[Annotation] = []
    path: list[str] = []
    values: dict[str, str] = {}
    size: dict[str, str] = {}
    line = 0
    parser = expat.ParserCreate()
    parser.buffer_text = True

    def start(name: str, _: dict[str, str]) -> None:
        nonlocal line
        path.append(name)
        if path[1:] == ["object"]:
            values.clear()
            line = parser.CurrentLineNumber
        elif path[1:-1] == ["object"]:
            values.setdefault(name, "")

    def text(data: str) -> None:
        # Parts (head, hand) and attributes have their own names and boxes, one level deeper.
        if path[1:-1] in (["object"], ["object", "bndbox"]):
            values[path[-1]] = values.get(path[-1], "") + data
        elif path[1:-1] == ["size"]:
            size[path[-1]] = size.get(path[-1], "") + data

    def end(name: str) -> None:
        path.pop()
        if name == "object" and len(path) == 1:
            found.append(voc_object(values, f"{xml}:{line}"))

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = text
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise DlkitError(f"not well-formed XML ({error})", f"{xml}:{error.lineno}") from error
    except (LookupError, ValueError) as error:
        raise DlkitError(f"cannot be read ({error})", xml) from error
    return declared_size(size), found


def voc_object(values: dict[str, str], where: str) -> Annotation:
    """The object of the texts of its elements."""
    label = values.get("name", "").strip()
    box, flaw = voc_box(values)
    difficult, truncated = (
        values.get(flag, "").strip().lower() in {"1", "true"} for flag in ("difficult", "truncated")
    )
    if not label:
        flaw = "object without a name"
    return Annotation(label, where, box, difficult=difficult, truncated=truncated, flaw=flaw)


def voc_box(values: dict[str, str]) -> tuple[Box | None, str]:
    """The box, or None and the reason."""
    if "bndbox" not in values:
        if "robndbox" in values:
            return None, "rotated box (robndbox), which is not read"
        return None, "object without a bndbox"
    try:
        x1, y1, x2, y2 = (float(values[k]) for k in ("xmin", "ymin", "xmax", "ymax"))
    except (KeyError, ValueError):
        return None, "bndbox that is not four numbers"
    return (x1 - 1, y1 - 1, x2, y2), ""


def declared_size(size: dict[str, str]) -> tuple[int, int] | None:
    """The width and height of an element `size`; None where it has none, or zeros."""
    try:
        width, height = (int(float(size[name])) for name in ("width", "height"))
    except (KeyError, ValueError, OverflowError):
        return None
    return (width, height) if width > 0 and height > 0 else None
