"""Reading and writing images, as uint8 tensors (3, H, W) in display orientation."""

import glob
import io
import struct
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont, ImageOps, UnidentifiedImageError
from torch import Tensor

from dlkit.core.errors import DlkitError, os_reason
from dlkit.core.failures import note
from dlkit.core.io import tars
from dlkit.core.io.download import LARGEST_IMAGE, fetch, largest
from dlkit.core.io.files import is_dir, is_file, read_whole, whole_file
from dlkit.core.io.image_files import HEIF, ImageSource, why_empty
from dlkit.core.io.kinds import HEAD, is_text, kind_of
from dlkit.core.vision.pixels import late_exif, to_rgb

Fit = Literal["inside", "crop", "squash"]
MIN_SIDE = 8
MAX_PIXELS = 178_956_970  # above, Pillow calls a file a decompression bomb
MAX_BYTES = 200_000_000  # of an image in a pipe or a tar file
READ_KINDS = {f"a {name} image" for name in ("JPEG", "PNG", "WebP", "BMP", "TIFF", "GIF")}

# Exceptions of Pillow for damaged files, besides UnidentifiedImageError.
BAD_FILE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    struct.error,
    EOFError,
)

# EXIF's orientations; the last four exchange width and height.
SIDEWAYS = {
    Image.Transpose.TRANSPOSE,
    Image.Transpose.ROTATE_270,
    Image.Transpose.TRANSVERSE,
    Image.Transpose.ROTATE_90,
}
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
if HEIF:
    from pillow_heif import register_heif_opener

    register_heif_opener()
Image.MAX_IMAGE_PIXELS = None  # dlkit has its own limit: Pillow's only warns first


@dataclass(frozen=True)
class Picture:
    """A decoded image: `pixels` uint8 (3, h, w), and the width and height of the displayed image.

    `content` is the file itself where it cannot be read a second time: behind a URL, in a pipe.
    `notes` name the content of the file that the pixels do not show.
    """

    pixels: Tensor
    width: int
    height: int
    content: bytes | None = None
    notes: tuple[str, ...] = ()

    @property
    def nbytes(self) -> int:
        """Bytes of memory of the pixels and the content."""
        return self.pixels.nbytes + len(self.content or b"")


def read(source: str, side: int | None = None, fit: Fit = "inside") -> Picture:
    """Decode an image; with `side`, shrink or enlarge it to that longest side.

    With the fit `crop` the result is the middle square of the image, with `squash` the whole image
    made square, of `side` pixels a side.

    Gray, palette, CMYK, 16-bit, float and transparent images (on white) become sRGB, by their color
    profile if they have one; of an animation the first frame is read. Content that is not shown,
    such as further pages, is noted for `report_notes`. Raises DlkitError for a file that is not an
    image, is damaged, has a side under 8 pixels or over 179 million pixels, or floats of an unknown
    range.
    """
    if isinstance(source, ImageSource) and source.image is not None:
        return noted(source, decode_image(source, side, fit))
    file = opened(source)
    content = file.getvalue() if isinstance(file, io.BytesIO) else None
    if isinstance(source, ImageSource):
        source.content = content
    return replace(noted(source, decode_file(file, side, fit)), content=content)


def noted(source: str, picture: Picture) -> Picture:
    """The picture, whose notes are kept for `report_notes`."""
    for kind in picture.notes:
        note(kind, source)
    return picture


def full_size(source: str, picture: Picture) -> Picture:
    """A picture of `read` with all of the image's pixels; a file is read again if need be."""
    if picture.pixels.shape[1:] == (picture.height, picture.width):
        return picture
    return read_again(source, picture)


def read_again(source: str, picture: Picture, side: int | None = None) -> Picture:
    """The image of a picture of `read` at another size, from the content that it keeps, if any."""
    if picture.content is None:
        return read(source, side)
    return decode_file(io.BytesIO(picture.content), side)


def decode_image(source: ImageSource, side: int | None, fit: Fit) -> Picture:
    """The picture of an image in memory, as `read` returns it."""
    if isinstance(source.image, DlkitError):
        raise source.image
    try:
        # A copy, since decoding may change the image.
        return decode(source.image.copy(), side, fit)
    except BAD_FILE as error:
        raise DlkitError(f"damaged image ({' '.join(str(error).split())})") from error


def decode_file(file: Path | io.BytesIO, side: int | None = None, fit: Fit = "inside") -> Picture:
    """Decode the image in a file, as `read` does."""
    try:
        with Image.open(file) as image:
            return decode(image, side, fit)
    except UnidentifiedImageError:
        kind = kind_of_file(file)
        if kind in READ_KINDS:
            raise DlkitError(
                f"{kind} that is damaged, or stored in a way that Pillow does not read; save it"
                " again as PNG"
            ) from None
        raise DlkitError(
            "not an image that dlkit can read (JPEG, PNG, WebP, BMP, TIFF, GIF, AVIF)"
            + (f", but {kind}" if kind else "")
        ) from None
    except MemoryError as error:
        raise DlkitError("too large for this machine's memory: make it smaller first") from error
    except BAD_FILE as error:
        refused = getattr(error, "strerror", None)  # by the system: nothing is known of the content
        if refused:
            raise DlkitError(f"cannot be read ({refused})") from error
        reason = str(error) or type(error).__name__
        raise DlkitError(f"damaged image ({' '.join(reason.split())})") from error


def kind_of_file(file: Path | io.BytesIO) -> str | None:
    """The kind of a file that is not an image, by its first bytes; None for an unknown one."""
    with file.open("rb") if isinstance(file, Path) else io.BytesIO(file.getvalue()) as content:
        head = content.read(HEAD)
    return kind_of(head) or ("a text file" if is_text(head) else None)


def opened(source: str) -> Path | io.BytesIO:
    """The path, or the bytes behind a URL or in a tar file, for Pillow to open."""
    if isinstance(source, ImageSource) and source.content is not None:
        return io.BytesIO(source.content)
    if "://" in source:
        buffer = io.BytesIO()
        try:
            for block in fetch(source, "downloading", most=largest(LARGEST_IMAGE)):
                buffer.write(block)
        except DlkitError as error:  # the caller names the source, as for a file
            raise DlkitError(error.reason_for(source)) from error
        buffer.seek(0)
        return buffer
    if in_tar := tars.split_path(source):
        return io.BytesIO(tars.read(*in_tar))
    path = Path(source)
    if tars.is_tar(source):
        try:
            deque(tars.members(source), maxlen=0)
        except DlkitError as error:
            raise DlkitError(error.reason_for(source)) from error
        raise DlkitError("a tar file without images")
    try:
        bytes_there = path.stat().st_size
    except FileNotFoundError:
        raise DlkitError("no file matches" if glob.has_magic(source) else "no such file") from None
    except (OSError, ValueError) as error:
        raise DlkitError(os_reason(error)) from error
    if is_dir(path):
        one = isinstance(source, ImageSource)
        raise DlkitError("a folder; give its images" if one else why_empty(source))
    if not is_file(path):
        return io.BytesIO(read_whole(path, MAX_BYTES))  # a pipe, which cannot be rewound
    if bytes_there == 0:
        raise DlkitError("an empty file")
    return path


def checked_size(image: Image.Image) -> tuple[int, int]:
    """Width and height as stored. Raises DlkitError if they are too small or too large."""
    width, height = image.size
    if min(width, height) < MIN_SIDE:
        raise DlkitError(f"{width} x {height} pixels: too small; a side needs {MIN_SIDE} or more")
    if width * height > MAX_PIXELS:
        most = f"{MAX_PIXELS / 1e6:.0f} million pixels"
        raise DlkitError(f"{width} x {height}: over {most}; make it smaller first")
    return width, height


def decode(image: Image.Image, side: int | None, fit: Fit) -> Picture:
    """Decode an open image; see `read`."""
    width, height = checked_size(image)
    turn = find_transposition(image)  # before the pixels are loaded, as `size` does
    if side is not None and fit != "inside" and (width, height) != (side, side):
        # JPEG only: decodes at a half, a quarter or an eighth.
        share = 2 * side / min(width, height)
        image.draft("RGB", (round(width * share), round(height * share)))
        full, notes = to_rgb(image)
        kept = min(full.size)
        wide, high = full.size if fit == "squash" else (kept, kept)
        x, y = (full.width - wide) / 2, (full.height - high) / 2
        box = (x, y, x + wide, y + high)
        rgb = full.resize((side, side), Image.Resampling.BILINEAR, box)
    elif side is not None and max(width, height) != side:
        image.draft("RGB", (2 * side, 2 * side))
        share = side / max(width, height)
        small = (max(1, round(width * share)), max(1, round(height * share)))
        full, notes = to_rgb(image)
        rgb = full.resize(small, Image.Resampling.BILINEAR)
    else:
        rgb, notes = to_rgb(image)
    if turn is not None:
        rgb = rgb.transpose(turn)
        width, height = (height, width) if turn in SIDEWAYS else (width, height)
    # np.array copies: the tensor may be written to, and outlives Pillow's buffer.
    pixels = torch.from_numpy(np.array(rgb)).permute(2, 0, 1)
    return Picture(pixels, width, height, notes=tuple(notes))


def resized(picture: Picture, side: int) -> Picture:
    """Resize a picture to that longest side, as `read` does."""
    height, width = picture.pixels.shape[1:]
    if max(height, width) == side:
        return picture
    share = side / max(height, width)
    small = (max(1, round(width * share)), max(1, round(height * share)))
    image = as_pillow(picture).resize(small, Image.Resampling.BILINEAR)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    return Picture(pixels, picture.width, picture.height)


def find_transposition(image: Image.Image) -> Image.Transpose | None:
    """The transposition to display orientation; Pillow itself transposes a TIFF."""
    if image.format == "TIFF":
        return None
    try:
        if image.format == "PNG" and "exif" not in image.info:
            # For EXIF data behind the pixels, Pillow would decode the whole image.
            late = late_exif(image)
            if late is None:
                return None
            found = Image.Exif()
            found.load(late)
        else:
            found = image.getexif()
        orientation = found.get(0x0112)
    except BAD_FILE:
        return None
    return TURNS.get(orientation) if isinstance(orientation, int) else None


def size(path: Path) -> tuple[int, int]:
    """Width and height of an image as displayed, from its header."""
    try:
        with Image.open(opened(str(path))) as image:
            width, height = checked_size(image)
            return (height, width) if find_transposition(image) in SIDEWAYS else (width, height)
    except DlkitError as error:
        raise DlkitError(f"{error}", path) from None
    except BAD_FILE as error:
        raise DlkitError("not a readable image", path) from error


def save(picture: Image.Image, path: Path) -> None:
    """Write an image, whole or not at all, in the format of the path's suffix."""
    kind = Image.registered_extensions().get(path.suffix.lower(), "PNG")
    with whole_file(path) as partial:
        try:
            picture.save(partial, format=kind, **({"quality": 92} if kind == "JPEG" else {}))
        except ValueError as error:  # such as a side that the format cannot hold
            raise DlkitError(f"cannot be written ({error})", path) from error


def save_gif(frames: Sequence[Image.Image], path: Path, milliseconds: int | Sequence[int]) -> None:
    """Write a looping animation, whole or not at all; the duration is that of each frame."""
    with whole_file(path) as partial:
        frames[0].save(
            partial,
            format="GIF",
            save_all=True,
            append_images=frames[1:],
            duration=milliseconds,
            loop=0,
        )


def as_pillow(picture: Picture) -> Image.Image:
    """The picture as a Pillow image."""
    return Image.fromarray(picture.pixels.permute(1, 2, 0).numpy())


def grid(
    pictures: Sequence[Image.Image],
    columns: int,
    side: int = 320,
    captions: Sequence[str] | None = None,
) -> Image.Image:
    """A grid of images with `columns` columns, each fitted into a square of `side` pixels.

    Captions, one each, are drawn right below; their lines are cut at the square's width.
    """
    font = ImageFont.load_default(13)
    line = 17
    below = 0 if captions is None else 4 + line * max(c.count("\n") + 1 for c in captions)
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * side, rows * (side + below)), "white")
    canvas = ImageDraw.Draw(sheet)
    for index, picture in enumerate(pictures):
        x, y = index % columns * side, index // columns * (side + below)
        fitted = ImageOps.contain(picture, (side - 4, side - 4))
        above = side - fitted.height
        above = above // 2 if captions is None else above - 2
        sheet.paste(fitted, (x + (side - fitted.width) // 2, y + above))
        for number, text in enumerate(captions[index].splitlines() if captions else []):
            while text and font.getlength(text) > side - 6:
                text = text[:-2] + "…" if text[-1] == "…" else text[:-1] + "…"
            canvas.text((x + 3, y + side + number * line), text, fill="black", font=font)
    return sheet
