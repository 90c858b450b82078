"""Checks of the content of files from elsewhere against declared types. Loads no torch.

A type is a TypedDict, or the signature of the function that takes the values as keywords. A value
that is missing, unknown, of another type or out of bounds is named in a DlkitError.
"""

import inspect
import json
import math
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,
    Required,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from dlkit.core.errors import DlkitError

T = TypeVar("T")
MAX_INT = 2**31 - 1  # of an integer without bounds of its own; the least is 0
MAX_DEPTH = 64  # of lists and objects in each other
MAX_SIDE = 16_384  # pixels of an image that a network takes
SHOWN = 40  # characters of a value in a message
NAMES = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "a string",
    list: "a list",
    dict: "an object",
    type(None): "null",
}


@dataclass(frozen=True)
class Within:
    """The bounds of a number: `Annotated[int, Within(1, 100)]`; NaN is within no bounds."""

    least: float = -math.inf
    largest: float = math.inf
    allows_nan: bool = False


Side = Annotated[int, Within(1, MAX_SIDE)]  # pixels of an image
Count = Annotated[int, Within(1, MAX_INT)]
Score = Annotated[float, Within(allows_nan=True)]
Share = Annotated[float, Within(0, 1)]
Deviation = Annotated[float, Within(1e-6, 1e6)]  # that images are divided by


@contextmanager
def contents(path: Path, reason: str) -> Iterator[None]:
    """Within the context, values of a file that do not fit each other raise a DlkitError about it.

    For files that only dlkit writes, such as the state of a run, whose parts are checked where they
    are taken over.
    """
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise DlkitError(reason, path) from error
    except RuntimeError as error:  # torch's, of tensors of other shapes
        raise DlkitError(reason, path) from error


def read_json(text: str | bytes, path: Path | None = None) -> Any:
    """The value in a JSON text.

    Raises DlkitError for text that is not JSON or not UTF-8, with lone surrogates, or nested deeper
    than Python's reader follows.
    """
    try:
        decoded = text.decode() if isinstance(text, bytes) else text
        decoded.encode()
        value = json.loads(decoded)
        if "\\ud" in decoded.lower():
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeDecodeError as error:
        raise DlkitError(f"damaged: byte {error.start} is not UTF-8", path) from error
    except UnicodeEncodeError as error:
        raise DlkitError("damaged: a lone surrogate in a string", path) from error
    except RecursionError as error:
        raise DlkitError("damaged: nested too deeply", path) from error
    except json.JSONDecodeError as error:
        raise DlkitError(f"not JSON (line {error.lineno}, column {error.colno})", path) from error
    except ValueError as error:
        raise DlkitError("damaged: a number of thousands of digits", path) from error
    if is_deep(value):
        raise DlkitError("damaged: nested too deeply", path)
    return value


def is_deep(value: Any) -> bool:
    """Whether lists and objects are nested deeper than MAX_DEPTH."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True


def fit(schema: Any, value: Any, place: str = "", foreign: bool = False) -> Any:
    """The value, checked against a type; with `foreign` objects may have other keys."""
    check(value, schema, place, foreign)
    return value


def call(function: Callable[..., T], settings: Mapping[str, Any], *given: Any) -> T:
    """`function(*given, **settings)`, of which the settings are checked against its signature."""
    check_arguments(function, settings, len(given))
    return function(*given, **settings)


def check_arguments(function: Callable[..., Any], settings: Mapping[str, Any], given: int) -> None:
    """Raise DlkitError unless the settings are arguments of the function of the right types.

    The first `given` arguments come from elsewhere.
    """
    arguments, takes_more = arguments_of(function)
    chosen = function.keywords if isinstance(function, partial) else {}
    names = [name for name in [*arguments][given:] if name not in chosen]
    if unknown := [name for name in settings if name not in names and not takes_more]:
        raise DlkitError(f"unknown setting {brief(unknown[0])}")
    for name in names:
        annotation, required = arguments[name]
        if settings.get(name) is not None or (required and name in settings):
            check(settings[name], annotation, name)
        elif required:
            raise DlkitError(f"it has no setting {name!r}")


@cache
def arguments_of(function: Callable[..., Any]) -> tuple[dict[str, tuple[Any, bool]], bool]:
    """Type and necessity of each argument, and whether there are any others.

    The `**settings` of a class are the arguments of its base.
    """
    found: dict[str, tuple[Any, bool]] = {}
    for source in sources_of(function):
        hints = get_type_hints(source, include_extras=True)
        takes_more = False
        for name, parameter in inspect.signature(source).parameters.items():
            if parameter.kind is parameter.VAR_KEYWORD:
                takes_more = True
            elif name != "self" and parameter.kind is not parameter.VAR_POSITIONAL:
                required = parameter.default is parameter.empty
                found.setdefault(name, (hints.get(name, Any), required))
        if not takes_more:
            return found, False
    return found, True


def sources_of(function: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """The function, or the initializers of a class and its bases."""
    if isinstance(function, partial):
        function = function.func
    if not isinstance(function, type):
        yield function
        return
    for base in function.__mro__:
        if "__init__" in vars(base):
            yield vars(base)["__init__"]


def check(value: Any, annotation: Any, place: str, foreign: bool = False) -> None:
    """Raise DlkitError, which names the place, unless the value has the type."""
    origin = get_origin(annotation)
    if annotation is Any or isinstance(annotation, TypeVar):
        return
    if origin in (NotRequired, Required):
        check(value, get_args(annotation)[0], place, foreign)
    elif origin is Annotated:
        inner, *limits = get_args(annotation)
        check_number(value, inner, place, next((b for b in limits if isinstance(b, Within)), None))
    elif origin is Literal:
        choices = get_args(annotation)
        if not any(type(value) is type(choice) and value == choice for choice in choices):
            listed = ", ".join(map(str, choices))
            raise DlkitError(f"{place} is {brief(value)}; it must be one of {listed}")
    elif origin in (Union, types.UnionType):
        check_union(value, get_args(annotation), place, foreign)
    elif is_typeddict(annotation):
        check_object(value, annotation, place, foreign)
    elif origin in (list, Sequence, tuple) or annotation in (list, tuple):
        check_list(value, annotation, place, foreign)
    elif origin in (dict, Mapping) or annotation in (dict, Mapping):
        require(value, dict, place)
        names, values = get_args(annotation) or (str, Any)
        for name, inner in value.items():
            check(name, names, f"a key of {place or 'it'}")
            check(inner, values, f"{brief(name)}{f' of {place}' if place else ''}", foreign)
    elif annotation in (int, float):
        check_number(value, annotation, place)
    else:
        require(value, type(None) if annotation is None else annotation, place)


def check_number(value: Any, kind: Any, place: str, bounds: Within | None = None) -> None:
    """Raise DlkitError unless the value is a finite number of the kind within the bounds."""
    if bounds is None:
        bounds = Within(0, MAX_INT) if kind is int else Within(-math.inf, math.inf)
    allowed = (int,) if kind is int else (int, float)
    if isinstance(value, bool) or not isinstance(value, allowed):
        raise DlkitError(f"{place} is {brief(value)}; it must be {NAMES[kind]}")
    is_finite = isinstance(value, int) or math.isfinite(value)
    if bounds.allows_nan and not is_finite:
        return
    if not (is_finite and bounds.least <= value <= bounds.largest):
        limits = f" from {bounds.least:.10g} to {bounds.largest:.10g}"
        limits = limits if math.isfinite(bounds.least) else ""
        raise DlkitError(f"{place} is {brief(value)}; it must be {NAMES[kind]}{limits}")


def check_union(value: Any, choices: Sequence[Any], place: str, foreign: bool) -> None:
    """Raise DlkitError unless the value has one of the types."""
    errors = []
    for choice in choices:
        try:
            check(value, choice, place, foreign)
        except DlkitError as error:
            is_near = isinstance(value, dict) and (is_typeddict(choice) or choice is dict)
            errors.append((is_near, error))
        else:
            return
    names = [NAMES.get(choice, "") for choice in choices]
    if all(names) and not any(near for near, _ in errors):
        raise DlkitError(f"{place} is {brief(value)}; it must be {' or '.join(names)}")
    raise max(errors, key=lambda entry: entry[0])[1]


def check_object(value: Any, schema: Any, place: str, foreign: bool) -> None:
    """Raise DlkitError unless the value is an object with the keys of a TypedDict."""
    require(value, dict, place)
    hints = hints_of(schema)
    for name in sorted(schema.__required_keys__):
        if name not in value:
            raise DlkitError(f"{place or 'it'} has no setting {name!r}")
    for name, inner in value.items():
        if inner is None and name not in schema.__required_keys__:
            continue  # as if it were missing
        if name in hints:
            check(inner, hints[name], f"{place}.{name}" if place else name, foreign)
        elif not foreign:
            raise DlkitError(f"unknown setting {brief(name)}{f' of {place}' if place else ''}")


hints_of = cache(partial(get_type_hints, include_extras=True))


def check_list(value: Any, annotation: Any, place: str, foreign: bool) -> None:
    """Raise DlkitError unless the value is a list of the elements' type."""
    if not isinstance(value, tuple):
        require(value, list, place)
    kinds = get_args(annotation)
    if get_origin(annotation) is tuple and Ellipsis not in kinds:
        if len(value) != len(kinds):
            raise DlkitError(f"{place} has {len(value)} elements; it must have {len(kinds)}")
        for number, (inner, kind) in enumerate(zip(value, kinds, strict=True)):
            check(inner, kind, f"{place}[{number}]", foreign)
        return
    if kinds:
        for number, inner in enumerate(value):
            if not (kinds[0] is str and isinstance(inner, str)):
                check(inner, kinds[0], f"{place}[{number}]", foreign)


def require(value: Any, kind: Any, place: str) -> None:
    """Raise DlkitError unless the value is of the class."""
    if not isinstance(kind, type):
        return
    if not isinstance(value, kind):
        name = NAMES.get(kind, f"of the type {kind.__name__}")
        raise DlkitError(f"{place or 'it'} is {brief(value)}; it must be {name}")


def brief(value: Any) -> str:
    """A value for a message."""
    if isinstance(value, dict):
        return "an object" if value else "an empty object"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    is_huge = isinstance(value, int) and abs(value) >= 10**SHOWN
    text = "a number of many digits" if is_huge else repr(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN // 2]}…{text[-SHOWN // 2 :]}"
