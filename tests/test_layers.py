"""Imports point one way, and help and completion stay quick (ARCHITECTURE 2 and 5)."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import loaded_by

PACKAGE = Path(__file__).parent.parent / "dlkit"
TASKS = {path.parent.name for path in PACKAGE.glob("*/config.py") if path.parent.name != "core"}
INSIDE_A_TASK = ["config", "model", "loss", "data", "infer", "evaluate", "train", "cli"]
HEAVY = {"torch", "torchvision", "numpy", "PIL", "safetensors", "rich", "pydantic"}
NO_TORCH_IN_CORE = {
    "errors", "config", "command", "output", "progress", "checkpoint", "weights", "sharing",
    "merge",
}  # fmt: skip
FILES = sorted(path for task in TASKS | {"core"} for path in (PACKAGE / task).glob("*.py"))


def imported(path: Path, anywhere: bool = True) -> Iterator[str]:
    """The modules a file imports: in functions too, or only when it is itself imported."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree) if anywhere else tree.body:
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)


def within_dlkit(path: Path) -> set[str]:
    """The subpackages of dlkit that a file imports from."""
    names = (name.split(".") for name in imported(path))
    return {parts[1] for parts in names if parts[0] == "dlkit" and len(parts) > 1}


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_imports_point_one_way(path: Path) -> None:
    ground: dict[str, set[str]] = {"core": set(), "tokenize": set(), "classify": {"tokenize"}}
    allowed = {"core", path.parent.name} | ground.get(path.parent.name, {"tokenize", "classify"})
    assert within_dlkit(path) <= allowed | {"__version__"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_another_task_is_used_by_its_public_names_only(path: Path) -> None:
    for name in imported(path):
        parts = name.split(".")
        if parts[0] == "dlkit" and len(parts) > 1 and parts[1] in TASKS - {path.parent.name}:
            assert len(parts) <= 3, f"{path}: {name} reaches inside another task"
            assert len(parts) == 2 or parts[2] in exported(parts[1])


def exported(task: str) -> list[str]:
    """What a task's __init__.py lists in __all__."""
    tree = ast.parse((PACKAGE / task / "__init__.py").read_text())
    lists = [node.value for node in tree.body if isinstance(node, ast.Assign)]
    return [name for value in lists for name in ast.literal_eval(value)]


@pytest.mark.parametrize(
    "path",
    [path for path in FILES if path.parent.name != "core" and path.stem in INSIDE_A_TASK],
    ids=lambda path: f"{path.parent.name}/{path.name}",
)
def test_imports_inside_a_task_go_down_the_list(path: Path) -> None:
    own = f"dlkit.{path.parent.name}."
    above = INSIDE_A_TASK[INSIDE_A_TASK.index(path.stem) + 1 :]
    assert not {name.removeprefix(own).split(".")[0] for name in imported(path)} & set(above)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_light_modules_import_nothing_heavy(path: Path) -> None:
    light = NO_TORCH_IN_CORE if path.parent.name == "core" else {"cli", "config"}
    if path.stem in light:
        heavy = {name.split(".")[0] for name in imported(path, anywhere=False)} & HEAVY
        assert not heavy


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (["--help"], {}),
        (["--version"], {}),
        (["models"], {}),
        (["detect", "--help"], {}),
        (["detect", "train", "--help"], {}),
        (["detect", "models"], {}),
        (["caption", "--help"], {}),
        (["caption", "train", "--help"], {}),
        (["caption", "models"], {}),
        (["classify", "--help"], {}),
        (["classify", "train", "--help"], {}),
        (["classify", "search", "--help"], {}),
        (["gan-sample", "--help"], {}),
        (["gan-sample", "train", "--help"], {}),
        (["gan-sample", "interpolate", "--help"], {}),
        (["gan-sample", "models"], {}),
        (["lm-generate", "--help"], {}),
        (["lm-generate", "train", "--help"], {}),
        (["lm-generate", "models"], {}),
        (["segment", "--help"], {}),
        (["segment", "train", "--help"], {}),
        (["style-transfer", "--help"], {}),
        (["style-transfer", "train", "--help"], {}),
        (["style-transfer", "evaluate", "--help"], {}),
        (["style-transfer", "models"], {}),
        (["translate", "--help"], {}),
        (["translate", "train", "--help"], {}),
        (["translate", "evaluate", "--help"], {}),
        (["translate", "models"], {}),
        (
            [],
            {"_DLKIT_COMPLETE": "complete_bash", "COMP_WORDS": "dlkit detect -", "COMP_CWORD": "2"},
        ),
        (
            [],
            {
                "_DLKIT_COMPLETE": "complete_bash",
                "COMP_WORDS": "dlkit detect -m ",
                "COMP_CWORD": "3",
            },
        ),
    ],
)
def test_help_and_completion_load_nothing_heavy(
    arguments: list[str], environment: dict[str, str]
) -> None:
    loaded = loaded_by(*arguments, **environment)
    assert "dlkit.cli" in loaded
    assert not loaded & (HEAVY | {"urllib.request"})
