"""Translating lines: `load` a model, and `translate` with it, one output for each line, in order.

Lines that are available at once are sorted by length and translated together.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from dlkit.core.environment import world_size
from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.core.generation.beam_search import GeneratedText, generate_texts, length_penalty
from dlkit.core.generation.sampling import Uniforms
from dlkit.core.io.results import TextResult, html_table
from dlkit.core.nn.fast_inference import pack_linears
from dlkit.core.nn.padding import padded
from dlkit.core.nn.rebuild import check_vocabulary_size, rebuild, unbuildable
from dlkit.core.parallel import device as devices
from dlkit.core.parallel.sharding import Shard, map_shard
from dlkit.core.progress import Bar, count_of
from dlkit.core.store import checkpoint
from dlkit.core.store.checkpoint import Header
from dlkit.core.store.weights import find
from dlkit.translate.alignment import WordAlignment, align_words, join_alignments
from dlkit.translate.config import DEFAULT_MODEL, DEFAULT_SEARCH, EXTRA_LENGTH, TranslationSearch
from dlkit.translate.model import build, translator_settings
from dlkit.translate.models.translator import Translator
from dlkit.translate.sentences import split_line
from dlkit.translate.vocabulary import TranslationVocabulary

MAX_SOURCE = 256  # tokens of a source, where the model's header has no longest source
MAX_CHARACTERS = 16  # of a token on average; a line of more is cut without tokenizing it
MAX_ROWS, MAX_POSITIONS = 512, 1 << 16  # beams that are computed together, and all their tokens
OVERFLOW = "the model's numbers overflow; try --precision fp32"


Line = tuple[int, str]  # its number, from 1 on, and its text


@dataclass(frozen=True)
class Hypothesis:
    """A translation, its natural log-probability, and the score that it is ranked by.

    The score is the log-probability over the length penalty. `alignment` has the aligned pairs of
    words by their places; `finish` is "end", or "length" where the translation was cut off.
    """

    translation: str
    score: float
    logprob: float
    finish: str
    alignment: list[tuple[int, int]] | None

    def __str__(self) -> str:
        return self.translation


EMPTY = Hypothesis("", 0.0, 0.0, "end", None)  # of an empty line


@dataclass(frozen=True)
class Translation(TextResult):
    """A line and its translations, best first; an empty line has an empty one.

    `score`, `logprob` and `alignment` are those of the best one, `alternatives` are the others.
    """

    line: int
    source: str
    translation: str
    hypotheses: list[Hypothesis]
    noun = "line"
    columns = ("line", "rank", "source", "translation", "score", "logprob", "alignment")

    @property
    def text(self) -> str:
        return self.translation

    @property
    def best(self) -> Hypothesis:
        return self.hypotheses[0] if self.hypotheses else EMPTY

    @property
    def score(self) -> float:
        return self.best.score

    @property
    def logprob(self) -> float:
        return self.best.logprob

    @property
    def alignment(self) -> list[tuple[int, int]] | None:
        return self.best.alignment

    @property
    def alternatives(self) -> list[Hypothesis]:
        return self.hypotheses[1:]

    def __str__(self) -> str:
        return self.translation

    def _repr_html_(self) -> str:
        """The translations with their scores, and the aligned words of the best one."""
        shown = [
            {"translation": found.translation, "score": found.score} for found in self.hypotheses
        ]
        if self.alignment is None:
            return html_table(shown)
        source, target = self.source.split(), self.translation.split()
        aligned = [{"source": source[i], "target": target[j]} for i, j in self.alignment]
        return html_table(shown) + html_table(aligned)

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "line": self.line,
                "rank": rank,
                "source": self.source,
                "translation": found.translation,
                "score": found.score,
                "logprob": found.logprob,
                "alignment": format_links(found.alignment),
            }
            for rank, found in enumerate(self.hypotheses, start=1)
        ]


def format_links(alignment: Sequence[tuple[int, int]] | None) -> str | None:
    """Pairs of words in Pharaoh's format: `0-0 1-2`."""
    return None if alignment is None else " ".join(f"{i}-{j}" for i, j in alignment)


@dataclass(frozen=True)
class LineFailure(Failure):
    """A line that could not be translated; its output is an empty line."""


@dataclass(frozen=True)
class Predictor:
    """A translator with its vocabulary, as `load` prepares it for inference."""

    name: str
    header: Header
    vocabulary: TranslationVocabulary
    network: Translator

    @cached_property
    def longest(self) -> int:
        """The length in tokens of the longest source that the model was trained on."""
        return int(self.header.settings.get("longest") or MAX_SOURCE)

    @property
    def context(self) -> int:
        """The number of previous turns that the model reads with a line."""
        return int(self.header.settings.get("context") or 0)

    @cached_property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    def fits(self, text: str) -> bool:
        """Whether the text is no longer than the longest source of the training."""
        if len(text) > MAX_CHARACTERS * self.longest:
            return False
        return len(self.vocabulary.tokenizer.encode(text)) <= self.longest


def load(
    model: str | Path = DEFAULT_MODEL, device: str = "auto", precision: str = "auto"
) -> Predictor:
    """The translator of this name, file or URL, on the device."""
    name = str(model)
    header, weights = checkpoint.load(find("translate", name), "translate")
    vocabulary, network = rebuild(name, header, weights, build, TranslationVocabulary.from_settings)
    try:
        translator_settings(header)  # checked here, once
    except DlkitError as error:
        raise unbuildable(name, header, str(error)) from error
    check_vocabulary_size(name, vocabulary.size, network.vocab_size)
    chosen = devices.choose(device)
    if chosen.type == "cpu":
        devices.tune_malloc()
    network.eval().to(chosen, devices.dtype(chosen, precision)).requires_grad_(False)
    pack_linears(network)
    return Predictor(name, header, vocabulary, network)


@dataclass(frozen=True)
class Segment:
    """A line, or a piece of a long one, as text and as ids, and the translations found for it."""

    text: str
    ids: list[int]
    uniforms: list[Uniforms] = field(default_factory=list)  # for each translation to sample
    found: list[GeneratedText] = field(default_factory=list)


def translate(
    windows: Iterable[Sequence[str] | Failure],
    predictor: Predictor,
    search: TranslationSearch = DEFAULT_SEARCH,
    context: int = 0,
    shard: Shard | None = None,
) -> Iterator[Translation | Failure]:
    """The translation of each line, in order; a window holds the lines that are available at once.

    With a `context` the lines are a dialogue: that many previous turns, of both sides, are read
    with each line, and an empty line ends a dialogue. A Failure among the windows is passed on.
    With a `shard` only its lines are translated; without one, all processes share the lines.
    """
    if context and (world_size() > 1 or shard not in (None, Shard())):
        raise DlkitError(
            "a dialogue is translated line after line: use one process, without --shard and"
            " --resume, or give --context 0"
        )

    def results(numbered: Iterator[Sequence[Line] | Failure]) -> Iterator[Translation | Failure]:
        bar = Bar("translating", count_of(numbered))
        try:
            for result in translate_windows(numbered):
                yield result
                bar.advance()
        finally:
            bar.close()

    def translate_windows(
        numbered: Iterator[Sequence[Line] | Failure],
    ) -> Iterator[Translation | Failure]:
        turns: list[str] = []
        for lines in single_lines(numbered) if context else numbered:
            if isinstance(lines, Failure):
                yield lines
                continue
            segments = [
                make_segments(line, number, turns, predictor, search) for number, line in lines
            ]
            good = [found for found in segments if not isinstance(found, Failure)]
            translate_segments([s for found in good for s in found], predictor, search)
            for (number, line), found in zip(lines, segments, strict=True):
                if isinstance(found, Failure):
                    yield found
                    continue
                result = join_segments(number, line, found, predictor, search)
                yield result
                if context and isinstance(result, Translation):
                    newest = [*turns, line.strip(), result.translation]
                    turns = newest[-context:] if found else []

    return map_shard(results, windows, str(predictor.device), shard, select_lines)


def select_lines(
    shard: Shard, windows: Iterable[Sequence[str] | Failure]
) -> Iterator[Sequence[Line] | Failure]:
    """The lines of a shard with their numbers, from 1 on; a file that cannot be read has none."""
    failures = 0

    def count_failures() -> Iterator[Sequence[str] | Failure]:
        nonlocal failures
        for window in windows:
            failures += isinstance(window, Failure)
            yield window

    for window in shard.select_windows(count_failures()):
        if isinstance(window, Failure):
            yield window
        else:
            yield [(number + 1 - failures, line) for number, line in window]


def single_lines(
    windows: Iterable[Sequence[Line] | Failure],
) -> Iterator[Sequence[Line] | Failure]:
    for lines in windows:
        if isinstance(lines, Failure):
            yield lines
        else:
            yield from ([line] for line in lines)


def make_segments(
    line: str, number: int, turns: Sequence[str], predictor: Predictor, search: TranslationSearch
) -> list[Segment] | LineFailure:
    """The segments of a line that are translated separately: one, unless the line is too long.

    The latest of the previous `turns` are read with a single segment, as many as fit.
    """
    encode = predictor.vocabulary.encode_sources
    try:
        texts = split_line(line, predictor.fits)
        encoded = encode([[text] for text in texts])
        if len(texts) == 1:
            with_turns = (encode([[*turns[i:], texts[0]]])[0] for i in range(len(turns)))
            fitting = (ids for ids in with_turns if len(ids) <= predictor.longest)
            encoded = [next(fitting, encoded[0])]
    except DlkitError as error:
        return LineFailure(f"line {number}", str(error))
    samples = search.count if search.sampling else 0
    return [
        Segment(
            text, ids, [Uniforms(search.seed, number, place * samples + i) for i in range(samples)]
        )
        for place, (text, ids) in enumerate(zip(texts, encoded, strict=True))
    ]


def translate_segments(
    segments: Sequence[Segment], predictor: Predictor, search: TranslationSearch
) -> None:
    """Add the translations to the segments, in batches of similar lengths."""
    for batch in batch_segments(segments, search.rows):
        ids = [segment.ids for segment in batch]
        lengths = torch.tensor([len(row) for row in ids], device=predictor.device)
        source = padded(ids, predictor.network.pad).to(predictor.device)
        limits = [search.max_length or len(row) + EXTRA_LENGTH for row in ids]
        uniforms = [segment.uniforms for segment in batch]
        found = generate_texts(predictor.network, source, lengths, limits, search, uniforms)
        for segment, texts in zip(batch, found, strict=True):
            segment.found.extend(text for text in texts if math.isfinite(text.logprob))


def batch_segments(segments: Sequence[Segment], rows: int) -> Iterator[list[Segment]]:
    """The segments, sorted by length, in the largest batches with `rows` rows for each segment."""
    batch: list[Segment] = []
    for segment in sorted(segments, key=lambda segment: len(segment.ids)):
        count = rows * (len(batch) + 1)
        positions = count * (2 * len(segment.ids) + EXTRA_LENGTH)
        if batch and (count > MAX_ROWS or positions > MAX_POSITIONS):
            yield batch
            batch = []
        batch.append(segment)
    if batch:
        yield batch


def join_segments(
    number: int,
    line: str,
    segments: Sequence[Segment],
    predictor: Predictor,
    search: TranslationSearch,
) -> Translation | LineFailure:
    """The translations of a line: its segments' best ones joined, their second best ones, ..."""
    if not all(segment.found for segment in segments):
        return LineFailure(f"line {number}", OVERFLOW)
    if not segments:
        return Translation(number, line, "", [])
    count = min(search.count, *(len(segment.found) for segment in segments))
    try:
        found = [make_hypothesis(segments, rank, predictor, search) for rank in range(count)]
    except DlkitError as error:  # too long for an alignment
        return LineFailure(f"line {number}", str(error))
    return Translation(number, line, found[0].translation, found)


def make_hypothesis(
    segments: Sequence[Segment], rank: int, predictor: Predictor, search: TranslationSearch
) -> Hypothesis:
    texts = [segment.found[rank] for segment in segments]
    logprob = math.fsum(text.logprob for text in texts)
    length = sum(text.length for text in texts)
    score = logprob if search.sampling else logprob / length_penalty(length, search.alpha)
    links = None
    if search.alignment:
        alignment = align_segments(segments, texts, predictor)
        links = [(link.source, link.target) for link in alignment.links]
    return Hypothesis(
        " ".join(filter(None, (predictor.vocabulary.decode(text.ids) for text in texts))),
        round(score, 4),
        round(logprob, 4),
        "length" if any(text.finish == "length" for text in texts) else "end",
        links,
    )


def join_lines(
    number: int, text: str, lines: Sequence[Translation | Failure]
) -> Translation | LineFailure:
    """The translation of a text from those of its lines, whose scores add up."""
    found: list[Translation] = []
    for line in lines:
        if isinstance(line, Failure):
            return LineFailure(f"text {number}", line.error)
        found.append(line)
    counts = [len(line.hypotheses) for line in found if line.hypotheses]
    hypotheses = [join_hypotheses(found, rank) for rank in range(min(counts, default=0))]
    return Translation(number, text, "\n".join(line.translation for line in found), hypotheses)


def join_hypotheses(lines: Sequence[Translation], rank: int) -> Hypothesis:
    """The translations of this rank of all lines; an empty line has none."""
    parts = [line.hypotheses[rank] if line.hypotheses else EMPTY for line in lines]
    links: list[tuple[int, int]] = []
    sources = targets = 0  # words of the lines before
    for line, part in zip(lines, parts, strict=True):
        links += [(sources + i, targets + j) for i, j in part.alignment or ()]
        sources += len(line.source.split())
        targets += len(part.translation.split())
    aligned = any(part.alignment is not None for part in parts)
    return Hypothesis(
        "\n".join(part.translation for part in parts),
        round(math.fsum(part.score for part in parts), 4),
        round(math.fsum(part.logprob for part in parts), 4),
        "length" if any(part.finish == "length" for part in parts) else "end",
        links if aligned else None,
    )


def align_segments(
    segments: Sequence[Segment], texts: Sequence[GeneratedText], predictor: Predictor
) -> WordAlignment:
    """The alignment of a line, given as segments, with their translations."""
    return join_alignments(
        [
            align_words(predictor.network, predictor.vocabulary, segment.text, text.ids)
            for segment, text in zip(segments, texts, strict=True)
        ]
    )


def align(
    sentence: str,
    target: str | None,
    predictor: Predictor,
    search: TranslationSearch = DEFAULT_SEARCH,
) -> WordAlignment:
    """The alignment of a sentence with the `target` given, or with the model's translation."""
    segments = make_segments(sentence, 1, (), predictor, search)
    if isinstance(segments, Failure):
        raise DlkitError(segments.error)
    if target is not None and segments:
        ids = predictor.vocabulary.encode_targets([target])[0][1:-1]
        found = align_words(predictor.network, predictor.vocabulary, sentence.strip(), ids)
    else:
        translate_segments(segments, predictor, search)
        if not all(segment.found for segment in segments):
            raise DlkitError(OVERFLOW)
        found = align_segments(segments, [segment.found[0] for segment in segments], predictor)
    if not (found.source and found.target):
        raise DlkitError("nothing to align: one of the sentences is empty")
    return found


def context_turns(predictor: Predictor, context: int | None, alignment: bool) -> int:
    """The number of previous turns to read with each line: `--context`, or the model's own."""
    if context and not predictor.context:
        raise DlkitError(
            "was not trained with --context, so it reads single lines; remove the option",
            predictor.name,
        )
    turns = predictor.context if context is None else context
    if turns and alignment:
        raise DlkitError("--alignment: needs lines without context; give --context 0, too")
    return turns
