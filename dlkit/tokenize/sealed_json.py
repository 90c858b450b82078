"""JSON with a checksum of itself, the format of a tokenizer's file."""

import hashlib
import json
from typing import Any

from dlkit.core.errors import DlkitError


def seal_json(content: dict[str, Any]) -> str:
    """Compact JSON of `content` and of its SHA-256, under `sha256`."""
    return dump_compact({**content, "sha256": checksum(content)})


def unseal_json(text: str | bytes) -> dict[str, Any]:
    """Parse sealed JSON, whatever its white space; text without a checksum is accepted.

    Raises DlkitError if the text is no JSON or has another checksum.
    """
    try:
        content = json.loads(text)
    except ValueError as error:
        raise DlkitError(f"not JSON ({error})") from error
    if not isinstance(content, dict):
        return {}
    expected = content.pop("sha256", None)
    if expected is not None and expected != checksum(content):
        raise DlkitError("not a tokenizer as it was written, or a damaged one (wrong checksum)")
    return content


def checksum(content: dict[str, Any]) -> str:
    """SHA-256 of the compact JSON."""
    try:
        return hashlib.sha256(dump_compact(content).encode()).hexdigest()
    except UnicodeEncodeError as error:
        raise DlkitError(
            f"a text in it is not Unicode: a lone {error.object[error.start]!r}"
        ) from None


def dump_compact(content: dict[str, Any]) -> str:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))
