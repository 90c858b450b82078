"""Batches of windows and streams."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from dlkit.core.parallel.distributed import Process
from dlkit.lm_generate.config import by_arch
from dlkit.lm_generate.data import Streams, Windows
from tests.conftest import run
from tests.lm_generate.helpers import SINGLE_PROCESS, tiny_config


def test_each_pass_shows_each_token_once_and_processes_share_it() -> None:
    ids = np.arange(1000, dtype=np.uint16)
    config = by_arch(tiny_config(Path(), Path(), batch_size=6, steps_per_epoch=0, epochs=9))
    seen = []
    for epoch in range(3):
        whole = list(Windows(ids, config, SINGLE_PROCESS, epoch, 8))
        halves = [
            list(Windows(ids, config, Process(rank, 2, SINGLE_PROCESS.device), epoch, 8))
            for rank in (0, 1)
        ]
        for (x, y), (a, _), (b, _) in zip(whole, *halves, strict=True):
            assert torch.equal(x[:, 1:], y[:, :-1])
            assert torch.equal(x[0::2], a)
            assert torch.equal(x[1::2], b)
        seen.append(torch.cat([y.flatten() for _, y in whole]))
    # An epoch is a whole number of batches, a pass a whole number of windows.
    assert len(seen[0].unique()) == len(seen[0]) == 960
    assert not torch.equal(seen[0], seen[1])
    again = torch.cat([y.flatten() for _, y in Windows(ids, config, SINGLE_PROCESS, 1, 8)])
    assert torch.equal(seen[1], again)


def test_short_epochs_continue_the_pass() -> None:
    ids = np.arange(1000, dtype=np.uint16)
    long = by_arch(tiny_config(Path(), Path(), batch_size=4, steps_per_epoch=12))
    short = by_arch(tiny_config(Path(), Path(), batch_size=4, steps_per_epoch=4))
    for arch in (Windows, Streams):
        expected = [x for x, _ in arch(ids, long, SINGLE_PROCESS, 0, 8)]
        found = [x for epoch in range(3) for x, _ in arch(ids, short, SINGLE_PROCESS, epoch, 8)]
        assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_a_stream_continues_where_the_batch_before_ended() -> None:
    ids = np.arange(1000, dtype=np.uint16)
    config = by_arch(tiny_config(Path(), Path(), batch_size=4, steps_per_epoch=0, arch="lstm"))
    batches = list(Streams(ids, config, SINGLE_PROCESS, 0, 8))
    assert len(batches) == 999 // 4 // 8 - 1
    for (x, y), (after, _) in pairwise(batches):
        assert torch.equal(x[:, 1:], y[:, :-1])
        assert torch.equal(y[:, -1], after[:, 0])
    rows = [
        list(Streams(ids, config, Process(rank, 2, SINGLE_PROCESS.device), 0, 8)) for rank in (0, 1)
    ]
    assert torch.equal(rows[1][3][0], batches[3][0][1::2])


def test_a_text_shorter_than_a_window_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "short.txt"
    path.write_text("a cat\n")
    for options in (["--arch", "gpt"], ["--arch", "lstm", "--batch-size", "50"]):
        out = tmp_path / options[1]
        done = run("lm-generate", "train", path, "--out", out, *options, "--device", "cpu")
        assert done.code == 2
        assert "the training text has" in done.err
        assert "give more text" in done.err
    path.write_text("")
    done = run("lm-generate", "train", path, "--out", tmp_path / "none")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "no text in it" in done.err
