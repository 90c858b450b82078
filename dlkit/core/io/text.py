"""Reading text, however large: files, folders, .gz, .zst, stdin; by lines, or in blocks of them."""

import gzip
import io
import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from dlkit.core.environment import world_size
from dlkit.core.errors import DlkitError

BLOCK = 1 << 21
SUFFIXES = (".txt", ".text", ".md", ".raw", ".tok", ".en", ".de", ".fr")  # in folders
PACKED = (".gz", ".zst")


def files(corpus: Iterable[str]) -> list[str]:
    """The files that arguments name: themselves, or all text files in a folder, sorted."""
    found: list[str] = []
    for source in corpus:
        path = Path(source)
        if source != "-" and path.is_dir():
            inside = [p for p in sorted(path.rglob("*")) if p.is_file() and is_text(p)]
            if not inside:
                raise DlkitError(f"{source}: no text file in this folder ({', '.join(SUFFIXES)})")
            found += map(str, inside)
        else:
            found.append(source)
    return found


def is_text(path: Path) -> bool:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in PACKED:
        suffixes.pop()
    return bool(suffixes) and suffixes[-1] in SUFFIXES


def size(sources: Iterable[str]) -> int | None:
    """Bytes to read, as they lie on disk; None with stdin."""
    total = 0
    for source in sources:
        if source == "-":
            return None
        try:
            total += Path(source).stat().st_size
        except OSError as error:
            raise DlkitError(f"{source}: {error.strerror}") from error
    return total


def binary(stream: Any) -> Any:
    """The bytes under a text stream."""
    return stream.buffer if hasattr(stream, "buffer") else io.BytesIO(stream.read().encode())


@contextmanager
def stdin() -> Iterator[TextIO]:
    """Stdin, whole for each of the processes that torchrun started; srun itself copies it to all.

    They share one file descriptor: what one has read, the others miss. A file is opened anew.
    """
    shared = int(os.environ.get("LOCAL_WORLD_SIZE") or 1) > 1
    if not shared or not isinstance(sys.stdin, io.TextIOWrapper):
        yield sys.stdin
        return
    kind = os.fstat(sys.stdin.fileno()).st_mode
    if stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind):
        raise DlkitError(
            "stdin is a pipe, of which each process under torchrun would read a part: write it to"
            " a file, and give that by name or by < FILE"
        )
    with open(f"/dev/fd/{sys.stdin.fileno()}", errors=sys.stdin.errors) as own:
        yield own


def is_file(source: str) -> bool:
    return Path(source).is_file()


@contextmanager
def opened(source: str) -> Iterator[tuple[Any, BinaryIO]]:
    """The file, unpacked, and the file on disk below it."""
    if source == "-":
        with stdin() as stream:
            file = binary(stream)
            yield file, file
        return
    with Path(source).open("rb") as raw:
        if source.endswith(".gz"):
            yield gzip.GzipFile(fileobj=raw), raw
        elif source.endswith(".zst"):
            import zstandard

            yield zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True), raw
        else:
            yield raw, raw


def blocks(
    source: str,
    errors: str = "strict",
    on_read: Callable[[int], None] | None = None,
    on_replaced: Callable[[str], None] | None = None,
) -> Iterator[bytes]:
    """Valid UTF-8 that ends with a line (the last block: with the file), as soon as it is there.

    `on_read` is told how many bytes were read from disk, `on_replaced` what was wrong in a block
    whose bytes were replaced.
    """
    offset = told = 0
    parts: list[bytes] = []
    try:
        with opened(source) as (file, raw):
            # What stdin holds is taken at once. A file is read in full blocks, and so is stdin by
            # several processes: all must see the same blocks.
            read = file.read1 if source == "-" and world_size() == 1 else file.read
            while data := read(BLOCK):
                if on_read is not None:
                    now = offset + len(data) if source == "-" else raw.tell()
                    on_read(now - told)
                    told = now
                end = data.rfind(b"\n") + 1
                if end == 0:
                    parts.append(data)
                    continue
                whole = b"".join([*parts, data[:end]])
                yield checked(whole, source, offset, errors, on_replaced)
                offset += len(whole)
                parts = [data[end:]] if end < len(data) else []
            if parts:
                yield checked(b"".join(parts), source, offset, errors, on_replaced)
    except (OSError, EOFError) as error:
        raise DlkitError(f"{source}: {getattr(error, 'strerror', None) or error}") from error
    except Exception as error:
        if type(error).__module__.startswith(("zlib", "zstandard")) or "zlib" in repr(type(error)):
            raise DlkitError(f"{source}: a damaged file ({error})") from error
        raise


def checked(
    data: bytes,
    source: str,
    offset: int,
    errors: str,
    on_replaced: Callable[[str], None] | None = None,
) -> bytes:
    """`data` if it is UTF-8; else an error that says where, or with replacement characters."""
    if data.isascii():
        return data
    try:
        data.decode()
    except UnicodeDecodeError as error:
        wrong = (
            f"{'stdin' if source == '-' else source}: byte {offset + error.start} is not UTF-8 "
            f"({error.reason})"
        )
        if errors == "replace":
            if on_replaced is not None:
                on_replaced(wrong)
            return data.decode(errors="replace").encode()
        raise DlkitError(f"{wrong}; --errors replace goes on") from error
    return data


def lines_of(block: bytes) -> list[str]:
    """The lines of a block, without their ends; only \\n ends a line."""
    text = block.decode()
    return (text[:-1] if text.endswith("\n") else text).split("\n")


def line_batches(
    source: str, most: int, on_replaced: Callable[[str], None] | None = None
) -> Iterator[list[str]]:
    """Up to `most` lines at a time, without their ends; from stdin, those that are there by now.

    Bytes that are not UTF-8 are replaced, which `on_replaced` is told of.
    """
    for block in blocks(source, "replace", on_replaced=on_replaced):
        found = [line.removesuffix("\r") for line in lines_of(block)]
        yield from (found[start : start + most] for start in range(0, len(found), most))


def lines(source: str) -> Iterator[str]:
    """The lines of a file, or of stdin for `-`, without their ends."""
    if source == "-":
        with stdin() as stream:
            yield from (line.rstrip("\r\n") for line in stream)
        return
    try:
        with opened(source) as (file, _), io.TextIOWrapper(file, "utf-8") as text:
            yield from (line.rstrip("\r\n") for line in text)
    except UnicodeDecodeError as error:
        raise DlkitError(f"{source}: not UTF-8 ({error.reason} at byte {error.start})") from error
    except OSError as error:
        raise DlkitError(f"{source}: {error.strerror or error}") from error
