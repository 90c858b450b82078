"""Text, JSON and YAML files of data sets, read whole. Loads no torch."""

import json
from pathlib import Path
from typing import Any

from dlkit.core.errors import DlkitError, os_reason

MAX_YAML = 10_000_000  # bytes; a description of a data set has a few hundred


def read_text(file: Path) -> str:
    """The text of a UTF-8 file without a byte order mark. Raises DlkitError for another file."""
    try:
        return file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DlkitError(f"not UTF-8 (byte {error.start})", file) from None
    except (OSError, ValueError) as error:
        raise DlkitError(os_reason(error), file) from None


def read_json(file: Path) -> Any:
    """The content of a JSON file. Raises DlkitError for another file."""
    text = read_text(file)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DlkitError(
            f"not JSON ({error.msg}, column {error.colno})", f"{file}:{error.lineno}"
        ) from None
    except (RecursionError, ValueError):
        raise DlkitError("not JSON that can be read: nested too deeply", file) from None


def read_yaml(file: Path) -> Any:
    """The content of a YAML file: dicts, lists and strings, as they are spelled.

    So `no` and `007` stay words. Raises DlkitError for another file and for a key that is given
    twice.
    """
    import yaml

    text = read_text(file)
    if len(text) > MAX_YAML:
        raise DlkitError(f"over {MAX_YAML // 10**6} MB: not a description of a data set", file)

    def content(node: Any) -> Any:
        if isinstance(node, yaml.ScalarNode):
            return node.value
        if isinstance(node, yaml.SequenceNode):
            return [content(item) for item in node.value]
        found: dict[Any, Any] = {}
        for key, value in node.value:
            name = content(key)
            if not isinstance(name, str):
                raise DlkitError("not a name before the colon", f"{file}:{line_of(key)}")
            if name in found:
                raise DlkitError(f"{name!r} is given twice", f"{file}:{line_of(key)}")
            found[name] = content(value)
        return found

    try:
        root = yaml.compose(text, Loader=getattr(yaml, "CBaseLoader", yaml.BaseLoader))
        return None if root is None else content(root)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = file if mark is None else f"{file}:{mark.line + 1}"
        raise DlkitError(
            f"not YAML ({getattr(error, 'problem', None) or 'damaged'})", where
        ) from None
    except RecursionError:
        raise DlkitError("not YAML that can be read: nested too deeply", file) from None


def refuse_entities(content: bytes, file: Path) -> None:
    """Raise DlkitError for XML that defines entities, which may be as large as they like."""
    if b"<!ENTITY" in content:
        raise DlkitError("XML with entities of its own, which no annotation tool writes", file)


def line_of(node: Any) -> int:
    line: int = node.start_mark.line + 1
    return line
