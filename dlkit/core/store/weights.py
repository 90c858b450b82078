"""Finding the file that `--model` names: a name, a file or a URL. Loads no torch.

The registry is the folder of bundled weights.
"""

import difflib
from collections.abc import Iterable
from pathlib import Path

from dlkit.core.errors import DlkitError
from dlkit.core.io.download import cache, download

PACKAGE = Path(__file__).parent.parent.parent


SUFFIXES = (".safetensors", ".json")  # networks; models without weights


def folder(task: str) -> Path:
    """The task's folder in the package: `style-transfer` is `style_transfer`."""
    return PACKAGE / task.replace("-", "_") / "weights"


def bundled(task: str) -> list[Path]:
    """The models that came with dlkit for this task."""
    return models_in(folder(task))


def cached(task: str) -> list[Path]:
    """The models downloaded by name for this task."""
    return models_in(cache() / task)


def models_in(place: Path) -> list[Path]:
    """The model files of a folder, which need not exist."""
    return sorted(path for path in place.glob("*") if path.suffix in SUFFIXES)


def find(task: str, model: str, published: Iterable[str] = ()) -> Path:
    """The file of a model: downloaded if it is a URL, never if it is a name or a file.

    `published` are further names, which the task itself can fetch, for the error's suggestions.
    """
    if "://" in model:
        return download(model)
    if model.endswith(SUFFIXES):
        path = Path(model)
        if not path.is_file():
            raise DlkitError(f"{model}: no such model file")
        return path
    known = {path.stem: path for path in [*cached(task), *bundled(task)]}
    if model not in known:
        raise unknown(task, model, [*known, *published])
    return known[model]


def unknown(task: str, model: str, known: list[str]) -> DlkitError:
    """The error for a name that no model has, with the closest names."""
    close = difflib.get_close_matches(model, known, n=3, cutoff=0.4) or sorted(known)
    there = f"there is {', '.join(close)}" if close else "there is none yet"
    return DlkitError(
        f"no model named {model!r} for {task}: {there} (a file ends in {' or '.join(SUFFIXES)})"
    )
