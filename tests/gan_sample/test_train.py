"""Training of every architecture: restoring, resuming, options, divergence."""

import math
import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from dlkit.core.errors import DlkitError
from dlkit.core.store import checkpoint
from dlkit.core.train.run import Run
from dlkit.gan_sample.config import GanTrainConfig
from dlkit.gan_sample.model import restore
from dlkit.gan_sample.train import train
from tests.gan_sample.helpers import ARCHS, SIDE, data_of, draw, log_of, same, settings


@pytest.mark.slow
@pytest.mark.parametrize("arch", ARCHS)
def test_every_architecture_trains_and_is_restored(
    arch: str, bars: Path, domains: Path, tmp_path: Path
) -> None:
    data = data_of(arch, bars, domains)
    best = train(settings(data, tmp_path, arch))
    header, weights = checkpoint.load(best, "gan-sample")
    side = 32 if arch == "cyclegan" else SIDE
    assert (header.arch, header.settings["image_size"]) == (arch, side)
    assert header.settings["channels"] == 1
    assert header.labels == (["across", "upright"] if arch == "cgan" else [])
    model = restore("run", header, weights)
    if arch != "cyclegan":
        labels = torch.tensor([0, 1]) if model.classes else None
        assert model.sample(torch.randn(2, 5), labels).shape == (2, 1, SIDE, SIDE)
    assert (tmp_path / "samples" / "epoch-0002.png").exists()
    record = log_of(tmp_path)[-1]
    metric = "val_loss" if arch == "autoencoder" else "fid"
    assert header.metrics[metric] == min(record[metric] for record in log_of(tmp_path))
    if arch != "autoencoder":
        assert {"kid", "precision", "recall", "diversity"} < record.keys()
    if arch not in {"autoencoder", "vae"}:
        balance = {"discriminator_loss", "generator_loss", "output_on_real", "output_on_fake"}
        assert balance < record.keys()


class Stop(Exception):
    """Raised in place of a kill."""


SLOW = [pytest.param(arch, marks=pytest.mark.slow) for arch in ("wgan-gp", "cyclegan")]


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["residual", "cgan", "autoencoder", "vae", *SLOW])
def test_a_resumed_run_is_the_uninterrupted_one(
    arch: str, bars: Path, domains: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both networks, both optimizers, the average of the weights, and the scores."""
    data = data_of(arch, bars, domains)
    train(settings(data, tmp_path / "whole", arch))
    step = Run.step

    def broken(run: Run, *arguments: Any) -> None:
        if run.position > 1.6:
            raise Stop
        step(run, *arguments)

    monkeypatch.setattr(Run, "step", broken)
    with pytest.raises(Stop):
        train(settings(data, tmp_path / "broken", arch))
    monkeypatch.setattr(Run, "step", step)
    train(settings(data, tmp_path / "broken", arch, resume=True))
    states = [
        torch.load(tmp_path / name / "last.state.pt", weights_only=True)
        for name in ("whole", "broken")
    ]
    for part in ("model", "average", "optimizers", "steps", "best_key"):
        assert same(states[0][part], states[1][part]), part
    assert len(states[0]["optimizers"]) == (1 if arch in {"autoencoder", "vae"} else 2)
    assert bool(states[0]["average"]) == (arch == "residual")
    records = [
        [{k: v for k, v in record.items() if k != "seconds"} for record in log_of(tmp_path / name)]
        for name in ("whole", "broken")
    ]
    assert records[0] == records[1]


def train_alone(config: GanTrainConfig) -> None:
    """In a process of its own, with as many threads as here: sums depend on that."""
    torch.set_num_threads(1)
    train(config)


@pytest.mark.slow
def test_a_killed_run_resumes_exactly(bars: Path, tmp_path: Path) -> None:
    """kill -9 somewhere in the second epoch."""
    common = {"steps_per_epoch": 25, "epochs": 2}
    train(settings(bars, tmp_path / "whole", "dcgan", **common))
    killed = tmp_path / "killed"
    process = multiprocessing.get_context("spawn").Process(
        target=train_alone, args=(settings(bars, killed, "dcgan", **common),)
    )
    process.start()
    assert process.pid is not None
    until = time.monotonic() + 120
    while not (killed / "last.state.pt").exists() and time.monotonic() < until:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert len(log_of(killed)) == 1
    train(settings(bars, killed, "dcgan", resume=True, **common))
    _, whole = checkpoint.load(tmp_path / "whole" / "last.safetensors")
    _, resumed = checkpoint.load(killed / "last.safetensors")
    assert same(whole, resumed)


def test_k_steps_of_the_discriminator_to_one_of_the_generator(bars: Path, tmp_path: Path) -> None:
    train(settings(bars, tmp_path, "dcgan", d_steps=3, steps_per_epoch=7, epochs=1))
    state = torch.load(tmp_path / "last.state.pt", weights_only=True)
    steps = [float(optimizer["state"][0]["step"]) for optimizer in state["optimizers"]]
    assert steps == [2, 7]
    with pytest.raises(DlkitError, match="--d-steps 9: more than the 6 steps of an epoch"):
        train(settings(bars, tmp_path / "few", "dcgan", d_steps=9))


def test_the_critics_weights_are_clipped(bars: Path, tmp_path: Path) -> None:
    train(settings(bars, tmp_path, "wgan", clip_weights=0.02, lr=0.1))
    state = torch.load(tmp_path / "last.state.pt", weights_only=True)["model"]
    critic = [w for n, w in state.items() if n.startswith("discriminator.") and "running" not in n]
    largest = max(float(weight.abs().max()) for weight in critic if weight.is_floating_point())
    assert largest == pytest.approx(0.02)
    made = [w for n, w in state.items() if n.startswith("generator.") and w.dim() == 4]
    assert max(float(weight.abs().max()) for weight in made) > 0.02


def test_the_shipped_weights_are_the_average(bars: Path, tmp_path: Path) -> None:
    best = train(settings(bars, tmp_path, "dcgan", epochs=1))
    _, shipped = checkpoint.load(best)
    state = torch.load(tmp_path / "last.state.pt", weights_only=True)
    assert same(shipped, state["average"])
    assert not same(state["model"], state["average"])


def test_best_can_go_by_kid(bars: Path, tmp_path: Path) -> None:
    best = train(settings(bars, tmp_path, "gan", best_metric="kid", epochs=3))
    header = checkpoint.read_header(best)
    assert header.metrics["kid"] == min(record["kid"] for record in log_of(tmp_path))


def test_the_classifiers_agreement_is_known_where_it_knows_the_classes(
    bars: Path, tmp_path: Path
) -> None:
    for digit in range(10):
        for seed in range(2):
            draw(tmp_path / "digits" / str(digit) / f"{seed}.png", digit % 2, seed)
    train(settings(tmp_path / "digits", tmp_path / "run", "cgan", epochs=1))
    assert 0 <= log_of(tmp_path / "run")[0]["class_accuracy"] <= 1
    train(settings(bars, tmp_path / "other", "cgan", epochs=1))
    assert "class_accuracy" not in log_of(tmp_path / "other")[0]


@pytest.mark.parametrize("what", ["loss", "weights"])
def test_a_diverged_run_stops_and_keeps_the_last_good_generator(
    what: str, bars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Run.step

    def spoiling(run: Run, loss: Any, optimizer: Any) -> None:
        last = run.epoch == 1 and run.steps == 23
        step(run, loss * math.nan if last and what == "loss" else loss, optimizer)
        if last and what == "weights":
            with torch.no_grad():
                next(iter(run.model.parameters())).fill_(math.inf)

    monkeypatch.setattr(Run, "step", spoiling)
    with pytest.raises(DlkitError, match=r"lower --lr .*keeps the last good"):
        train(settings(bars, tmp_path, "gan"))
    for name in ("best", "last"):
        header, weights = checkpoint.load(tmp_path / f"{name}.safetensors")
        assert header.metrics["epoch"] == 1
        assert all(bool(weight.isfinite().all()) for weight in weights.values())


def test_three_pictures_are_too_few(tmp_path: Path) -> None:
    for seed in range(3):
        draw(tmp_path / f"{seed}.png", 0, seed)
    with pytest.raises(DlkitError, match="3 pictures are too few"):
        train(settings(tmp_path, tmp_path / "run", "gan"))


def test_a_size_that_the_networks_cannot_make_is_named(
    bars: Path, domains: Path, tmp_path: Path
) -> None:
    with pytest.raises(DlkitError, match="give --image-size 24"):
        train(settings(bars, tmp_path, "dcgan", image_size=26))
    with pytest.raises(DlkitError, match="--image-size 34: not for cyclegan; give a multiple of 4"):
        train(settings(domains, tmp_path, "cyclegan", image_size=34))
    with pytest.raises(DlkitError, match="32 or more"):
        train(settings(domains, tmp_path, "cyclegan", image_size=None))
