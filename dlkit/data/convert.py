"""Data sets in another layout, and new splits. Folders appear whole or not at all."""

import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from dlkit.core.datasets.samples import Sample, Source
from dlkit.core.errors import DlkitError
from dlkit.core.io.splits import hold_out
from dlkit.core.ledger import Ledger
from dlkit.core.progress import log
from dlkit.data.layouts import LAYOUTS, Content, Images

MINOR = {"the flag truncated"}  # losses that no training notices


def read_content(source: Source, splits: Sequence[str]) -> tuple[Content, list[Ledger]]:
    """The samples of the splits, and the accounts of what was skipped."""
    found, ledgers = {}, []
    for split in splits:
        ledger = Ledger(split)
        samples = source.read(split, ledger)
        ledger.use("images", len(samples))
        ledger.use("annotations", sum(len(sample.annotations) for sample in samples))
        ledger.require("images", source.root)
        found[split] = samples
        ledgers.append(ledger)
    return Content(source.classes.names, found, source.classes.colors), ledgers


def convert(content: Content, layout: str, out: Path, copy: bool, lossy: bool) -> None:
    """Write the data set into the new folder `out`.

    Raises DlkitError where the layout cannot hold all of it, unless `lossy`; MINOR losses are only
    named.
    """
    lost = Counter(LAYOUTS[layout].lost(content))
    named = ", ".join(f"{count:,} x {name}" for name, count in lost.most_common())
    if lost.keys() - MINOR and not lossy:
        raise DlkitError(f"{layout} cannot hold {named}; add --lossy to convert without them")
    with new_folder(out) as partial:
        LAYOUTS[layout].write(content, partial, Images(content.samples(), copy))
    if lost:
        log(f"not converted: {named}")


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Yield a folder beside `out` that takes its name on success and is removed on failure.

    Raises DlkitError if `out` exists and is not an empty folder.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise DlkitError("exists already; choose a new folder", out)
    partial = out.with_name(f"{out.name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True)
        yield partial
        if out.is_dir():
            out.rmdir()
        os.replace(partial, out)
    except OSError as error:
        raise DlkitError(f"cannot be written ({error.strerror or error})", out) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def split_content(
    content: Content, val: float, test: float, seed: int, stratify: bool, group_by: str | None
) -> Content:
    """All samples, with new splits of these shares.

    With `stratify` the shares hold for each label; samples whose names agree in what the pattern
    `group_by` finds (its first group, if it has one) stay together.
    """
    samples = list(content.samples())
    key = None if group_by is None else group_of(group_by)
    stratum: Callable[[Sample], Hashable] | None = labels_of if stratify else None
    tested, rest = hold_out(samples, test, seed, key=key, stratum=stratum)
    # The second draw is a share of the rest.
    validated, trained = hold_out(rest, val / (1 - test), seed + 1, key=key, stratum=stratum)
    splits = {"train": trained, "val": validated, "test": tested}
    return replace(content, splits={name: found for name, found in splits.items() if found})


def labels_of(sample: Sample) -> Hashable:
    """The labels of an image, by which splits are stratified."""
    return sample.labels or tuple(sorted({a.label for a in sample.annotations}))


def group_of(pattern: str) -> Callable[[Sample], Hashable]:
    """The function that finds a sample's group in its path. Raises DlkitError for a bad pattern."""
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise DlkitError(f"--group-by: not a regular expression ({error}): {pattern}") from error

    def group(sample: Sample) -> Hashable:
        found = compiled.search(str(sample.path))
        if found is None:
            raise DlkitError(f"--group-by: {pattern!r} finds nothing in it", sample.path)
        return found[1] if compiled.groups else found[0]

    return group
