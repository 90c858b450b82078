"""What models there are: the listing of `dlkit models` and `dlkit TASK models`. Loads no torch."""

import importlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.core.store.checkpoint import read_header
from dlkit.core.store.weights import bundled, cached


@dataclass(frozen=True)
class Model:
    """One line of the listing; the numbers come from the file's header."""

    task: str
    name: str
    place: str
    arch: str
    labels: str
    score: str
    data: str
    megabytes: float
    path: str


def listing(tasks: Iterable[str]) -> Iterator[Model | Failure]:
    """The models of these tasks: bundled, cached, and those that could be downloaded by name."""
    for task in tasks:
        bundled_models, cached_models = bundled(task), cached(task)
        yield from (described(task, path, "bundled") for path in bundled_models)
        yield from (described(task, path, "cached") for path in cached_models)
        there = {path.stem for path in [*bundled_models, *cached_models]}
        config = importlib.import_module(f"dlkit.{task.replace('-', '_')}.config")
        for name, url in getattr(config, "PUBLISHED", {}).items():
            if name not in there:
                yield Model(task, name, "downloaded on first use", "", "", "", "", 0.0, url)


def described(task: str, path: Path, place: str) -> Model | Failure:
    try:
        header = read_header(path)
    except DlkitError as error:
        return Failure(str(path), str(error))
    labels = ",".join(header.labels) if len(header.labels) <= 12 else f"{len(header.labels)} labels"
    score = header.card.get("score", "")
    data = header.card.get("data", str(header.config.get("data", "")))
    size = round(path.stat().st_size / 1e6, 1)
    return Model(task, path.stem, place, header.arch, labels, score, data, size, str(path))
