"""Co-occurrence counts: brute force, little memory, threads, shuffling."""

from pathlib import Path

import numpy as np
import pytest

from dlkit.embed import cooccurrence
from tests.embed.helpers import END, count_by_brute_force, random_sentences


def dense_counts(counts: np.ndarray, num_words: int) -> np.ndarray:
    x = np.zeros((num_words, num_words))
    i, j = np.divmod(counts["key"], num_words)
    assert (i <= j).all()
    x[i, j] = x[j, i] = counts["x"]
    return x


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("window", [1, 5, 15])
def test_counts_equal_brute_force(tmp_path: Path, seed: int, window: int) -> None:
    ids = random_sentences(seed)
    counts = cooccurrence.count_cooccurrences(ids, 30, window, tmp_path)
    np.testing.assert_allclose(
        dense_counts(counts, 30), count_by_brute_force(ids, 30, window), rtol=1e-12
    )


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 3])
def test_little_memory_makes_runs_that_merge_to_the_same(tmp_path: Path, threads: int) -> None:
    ids = random_sentences(5, sentences=300)
    whole = np.array(cooccurrence.count_cooccurrences(ids, 30, 15, tmp_path, threads=threads))
    pieces = list(cooccurrence.read_parts(ids, 400 // cooccurrence.BYTES_PER_WORD))
    assert len(pieces) > 50
    assert np.array_equal(np.concatenate(pieces), ids)
    assert all(piece[-1] == END for piece in pieces)
    merged = cooccurrence.count_cooccurrences(
        ids, 30, 15, tmp_path, memory=400 / 2**30, threads=threads
    )
    assert np.array_equal(merged["key"], whole["key"])
    assert (np.diff(merged["key"]) > 0).all()
    np.testing.assert_allclose(merged["x"], whole["x"], rtol=1e-12)
    assert [path.name for path in tmp_path.iterdir()] == [cooccurrence.COUNTS_FILE]


def test_threads_do_not_change_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cooccurrence, "SLICE", 50)
    ids = random_sentences(6, sentences=200)
    one = np.array(cooccurrence.count_cooccurrences(ids, 30, 15, tmp_path))
    three = cooccurrence.count_cooccurrences(ids, 30, 15, tmp_path, threads=3)
    assert np.array_equal(one, three)


def test_shuffled_pairs_are_the_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cooccurrence, "BUCKET", 16)
    counts = cooccurrence.count_cooccurrences(random_sentences(7, sentences=200), 30, 15, tmp_path)
    pairs = cooccurrence.shuffle_pairs(counts, 30, tmp_path / "pairs.bin", seed=1)
    keys = pairs["i"].astype(np.int64) * 30 + pairs["j"]
    assert not np.array_equal(keys, counts["key"])
    order = np.argsort(keys)
    assert np.array_equal(keys[order], counts["key"])
    np.testing.assert_array_equal(pairs["x"][order], counts["x"].astype(np.float32))
    # Every tenth of the file has words of all frequencies.
    for part in np.array_split(pairs["i"], 10):
        assert abs(part.mean() - pairs["i"].mean()) < 4
    again = cooccurrence.shuffle_pairs(counts, 30, tmp_path / "again.bin", seed=1)
    other = cooccurrence.shuffle_pairs(counts, 30, tmp_path / "other.bin", seed=2)
    assert np.array_equal(pairs, again)
    assert not np.array_equal(pairs, other)
