"""Reading of JSON objects by a table of their fields: a field that is not in it is named."""

from collections.abc import Mapping
from typing import Any

from dlkit.core.errors import DlkitError

Json = dict[str, Any]
# The fields of a part, with their defaults, where several readers need them.
BPE_FIELDS: Json = {
    "vocab": {},
    "merges": [],
    "dropout": None,  # of training: printed when the file is read
    "unk_token": None,
    "continuing_subword_prefix": "",
    "end_of_word_suffix": "",
    "fuse_unk": False,
    "byte_fallback": False,
    "ignore_merges": False,
}
METASPACE_FIELDS: Json = {
    "replacement": "▁",
    "prepend_scheme": None,
    "split": True,
    "add_prefix_space": None,
    "str_rep": None,
}
EMPTY: tuple[Any, ...] = (None, False, "", [], {})


class NotUnderstood(Exception):
    """A part of a tokenizer.json that dlkit does not know; its text names the part."""


def read_fields(part: Mapping[str, Any], where: str, **defaults: Any) -> Json:
    """The values of the fields in `defaults`, with these where a field is missing or null.

    Raises NotUnderstood for any other field, unless its value is empty, and DlkitError for a value
    of another type than the default.
    """
    for name, value in part.items():
        if name not in defaults and name != "type" and value not in EMPTY:
            raise NotUnderstood(f"{where}: {name}")
    found = {}
    for name, default in defaults.items():
        value = part.get(name)
        if value is not None and default is not None and type(value) is not type(default):
            raise DlkitError(f"{where}: {name} is {str(value)[:60]!r}")
        found[name] = default if value is None else value
    return found


def parts_of(part: Json | None, *lists: str) -> list[Json]:
    """The parts of a Sequence, of a Sequence in it too, or the only one."""
    if part is None:
        return []
    if part["type"] != "Sequence":
        return [part]
    for name in lists:
        if name in part:
            return [inner for one in part[name] for inner in parts_of(one, *lists)]
    raise NotUnderstood(f"Sequence without {' or '.join(lists)}")
