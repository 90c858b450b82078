"""The text of files: UTF-8, with a byte order mark or without."""

import json
import re
from pathlib import Path
from typing import Any

from dlkit.core.errors import DlkitError
from dlkit.core.io.files import read_whole

MAX_BYTES = 1_000_000_000  # of a tokenizer's file

SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def read_bytes(path: Path) -> bytes:
    return read_whole(path, MAX_BYTES)


def decode(data: bytes, path: Path) -> str:
    """The text of a file's bytes."""
    if data[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        raise DlkitError("UTF-16; convert it to UTF-8: iconv -f utf-16 -t utf-8", path)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DlkitError(f"byte {error.start} is not UTF-8", path) from error


def read_text(path: Path) -> str:
    return decode(read_bytes(path), path)


def parse_json(text: str, path: Path) -> Any:
    try:
        content = json.loads(text)
        if SURROGATE.search(text):
            json.dumps(content, ensure_ascii=False).encode()
        return content
    except UnicodeEncodeError as error:
        lone = error.object[error.start]
        raise DlkitError(f"a text in it is not Unicode: a lone {lone!r}", path) from error
    except RecursionError as error:
        raise DlkitError("its JSON is nested too deeply", path) from error
    except ValueError as error:
        raise DlkitError(f"not JSON ({error})", path) from error


def read_json(path: Path) -> Any:
    return parse_json(read_text(path), path)
