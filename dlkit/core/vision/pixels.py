"""Conversion of Pillow's images, of any mode and number of bits, to 8-bit sRGB.

What an image file holds besides that picture (other pages, bands, values out of range) is not
dropped without a word: it becomes a note. Shapes: H x W pixels.
"""

import io
import struct
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

from dlkit.core.errors import DlkitError

# Above 1 by rounding or by a few bright pixels, floats are still from 0 to 1.
MARGIN = 1.1
BRIGHT = 99.5  # percentile of the finite values that is compared with the full scale
SCALES = (1, 255, 4095, 65535)  # full scales of floats
BITS = (8, 12, 14, 16, 32)  # full scales of integers
FEW_BITS = 16  # values of a byte that 12 bits in 16 leave
SAME = 2  # levels by which a profile may differ from sRGB without being converted
REDUCED, MASK = 1, 4  # bits of the TIFF tag NewSubfileType
NEW_SUBFILE_TYPE, EXTRA_SAMPLES, SAMPLE_FORMAT = 254, 338, 339  # tags of TIFF
MAX_PAGES = 64  # that are looked at
SAMPLED = 1_000_000  # values of which the percentile is computed
CHROMATIC = ("RGB", "RGBA", "CMYK", "L", "LAB")  # modes that a color profile describes
LAB = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()

SEVERAL_PAGES = "several pages, of which the first is read"
SEVERAL_FRAMES = "an animation, of which the first frame is read"
MORE_BANDS = "bands beyond red, green and blue, which are not read"
BAD_PROFILE = "a color profile that cannot be used; the colors are read as sRGB"
NO_NUMBERS = "pixels without a number (NaN or infinite), read as black or white"
NEGATIVE = "values below 0, read as black"


def to_rgb(image: Image.Image) -> tuple[Image.Image, list[str]]:
    """The image in 8-bit sRGB, on white, and notes on what it does not show.

    Raises DlkitError for pixels of an unknown range.
    """
    notes = note_pages(image)
    sixteen = is_sixteen_bit(image)
    image.load()
    profile = image.info.get("icc_profile")
    if image.mode.startswith(("I", "F")):
        image, more = to_gray(image)
    else:
        more = note_dark(image) if sixteen and image.mode in {"RGB", "RGBA"} else []
        if has_unnamed_band(image):
            more.append(MORE_BANDS)
            image = image.convert("RGB")
        clear = image.info.get("transparency")
        if sixteen and image.mode == "RGB" and isinstance(clear, tuple):
            image.info["transparency"] = tuple(value >> 8 for value in clear)
    notes += more
    if isinstance(profile, bytes) or image.mode == "LAB":
        try:
            image = to_srgb(image, profile)
        except (OSError, ValueError, TypeError, ImageCms.PyCMSError):
            notes.append(BAD_PROFILE)
    return on_white(image), notes


def on_white(image: Image.Image) -> Image.Image:
    """An 8-bit image as RGB, on white."""
    clear = "transparency" in image.info
    if image.mode == "RGB" and not clear:
        return image
    if clear or image.mode in {"RGBA", "LA", "PA", "La", "RGBa"}:
        colored = image.convert("RGBA")
        white = Image.new("RGBA", colored.size, "white")
        return Image.alpha_composite(white, colored).convert("RGB")
    return image.convert("RGB")


def is_sixteen_bit(image: Image.Image) -> bool:
    """Whether the file has 16 bits a band, by the decoder that Pillow chose for it."""
    arguments = [tile[3] for tile in getattr(image, "tile", [])[:1]]
    arguments = [a[0] if isinstance(a, tuple) and a else a for a in arguments]
    return any(isinstance(raw, str) and ";16" in raw for raw in arguments)


# ---- Pages and bands -----------------------------------------------------------------------------


def note_pages(image: Image.Image) -> list[str]:
    """A note for a file with more pages or frames than the first, other than thumbnails of it."""
    # The second picture of an MPO is a preview or a depth map.
    if image.format == "MPO" or not getattr(image, "is_animated", False):
        return []
    if image.format != "TIFF":
        return [SEVERAL_FRAMES]
    try:
        pages = min(getattr(image, "n_frames", 1), MAX_PAGES)
        whole = not all(is_reduced(image, number) for number in range(1, pages))
    except (EOFError, OSError, ValueError, SyntaxError, TypeError, KeyError):
        whole = True  # a page that is there, though damaged
    image.seek(0)
    return [SEVERAL_PAGES] if whole else []


def is_reduced(image: Image.Image, page: int) -> bool:
    """Whether a page of a TIFF is marked as a smaller copy or a mask of another page."""
    image.seek(page)
    kind = getattr(image, "tag_v2", {}).get(NEW_SUBFILE_TYPE, 0)
    return isinstance(kind, int) and bool(kind & (REDUCED | MASK))


def has_unnamed_band(image: Image.Image) -> bool:
    """Whether a TIFF has bands beyond its colors that it does not call alpha, as near infrared."""
    if image.format != "TIFF":
        return False
    tags = getattr(image, "tag_v2", {})
    extra = tags.get(EXTRA_SAMPLES)
    if extra is None:  # Pillow takes a fourth band for alpha
        return image.mode == "RGBA"
    extra = extra if isinstance(extra, tuple) else (extra,)
    return 0 in extra or len(extra) > 1


# ---- Bits ----------------------------------------------------------------------------------------


def to_gray(image: Image.Image) -> tuple[Image.Image, list[str]]:
    """The 8-bit gray of an image of integers of over 8 bits, or of floats, and notes."""
    values = np.asarray(image)
    clear = image.info.get("transparency")
    white = values == clear if isinstance(clear, int) else None
    if image.mode.startswith("F"):
        full, notes = float_scale(values)
    else:
        if values.dtype == np.int32 and is_unsigned(image):
            values = values.view(np.uint32)
        full, notes = integer_scale(values)
    shares = np.nan_to_num(values.astype(np.float64) / full, nan=0, posinf=1, neginf=0)
    gray = (shares * 255).clip(0, 255).astype(np.uint8)
    if white is not None:
        gray[white] = 255
    return Image.fromarray(gray), notes


def float_scale(values: np.ndarray) -> tuple[int, list[str]]:
    """The value that is white in an image of floats, and notes.

    Raises DlkitError where the values fit none of SCALES.
    """
    known = values[np.isfinite(values)]
    notes = [NO_NUMBERS] if known.size < values.size else []
    if not known.size:
        raise DlkitError("no pixel has a finite value")
    low, high = float(known.min()), float(known.max())
    bright = float(np.percentile(known[:: max(1, known.size // SAMPLED)], BRIGHT))
    full = next((scale for scale in SCALES if bright <= scale * MARGIN), None)
    if full is None or high <= 0 > low:
        raise DlkitError(
            f"floats from {low:.6g} to {high:.6g}; scale them to 0 to 1, or 0 to 255, first"
        )
    if full > 255:
        notes.append(f"floats neither from 0 to 1 nor from 0 to 255; {full} is read as white")
    elif high > full * MARGIN:
        notes.append(f"single values far above {full}, read as white")
    return full, notes + ([NEGATIVE] if low < 0 else [])


def integer_scale(values: np.ndarray) -> tuple[int, list[str]]:
    """The value that is white in an image of integers of 16 or 32 bits, and notes."""
    low, high = int(values.min(initial=0)), int(values.max(initial=0))
    notes = [NEGATIVE] if low < 0 else []
    bits = next(bits for bits in BITS if high < 1 << bits)
    if bits < 16 and high > 0:
        highest = (1 << bits) - 1
        notes.append(f"over 8 bits a pixel, with no value above {highest}, which is read as white")
    elif bits == 16 and low < 0 and high < 1 << 15:
        bits = 15
    return (1 << max(bits, 16 if high <= 0 else 0)) - 1, notes


def is_unsigned(image: Image.Image) -> bool:
    """Whether a TIFF of 32 bits, which Pillow reads as signed, has unsigned integers."""
    form = getattr(image, "tag_v2", {}).get(SAMPLE_FORMAT, (1,))
    return image.format == "TIFF" and form in {(1,), 1}


def note_dark(image: Image.Image) -> list[str]:
    """A note for 16-bit colors that use no more than 12 bits, of which Pillow keeps the upper 8."""
    highest = max(high for _, high in image.convert("RGB").getextrema())  # type: ignore[misc]
    if 0 < highest < FEW_BITS:
        return ["16-bit colors with no value above 4095, which are read nearly black: scale them"]
    return []


# ---- Color profiles ------------------------------------------------------------------------------


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """The image in sRGB, by its color profile.

    Raises PyCMSError, OSError or ValueError for a profile that is damaged or does not fit.
    """
    clear = "transparency" in image.info
    if image.mode == "P" or (image.mode == "RGB" and clear):
        image = image.convert("RGBA" if clear else "RGB")
    alpha = None
    if image.mode == "LA" or (image.mode == "L" and clear):
        alpha = image.convert("LA").getchannel("A")
        image = image.convert("LA").getchannel("L")
    if image.mode not in CHROMATIC:
        return image
    transform = srgb_transform(profile or LAB, image.mode)
    converted = image if transform is None else transform.apply(image)
    if alpha is not None:
        converted.putalpha(alpha)
    return converted


@lru_cache(32)
def srgb_transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The conversion from a profile to sRGB; None where the profile is that of sRGB already.

    Raises PyCMSError for a profile that is damaged or does not fit the mode.
    """
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    output = "RGBA" if mode == "RGBA" else "RGB"
    transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, output)
    if mode == "RGB":
        grid = Image.frombytes("RGB", (27, 27), bytes(COLORS))
        converted = transform.apply(grid)
        change = np.asarray(grid).astype(int) - np.asarray(converted)
        if np.abs(change).max() <= SAME:
            return None
    return transform


# A grid of 9 x 9 x 9 colors.
COLORS = [
    min(255, 32 * level)
    for red in range(9)
    for green in range(9)
    for blue in range(9)
    for level in (red, green, blue)
]


# ---- EXIF ----------------------------------------------------------------------------------------


def late_exif(image: Image.Image) -> bytes | None:
    """The EXIF data of a PNG behind its pixels, which Pillow reads with the pixels."""
    file = getattr(image, "fp", None)
    if image.format != "PNG" or file is None or "exif" in image.info:
        return None
    place = file.seek(0, io.SEEK_CUR)
    try:
        file.seek(8)
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if kind == b"eXIf":
                return b"Exif\x00\x00" + bytes(file.read(length))
            if kind == b"IEND":
                return None
            file.seek(length + 4, io.SEEK_CUR)
    except (OSError, ValueError):
        return None
    finally:
        file.seek(place)
    return None
