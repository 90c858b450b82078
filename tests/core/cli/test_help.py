"""Help pages: groups, at most 40 lines, whole summaries, examples that run; `dlkit help`."""

import os
import pty
import re
import shlex
import shutil
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from fcntl import ioctl
from pathlib import Path
from typing import Any

import pytest
import typer
from PIL import Image

from dlkit import commands
from dlkit.cli import COMMANDS, EXAMPLES
from dlkit.core.cli.help import GROUPS, has_more, page_of
from dlkit.data.cli import app as data_app
from dlkit.tasks import TASKS, task_module
from tests.conftest import run
from tests.pages import check_arguments

ROOT = Path(__file__).parents[3]


def tree() -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command with the words that name it."""
    for task in TASKS:
        for name, command in group_of(task).commands.items():
            yield (task, name), command
    for name, command in typer.main.get_group(data_app).commands.items():
        yield ("data", name), command
    for name, command in typer.main.get_group(commands.app).commands.items():
        yield (name,), command


def group_of(task: str) -> Any:
    return typer.main.get_command(task_module(task).app)


TREE = dict(tree())
PAGES = [(group,) for group in (*TASKS, "data")] + [*TREE]
# Commands and the lines of their examples.
SHOWN = sorted({line for command in TREE.values() for line in page_of(command).examples})


@pytest.mark.parametrize("words", TREE, ids=" ".join)
def test_every_parameter_has_a_group_and_a_help(words: tuple[str, ...]) -> None:
    for parameter in TREE[words].params:
        assert parameter.rich_help_panel in GROUPS, parameter.name
        assert parameter.help, parameter.name


@pytest.mark.parametrize("words", TREE, ids=" ".join)
def test_the_main_parameters_exist_and_include_all_that_are_required(
    words: tuple[str, ...],
) -> None:
    command = TREE[words]
    page = page_of(command)
    assert {*page.main.split()} <= {parameter.name for parameter in command.params}
    assert all(page.is_main(parameter.name) for parameter in command.params if parameter.required)


@pytest.mark.parametrize("words", PAGES, ids=" ".join)
def test_a_page_fits_a_screen(words: tuple[str, ...]) -> None:
    page = run(*words, "--help").out.splitlines()
    assert len(page) <= 40
    assert max(map(len, page)) <= 80
    titles = [line[:-1] for line in page if re.fullmatch(r"[A-Z][a-z ]+:", line)]
    assert titles == [t for t in (*GROUPS, "Commands", "Examples") if t in titles]


@pytest.mark.parametrize("words", TREE, ids=" ".join)
def test_help_all_has_every_option(words: tuple[str, ...]) -> None:
    page = run(*words, "--help-all").out
    for parameter in TREE[words].params:
        shown = parameter.param_type_name == "option" and not parameter.hidden
        for name in parameter.opts if shown else ():
            assert re.search(rf"(?<!\w){name}\b", page), name
    hint = f"All options: dlkit {' '.join(words)} --help-all."
    brief = run(*words, "--help").out
    assert (hint in brief) == has_more(TREE[words], page_of(TREE[words]))
    assert hint not in page
    for text in (brief, page):
        end = " ".join(text.split()).endswith(f"Page: dlkit docs {words[0]}.")
        assert end == (words[0] in {*TASKS, "data"})


@pytest.mark.parametrize("task", TASKS)
def test_the_page_of_a_task_lists_the_commands_with_whole_summaries(task: str) -> None:
    page = " ".join(run(task, "--help").out.split())
    assert "..." not in page.partition(" Commands: ")[2]
    for name, command in group_of(task).commands.items():
        summary = " ".join(command.help.split("\n\n")[0].split())
        assert f"{name} {summary}" in page or name == "infer"
    assert len(page_of(group_of(task).commands["infer"]).examples) in (2, 3)


def test_important_options_come_first() -> None:
    page = run("detect", "--help-all").out
    results = page.partition("Results:")[2].partition("\n\n")[0]
    assert re.findall(r"^  (?:-\w, )?(--[\w-]+)", results, re.MULTILINE)[:2] == [
        "--threshold",
        "--labels",
    ]


def test_defaults_choices_and_limits_are_in_words() -> None:
    page = " ".join(run("detect", "--help-all").out.split())
    assert "[default: 16; at least 1]" in page
    assert "[from 0 to 1]" in page
    assert "Choices: hard, soft-linear, soft-gaussian, weighted. [default: hard]" in page
    assert "--pretrained-backbone / --no-pretrained-backbone Start from the backbone's" in " ".join(
        run("detect", "train", "--help-all").out.split()
    )


@pytest.mark.parametrize(
    ("words", "same"),
    [
        ([], []),
        (["detect"], ["detect"]),
        (["detect", "train"], ["detect", "train"]),
        (["models"], ["models"]),
    ],
    ids=" ".join,
)
def test_dlkit_help_shows_the_page(words: list[str], same: list[str]) -> None:
    assert run("help", *words) == run(*same, "--help")
    assert run(*same, "-h") == run(*same, "--help")


def test_the_root_lists_tasks_and_commands() -> None:
    page = run("--help").out
    assert len(page.splitlines()) <= 45
    for name, summary in (TASKS | COMMANDS).items():
        assert f"{name} {summary}" in " ".join(page.split())


@pytest.mark.parametrize("width", [40, 80, 120, 200])
def test_the_width_of_the_terminal_is_used(width: int) -> None:
    """Under a pseudo-terminal."""
    main_end, other_end = pty.openpty()
    ioctl(other_end, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in {"COLUMNS", "LINES"}}
    with subprocess.Popen(
        [sys.executable, "-m", "dlkit", "detect", "train", "--help-all"],
        stdin=other_end,
        stdout=other_end,
        env=environment,
    ) as process:
        os.close(other_end)
        content = b""
        try:
            while part := os.read(main_end, 65536):
                content += part
        except OSError:  # the other end is closed
            pass
        os.close(main_end)
    assert process.returncode == 0
    lines = content.decode().splitlines()
    prose = [line for line in lines if "--pretrained-backbone /" not in line]
    prose = [line for line in prose if not line.startswith("  dlkit")]
    assert max(map(len, prose)) <= min(width, 120)
    assert max(map(len, prose)) > min(width, 120) - 12


@pytest.mark.parametrize("line", [*SHOWN, *EXAMPLES])
def test_every_example_parses(line: str) -> None:
    program, *arguments = shlex.split(line)
    assert program == "dlkit"
    check_arguments(arguments)


# Parts of examples whose inputs are not here, or that take long.
ELSEWHERE = (
    "DATA", "run/", "clip.mp4", "hf:", "-coco", "vocab.json", "glove.6B", "wordsim353", "test.en",
    " train ", "merge", "style-transfer photo", "style-transfer evaluate", "chat", "digits/",
    "way.gif", "tokenizer.json", "verify",
    "data get",
)  # fmt: skip
RUN = [line for line in SHOWN if not any(part in line for part in ELSEWHERE)]
SLOW = ("lm-generate", "attention", "capitals", "apply", "convert", "annotate", "interpolate")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The inputs of the examples, of the files in data/."""
    data = ROOT / "data"
    place = tmp_path_factory.mktemp("examples")
    for name, source in {
        "photo.jpg": "cat.jpg", "wave.jpg": "great-wave.jpg", "night.jpg": "astronaut.jpg",
        "capitals.txt": "capitals.txt",
    }.items():  # fmt: skip
        shutil.copy(data / source, place / name)
    Image.open(data / "street.png").convert("RGB").save(place / "street.jpg")
    (place / "photos").mkdir()
    shutil.copy(data / "cat.jpg", place / "photos")
    shutil.copy(data / "astronaut.jpg", place / "photos")
    (place / "sentences.txt").write_text("Two dogs run on the beach.\nA man rides a horse.\n")
    (place / "prompts.txt").write_text("ROMEO:\nJULIET:\n")
    for name in ("corpus.txt", "book.txt"):
        (place / name).write_text("To be, or not to be, that is the question.\n" * 20)
    return place


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(line, marks=pytest.mark.slow if any(part in line for part in SLOW) else ())
        for line in RUN
    ],
)
def test_the_examples_run(
    line: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shutil.copytree(folder, tmp_path / "here"))
    done = run(*shlex.split(line)[1:])
    assert done.code == 0, done.err


def test_at_least_one_example_of_every_task_runs() -> None:
    assert {line.split()[1] for line in RUN} >= {*TASKS}
