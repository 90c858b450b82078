"""Finding the file that `--model` names: a name, a file or a URL. Loads no torch.

The registry is the folder of bundled weights.
"""

import difflib
from collections.abc import Callable, Collection
from pathlib import Path

from dlkit.core.errors import DlkitError
from dlkit.core.io.download import cache, download

PACKAGE = Path(__file__).parent.parent.parent
SUFFIXES = (".safetensors", ".json")  # networks; models without weights


def package_name(task: str) -> str:
    """The Python name of a task's package: `style-transfer` is `style_transfer`."""
    return task.replace("-", "_")


def folder(task: str) -> Path:
    """The task's folder of bundled weights."""
    return PACKAGE / package_name(task) / "weights"


def bundled(task: str) -> list[Path]:
    """The models bundled with dlkit for this task."""
    return models_in(folder(task))


def cached(task: str) -> list[Path]:
    """The models downloaded by name for this task."""
    return models_in(cache() / task)


def models_in(place: Path) -> list[Path]:
    """The model files of a folder, which need not exist."""
    return sorted(path for path in place.glob("*") if path.suffix in SUFFIXES)


def find(
    task: str,
    model: str,
    published: Collection[str] = (),
    fetch: Callable[[str], Path] | None = None,
) -> Path:
    """The file of a model: a path, a URL (downloaded once), or a name.

    `published` are the names that `fetch` downloads, beside the bundled and cached ones. Raises
    DlkitError for a file that does not exist, and for an unknown name with the closest ones.
    """
    if "://" in model:
        return download(model)
    if model.endswith(SUFFIXES):
        path = Path(model)
        if not path.is_file():
            raise DlkitError("no such model file", model)
        return path
    known = {path.stem: path for path in [*cached(task), *bundled(task)]}
    if model in known:
        return known[model]
    if fetch is not None and model in published:
        return fetch(model)
    raise unknown_model(task, model, [*known, *published])


def unknown_model(task: str, model: str, known: list[str]) -> DlkitError:
    """The error for an unknown name, with the tasks that have it, or the closest known ones."""
    others = [name for name in tasks_with(model) if name != task]
    close = [] if others else difflib.get_close_matches(model, known, n=3)
    choices = ", ".join(close or sorted(known))
    return DlkitError(
        f"unknown model {model!r} for {task}"
        + (f", a model of {' and '.join(f'`dlkit {name}`' for name in others)}" if others else "")
        + (f"; choose from {choices}" if choices else "; no model is bundled yet")
        + f", or give a file that ends in {' or '.join(SUFFIXES)}"
    )


def tasks_with(model: str) -> list[str]:
    """The tasks that have a bundled model of this name."""
    files = sorted(PACKAGE.glob("*/weights/*"))
    found = [path for path in files if path.suffix in SUFFIXES and path.stem == model]
    return [path.parent.parent.name.replace("_", "-") for path in found]
