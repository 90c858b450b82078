"""Reading images: every format and mode as Pillow shows it, and each bad file in one line."""

import contextlib
import io
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, ImageOps

from dlkit.core.errors import DlkitError
from dlkit.core.vision import images

# ---- making images -------------------------------------------------------------------------------


def gradient(width: int = 48, height: int = 32) -> Image.Image:
    """Red grows to the right, green downwards, with a blue corner: no two turns look alike."""
    y, x = np.mgrid[:height, :width]
    blue = np.where((x < width / 3) & (y < height / 3), 255, 0)
    pixels = np.stack([x * 255 / (width - 1), y * 255 / (height - 1), blue], axis=-1)
    return Image.fromarray(pixels.astype(np.uint8))


def png(width: int, height: int, depth: int, color: int, rows: bytes) -> bytes:
    """A PNG of any bit depth; `rows` are its lines, each after a filter byte of 0."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def png16(values: np.ndarray) -> bytes:
    """A 16-bit PNG of values (H, W) or (H, W, 3)."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return png(values.shape[1], values.shape[0], 16, 2 if values.ndim == 3 else 0, rows)


def array(picture: images.Picture) -> np.ndarray:
    """Its pixels as Pillow has them, (H, W, 3)."""
    assert picture.pixels.dtype == torch.uint8
    return picture.pixels.permute(1, 2, 0).numpy()


def error_of(source: object) -> str:
    """What `read` says of a bad image: one clear line."""
    with pytest.raises(DlkitError) as caught:
        images.read(str(source))
    message = str(caught.value)
    assert message
    assert "\n" not in message
    return message


# ---- formats and modes ---------------------------------------------------------------------------


def lossless(suffix: str) -> dict[str, Any]:
    """What Pillow's save() needs so that pixels come back as they were, where that is possible."""
    return {"lossless": True} if suffix == "webp" else {}


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "tif", "gif"])
def test_every_format_reads_as_pillow_shows_it(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    gradient().save(path, **lossless(suffix))
    picture = images.read(str(path))
    assert (picture.width, picture.height) == (48, 32) == images.size(path)
    with Image.open(path) as image:
        assert np.array_equal(array(picture), np.array(image.convert("RGB")))


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tif"])
def test_of_an_animation_the_first_frame_is_read(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    frames = [Image.new("RGB", (20, 20), color) for color in ("red", "lime", "blue")]
    frames[0].save(path, save_all=True, append_images=frames[1:], **lossless(suffix))
    assert np.array_equal(array(images.read(str(path))), np.array(frames[0]))


def half_transparent() -> Image.Image:
    """Black: opaque on the left, clear on the right."""
    image = Image.new("RGBA", (20, 10), (0, 0, 0, 255))
    image.paste((0, 0, 0, 0), (10, 0, 20, 10))
    return image


def palette_with_transparency() -> Image.Image:
    image = Image.new("P", (20, 10), 0)
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.paste(1, (10, 0, 20, 10))
    image.info["transparency"] = 1
    return image


def palette_with_alpha() -> Image.Image:
    image = palette_with_transparency()
    image.info["transparency"] = bytes([255, 0])
    return image


def rgb_with_transparency() -> Image.Image:
    image = palette_with_transparency().convert("RGB")
    image.paste((255, 0, 0), (10, 0, 20, 10))
    image.info["transparency"] = (255, 0, 0)
    return image


CLEAR = {
    "RGBA": half_transparent,
    "LA": lambda: half_transparent().convert("LA"),
    "palette, one clear color": palette_with_transparency,
    "palette, alpha for each": palette_with_alpha,
    "RGB, one clear color": rgb_with_transparency,
}


@pytest.mark.parametrize("make", CLEAR.values(), ids=CLEAR)
def test_what_is_clear_is_white(make: Callable[[], Image.Image], tmp_path: Path) -> None:
    image = make()
    image.save(tmp_path / "a.png", transparency=image.info.get("transparency"))
    pixels = array(images.read(str(tmp_path / "a.png")))
    assert (pixels[:, :10] == 0).all()
    assert (pixels[:, 10:] == 255).all()


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [("L", "png"), ("1", "png"), ("P", "png"), ("L", "jpg"), ("CMYK", "jpg"), ("CMYK", "tif")],
)
@pytest.mark.parametrize("side", [None, 24])
def test_other_modes_become_the_rgb_they_show(
    mode: str, suffix: str, side: int | None, tmp_path: Path
) -> None:
    path = tmp_path / f"a.{suffix}"
    image = gradient().convert(mode)
    image.save(path)
    picture = images.read(str(path), side)
    with Image.open(path) as reopened:
        assert reopened.mode == mode
        expected = reopened.convert("RGB")
    if side:
        expected = expected.resize((24, 16), Image.Resampling.BILINEAR)
    assert (picture.width, picture.height) == (48, 32)
    assert np.allclose(array(picture), np.array(expected), atol=2)


def test_a_color_profile_is_honored(tmp_path: Path) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    # The same profile with the primaries of red and blue exchanged in its table.
    swapped = srgb.replace(b"rXYZ", b"----", 1).replace(b"bXYZ", b"rXYZ", 1)
    swapped = swapped.replace(b"----", b"bXYZ", 1)
    for mode, color in (("RGB", (200, 40, 90)), ("RGBA", (200, 40, 90, 255))):
        for profile, shown in (
            (swapped, [90, 40, 200]),
            (srgb, [200, 40, 90]),
            (b"bad", [200, 40, 90]),
        ):
            path = tmp_path / "image.png"
            Image.new(mode, (9, 9), color).save(path, icc_profile=profile)
            assert images.read(str(path)).pixels[:, 4, 4].tolist() == shown


@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_are_scaled_not_clipped(channels: int, tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 64 * 10).reshape(10, 64).astype(np.uint16)
    values = np.stack([ramp, ramp[:, ::-1], ramp[::-1]], axis=-1) if channels == 3 else ramp
    (tmp_path / "a.png").write_bytes(png16(values))
    pixels = array(images.read(str(tmp_path / "a.png"))).astype(float)
    expected = values if channels == 3 else np.stack([values] * 3, axis=-1)
    assert np.abs(pixels - expected / 257).max() <= 1


@pytest.mark.parametrize("scale", [1.0, 255.0])
def test_floats_are_read_as_shares_or_bytes(scale: float, tmp_path: Path) -> None:
    ramp = np.linspace(0, 1, 200, dtype=np.float32).reshape(10, 20)
    Image.fromarray(ramp * scale).save(tmp_path / "a.tif")
    pixels = array(images.read(str(tmp_path / "a.tif")))
    assert np.abs(pixels[..., 0] - ramp * 255.0).max() <= 1


# ---- orientation and size ------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_honored(orientation: int, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    gradient(640, 400).save(path, exif=exif, **lossless(suffix))
    with Image.open(path) as image:
        shown = ImageOps.exif_transpose(image).convert("RGB")
    picture = images.read(str(path))
    assert (picture.width, picture.height) == shown.size == images.size(path)
    assert np.array_equal(array(picture), np.array(shown))

    # Much smaller: a JPEG is then decoded at a fraction of its size.
    small = images.read(str(path), 64)
    assert (small.width, small.height) == shown.size
    expected = shown.resize((64, 40) if orientation < 5 else (40, 64), Image.Resampling.BOX)
    assert np.abs(array(small).astype(int) - np.array(expected)).mean() < 4


SHORT, TEXT, ORIENTATION = 3, 2, 0x0112


def exif_entry(tag: int, kind: int, value: int) -> bytes:
    return struct.pack("<HHIHH", tag, kind, 1, value, 0)


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([exif_entry(ORIENTATION, SHORT, 0)], (48, 32)),
        ([exif_entry(ORIENTATION, SHORT, 9)], (48, 32)),
        ([exif_entry(ORIENTATION, SHORT, 300)], (48, 32)),
        ([exif_entry(ORIENTATION, TEXT, ord("6"))], (48, 32)),
        ([exif_entry(0x0101, TEXT, ord("x")), exif_entry(ORIENTATION, SHORT, 6)], (32, 48)),
    ],
    ids=["0", "9", "300", "text", "6 beside a tag of the wrong type"],
)
def test_odd_exif(entries: list[bytes], expected: tuple[int, int], tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    head = b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(entries))
    gradient().save(path, exif=head + b"".join(entries) + bytes(4))
    picture = images.read(str(path))
    assert (picture.width, picture.height) == expected == images.size(path)
    assert array(picture).shape == (expected[1], expected[0], 3)


@pytest.mark.parametrize(
    ("size", "side", "expected"),
    [((48, 32), 24, (24, 16)), ((48, 32), 96, (96, 64)), ((2000, 8), 64, (64, 1))],
)
def test_the_longest_side_is_as_asked(
    size: tuple[int, int], side: int, expected: tuple[int, int], tmp_path: Path
) -> None:
    gradient(*size).save(tmp_path / "a.jpg")
    picture = images.read(str(tmp_path / "a.jpg"), side)
    assert (picture.width, picture.height) == size
    assert array(picture).shape[:2] == expected[::-1]


# ---- URLs ----------------------------------------------------------------------------------------


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/garbage":
            self.wfile.write(b"this is no HTTP\r\n\r\n")
            return
        buffer = io.BytesIO()
        gradient().save(buffer, "PNG")
        body = buffer.getvalue() if "png" in self.path else b"<html>no image</html>"
        self.send_response(404 if self.path == "/gone.png" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:-20] if self.path == "/short.png" else body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("path", ["/a.png", "/?format=png", "/ü b.png"])
def test_a_url_is_read(path: str, server: str) -> None:
    assert np.array_equal(array(images.read(server + path)), np.array(gradient()))


def test_a_resized_url_has_its_full_size_without_a_second_request(server: str) -> None:
    picture = images.read(server + "/a.png", 16)
    assert max(picture.pixels.shape[1:]) == 16
    with mock.patch.object(images, "fetch", side_effect=AssertionError):
        whole = images.full_size(server + "/a.png", picture)
        assert images.full_size(server + "/a.png", whole) is whole
    assert np.array_equal(array(whole), np.array(gradient()))


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/gone.png", "404"),
        ("/page", "not an image"),
        ("/short.png", "ended after"),
        ("/garbage", "cannot be reached"),
    ],
)
def test_a_bad_answer(path: str, said: str, server: str) -> None:
    assert said in error_of(server + path)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9/x.jpg",  # nobody listens there
        "http://no-such-host.invalid/x.jpg",
        "http://127.0.0.1:port/x.jpg",
        "http://[x/y.jpg",
        "ftp://127.0.0.1/x.jpg",
        "file:///etc/passwd",
    ],
)
def test_a_bad_url(url: str) -> None:
    error_of(url)


# ---- bad images ----------------------------------------------------------------------------------


def jpeg() -> bytes:
    buffer = io.BytesIO()
    gradient(200, 200).save(buffer, "JPEG")
    return buffer.getvalue()


def saved(suffix: str) -> bytes:
    buffer = io.BytesIO()
    gradient(200, 200).save(buffer, suffix)
    return buffer.getvalue()


def first_half(kind: str) -> bytes:
    return saved(kind)[: len(saved(kind)) // 2]


BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "text.jpg": (lambda: b"hello, world\n" * 20, "not an image"),
    "zero.png": (lambda: b"", "empty"),
    "1x1.png": (lambda: png(1, 1, 8, 0, b"\0\0"), "too small"),
    "20000x20000.png": (
        lambda: png(20_000, 20_000, 1, 0, bytes(2_501 * 20_000)),
        "million pixels",
    ),
    "bomb.png": (lambda: png(60_000, 60_000, 1, 0, b""), "million pixels"),
    "header.jpg": (lambda: jpeg()[:30], "damaged|not an image"),
    **{
        f"truncated.{kind}": (partial(first_half, kind), "damaged")
        for kind in ("jpeg", "png", "webp", "bmp", "tiff", "gif")
    },
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("side", [None, 64])
def test_a_bad_image_is_one_line(name: str, side: int | None, tmp_path: Path) -> None:
    make, said = BAD[name]
    (tmp_path / name).write_bytes(make())
    with pytest.raises(DlkitError, match=f"^[^\n]*({said})[^\n]*$"):
        images.read(str(tmp_path / name), side)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing.jpg", "no such file"),
        ("*.jpg", "no file matches"),
        ("", "a folder without images"),
        ("x" * 300 + ".jpg", "name too long"),
    ],
)
def test_no_file(name: str, said: str, tmp_path: Path) -> None:
    assert said in error_of(tmp_path / name).lower()


@pytest.mark.parametrize("name", ["text.jpg", "zero.png", "bomb.png"])
def test_the_size_of_a_bad_image(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(BAD[name][0]())
    with pytest.raises(DlkitError, match=name):
        images.size(tmp_path / name)


def test_a_large_image_is_no_bomb(tmp_path: Path) -> None:
    """Pillow warns at half the pixels at which it refuses; that is not to be said or raised."""
    path = tmp_path / "large.png"
    path.write_bytes(png(12_000, 10_000, 1, 0, bytes(1_501 * 10_000)))
    assert images.size(path) == (12_000, 10_000)
    path.write_bytes(png(12_000, 10_000, 1, 0, b""))
    assert "truncated" in error_of(path)  # it has no pixels


@pytest.mark.filterwarnings("ignore:::PIL")
@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "bmp", "tiff", "gif"])
def test_damage_anywhere_is_read_or_refused(kind: str, tmp_path: Path) -> None:
    """Whatever bytes are wrong, there is a picture or a DlkitError, never another exception."""
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "description"
    buffer = io.BytesIO()
    gradient(40, 30).save(buffer, kind, **({"exif": exif} if kind not in {"bmp", "gif"} else {}))
    rng = np.random.default_rng(0)
    path = tmp_path / "a.jpg"
    for _ in range(40):
        content = np.frombuffer(buffer.getvalue(), dtype=np.uint8).copy()
        places = rng.integers(0, min(len(content), 400), size=rng.integers(1, 4))
        content[places] = rng.integers(0, 256, len(places))
        path.write_bytes(content.tobytes())
        with contextlib.suppress(DlkitError):
            images.read(str(path), 32)
        with contextlib.suppress(DlkitError):
            images.size(path)


def test_saving_is_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.png"
    images.save(gradient(), path)
    assert np.array_equal(array(images.read(str(path))), np.array(gradient()))
    with pytest.raises(DlkitError, match="cannot be written"):
        images.save(gradient(), path / "below-a-file.png")
    assert list(path.parent.iterdir()) == [path]


def test_a_file_that_the_system_refuses_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Image, "open", refuse)
    with pytest.raises(DlkitError, match=r"cannot be read \(Permission denied\)"):
        images.decode_file(tmp_path / "a.png")
