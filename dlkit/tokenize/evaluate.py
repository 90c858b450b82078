"""Scores of a tokenizer on text: tokens per word, unknown tokens, round trips, speed."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.core.io import text as reading
from dlkit.core.io.results import Result
from dlkit.core.progress import Bar
from dlkit.tokenize.config import DEFAULT_MODEL
from dlkit.tokenize.infer import load
from dlkit.tokenize.model import COMPILED_SIZE, Tokenizer


@dataclass(frozen=True)
class TextScores(Result):
    """The scores of one file, or of `all`; words are separated by white space."""

    file: str
    lines: int
    words: int
    characters: int
    bytes: int
    tokens: int
    tokens_per_word: float
    characters_per_token: float
    bytes_per_token: float
    unknown_rate: float
    round_trip_errors: int  # lines that differ after encoding and decoding
    megabytes_per_second: float


@dataclass
class Tally:
    """The sums that the scores are computed from."""

    lines: int = 0
    words: int = 0
    characters: int = 0
    bytes: int = 0
    tokens: int = 0
    unknown: int = 0
    errors: int = 0
    seconds: float = 0.0

    def add(self, other: "Tally") -> None:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    def scores(self, file: str) -> TextScores:
        def ratio(a: float, b: float) -> float:
            return round(a / b, 4) if b else 0.0

        return TextScores(
            file,
            self.lines,
            self.words,
            self.characters,
            self.bytes,
            self.tokens,
            ratio(self.tokens, self.words),
            ratio(self.characters, self.tokens),
            ratio(self.bytes, self.tokens),
            ratio(self.unknown, self.tokens),
            self.errors,
            ratio(self.bytes / 1e6, self.seconds),
        )


def evaluate(tokenizer: Tokenizer, block: bytes, workers: int = 2) -> Tally:
    """Encode and decode a block of lines."""
    lines = reading.split_lines(block)
    if len(block) >= COMPILED_SIZE:
        tokenizer.compiled_encoder()  # loaded before the time is taken
    started = time.perf_counter()
    encoded = tokenizer.encode_batch(lines, workers)
    seconds = time.perf_counter() - started
    unknown = tokenizer.unknown_id
    return Tally(
        len(lines),
        sum(len(line.split()) for line in lines),
        sum(map(len, lines)),
        len(block),
        sum(map(len, encoded)),
        0 if unknown is None else sum(ids.count(unknown) for ids in encoded),
        sum(tokenizer.decode(ids) != line for line, ids in zip(lines, encoded, strict=True)),
        seconds,
    )


def evaluate_checkpoint(
    data: Sequence[str],
    split: str = "",
    model: str = DEFAULT_MODEL,
    save: Path | None = None,
    workers: int = 2,
    device: str = "auto",
    precision: str = "auto",
    *,
    errors: str = "strict",
) -> Iterator[TextScores | Failure]:
    """Score a tokenizer as `score_files` does.

    `split`, `save`, `device` and `precision` do not matter.
    """
    yield from score_files(data, load(model), workers, errors)


def score_files(
    data: Sequence[str], tokenizer: Tokenizer, workers: int = 2, errors: str = "strict"
) -> Iterator[TextScores | Failure]:
    """Yield the scores of each text file, and of all files together if there are several."""
    paths = reading.files(data)
    total = Tally()
    done = 0
    bar = Bar("evaluating", reading.size(paths), unit="bytes")
    try:
        for path in paths:
            tally = Tally()
            try:
                for block in reading.blocks(
                    path, errors, lambda read: bar.advance(by=read), keep_mark=True
                ):
                    tally.add(evaluate(tokenizer, block, workers))
            except DlkitError as error:
                yield Failure(path, error.reason_for(path))
                continue
            done += 1
            total.add(tally)
            yield tally.scores(path)
    finally:
        bar.close()
    if done > 1:
        yield total.scores("all")
