"""Scores of translations: a model's, or those in a file.

Shapes: N sentences.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.core.io.scores import Score, rounded
from dlkit.core.parallel.distributed import Process
from dlkit.translate.config import DEFAULT_MODEL, DEFAULT_SEARCH, TranslationSearch
from dlkit.translate.data import EncodedPairs
from dlkit.translate.infer import (
    Predictor,
    Segment,
    Translation,
    join_segments,
    load,
    translate,
    translate_segments,
)
from dlkit.translate.pairs import Pair, add_turns, lines
from dlkit.translate.validation import pair_losses

WINDOW = 1024  # lines that are translated together
LENGTHS = (1, 10, 15, 20, 30, 40, 60)  # words of a source at which its group begins


@dataclass(frozen=True)
class WorstTranslation:
    """A translation that differs much from its reference, by chrF."""

    line: int
    chrf: float
    source: str
    reference: str
    translation: str


@dataclass(frozen=True)
class EvaluatedTranslations:
    """Translations (N) with their sources, and references, a list (N) of each file."""

    translations: list[str]
    references: list[list[str]]
    sources: list[str] | None = None
    loss: float | None = None  # nats per token of the first references
    tokens: int = 0
    failures: list[Failure] = field(default_factory=list)


def evaluate_checkpoint(
    data: Sequence[str],
    split: str = "",
    model: str = DEFAULT_MODEL,
    save: Path | None = None,
    workers: int = 2,
    device: str = "auto",
    precision: str = "auto",
) -> Iterator[Score | Failure]:
    """The scores of a model; the first of the files `data` holds sources, the others references.

    They have no splits, and nothing is saved.
    """
    source, *references = data
    predictor = load(model, device, precision)
    yield from scores(translate_file(source, references, predictor, DEFAULT_SEARCH))


def translate_file(
    source: str, references: Sequence[str], predictor: Predictor, search: TranslationSearch
) -> EvaluatedTranslations:
    """A model's translations of a file, and its loss on the first references."""
    texts, *known = read_parallel_files([source, *references])
    if not known:
        raise DlkitError("nothing to compare with; give --ref, a file of translations")
    pairs = [Pair(s.strip(), r.strip(), "") for s, r in zip(texts, known[0], strict=True)]
    pairs = list(add_turns(pairs, predictor.context))
    if predictor.context:
        results = answer_dialogues(pairs, predictor, search)
    else:
        windows = (texts[start : start + WINDOW] for start in range(0, len(texts), WINDOW))
        results = translate(windows, predictor, search)
    failures = []
    translations = []
    for found in results:
        if isinstance(found, Failure):
            failures.append(found)
        translations.append("" if isinstance(found, Failure) else found.translation)
    loss, tokens = reference_loss(pairs, predictor)
    return EvaluatedTranslations(translations, known, texts, loss, tokens, failures)


def read_translations(
    hypotheses: str, references: Sequence[str], source: str | None = None
) -> EvaluatedTranslations:
    """The translations in a file, with their references."""
    files = [hypotheses, *([] if source is None else [source]), *references]
    translations, *others = read_parallel_files(files)
    if not references:
        raise DlkitError("nothing to compare with; give --ref, a file of translations")
    sources = None if source is None else others.pop(0)
    return EvaluatedTranslations(translations, others, sources)


def read_parallel_files(files: Sequence[str]) -> list[list[str]]:
    """The lines of files that correspond line by line; invalid UTF-8 is replaced."""
    found = [list(lines(file, "replace")) for file in files]
    for file, texts in zip(files, found, strict=True):
        if len(texts) != len(found[0]):
            raise DlkitError(
                f"{files[0]} has {len(found[0])} lines and {file} {len(texts)}; their lines must"
                " correspond one to one"
            )
    if not found[0]:
        raise DlkitError("an empty file", files[0])
    return found


def answer_dialogues(
    pairs: Sequence[Pair], predictor: Predictor, search: TranslationSearch
) -> Iterator[Translation | Failure]:
    """The model's answers in dialogues, given the true turns before each line."""
    encoded = predictor.vocabulary.encode_sources([pair.turns for pair in pairs])
    segments = [
        [Segment(pair.source, ids)] if pair.source else []
        for pair, ids in zip(pairs, encoded, strict=True)
    ]
    translate_segments([segment for line in segments for segment in line], predictor, search)
    for number, (pair, line) in enumerate(zip(pairs, segments, strict=True), start=1):
        yield join_segments(number, pair.source, line, predictor, search)


def reference_loss(pairs: Sequence[Pair], predictor: Predictor) -> tuple[float | None, int]:
    """The mean loss in nats per token of the targets, and their tokens; without blank pairs."""
    both = [pair for pair in pairs if pair.source and pair.target]
    if not both:
        return None, 0
    vocabulary = predictor.vocabulary
    encoded = EncodedPairs(
        both,
        [np.array(ids) for ids in vocabulary.encode_sources([pair.turns for pair in both])],
        [np.array(ids) for ids in vocabulary.encode_targets([pair.target for pair in both])],
    )
    process = Process(0, 1, predictor.device)
    with torch.inference_mode():
        total = math.fsum(pair_losses(predictor.network, encoded, process))
    tokens = sum(len(ids) - 1 for ids in encoded.targets)
    return total / tokens, tokens


def scores(
    found: EvaluatedTranslations, lowercase: bool = False, by_length: bool = False
) -> Iterator[Score | Failure]:
    """BLEU and chrF by sacreBLEU, with its signatures; loss and perplexity of a model.

    With `by_length` also the BLEU of sentences grouped by the words of the source.
    """
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    yield from found.failures
    for name, metric in (("bleu", BLEU(lowercase=lowercase)), ("chrf", CHRF(lowercase=lowercase))):
        value = metric.corpus_score(found.translations, found.references).score
        yield Score(name, "all", rounded(value), f"sacreBLEU {metric.get_signature()}")
    if found.loss is not None:
        of = f"of {found.tokens} tokens of the first references"
        yield Score("loss", "all", rounded(found.loss), f"nats per token, {of}")
        yield Score(
            "perplexity", "all", rounded(math.exp(min(found.loss, 700))), f"exp of the loss, {of}"
        )
    if by_length:
        if found.sources is None:
            raise DlkitError("--by-length: needs the words of the source; give --source, too")
        yield from bleu_by_length(found, BLEU(lowercase=lowercase))


def bleu_by_length(found: EvaluatedTranslations, metric: Any) -> Iterator[Score]:
    """BLEU of the sentences of each group of source lengths; empty groups are omitted."""
    words = [len(text.split()) for text in found.sources or []]
    for start, end in zip(LENGTHS, (*LENGTHS[1:], math.inf), strict=True):
        places = [place for place, count in enumerate(words) if start <= count < end]
        if not places:
            continue
        value = metric.corpus_score(
            [found.translations[place] for place in places],
            [[texts[place] for place in places] for texts in found.references],
        ).score
        label = f"{start}-{end - 1} words" if end < math.inf else f"{start} words or more"
        yield Score(
            "bleu",
            label,
            rounded(value),
            f"sacreBLEU {metric.get_signature()}, {len(places)} sentences of such sources",
        )


def worst_translations(
    found: EvaluatedTranslations, count: int, lowercase: bool = False
) -> Iterator[WorstTranslation | Failure]:
    """The translations with the lowest chrF, the worst first."""
    from sacrebleu.metrics.chrf import CHRF

    yield from found.failures
    score: Callable[..., Any] = CHRF(lowercase=lowercase).sentence_score
    rows = zip(found.translations, *found.references, strict=True)
    ranked = sorted(
        (round(score(text, references).score, 2), place)
        for place, (text, *references) in enumerate(rows)
    )
    for value, place in ranked[:count]:
        source = found.sources[place] if found.sources else ""
        reference = found.references[0][place]
        yield WorstTranslation(place + 1, value, source, reference, found.translations[place])
