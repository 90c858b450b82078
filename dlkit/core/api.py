"""The Python functions of a task: loaded models, one input or many, scores. Loads no torch."""

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from enum import Enum
from functools import lru_cache, wraps
from pathlib import Path
from typing import Any, Generic, Literal, TypeAlias, TypeVar, get_args, get_origin, overload

from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure, report_notes
from dlkit.core.io.files import exists
from dlkit.core.io.results import Results, html_table
from dlkit.core.io.scores import Score, label_rows

M = TypeVar("M")
R = TypeVar("R")
Errors = Literal["raise", "return"]
Texts: TypeAlias = list[str] | tuple[str, ...] | Iterator[str]  # a string is one text
KEPT_MODELS = 4  # of a task, which are not loaded again


@dataclass(frozen=True)
class Model(Generic[M]):
    """A loaded model. Call it like the task's function, or give it to that as `model`.

    `loaded` is the model as the task's own code uses it; its attributes, such as `labels` and
    `device`, are also this object's.
    """

    name: str
    loaded: M
    verb: Callable[..., Any]

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        return self.verb(*inputs, model=self, **options)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "loaded":  # while it is being copied
            raise AttributeError(name)
        return getattr(self.loaded, name)

    def __repr__(self) -> str:
        return f"<{self.verb.__name__} model {self.name!r}>"


def keep_loaded(load: Callable[..., M]) -> Callable[..., M]:
    """A function that loads a model, but not a second time while the file is the same.

    Its arguments are the model, the device, the precision, and perhaps settings of the task.
    """

    @lru_cache(KEPT_MODELS)
    def kept(version: object, model: str, *settings: object) -> M:
        return load(model, *settings)

    @wraps(load)
    def load_once(model: str, *settings: object) -> M:
        return kept(file_version(model), model, *settings)

    return load_once


def file_version(model: str) -> tuple[int, int] | None:
    """The time and size of a model's file, to notice that it was written again; None for names."""
    try:
        found = os.stat(model)
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_size


def loaded_model(
    model: Any,
    load: Callable[[str, str, str], M],
    device: str = "auto",
    precision: str = "auto",
) -> M:
    """The model of a verb's argument `model`: loaded by name or file, else what `load` returned."""
    if isinstance(model, str | os.PathLike):
        return load(os.fspath(model), device, precision)
    if (device, precision) != ("auto", "auto"):
        raise DlkitError("device and precision are arguments of load; this model is loaded")
    loaded: M = model.loaded if isinstance(model, Model) else model
    return loaded


def answer(results: Iterable[Any], many: bool, errors: Errors = "raise") -> Any:
    """The result of one input, or the list of many.

    A Failure is raised as a DlkitError; with many inputs and the errors `return`, it is in the list
    in the place of its input.
    """
    if errors not in get_args(Errors):
        raise DlkitError(f"errors={errors!r}: choose from {', '.join(get_args(Errors))}")
    found: Results[Any] = Results()
    for result in results:
        if isinstance(result, Failure) and not (many and errors == "return"):
            raise DlkitError(result.error, result.path)
        found.append(result)
    report_notes()
    return found if many else found[0]


def as_texts(texts: Any) -> tuple[Iterator[str], bool]:
    """The texts of one string or many, and whether there are many: a string is one text.

    Raises DlkitError for anything but strings.
    """
    if isinstance(texts, str):
        return iter([texts]), False
    if isinstance(texts, bytes | os.PathLike) or not isinstance(texts, Iterable):
        raise DlkitError(f"{texts!r}: not a text; give a string, or a list of strings")
    return map(as_text, texts), True


def as_text(text: Any) -> str:
    """A string as it is. Raises DlkitError for anything else."""
    if not isinstance(text, str):
        raise DlkitError(f"{text!r}: not a text; give strings")
    return text


def check_ranges(**values: tuple[float | None, float | None, float | None]) -> None:
    """Raise DlkitError for an argument outside its range: value, least and largest, or None."""
    for name, (value, least, largest) in values.items():
        low, high = -math.inf if least is None else least, math.inf if largest is None else largest
        if value is None or low <= value <= high:
            continue
        wanted = f"from {least} to {largest}"
        if least is None or largest is None:
            wanted = f"{least} or more" if largest is None else f"{largest} or less"
        raise DlkitError(f"{name}={value}: not in the range; give {wanted}")


def train_with(train: Callable[[Any], Path], config: Any) -> Path:
    """Check the settings as the command line does, and train."""
    check_settings(config)
    path = train(config)
    report_notes()
    return path


def check_settings(config: Any) -> None:
    """Raise DlkitError for settings that the command line would refuse, and for missing data.

    A string becomes a path, or a member of an enumeration, where one is needed, and a single file
    becomes a list of one.
    """
    for setting in fields(config):
        value = getattr(config, setting.name)
        choices = literals(setting.type)
        if choices and value is not None and value not in choices:
            raise DlkitError(f"{setting.name}={value!r}: choose from {', '.join(choices)}")
        if value != setting.default:
            setattr(config, setting.name, converted(value, setting.type))
        limits = setting.metadata
        if {"min", "max"} & {*limits}:
            check_ranges(**{setting.name: (value, limits.get("min"), limits.get("max"))})
    data = getattr(config, "data", None)
    if isinstance(data, Path) and not exists(data):
        raise DlkitError("no such folder or file", data)


def converted(value: Any, annotation: Any) -> Any:
    """A setting as its type: a path, a member of an enumeration, or a list of names of files."""
    if annotation == list[str]:
        names = [value] if isinstance(value, str | os.PathLike) else value
        return [os.fspath(name) for name in names]
    if annotation is Path or is_enum(annotation):
        return annotation(value)
    return value


def is_enum(annotation: Any) -> bool:
    """Whether this is a class of an enumeration."""
    return isinstance(annotation, type) and issubclass(annotation, Enum)


def literals(annotation: Any) -> list[str]:
    """The choices of a Literal, also of `Literal[...] | None`, or of an enumeration; else none."""
    if is_enum(annotation):
        return [member.value for member in annotation]
    if get_origin(annotation) is Literal:
        return [*get_args(annotation)]
    return [choice for part in get_args(annotation) for choice in literals(part)]


class Scores(Sequence[Score]):
    """The scores of a model. `scores["ap50"]` is a metric over all, `scores["ap50", "cat"]` of cat.

    A notebook shows a table of labels and metrics.
    """

    def __init__(self, scores: Iterable[Score]) -> None:
        self.scores = list(scores)

    @overload
    def __getitem__(self, key: int) -> Score: ...
    @overload
    def __getitem__(self, key: slice) -> Sequence[Score]: ...
    @overload
    def __getitem__(self, key: str | tuple[str, str]) -> float | None: ...
    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, int | slice):
            return self.scores[key]
        metric, label = (key, "all") if isinstance(key, str) else key
        for score in self.scores:
            if (score.metric, score.label) == (metric, label):
                return score.value
        metrics = dict.fromkeys(score.metric for score in self.scores if score.label == label)
        raise KeyError(f"no score {metric!r} of {label!r}; choose from {', '.join(metrics)}")

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[Score]:
        return iter(self.scores)

    def __repr__(self) -> str:
        shown = (f"{score.metric} {score.value}" for score in self.scores if score.label == "all")
        labels = {score.label for score in self.scores} - {"all"}
        return f"<scores: {', '.join(shown)}{f'; {len(labels)} labels' if labels else ''}>"

    def rows(self) -> list[dict[str, Any]]:
        """A row for each label, with a column for each metric."""
        return label_rows(self.scores)

    def _repr_html_(self) -> str:
        return html_table(self.rows())


def evaluate_with(
    evaluate: Callable[..., Iterable[Score | Failure]],
    data: "str | os.PathLike[str] | Sequence[str | os.PathLike[str]]",
    split: str,
    model: "str | os.PathLike[str] | Model[Any]",
    save: "str | os.PathLike[str] | None",
    *settings: Any,
    **options: Any,
) -> Scores:
    """All scores of a task's `evaluate_checkpoint`; a Failure is raised as a DlkitError."""
    folders = [data] if isinstance(data, str | os.PathLike) else data
    for folder in folders:
        if not exists(folder):
            raise DlkitError("no such folder or file", folder)
    scores = evaluate(
        [os.fspath(folder) for folder in folders],
        split,
        model.name if isinstance(model, Model) else os.fspath(model),
        None if save is None else Path(save),
        *settings,
        **options,
    )
    return Scores(answer(scores, many=True))
