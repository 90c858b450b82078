"""Kinds of files by their first bytes, and what text and image tasks make of them."""

import gzip
import io
import subprocess
import sys
import tarfile
import wave
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zstandard
from PIL import Image

from dlkit.core.io.kinds import HEAD, is_text, kind_of
from tests.conftest import one_line, run, save_stub

ROOT = Path(__file__).parents[3]
PICTURES = {"JPEG": "jpg", "PNG": "png", "GIF": "gif", "TIFF": "tif", "WebP": "webp", "BMP": "bmp"}


def zipped() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("a.txt", "text")
    return content.getvalue()


def tarred() -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.txt"))
    return content.getvalue()


def sound() -> bytes:
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(16))
    return content.getvalue()


def array() -> bytes:
    content = io.BytesIO()
    np.save(content, np.zeros(3))
    return content.getvalue()


# What other libraries write.
FILES: dict[str, Callable[[], bytes]] = {
    "a zip archive": zipped,
    "a tar archive": tarred,
    "a WAV file": sound,
    "a NumPy array": array,
    "a gzip file": lambda: gzip.compress(b"text"),
    "a zstd file": lambda: zstandard.compress(b"text"),
    "a program": lambda: Path(sys.executable).read_bytes(),
    "UTF-16 text": lambda: "text".encode("utf-16"),
    "a binary file": lambda: np.random.default_rng(0).bytes(2000),
    "a PDF document": lambda: b"%PDF-1.7\n%\xe2\xe3\xcf\xd3",
    "an MP3 file": lambda: b"ID3\x04\x00\x00\x00\x00\x00\x23",
    "an MP4 video": lambda: b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00",
}


@pytest.mark.parametrize("format", PICTURES)
def test_pictures(format: str) -> None:
    content = io.BytesIO()
    Image.new("RGB", (9, 9), "red").save(content, format)
    kind = kind_of(content.getvalue()[:HEAD]) or ""
    assert kind.split()[1:] == [format, "image"]
    assert not is_text(content.getvalue()[:HEAD])


@pytest.mark.parametrize("kind", FILES)
def test_other_files(kind: str) -> None:
    assert kind_of(FILES[kind]()[:HEAD]) == kind


def test_models(tmp_path: Path) -> None:
    path = save_stub(tmp_path / "model.safetensors")
    assert kind_of(path.read_bytes()[:HEAD]) == "a model file (safetensors)"


@pytest.mark.parametrize(
    "text",
    [
        "", "plain", "The big WAVE and a Mustard", "ID3 is an algorithm\n", "BZh", "PAR1 and BM",
        "\ufeffwith a mark", "été " * 200, "日本語" * 200, "BM" + "x" * 300, "OggS", "a\tb\r\nc",
        "x" * 254 + "mustard", "%PDF",
    ],
)  # fmt: skip
def test_text_is_text(text: str) -> None:
    head = text.encode()[:HEAD]
    assert kind_of(head) is None
    assert is_text(head) == bool(text)


def test_a_few_wrong_bytes_leave_a_text_a_text() -> None:
    assert kind_of(b"caf\xe9 au lait\n") is None


TEXT_COMMANDS = [
    "translate", "tokenize", "tokenize decode", "tokenize train", "lm-generate score",
    "lm-generate --file", "lm-generate evaluate", "embed train", "embed phrases",
    "classify -m reviews", "translate evaluate --source",
]  # fmt: skip


@pytest.mark.parametrize("command", TEXT_COMMANDS)
def test_a_picture_given_to_a_text_task_is_refused_by_name(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    photo = tmp_path / "photo.txt"  # its name does not tell
    photo.write_bytes((ROOT / "data" / "cat.jpg").read_bytes())
    done = run(*command.split(), photo)
    assert done.code in (1, 2)
    assert f"{photo}: a JPEG image; {command.split()[0]} reads text" in done.err
    assert done.out == ""


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_it_is_recognized_in_a_compressed_file(suffix: str, tmp_path: Path) -> None:
    compress = gzip.compress if suffix == ".gz" else zstandard.compress
    photo, text = tmp_path / f"photo{suffix}", tmp_path / f"text{suffix}"
    photo.write_bytes(compress((ROOT / "data" / "cat.jpg").read_bytes()))
    text.write_bytes(compress(b"a text\n"))
    for command in ("tokenize", "lm-generate score"):
        one_line(run(*command.split(), photo), "a JPEG image")
        assert run(*command.split(), text).code == 0
    plain = tmp_path / "noname"
    plain.write_bytes(gzip.compress(b"a text\n"))
    assert run("tokenize", plain).out == run("tokenize", text).out


def test_utf_16_is_named_with_the_way_to_convert_it(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("a text\n", encoding="utf-16")
    one_line(run("tokenize", path), "text in UTF-16; convert it with iconv -f UTF-16 -t UTF-8")


@pytest.mark.parametrize("command", ["tokenize", "lm-generate score", "embed vector"])
def test_it_is_recognized_on_stdin(command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dlkit", *command.split()],
        input=(ROOT / "data" / "cat.jpg").read_bytes(),
        capture_output=True,
        check=False,
    )
    assert done.returncode in (1, 2)
    assert done.stdout == b""
    assert b"a JPEG image; " + command.split()[0].encode() + b" reads text" in done.stderr


def test_one_text_among_pictures_is_translated(tmp_path: Path) -> None:
    photo, text = tmp_path / "a.txt", tmp_path / "b.txt"
    photo.write_bytes((ROOT / "data" / "cat.jpg").read_bytes())
    text.write_text("Two dogs run.\n")
    done = run("translate", photo, text, "--device", "cpu")
    assert done.code == 1
    assert f"{photo}: a JPEG image; translate reads text" in done.err
    assert len(done.out.splitlines()) == 1


def test_an_image_task_names_what_it_was_given(tmp_path: Path) -> None:
    text, model = tmp_path / "photo.jpg", save_stub(tmp_path / "model.png")
    text.write_text("a text\n")
    done = run("detect", text, model, "--device", "cpu")
    assert done.code == 1
    assert (
        "not an image that dlkit can read (JPEG, PNG, WebP, BMP, TIFF, GIF, AVIF), but a text file"
        in (done.err)
    )
    assert "but a model file (safetensors)" in done.err
