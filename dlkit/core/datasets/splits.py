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


def read_split(source: Source, split: str, draw: Draw, ledger: Ledger) -> list[Sample]:
    """The samples of one split; `val` is drawn from the training data where there is none.

    Raises DlkitError for a split that the data set does not have.
    """
    if split not in source.splits and split == "val":
        return drawn(source, draw, ledger)[1]
    if split == "train" and "val" not in source.splits and draw.share:
        return drawn(source, draw, ledger)[0]
    return source.read(existing(source, split), ledger)


def read_training(
    source: Source, draw: Draw, training: Ledger, validation: Ledger
) -> tuple[list[Sample], list[Sample]]:
    """The samples of `train` and `val`; a drawn val split is read once, with train's ledger."""
    if "val" not in source.splits:
        return drawn(source, draw, training)
    training_samples = source.read(existing(source, "train"), training)
    return training_samples, source.read("val", validation)


def existing(source: Source, split: str) -> str:
    """The split under its name in the source; of data without splits train and test are all."""
    if split in source.splits:
        return split
    if split in SPLITS and list(source.splits) == [ALL]:
        if split != "train":
            log(f"{split}: all images, since the data have no splits")
        return ALL
    raise DlkitError(f"no split {split!r}; choose from {', '.join(source.splits)}", source.root)


def drawn(source: Source, draw: Draw, ledger: Ledger) -> tuple[list[Sample], list[Sample]]:
    """The rest of the training data, and the val split drawn from it."""
    whole = existing(source, "train")
    if not draw.share:
        raise DlkitError("no split 'val', and --val-share 0 draws none", source.root)
    samples = source.read(whole, ledger)
    group, stratum = group_of(samples, draw.group_by, source.root), strata(samples)
    # A group is of the stratum of its first sample.
    of_group: dict[str, str] = {}
    for sample in samples:
        of_group.setdefault(group(sample), stratum[sample.path])
    held_out, rest = hold_out(
        samples, draw.share, draw.seed, group, lambda sample: of_group[group(sample)]
    )
    if samples:
        log(
            f"val: {len(held_out):,} of {len(samples):,} images, drawn with --val-share"
            f" {draw.share:g} and --seed {draw.seed}: the data have no split val"
        )
    return rest, held_out


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
