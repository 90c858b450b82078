"""Tokenizers in Python: `load`, `tokenize`, `train`, `evaluate`. Loads no torch."""

import os
import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict, Union, Unpack, overload

from dlkit.core import api
from dlkit.core.api import Errors, Texts
from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.tokenize.config import DEFAULT_MODEL, TokenizeTrainConfig

if TYPE_CHECKING:
    from dlkit.core.io.results import Results
    from dlkit.tokenize.evaluate import TextScores
    from dlkit.tokenize.infer import EncodedLine
    from dlkit.tokenize.model import Tokenizer

Config = TokenizeTrainConfig
AnyModel: TypeAlias = Union[str, "os.PathLike[str]", "Tokenizer"]


class Options(TypedDict, total=False):
    """The options of `tokenize`."""

    offsets: bool
    parse_special: bool
    add_special: bool
    dropout: float
    seed: int | None
    workers: int


def load(
    model: str | os.PathLike[str] = DEFAULT_MODEL, device: str = "auto", precision: str = "auto"
) -> "Tokenizer":
    """Load a tokenizer by name, file, folder or URL, or `hf:OWNER/NAME` of Hugging Face's hub.

    `device` and `precision` have no effect.

    >>> from dlkit.tokenize import load
    >>> tokenizer = load("english-8k")
    >>> tokenizer.encode("hello")
    [260, 807, 81]
    >>> tokenizer.decode([260, 807, 81])
    'hello'
    """
    from dlkit.tokenize import infer

    return infer.load(os.fspath(model))


@api.keep_loaded
def load_once(model: str, device: str, precision: str) -> "Tokenizer":
    return load(model)


@overload
def tokenize(
    texts: str, model: AnyModel = DEFAULT_MODEL, **options: Unpack[Options]
) -> "EncodedLine": ...
@overload
def tokenize(
    texts: Texts,
    model: AnyModel = DEFAULT_MODEL,
    *,
    errors: Literal["raise"] = "raise",
    **options: Unpack[Options],
) -> "Results[EncodedLine]": ...
@overload
def tokenize(
    texts: Texts,
    model: AnyModel = DEFAULT_MODEL,
    *,
    errors: Literal["return"],
    **options: Unpack[Options],
) -> "Results[EncodedLine | Failure]": ...
def tokenize(
    texts: str | Texts,
    model: AnyModel = DEFAULT_MODEL,
    *,
    offsets: bool = False,
    parse_special: bool = False,
    add_special: bool = True,
    dropout: float = 0.0,
    seed: int | None = None,
    workers: int = 2,
    errors: Errors = "raise",
) -> Any:
    """Cut one text into tokens, or each of many.

    A string is one text, with its line breaks; a list or an iterator of strings are many. `model`
    is a name, a file or what `load` returned. The options are those of `dlkit tokenize`: with
    `offsets` the result has the characters of each token, start and end; with `dropout` merges are
    skipped at random. `add_special=False` omits the tokens that the tokenizer's file puts
    around each text, such as [CLS] and [SEP].

    >>> from dlkit.tokenize import tokenize
    >>> found = tokenize("Hello, world!", offsets=True)
    >>> found.tokens
    ['H', 'ell', 'o', ',', 'Ġworld', '!']
    >>> found.offsets[4]
    (6, 12)
    """
    from dlkit.tokenize.infer import check_dropout

    check_dropout(dropout, offsets)
    api.check_ranges(workers=(workers, 1, None))
    given, many = api.as_texts(texts)
    tokenizer = api.loaded_model(model, load_once)
    encoded = encode_texts(
        list(given), tokenizer, offsets, parse_special, dropout, seed, workers, add_special
    )
    return api.answer(encoded, many, errors)


def encode_texts(
    texts: Sequence[str],
    tokenizer: "Tokenizer",
    offsets: bool,
    parse_special: bool,
    dropout: float,
    seed: int | None,
    workers: int,
    add_special: bool,
) -> "Iterator[EncodedLine | Failure]":
    """Encode each text; a Failure for one that the tokenizer has no tokens for."""
    from dlkit.tokenize.infer import encode_line, make_line
    from dlkit.tokenize.model import COMPILED_SIZE

    if sum(map(len, texts)) >= COMPILED_SIZE and not (offsets or parse_special or dropout):
        with suppress(DlkitError, UnicodeEncodeError):  # found again below, in its text
            encoded = tokenizer.encode_batch(texts, workers)
            for text, ids in zip(texts, encoded, strict=True):
                yield make_line(text, tokenizer.add_special(ids) if add_special else ids, tokenizer)
            return
    state = random.getstate()
    random.seed(seed)
    try:
        for number, text in enumerate(texts, start=1):
            try:
                yield encode_line(text, tokenizer, offsets, parse_special, dropout, add_special)
            except DlkitError as error:
                yield Failure(f"text {number}", error.reason)
    finally:
        random.setstate(state)


@overload
def train(corpus: TokenizeTrainConfig) -> Path: ...
@overload
def train(
    corpus: str | Path | Iterable[str | Path],
    config: TokenizeTrainConfig | None = None,
    distributed: bool = False,
    **settings: Any,
) -> "Tokenizer": ...
def train(
    corpus: TokenizeTrainConfig | str | Path | Iterable[str | Path],
    config: TokenizeTrainConfig | None = None,
    distributed: bool = False,
    **settings: Any,
) -> "Path | Tokenizer":
    """Train a tokenizer on texts and return it; or train by a Config, and return its file.

    Each str is a text, each Path a file or a folder of text; settings are the fields of `Config`.
    `train(Config(...))` reads the files of its `corpus`, and writes the tokenizer to its `out`.
    With `distributed`, the processes that torchrun or srun started share the counting; all must
    call this.

    >>> from dlkit.tokenize import train
    >>> tokenizer = train("low low low lower new newer newest widest lowest", vocab_size=265)
    >>> tokenizer.tokens("lowest newest")
    ['low', 'est', 'Ġnew', 'est']
    """
    from dlkit.tokenize.train import train, train_file

    if isinstance(corpus, TokenizeTrainConfig):
        return api.train_with(train_file, corpus)
    given = [corpus] if isinstance(corpus, str | Path) else corpus
    return train(given, config, distributed, **settings)


def evaluate(
    data: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    model: AnyModel = DEFAULT_MODEL,
    *,
    errors: Literal["strict", "replace"] = "strict",
    workers: int = 2,
) -> "Results[TextScores]":
    """Score a tokenizer on text files, one by one, and on all of several together.

    `errors` is the handling of bytes that are not UTF-8.

    >>> from dlkit.tokenize import evaluate
    >>> (scores,) = evaluate("data/capitals.txt")
    >>> scores.round_trip_errors
    0
    """
    from dlkit.tokenize.evaluate import score_files

    api.check_ranges(workers=(workers, 1, None))
    paths = [data] if isinstance(data, str | os.PathLike) else data
    files = [os.fspath(path) for path in paths]
    scores = score_files(files, api.loaded_model(model, load_once), workers, errors)
    found: Results[TextScores] = api.answer(scores, many=True)
    return found
