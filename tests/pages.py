"""The pages as `test_pages.py` reads them: their blocks, the commands in them, and a small shell.

The shell runs `dlkit` in this process and other programs beside it; it knows pipes, `<`, `>`, `&&`
and `;`. Of each command it returns what a terminal shows.
"""

import contextlib
import glob
import importlib.util
import io
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer

from dlkit.cli import app, main
from dlkit.core.cli.command import PlainGroup, TaskGroup, normalize_resume
from dlkit.core.io.streams import Streams
from dlkit.tasks import TASKS

ROOT = Path(__file__).parent.parent
TASK_PAGES = {task: ROOT / "dlkit" / task.replace("-", "_") / "README.md" for task in TASKS}
PAGES = [
    ROOT / "README.md",
    *TASK_PAGES.values(),
    ROOT / "dlkit" / "data" / "README.md",
    ROOT / "dlkit" / "core" / "README.md",
    ROOT / "dlkit" / "core" / "parallel" / "README.md",
    ROOT / "tests" / "README.md",
    ROOT / "tests" / "benchmarks" / "README.md",
    ROOT / "data" / "README.md",
]
PROGRAMS = {
    "cat", "cd", "cp", "diff", "export", "find", "head", "ls", "mkdir", "mypy", "pip", "printf",
    "pytest", "python", "ruff", "sacrebleu", "scontrol", "srun", "torchrun",
}  # fmt: skip
WORD = re.compile(
    r"""(?P<comment>(?:(?<=\s)|^)\#.*)|&&|\|\||[|<>;&]
    |(?:[^\s'"|<>;&\\$]|\\.|'[^']*'|"(?:\\.|[^"\\])*"|\$\([^)]*\)|\$)+""",
    re.VERBOSE,
)
ELLIPSIS = "..."
TIME = r"\d+(\.\d+)? ?(ms|s|min|minutes?|h|\w+/s|\w+ a second)(?!\w)"
TIMES = re.compile(rf"{TIME}( {TIME})*|\d+:\d\d(:\d\d)?")
BEST = re.compile(r" \(best\)|(?<=in epoch) \d+")
NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e-?\d+)?(?!\w|\.\d)")


@dataclass
class Command:
    """A line of a page, and, in a `console` block, the output below it."""

    text: str
    line: int
    output: list[str] | None = None


@dataclass
class Block:
    """A fenced block of a page."""

    language: str
    line: int
    lines: list[str]

    @property
    def text(self) -> str:
        return "\n".join(self.lines) + "\n"

    def commands(self) -> Iterator[Command]:
        """The commands: of `console` those after `$ `, of `sh` and `bash` every line."""
        session = self.language == "console"
        command: Command | None = None
        for number, line in enumerate(self.lines, self.line + 1):
            if command is not None and command.text.endswith("\\"):
                command.text = command.text[:-1] + line.strip()
            elif not session or line.startswith("$ "):
                if command is not None:
                    yield command
                command = Command(line.removeprefix("$ "), number, [] if session else None)
            else:
                assert command is not None, f"line {number}: a console block begins with `$ `"
                assert command.output is not None
                command.output.append(line)
        if command is not None:
            yield command


@dataclass
class Section:
    """A heading of a page with the blocks and the text up to the next one."""

    page: Path
    title: str
    prose: str = ""
    blocks: list[Block] = field(default_factory=list)

    @property
    def is_lesson(self) -> bool:
        return self.title == "A first lesson"

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}: {self.title}"


def sections(page: Path) -> list[Section]:
    """The sections of a page."""
    found = [Section(page, "")]
    block: Block | None = None
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if block is not None:
            if line == "```":
                found[-1].blocks.append(block)
                block = None
            else:
                block.lines.append(line)
        elif line.startswith("```"):
            block = Block(line[3:], number, [])
        elif line.startswith("#"):
            found.append(Section(page, line.lstrip("# ")))
        else:
            found[-1].prose += line + "\n"
    assert block is None, f"{page}: a block is not closed"
    return found


def words(text: str) -> list[str]:
    """The words and operators of a line of shell, quoted as they are, without comments."""
    return [m.group() for m in WORD.finditer(text) if not m.group("comment")]


def simple_commands(text: str) -> list[list[str]]:
    """The programs of a line of shell with their arguments, without redirections."""
    commands: list[list[str]] = [[]]
    skip = False
    for word in words(text):
        if word in {"|", "||", "&&", ";", "&"}:
            commands.append([])
        elif word in {"<", ">"}:
            skip = True
        elif skip:
            skip = False
        else:
            commands[-1] += shlex.split(word)
    return [command for command in commands if command]


def check_command(words: Sequence[str]) -> None:
    """Raise an error for a program that is not known, or a command line that dlkit would refuse."""
    while words and re.match(r"\w+=", words[0]):
        words = words[1:]
    if not words or words[0] in {"if", "fi", "then"} or words[0].startswith("$"):
        return
    assert words[0] in PROGRAMS | {"dlkit"}, f"{words[0]!r} is not a known program"
    if words[0] == "srun" or (words[0] == "torchrun" and "dlkit" in words):
        words = words[words.index("dlkit") :]
    elif words[:2] == ["python", "-m"]:
        assert importlib.util.find_spec(words[2]) is not None, f"no module {words[2]}"
        words = words[2:]
    if words[0] == "dlkit":
        check_arguments(words[1:])


def check_arguments(args: Sequence[str], complete: bool = True) -> None:
    """Parse `dlkit ARGS` without running it. Raises a usage error, as of click.

    `complete` is False for text that names a command without its arguments.
    """
    root = typer.main.get_command(app)
    context = root.make_context("dlkit", [], resilient_parsing=True)
    command: Any = root
    args = normalize_resume([*args])
    while hasattr(command, "commands") or command is root:
        if command is root and args[:1] and args[0].startswith("-"):
            break  # --help, --version, --install-completion
        if isinstance(command, PlainGroup) and not args:
            return  # the group's own page
        name = args[0] if args else ""
        inner = command.get_command(context, name)
        if inner is not None:
            args = args[1:]
        elif isinstance(command, TaskGroup):
            inner = command.get_command(context, command.default)
            complete = complete and name not in {"", "--help"}
        assert inner is not None, f"no command {name!r}"
        command = inner
    context = command.make_context("dlkit", [], resilient_parsing=True)
    context.resilient_parsing = False
    values, rest, _ = command.make_parser(context).parse_args([*args])
    asks_for_help = "help" in values
    assert not rest, f"unexpected arguments {rest}"
    for parameter in command.get_params(context):
        value = values.get(parameter.name)
        # A value that is not given is an object of click's own.
        if isinstance(value, str | bool | list | tuple) and value not in ((), []):
            if type(parameter.type).__name__ != "Path":
                parameter.type_cast_value(context, value)
        elif parameter.required and complete and not asks_for_help:
            raise AssertionError(f"{parameter.name} is missing")


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


def run_dlkit(args: Sequence[str], stdin: str, out: io.StringIO, err: io.StringIO) -> int:
    """`dlkit ARGS` in this process; the exit code."""
    try:
        main([*args], Streams(io.StringIO(stdin), out, err))
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    raise AssertionError("dlkit did not exit")


def run_program(words: Sequence[str], stdin: str, out: io.StringIO, err: io.StringIO) -> int:
    """One program with its arguments; the exit code."""
    if words[0] == "dlkit":
        return run_dlkit(words[1:], stdin, out, err)
    if words[0] == "pip":
        return 0  # what is tested is installed
    program = sys.executable if words[0] == "python" else words[0]
    done = subprocess.run(
        [program, *words[1:]], input=stdin, capture_output=True, text=True, check=False
    )
    out.write(done.stdout)
    err.write(done.stderr)
    return done.returncode


def expand(word: str) -> list[str]:
    """The words that a shell makes of one: without quotes, and patterns replaced by files."""
    (plain,) = shlex.split(word)
    found = sorted(glob.glob(plain)) if re.search(r"[*?\[]", word) and plain == word else []
    return found or [plain]


def run_line(text: str) -> tuple[list[str], list[str]]:
    """What a terminal shows of a line of shell: lines of stdout, and of stderr.

    A command that fails is an error, unless the line ends with a comment `# exit code N`.
    """
    expected = re.search(r"#.*exit code (\d+)", text)
    shown, err = Terminal(), io.StringIO()
    code, stdin = 0, ""
    tokens = words(text)
    while tokens:
        command: list[str] = []
        target: Path | None = None
        operator = ""
        while tokens:
            token = tokens.pop(0)
            if token == "<":
                stdin = Path(expand(tokens.pop(0))[0]).read_text()
            elif token == ">":
                target = Path(expand(tokens.pop(0))[0])
            elif token in {"|", ";", "&&"}:
                operator = token
                break
            else:
                command += expand(token)
        out = io.StringIO() if operator == "|" or target is not None else shown
        code = run_program(command, stdin, out, err)
        stdin = out.getvalue() if operator == "|" else ""
        if target is not None:
            target.write_text(out.getvalue())
        if code and operator == "&&":
            break
    assert code == (int(expected[1]) if expected else 0), f"{text}: {code}\n{err.getvalue()}"
    return lines_of(shown), lines_of(err)


def run_python(source: str, namespace: dict[str, Any]) -> list[str]:
    """The lines that a block of Python prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        exec(compile(source, "page", "exec"), namespace)
    return lines_of(out)


def lines_of(stream: io.StringIO) -> list[str]:
    """The lines of a stream without codes of a terminal, colored squares and spaces at the end."""
    text = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]|■ ", "", stream.getvalue())
    return [line.rstrip() for line in text.strip("\n").split("\n")] if text.strip() else []


def agree(shown: Sequence[str], found: Sequence[str], tolerance: float = 0.02) -> bool:
    """Whether a command's lines are those of the page; `...` is any number of lines."""
    if not shown:
        return not found
    if shown[0].strip() == ELLIPSIS:
        return any(agree(shown[1:], found[i:], tolerance) for i in range(len(found) + 1))
    return (
        bool(found)
        and same_line(shown[0], found[0], tolerance)
        and agree(shown[1:], found[1:], tolerance)
    )


def same_line(shown: str, found: str, tolerance: float) -> bool:
    """Whether two lines have the same words, and numbers that differ only by rounding.

    Whole numbers are equal. Numbers with decimals differ by at most `tolerance`, or that share of
    them; with one decimal, as pixels have, by at most 1. Times are not compared, nor which epoch
    of a training is the best.
    """
    shown, found = (
        BEST.sub("", TIMES.sub("TIME", " ".join(line.split()))) for line in (shown, found)
    )
    if NUMBER.sub("NUMBER", shown) != NUMBER.sub("NUMBER", found):
        return False
    return all(
        same_number(a, b, tolerance)
        for a, b in zip(NUMBER.findall(shown), NUMBER.findall(found), strict=True)
    )


def same_number(shown: str, found: str, tolerance: float) -> bool:
    """Whether two numbers are equal, or, with decimals, differ only by rounding."""
    if "." not in shown + found:
        return shown == found
    difference = abs(float(shown) - float(found))
    if re.fullmatch(r"-?\d+\.\d", shown):
        return difference <= max(1, tolerance * abs(float(shown)))
    return difference <= tolerance * max(1, abs(float(shown)))
