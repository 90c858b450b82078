"""Encoded pairs, held-out pairs, and batches by tokens."""

from pathlib import Path

import numpy as np
import pytest
import torch

from dlkit.core.io.splits import hold_out
from dlkit.core.parallel.distributed import Process
from dlkit.translate import data
from dlkit.translate.config import by_arch
from dlkit.translate.data import EncodedPairs, PairBatches, batch_by_tokens
from dlkit.translate.pairs import Pair
from tests.translate.helpers import configure, write_lines

CPU = Process(0, 1, torch.device("cpu"))


def test_long_and_unlike_pairs_are_skipped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = ["a b\tc d", "a b c d e\tc", "a b c d\tc", "a " * 8 + "\t" + "b " * 8]
    config = configure(tmp_path, {"data": [write_lines(tmp_path / "a.tsv", rows)]}, max_tokens=7,
                      max_ratio=4.0, val_share=0.0)  # fmt: skip
    found = data.load_data(by_arch(config))
    assert [pair.where[-1] for pair in found.training.texts] == ["1", "3"]
    err = capsys.readouterr().err
    assert "train: skipped 2 of 4 pairs (50 %): " in err
    assert "1 pair of more than 7 tokens" in err
    assert "1 pair with 4 times the tokens on a side" in err


def test_a_share_is_held_out_and_equal_sources_stay_together() -> None:
    pairs = [Pair(str(n % 50), str(n), "") for n in range(100)]

    def split_pairs(share: float, seed: int) -> tuple[list[Pair], list[Pair]]:
        return hold_out(pairs, share, seed, key=lambda pair: pair.source)

    held_out, training = split_pairs(0.1, seed=3)
    assert (len(training), len(held_out)) == (90, 10)
    assert not {pair.source for pair in training} & {pair.source for pair in held_out}
    assert split_pairs(0.1, seed=3)[0] == held_out
    assert split_pairs(0.1, seed=4)[0] != held_out
    assert split_pairs(0.0, seed=3) == ([], pairs)


def some_pairs(count: int) -> EncodedPairs:
    random = np.random.default_rng(0)
    lengths = random.integers(2, 40, (count, 2))
    rows = [[np.full(length, n, np.int32) for length in of] for n, of in enumerate(lengths)]
    texts = [Pair("", "", str(n)) for n in range(count)]
    return EncodedPairs(texts, [row[0] for row in rows], [row[1] for row in rows])


def test_batches_have_each_pair_once_within_so_many_tokens(tmp_path: Path) -> None:
    pairs = some_pairs(200)
    config = configure(tmp_path, {}, batch_size=300)
    epochs = [list(PairBatches(pairs, config, CPU, epoch, pad=-1)) for epoch in (0, 0, 1)]
    for batches in epochs:
        seen = [int(row[0]) for source, _, _, _ in batches for row in source]
        assert sorted(seen) == list(range(200))
        for source, lengths, target, weight in batches:
            assert max(source.numel(), target[:, 1:].numel()) <= 300
            assert lengths.tolist() == (source >= 0).sum(1).tolist()
            assert weight == 1
    real = sum(int((target[:, 1:] >= 0).sum()) for _, _, target, _ in epochs[0])
    padded = sum(target[:, 1:].numel() for _, _, target, _ in epochs[0])
    assert real > 0.85 * padded
    same, other = ([source.tolist() for source, *_ in epochs[n]] for n in (1, 2))
    assert [source.tolist() for source, *_ in epochs[0]] == same != other


def test_a_pair_longer_than_a_batch_is_one() -> None:
    pairs = EncodedPairs([], [np.arange(n) for n in (3, 50, 3)], [np.arange(n) for n in (3, 3, 3)])
    assert sorted(map(sorted, batch_by_tokens(pairs, 12, np.arange(3)))) == [[0, 2], [1]]


@pytest.mark.parametrize("ranks", [2, 3])
def test_processes_share_each_batch_and_their_weights_make_the_mean(
    tmp_path: Path, ranks: int
) -> None:
    pairs = some_pairs(31)
    config = configure(tmp_path, {}, batch_size=120)
    alone = list(PairBatches(pairs, config, CPU, 0, pad=-1))
    shares = [
        list(PairBatches(pairs, config, Process(rank, ranks, CPU.device), 0, pad=-1))
        for rank in range(ranks)
    ]
    for whole, *parts in zip(alone, *shares, strict=True):
        mean = whole[2][:, 1:][whole[2][:, 1:] >= 0].double().mean()
        means = [part[2][:, 1:][part[2][:, 1:] >= 0].double().mean() for part in parts]
        together = sum(m * part[3] for m, part in zip(means, parts, strict=True)) / ranks
        assert float(together) == pytest.approx(float(mean))
    assert any(int(part[3]) == 0 and len(part[0]) == 1 for share in shares for part in share)
