"""The listing of `dlkit models` and `dlkit TASK models`. Loads no torch."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.core.store.checkpoint import read_header
from dlkit.core.store.weights import bundled, cached

MAX_LISTED_LABELS = 12


@dataclass(frozen=True)
class Model:
    """A model in the listing; the scores and data are those of the file's header."""

    task: str
    name: str
    place: str
    arch: str
    labels: str
    score: str
    data: str
    megabytes: float
    path: str


def list_models(published: Mapping[str, Mapping[str, str]]) -> Iterator[Model | Failure]:
    """The models of each task: bundled, cached, and those that can be downloaded by name.

    `published` has the names and URLs of the latter for each task.
    """
    for task, urls in published.items():
        files = dict.fromkeys(bundled(task), "bundled")
        files |= dict.fromkeys(cached(task), "cached")
        yield from (describe(task, path, place) for path, place in files.items())
        local = {path.stem for path in files}
        for name, url in urls.items():
            if name not in local:
                yield Model(task, name, "downloaded on first use", "", "", "", "", 0.0, url)


def describe(task: str, path: Path, place: str) -> Model | Failure:
    """The listing's line for a model file; a Failure if its header cannot be read."""
    try:
        header = read_header(path)
    except DlkitError as error:
        return Failure(str(path), error.reason_for(path))
    many = len(header.labels) > MAX_LISTED_LABELS
    labels = f"{len(header.labels)} labels" if many else ",".join(header.labels)
    score = header.card.get("score", "")
    data = header.card.get("data", str(header.config.get("data", "")))
    size = round(path.stat().st_size / 1e6, 1)
    return Model(task, path.stem, place, header.arch, labels, score, data, size, str(path))
