"""Class names in files. Loads no torch."""

from pathlib import Path

from dlkit.core.io.files import is_file
from dlkit.core.io.text import lines


def read_class_names(folder: Path) -> list[str]:
    """The lines of the folder's `classes.txt`, without empty ones; none without such a file."""
    file = folder / "classes.txt"
    if not is_file(file):
        return []
    return [line.strip() for line in lines(str(file)) if line.strip()]
