"""The training loop: resuming, several processes, starting from a model."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import nn

from dlkit.core.parallel.distributed import Process
from dlkit.core.store import checkpoint
from dlkit.translate import validation
from dlkit.translate.config import TranslateTrainConfig
from dlkit.translate.train import train
from tests.conftest import run
from tests.translate.helpers import configure, options_of, weights_of, write_lines


class Stop(Exception):
    """Stands for a kill."""


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["attention", "transformer"])
def test_a_resumed_run_is_the_uninterrupted_one(
    arch: Any, numbers: dict[str, list[str]], tmp_path: Path
) -> None:
    changed: dict[str, Any] = {"arch": arch, "epochs": 3, "dropout": 0.3, "swa_epochs": 2,
                               "scheduled_sampling": 0.3}  # fmt: skip
    whole = train(configure(tmp_path / "whole", numbers, **changed))
    real = validation.validation_scores
    calls = 0

    def scores(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise Stop
        return real(*arguments)

    target = "dlkit.translate.train.validation_scores"
    with mock.patch(target, scores), pytest.raises(Stop):
        train(configure(tmp_path / "parts", numbers, **changed))
    parts = train(configure(tmp_path / "parts", numbers, **changed, resume=True))
    for name in ("best.safetensors", "last.safetensors"):
        both = [weights_of(path.with_name(name)) for path in (whole, parts)]
        assert all(torch.equal(tensor, both[1][name]) for name, tensor in both[0].items())
    assert (tmp_path / "whole/samples.txt").read_text() == (
        tmp_path / "parts/samples.txt"
    ).read_text()


@pytest.mark.slow
def test_two_processes_train_what_one_does(numbers: dict[str, list[str]], tmp_path: Path) -> None:
    # Not adam, which follows even the sign of gradients that are zero but for rounding.
    options = (
        "--arch transformer --width 8 --layers 1 --heads 1 --dropout 0 --epochs 2 --device cpu"
        " --batch-size 256 --warmup 1 --precision fp32 --tokenizer words --workers 1"
        " --optimizer momentum --lr 0.1"
    )
    command = ["translate", "train", *options_of(numbers), *options.split(), "--out"]
    alone = run(*command, tmp_path / "1")
    assert alone.code == 0, alone.err
    several = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", "-m"]
    done = subprocess.run(
        [sys.executable, *several, "dlkit", *command, str(tmp_path / "2")],
        capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    folders = [tmp_path / "1", tmp_path / "2"]
    both = [weights_of(folder / "last.safetensors") for folder in folders]
    for name, weight in both[0].items():
        torch.testing.assert_close(weight, both[1][name], atol=1e-5, rtol=1e-4)
    logs = [(folder / "log.jsonl").read_text().splitlines() for folder in folders]
    losses = [[json.loads(line)["val_loss"] for line in log] for log in logs]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    assert losses[0][1] < losses[0][0]


@pytest.mark.slow
def test_training_starts_from_a_model_with_its_vocabulary(
    numbers: dict[str, list[str]], tmp_path: Path
) -> None:
    first = train(
        configure(tmp_path / "first", numbers, arch="attention", cell="lstm", epochs=1, lower=True)
    )
    config = TranslateTrainConfig(
        source=[write_lines(tmp_path / "s", ["six"])],
        target=[write_lines(tmp_path / "t", ["sechs"])],
        val_share=0.0, init_from=str(first), out=tmp_path / "second", epochs=1, lr=0.0,
        device="cpu", precision="fp32", workers=1,
    )  # fmt: skip
    second = train(config)
    assert all(torch.equal(w, weights_of(second)[name]) for name, w in weights_of(first).items())
    headers = [checkpoint.read_header(path) for path in (first, second)]
    assert headers[0].settings["tokenizer"] == headers[1].settings["tokenizer"]
    assert headers[1].arch == "attention"
    assert headers[1].settings["lower"] is True  # so that BLEU ignores case, as before
    for option in (["--width", "8"], ["--tokenizer", "byte"], ["--arch", "rnn"]):
        done = run("translate", "train", "--init-from", first, "--out", tmp_path / "x", *option)
        assert done.code == 2
        assert "do not give" in done.err


@pytest.mark.slow
def test_scheduled_sampling_rises_over_the_epochs(
    numbers: dict[str, list[str]], tmp_path: Path
) -> None:
    seen: list[float] = []

    class Watched(nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, source: Any, lengths: Any, target: Any, sampled: float, at: Any) -> Any:
            seen.append(sampled)
            return self.model(source, lengths, target, sampled, at)

    config = configure(tmp_path, numbers, epochs=3, scheduled_sampling=0.5, best_metric="loss",
                      val_limit=0)  # fmt: skip
    with mock.patch.object(Process, "wrap", lambda self, model: Watched(model)):
        train(config)
    assert list(dict.fromkeys(seen)) == [0.0, 0.25, 0.5]
    record = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[0])
    assert "bleu" not in record


def test_missing_pairs_are_reported(tmp_path: Path) -> None:
    empty = write_lines(tmp_path / "empty.tsv", ["a", ""])
    for arguments, message in (
        ([], "nothing to train on"),
        ([empty], "none of the 1 rows"),
        ([tmp_path / "none.tsv"], "no such file"),
        (["--source", empty], "1 source files and 0 target files"),
    ):
        done = run("translate", "train", *arguments, "--out", tmp_path / "run")
        assert done.code == 2
        assert message in done.err.splitlines()[-1]
