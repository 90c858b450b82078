"""Compiled learning of merges, compared with bpe.learn_merges."""

import random

import numpy as np
import pytest

from dlkit.tokenize import bpe
from dlkit.tokenize.alphabet import mark_symbols


@pytest.mark.slow
@pytest.mark.parametrize("likelihood", [False, True])
def test_compiled_merges_equal_those_of_python(likelihood: bool) -> None:
    """Few different letters make many ties, runs of one letter, and tokens made in two ways."""
    from dlkit.tokenize import compiled_learn

    rng = random.Random(likelihood)
    for _ in range(60):
        letters = "ab" if rng.random() < 0.3 else "abcd"
        tokens = [*letters, *("##" + c for c in letters)] if rng.random() < 0.5 else [*letters]
        prefix = "##" if len(tokens) > len(letters) else ""
        number = {token: i for i, token in enumerate(tokens)}
        words = [
            [number[c] for c in mark_symbols("".join(word), "inside" if prefix else "none")]
            for word in (rng.choices(letters, k=rng.randint(1, 9)) for _ in range(40))
        ]
        counts = [rng.randint(1, 5) for _ in words]
        encoded = [token.encode() for token in tokens]
        found = compiled_learn.learn_merges(
            np.frombuffer(b"".join(encoded), np.uint8).copy(),
            np.cumsum([0, *map(len, encoded)]).astype(np.int64),
            np.array([s for word in words for s in word], np.int32),
            np.cumsum([0, *map(len, words)]).astype(np.int64),
            np.array(counts, np.int64),
            60,
            1,
            np.frombuffer(prefix.encode(), np.uint8),
            likelihood,
        )
        expected = bpe.learn_merges(tokens, words, counts, 60, 1, prefix, likelihood)
        assert [tuple(merge) for merge in found.tolist()] == expected
