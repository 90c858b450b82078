"""How good translations are: a model's, or ready ones from a file.

Shapes: N sentences.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.core.io.scores import Score, rounded
from dlkit.core.parallel.distributed import Process
from dlkit.translate.config import DEFAULT_MODEL
from dlkit.translate.data import Pairs
from dlkit.translate.infer import Model, Part, Search, load, result, translate, write
from dlkit.translate.pairs import Pair, lines, with_turns
from dlkit.translate.validation import losses

WINDOW = 1024  # lines that are translated together
LENGTHS = (1, 10, 15, 20, 30, 40, 60)  # words of a source at which its group begins


@dataclass(frozen=True)
class Worst:
    """A translation that agrees little with its reference, as chrF counts it."""

    line: int
    chrf: float
    source: str
    reference: str
    translation: str


@dataclass(frozen=True)
class Translated:
    """Translations (N) beside their sources, and references, a list (N) of each file."""

    written: list[str]
    references: list[list[str]]
    sources: list[str] | None = None
    loss: float | None = None  # nats per token of the first references
    tokens: int = 0
    failures: list[Failure] = field(default_factory=list)


def evaluate_checkpoint(files: Sequence[str], model: str = DEFAULT_MODEL) -> Iterator[Any]:
    """The scores of a model; the first of the files holds sources, the others references."""
    source, *references = files
    yield from scores(translated(source, references, load(model), Search()))


def translated(source: str, references: Sequence[str], model: Model, search: Search) -> Translated:
    """The translations of a file by a model, with what it loses on the first references."""
    texts, *of_files = same_length([source, *references])
    if not of_files:
        raise DlkitError("nothing to compare with: give --ref, a file of translations")
    pairs = [Pair(s.strip(), r.strip(), "") for s, r in zip(texts, of_files[0], strict=True)]
    pairs = list(with_turns(pairs, model.context))
    failures = []
    written = []
    for found in answers(pairs, model, search) if model.context else each(texts, model, search):
        if isinstance(found, Failure):
            failures.append(found)
        written.append("" if isinstance(found, Failure) else found.translation)
    loss, tokens = loss_of(pairs, model)
    return Translated(written, of_files, texts, loss, tokens, failures)


def ready(hypotheses: str, references: Sequence[str], source: str | None = None) -> Translated:
    """The translations that a file holds."""
    files = [hypotheses, *([] if source is None else [source]), *references]
    written, *others = same_length(files)
    if not references:
        raise DlkitError("nothing to compare with: give --ref, a file of translations")
    sources = None if source is None else others.pop(0)
    return Translated(written, others, sources)


def same_length(files: Sequence[str]) -> list[list[str]]:
    """The lines of files that belong together line by line; not UTF-8 is replaced."""
    found = [list(lines(file, "replace")) for file in files]
    for file, texts in zip(files, found, strict=True):
        if len(texts) != len(found[0]):
            raise DlkitError(
                f"{files[0]} has {len(found[0])} lines and {file} {len(texts)}:"
                " line by line they have to belong together"
            )
    if not found[0]:
        raise DlkitError(f"{files[0]}: no lines in it")
    return found


def each(texts: Sequence[str], model: Model, search: Search) -> Iterator[Any]:
    """A Translation of each line, or a Failure."""
    windows = (texts[start : start + WINDOW] for start in range(0, len(texts), WINDOW))
    yield from translate(windows, model, search)


def answers(pairs: Sequence[Pair], model: Model, search: Search) -> Iterator[Any]:
    """The same for dialogues, of which the model reads the turns as they were."""
    encoded = model.vocabulary.encode_sources([pair.turns for pair in pairs])
    parts = [
        [Part(pair.source, ids)] if pair.source else []
        for pair, ids in zip(pairs, encoded, strict=True)
    ]
    write([part for of_line in parts for part in of_line], model, search)
    for number, (pair, of_line) in enumerate(zip(pairs, parts, strict=True), start=1):
        yield result(number, pair.source, of_line, model, search)


def loss_of(pairs: Sequence[Pair], model: Model) -> tuple[float | None, int]:
    """The mean loss in nats per token of the targets, and their tokens; without blank pairs."""
    both = [pair for pair in pairs if pair.source and pair.target]
    if not both:
        return None, 0
    vocabulary = model.vocabulary
    found = Pairs(
        both,
        [np.array(ids) for ids in vocabulary.encode_sources([pair.turns for pair in both])],
        [np.array(ids) for ids in vocabulary.encode_targets([pair.target for pair in both])],
    )
    with torch.inference_mode():
        total = math.fsum(losses(model.network, found, Process(0, 1, model.device)))
    tokens = sum(len(ids) - 1 for ids in found.targets)
    return total / tokens, tokens


def scores(
    found: Translated, lowercase: bool = False, by_length: bool = False
) -> Iterator[Score | Failure]:
    """BLEU and chrF by sacreBLEU, with its signatures; loss and perplexity of a model.

    `by_length` tells BLEU apart by the words of the source.
    """
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    yield from found.failures
    for name, metric in (("bleu", BLEU(lowercase=lowercase)), ("chrf", CHRF(lowercase=lowercase))):
        value = metric.corpus_score(found.written, found.references).score
        yield Score(name, "all", rounded(value), f"sacreBLEU {metric.get_signature()}")
    if found.loss is not None:
        of = f"of {found.tokens} tokens of the first references"
        yield Score("loss", "all", rounded(found.loss), f"nats per token, {of}")
        yield Score(
            "perplexity", "all", rounded(math.exp(min(found.loss, 700))), f"exp of the loss, {of}"
        )
    if by_length:
        if found.sources is None:
            raise DlkitError("--by-length goes by the words of the source: give --source")
        yield from bleu_by_length(found, BLEU(lowercase=lowercase))


def bleu_by_length(found: Translated, metric: Any) -> Iterator[Score]:
    """BLEU of the sentences of each group of source lengths that has some."""
    words = [len(text.split()) for text in found.sources or []]
    for start, end in zip(LENGTHS, (*LENGTHS[1:], math.inf), strict=True):
        places = [place for place, count in enumerate(words) if start <= count < end]
        if not places:
            continue
        value = metric.corpus_score(
            [found.written[place] for place in places],
            [[texts[place] for place in places] for texts in found.references],
        ).score
        label = f"{start}-{end - 1} words" if end < math.inf else f"{start} words or more"
        yield Score(
            "bleu",
            label,
            rounded(value),
            f"sacreBLEU {metric.get_signature()}, {len(places)} sentences of such sources",
        )


def worst(found: Translated, count: int, lowercase: bool = False) -> Iterator[Worst | Failure]:
    """The translations that agree least with their references, the worst first."""
    from sacrebleu.metrics.chrf import CHRF

    yield from found.failures
    score: Callable[..., Any] = CHRF(lowercase=lowercase).sentence_score
    rows = zip(found.written, *found.references, strict=True)
    ranked = sorted(
        (round(score(text, references).score, 2), place)
        for place, (text, *references) in enumerate(rows)
    )
    for value, place in ranked[:count]:
        source = found.sources[place] if found.sources else ""
        yield Worst(place + 1, value, source, found.references[0][place], found.written[place])
