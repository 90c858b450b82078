"""Loading of tokenizers, and encoding and decoding of streams of lines."""

import itertools
import select
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.core.io import text as reading
from dlkit.core.io.files import exists
from dlkit.core.io.results import TextResult, html_tokens
from dlkit.core.io.streams import streams
from dlkit.core.parallel.sharding import Shard, join_processes, map_shard
from dlkit.core.progress import Bar
from dlkit.core.store.hub import PREFIX, fetch_tokenizer
from dlkit.core.store.weights import bundled, cached, find
from dlkit.tokenize.config import DEFAULT_MODEL
from dlkit.tokenize.data import map_ahead
from dlkit.tokenize.model import COMPILED_SIZE, ByteBPE, Span, Tokenizer
from dlkit.tokenize.readers.files import read_paths

if TYPE_CHECKING:
    from dlkit.tokenize.compiled_encode import Encoder
    from dlkit.tokenize.ids_files import IdBlock

T = TypeVar("T")
Buffer = bytes | memoryview
IDS_FILES = (".npy", ".bin")  # see ids_files.py, which loads numpy
MAX_LINE = 1 << 24  # characters of a line whose tokens become Python objects, 100 bytes each
TOKEN_COLORS = ("#cfe8ff", "#ffe3c2", "#d8f5d0", "#f6d5e8", "#fff3b0")
GATHERED_BLOCKS = 4  # of each process, that are exchanged together


@dataclass(frozen=True)
class EncodedLine(TextResult):
    """An encoded line; the offsets are start and end of each token in characters."""

    text: str
    tokens: list[str]
    ids: list[int]
    offsets: list[Span] | None

    def __str__(self) -> str:
        return " ".join(map(format_token, self.tokens))

    def _repr_html_(self) -> str:
        """The tokens in colors that alternate; the mouse shows their ids."""
        colors = itertools.cycle(TOKEN_COLORS)
        shown = zip(map(format_token, self.tokens), map(str, self.ids), colors, strict=False)
        return html_tokens(shown)


def load(
    model: str | Path = DEFAULT_MODEL, device: str = "auto", precision: str = "auto"
) -> Tokenizer:
    """Load a tokenizer by name, file, folder, URL or `hf:OWNER/NAME` of Hugging Face's hub.

    The file may be another tool's: see readers. `device` and `precision` do not matter.
    """
    name = str(model)
    if name.startswith(PREFIX):
        return read_paths([fetch_tokenizer(name)])
    bundled_names = {path.stem for path in [*cached("tokenize"), *bundled("tokenize")]}
    if name not in bundled_names and exists(name):
        return read_paths([Path(name)])
    return read_paths([find("tokenize", name)])


def is_ids_file(name: str | Path) -> bool:
    """Whether a file with this name is one of ids: NumPy's, or plain numbers."""
    return Path(name).suffix in IDS_FILES


def check_dropout(dropout: float, offsets: bool) -> None:
    """Raise DlkitError for a probability out of range, or one with offsets."""
    if not 0 <= dropout < 1:
        raise DlkitError(f"--dropout {dropout}: must be at least 0 and below 1")
    if dropout and offsets:
        raise DlkitError("--dropout: cannot be combined with --offsets")


def format_token(token: str) -> str:
    """Print a token as one word: spaces as ▁, other white space and control characters escaped."""
    if token.isprintable() and " " not in token:
        return token
    token = token.replace(" ", "▁")
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in token)


@dataclass(frozen=True)
class EncodeOptions:
    """Settings of the encoding of lines."""

    ids: bool = False
    offsets: bool = False
    parse_special: bool = False
    dropout: float = 0.0
    errors: str = "strict"
    workers: int = 2
    bar: bool = False  # a progress bar on a terminal
    add_special: bool = True  # the tokens that the tokenizer's file puts around each text
    whole: bool = False  # each file is one text, with its line ends


def encode_lines(
    sources: Sequence[str],
    text: str | None,
    tokenizer: Tokenizer,
    options: EncodeOptions,
    shard: Shard | None = None,
) -> Iterator[EncodedLine | Failure]:
    """Encode each line, in order; yield a Failure for a file that cannot be read.

    Only the `shard` of the lines is encoded; without a shard, the processes share them.
    """

    whole = options.whole or text is not None

    def lines() -> Iterator[str | Failure]:
        for block in read_blocks(sources, text, options.errors, options.bar, whole):
            if isinstance(block, Failure):
                yield block
            else:
                yield from split_block(block, whole)

    def results(shared: Iterator[str | Failure]) -> Iterator[EncodedLine | Failure]:
        for line in shared:
            if isinstance(line, Failure):
                yield line
                continue
            yield encode_line(
                line,
                tokenizer,
                options.offsets,
                options.parse_special,
                options.dropout,
                options.add_special,
            )

    return map_shard(results, lines(), shard=shard)


def encode_line(
    line: str,
    tokenizer: Tokenizer,
    offsets: bool,
    parse_special: bool,
    dropout: float,
    add_special: bool = True,
) -> EncodedLine:
    """Encode a line, or another text."""
    if not offsets:
        ids = tokenizer.encode(line, parse_special, dropout)
        return make_line(line, tokenizer.add_special(ids) if add_special else ids, tokenizer)
    found = tokenizer.encode_spans(line, parse_special)
    if add_special:
        found = tokenizer.add_special_spans(found)
    return make_line(line, [i for i, _ in found], tokenizer, [span for _, span in found])


def make_line(
    line: str, ids: list[int], tokenizer: Tokenizer, offsets: list[Span] | None = None
) -> EncodedLine:
    """The result for a line with these ids."""
    return EncodedLine(line, [tokenizer.names[i] for i in ids], ids, offsets)


def encode_text(
    sources: Sequence[str], text: str | None, tokenizer: Tokenizer, options: EncodeOptions
) -> Iterator[Buffer | Failure]:
    """Print lines of tokens or ids into blocks; large inputs are encoded by compiled code.

    The processes under torchrun share the blocks.
    """
    name: Callable[[int], str] = str if options.ids else lambda i: format_token(tokenizer.names[i])
    whole = options.whole or text is not None

    def encode_block(block: bytes) -> bytes:
        encoded = []
        for line in split_block(block, whole):
            if options.offsets:
                spans = tokenizer.encode_spans(line, options.parse_special)
                if options.add_special:
                    spans = tokenizer.add_special_spans(spans)
                encoded.append(" ".join(f"{name(i)}:{a}-{b}" for i, (a, b) in spans))
            else:
                ids = encode_options(tokenizer, line, options)
                encoded.append(" ".join(map(name, ids)))
        return ("\n".join(encoded) + "\n").encode()

    def compiled(encoder: "Encoder") -> Callable[[bytes], Buffer]:
        encode = encoder.text_encoder(name, whole)
        around = special_around(tokenizer, options)
        if around is None or not any(around):
            return encode
        before, after = (" ".join(map(name, ids)).encode() for ids in around)

        def encode_compiled(block: bytes) -> bytes:
            lines = bytes(encode(block)).split(b"\n")[:-1]
            found = (b" ".join(filter(None, (before, line, after))) for line in lines)
            return b"".join(line + b"\n" for line in found)

        return encode_compiled

    return encode_blocks(sources, text, tokenizer, options, encode_block, compiled)


def encode_options(tokenizer: Tokenizer, text: str, options: EncodeOptions) -> list[int]:
    """The ids of a text, with the tokens around it."""
    ids = tokenizer.encode(text, options.parse_special, options.dropout)
    return tokenizer.add_special(ids) if options.add_special else ids


def special_around(
    tokenizer: Tokenizer, options: EncodeOptions
) -> tuple[list[int], list[int]] | None:
    """The ids before and after each text; None if they are not of this kind."""
    text = -1  # in the place of its ids
    found = tokenizer.add_special([text]) if options.add_special else [text]
    if found.count(text) != 1:
        return None
    at = found.index(text)
    return found[:at], found[at + 1 :]


def encode_ids(
    sources: Sequence[str],
    text: str | None,
    tokenizer: Tokenizer,
    options: EncodeOptions,
    end: int | None = None,
) -> "Iterator[IdBlock | Failure]":
    """The ids of all texts in blocks for a file of ids; `end` follows each text.

    The processes under torchrun share the blocks.
    """
    import numpy as np

    from dlkit.tokenize.ids_files import IdBlock, id_type

    dtype = id_type(tokenizer)
    whole = options.whole or text is not None

    def encode_block(block: bytes) -> IdBlock:
        ids: list[int] = []
        texts = 0
        for line in split_block(block, whole):
            ids += encode_options(tokenizer, line, options)
            ids += [] if end is None else [end]
            texts += 1
        return IdBlock(np.array(ids, dtype).tobytes(), texts)

    def compiled(encoder: "Encoder") -> Callable[[bytes], IdBlock]:
        encode = encoder.id_encoder(whole)
        before, after = special_around(tokenizer, options) or ([], [])
        after = after if end is None else [*after, end]

        def encode_compiled(block: bytes) -> IdBlock:
            ids, ends = encode(block)
            if before or after:
                starts = np.append(0, ends[:-1])
                places = np.repeat(np.stack([starts, ends], 1), (len(before), len(after)), 1)
                ids = np.insert(ids, places.ravel(), np.tile([*before, *after], len(ends)))
            return IdBlock(ids.astype(dtype).tobytes(), len(ends))

        return encode_compiled

    return encode_blocks(sources, text, tokenizer, options, encode_block, compiled)


def encode_blocks(
    sources: Sequence[str],
    text: str | None,
    tokenizer: Tokenizer,
    options: EncodeOptions,
    encode_block: Callable[[bytes], T],
    compiled: "Callable[[Encoder], Callable[[bytes], T]]",
) -> Iterator[T | Failure]:
    """The result of each block: of `encode_block`, and in large inputs of compiled code."""
    live = text is None and "-" in sources
    ordinary = not (options.offsets or options.parse_special or options.dropout or tokenizer.added)
    ordinary = ordinary and special_around(tokenizer, options) is not None

    def results(blocks: Iterator[bytes | Failure]) -> Iterator[T | Failure]:
        size = 0
        for block in blocks:
            if isinstance(block, Failure):
                yield block
                continue
            size += len(block)
            if ordinary and size > COMPILED_SIZE and (encoder := tokenizer.compiled_encoder()):
                encode_compiled = compiled(encoder)
                yield encode_compiled(block)
                yield from map_in_threads(encode_compiled, blocks, options.workers, live)
                return
            yield encode_block(block)

    whole = options.whole or text is not None
    blocks = read_blocks(sources, text, options.errors, options.bar, whole)
    return map_shared(results, blocks)


def map_shared(
    work: Callable[[Iterator[Any]], Iterator[T | Failure]], blocks: Iterator[Any]
) -> Iterator[T | Failure]:
    """The results of `work(blocks)`, in order; the processes under torchrun share the blocks."""
    with join_processes() as process:
        results = work(process.share(blocks))
        if process.world_size > 1:  # a memoryview cannot be sent
            results = (
                cast(T, bytes(result)) if isinstance(result, memoryview) else result
                for result in results
            )
        yield from process.gather(results, GATHERED_BLOCKS)


def split_block(block: bytes, whole: bool) -> Iterator[str]:
    """The lines of a block, or all of it as one text. Raises DlkitError for a text too long."""
    lines = [block.decode(errors="surrogateescape")] if whole else reading.split_lines(block)
    for line in lines:
        if len(line) > MAX_LINE:
            raise DlkitError(
                f"a text of {len(line)} characters is too long for this tokenizer, format or "
                f"option (at most {MAX_LINE}); plain text output of tokens or ids has no limit"
            )
        yield line


def map_in_threads(
    work: Callable[[bytes], T], blocks: Iterator[bytes | Failure], workers: int, live: bool
) -> Iterator[T | Failure]:
    """Yield `work(block)` in order. With `live`, results do not wait for more text on stdin."""

    def work_or_pass(block: bytes | Failure) -> T | Failure:
        return block if isinstance(block, Failure) else work(block)

    with ThreadPoolExecutor(workers) as pool:
        yield from map_ahead(
            pool, work_or_pass, blocks, workers, lambda: live and not stdin_is_ready()
        )


def stdin_is_ready() -> bool:
    """Whether the next read returns at once."""
    stream = streams().stdin
    try:
        return stream is not None and bool(select.select([stream], [], [], 0)[0])
    except (OSError, ValueError):  # stdin is closed, or Windows
        return False


def read_blocks(
    sources: Sequence[str], text: str | None, errors: str, bar: bool = False, whole: bool = False
) -> Iterator[bytes | Failure]:
    """Blocks of lines of a text or of the sources, with a Failure for each that is unreadable.

    With `whole` each source is a block.
    """
    if text is not None:
        yield text.encode("utf-8", "replace")
        return
    paths = reading.files(sources)
    progress = Bar("encoding", reading.size(paths), unit="bytes") if bar else None
    on_read = None if progress is None else lambda read: progress.advance(by=read)
    try:
        for source in paths:
            try:
                blocks = reading.blocks(source, errors, on_read, keep_mark=True)
                yield from [b"".join(blocks)] if whole else blocks
            except DlkitError as error:
                yield Failure(source, error.reason_for(source))
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
    """Decode lines of ids (or of tokens), or files of ids, into blocks of text.

    The processes under torchrun share the blocks.
    """
    numbers = {format_token(token): i for i, token in tokenizer.names.items()}

    def parse_id(word: str) -> int:
        if tokens:
            if word not in numbers:
                raise DlkitError(f"{word!r} is not in the vocabulary")
            return numbers[word]
        try:
            return int(word)
        except ValueError:
            raise DlkitError(f"{word!r} is not an id") from None

    def blocks() -> Iterator[bytes | Failure]:
        """Lines of ids or tokens, a Failure in the place of a file that cannot be read."""
        if text is not None:
            yield from read_blocks([], text, "strict")
            return
        for source in sources:
            if not is_ids_file(source):
                yield from read_blocks([source], None, "strict")
                continue
            from dlkit.tokenize.ids_files import read_lines

            try:
                yield from read_lines(Path(source), tokenizer, MAX_LINE)
            except DlkitError as error:
                yield Failure(source, error.reason_for(source))

    def numbered_blocks() -> Iterator[tuple[int, bytes | Failure]]:
        """The blocks, each with the number of lines before it."""
        before = 0
        for block in blocks():
            yield before, block
            if not isinstance(block, Failure):
                before += block.count(b"\n") + (not block.endswith(b"\n"))

    def results(shared: Iterator[tuple[int, bytes | Failure]]) -> Iterator[Buffer | Failure]:
        for before, block in shared:
            if isinstance(block, Failure):
                yield block
                continue
            decoded = []
            for number, line in enumerate(reading.split_lines(block), before + 1):
                try:
                    ids = map(parse_id, line.split())
                    decoded.append(decode_line(tokenizer, ids, skip_special))
                except DlkitError as error:
                    raise DlkitError(f"line {number}: {error}") from error
            yield b"\n".join(decoded) + b"\n"

    return map_shared(results, numbered_blocks())


def decode_line(tokenizer: Tokenizer, ids: Iterable[int], skip_special: bool) -> bytes:
    """The bytes of a line; if the tokens are bytes, exactly those that were encoded."""
    if isinstance(tokenizer, ByteBPE):
        return tokenizer.decode_bytes(ids, skip_special)
    return tokenizer.decode(ids, skip_special).encode()
