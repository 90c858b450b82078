"""Translation in Python: `load`, `translate`, `align`, `train`, `evaluate`.

Loads no torch until a function is called.
"""

import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict, Union, Unpack, overload

from dlkit.core import api
from dlkit.core.api import Errors, Model, Scores, Texts
from dlkit.core.config import Precision
from dlkit.core.failures import Failure
from dlkit.core.generation.options import search_settings
from dlkit.translate.config import DEFAULT_MODEL, TranslateTrainConfig, TranslationSearch

if TYPE_CHECKING:
    from dlkit.core.io.results import Results
    from dlkit.translate.alignment import WordAlignment
    from dlkit.translate.infer import Predictor, Translation

Config = TranslateTrainConfig
AnyModel: TypeAlias = Union[str, "os.PathLike[str]", Model["Predictor"], "Predictor"]
WINDOW = 1024  # lines that are sorted by length together


class Options(TypedDict, total=False):
    """The options of `translate`."""

    beam: int | None
    length_penalty: float | None
    n_best: int
    max_length: int | None
    sample: bool
    temperature: float | None
    top_k: int | None
    top_p: float | None
    seed: int | None
    alignment: bool
    context: int | None
    device: str
    precision: Precision


def load(
    model: str | os.PathLike[str] = DEFAULT_MODEL,
    device: str = "auto",
    precision: Precision = "auto",
) -> Model["Predictor"]:
    """Load a translator by name, file or URL, ready for inference on the device.

    It is called like `translate`, and is not loaded twice.

    >>> from dlkit.translate import load
    >>> translator = load("en-fr")
    >>> translator("Two dogs play in the snow.").text
    'Deux chiens jouent dans la neige.'
    """
    name = os.fspath(model)
    return Model(name, load_once(name, device, precision), translate)


@api.keep_loaded
def load_once(model: str, device: str, precision: str) -> "Predictor":
    from dlkit.translate import infer

    return infer.load(model, device, precision)


@overload
def translate(
    texts: str, model: AnyModel = DEFAULT_MODEL, **options: Unpack[Options]
) -> "Translation": ...
@overload
def translate(
    texts: Texts,
    model: AnyModel = DEFAULT_MODEL,
    *,
    errors: Literal["raise"] = "raise",
    **options: Unpack[Options],
) -> "Results[Translation]": ...
@overload
def translate(
    texts: Texts,
    model: AnyModel = DEFAULT_MODEL,
    *,
    errors: Literal["return"],
    **options: Unpack[Options],
) -> "Results[Translation | Failure]": ...
def translate(
    texts: str | Texts,
    model: AnyModel = DEFAULT_MODEL,
    *,
    beam: int | None = None,
    length_penalty: float | None = None,
    n_best: int = 1,
    max_length: int | None = None,
    sample: bool = False,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int | None = None,
    alignment: bool = False,
    context: int | None = None,
    device: str = "auto",
    precision: Precision = "auto",
    errors: Errors = "raise",
) -> Any:
    """Translate one text, or each of many.

    A string is one text, whose lines are translated one by one; a list or an iterator of strings
    are many. `model` is a name, a file or what `load` returned. The options are those of `dlkit
    translate`: with `n_best` the result has `alternatives`, with `alignment` the pairs of aligned
    words. A text that cannot be translated raises a DlkitError; of many, with errors="return", it
    becomes a Failure in its place.

    >>> from dlkit.translate import translate
    >>> found = translate("Two dogs play in the snow.", n_best=2)
    >>> found.text
    'Zwei Hunde spielen im Schnee.'
    >>> found.score > found.alternatives[0].score
    True
    """
    api.check_ranges(
        beam=(beam, 1, None),
        length_penalty=(length_penalty, 0, None),
        n_best=(n_best, 1, None),
        max_length=(max_length, 1, None),
        seed=(seed, 0, None),
        context=(context, 0, None),
    )
    settings = search_settings(sample, beam, length_penalty, temperature, top_k, top_p, seed)
    search = TranslationSearch(count=n_best, max_length=max_length, alignment=alignment, **settings)
    given, many = api.as_texts(texts)

    from dlkit.translate.infer import context_turns

    predictor = api.loaded_model(model, load_once, device, precision)
    turns = context_turns(predictor, context, alignment)
    return api.answer(translate_texts(list(given), predictor, search, turns), many, errors)


def translate_texts(
    texts: Sequence[str], predictor: "Predictor", search: TranslationSearch, turns: int
) -> "Iterator[Translation | Failure]":
    """Translate the lines of the texts, and join those of each text."""
    from dlkit.translate import infer

    parts = [text.split("\n") for text in texts]
    lines = [line for part in parts for line in part]
    windows = (lines[start : start + WINDOW] for start in range(0, len(lines), WINDOW))
    found = infer.translate(windows, predictor, search, turns)
    for number, (text, part) in enumerate(zip(texts, parts, strict=True), start=1):
        yield infer.join_lines(number, text, list(islice(found, len(part))))


def align(
    sentence: str,
    target: str | None = None,
    model: AnyModel = DEFAULT_MODEL,
    *,
    device: str = "auto",
    precision: Precision = "auto",
) -> "WordAlignment":
    """Find the source word that each word of a translation attends to most.

    Without a `target`, the translation is the model's own. The result has the attention `weights`
    of all pairs of words; `save("alignment.png")` draws them.

    >>> from dlkit.translate import align
    >>> found = align("Two dogs", "Zwei Hunde")
    >>> [str(link) for link in found.links]
    ['0-0', '1-1']
    """
    from dlkit.translate import infer

    return infer.align(sentence, target, api.loaded_model(model, load_once, device, precision))


def train(config: TranslateTrainConfig) -> Path:
    """Train a translator; return the path of its best checkpoint, which `load` takes.

    Progress is printed on stderr. `config.out` is the folder of the run.

    >>> from dlkit.translate import Config, train, translate
    >>> best = train(Config(source=["train.en"], target=["train.de"], layers=1, epochs=1))
    >>> translate("A dog runs.", best).source
    'A dog runs.'
    """
    from dlkit.translate.train import train

    return api.train_with(train, config)


def evaluate(
    source: str | os.PathLike[str],
    ref: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    model: AnyModel = DEFAULT_MODEL,
    *,
    beam: int | None = None,
    length_penalty: float | None = None,
    lowercase: bool = False,
    by_length: bool = False,
    device: str = "auto",
    precision: Precision = "auto",
) -> Scores:
    """BLEU, chrF and loss of a model on a file of sentences and one or more of references.

    >>> from dlkit.translate import evaluate
    >>> scores = evaluate("test.en", "test.de")
    >>> scores["bleu"]
    100.0
    """
    api.check_ranges(beam=(beam, 1, None), length_penalty=(length_penalty, 0, None))
    search = TranslationSearch(**search_settings(False, beam, length_penalty))
    files = [ref] if isinstance(ref, str | os.PathLike) else ref
    references = [os.fspath(file) for file in files]

    from dlkit.translate.evaluate import scores, translate_file

    predictor = api.loaded_model(model, load_once, device, precision)
    found = translate_file(os.fspath(source), references, predictor, search)
    return Scores(api.answer(scores(found, lowercase, by_length), many=True))
