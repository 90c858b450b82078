"""Kinds of files, by their first bytes: a JPEG image, a zip archive, text. Loads no torch."""

import re

HEAD = 512  # bytes by which kinds differ
MODEL_FILE = "a model file (safetensors)"
# Offset, bytes and kind.
MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\xff\xd8\xff", "a JPEG image"),
    (0, b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (0, b"GIF87a", "a GIF image"),
    (0, b"GIF89a", "a GIF image"),
    (0, b"II*\x00", "a TIFF image"),
    (0, b"MM\x00*", "a TIFF image"),
    (0, b"\x1aE\xdf\xa3", "a Matroska or WebM video"),
    (0, b"ID3\x02", "an MP3 file"),
    (0, b"ID3\x03", "an MP3 file"),
    (0, b"ID3\x04", "an MP3 file"),
    (0, b"\xff\xfb", "an MP3 file"),
    (0, b"\xff\xf3", "an MP3 file"),
    (0, b"OggS\x00", "an Ogg file"),
    (0, b"fLaC\x00", "a FLAC file"),
    (0, b"%PDF-", "a PDF document"),
    (0, b"PK\x03\x04", "a zip archive"),
    (0, b"7z\xbc\xaf'\x1c", "a 7z archive"),
    (257, b"ustar\x00", "a tar archive"),
    (257, b"ustar  \x00", "a tar archive"),
    (0, b"\x1f\x8b", "a gzip file"),
    (0, b"(\xb5/\xfd", "a zstd file"),
    (4, b"1AY&SY", "a bzip2 file"),
    (0, b"\xfd7zXZ\x00", "an xz file"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (0, b"SQLite format 3\x00", "an SQLite database"),
    (0, b"PAR1\x15", "a Parquet file"),
    (0, b"\x7fELF", "a program"),
    (0, b"\xff\xfe", "UTF-16 text"),
    (0, b"\xfe\xff", "UTF-16 text"),
)
# Kinds of the two containers, by bytes 8 to 12.
RIFF = {b"WEBP": "a WebP image", b"WAVE": "a WAV file", b"AVI ": "an AVI video"}
ISO = {b"heic": "an HEIC image", b"heix": "an HEIC image", b"avif": "an AVIF image",
       b"M4A ": "an M4A file"}  # fmt: skip


def kind_of(head: bytes) -> str | None:
    """The kind of file that begins with these bytes; None for text in UTF-8 and unknown ones.

    `head` are the first HEAD bytes, or all that there are.
    """
    for offset, magic, kind in MAGIC:
        if head.startswith(magic, offset):
            return kind
    if head[:4] == b"RIFF" and head[8:12] in RIFF:
        return RIFF[head[8:12]]
    if head[:3] == bytes(3) and head[4:8] == b"ftyp":
        return ISO.get(head[8:12], "an MP4 video")
    if head[8:10] == b'{"' and head[4:8] == bytes(4):
        return MODEL_FILE
    if head[:2] == b"BM" and head[6:10] == bytes(4):
        return "a BMP image"
    return "a binary file" if b"\0" in head and not is_utf8(head) else None


def is_utf8(head: bytes) -> bool:
    """Whether the bytes are UTF-8; the last character may be incomplete."""
    try:
        head.decode()
    except UnicodeDecodeError as error:
        return error.start > len(head) - 4 and error.reason == "unexpected end of data"
    return True


def is_text(head: bytes) -> bool:
    """Whether the bytes are text in UTF-8, not empty and without control codes."""
    return is_utf8(head) and not re.search(rb"[\x00-\x08\x0e-\x1a]", head) and bool(head.strip())
