"""Word vectors in Python: `load`, `embed`, `nearest`, `analogy`, `similarity`, `train`, `evaluate`.

Loads no torch; numpy is imported when a function is called. Shapes: N texts, D dimensions.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, Union, overload

from dlkit.core import api
from dlkit.core.api import Errors, Model, Scores, Texts
from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.embed.config import DEFAULT_MODEL, EmbedTrainConfig

if TYPE_CHECKING:
    import numpy as np

    from dlkit.core.io.results import Results
    from dlkit.embed.nearest import Objective
    from dlkit.embed.results import Analogy, OddOneOut, Similar
    from dlkit.embed.vectors import Vectors

Config = EmbedTrainConfig
MAX_NAMED = 10  # unknown words in an error
AnyModel: TypeAlias = Union[str, "os.PathLike[str]", Model["Vectors"], "Vectors"]


def load(
    model: str | os.PathLike[str] = DEFAULT_MODEL, device: str = "auto", precision: str = "auto"
) -> Model["Vectors"]:
    """Load word vectors by name or file (also word2vec's, GloVe's and fastText's), or by URL.

    They are called like `embed`, have the methods `nearest`, `analogy` and `similarity`, and are
    not loaded twice. `device` and `precision` have no effect.

    >>> from dlkit.embed import load
    >>> vectors = load("english")
    >>> vectors("king").shape
    (128,)
    >>> vectors.similarity("king", "queen") > vectors.similarity("king", "bread")
    True
    """
    name = os.fspath(model)
    return Model(name, load_once(name, device, precision), embed)


@api.keep_loaded
def load_once(model: str, device: str, precision: str) -> "Vectors":
    from dlkit.embed import vectors

    return vectors.load(model, device, precision)


@overload
def embed(texts: str, model: AnyModel = DEFAULT_MODEL) -> "np.ndarray": ...
@overload
def embed(
    texts: Texts, model: AnyModel = DEFAULT_MODEL, *, errors: Literal["raise"] = "raise"
) -> "np.ndarray": ...
@overload
def embed(
    texts: Texts, model: AnyModel = DEFAULT_MODEL, *, errors: Literal["return"]
) -> "Results[np.ndarray | Failure]": ...
def embed(texts: str | Texts, model: AnyModel = DEFAULT_MODEL, *, errors: Errors = "raise") -> Any:
    """The vector (D) of a word or sentence, or the matrix (N, D) of many; float32.

    The vector of a sentence is the mean of its words' vectors, each scaled to length 1, as in
    fastText. `model` is a name, a file or what `load` returned. Unknown words raise a DlkitError
    that names them, with similar spellings; the vectors of fastText know parts of words, too. With
    errors="return", many texts give a list of vectors, with a Failure in the place of an unknown
    word.

    >>> from dlkit.embed import embed
    >>> embed("king").shape
    (128,)
    >>> embed(["king", "queen"]).shape
    (2, 128)
    """
    import numpy as np

    given, many = api.as_texts(texts)
    vectors = api.loaded_model(model, load_once)
    found = answer_words(text_vectors(given, vectors), many, errors)
    if not many or errors == "return":
        return found
    return np.stack(found) if found else np.zeros((0, vectors.embedding.vectors.shape[1]), "f4")


def answer_words(results: Iterable[Any], many: bool, errors: Errors) -> Any:
    """As `api.answer`, but the error names all unknown words."""
    if many and errors == "raise":
        results = [*results]
        failures = [result for result in results if isinstance(result, Failure)]
        if len(failures) > 1:
            first, *others = failures
            names = ", ".join(dict.fromkeys(other.path for other in others[:MAX_NAMED]))
            more = f" and {len(others) - MAX_NAMED} more" if len(others) > MAX_NAMED else ""
            raise DlkitError(f"{first.error}; also {names}{more}", first.path)
    return api.answer(results, many, errors)


def text_vectors(texts: Iterator[str], vectors: "Vectors") -> "Iterator[np.ndarray | Failure]":
    """The vector of each word or sentence; a Failure for one without a known word."""
    for text in texts:
        try:
            yield vectors.text_vector(text)
        except DlkitError as error:
            yield Failure(text, error.reason)


@overload
def nearest(
    texts: str, model: AnyModel = DEFAULT_MODEL, *, top: int = 10, restrict: int | None = None
) -> "Similar": ...
@overload
def nearest(
    texts: Texts,
    model: AnyModel = DEFAULT_MODEL,
    *,
    top: int = 10,
    restrict: int | None = None,
    errors: Literal["raise"] = "raise",
) -> "Results[Similar]": ...
@overload
def nearest(
    texts: Texts,
    model: AnyModel = DEFAULT_MODEL,
    *,
    top: int = 10,
    restrict: int | None = None,
    errors: Literal["return"],
) -> "Results[Similar | Failure]": ...
def nearest(
    texts: str | Texts,
    model: AnyModel = DEFAULT_MODEL,
    *,
    top: int = 10,
    restrict: int | None = None,
    errors: Errors = "raise",
) -> Any:
    """Find the words nearest to a word or sentence, or to each of many, with their cosines.

    `top` is the number of words to find, `restrict` limits the search to the most frequent words.

    >>> from dlkit.embed import nearest
    >>> found = nearest("violin", top=3)
    >>> [neighbor.word for neighbor in found.neighbors]
    ['piano', 'cello', 'harpsichord']
    """
    api.check_ranges(top=(top, 1, None), restrict=(restrict, 1, None))
    given, many = api.as_texts(texts)
    vectors = api.loaded_model(model, load_once)
    return answer_words(vectors.search([*given], top, restrict), many, errors)


def analogy(
    a: str,
    b: str,
    c: str,
    model: AnyModel = DEFAULT_MODEL,
    *,
    top: int = 10,
    restrict: int | None = None,
    objective: "Objective" = "3cosadd",
) -> "Analogy":
    """Find the words nearest to A - B + C: `paris`, `france`, `italy` asks for Italy's paris.

    `objective` is 3cosadd (Mikolov et al. 2013) or 3cosmul (Levy and Goldberg 2014).

    >>> from dlkit.embed import analogy
    >>> found = analogy("paris", "france", "italy")
    >>> found.answers[0].word
    'rome'
    """
    api.check_ranges(top=(top, 1, None), restrict=(restrict, 1, None))
    vectors = api.loaded_model(model, load_once)
    return vectors.analogy(a, b, c, top, restrict, objective)


def similarity(a: str, b: str, model: AnyModel = DEFAULT_MODEL) -> float:
    """The cosine of the vectors of two words or sentences.

    >>> from dlkit.embed import similarity
    >>> similarity("king", "queen") > similarity("king", "bread")
    True
    """
    return api.loaded_model(model, load_once).similarity(a, b)


def odd_one_out(words: Texts, model: AnyModel = DEFAULT_MODEL) -> "OddOneOut":
    """Find the word least similar to the mean of all words.

    >>> from dlkit.embed import odd_one_out
    >>> odd_one_out(["breakfast", "cereal", "dinner", "lunch"]).word
    'cereal'
    """
    from dlkit.embed import infer

    given, _ = api.as_texts(words)
    vectors = api.loaded_model(model, load_once)
    found: OddOneOut = api.answer(infer.odd_one_out([*given], vectors), many=True)[0]
    return found


def train(config: EmbedTrainConfig) -> Path:
    """Train word vectors; return the path of the model, which `load` takes.

    Progress is printed on stderr. `config.out` is the folder of the run.

    >>> from dlkit.embed import Config, nearest, train
    >>> best = train(Config(corpus=["text.txt"], min_count=1, dim=20, epochs=1))
    >>> len(nearest("king", best, top=3).neighbors)
    3
    """
    from dlkit.embed.train import train

    return api.train_with(train, config)


def evaluate(
    data: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    model: AnyModel = DEFAULT_MODEL,
    *,
    objective: "Objective" = "3cosadd",
    restrict: int | None = None,
    allow_skipped: float | None = None,
) -> Scores:
    """Score vectors on files of word pairs with human scores, or of analogies.

    A DlkitError is raised where more than the share `allow_skipped` of a file cannot be used.

    >>> from dlkit.embed import evaluate
    >>> scores = evaluate("pairs.csv")
    >>> scores["spearman", "pairs"]
    1.0
    """
    api.check_ranges(restrict=(restrict, 1, None), allow_skipped=(allow_skipped, 0, 1))
    paths = [data] if isinstance(data, str | os.PathLike) else data

    from dlkit.embed.evaluate import score_files

    vectors = api.loaded_model(model, load_once)
    files = [os.fspath(path) for path in paths]
    scores = score_files(files, vectors, objective, restrict, allow_skipped)
    return Scores(api.answer(scores, many=True))
