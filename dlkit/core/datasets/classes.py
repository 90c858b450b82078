"""Listed classes, and their colors in masks: classes.txt, labelmap.txt, label_colors.txt.

A line is `name`, `name red green blue`, `red green blue name` or, as CVAT writes it,
`name:red,green,blue:parts:actions`. Of columns between tabs without a color, the first is the name.
Loads no torch.
"""

from pathlib import Path

from dlkit.core.datasets.samples import Classes
from dlkit.core.datasets.texts import read_text
from dlkit.core.errors import DlkitError
from dlkit.core.io.colors import Color

CLASSES = "classes.txt"
TABLES = (CLASSES, "labelmap.txt", "label_colors.txt")


def read_classes(data: Path) -> Classes | None:
    """The classes that the data set lists; None without a list.

    Raises DlkitError for two lists with different names.
    """
    found = {name: read_table(data / name) for name in TABLES if (data / name).is_file()}
    if not found:
        return None
    first, *others = found.items()
    for name, table in others:
        if table.names != first[1].names:
            raise DlkitError(f"{first[0]} and {name} list different classes; remove one", data)
    return max(found.values(), key=lambda table: len(table.colors))


def required_classes(data: Path) -> Classes:
    """The classes that the data set lists. Raises DlkitError without a list."""
    classes = read_classes(data)
    if classes is None:
        raise DlkitError(
            "no such file; list the classes in it, one per line, from index 0", data / CLASSES
        )
    return classes


def read_table(file: Path) -> Classes:
    """Read one list. Raises DlkitError for a class or a color that is listed twice."""
    entries: list[tuple[str, Color | None]] = []
    for number, line in enumerate(read_text(file).splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            entries.append(read_line(line.strip(), f"{file}:{number}"))
    names = [name for name, _ in entries]
    colors = [color for _, color in entries]
    for name in names:
        if names.count(name) > 1:
            raise DlkitError(f"the class {name} is listed twice", file)
    given = [color for color in colors if color is not None]
    if given and len(given) < len(colors):
        raise DlkitError(
            f"the class {names[colors.index(None)]} has no color; give all classes one, or none",
            file,
        )
    return Classes(tuple(names), tuple(colors) if given else ())


def read_line(line: str, where: str) -> tuple[str, Color | None]:
    """The name and the color of a line."""
    if line.count(":") == 3:  # CVAT's
        name, color, _, _ = line.split(":")
        words = [*name.split(), *color.split(",")] if color.strip() else name.split()
    else:
        words = line.replace(",", " ").split()
    at_end, at_start = (is_color(part) for part in (words[-3:], words[:3]))
    if "\t" in line and not (at_end or at_start):
        name = line.split("\t")[0].strip()
        if not name or name.isdecimal():
            message = "columns between tabs, of which the first is not a name; list one name a line"
            raise DlkitError(message, where)
        return name, None
    if len(words) < 4 or not (at_end or at_start):
        return line.split(":")[0].strip() if line.count(":") == 3 else line, None
    if at_end and at_start:
        raise DlkitError("is the color before or behind the name? Give the name letters", where)
    red, green, blue = (int(word) for word in (words[-3:] if at_end else words[:3]))
    if max(red, green, blue) > 255:
        raise DlkitError("a color needs three numbers from 0 to 255", where)
    return " ".join(words[:-3] if at_end else words[3:]), (red, green, blue)


def is_color(words: list[str]) -> bool:
    """Whether the words are three numbers."""
    return len(words) == 3 and all(word.isdecimal() for word in words)
