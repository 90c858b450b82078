"""JSON lines: one JSON object a line, read strictly."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from dlkit.core.io.csv_files import Skip

NOT_JSON = "line that is not JSON"
NO_OBJECT = "line that is no JSON object"
TOO_DEEP = "JSON nested too deeply"
SURROGATE = "text with half of a surrogate pair"


class Unusable(ValueError):
    """A line of JSON that is not used, with the reason."""


def json_objects(
    lines: Iterable[str], file: Path | str, skip: Skip
) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """Yield the number of each line and its object; None for a blank line.

    `skip` is called with the reason and the place of a line that is no JSON, no object, has a key
    twice, NaN or an infinite number (which JSON does not have), half of a surrogate pair, or is
    nested too deeply.
    """
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            yield number, None
            continue
        try:
            yield number, parse_object(line)
        except Unusable as error:
            skip(str(error), f"{file}:{number}")


def parse_object(line: str) -> dict[str, Any]:
    """The object in a line. Raises Unusable."""
    try:
        found = json.loads(line, object_pairs_hook=unique_keys, parse_constant=refuse_constant)
        if r"\u" in line:
            json.dumps(found, ensure_ascii=False).encode()
    except Unusable:
        raise
    except UnicodeEncodeError as error:
        raise Unusable(SURROGATE) from error
    except RecursionError as error:
        raise Unusable(TOO_DEEP) from error
    except ValueError as error:
        raise Unusable(NOT_JSON) from error
    if not isinstance(found, dict):
        raise Unusable(NO_OBJECT)
    return found


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The pairs as a dict. Raises Unusable for a key that occurs twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise Unusable("object with a key twice")
    return found


def refuse_constant(name: str) -> Any:
    """Raise Unusable for NaN, Infinity and -Infinity."""
    raise Unusable(f"{name}, which JSON does not have")
