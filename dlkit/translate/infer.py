"""Translators in use: lines in, as many lines out, in order.

Lines come as they are there: those that come at once are sorted by length and translated together.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from dlkit.core.config import Precision
from dlkit.core.environment import world_size
from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.core.generation.beam_search import Written, beam_search, draw, length_penalty
from dlkit.core.generation.sampling import Sampling, Uniforms
from dlkit.core.nn.fast_inference import pack_linears
from dlkit.core.nn.rebuild import check_vocabulary_size, rebuild
from dlkit.core.parallel import device as devices
from dlkit.core.parallel.sharding import Shard, map_shard
from dlkit.core.store import checkpoint
from dlkit.core.store.checkpoint import Header
from dlkit.core.store.weights import find
from dlkit.translate.alignment import Aligned, aligned, joined
from dlkit.translate.config import ALPHA, BEAM, DEFAULT_MODEL
from dlkit.translate.model import Translator, build
from dlkit.translate.sentences import pieces
from dlkit.translate.vocabulary import Vocabulary

LONGER = 50  # tokens by which a translation may be longer than its source (Vaswani et al. 2017)
LONGEST = 256  # tokens of a source, where the model does not say what it was trained on
CHARACTERS = 16  # of a token, at most, on average: what is longer need not be tokenized to be cut
ROWS, POSITIONS = 512, 1 << 16  # beams that are computed at once, and the tokens of all of them


Line = tuple[int, str]  # its number, from 1 on, and its text


@dataclass(frozen=True)
class Search:
    """How translations are found: by beam search, or with `sampling` by drawing at random.

    `max_length` is the most tokens of a translation, by default LONGER more than its source has.
    """

    beam: int = BEAM
    alpha: float = ALPHA
    n_best: int = 1
    max_length: int | None = None
    sampling: Sampling | None = None
    seed: int = 0
    alignment: bool = False

    def __post_init__(self) -> None:
        if self.sampling is None and self.n_best > self.beam:
            raise DlkitError(
                f"--n-best {self.n_best} needs --beam {self.n_best} or more, not {self.beam}"
            )


@dataclass(frozen=True)
class Hypothesis:
    """A translation: its natural log-probability, and the score by which it is ranked.

    The score is the log-probability over the length penalty. `alignment` holds pairs of words by
    their places, and `finish` is "length" where it was cut off.
    """

    translation: str
    score: float
    logprob: float
    finish: str
    alignment: list[tuple[int, int]] | None


@dataclass(frozen=True)
class Translation:
    """A line and its translations, best first; an empty line has an empty one."""

    line: int
    source: str
    translation: str
    hypotheses: list[Hypothesis]
    columns = ("line", "rank", "source", "translation", "score", "logprob", "alignment")

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "line": self.line,
                "rank": rank,
                "source": self.source,
                "translation": found.translation,
                "score": found.score,
                "logprob": found.logprob,
                "alignment": pharaoh(found.alignment),
            }
            for rank, found in enumerate(self.hypotheses, start=1)
        ]


def pharaoh(alignment: Sequence[tuple[int, int]] | None) -> str | None:
    """Pairs of words as `0-0 1-2`."""
    return None if alignment is None else " ".join(f"{i}-{j}" for i, j in alignment)


@dataclass(frozen=True)
class LineFailure(Failure):
    """A line that could not be translated: an empty one stands in its place."""


@dataclass(frozen=True)
class Model:
    """A translator with its vocabulary, ready on its device."""

    name: str
    header: Header
    vocabulary: Vocabulary
    network: Translator

    @cached_property
    def longest(self) -> int:
        """The tokens of the longest source that the model was trained on."""
        return int(self.header.settings.get("longest") or LONGEST)

    @property
    def context(self) -> int:
        """The turns before a line that the model also reads."""
        return int(self.header.settings.get("context") or 0)

    @cached_property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    def fits(self, text: str) -> bool:
        """Whether this is no longer than what the model was trained on."""
        if len(text) > CHARACTERS * self.longest:
            return False
        return len(self.vocabulary.tokenizer.encode(text)) <= self.longest


def load(
    model: str | Path = DEFAULT_MODEL, device: str = "auto", precision: Precision = "auto"
) -> Model:
    """The model of this name, file or URL."""
    name = str(model)
    header, weights = checkpoint.load(find("translate", name), "translate")
    if "tokenizer" not in header.settings:
        raise DlkitError(f"{name}: its tokenizer is missing: without it no text can be read")
    vocabulary, network = rebuild(name, header, weights, build, Vocabulary.from_settings)
    check_vocabulary_size(name, vocabulary.size, network.vocab_size)
    chosen = devices.choose(device)
    if chosen.type == "cpu":
        devices.tune_malloc()
    network.eval().to(chosen, devices.dtype(chosen, precision)).requires_grad_(False)
    pack_linears(network)
    return Model(name, header, vocabulary, network)


@dataclass(frozen=True)
class Part:
    """A part of a line, as text and as ids, and what was found for it."""

    text: str
    ids: list[int]
    uniforms: list[Uniforms] = field(default_factory=list)  # to draw by, one for each translation
    written: list[Written] = field(default_factory=list)


def translate(
    windows: Iterable[Sequence[str] | Failure],
    model: Model,
    search: Search = Search(),
    context: int = 0,
    shard: Shard | None = None,
) -> Iterator[Translation | Failure]:
    """The translation of each line, in order; `windows` are the lines that are there at once.

    With a `context` they are a dialogue: so many turns before a line, those of both sides, are
    read with it. An empty line ends a dialogue. A Failure among the windows is passed on. Only a
    `share` of the lines is translated; without one, the processes under torchrun share them.
    """
    if context and (world_size() > 1 or shard not in (None, Shard())):
        raise DlkitError(
            "a dialogue is read line after line: translate it in one process, without --shard and"
            " --resume, or give --context 0"
        )

    def results(shared: Iterator[Sequence[Line] | Failure]) -> Iterator[Translation | Failure]:
        turns: list[str] = []
        for lines in one_by_one(shared) if context else shared:
            if isinstance(lines, Failure):
                yield lines
                continue
            parts = [parts_of(line, number, turns, model, search) for number, line in lines]
            write([part for of_line in parts if isinstance(of_line, list) for part in of_line],
                  model, search)  # fmt: skip
            for (number, line), of_line in zip(lines, parts, strict=True):
                if isinstance(of_line, Failure):
                    yield of_line
                    continue
                found = result(number, line, of_line, model, search)
                yield found
                if context and isinstance(found, Translation):
                    turns = [*turns, line.strip(), found.translation][-context:] if of_line else []

    return map_shard(results, windows, str(model.device), shard, deal_lines)


def deal_lines(
    shard: Shard, windows: Iterable[Sequence[str] | Failure]
) -> Iterator[Sequence[Line] | Failure]:
    """The lines of a share with their numbers, from 1 on; a file that cannot be read has none."""
    failures = 0

    def counted() -> Iterator[Sequence[str] | Failure]:
        nonlocal failures
        for window in windows:
            failures += isinstance(window, Failure)
            yield window

    for window in shard.select_windows(counted()):
        if isinstance(window, Failure):
            yield window
        else:
            yield [(number + 1 - failures, line) for number, line in window]


def one_by_one(windows: Iterable[Sequence[Line] | Failure]) -> Iterator[Sequence[Line] | Failure]:
    for lines in windows:
        if isinstance(lines, Failure):
            yield lines
        else:
            yield from ([line] for line in lines)


def parts_of(
    line: str, number: int, turns: Sequence[str], model: Model, search: Search
) -> list[Part] | LineFailure:
    """The parts of a line that are translated each by itself: one, unless it is too long.

    `turns` before it are read with one part, as many of the latest as fit.
    """
    encode = model.vocabulary.encode_sources
    try:
        texts = pieces(line, model.fits)
        encoded = encode([[text] for text in texts])
        if len(texts) == 1:
            with_turns = (encode([[*turns[i:], texts[0]]])[0] for i in range(len(turns)))
            encoded = [next((ids for ids in with_turns if len(ids) <= model.longest), encoded[0])]
    except DlkitError as error:
        return LineFailure(f"line {number}", str(error))
    samples = search.n_best if search.sampling else 0
    return [
        Part(
            text, ids, [Uniforms(search.seed, number, place * samples + i) for i in range(samples)]
        )
        for place, (text, ids) in enumerate(zip(texts, encoded, strict=True))
    ]


def write(parts: Sequence[Part], model: Model, search: Search) -> None:
    """Translate the parts, those of about the same length together."""
    for batch in batches(parts, search.n_best if search.sampling else search.beam):
        ids = [part.ids for part in batch]
        limits = [search.max_length or len(part) + LONGER for part in ids]
        found = written(model, ids, limits, search, [part.uniforms for part in batch])
        for part, texts in zip(batch, found, strict=True):
            part.written.extend(text for text in texts if math.isfinite(text.logprob))


def batches(parts: Sequence[Part], rows: int) -> Iterator[list[Part]]:
    """The parts, sorted by length, as many at a time as fit with so many rows for each."""
    batch: list[Part] = []
    for part in sorted(parts, key=lambda part: len(part.ids)):
        count = rows * (len(batch) + 1)
        if batch and (count > ROWS or count * (2 * len(part.ids) + LONGER) > POSITIONS):
            yield batch
            batch = []
        batch.append(part)
    if batch:
        yield batch


def written(
    model: Model,
    sources: Sequence[Sequence[int]],
    limits: Sequence[int],
    search: Search,
    uniforms: Sequence[Sequence[Uniforms]],
) -> list[list[Written]]:
    """The translations of each source, which is not empty, best first."""
    of_each = search.n_best if search.sampling else 1
    rows = [ids for ids in sources for _ in range(of_each)]
    lengths = torch.tensor([len(ids) for ids in rows], device=model.device)
    width = int(lengths.max())
    pad = model.network.pad
    source = torch.tensor([[*ids, *[pad] * (width - len(ids))] for ids in rows]).to(model.device)
    if search.sampling is None:
        most = torch.tensor(limits, device=model.device)
        return beam_search(model.network, source, lengths, most, search.beam, search.alpha)
    of_rows = [limit for limit in limits for _ in range(of_each)]
    random = [uniform for of_source in uniforms for uniform in of_source]
    drawn = draw(model.network, source, lengths, of_rows, search.sampling, random)
    return [drawn[i : i + of_each] for i in range(0, len(drawn), of_each)]


def result(
    number: int, line: str, parts: Sequence[Part], model: Model, search: Search
) -> Translation | LineFailure:
    """What a line's parts say together: the best of each, the second best of each, ..."""
    if not all(part.written for part in parts):
        return LineFailure(f"line {number}", "the model's numbers overflow: try --precision fp32")
    if not parts:
        return Translation(number, line, "", [])
    count = min(search.n_best, *(len(part.written) for part in parts))
    found = [hypothesis(parts, rank, model, search) for rank in range(count)]
    return Translation(number, line, found[0].translation, found)


def hypothesis(parts: Sequence[Part], rank: int, model: Model, search: Search) -> Hypothesis:
    texts = [part.written[rank] for part in parts]
    logprob = math.fsum(text.logprob for text in texts)
    length = sum(text.length for text in texts)
    score = logprob if search.sampling else logprob / length_penalty(length, search.alpha)
    links = None
    if search.alignment:
        both = alignment(parts, texts, model)
        links = [(link.source, link.target) for link in both.links]
    return Hypothesis(
        " ".join(filter(None, (model.vocabulary.decode(text.ids) for text in texts))),
        round(score, 4),
        round(logprob, 4),
        "length" if any(text.finish == "length" for text in texts) else "end",
        links,
    )


def alignment(parts: Sequence[Part], texts: Sequence[Written], model: Model) -> Aligned:
    """The words of a line and of its translation, with the attention between them."""
    of_parts = [
        aligned(model.network, model.vocabulary, part.text, text.ids)
        for part, text in zip(parts, texts, strict=True)
    ]
    return joined(of_parts)


def align(sentence: str, target: str | None, model: Model, search: Search = Search()) -> Aligned:
    """The words of a sentence, and of its translation or of the `target` given."""
    parts = parts_of(sentence, 1, (), model, search)
    if isinstance(parts, Failure):
        raise DlkitError(parts.error)
    if target is not None and parts:
        ids = model.vocabulary.encode_targets([target])[0][1:-1]
        found = aligned(model.network, model.vocabulary, sentence.strip(), ids)
    else:
        write(parts, model, search)
        if not all(part.written for part in parts):
            raise DlkitError("the model's numbers overflow: try --precision fp32")
        found = alignment(parts, [part.written[0] for part in parts], model)
    if not (found.source and found.target):
        raise DlkitError("nothing to align: one of the sentences is empty")
    return found


def turns_before(model: Model, context: int | None, alignment: bool) -> int:
    """The turns that are read with each line, of a model that was trained on dialogues."""
    if context and not model.context:
        raise DlkitError(f"{model.name} was not trained with --context: it reads one line alone")
    turns = model.context if context is None else context
    if turns and alignment:
        raise DlkitError("--alignment is for lines by themselves: give --context 0")
    return turns
