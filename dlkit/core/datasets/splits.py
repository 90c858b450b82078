"""Splits of a data set: those that it has, and a val split that is drawn. Loads no torch."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlkit.core.datasets.samples import ALL, Sample, Source
from dlkit.core.errors import DlkitError
from dlkit.core.io.splits import SPLITS, hold_out
from dlkit.core.ledger import Ledger
from dlkit.core.progress import log


@dataclass(frozen=True)
class Draw:
    """The draw of a val split that a data set lacks: settings of `SplitSettings`, and the seed."""

    share: float = 0.1
    seed: int = 0
    group_by: str | None = None

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "Draw":
        """The draw with the settings of a training, as a checkpoint's header has them."""
        share, seed = settings.get("val_share", cls.share), settings.get("seed", cls.seed)
        return cls(share, seed, settings.get("group_by"))


def read_split(
    source: Source,
    split: str,
    draw: Draw,
    ledger: Ledger,
    draws_test: bool = False,
    report: bool = True,
) -> list[Sample]:
    """The samples of one split; `val` is drawn from the training data where there is none.

    With `draws_test`, `test` is drawn, too, from data without splits, and `all` is all samples. The
    ledger counts the skipped samples of the split. With `report`, the draw is printed, and the
    skipped samples of the data drawn from. Raises DlkitError for a split that the data set does not
    have.
    """
    if split == ALL and draws_test:
        return [sample for name in source.splits for sample in source.read(name, ledger)]
    if not draw.share or split not in lacking(source, draws_test):
        if split == "val":
            require_val(source, draw)
        return source.read(existing(source, split), ledger)
    if split != "train" and not {"train", ALL} & set(source.splits):
        raise DlkitError(
            f"no split {split!r}, and no training data from which it could be drawn; choose from"
            f" {', '.join(source.splits)}",
            source.root,
        )
    whole = ledger if split == "train" else Ledger(existing(source, "train"))
    parts = drawn(source, draw, whole, draws_test, report)
    if report and whole is not ledger and whole.places:
        whole.use("images", sum(map(len, parts.values())))
        whole.report()
    return parts[split]


def read_training(
    source: Source, draw: Draw, training: Ledger, validation: Ledger, draws_test: bool = False
) -> tuple[list[Sample], list[Sample]]:
    """The samples of `train` and `val`; a drawn val split is read once, with train's ledger.

    A share of 0 draws none.
    """
    if "val" not in source.splits:
        if not draw.share:
            return source.read(existing(source, "train"), training), []
        parts = drawn(source, draw, training, draws_test)
        return parts["train"], parts["val"]
    training_samples = source.read(existing(source, "train"), training)
    return training_samples, source.read("val", validation)


def require_val(source: Source, draw: Draw) -> None:
    """Raise DlkitError if the data have no split `val` and none is drawn."""
    if "val" not in source.splits and not draw.share:
        raise DlkitError("no split 'val', and --val-share 0 draws none", source.root)


def lacking(source: Source, draws_test: bool) -> Sequence[str]:
    """The splits that are drawn, and `train`, from which they are."""
    if draws_test and list(source.splits) == [ALL]:
        return ("train", "val", "test")
    return () if "val" in source.splits else ("train", "val")


def existing(source: Source, split: str) -> str:
    """The split under its name in the source; of data without splits train and test are all."""
    if split in source.splits:
        return split
    if split in SPLITS and list(source.splits) == [ALL]:
        if split != "train":
            log(f"{split}: all images, since the data have no splits")
        return ALL
    raise DlkitError(f"no split {split!r}; choose from {', '.join(source.splits)}", source.root)


def drawn(
    source: Source, draw: Draw, ledger: Ledger, draws_test: bool = False, report: bool = True
) -> dict[str, list[Sample]]:
    """The drawn splits, and the rest of the training data under `train`."""
    whole = existing(source, "train")
    samples = source.read(whole, ledger)
    parts = {"train": samples}
    names = ["test", "val"] if draws_test and whole == ALL else ["val"]
    # With `draws_test`, val has a seed of its own, whether test is drawn or not.
    for name in names:
        seed = draw.seed + 1 if draws_test and name == "val" else draw.seed
        parts[name], parts["train"] = draw_from(parts["train"], draw, seed, source.root)
    if samples and report:
        shares = " and ".join(f"{len(parts[name]):,} for {name}" for name in reversed(names))
        log(
            f"{shares} of {len(samples):,} images, drawn with --val-share {draw.share:g} and --seed"
            f" {draw.seed}: the data have no split {' and '.join(reversed(names))}"
        )
    return parts


def draw_from(
    samples: Sequence[Sample], draw: Draw, seed: int, root: Path
) -> tuple[list[Sample], list[Sample]]:
    """Hold out a share of each stratum, whole groups; return it and the rest."""
    group, stratum = group_of(samples, draw.group_by, root), strata(samples)
    # A group is of the stratum of its first sample.
    of_group: dict[str, str] = {}
    for sample in samples:
        of_group.setdefault(group(sample), stratum[sample.path])
    return hold_out(samples, draw.share, seed, group, lambda sample: of_group[group(sample)])


def group_of(samples: Sequence[Sample], pattern: str | None, root: Path) -> Callable[[Sample], str]:
    """The group of a sample: the part of its path that the pattern finds; by default its path.

    A pattern with parentheses finds what they enclose. Raises DlkitError for a pattern that is not
    a regular expression, or finds nothing in any path.
    """
    if pattern is None:
        return lambda sample: str(sample.path)
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise DlkitError(f"not a regular expression ({error})", f"--group-by {pattern}") from None
    groups = {}
    for sample in samples:
        inside = sample.path.is_relative_to(root)
        name = (sample.path.relative_to(root) if inside else sample.path).as_posix()
        if (match := compiled.search(name)) is not None:
            groups[sample.path] = match.group(1 if compiled.groups else 0) or ""
    if samples and not groups:
        example = samples[0].path.name
        raise DlkitError(f"finds nothing in any path, such as {example}", f"--group-by {pattern}")
    return lambda sample: groups.get(sample.path, str(sample.path))


def strata(samples: Sequence[Sample]) -> dict[Path, str]:
    """The stratum of each image: its label that the fewest images have."""
    labels = {
        sample.path: {*sample.labels, *(a.label for a in sample.annotations)} for sample in samples
    }
    counts = Counter(label for own in labels.values() for label in own)
    return {
        path: min(own, key=lambda label: (counts[label], label), default="")
        for path, own in labels.items()
    }
