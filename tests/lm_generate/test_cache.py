"""The key-value cache: logits with and without it."""

from typing import Any

import pytest
import torch

from tests.lm_generate.helpers import CLOSE, difference

pytestmark = pytest.mark.usefixtures("seeded")


def test_cached_logits_are_those_without_a_cache(texts: Any) -> None:
    ids, full, start, network = texts
    state = start()
    parts = [network(ids[:, a:b], state) for a, b in [(0, 7), (7, 12), (12, 13)]]
    parts += [network.next_logits(ids[:, i : i + 1], state)[:, None] for i in range(13, 20)]
    assert difference(torch.cat(parts, dim=1), full) < CLOSE


def test_rows_of_different_lengths_continue_each_where_they_are(texts: Any) -> None:
    ids, full, start, network = texts
    state, lengths = start(), torch.tensor([3, 7, 1, 20])
    first = network.next_logits(ids, state, lengths)
    assert difference(first, full[torch.arange(4), lengths - 1]) < CLOSE
    rows = torch.tensor([2, 0, 1, 1])  # one left, one is there twice
    state, lengths = state.select(rows), lengths[rows]
    ids, full = ids[rows], full[rows]
    more = torch.tensor([2, 3, 5, 0])
    block = torch.full((4, 15), 49)
    for row in range(4):
        block[row, : more[row]] = ids[row, lengths[row] : lengths[row] + more[row]]
    logits = network(block, state, more)
    for row in range(4):
        expected = full[row, lengths[row] : lengths[row] + more[row]]
        assert torch.allclose(logits[row, : more[row]], expected, atol=CLOSE)
    lengths = lengths + more
    for _ in range(3):
        next_ids = ids[torch.arange(4), lengths][:, None]
        logits = network.next_logits(next_ids, state)
        assert difference(logits, full[torch.arange(4), lengths]) < CLOSE
        lengths = lengths + 1


def test_what_comes_later_does_not_change_the_past(texts: Any) -> None:
    ids, full, start, network = texts
    changed = torch.cat([ids[:, :11], (ids[:, 11:] + 1) % 50], dim=1)
    state = start()
    logits = network(changed, state)
    assert difference(logits[:, :11], full[:, :11]) < CLOSE
    assert difference(logits[:, 11:], full[:, 11:]) > 100 * CLOSE
