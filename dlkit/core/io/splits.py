"""Names of splits, and seeded splits into a held-out share and the rest. Loads no torch."""

import random
import re
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from dlkit.core.errors import DlkitError

T = TypeVar("T")
# The whole words, in any case, that name a split in names of folders, files and columns.
SPLITS: dict[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
# Words that add nothing to the name of a split.
FILLERS = {
    "annotation", "annotations", "caption", "captions", "data", "dataset", "file", "files",
    "folder", "image", "images", "img", "imgs", "label", "labels", "list", "photos", "pictures",
    "set", "sets", "split", "csv", "tsv", "json", "jsonl", "ndjson", "txt",
}  # fmt: skip
SPLIT_OF_WORD = {word: split for split, words in SPLITS.items() for word in words}
WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+|[^\W\d_A-Za-z]+")


def split_of(name: str) -> str | None:
    """The split that a name has as a whole word: "val" for valid, Dev, val2017, imgs_val.

    None for a name without such a word, and for one with words of several splits.
    """
    found = {SPLIT_OF_WORD.get(word.lower()) for word in WORDS.findall(name)} - {None}
    return found.pop() if len(found) == 1 else None


def is_split_name(name: str) -> bool:
    """Whether a name is that of a split and nothing else: Test, training_set, train2017."""
    words = [word.lower() for word in WORDS.findall(name)]
    plain = all(w in SPLIT_OF_WORD or w in FILLERS or w.isdecimal() for w in words)
    return plain and split_of(name) is not None


def find_splits(names: Iterable[str], where: Path) -> dict[str, str]:
    """The name of each split among those of folders or files (without suffixes), by its split.

    Of several, the one with the fewest other words: `train` before `train_old`. Raises DlkitError
    for two that are as good.
    """
    candidates: dict[str, list[tuple[int, str]]] = {}
    for name in names:
        split = split_of(name)
        if split is not None:
            candidates.setdefault(split, []).append((len(WORDS.findall(name)), name))
    found = {}
    for split in SPLITS:
        if split not in candidates:
            continue
        ranked = sorted(candidates[split])
        if len(ranked) > 1 and ranked[0][0] == ranked[1][0]:
            raise DlkitError(
                f"both {ranked[0][1]} and {ranked[1][1]} can be the split {split!r}; rename one",
                where,
            )
        found[split] = ranked[0][1]
    return found


def hold_out(
    samples: Sequence[T],
    share: float,
    seed: int,
    key: Callable[[T], Hashable] | None = None,
    stratum: Callable[[T], Hashable] | None = None,
) -> tuple[list[T], list[T]]:
    """Hold out a random share of the samples; return them and the rest, each in its order.

    Samples of one `key` (a path, a text) stay together; by default each sample is its own. The
    share is that of the keys of each `stratum` (a label), and at least one key, where there are
    two or more. The draw depends on the seed and on the samples' order alone.
    """
    keys = [key(sample) if key else index for index, sample in enumerate(samples)]
    strata: dict[Hashable, dict[Hashable, None]] = {}
    for sample, of_sample in zip(samples, keys, strict=True):
        strata.setdefault(stratum(sample) if stratum else None, {})[of_sample] = None
    generator = random.Random(seed)
    held_out: set[Hashable] = set()
    for members in strata.values():
        at_least = 1 if share and len(members) > 1 else 0
        count = max(at_least, round(share * len(members)))
        held_out.update(generator.sample(list(members), count))
    pairs = list(zip(samples, keys, strict=True))
    return (
        [sample for sample, of_sample in pairs if of_sample in held_out],
        [sample for sample, of_sample in pairs if of_sample not in held_out],
    )
