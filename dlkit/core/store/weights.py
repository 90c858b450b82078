"""Finding the file that `--model` names: a name, a file or a URL. Loads no torch.

The registry is the folder of bundled weights.
"""

import difflib
from collections.abc import Callable, Collection
from pathlib import Path

from dlkit.core.environment import cache
from dlkit.core.errors import DlkitError, os_reason
from dlkit.core.io.download import download
from dlkit.core.io.files import is_file
from dlkit.core.io.kinds import HEAD, MODEL_FILE, kind_of
from dlkit.core.progress import status

PACKAGE = Path(__file__).parent.parent.parent
SUFFIXES = (".safetensors", ".json")  # networks; models without weights
MOST_LISTED = 8  # names of models in an error


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
    status(f"loading {model}")
    if "://" in model:
        return download(model)
    if model.endswith(SUFFIXES):
        path = Path(model)
        if not is_file(path):
            raise DlkitError("no such model file", model)
        return path
    known = {path.stem: path for path in [*cached(task), *bundled(task)]}
    if model in known:
        return known[model]
    if fetch is not None and model in published:
        return fetch(model)
    if is_model(path := Path(model)):
        return path
    raise UnknownModel(task, model, [*known, *published])


def digest(task: str, model: str) -> str:
    """The SHA-256 of the file of a model that is here; an empty string without one file."""
    import hashlib

    known = {path.stem: path for path in [*cached(task), *bundled(task)]}
    path = known.get(model, Path(model))
    if not is_file(path):
        return ""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DlkitError(os_reason(error), path) from error


def is_model(path: Path) -> bool:
    """Whether this is a file of weights, by its first bytes; raises DlkitError for another file."""
    if not is_file(path):
        return False
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError as error:
        raise DlkitError(os_reason(error), path) from error
    kind = kind_of(head)
    if kind == MODEL_FILE:
        return True
    raise DlkitError(f"{kind or 'a text file' if head else 'an empty file'}, not a model", path)


class UnknownModel(DlkitError):
    """The error for a name that no model of the task has.

    It names the tasks that have it, those with a bundled one and `owners`, or else the closest
    known names.
    """

    def __init__(
        self, task: str, model: str, known: Collection[str], owners: Collection[str] = ()
    ) -> None:
        self.task, self.model, self.known = task, model, known
        others = [name for name in dict.fromkeys([*tasks_with(model), *owners]) if name != task]
        close = difflib.get_close_matches(model, known, n=3)
        if others:
            reason = f"{model} is a model of {' and '.join(others)}; {task} has {listed(known)}"
        elif is_file(best := Path(model) / "best.safetensors"):
            reason = f"{model} is a folder; give its model, {best}"
        elif is_file(file := Path(f"{model}.safetensors")):
            reason = f"unknown model {model!r} for {task}; did you mean {file}?"
        elif close:
            reason = f"unknown model {model!r} for {task}; did you mean {' or '.join(close)}?"
        else:
            reason = (
                f"unknown model {model!r} for {task}; it has {listed(known)}; or give a file that"
                f" ends in {' or '.join(SUFFIXES)}"
            )
        super().__init__(reason)


def listed(names: Collection[str]) -> str:
    """The names, but at most MOST_LISTED."""
    first = ", ".join([*names][:MOST_LISTED]) or "none yet"
    more = len(names) - MOST_LISTED
    return f"{first} and {more} more (`dlkit models` lists all)" if more > 0 else first


def tasks_with(model: str) -> list[str]:
    """The tasks that have a bundled model of this name."""
    files = sorted(PACKAGE.glob("*/weights/*"))
    found = [path for path in files if path.suffix in SUFFIXES and path.stem == model]
    return [path.parent.parent.name.replace("_", "-") for path in found]
