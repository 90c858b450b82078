"""Images in and out, as uint8 tensors (3, H, W), in the orientation they are shown in."""

import glob
import io
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from dlkit.core.errors import DlkitError
from dlkit.core.output import whole_file
from dlkit.core.text import lines
from dlkit.core.weights import fetch

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"}
SMALLEST_SIDE = 8
MOST_PIXELS = 178_956_970  # where Pillow itself calls a file a decompression bomb
MOST_BYTES = 200_000_000  # of an image behind a URL


@dataclass(frozen=True)
class Picture:
    """A decoded image: `pixels` uint8 (3, h, w); width and height are the image's as shown."""

    pixels: Tensor
    width: int
    height: int


def files(sources: Iterable[str]) -> Iterator[str]:
    """Paths and URLs of images: files, folders (with all below), globs, URLs, `-` for a list.

    What does not exist is passed on, so that reading it fails in its place among the others.
    """
    for source in sources:
        if source == "-":
            yield from files(line for line in lines("-") if line)
        elif "://" in source:
            yield source
        elif Path(source).is_dir():
            inside = (str(path) for path in sorted(Path(source).rglob("*")) if is_image(path))
            yield from some_or_itself(inside, source)
        elif not Path(source).exists() and glob.has_magic(source):
            yield from some_or_itself(iter(sorted(glob.glob(source, recursive=True))), source)
        else:
            yield source


def is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file()


def some_or_itself(found: Iterator[str], source: str) -> Iterator[str]:
    """What was found; the source itself when that is nothing."""
    first = next(found, None)
    yield source if first is None else first
    yield from found


def read(source: str, side: int | None = None) -> Picture:
    """Decode an image; with `side`, shrink or enlarge it to that longest side.

    Grey, palette, CMYK, 16-bit and transparent images (on white) become RGB; of an animation
    the first frame is read. Raises DlkitError for what is no image, damaged, under 8 pixels a
    side or over 179 million pixels.
    """
    try:
        with warnings.catch_warnings():
            # Pillow warns at half the size at which it refuses; ours is one limit.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(opened(source)) as image:
                return decoded(image, side)
    except UnidentifiedImageError:
        raise DlkitError(
            "not an image that dlkit can read (JPEG, PNG, WebP, BMP, TIFF, GIF)"
        ) from None
    except Image.DecompressionBombError:
        raise DlkitError(
            f"over {MOST_PIXELS / 1e6:.0f} million pixels: make it smaller first"
        ) from None
    except MemoryError as error:
        raise DlkitError("too large for this machine's memory: make it smaller first") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise DlkitError(f"damaged image ({getattr(error, 'strerror', None) or error})") from error


def opened(source: str) -> Path | io.BytesIO:
    """What Pillow opens: the path, or the bytes behind a URL."""
    if "://" in source:
        buffer = io.BytesIO()
        for block in fetch(source, "downloading"):
            buffer.write(block)
            if buffer.tell() > MOST_BYTES:
                raise DlkitError(f"over {MOST_BYTES / 1e6:.0f} MB: download it yourself first")
        buffer.seek(0)
        return buffer
    path = Path(source)
    if path.is_dir():
        raise DlkitError("a folder without images")
    if not path.exists():
        raise DlkitError("no file matches" if glob.has_magic(source) else "no such file")
    if path.stat().st_size == 0:
        raise DlkitError("an empty file")
    return path


def decoded(image: Image.Image, side: int | None) -> Picture:
    width, height = image.size
    if min(width, height) < SMALLEST_SIDE:
        raise DlkitError(f"{width} x {height} pixels: too small, {SMALLEST_SIDE} a side are needed")
    if width * height > MOST_PIXELS:
        raise DlkitError(
            f"{width} x {height} pixels are over {MOST_PIXELS / 1e6:.0f} million:"
            " make it smaller first"
        )
    orientation = image.getexif().get(0x0112, 1)
    if side is not None and max(width, height) != side:
        image.draft(
            "RGB", (2 * side, 2 * side)
        )  # JPEG only: decodes at a half, a quarter, an eighth
        share = side / max(width, height)
        small = (max(1, round(width * share)), max(1, round(height * share)))
        rgb = as_rgb(image).resize(small, Image.Resampling.BILINEAR)
    else:
        rgb = as_rgb(image)
    if orientation != 1:
        image_with_orientation = rgb.copy()
        image_with_orientation.getexif()[0x0112] = orientation
        rgb = ImageOps.exif_transpose(image_with_orientation)
        if orientation >= 5:
            width, height = height, width
    # np.array copies: the tensor may be written to, and outlives Pillow's buffer.
    return Picture(torch.from_numpy(np.array(rgb)).permute(2, 0, 1), width, height)


def as_rgb(image: Image.Image) -> Image.Image:
    """Eight bits of red, green and blue, as the image looks on white."""
    if image.mode == "RGB":
        return image
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image, dtype=np.float64)
        # Integers are 16-bit; floats are taken as 0..1 or 0..255, whichever fits.
        scale = 255 / 65535 if image.mode.startswith("I") else 255 if values.max() <= 1 else 1
        return Image.fromarray((values * scale).clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.mode in {"RGBA", "LA", "PA", "La", "RGBa"} or "transparency" in image.info:
        coloured = image.convert("RGBA")
        white = Image.new("RGBA", coloured.size, "white")
        return Image.alpha_composite(white, coloured).convert("RGB")
    return image.convert("RGB")


def size(path: Path) -> tuple[int, int]:
    """Width and height of an image as shown, from its header."""
    try:
        with Image.open(path) as image:
            width, height = image.size
            return (height, width) if image.getexif().get(0x0112, 1) >= 5 else (width, height)
    except (OSError, SyntaxError, ValueError) as error:
        raise DlkitError(f"{path}: not a readable image") from error


def save(picture: Image.Image, path: Path) -> None:
    """Write an image, whole or not at all, in the format of the path's suffix."""
    with whole_file(path) as partial:
        kind = Image.registered_extensions().get(path.suffix.lower(), "PNG")
        picture.save(partial, format=kind, **({"quality": 92} if kind == "JPEG" else {}))


def grid(pictures: Sequence[Image.Image], columns: int, side: int = 320) -> Image.Image:
    """The pictures in rows of `columns`, each fitted into a square of `side` pixels."""
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * side, rows * side), "white")
    for index, picture in enumerate(pictures):
        fitted = ImageOps.contain(picture, (side - 4, side - 4))
        sheet.paste(fitted, (index % columns * side + 2, index // columns * side + 2))
    return sheet
