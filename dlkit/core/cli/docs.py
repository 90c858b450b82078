"""`dlkit docs`: the pages beside the code, on a terminal or in a pipe. Loads no torch."""

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dlkit.core.cli.help import task_page
from dlkit.core.environment import is_terminal
from dlkit.core.errors import DlkitError
from dlkit.core.io.streams import stdout
from dlkit.core.progress import spinner

PACKAGE = Path(__file__).parents[2]
README = "readme"
MAX_WIDTH = 110  # columns of a page on a wide terminal


@dataclass(frozen=True)
class Hit:
    """A line of a page that contains the word, and the heading above it."""

    page: str
    line: int
    section: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: [{self.section}] {self.text.strip()}"


def find_pages(tasks: Mapping[str, str], name: str | None = None) -> dict[str, Path]:
    """The file of the page of that name, or of all: the README, the tasks, the cluster, the core.

    Raises DlkitError for a name that is not known.
    """
    # A wheel holds a copy of the README; a checkout has it above the package.
    readme = PACKAGE / "README.md"
    pages = {
        README: readme if readme.exists() else PACKAGE.parent / "README.md",
        **{task: task_page(task) for task in tasks},
        "data": PACKAGE / "data" / "README.md",
        "cluster": PACKAGE / "core" / "parallel" / "README.md",
        "core": PACKAGE / "core" / "README.md",
    }
    if name is None:
        return pages
    if name not in pages:
        raise DlkitError(f"unknown page {name!r}; choose from {', '.join(pages)}")
    return {name: pages[name]}


def search(word: str, pages: Mapping[str, Path]) -> Iterator[Hit]:
    """The lines of the pages that contain the word, in upper or lower case."""
    for name, path in pages.items():
        section, in_block = "", False
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            in_block ^= line.startswith("```")
            if line.startswith("#") and not in_block:
                section = line.lstrip("# ")
            if word.casefold() in line.casefold():
                yield Hit(name, number, section, line)


def closer_comments(text: str, width: int) -> str:
    """The text with comments of commands moved to the left in lines that are too long."""
    return "\n".join(
        re.sub(r" {3,}# ", "  # ", line) if len(line) + 2 > width else line
        for line in text.split("\n")
    )


def show(text: str) -> None:
    """Print Markdown: as it is in a pipe, laid out and page by page on a terminal."""
    file = stdout()
    spinner.stop()
    if not is_terminal(file):
        file.write(text)
        return
    import io
    import pydoc

    from rich.console import Console
    from rich.markdown import Markdown

    columns, rows = shutil.get_terminal_size()
    width = min(columns, MAX_WIDTH)
    console = Console(file=io.StringIO(), force_terminal=True, width=width, legacy_windows=False)
    console.print(Markdown(closer_comments(text, width), hyperlinks=False))
    laid_out = console.file.getvalue()  # type: ignore[attr-defined]
    if laid_out.count("\n") < rows:
        file.write(laid_out)
    else:
        os.environ.setdefault("LESS", "-R")  # colors, not their codes
        pydoc.pager(laid_out)
