"""Public data sets from a local server: checksums, terms, layouts, names that lead out."""

import gzip
import hashlib
import io
import json
import struct
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dlkit.core.datasets.sources import find_source
from dlkit.data import get as module
from dlkit.data.get import DATA_SETS, Archive, DataSet
from tests.conftest import run
from tests.data.helpers import paint


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, str]]:
    """A folder, and its address on a local server; the cache is empty."""
    folder = tmp_path / "served"
    folder.mkdir()
    monkeypatch.setenv("DLKIT_CACHE", str(tmp_path / "cache"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def publish(monkeypatch: pytest.MonkeyPatch, name: str, folder: Path, md5: bool = True) -> None:
    """Make the served files of a data set those that are expected."""
    chosen = DATA_SETS[name]
    archives = tuple(
        Archive(a.address, hashlib.md5((folder / a.name).read_bytes()).hexdigest() if md5 else "")
        for a in chosen.archives
    )
    fitted = DataSet(chosen.summary, chosen.terms, archives, chosen.lay_out)
    monkeypatch.setitem(module.DATA_SETS, name, fitted)


def write_idx(path: Path, values: np.ndarray) -> None:
    header = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
    path.write_bytes(gzip.compress(header + values.tobytes()))


def serve_mnist(folder: Path) -> np.ndarray:
    images = np.random.default_rng(0).integers(0, 256, (6, 28, 28), np.uint8)
    for prefix, chosen in (("train", images), ("t10k", images[:2])):
        write_idx(folder / f"{prefix}-images-idx3-ubyte.gz", chosen)
        labels = np.arange(len(chosen), dtype=np.uint8) % 3
        write_idx(folder / f"{prefix}-labels-idx1-ubyte.gz", labels)
    return images


def test_mnist_becomes_folders_of_labels(
    served: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, address = served
    images = serve_mnist(folder)
    publish(monkeypatch, "mnist", folder)
    out = tmp_path / "mnist"
    done = run("data", "get", "mnist", "-o", out, "--mirror", address, "--accept-terms")
    assert (done.code, done.out) == (0, f"{out}\n")
    names = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.png"))
    assert len(names) == 8
    assert names[:2] == ["test/0/00000.png", "test/1/00001.png"]
    assert np.array_equal(np.asarray(Image.open(out / "train" / "1" / "00004.png")), images[4])
    origin = json.loads((out / "SOURCE.json").read_text())
    content = (folder / "train-images-idx3-ubyte.gz").read_bytes()
    assert origin["files"][0]["sha256"] == hashlib.sha256(content).hexdigest()
    # The terms are remembered.
    assert run("data", "get", "mnist", "-o", tmp_path / "2", "--mirror", address).code == 0


def test_a_file_that_is_not_the_published_one_is_refused(
    served: tuple[Path, str], tmp_path: Path
) -> None:
    folder, address = served
    serve_mnist(folder)
    out = tmp_path / "mnist"
    refused = run("data", "get", "mnist", "-o", out, "--mirror", address, "--accept-terms")
    assert (refused.code, refused.out) == (2, "")
    assert "not f68b3c2dcbeaaa9fbdd348bbdeb94873; nothing was kept" in refused.err
    assert not out.exists()
    assert not list(tmp_path.glob("*.partial"))


def test_terms_are_asked_for(served: tuple[Path, str], tmp_path: Path) -> None:
    refused = run("data", "get", "mnist", "-o", tmp_path / "mnist", "--mirror", served[1])
    assert refused.code == 2
    assert "mnist: published without a license" in refused.err
    assert "add --accept-terms" in refused.err


def test_cifar10_is_read_from_its_binary_version(
    served: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, address = served
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)

    def record(label: int, image: np.ndarray) -> bytes:
        return bytes([label]) + image.transpose(2, 0, 1).tobytes()

    parts = {
        "batches.meta.txt": b"airplane\nautomobile\n\n",
        "data_batch_1.bin": record(1, pixels[0]),
        "test_batch.bin": record(0, pixels[1]),
    }
    with tarfile.open(folder / "cifar-10-binary.tar.gz", "w:gz") as tar:
        for name, content in parts.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    publish(monkeypatch, "cifar10", folder)
    out = tmp_path / "out"
    assert run("data", "get", "cifar10", "-o", out, "--mirror", address, "--accept-terms").code == 0
    assert np.array_equal(np.asarray(Image.open(out / "train/automobile/00000.png")), pixels[0])
    assert np.array_equal(np.asarray(Image.open(out / "test/airplane/00000.png")), pixels[1])


def test_a_zip_is_unpacked_in_a_layout_that_dlkit_reads(
    served: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, address = served
    box = "<bndbox><xmin>2</xmin><ymin>2</ymin><xmax>30</xmax><ymax>30</ymax></bndbox>"
    xml = f"<annotation><object><name>WBC</name>{box}</object></annotation>"
    image = paint(tmp_path / "a.png", 1).read_bytes()
    with zipfile.ZipFile(folder / "master.zip", "w") as packed:
        packed.writestr("BCCD_Dataset-master/README.md", "not unpacked")
        packed.writestr("BCCD_Dataset-master/BCCD/Annotations/a.xml", xml)
        packed.writestr("BCCD_Dataset-master/BCCD/JPEGImages/a.jpg", image)
        packed.writestr("BCCD_Dataset-master/BCCD/ImageSets/Main/train.txt", "a\n")
    publish(monkeypatch, "bccd", folder, md5=False)
    out = tmp_path / "out"
    done = run("data", "get", "bccd", "-o", out, "--mirror", address, "--accept-terms")
    assert done.code == 0
    assert "master.zip: not verified: no published checksum; its sha256 is " in done.err
    assert not list(out.rglob("README.md"))
    assert find_source(out).classes.names == ("RBC", "WBC", "Platelets")


def test_a_name_that_leads_out_of_the_folder_is_refused(
    served: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, address = served
    with zipfile.ZipFile(folder / "master.zip", "w") as packed:
        packed.writestr("BCCD/../../../escaped.txt", "x")
    publish(monkeypatch, "bccd", folder, md5=False)
    out = tmp_path / "deep" / "out"
    refused = run("data", "get", "bccd", "-o", out, "--mirror", address, "--accept-terms")
    assert refused.code == 2
    assert "leads out of the folder" in refused.err
    assert not list(tmp_path.rglob("escaped.txt"))


def test_all_are_listed_and_an_unknown_name_is_one_line(tmp_path: Path) -> None:
    listed = run("data", "get")
    assert listed.code == 0
    assert [line.split("\t")[0] for line in listed.out.splitlines()] == [*DATA_SETS]
    unknown = run("data", "get", "imagenet", "-o", tmp_path / "x")
    assert unknown.code == 2
    assert "no data set 'imagenet'; choose from mnist, cifar10" in unknown.err


PACKS = [parent / "shared" / "data" for parent in Path(__file__).parents]


@pytest.mark.parametrize("name", ["multi30k", "wordsim"])
def test_texts_are_verified_by_their_content(
    served: tuple[Path, str], tmp_path: Path, name: str
) -> None:
    pack = next((d / f"{name}.zip" for d in PACKS if (d / f"{name}.zip").is_file()), None)
    if pack is None:
        pytest.skip("the data are not here")
    folder, address = served
    with zipfile.ZipFile(pack) as packed:
        contents = {entry: packed.read(entry) for entry in packed.namelist()}
    for entry, content in contents.items():
        file = folder / entry.rpartition("/")[2]
        if name == "multi30k":
            file.with_suffix(".gz").write_bytes(gzip.compress(content, 1))
        else:
            file.write_bytes(content)
    out = tmp_path / name
    done = run("data", "get", name, "--mirror", address, "--accept-terms", "-o", out)
    assert (done.code, done.out) == (0, f"{out}\n"), done.err
    assert "not verified" not in done.err
    assert {entry: (out / entry).read_bytes() for entry in contents} == contents


def test_a_text_with_another_content_is_refused(served: tuple[Path, str], tmp_path: Path) -> None:
    folder, address = served
    command = ["data", "get", "--mirror", address, "--accept-terms", "-o", str(tmp_path / "out")]
    (folder / "questions-words.txt").write_text(": capital\n")
    refused = run(*command, "analogies")
    assert refused.code == 2
    assert "not 8c29b3332afc46f3fb8be04cb5297bf96f39aa7131272dff57869b4485b22a36" in refused.err
    (folder / "train.en.gz").write_bytes(b"no archive")
    refused = run(*command, "multi30k")
    assert refused.code == 2
    assert "a damaged archive" in refused.err
    assert not (tmp_path / "out").exists()
