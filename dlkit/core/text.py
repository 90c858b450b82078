"""Lines of text: from files (plain or .gz) or stdin, streamed."""

import gzip
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from dlkit.core.errors import DlkitError


def opened(path: Path) -> IO[str]:
    return (
        gzip.open(path, "rt", encoding="utf-8")
        if path.suffix == ".gz"
        else path.open(encoding="utf-8")
    )


def lines(source: str) -> Iterator[str]:
    """The lines of a file, or of stdin for `-`, without their ends."""
    if source == "-":
        yield from (line.rstrip("\r\n") for line in sys.stdin)
        return
    path = Path(source)
    try:
        with opened(path) as file:
            yield from (line.rstrip("\r\n") for line in file)
    except UnicodeDecodeError as error:
        raise DlkitError(f"{path}: not UTF-8 ({error.reason} at byte {error.start})") from error
    except OSError as error:
        raise DlkitError(f"{path}: {error.strerror or error}") from error
