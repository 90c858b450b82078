"""Runs: killed, resumed, in two processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dlkit.lm_generate.train import train
from tests.conftest import run
from tests.lm_generate.helpers import CORPUS_WORDS, load_weights, tiny_config


@pytest.mark.slow
def test_a_killed_run_is_resumed(text: Path, tmp_path: Path) -> None:
    """kill -9 between two epochs and in the middle of one; stdin is not needed again."""
    out = tmp_path / "run"
    options = ["--epochs", "40", "--steps-per-epoch", "4", "--context", "8", "--width", "8"]
    command = [sys.executable, "-m", "dlkit", "lm-generate", "train", "-", "--out", str(out)]
    command += [*options, "--device", "cpu", "--layers", "1", "--heads", "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (
        text.open() as file,
        subprocess.Popen(
            command, stdin=file, stderr=subprocess.PIPE, env=environment, text=True
        ) as process,
    ):
        assert process.stderr is not None
        while not next(process.stderr).startswith("epoch 3/"):
            pass
        process.kill()
    done = run(*command[3:], "--resume")
    assert done.code == 0, done.err
    assert "resuming" in done.err
    assert len((out / "log.jsonl").read_text().splitlines()) == 40
    assert (out / "samples.txt").read_text().count("- epoch ") == 40


def test_samples_are_saved_with_their_epoch(text: Path, tmp_path: Path) -> None:
    train(tiny_config(text, tmp_path, arch="lstm", tokenizer="words"))
    samples = (tmp_path / "samples.txt").read_text()
    assert samples.startswith("-------------------- epoch 1\n")
    assert "\n-------------------- epoch 2\n" in samples
    assert set(samples.split()) - {"epoch", "1", "2", "-" * 20} <= {*CORPUS_WORDS}


@pytest.mark.slow
def test_two_processes_train_what_one_does(text: Path, tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text("import os, sys\nfrom dlkit.cli import main\nmain(sys.argv[1:])\n")
    found = []
    for processes in (1, 2):
        many = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--standalone"]
        out = tmp_path / str(processes)
        options = (
            "--arch gru --width 8 --context 8 --batch-size 4 --epochs 2 --steps-per-epoch 5"
            " --dropout 0 --device cpu --precision fp32"
        )
        command = [*(many if processes > 1 else []), "-m", "dlkit", "lm-generate", "train"]
        done = subprocess.run(
            [sys.executable, *command, str(text), "--out", str(out), *options.split()],
            capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found.append((load_weights(out / "last.safetensors"), (out / "log.jsonl").read_text()))
    for name, weight in found[0][0].items():
        torch.testing.assert_close(weight, found[1][0][name], atol=1e-4, rtol=1e-3)
    logs = [[json.loads(line)["val_loss"] for line in log.splitlines()] for _, log in found]
    assert logs[0] == pytest.approx(logs[1], abs=1e-3)
