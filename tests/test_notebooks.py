"""The notebooks under data/notebooks: plain files without outputs, whose cells run."""

import ast
import json
from pathlib import Path
from typing import Any

import matplotlib
import pytest

import dlkit
from dlkit.tasks import TASKS

DATA = Path(dlkit.__file__).parent.parent / "data"
NOTEBOOKS = sorted((DATA / "notebooks").glob("*.ipynb"))


def read(path: Path) -> list[tuple[str, str]]:
    """Kind and text of each cell."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [(cell["cell_type"], "".join(cell["source"])) for cell in cells]


def run_cell(source: str, names: dict[str, Any]) -> Any:
    """Run a cell; return the value of its last expression, which a notebook shows."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)
    if not isinstance(last, ast.Expr):
        return None
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names)


def test_every_task_has_a_notebook() -> None:
    assert {path.stem for path in NOTEBOOKS} == {*TASKS}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_short_and_has_no_outputs(path: Path) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["nbformat"] == 4
    assert {"cells", "metadata", "nbformat", "nbformat_minor"} == {*content}
    code = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    assert 4 <= len(code) <= 8
    assert content["cells"][0]["cell_type"] == "markdown"
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_cells_of_a_notebook_run(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a copy of data/, since they write files beside themselves."""
    place = tmp_path / "data" / "notebooks"
    place.mkdir(parents=True)
    for file in DATA.iterdir():
        if file.is_file():
            (place.parent / file.name).symlink_to(file)
    monkeypatch.chdir(place)
    matplotlib.use("Agg")
    names: dict[str, Any] = {}
    shown = [run_cell(text, names) for kind, text in read(path) if kind == "code"]
    pages = [value._repr_html_() for value in shown if hasattr(value, "_repr_html_")]
    assert pages
    assert all(page.startswith("<") for page in pages)
