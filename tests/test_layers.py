"""Imports point one way, without circles, and the command line loads nothing heavy."""

import ast
import os
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from dlkit import commands
from dlkit.cli import COMMANDS, HIDDEN
from dlkit.tasks import TASKS, task_module
from tests.conftest import loaded_by

PACKAGE = Path(__file__).parent.parent / "dlkit"
FOLDERS = {task.replace("-", "_") for task in TASKS}
FILES = sorted(PACKAGE.rglob("*.py"))
INSIDE_A_TASK = ["config", "model", "loss", "data", "infer", "evaluate", "train", "api", "cli"]
# Folders and files of core, from the top down: each imports only from those after it.
CORE = [
    "api", "generation", "cli", "train", "nn", "parallel", "store", "datasets", "vision", "io",
    "numba_tools", "ledger", "failures", "progress", "config", "environment", "errors", "lazy",
]  # fmt: skip
HEAVY = {"torch", "torchvision", "numpy", "PIL", "safetensors", "rich", "pydantic", "numba"}


def name_of(path: Path) -> str:
    """The name of a module, as in `dlkit.core.io.text`."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in FILES}


def imported(path: Path, anywhere: bool = True) -> Iterator[str]:
    """The modules a file imports: in functions too, or only when it is itself imported."""
    tree = ast.parse(path.read_text())
    for node in walk(tree) if anywhere else top_level(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)


def walk(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those under `if TYPE_CHECKING`, which are never run."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from walk(child)


def top_level(tree: ast.Module) -> Iterator[ast.AST]:
    return (node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom))


def modules_of_dlkit(path: Path, anywhere: bool = True) -> set[str]:
    """The modules of dlkit that a file imports."""
    return {name for name in imported(path, anywhere) if name in MODULES}


def own_package(path: Path) -> str:
    """The subpackage of a file: core, a task, or none for the root's own files."""
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else ""


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_point_one_way(path: Path) -> None:
    """Core imports no task; tasks import core, tokenize and classify; data also detect."""
    own = own_package(path)
    if not own:
        return
    ground: dict[str, set[str]] = {"core": set(), "tokenize": set(), "classify": {"tokenize"}}
    ground["data"] = {"classify", "detect"}
    allowed = {"core", own} | ground.get(own, {"tokenize", "classify"})
    names = (name.split(".") for name in imported(path))
    used = {parts[1] for parts in names if parts[0] == "dlkit" and len(parts) > 1}
    assert used <= allowed | {"__version__"}


@pytest.mark.parametrize(
    "path", [path for path in FILES if own_package(path) == "core"], ids=name_of
)
def test_imports_inside_core_go_down(path: Path) -> None:
    parts = path.relative_to(PACKAGE / "core").with_suffix("").parts
    if parts[0] == "__init__":
        return
    above = CORE[: CORE.index(parts[0])]
    used = {name.split(".")[2] for name in modules_of_dlkit(path) if name.count(".") > 1}
    assert not used & set(above)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_another_task_is_used_by_its_public_names_only(path: Path) -> None:
    own = own_package(path)
    if not own:
        return
    for name in imported(path):
        parts = name.split(".")
        if parts[0] == "dlkit" and len(parts) > 1 and parts[1] in FOLDERS - {own}:
            assert len(parts) <= 3, f"{path}: {name} reaches inside another task"
            assert len(parts) == 2 or parts[2] in exported(parts[1])


def exported(task: str) -> list[str]:
    """The names in __all__ of a task's __init__.py."""
    tree = ast.parse((PACKAGE / task / "__init__.py").read_text())
    lists = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ]
    return [name for value in lists for name in ast.literal_eval(value)]


@pytest.mark.parametrize(
    "path",
    [path for path in FILES if own_package(path) in FOLDERS and path.stem in INSIDE_A_TASK],
    ids=name_of,
)
def test_imports_inside_a_task_go_down_the_list(path: Path) -> None:
    own = f"dlkit.{own_package(path)}."
    above = INSIDE_A_TASK[INSIDE_A_TASK.index(path.stem) + 1 :]
    assert not {name.removeprefix(own).split(".")[0] for name in imported(path)} & set(above)


def test_no_module_imports_itself_through_others() -> None:
    """No circle, in whatever function an import is."""
    graph = {
        name: {other for other in modules_of_dlkit(path) if other != name}
        for name, path in MODULES.items()
        if path.name != "__init__.py"
    }
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " -> ".join([*above[above.index(name) :], name])
        if name not in done:
            for other in sorted(graph.get(name, ())):
                visit(other, (*above, name))
            done.add(name)

    for name in graph:
        visit(name, ())


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_module_is_imported_by_a_name_in_a_string(path: Path) -> None:
    """Only the task that is typed, and public names, are imported by name."""
    if path in (PACKAGE / "tasks.py", PACKAGE / "core" / "lazy.py"):
        return
    assert not re.search(r"import_module|__import__", path.read_text())


def loads_no_torch(path: Path) -> bool:
    """Whether a module's docstring promises to load no torch, or its role does."""
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    role = own_package(path) in FOLDERS and path.stem in {"cli", "config"}
    return role or bool(re.search(r"[Ll]oads? no torch|No torch", text))


LIGHT = [path for path in FILES if loads_no_torch(path)]


def test_the_light_modules_are_found() -> None:
    assert {"dlkit.core.errors", "dlkit.detect.config"} - {name_of(p) for p in LIGHT} <= {
        "dlkit.core.errors"
    }
    assert len(LIGHT) > 40


def test_light_modules_load_no_torch() -> None:
    """A fresh interpreter imports each of them."""
    script = (
        "import importlib, sys\n"
        f"for name in {[name_of(path) for path in LIGHT]!r}:\n"
        "    importlib.import_module(name)\n"
        "    assert 'torch' not in sys.modules, name\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def command_lines() -> list[list[str]]:
    """Every command of every task, from the command tree."""
    found = [[], *([name] for name in (*COMMANDS, *HIDDEN))]
    for task in TASKS:
        group = typer.main.get_command(task_module(task).app)
        found += [[task], *([task, name] for name in group.list_commands(None))]  # type: ignore[attr-defined]
    return found


def test_help_of_every_command_loads_nothing_heavy() -> None:
    script = (
        "import contextlib, io, sys\n"
        "from dlkit.cli import main\n"
        f"for command in {command_lines()!r}:\n"
        "    with contextlib.redirect_stdout(io.StringIO()) as out:\n"
        "        try: main([*command, '--help'])\n"
        "        except SystemExit as end: assert end.code == 0, command\n"
        "    assert 'Usage: dlkit' in out.getvalue(), command\n"
        f"    heavy = {HEAVY | {'urllib.request'}!r} & set(sys.modules)\n"
        "    assert not heavy, (command, heavy)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


COMPLETED = {
    "dlkit ": "detect",
    "dlkit detect -": "--threshold",
    "dlkit detect ": "train",
    **{f"dlkit {task} -m ": None for task in TASKS},
}


@pytest.mark.parametrize("line", COMPLETED)
def test_completion_loads_nothing_heavy(line: str) -> None:
    words = {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    loaded = loaded_by(_DLKIT_COMPLETE="complete_bash", **words)
    assert "dlkit.cli" in loaded
    assert not loaded & (HEAVY | {"urllib.request"})


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["models"], ["detect", "models"]], ids=" ".join
)
def test_listings_load_nothing_heavy(arguments: list[str]) -> None:
    assert not loaded_by(*arguments) & (HEAVY | {"urllib.request"})


def test_the_help_of_the_root_loads_no_task() -> None:
    loaded = loaded_by("--help")
    assert not {name for name in loaded if name.split(".")[1:2] and name.split(".")[1] in FOLDERS}


def test_the_summaries_of_the_common_commands_are_theirs() -> None:
    group = typer.main.get_group(commands.app).commands
    assert {n: c.help for n, c in group.items() if not c.hidden} == COMMANDS
    assert [name for name, command in group.items() if command.hidden] == [*HIDDEN]


@pytest.mark.parametrize("task", TASKS)
def test_the_summary_of_a_task_is_that_of_its_group(task: str) -> None:
    assert typer.main.get_command(task_module(task).app).help == TASKS[task]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["detect", "nofile.jpg"], "nofile.jpg: no such file"),
        (["detect", "data/cat.jpg", "-m", "nothing"], "unknown model 'nothing'"),
        (["detect", "data/cat.jpg", "--nope"], "no option --nope"),
        (["detect", "{empty}"], "a folder without images"),
        (["classify", "nofile.jpg"], "nofile.jpg: no such file"),
        (["segment", "nofile.jpg"], "nofile.jpg: no such file"),
        (["caption", "nofile.jpg"], "nofile.jpg: no such file"),
        (["style-transfer", "nofile.jpg", "data/cat.jpg"], "nofile.jpg: no such file"),
        (["translate", "--text", "a", "-m", "no.safetensors"], "no.safetensors: no such"),
        (["lm-generate", "a", "-m", "nothing"], "unknown model 'nothing'"),
        (["gan-sample", "-m", "nothing"], "unknown model 'nothing'"),
        *[
            ([task, verb, "nofolder"], "nofolder: no such folder or file")
            for task in ("detect", "segment", "classify", "caption", "gan-sample")
            for verb in ("train", "evaluate")
        ],
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_can_be_known_without_torch_is_reported_before_it_is_imported(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    script = (
        "import sys, atexit\n"
        "atexit.register(lambda: print('torch' in sys.modules, file=sys.stderr))\n"
        "from dlkit.cli import main\n"
        f"main({[argument.format(empty=tmp_path) for argument in arguments]!r})"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        cwd=PACKAGE.parent,
        check=False,
    )
    assert message in done.stderr
    assert done.returncode in (1, 2)
    assert done.stderr.strip().endswith("False")


def cpu_seconds(bytecode: Path, *command: str) -> float:
    """The CPU time of a process, in seconds; its modules are compiled once, as pip does it."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(bytecode)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, capture_output=True, check=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.parametrize(
    ("arguments", "bound"),
    [(["--help"], 8), (["detect", "--help"], 12), (["detect", "train", "--help"], 12)],
    ids=["root", "task", "verb"],
)
def test_help_takes_a_bounded_multiple_of_an_empty_process(
    arguments: list[str], bound: float, tmp_path: Path
) -> None:
    """By the least times of both in turns; other processes only make them longer."""
    empty = took = float("inf")
    for number in range(30):
        empty = min(empty, cpu_seconds(tmp_path, sys.executable, "-c", "pass"))
        took = min(took, cpu_seconds(tmp_path, sys.executable, "-m", "dlkit", *arguments))
        if number >= 4 and took <= bound * empty:
            break
    assert took <= bound * empty
