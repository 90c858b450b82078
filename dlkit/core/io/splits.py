"""Seeded splits of samples into a held-out share and the rest. Loads no torch."""

import random
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

T = TypeVar("T")


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
