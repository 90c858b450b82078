"""Tokens of text files by several tokenizers. Files are read once, in blocks."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.core.io import text as reading
from dlkit.core.io.results import Result
from dlkit.core.progress import Bar
from dlkit.tokenize.infer import load
from dlkit.tokenize.model import COMPILED_SIZE, Tokenizer

ALL = "all"


@dataclass(frozen=True)
class TokenCount(Result):
    """The tokens of a file, or of all, by one tokenizer; characters and bytes are of its texts."""

    file: str
    model: str
    texts: int
    characters: int
    bytes: int
    tokens: int
    characters_per_token: float
    bytes_per_token: float


@dataclass
class Sums:
    """The size of the texts, and the tokens by each tokenizer."""

    tokens: list[int]
    texts: int = 0
    characters: int = 0
    bytes: int = 0

    def add(self, other: "Sums") -> None:
        self.texts += other.texts
        self.characters += other.characters
        self.bytes += other.bytes
        self.tokens = [a + b for a, b in zip(self.tokens, other.tokens, strict=True)]

    def counts(self, file: str, models: Sequence[str]) -> Iterator[TokenCount]:
        """The result of each model."""
        for model, tokens in zip(models, self.tokens, strict=True):
            sizes = self.texts, self.characters, self.bytes, tokens
            by_token = (
                round(size / tokens, 4) if tokens else 0.0 for size in (self.characters, self.bytes)
            )
            yield TokenCount(file, model, *sizes, *by_token)


class Counter:
    """The number of tokens of blocks by one tokenizer; compiled code counts large inputs."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.tokenizer: Tokenizer = load(model)
        self.size = 0

    def count(self, block: bytes, texts: Sequence[str], whole: bool, workers: int) -> int:
        """The tokens of the texts of a block. Raises DlkitError for one that has none."""
        self.size += len(block)
        try:
            if self.size > COMPILED_SIZE and (encoder := self.tokenizer.compiled_encoder()):
                return len(encoder.id_encoder(whole)(block)[0])
            return sum(map(len, self.tokenizer.encode_batch(texts, workers)))
        except DlkitError as error:
            raise DlkitError(f"{self.model}: {error}") from error


def count_block(block: bytes, counters: Sequence[Counter], whole: bool, workers: int) -> Sums:
    """The sums of a block."""
    texts = [block.decode()] if whole else reading.split_lines(block)
    return Sums(
        [counter.count(block, texts, whole, workers) for counter in counters],
        len(texts),
        sum(map(len, texts)),
        len(block) if whole else len(block) - block.count(b"\n"),
    )


def count_tokens(
    sources: Sequence[str],
    models: Sequence[str],
    whole: bool = False,
    errors: str = "strict",
    workers: int = 2,
) -> Iterator[TokenCount | Failure]:
    """Yield the tokens of each file by each model, and of all files if there are several.

    A text is a line without its end, or with `whole` a file. Tokens around a text, such as [CLS],
    are not counted. A file that cannot be read, or encoded by one of the models, is a Failure.
    """
    counters = [Counter(model) for model in models]
    paths = reading.files(sources)
    total = Sums([0] * len(models))
    done = 0
    bar = Bar("counting", reading.size(paths), unit="bytes")
    try:
        for path in paths:
            sums = Sums([0] * len(models))
            try:
                blocks: Iterable[bytes] = reading.blocks(
                    path, errors, lambda read: bar.advance(by=read), keep_mark=True
                )
                for block in [b"".join(blocks)] if whole else blocks:
                    sums.add(count_block(block, counters, whole, workers))
            except DlkitError as error:
                yield Failure(path, error.reason_for(path))
                continue
            done += 1
            total.add(sums)
            yield from sums.counts(path, models)
    finally:
        bar.close()
    if done > 1:
        yield from total.counts(ALL, models)
