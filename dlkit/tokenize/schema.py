"""The types in a tokenizer's file, checked once when it is read."""

from collections.abc import Mapping
from typing import Any

from dlkit.core.errors import DlkitError
from dlkit.tokenize.normalize import STEPS

MARKS = ("end-of-word", "word-start", "inside", "none")
LARGEST_ID = 1 << 31


def check_content(settings: Any, content: Mapping[str, Any]) -> None:
    """Raise DlkitError for a setting or a part of another type than the tokenizers need."""
    special: Any = {}
    if "vocab" in content:
        added = content.get("added", {})
        for name, ids in (("vocab", content["vocab"]), ("special", content["special"])):
            check_ids(name, ids)
        check_ids("added", added)
        special = content["special"]
        for token in added:
            if not token or token in special or token in content["vocab"]:
                raise damaged("an added token", token)
        check_merges(content.get("merges", []))
    if not isinstance(settings, dict):
        raise damaged("settings", settings)
    normalize, unknown = settings.get("normalize", []), settings.get("unk")
    if not isinstance(normalize, list) or any(step not in STEPS for step in normalize):
        raise damaged("normalize", normalize)
    if not isinstance(settings.get("split", ""), str):
        raise damaged("split", settings["split"])
    if "vocab" in content and unknown is not None and unknown not in list(special):
        raise damaged("unk", unknown)
    if settings.get("mark", "none") not in MARKS:
        raise damaged("mark", settings["mark"])
    for name in ("by_rank", "gaps"):
        if not isinstance(settings.get(name, False), bool):
            raise damaged(name, settings[name])


def check_ids(name: str, ids: Any) -> None:
    """Raise DlkitError unless these are tokens with their ids."""
    if not isinstance(ids, dict):
        raise damaged(name, ids)
    for token, i in ids.items() if not set(map(type, ids.values())) <= {int} else ():
        if type(i) is not int:
            raise damaged(f"the id of {token[:40]!r}", i)
    if ids and not 0 <= min(ids.values()) <= max(ids.values()) < LARGEST_ID:
        wrong = next(i for i in ids.values() if not 0 <= i < LARGEST_ID)
        raise damaged("an id", wrong)


def check_merges(merges: Any) -> None:
    """Raise DlkitError unless these are pairs of tokens."""
    if not isinstance(merges, list):
        raise damaged("merges", merges)
    for merge in merges:
        if not isinstance(merge, list) or [*map(type, merge)] != [str, str]:
            raise damaged("a merge", merge)


def damaged(name: str, value: Any) -> DlkitError:
    return DlkitError(f"not a tokenizer, or a damaged one: {name} is {str(value)[:40]!r}")
