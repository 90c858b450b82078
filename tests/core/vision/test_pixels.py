"""Pixels of unusual files, compared with values computed by hand, and the notes about them."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from dlkit.core.errors import DlkitError
from dlkit.core.failures import drop_notes, note, report_notes
from dlkit.core.vision import images
from dlkit.core.vision.pixels import (
    MORE_BANDS,
    NEGATIVE,
    NO_NUMBERS,
    SEVERAL_FRAMES,
    SEVERAL_PAGES,
    srgb_transform,
)
from tests.conftest import run

RAMP = np.tile(np.linspace(0, 1, 32, dtype=np.float32), (16, 1))
BYTES = (RAMP * 255).astype(np.uint8)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def tiff(path: Path, array: np.ndarray, **tags: Any) -> Path:
    """A TIFF of one strip, written by hand, so that any number of bands and bits is possible."""
    height, width = array.shape[:2]
    bands = 1 if array.ndim == 2 else array.shape[2]
    bits = 8 * array.dtype.itemsize
    form = {"u": 1, "i": 2, "f": 3}[array.dtype.kind]
    entries = {
        256: (width,), 257: (height,), 258: (bits,) * bands, 259: (1,),
        262: (1 if bands == 1 else 2,), 273: (0,), 277: (bands,), 278: (height,),
        279: (array.nbytes,), 339: (form,) * bands,
    }  # fmt: skip
    entries |= {338: tags["extra"]} if "extra" in tags else {}
    directory = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, values in entries.items():
        directory.tagtype[tag] = 4 if tag in (256, 257, 273, 278, 279) else 3
        directory[tag] = values
    # Pillow adds the offset of the strip.
    header = struct.pack("<2sHI", b"II", 42, 8)
    path.write_bytes(header + directory.tobytes(8) + array.tobytes())
    return path


def row(path: Path) -> tuple[list[int], tuple[str, ...]]:
    """The red of the middle row, and the notes."""
    picture = images.read(str(path))
    return picture.pixels[0, 8].tolist(), picture.notes


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf, 1.0001, 1.05, 40.0, -9999.0])
def test_one_odd_float_leaves_the_others(odd: float, tmp_path: Path) -> None:
    values = RAMP.copy()
    values[3, 5] = odd
    found, notes = row(tiff(tmp_path / "a.tif", values))
    assert found == BYTES[8].tolist()
    pixel = images.read(str(tmp_path / "a.tif")).pixels[0, 3, 5]
    assert pixel == (255 if odd > 1 else 0)
    if not np.isfinite(odd):
        assert notes == (NO_NUMBERS,)
    elif odd < 0:
        assert notes == (NEGATIVE,)
    else:
        assert bool(notes) == (odd > 1.1)


@pytest.mark.parametrize("scale", [4095, 65535])
def test_floats_of_another_full_scale_are_noted(scale: int, tmp_path: Path) -> None:
    found, notes = row(tiff(tmp_path / "a.tif", RAMP * scale))
    assert np.abs(np.array(found) - BYTES[8]).max() <= 1
    assert len(notes) == 1
    assert str(scale) in notes[0]


@pytest.mark.parametrize("values", [RAMP * 1e9, -RAMP, np.full_like(RAMP, np.nan)])
def test_floats_of_an_unknown_range_are_refused(values: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(DlkitError, match=r"floats from|finite"):
        images.read(str(tiff(tmp_path / "a.tif", values)))


@pytest.mark.parametrize(
    ("kind", "highest", "noted"),
    [
        (np.uint16, 65535, False), (np.uint16, 40000, False), (np.uint16, 4095, True),
        (np.uint16, 16383, True), (np.uint16, 255, True), (np.uint32, 2**32 - 1, False),
        (np.int16, 32767, False), (np.int32, 255, True),
    ],
)  # fmt: skip
def test_integers_of_many_bits(kind: type, highest: int, noted: bool, tmp_path: Path) -> None:
    values: np.ndarray = (RAMP.astype(np.float64) * highest).astype(kind)
    if kind is np.int16:
        values[0, 0] = -5
    found, notes = row(tiff(tmp_path / "a.tif", values))
    white = 255 * highest / 65535 if highest == 40000 else 255
    assert np.abs(np.array(found) - RAMP[8] * white).max() <= 1.1
    assert any("no value above" in text for text in notes) == noted
    assert (NEGATIVE in notes) == (kind is np.int16)


def test_a_fourth_band_is_alpha_only_where_the_file_calls_it_so(tmp_path: Path) -> None:
    bands = np.zeros((16, 16, 4), np.uint8) + np.array([200, 120, 40, 51], np.uint8)
    for name, tags in {"none": {}, "unspecified": {"extra": (0,)}}.items():
        picture = images.read(str(tiff(tmp_path / f"{name}.tif", bands, **tags)))
        assert picture.pixels[:, 3, 3].tolist() == [200, 120, 40]
        assert picture.notes == (MORE_BANDS,)
    picture = images.read(str(tiff(tmp_path / "alpha.tif", bands, extra=(2,))))
    assert picture.pixels[:, 3, 3].tolist() == [244, 228, 212]  # 51 / 255 of the color, on white
    assert picture.notes == ()


def test_more_pages_are_noted_unless_they_are_thumbnails(tmp_path: Path) -> None:
    page = Image.new("RGB", (20, 16), (10, 20, 30))
    second = Image.new("RGB", (20, 16), (200, 20, 30))
    page.save(tmp_path / "scan.tif", save_all=True, append_images=[second])
    picture = images.read(str(tmp_path / "scan.tif"))
    assert picture.pixels[0, 0, 0] == 10
    assert picture.notes == (SEVERAL_PAGES,)
    small = second.resize((10, 8))
    small.encoderinfo = {"tiffinfo": {254: 1}}
    page.save(tmp_path / "pyramid.tif", save_all=True, append_images=[small])
    assert images.read(str(tmp_path / "pyramid.tif")).notes == ()
    page.save(tmp_path / "a.gif", save_all=True, append_images=[second], duration=9)
    assert images.read(str(tmp_path / "a.gif")).notes == (SEVERAL_FRAMES,)


def test_exif_behind_the_pixels_turns_the_image_and_its_size(tmp_path: Path) -> None:
    pixels = np.zeros((12, 20, 3), np.uint8)
    pixels[0, 0] = 255
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    exif = Image.Exif()
    exif[0x0112] = 6
    late = chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\x00\x00"))
    content = buffer.getvalue()
    (tmp_path / "a.png").write_bytes(content[:-12] + late + content[-12:])
    picture = images.read(str(tmp_path / "a.png"))
    assert images.size(tmp_path / "a.png") == (picture.width, picture.height) == (12, 20)
    # Orientation 6: the first row is the right side.
    assert picture.pixels[0].nonzero().tolist() == [[0, 11]]


def test_sixteen_bits_with_a_clear_value_are_white_there(tmp_path: Path) -> None:
    values = (RAMP * 65535).astype(">u2")
    rows = b"".join(b"\x00" + line.tobytes() for line in values)
    (tmp_path / "a.png").write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 32, 16, 16, 0, 0, 0, 0))
        + chunk(b"tRNS", struct.pack(">H", 0))
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
    found, _ = row(tmp_path / "a.png")
    assert found == [255, *BYTES[8, 1:].tolist()]


def test_profiles_of_every_mode_are_converted_or_noted(tmp_path: Path) -> None:
    from PIL import ImageCms

    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert srgb_transform(srgb, "RGB") is None
    swapped = srgb.replace(b"rXYZ", b"----", 1).replace(b"bXYZ", b"rXYZ", 1)
    swapped = swapped.replace(b"----", b"bXYZ", 1)
    color = Image.new("RGB", (9, 9), (200, 40, 90))
    color.quantize(4).save(tmp_path / "palette.png", icc_profile=swapped)
    assert images.read(str(tmp_path / "palette.png")).pixels[:, 4, 4].tolist() == [90, 40, 200]
    color.convert("L").save(tmp_path / "gray.png", icc_profile=srgb)  # of three colors
    picture = images.read(str(tmp_path / "gray.png"))
    assert len(picture.notes) == 1
    assert "color profile" in picture.notes[0]


def test_notes_are_counted_by_image_and_printed_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drop_notes()
    for _ in range(2):
        for number in range(5):
            note("of a kind", f"{number}.tif")
    report_notes()
    report_notes()
    assert capsys.readouterr().err == "note: 5 x of a kind: 0.tif, 1.tif, 2.tif and 2 more\n"


def test_a_command_ends_with_its_notes(tmp_path: Path) -> None:
    for name in "ab":
        tiff(tmp_path / f"{name}.tif", (RAMP * 4095).astype(np.uint16))
    found = run("classify", tmp_path)
    assert found.code == 0
    (line,) = found.err.splitlines()
    assert line.startswith("note: 2 x over 8 bits")
    assert "4095" in line


@pytest.mark.parametrize("suffix", ["jfif", "jpe", "mpo"])
def test_a_jpeg_by_any_name(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.new("RGB", (9, 9), (200, 40, 90)).save(path, "JPEG")
    assert images.read(str(path)).width == 9


def test_sixteen_bit_files_of_another_library(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "a.tif", (RAMP * 4095).astype(np.uint16))
    found, notes = row(tmp_path / "a.tif")
    assert np.abs(np.array(found) - BYTES[8]).max() <= 1
    assert "4095" in notes[0]
