"""Every command on every page is one that dlkit accepts; those with inputs in data/ are run.

How blocks are written, and which are run, is in tests/README.md, "The pages".
"""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from dlkit.core.store.weights import bundled
from tests import pages
from tests.pages import PAGES, ROOT, TASK_PAGES, Section, check_arguments, check_command, sections

HEADINGS = [
    "Use",
    "A first lesson",
    "Formats",
    "Bundled models",
    "Train",
    "Evaluate",
    "How the bundled models were made",
]
EVERY_SECTION = [section for page in PAGES for section in sections(page)]
CORE = ROOT / "dlkit" / "core" / "README.md"  # its Python is fragments


def is_run(section: Section) -> bool:
    """Whether a section has blocks that are run."""
    return section.page != CORE and any(
        block.language in {"console", "python"}
        or (block.language == "sh" and (section.is_lesson or "data/" in block.text))
        for block in section.blocks
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_is_accepted(page: Path) -> None:
    """Options exist, choices are valid, nothing is missing; of text as `dlkit detect`, too."""
    wrong = []
    for section in sections(page):
        for block in section.blocks:
            if block.language not in {"sh", "bash", "console"}:
                continue
            for command in block.commands():
                for words in pages.simple_commands(command.text):
                    try:
                        check_command(words)
                    except Exception as error:
                        wrong.append(f"line {command.line}: {command.text}: {error}")
        for text in re.findall(r"`dlkit ([^`]+)`", section.prose):
            for words in pages.simple_commands(f"dlkit {' '.join(text.split())}"):
                if words[0] == "dlkit" and words[1] not in {"TASK", "ARGS"}:
                    try:
                        check_arguments(words[1:], complete=False)
                    except Exception as error:
                        wrong.append(f"{section.title}: `dlkit {text}`: {error}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
@pytest.mark.parametrize("section", [s for s in EVERY_SECTION if is_run(s)], ids=str)
def test_what_a_page_shows_is_what_comes(
    section: Section, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The blocks of a section in order, in a folder with a copy of data/."""
    shutil.copytree(ROOT / "data", tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("NO_COLOR", "1")
    # A training in another process gets there by other rounding than on the page.
    tolerance = 0.1 if section.is_lesson else 0.02
    namespace: dict[str, Any] = {"__name__": "page"}
    for block, following in zip(section.blocks, [*section.blocks[1:], None], strict=True):
        if block.language == "python":
            printed = pages.run_python(block.text, namespace)
            if following is not None and following.language == "text":
                assert pages.agree(following.lines, printed, tolerance), "\n".join(printed)
        elif block.language in {"console", "sh"}:
            for command in block.commands():
                if block.language == "sh" and not (section.is_lesson or "data/" in command.text):
                    continue
                out, err = pages.run_line(command.text)
                if command.output:
                    assert any(
                        pages.agree(command.output, lines, tolerance)
                        for lines in (out, err + out, out + err)
                    ), "\n".join(["", f"$ {command.text}", *err, *out])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_has_an_end(page: Path) -> None:
    """Files exist, and headings of pages."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), target
        if anchor:
            titles = [section.title.lower() for section in sections(path)]
            anchors = [re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles]
            assert anchor in anchors, target


@pytest.mark.parametrize("task", TASK_PAGES)
def test_every_task_has_a_page_in_the_same_order(task: str) -> None:
    titles = re.findall(r"^## (.*)$", TASK_PAGES[task].read_text(), re.MULTILINE)
    assert [title for title in titles if title in HEADINGS] == HEADINGS


def test_the_readme_is_short_and_links_the_pages() -> None:
    text = (ROOT / "README.md").read_text()
    assert text.count("\n") <= 150
    for page in PAGES[1:-1]:
        assert f"({page.relative_to(ROOT)}" in text


@pytest.mark.parametrize("task", TASK_PAGES)
def test_every_bundled_model_is_on_its_page_and_in_the_readme(task: str) -> None:
    names = [path.stem for path in bundled(task)]
    assert names
    for page in (TASK_PAGES[task], ROOT / "README.md"):
        for name in names:
            assert f"`{name}`" in page.read_text()


@pytest.mark.parametrize(
    ("shown", "found", "expected"),
    [
        ("cat 0.89 2.9", "cat   0.90\t2.3", True),
        ("cat 0.89", "cat 0.93", False),
        ("dog 0.89", "cat 0.89", False),
        ("12 images in 1.3 s", "12 images in 40 s", True),
        ("12 images in 1.3 s", "13 images in 1.3 s", False),
        ("40.5 images/s", "9.1 images/s", True),
        ("15 s of training", "1 min 42 s of training", True),
    ],
)
def test_lines_agree_up_to_rounding(shown: str, found: str, expected: bool) -> None:
    assert pages.agree([shown], [found]) == expected


def test_an_ellipsis_is_any_number_of_lines() -> None:
    assert pages.agree(["a", "...", "d"], ["a", "b", "c", "d"])
    assert pages.agree(["a", "..."], ["a"])
    assert not pages.agree(["a", "...", "d"], ["a", "b"])


@pytest.mark.parametrize(
    "line",
    [
        "dlkit detect a.jpg --no-such-option",
        "dlkit detect a.jpg --nms sharp",
        "dlkit detect train",
        "dlkit paint a.jpg",
        "dlkit tokenize train a.txt --vocab-size many",
        "dlikt detect a.jpg",
        "torchrun --nproc-per-node 2 -m dlkit detect train DATA --epoch 3",
    ],
)
def test_a_wrong_command_is_noticed(line: str) -> None:
    (words,) = pages.simple_commands(line)
    with pytest.raises(Exception):  # noqa: B017, PT011  typer's own copy of click raises them
        check_command(words)
