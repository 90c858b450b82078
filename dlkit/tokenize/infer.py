"""Loading a tokenizer, and encoding and decoding streams of lines."""

import select
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.core.io import text as reading
from dlkit.core.parallel.sharding import Shard, join_processes, map_shard
from dlkit.core.progress import Bar
from dlkit.core.store.weights import find
from dlkit.tokenize.config import DEFAULT_MODEL
from dlkit.tokenize.model import MANY, Span, Tokenizer, from_json

Buffer = bytes | memoryview
LONGEST_LINE = 1 << 24  # characters of a line whose tokens become Python objects, 100 bytes each
BLOCKS_AT_ONCE = 4  # of each process that are exchanged together


@dataclass(frozen=True)
class Line:
    """What one line became; offsets count the line's characters."""

    text: str
    tokens: list[str]
    ids: list[int]
    offsets: list[Span] | None


def load(model: str | Path = DEFAULT_MODEL) -> Tokenizer:
    """The tokenizer of this name, file or URL."""
    path = find("tokenize", str(model))
    try:
        return from_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise DlkitError(f"{path}: cannot be read ({error})") from error
    except DlkitError as error:
        raise DlkitError(f"{path}: {error}") from error


def shown(token: str) -> str:
    """A token as one word of a line: spaces as ▁, other white space and controls escaped."""
    if token.isprintable() and " " not in token:
        return token
    token = token.replace(" ", "▁")
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in token)


@dataclass(frozen=True)
class Options:
    """How lines are encoded."""

    ids: bool = False
    offsets: bool = False
    parse_special: bool = False
    dropout: float = 0.0
    errors: str = "strict"
    workers: int = 2
    bar: bool = False  # show how far it is, on a terminal


def encode_lines(
    sources: Sequence[str],
    text: str | None,
    tokenizer: Tokenizer,
    options: Options,
    shard: Shard | None = None,
) -> Iterator[Line | Failure]:
    """A record for each line, in order; a Failure for a file that cannot be read.

    Only the `shard` of the lines is encoded; without one, the processes share them.
    """

    def lines() -> Iterator[str | Failure]:
        for block in each_block(sources, text, options.errors, options.bar):
            if isinstance(block, Failure):
                yield block
            else:
                yield from short_lines(block)

    def results(shared: Iterator[str | Failure]) -> Iterator[Line | Failure]:
        for line in shared:
            if isinstance(line, Failure):
                yield line
                continue
            if options.offsets:
                found = tokenizer.encode_spans(line, options.parse_special)
                ids, offsets = [i for i, _ in found], [span for _, span in found]
            else:
                ids = tokenizer.encode(line, options.parse_special, options.dropout)
                offsets = None
            yield Line(line, [tokenizer.names[i] for i in ids], ids, offsets)

    return map_shard(results, lines(), shard=shard)


def encode_text(
    sources: Sequence[str], text: str | None, tokenizer: Tokenizer, options: Options
) -> Iterator[Buffer | Failure]:
    """Lines of tokens or ids as they are printed, in blocks; large inputs by compiled code.

    The processes under torchrun share the blocks.
    """
    name: Callable[[int], str] = str if options.ids else lambda i: shown(tokenizer.names[i])
    ordinary = not (options.offsets or options.parse_special or options.dropout)

    def write(block: bytes) -> bytes:
        written = []
        for line in short_lines(block):
            if options.offsets:
                spans = tokenizer.encode_spans(line, options.parse_special)
                written.append(" ".join(f"{name(i)}:{a}-{b}" for i, (a, b) in spans))
            else:
                ids = tokenizer.encode(line, options.parse_special, options.dropout)
                written.append(" ".join(map(name, ids)))
        return ("\n".join(written) + "\n").encode()

    def results(blocks: Iterator[bytes | Failure]) -> Iterator[Buffer | Failure]:
        size = 0
        for block in blocks:
            if isinstance(block, Failure):
                yield block
                continue
            size += len(block)
            if ordinary and size > MANY and (encoder := tokenizer.compiled_encoder()):
                compiled = encoder.writer(name)
                yield compiled(block)
                live = text is None and "-" in sources
                yield from in_threads(compiled, blocks, options.workers, live)
                return
            yield write(block)

    return dealt_out(results, each_block(sources, text, options.errors, options.bar))


def dealt_out(
    work: Callable[[Iterator[Any]], Iterator[Buffer | Failure]], blocks: Iterator[Any]
) -> Iterator[Buffer | Failure]:
    """What `work` makes of the blocks, in their order; the processes under torchrun share them."""
    with join_processes() as process:
        results = work(process.share(blocks))
        if process.world_size > 1:  # a memoryview cannot be sent
            results = (bytes(r) if isinstance(r, memoryview) else r for r in results)
        yield from process.gather(results, BLOCKS_AT_ONCE)


def short_lines(block: bytes) -> Iterator[str]:
    for line in reading.split_lines(block):
        if len(line) > LONGEST_LINE:
            raise DlkitError(
                f"a line of {len(line)} characters is too long (at most {LONGEST_LINE}) for this "
                "tokenizer, format or option; plain text output of tokens or ids has no limit"
            )
        yield line


def in_threads(
    work: Callable[[bytes], Buffer], blocks: Iterator[bytes | Failure], workers: int, live: bool
) -> Iterator[Buffer | Failure]:
    """`work(block)` in order, a few blocks ahead; `live`: but nothing waits for a silent stdin."""
    with ThreadPoolExecutor(workers) as pool:
        ahead: deque[Future[Buffer] | Failure] = deque()
        for block in blocks:
            ahead.append(block if isinstance(block, Failure) else pool.submit(work, block))
            while ahead and (len(ahead) > workers + 1 or (live and not stdin_is_ready())):
                yield result(ahead.popleft())
        while ahead:
            yield result(ahead.popleft())


def result(job: Any) -> Buffer | Failure:
    return job if isinstance(job, Failure) else job.result()


def stdin_is_ready() -> bool:
    """Whether reading on would return at once."""
    try:
        return bool(select.select([sys.stdin], [], [], 0)[0])
    except (OSError, ValueError):  # no stdin, or Windows
        return False


def each_block(
    sources: Sequence[str], text: str | None, errors: str, bar: bool = False
) -> Iterator[bytes | Failure]:
    """Blocks of lines of a text or of the sources, with a Failure for what cannot be read."""
    if text is not None:
        yield text.encode("utf-8", "replace")
        return
    paths = reading.files(sources)
    there = [path for path in paths if path == "-" or reading.is_file(path)]
    progress = Bar("encoding", reading.size(there), unit="bytes") if bar else None
    on_read = None if progress is None else lambda read: progress.advance(by=read)
    try:
        for source in paths:
            try:
                yield from reading.blocks(source, errors, on_read)
            except DlkitError as error:
                yield Failure(source, str(error).removeprefix(f"{source}: "))
    finally:
        if progress is not None:
            progress.close()


def decode_lines(
    sources: Sequence[str],
    text: str | None,
    tokenizer: Tokenizer,
    tokens: bool = False,
    skip_special: bool = False,
) -> Iterator[Buffer | Failure]:
    """The text of lines of ids (or of tokens), in blocks.

    The processes under torchrun share the blocks.
    """
    numbers = {shown(token): i for i, token in tokenizer.names.items()}

    def id_of(word: str) -> int:
        if tokens:
            if word not in numbers:
                raise DlkitError(f"{word!r} is not in the vocabulary")
            return numbers[word]
        try:
            return int(word)
        except ValueError:
            raise DlkitError(f"{word!r} is not an id") from None

    def numbered() -> Iterator[tuple[int, bytes | Failure]]:
        """The blocks, each with how many lines are before it."""
        before = 0
        for block in each_block(sources, text, "strict"):
            yield before, block
            if not isinstance(block, Failure):
                before += block.count(b"\n") + (not block.endswith(b"\n"))

    def results(shared: Iterator[tuple[int, bytes | Failure]]) -> Iterator[Buffer | Failure]:
        for before, block in shared:
            if isinstance(block, Failure):
                yield block
                continue
            written = []
            for number, line in enumerate(reading.split_lines(block), before + 1):
                try:
                    written.append(decoded(tokenizer, map(id_of, line.split()), skip_special))
                except DlkitError as error:
                    raise DlkitError(f"line {number}: {error}") from error
            yield b"\n".join(written) + b"\n"

    return dealt_out(results, numbered())


def decoded(tokenizer: Tokenizer, ids: Iterable[int], skip_special: bool) -> bytes:
    """The bytes of a line; exactly those that were encoded, where tokens are bytes."""
    if hasattr(tokenizer, "decode_bytes"):
        return tokenizer.decode_bytes(ids, skip_special)
    return tokenizer.decode(ids, skip_special).encode()
