"""Counting n-grams."""

from collections import Counter
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from dlkit.lm_generate import counting
from dlkit.lm_generate.counting import count
from tests.lm_generate.helpers import END, TOKENS, as_dict, random_ids


def count_by_brute_force(
    ids: np.ndarray, order: int, line_end: int | None
) -> Counter[tuple[int, ...]]:
    """Counts of the n-grams of 1 to `order` tokens."""
    found: Counter[tuple[int, ...]] = Counter()
    for length, start in product(range(1, order + 1), range(len(ids))):
        gram = tuple(ids[start : start + length].tolist())
        if len(gram) == length and line_end not in gram[1:-1]:
            found[gram] += 1
    if line_end is not None and ids[0] == line_end:
        found[(line_end,)] -= 1
    return found


@pytest.mark.parametrize("line_end", [END, None])
@pytest.mark.parametrize("order", [1, 2, 4, 6])
def test_counts_are_those_of_brute_force(tmp_path: Path, order: int, line_end: int | None) -> None:
    ids = random_ids(order)
    found = as_dict(count(ids, TOKENS, order, line_end, tmp_path))
    assert found == +count_by_brute_force(ids, order, line_end)


@pytest.mark.parametrize("line_end", [END, None])
def test_little_memory_makes_runs_that_merge_to_the_same(
    tmp_path: Path, line_end: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counting, "BLOCK", 7)
    ids = random_ids(5)
    memory = 30 * counting.BYTES_PER_TOKEN / 2**30
    runs = counting.sort_parts(ids, TOKENS, 4, line_end, tmp_path, memory)
    assert runs is not None
    assert len(runs.heads) > 3
    found = as_dict(count(ids, TOKENS, 4, line_end, tmp_path, runs))
    assert found == +count_by_brute_force(ids, 4, line_end)
    assert not (tmp_path / "runs").exists()
