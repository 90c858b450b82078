"""Text from files, folders and stdin, plain or compressed, however large: by lines or in blocks."""

import io
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from dlkit.core.environment import command_name, environment_int, world_size
from dlkit.core.errors import DlkitError, os_reason
from dlkit.core.failures import Failure
from dlkit.core.io import streams
from dlkit.core.io.files import check_ends, exists, is_dir, is_file, whole_file
from dlkit.core.io.kinds import HEAD, kind_of
from dlkit.core.progress import Inputs, log

Line = str | Failure  # a line, or in its place a file that cannot be read
BLOCK = 1 << 21  # bytes
BATCH = 1 << 10  # lines
LONGEST_LINE = 1 << 24  # bytes, where lines are inputs
LARGEST_LINE = 1 << 30  # bytes, of a corpus; text without an end is refused, not kept
MARK = b"\xef\xbb\xbf"  # the byte order mark of UTF-8
ZSTD = (
    b"(\xb5/\xfd",
    *(bytes([0x50 + n]) + b"*M\x18" for n in range(16)),
)  # also skippable
ZSTD_INPUT = 1 << 12  # bytes at once: each may become 32,000
DECOMPRESSORS = {"zlib", "_lzma", "zstandard"}  # modules of their errors
BZIP2 = (b"1AY&SY", b"\x17rE8P\x90")  # a block, the end of an empty file
SUFFIXES = (".txt", ".text", ".md", ".raw", ".tok", ".en", ".de", ".fr")  # in folders
COMPRESSED = (".gz", ".zst", ".bz2", ".xz")


def files(sources: Iterable[str]) -> list[str]:
    """The files that arguments name: files themselves, and all text files in folders, sorted."""
    found: list[str] = []
    for source in sources:
        path = Path(source)
        if source != "-" and is_dir(path):
            below = (Path(folder, name) for folder, _, names in os.walk(path) for name in names)
            inside = [p for p in sorted(below) if is_text(p) and is_file(p)]
            found += map(str, inside or [path])  # reading the folder fails with the reason
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
    """Bytes on disk of all sources that can be read; None if one of them is stdin or a pipe."""
    total = 0
    for source in sources:
        if is_pipe(source):
            return None
        with suppress(OSError):  # reading it fails with the reason
            total += Path(source).stat().st_size
    return total


def is_pipe(source: str) -> bool:
    """Whether the source can be read only once: stdin, a pipe, `<(...)`."""
    path = Path(source)
    return source == "-" or (exists(path) and not is_file(path) and not is_dir(path))


def spool(source: str, folder: Path) -> str:
    """The source, or for stdin and a pipe a copy of it in `folder`, which can be read again."""
    if not is_pipe(source):
        return source
    path = folder / ("stdin.txt" if source == "-" else f"{Path(source).name}.txt")
    with reading_errors(source), whole_file(path) as partial, partial.open("wb") as copy:
        if source == "-":
            with stdin() as stream:
                shutil.copyfileobj(streams.binary(stream), copy)
        else:
            with Path(source).open("rb") as pipe:
                shutil.copyfileobj(pipe, copy)
    return str(path)


def is_compressed(source: str) -> bool:
    """Whether the bytes of a file are compressed."""
    with reading_errors(source), Path(source).open("rb") as file:
        return decompress(file) is not file


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
def open_decompressed(source: str) -> Iterator[tuple[BinaryIO, Callable[[], int] | None]]:
    """The bytes of a file or of stdin, decompressed if they begin as gzip, zstd, bzip2 or xz does.

    The function returns the number of bytes read from disk; it is None for a pipe.
    """
    if source == "-":
        with stdin() as stream:
            yield decompress(peekable(streams.binary(stream))), None
        return
    check_ends(Path(source))
    with Path(source).open("rb") as raw:
        yield decompress(raw), raw.tell if raw.seekable() else None


def peekable(file: Any) -> io.BufferedReader:
    """The file with a method `peek`."""
    return file if hasattr(file, "peek") else io.BufferedReader(file)


def decompress(file: io.BufferedReader) -> Any:
    """A reader of the decompressed bytes, by the first bytes of the file."""
    head = file.peek(HEAD)[:HEAD]
    if head.startswith(b"\x1f\x8b"):
        import gzip

        return gzip.GzipFile(fileobj=file)
    if head.startswith(ZSTD):
        return io.BufferedReader(ZstdFile(file), BLOCK)
    if head.startswith(b"BZh") and head[4:10] in BZIP2:
        import bz2

        return bz2.BZ2File(file)
    if head.startswith(b"\xfd7zXZ\x00"):
        import lzma

        return lzma.LZMAFile(file)
    return file


class ZstdFile(io.RawIOBase):
    """The decompressed bytes of zstd frames one after another, of any window.

    zstandard's own reader ends without an error where a frame is cut off.
    """

    def __init__(self, file: BinaryIO) -> None:
        import zstandard

        self.file = file
        self.decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 31)
        self.frame: Any = None
        self.ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self.ready:
            data = self.frame.unused_data if self.frame is not None and self.frame.eof else b""
            data = data or self.file.read(ZSTD_INPUT)
            if not data:
                if self.frame is not None and not self.frame.eof:
                    raise EOFError("the file ends within a frame")
                return 0
            if self.frame is None or self.frame.eof:
                self.frame = self.decompressor.decompressobj()
            self.ready = memoryview(self.frame.decompress(data))
        size = min(len(buffer), len(self.ready))
        buffer[:size] = self.ready[:size]
        self.ready = self.ready[size:]
        return size


@contextmanager
def reading_errors(source: str) -> Iterator[None]:
    """Raise DlkitError for a file that cannot be opened, or of which the compression is damaged."""
    try:
        yield
    except EOFError as error:
        raise DlkitError("a damaged file (it ends too early)", source) from error
    except OSError as error:
        reason = (
            "a damaged file (it cannot be decompressed)"
            if error.errno is None
            else os_reason(error)
        )
        if isinstance(error, IsADirectoryError):
            reason = f"a folder without text files ({', '.join(SUFFIXES)})"
        raise DlkitError(reason, source) from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] in DECOMPRESSORS:
            raise DlkitError("a damaged file (it cannot be decompressed)", source) from error
        if "null byte" in str(error):
            raise DlkitError(os_reason(error), source) from error
        raise


def blocks(
    source: str,
    errors: str = "strict",
    on_read: Callable[[int], None] | None = None,
    on_replaced: Callable[[str], None] | None = None,
    keep_mark: bool = False,
    longest: int = LARGEST_LINE,
) -> Iterator[bytes]:
    """Yield valid UTF-8 in blocks that end with a line (the last one: with the file).

    `on_read` is called with the number of bytes read from disk. With `errors` replace, invalid
    bytes are replaced, and `on_replaced` is called with what was wrong in the block; with
    surrogateescape they are left, as in names of files. A byte order mark at the beginning is
    removed unless `keep_mark`. Raises DlkitError for a file that is unreadable, damaged or, with
    strict, not UTF-8, after the lines before that place; and for a line of more than `longest`
    bytes.
    """
    offset = reported = waiting = number = 0
    parts: list[bytes] = []
    begun = False
    with reading_errors(source), open_decompressed(source) as (file, position):
        # Stdin is read as soon as it has something. Files are read in full blocks, and so is stdin
        # by several processes: all must see the same blocks.
        read = file.read1 if source == "-" and world_size() == 1 else file.read  # type: ignore[attr-defined]
        while data := read(BLOCK):
            if not begun:
                check_kind(data[:HEAD], source)
                if data.startswith(MARK) and not keep_mark:
                    data, offset = data[len(MARK) :], len(MARK)
                begun = True
            if on_read is not None:
                now = offset + len(data) if position is None else position()
                on_read(now - reported)
                reported = now
            end = data.rfind(b"\n") + 1
            first = data.find(b"\n")
            if waiting + (first if end else len(data)) > longest:
                raise DlkitError(
                    f"line {number + 1} has more than {longest >> 20} MiB; cut it into lines",
                    source,
                )
            if end == 0:
                parts.append(data)
                waiting += len(data)
                continue
            whole = b"".join([*parts, data[:end]])
            yield from valid_blocks(whole, source, offset, errors, on_replaced)
            offset += len(whole)
            number += whole.count(b"\n")
            parts = [data[end:]] if end < len(data) else []
            waiting = len(data) - end
        if parts:
            yield from valid_blocks(b"".join(parts), source, offset, errors, on_replaced)


def valid_blocks(
    data: bytes,
    source: str,
    offset: int,
    errors: str,
    on_replaced: Callable[[str], None] | None = None,
) -> Iterator[bytes]:
    """Yield `data` if it is UTF-8, else with invalid bytes replaced, or up to the invalid line."""
    if data.isascii() or errors == "surrogateescape":
        yield data
        return
    try:
        data.decode()
    except UnicodeDecodeError as error:
        name = "stdin" if source == "-" else source
        reason = f"byte {offset + error.start} is not UTF-8 ({error.reason})"
        if errors == "replace":
            if on_replaced is not None:
                on_replaced(f"{name}: {reason}")
            yield data.decode(errors="replace").encode()
            return
        if before := data[: data.rfind(b"\n", 0, error.start) + 1]:
            yield before
        raise DlkitError(f"{reason}; --errors replace continues", name) from error
    yield data


def check_kind(head: bytes, source: str) -> None:
    """Raise DlkitError for the first bytes of a picture, an archive or another file of no text."""
    kind = kind_of(head)
    if kind == "UTF-16 text":
        kind = "text in UTF-16; convert it with iconv -f UTF-16 -t UTF-8"
    if kind is not None:
        raise DlkitError(f"{kind}; {command_name()} reads text", source)


def check_files(files: Sequence[str]) -> None:
    """Raise DlkitError, before a model is loaded, if none of the files has text."""
    wrong = []
    for source in files:
        if not is_file(source):  # a pipe is read only once; a missing file is reported in its turn
            return
        try:
            with open_decompressed(source) as (file, _):
                check_kind(file.read(HEAD), source)
        except DlkitError as error:
            wrong.append(error)
        except Exception:
            return  # a damaged file is reported in its turn
        else:
            return
    if wrong:
        raise wrong[0]


def split_lines(block: bytes) -> list[str]:
    """The lines of a block, without their ends; only \\n ends a line."""
    text = block.decode(errors="surrogateescape")
    return (text[:-1] if text.endswith("\n") else text).split("\n")


def line_batches(
    source: str,
    max_lines: int,
    errors: str = "strict",
    on_replaced: Callable[[str], None] | None = None,
) -> Iterator[list[str]]:
    """Yield up to `max_lines` lines at a time, without their ends; from stdin, as they come.

    Only \\n ends a line, and a \\r before it belongs to the end. `errors` as in `blocks`; a line
    has at most LONGEST_LINE bytes.
    """
    for block in blocks(source, errors, on_replaced=on_replaced, longest=LONGEST_LINE):
        found = [line.removesuffix("\r") for line in split_lines(block)]
        yield from (found[start : start + max_lines] for start in range(0, len(found), max_lines))


def lines(source: str, errors: str = "strict") -> Iterator[str]:
    """Yield the lines of a file, or of stdin for `-`, as `line_batches`."""
    for batch in line_batches(source, BATCH, errors):
        yield from batch


def batches_or_failures(
    sources: Iterable[str], max_lines: int, errors: str = "strict"
) -> Iterator[list[str] | Failure]:
    """Yield the `line_batches` of all sources; a Failure for one that cannot be read to its end.

    Where bytes are replaced, a line on stderr names the first of the source.
    """
    for source in sources:
        name = "stdin" if source == "-" else source
        reported = False

        def report(wrong: str) -> None:
            nonlocal reported
            if not reported:
                log(f"dlkit: {wrong}: such bytes are replaced")
            reported = True

        try:
            yield from line_batches(source, max_lines, errors, report)
        except DlkitError as error:
            yield Failure(name, error.reason_for(name))


def flatten(batches: Iterable[list[str] | Failure]) -> Iterator[Line]:
    """The lines of the batches, and the failures in their places."""
    for batch in batches:
        yield from [batch] if isinstance(batch, Failure) else batch


def lines_or_stdin(
    files: Sequence[str] | None, what: str, text: str | None = None, errors: str = "strict"
) -> Inputs[Line]:
    """`--text` as one text, or the lines of the files, or of stdin if neither is given.

    A file that cannot be read is a Failure in its place. Raises DlkitError as `check_sources` does.
    """
    check_sources(files, what, text)
    if text is not None:
        return Inputs([text], lambda: 1)
    sources = files or ["-"]
    found = flatten(batches_or_failures(sources, BATCH, errors))
    return Inputs(found, partial(count_lines, sources))


def count_lines(sources: Sequence[str]) -> int | None:
    """The number of lines of plain files, counted in blocks; None for stdin and compressed ones."""
    if not all(map(is_file, sources)):
        return None
    total = 0
    for source in sources:
        last = b"\n"
        with Path(source).open("rb") as file:
            if decompress(file) is not file:
                return None
            while block := file.read(BLOCK):
                total += block.count(b"\n")
                last = block[-1:]
        total += last != b"\n"
    return total


def check_sources(files: Sequence[str] | None, what: str, text: str | None = None) -> None:
    """Raise DlkitError where files and `--text` are both given, or neither and stdin is a terminal.

    It is raised as well if none of the files has text, and if only stdin is read and it is closed.
    `what` names the input in the message: "texts", "words".
    """
    if files and text is not None:
        raise DlkitError("--text and files are both given; choose one")
    if not files and text is None and streams.is_terminal(streams.streams().stdin):
        raise DlkitError(f"no {what}; give {what}, files, or lines on stdin (- for a terminal)")
    if text is None and list(files or ["-"]) == ["-"]:
        streams.stdin()  # raises if it is closed
    check_files(files or [])
