"""Language models in Python: `load`, `lm_generate`, `score`, `fill`, `train`, `evaluate`.

Loads no torch until a function is called, and none for n-gram models.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict, Union, Unpack, overload

from dlkit.core import api
from dlkit.core.api import Errors, Model, Scores, Texts
from dlkit.core.config import Precision
from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.lm_generate.config import DEFAULT_MODEL, LmTrainConfig, make_sampling

if TYPE_CHECKING:
    from dlkit.core.io.results import Results
    from dlkit.lm_generate.language_model import LanguageModel
    from dlkit.lm_generate.results import Continuation, Features, FilledText, TextScore

Config = LmTrainConfig
AnyModel: TypeAlias = Union[str, "os.PathLike[str]", Model["LanguageModel"], "LanguageModel"]


class Options(TypedDict, total=False):
    """The options of `lm_generate`, but for `samples`."""

    max_tokens: int
    temperature: float | None
    top_k: int | None
    top_p: float | None
    min_p: float | None
    repetition_penalty: float
    stop: str | Sequence[str]
    seed: int
    greedy: bool
    beam: int
    batch_size: int
    device: str
    precision: Precision
    parse_special: bool | None


def load(
    model: str | os.PathLike[str] = DEFAULT_MODEL,
    device: str = "auto",
    precision: Precision = "auto",
    parse_special: bool | None = None,
) -> Model["LanguageModel"]:
    """Load a language model by name, file or URL; or by folder or `hf:OWNER/NAME` of Hugging Face.

    It is called like `lm_generate`, and is not loaded twice. With `parse_special`, special tokens
    written in texts are read as such, as by default in Hugging Face's models.

    >>> from dlkit.lm_generate import load, score
    >>> model = load("english-ngram")
    >>> score("The river flows.", model).perplexity < score("Flows the river.", model).perplexity
    True
    """
    name = os.fspath(model)
    return Model(name, load_once(name, device, precision, parse_special), lm_generate)


@api.keep_loaded
def load_once(
    model: str, device: str, precision: Any, parse_special: bool | None = None
) -> "LanguageModel":
    from dlkit.lm_generate import infer

    return infer.load(model, device, precision, parse_special)


def find_model(
    model: AnyModel, device: str, precision: Precision, parse_special: bool | None
) -> "LanguageModel":
    """The model of a verb's argument `model`: loaded by name or file, else what `load` returned."""
    if parse_special is None:
        return api.loaded_model(model, load_once, device, precision)
    if not isinstance(model, str | os.PathLike):
        raise DlkitError("parse_special is an argument of load; this model is loaded")
    return load_once(os.fspath(model), device, precision, parse_special)


@overload
def lm_generate(
    prompts: str,
    model: AnyModel = DEFAULT_MODEL,
    *,
    samples: None = None,
    **options: Unpack[Options],
) -> "Continuation": ...
@overload
def lm_generate(
    prompts: str, model: AnyModel = DEFAULT_MODEL, *, samples: int, **options: Unpack[Options]
) -> "Results[Continuation]": ...
@overload
def lm_generate(
    prompts: Texts,
    model: AnyModel = DEFAULT_MODEL,
    *,
    samples: int | None = None,
    errors: Literal["raise"] = "raise",
    **options: Unpack[Options],
) -> "Results[Continuation]": ...
@overload
def lm_generate(
    prompts: Texts,
    model: AnyModel = DEFAULT_MODEL,
    *,
    samples: int | None = None,
    errors: Literal["return"],
    **options: Unpack[Options],
) -> "Results[Continuation | Failure]": ...
def lm_generate(
    prompts: str | Texts = "",
    model: AnyModel = DEFAULT_MODEL,
    *,
    samples: int | None = None,
    max_tokens: int = 256,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float = 1.0,
    stop: str | Sequence[str] = (),
    seed: int = 0,
    greedy: bool = False,
    beam: int = 0,
    batch_size: int = 16,
    device: str = "auto",
    precision: Precision = "auto",
    parse_special: bool | None = None,
    errors: Errors = "raise",
) -> Any:
    """Continue a prompt, or each of many.

    A string is one prompt; a list or an iterator of strings are many. `model` is a name, a file or
    what `load` returned. The options are those of `dlkit lm-generate`; with `samples` the result is
    a list of this many texts for each prompt, one after the other. `text` is what the model added
    to the prompt, `str(result)` both together, and `tokens` have their log-probabilities.

    >>> from dlkit.lm_generate import lm_generate
    >>> found = lm_generate("ROMEO:", max_tokens=30, temperature=0.7, seed=1)
    >>> found.finish, len(found.tokens), str(found) == "ROMEO:" + found.text
    ('length', 30, True)
    """
    api.check_ranges(
        samples=(samples, 1, None),
        max_tokens=(max_tokens, 1, None),
        seed=(seed, 0, None),
        beam=(beam, 0, None),
        batch_size=(batch_size, 1, None),
    )
    given, many = api.as_texts(prompts)

    from dlkit.lm_generate import infer

    config = infer.GenerationConfig(
        make_sampling(greedy, beam, repetition_penalty, temperature, top_k, top_p, min_p),
        samples or 1,
        max_tokens,
        (stop,) if isinstance(stop, str) else tuple(stop),
        beam,
        seed,
        batch_size,
    )
    loaded = find_model(model, device, precision, parse_special)
    found = infer.continuations(given, loaded, config)
    return api.answer(found, many or samples is not None, errors)


@overload
def score(
    texts: str,
    model: AnyModel = DEFAULT_MODEL,
    *,
    batch_size: int = 16,
    device: str = "auto",
    precision: Precision = "auto",
    parse_special: bool | None = None,
) -> "TextScore": ...
@overload
def score(
    texts: Texts,
    model: AnyModel = DEFAULT_MODEL,
    *,
    batch_size: int = 16,
    device: str = "auto",
    precision: Precision = "auto",
    parse_special: bool | None = None,
) -> "Results[TextScore]": ...
def score(
    texts: str | Texts,
    model: AnyModel = DEFAULT_MODEL,
    *,
    batch_size: int = 16,
    device: str = "auto",
    precision: Precision = "auto",
    parse_special: bool | None = None,
) -> Any:
    """The log-probability (natural) and perplexity of a text, or of each of many.

    `tokens` have the log-probability of each token, given the text before it.

    >>> from dlkit.lm_generate import score
    >>> found = score("To be, or not to be")
    >>> found.perplexity < score("eb ot ton ro ,eb oT").perplexity
    True
    """
    api.check_ranges(batch_size=(batch_size, 1, None))
    given, many = api.as_texts(texts)

    from dlkit.lm_generate import infer

    loaded = find_model(model, device, precision, parse_special)
    return api.answer(infer.score(given, loaded, batch_size), many)


@overload
def fill(
    texts: str,
    model: AnyModel,
    *,
    count: int = 5,
    device: str = "auto",
    precision: Precision = "auto",
    parse_special: bool | None = None,
) -> "FilledText": ...
@overload
def fill(
    texts: Texts,
    model: AnyModel,
    *,
    count: int = 5,
    device: str = "auto",
    precision: Precision = "auto",
    parse_special: bool | None = None,
    errors: Literal["raise"] = "raise",
) -> "Results[FilledText]": ...
@overload
def fill(
    texts: Texts,
    model: AnyModel,
    *,
    count: int = 5,
    device: str = "auto",
    precision: Precision = "auto",
    parse_special: bool | None = None,
    errors: Literal["return"],
) -> "Results[FilledText | Failure]": ...
def fill(
    texts: str | Texts,
    model: AnyModel,
    *,
    count: int = 5,
    device: str = "auto",
    precision: Precision = "auto",
    parse_special: bool | None = None,
    errors: Errors = "raise",
) -> Any:
    """Find the most probable tokens for each [MASK] of a text, or of each of many, by a bert.

    A t5 fills <extra_id_0>, <extra_id_1>, ... with texts. No bundled model fills gaps.

    >>> from dlkit.lm_generate import fill
    >>> found = fill("The capital of France is [MASK].", "hf:bert-base-uncased")  # doctest: +SKIP
    >>> found.gaps[0].candidates[0].token  # doctest: +SKIP
    'paris'
    """
    api.check_ranges(count=(count, 1, None))
    given, many = api.as_texts(texts)

    from dlkit.lm_generate import infer

    loaded = find_model(model, device, precision, parse_special)
    return api.answer(infer.fill(given, loaded, count), many, errors)


@overload
def features(
    texts: str,
    model: AnyModel,
    *,
    layer: int | None = None,
    device: str = "auto",
    precision: Precision = "auto",
    parse_special: bool | None = None,
) -> "Features": ...
@overload
def features(
    texts: Texts,
    model: AnyModel,
    *,
    layer: int | None = None,
    device: str = "auto",
    precision: Precision = "auto",
    parse_special: bool | None = None,
    errors: Literal["raise"] = "raise",
) -> "Results[Features]": ...
@overload
def features(
    texts: Texts,
    model: AnyModel,
    *,
    layer: int | None = None,
    device: str = "auto",
    precision: Precision = "auto",
    parse_special: bool | None = None,
    errors: Literal["return"],
) -> "Results[Features | Failure]": ...
def features(
    texts: str | Texts,
    model: AnyModel,
    *,
    layer: int | None = None,
    device: str = "auto",
    precision: Precision = "auto",
    parse_special: bool | None = None,
    errors: Errors = "raise",
) -> Any:
    """A vector for each token of a text in its context, by a bilm (ELMo) or a bert.

    `layer` is that of a bilm, 0 for the embedding; by default the last one. No bundled model
    computes features.

    >>> from dlkit.lm_generate import features
    >>> found = features("The bank of the river", "run/best.safetensors")  # doctest: +SKIP
    >>> len(found.vectors) == len(found.tokens)  # doctest: +SKIP
    True
    """
    api.check_ranges(layer=(layer, 0, None))
    given, many = api.as_texts(texts)

    from dlkit.lm_generate import infer

    loaded = find_model(model, device, precision, parse_special)
    return api.answer(infer.features(given, loaded, layer), many, errors)


def train(config: LmTrainConfig) -> Path:
    """Train a language model; return the path of its best checkpoint, which `load` takes.

    Progress is printed on stderr. `config.out` is the folder of the run.

    >>> from dlkit.lm_generate import Config, lm_generate, train
    >>> best = train(Config(data=["text.txt"], arch="ngram", tokenizer="words"))
    >>> len(lm_generate("the king", best, max_tokens=4).tokens)
    4
    """
    from dlkit.lm_generate.train import train

    return api.train_with(train, config)


def evaluate(
    data: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    split: str = "all",
    model: AnyModel = DEFAULT_MODEL,
    *,
    stride: int | None = None,
    errors: Literal["strict", "replace"] = "strict",
    device: str = "auto",
    precision: Precision = "fp32",
    parse_special: bool | None = None,
) -> Scores:
    """Perplexity and bits per character of a model on text files, on each and on all.

    The `split` val or train is the part of the files that training on them validates or learns on.
    `errors` is the handling of bytes that are not UTF-8.

    >>> from dlkit.lm_generate import evaluate
    >>> scores = evaluate("text.txt", model="english-ngram")
    >>> scores["perplexity"] > 1
    True
    """
    api.check_ranges(stride=(stride, 1, None))
    paths = [data] if isinstance(data, str | os.PathLike) else data
    files = [os.fspath(path) for path in paths]

    from dlkit.lm_generate.evaluate import evaluate

    if not isinstance(model, str | os.PathLike):
        precision = "auto"  # of a model that is loaded
    loaded = find_model(model, device, precision, parse_special)
    return Scores(api.answer(evaluate(loaded, files, split, stride, errors), many=True))
