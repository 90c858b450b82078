"""Text from files, folders, .gz, .zst and stdin, however large: by lines, or in blocks of lines."""

import gzip
import io
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from dlkit.core.environment import environment_int, world_size
from dlkit.core.errors import DlkitError, os_reason
from dlkit.core.io import streams

BLOCK = 1 << 21  # bytes
SUFFIXES = (".txt", ".text", ".md", ".raw", ".tok", ".en", ".de", ".fr")  # in folders
COMPRESSED = (".gz", ".zst")


def files(sources: Iterable[str]) -> list[str]:
    """The files that arguments name: files themselves, and all text files in folders, sorted."""
    found: list[str] = []
    for source in sources:
        path = Path(source)
        if source != "-" and path.is_dir():
            inside = [p for p in sorted(path.rglob("*")) if p.is_file() and is_text(p)]
            if not inside:
                raise DlkitError(f"no text file in this folder ({', '.join(SUFFIXES)})", source)
            found += map(str, inside)
        else:
            found.append(source)
    return found


def is_text(path: Path) -> bool:
    """Whether the name is that of a text file, which may be compressed."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    return bool(suffixes) and suffixes[-1] in SUFFIXES


def size(sources: Iterable[str]) -> int | None:
    """Bytes on disk of all sources; None if one of them is stdin."""
    total = 0
    for source in sources:
        if source == "-":
            return None
        try:
            total += Path(source).stat().st_size
        except OSError as error:
            raise DlkitError(os_reason(error), source) from error
    return total


def is_file(source: str) -> bool:
    """Whether the source is a file, not stdin or a missing one."""
    return Path(source).is_file()


@contextmanager
def stdin() -> Iterator[TextIO]:
    """Stdin, complete in each of the processes that torchrun started; srun copies it to all itself.

    The processes share one file descriptor, where each would read a part: a file is opened again,
    and a pipe is refused with a DlkitError.
    """
    stream = streams.stdin()
    shared = (environment_int("LOCAL_WORLD_SIZE") or 1) > 1
    if not shared or not isinstance(stream, io.TextIOWrapper):
        yield stream
        return
    kind = os.fstat(stream.fileno()).st_mode
    if stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind):
        raise DlkitError(
            "stdin is a pipe, of which each process under torchrun would read a part; write it to"
            " a file, and give that by name or by < FILE"
        )
    with open(f"/dev/fd/{stream.fileno()}", errors=stream.errors) as own:
        yield own


@contextmanager
def open_decompressed(source: str) -> Iterator[tuple[Any, BinaryIO]]:
    """The decompressed file, and the file on disk under it."""
    if source == "-":
        with stdin() as stream:
            file = streams.binary(stream)
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
    """Yield valid UTF-8 in blocks that end with a line (the last one: with the file).

    `on_read` is called with the number of bytes read from disk. With `errors` replace, invalid
    bytes are replaced, and `on_replaced` is called with what was wrong in the block. Raises
    DlkitError for a file that is unreadable, damaged or, with strict, not UTF-8.
    """
    offset = reported = 0
    parts: list[bytes] = []
    try:
        with open_decompressed(source) as (file, raw):
            # Stdin is read as soon as it has something. Files are read in full blocks, and so is
            # stdin by several processes: all must see the same blocks.
            read = file.read1 if source == "-" and world_size() == 1 else file.read
            while data := read(BLOCK):
                if on_read is not None:
                    position = offset + len(data) if source == "-" else raw.tell()
                    on_read(position - reported)
                    reported = position
                end = data.rfind(b"\n") + 1
                if end == 0:
                    parts.append(data)
                    continue
                whole = b"".join([*parts, data[:end]])
                yield check_utf8(whole, source, offset, errors, on_replaced)
                offset += len(whole)
                parts = [data[end:]] if end < len(data) else []
            if parts:
                yield check_utf8(b"".join(parts), source, offset, errors, on_replaced)
    except (OSError, EOFError) as error:
        raise DlkitError(os_reason(error), source) from error
    except Exception as error:
        if type(error).__module__.startswith(("zlib", "zstandard")) or "zlib" in repr(type(error)):
            raise DlkitError(f"a damaged file ({error})", source) from error
        raise


def check_utf8(
    data: bytes,
    source: str,
    offset: int,
    errors: str,
    on_replaced: Callable[[str], None] | None = None,
) -> bytes:
    """Return `data` if it is UTF-8; otherwise replace invalid bytes, or raise a DlkitError."""
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
        raise DlkitError(f"{wrong}; --errors replace continues") from error
    return data


def split_lines(block: bytes) -> list[str]:
    """The lines of a block, without their ends; only \\n ends a line."""
    text = block.decode()
    return (text[:-1] if text.endswith("\n") else text).split("\n")


def line_batches(
    source: str, max_lines: int, on_replaced: Callable[[str], None] | None = None
) -> Iterator[list[str]]:
    """Yield up to `max_lines` lines at a time, without their ends; from stdin, as they come.

    Bytes that are not UTF-8 are replaced; `on_replaced` is called with what was wrong.
    """
    for block in blocks(source, "replace", on_replaced=on_replaced):
        found = [line.removesuffix("\r") for line in split_lines(block)]
        yield from (found[start : start + max_lines] for start in range(0, len(found), max_lines))


def lines(source: str) -> Iterator[str]:
    """Yield the lines of a file, or of stdin for `-`, without their ends."""
    if source == "-":
        with stdin() as stream:
            yield from (line.rstrip("\r\n") for line in stream)
        return
    try:
        with open_decompressed(source) as (file, _), io.TextIOWrapper(file, "utf-8") as text:
            yield from (line.rstrip("\r\n") for line in text)
    except UnicodeDecodeError as error:
        raise DlkitError(f"not UTF-8 ({error.reason} at byte {error.start})", source) from error
    except OSError as error:
        raise DlkitError(os_reason(error), source) from error


def lines_or_stdin(
    files: Sequence[str] | None, what: str, text: str | None = None
) -> Iterator[str]:
    """The lines of `--text`, of the files, or of stdin if neither is given.

    Raises DlkitError as `check_sources` does.
    """
    check_sources(files, what, text)
    if text is not None:
        return iter(text.split("\n"))
    return (line for file in files or ["-"] for line in lines(file))


def check_sources(files: Sequence[str] | None, what: str, text: str | None = None) -> None:
    """Raise DlkitError where files and `--text` are both given, or neither and stdin is a terminal.

    `what` names the input in the message: "texts", "words".
    """
    if files and text is not None:
        raise DlkitError("--text and files are both given; choose one")
    if not files and text is None and streams.is_terminal(streams.streams().stdin):
        raise DlkitError(f"no {what}; give {what}, files, or lines on stdin (- for a terminal)")
