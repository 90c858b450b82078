"""What core.train promises a training loop, on a toy model."""

import contextlib
import json
import math
import os
import random
import resource
import signal
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from dlkit.core.config import TrainConfig, option
from dlkit.core.environment import use_command
from dlkit.core.errors import DlkitError, Interrupted
from dlkit.core.parallel import distributed
from dlkit.core.store import checkpoint
from dlkit.core.store.checkpoint import Header
from dlkit.core.train.init_from import Source
from dlkit.core.train.optimizers import OPTIMIZERS
from dlkit.core.train.run import Run
from dlkit.core.train.sampler import BatchSampler
from dlkit.core.train.schedule import changed_length
from tests.core.helpers import Noisy, Stop, settings, train


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("stop_in", [1, 3])
def test_a_resumed_run_ends_with_the_same_weights(
    tmp_path: Path, optimizer: str, stop_in: int
) -> None:
    train(settings(tmp_path / "whole", optimizer=optimizer))
    with pytest.raises(Stop):
        train(settings(tmp_path / "broken", optimizer=optimizer), stop_in=stop_in)
    train(settings(tmp_path / "broken", optimizer=optimizer, resume=True))
    for name in ("best.safetensors", "last.safetensors"):
        _, whole = checkpoint.load(tmp_path / "whole" / name)
        _, broken = checkpoint.load(tmp_path / "broken" / name)
        assert all(torch.equal(whole[key], broken[key]) for key in whole)
    logs = [(tmp_path / name / "log.jsonl").read_text() for name in ("whole", "broken")]
    without_time = [
        [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in log.splitlines()]
        for log in logs
    ]
    assert without_time[0] == without_time[1]
    assert [record["epoch"] for record in without_time[0]] == [1, 2, 3, 4]


def weights(folder: Path) -> dict[str, Tensor]:
    return checkpoint.load(folder / "last.safetensors")[1]


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def logged(folder: Path) -> list[dict[str, float]]:
    """The lines of the log, without what the clock says."""
    lines = (folder / "log.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("workers", "accumulate", "save_every", "saved"),
    [
        (0, 1, 1, 3),
        (0, 1, 2, 2),
        (0, 2, 1, 3),
        pytest.param(2, 1, 1, 3, marks=pytest.mark.slow),
        (0, 1, 4, 0),
    ],
)
def test_a_run_goes_on_within_an_epoch(
    tmp_path: Path, workers: int, accumulate: int, save_every: int, saved: int
) -> None:
    """Broken off before the fourth step of the second epoch: the state is of the last save."""
    options: dict[str, Any] = {"workers": workers, "accumulate": accumulate, "epochs": 3}
    train(settings(tmp_path / "whole", **options))
    options["save_every"] = save_every
    with pytest.raises(Stop):
        train(settings(tmp_path / "broken", **options), stop_in=1, stop_at=3)
    state = torch.load(tmp_path / "broken" / "last.state.pt", weights_only=True)
    assert (state["epoch"], state.get("done", 0)) == (1, saved)
    train(settings(tmp_path / "broken", **options, resume=True))
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "broken"))
    assert logged(tmp_path / "whole") == logged(tmp_path / "broken")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])
def test_a_signal_saves_at_the_next_step_and_leaves_with_a_code_to_requeue_on(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    train(settings(tmp_path / "whole"))
    number = getattr(signal, name)
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as left:
        train(settings(tmp_path / "broken"), signal_in=2, number=number)
    assert left.value.code == 75
    assert f"{name}: saved {tmp_path / 'broken'} after epoch 2 and 3 steps" in (
        capsys.readouterr().err
    )
    assert signal.getsignal(number) == before
    train(settings(tmp_path / "broken", resume=True))
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "broken"))


def test_the_first_ctrl_c_saves_and_the_second_stops_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(settings(tmp_path / "whole", epochs=2))
    out = tmp_path / "broken"
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted), use_command(["toy", "train", "--out", str(out)]):
        train(settings(out, epochs=2), signal_in=1, number=signal.SIGINT)
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"interrupted: saved {out} after epoch 1 and 3 steps; continue with dlkit toy train"
        f" --out {out} --resume"
    )
    assert signal.getsignal(signal.SIGINT) == before

    def twice(run: Run) -> None:
        if run.done == 3:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted):
        train(settings(out, epochs=2, resume=True), at_each_step=twice)
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"interrupted at once: {out} is as saved after epoch 1 and 3 steps; continue with the"
        " same call and resume=True"
    )
    train(settings(out, epochs=2, resume=True))
    assert same(weights(tmp_path / "whole"), weights(out))


def test_ctrl_c_ends_a_training_that_is_part_of_another_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(KeyboardInterrupt), use_command(["toy", "cross-validate"]):
        train(settings(tmp_path), signal_in=0, number=signal.SIGINT)
    assert capsys.readouterr().err == ""


def test_ctrl_c_while_an_epoch_is_validated_waits_for_its_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = Run.finish_epoch

    def interrupted(run: Run, **metrics: float) -> bool:
        os.kill(os.getpid(), signal.SIGINT)
        return finish(run, **metrics)

    monkeypatch.setattr(Run, "finish_epoch", interrupted)
    with pytest.raises(Interrupted):
        train(settings(tmp_path))
    first, epoch, last = capsys.readouterr().err.splitlines()
    assert first == "stopping once this epoch is saved; Ctrl-C again stops at once"
    assert epoch.startswith("epoch 1/4")
    assert f"saved {tmp_path} after epoch 1; " in last


@pytest.mark.parametrize("schedule", ["constant", "cosine", "one-cycle"])
def test_a_prolonged_run_ends_as_one_that_had_each_number_of_epochs_in_turn(
    tmp_path: Path, schedule: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Finished or interrupted when it is prolonged, and interrupted again after that."""
    shared: dict[str, Any] = {"schedule": schedule, "warmup": 0.0}
    for name in ("a", "b"):
        train(settings(tmp_path / name, epochs=2, **shared))
    capsys.readouterr()
    train(settings(tmp_path / "a", epochs=4, resume=True, **shared))
    _, line, *_ = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{schedule} over 4 epochs instead of 2: the rate ")
    with pytest.raises(Stop):
        train(settings(tmp_path / "b", epochs=4, resume=True, save_every=1, **shared), stop_in=3)
    train(settings(tmp_path / "b", epochs=4, resume=True, save_every=1, **shared))
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    train(settings(tmp_path / "whole", epochs=4, **shared))
    assert same(weights(tmp_path / "a"), weights(tmp_path / "whole")) == (schedule == "constant")
    rates = [record["lr"] for record in logged(tmp_path / "a")]
    whole = [record["lr"] for record in logged(tmp_path / "whole")]
    assert rates[2:] == whole[2:]
    assert (rates == whole) == (schedule == "constant")


@pytest.mark.parametrize(
    ("schedule", "before", "now", "line"),
    [
        ("cosine", 10, 20, "the rate rises from 0.005 to 0.25 and falls again"),
        ("linear", 10, 20, "the rate rises from 0.005 to 0.25 and falls again"),
        ("step", 10, 20, "the rate rises from 0.005 to 0.05 and falls at their half and three"),
        ("one-cycle", 10, 20, "the rate rises from 5e-05 to 0.36 and falls again"),
        ("cosine", 20, 10, "the rate falls from 0.25 to 0.005"),
        ("constant", 10, 20, "the rate does not depend on their number"),
        ("plateau", 10, 20, "the rate does not depend on their number"),
    ],
)
def test_the_line_about_another_number_of_epochs(
    schedule: str, before: int, now: int, line: str
) -> None:
    old, new = (
        settings(Path("run"), epochs=epochs, schedule=schedule, warmup=0.0, lr=0.5)
        for epochs in (before, now)
    )
    said = changed_length(old, new, 10)
    assert said.startswith(f"{schedule} over {now} epochs instead of {before}: {line}")


def test_a_run_cannot_be_shortened_below_what_is_done_and_a_finished_one_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(settings(tmp_path, epochs=2))
    with pytest.raises(DlkitError, match="has begun epoch 2; give --epochs 2 or more"):
        train(settings(tmp_path, epochs=1, resume=True))
    state = (tmp_path / "last.state.pt").read_bytes()
    capsys.readouterr()
    train(settings(tmp_path, epochs=2, resume=True))
    assert capsys.readouterr().err.splitlines() == [
        f"{tmp_path} is finished after 2 epochs; give more --epochs to prolong it"
    ]
    assert (tmp_path / "last.state.pt").read_bytes() == state


def test_without_validation_data_the_last_epoch_is_the_best(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with distributed.launch("cpu") as process:
        model = nn.Linear(1, 1)
        run = Run(settings(tmp_path), process, model, Header("toy", "linear", {}, []))
        optimizer = run.optimizer(model)
        batches = run.loader(Noisy())
        for _ in run.epochs(None):
            for x, y in run.batches(batches):
                run.step((model(x) - y).square().mean(), optimizer)
            assert run.finish_epoch()
    first, *lines, last = capsys.readouterr().err.splitlines()
    assert first == "no validation data: the last epoch is kept as best"
    assert len(lines) == 4
    assert not any("best" in line or "score" in line for line in lines)
    assert last.startswith("best.safetensors is the last of 4 epochs; ")
    assert checkpoint.read_header(tmp_path / "best.safetensors").metrics["epoch"] == 4


@pytest.mark.parametrize(
    ("scores", "line"),
    [
        ([0.1, 0.3, 0.2], "best: quality 0.3000 in epoch 2 of 3; "),
        ([0.3, 0.2, 0.2], "best: quality 0.3000 in epoch 1 of 3, never better after it; try"),
        ([math.nan] * 3, "quality was nan after each epoch: best.safetensors is epoch 3 of 3 (the"),
        ([0.0] * 3, "best: quality 0.0000 in epoch 3 of 3 (the lowest loss of 3 with this quality"),
    ],
)
def test_the_end_of_a_run_is_summed_up(
    tmp_path: Path, scores: list[float], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    train(settings(tmp_path, epochs=3), scores=scores)
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith(line)
    nan = [line for line in lines if "quality is nan: the validation data do not define" in line]
    assert len(nan) == (scores[0] != scores[0])


def test_an_epoch_without_a_batch_is_one_line(tmp_path: Path) -> None:
    with distributed.launch("cpu") as process:
        model = nn.Linear(1, 1)
        run = Run(settings(tmp_path), process, model, Header("toy", "linear", {}, []))
        batches = run.batches(DataLoader(TensorDataset(torch.zeros(3)), 4, drop_last=True))
        with pytest.raises(DlkitError, match="too few samples for a single step"):
            next(batches)


def test_states_are_saved_by_the_clock_and_take_a_hundredth_of_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step takes 7 s, saving 2 s: first after 60 s, then after 200 s."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    saved: list[float] = []

    def save_state(self: Run, **within: Any) -> None:
        saved.append(now[0])
        now[0] += 2

    monkeypatch.setattr(Run, "save_state", save_state)

    class Long(Noisy):
        def __len__(self) -> int:
            return 4 * 80

    with distributed.launch("cpu") as process:
        model = nn.Linear(1, 1)
        run = Run(settings(tmp_path), process, model, Header("toy", "linear", {}, []))
        run.optimizer(model)
        batches = run.loader(Long())
        for _ in run.epochs(None):
            for _ in run.batches(batches):
                run.losses.append(torch.zeros(()))
                now[0] += 7
            break
    assert saved == [63, 268, 473]


def test_other_data_than_the_epoch_was_begun_with_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Stop):
        train(settings(tmp_path, save_every=1), stop_in=0)
    path = tmp_path / "last.state.pt"
    state = torch.load(path, weights_only=True)
    torch.save({**state, "batches": 9}, path)
    with pytest.raises(DlkitError, match="in an epoch of 9 steps, but now one has 5"):
        train(settings(tmp_path, resume=True))


@pytest.mark.slow
def test_a_full_disk_is_said_and_the_last_good_state_stays(tmp_path: Path) -> None:
    """Files may grow to a size that the first epoch's keep to, and then to none."""
    train(settings(tmp_path / "whole", epochs=2))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(run: Run) -> None:
        if run.epoch == 1:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))

    config = settings(tmp_path / "full", epochs=2)
    try:
        with pytest.raises(DlkitError, match=r"best.safetensors: cannot be written \(File too lar"):
            train(config, at_each_step=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    try:
        with pytest.raises(DlkitError, match=r"last.state.pt: cannot be written \(File too large"):
            train(replace(config, resume=True, save_every=1), at_each_step=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list((tmp_path / "full").glob("*.partial"))
    train(replace(config, resume=True))
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "full"))


@pytest.mark.slow
def test_parts_of_a_batch_make_the_step_of_the_whole(tmp_path: Path) -> None:
    """Without what differs by part (noise, batch norm), --accumulate changes nothing."""

    class Plain(Noisy):
        def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
            x = torch.tensor([index / 20])
            return x, 3 * x + 1

    for parts in (1, 2, 4):
        train(settings(tmp_path / str(parts), accumulate=parts), data=Plain(), norm=False)
    one = weights(tmp_path / "1")
    for parts in (2, 4):
        own = weights(tmp_path / str(parts))
        assert all(torch.allclose(one[name], own[name], atol=1e-6) for name in one)
    with pytest.raises(DlkitError, match="--batch-size 4 does not divide over 1 processes x 3"):
        train(settings(tmp_path / "3", accumulate=3))


@pytest.mark.parametrize("samples", [20, 23, 5, 3])
@pytest.mark.parametrize("of", [1, 2, 4])
def test_batches_are_the_same_on_any_number_of_processes(samples: int, of: int) -> None:
    whole = BatchSampler(samples, 4, 7, range(1), 1)
    parts = [BatchSampler(samples, 4, 7, [part], of) for part in range(of)]
    for order in (whole, *parts):
        order.epoch = 3
    for batch, *own in zip(whole, *parts, strict=True):
        assert sorted(set(batch)) == sorted({index for part in own for index in part})
        assert len({len(part) for part in own}) == 1
    seen = [index for batch in whole for index in batch]
    assert len(seen) == len(set(seen)) == (samples // 4 * 4 or samples)
    assert len(whole) == len(list(whole))


def test_a_state_of_an_older_epoch_than_the_log_is_mended(tmp_path: Path) -> None:
    """A kill after the log was written and before the state was."""
    config = settings(tmp_path, epochs=2)
    with pytest.raises(Stop):
        train(config, stop_in=1)
    log = tmp_path / "log.jsonl"
    log.write_text(log.read_text() + '{"epoch": 2, "loss": 0.0, "half a rec')
    train(settings(tmp_path, epochs=2, resume=True))
    assert [json.loads(line)["epoch"] for line in log.read_text().splitlines()] == [1, 2]


def test_it_learns_and_leaves_usable_files(tmp_path: Path) -> None:
    with use_command(["toy", "train", "a b"]):
        train(settings(tmp_path, epochs=30))
    log = (tmp_path / "log.jsonl").read_text().splitlines()
    losses = [json.loads(line)["loss"] for line in log]
    assert min(losses) < losses[0] / 10
    assert {path.name for path in tmp_path.iterdir()} == {
        "best.safetensors", "last.safetensors", "last.state.pt", "log.jsonl", "curves.png",
    }  # fmt: skip
    header = checkpoint.read_header(tmp_path / "best.safetensors")
    assert header.config["epochs"] == 30
    assert header.config["seed"] == 0
    assert header.metrics["extra"] == 1.0
    assert header.card["command"] == "dlkit toy train 'a b'"


def test_a_run_is_not_overwritten_by_mistake(tmp_path: Path) -> None:
    train(settings(tmp_path, epochs=1))
    with pytest.raises(DlkitError, match="--resume"):
        train(settings(tmp_path, epochs=1))
    with pytest.raises(DlkitError, match="started with --lr 0.05"):
        train(settings(tmp_path, epochs=1, resume=True, lr=0.1))


def test_a_run_goes_on_under_a_dlkit_with_more_settings(tmp_path: Path) -> None:
    train(settings(tmp_path, epochs=1))
    path = tmp_path / "last.state.pt"
    state = torch.load(path, weights_only=True)
    del state["config"]["patience"], state["config"]["ema"]
    torch.save(state, path)
    with pytest.raises(DlkitError, match="started with --ema 0.0"):
        train(settings(tmp_path, epochs=1, resume=True))
    state["config"]["ema"] = 0.9
    torch.save(state, path)
    train(settings(tmp_path, epochs=1, resume=True))


def test_best_is_the_best_and_patience_ends_the_run(tmp_path: Path) -> None:
    train(settings(tmp_path, epochs=9, patience=2), scores=[0.1, 0.5, 0.2, 0.3, 0.9, 0, 0, 0, 0])
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert len(records) == 4
    header = checkpoint.read_header(tmp_path / "best.safetensors")
    assert header.metrics["quality"] == 0.5
    assert header.card["score"] == "quality 0.500 on validation data, after epoch 2"


def test_the_validation_loss_decides_where_the_score_is_equal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It also counts for --patience: equal scores of a model that improves stop no run."""
    losses = [5.0, 4.0, 3.0, 3.5, 3.4]
    train(settings(tmp_path, epochs=5, patience=2), scores=[0.0] * 5, val_losses=losses)
    assert checkpoint.read_header(tmp_path / "best.safetensors").metrics["epoch"] == 3
    lines = capsys.readouterr().err.splitlines()
    assert lines[1] == (
        "quality is 0.0000 again: of such epochs, the one with the lowest val_loss is kept as best"
    )
    assert sum("of such epochs" in line for line in lines) == 1
    assert ["val_loss 4.0000 (best)" in line for line in lines].count(True) == 1
    assert lines[-1].startswith(
        "best: quality 0.0000 in epoch 3 of 5 (the lowest val_loss of 5 with this quality); "
    )


def test_the_best_loss_so_far_is_resumed(tmp_path: Path) -> None:
    losses = [5.0, 3.0, 4.0, 3.5]
    with pytest.raises(Stop):
        train(settings(tmp_path, save_every=1), 2, scores=[0.0] * 4, val_losses=losses)
    train(settings(tmp_path, save_every=1, resume=True), scores=[0.0] * 4, val_losses=losses)
    assert checkpoint.read_header(tmp_path / "best.safetensors").metrics["epoch"] == 2


def test_an_undefined_score_is_no_reason_to_stop(tmp_path: Path) -> None:
    train(settings(tmp_path, epochs=2), scores=[math.nan, 0.1])
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [record["quality"] for record in records] == [None, 0.1]
    assert checkpoint.read_header(tmp_path / "best.safetensors").metrics["epoch"] == 2


def test_a_diverging_run_stops_and_keeps_the_last_good_state(tmp_path: Path) -> None:
    with pytest.raises(DlkitError, match="lower --lr"):
        train(settings(tmp_path, optimizer="sgd", lr=1e30, clip_grad=0, warmup=0, ema=0))


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.0, 0.5, 1.0, 1.0, 1.0]),
        ("linear", [0.0, 0.5, 1.0, 0.505, 0.01]),
        ("cosine", [0.0, 0.5, 1.0, 0.505, 0.01]),
        ("step", [0.0, 0.5, 1.0, 0.1, 0.01]),
        ("one-cycle", [0.04, 0.36, 0.68, 0.5715, 1e-4]),
        ("inverse-sqrt", [0.0, 0.5, 1.0, 3**-0.5, 5**-0.5]),
    ],
)
def test_learning_rate_warms_up_and_falls(
    tmp_path: Path, schedule: str, expected: list[float]
) -> None:
    config = settings(tmp_path, epochs=10, warmup=2.0, schedule=schedule)
    with distributed.launch("cpu") as process:
        run = Run(config, process, nn.Linear(1, 1), Header("toy", "linear", {}, []))
    rates = []
    for position in (0, 1, 2, 6, 10):
        run.position = position
        rates.append(run.rate())
    assert rates == pytest.approx(expected, abs=1e-3)


def test_plateau_lowers_the_rate_after_five_epochs_without_a_better_score(tmp_path: Path) -> None:
    scores = [0.1, 0.2, *[0.0] * 10]
    train(settings(tmp_path, epochs=12, schedule="plateau", warmup=0, lr=0.1), scores=scores)
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    rates = [record["lr"] for record in records]
    assert rates == pytest.approx([0.1] * 6 + [0.01] * 5 + [0.001])


def test_the_last_epochs_weights_are_averaged(tmp_path: Path) -> None:
    config = settings(tmp_path, ema=0.0, swa_epochs=2, epochs=3, lr=0.0)
    with distributed.launch("cpu") as process:
        model = nn.Linear(1, 1)
        run = Run(config, process, model, Header("toy", "linear", {}, []))
        optimizer = run.optimizer(model)
        batches = run.loader(Noisy())
        for epoch in run.epochs(None):
            nn.init.constant_(model.weight, 10.0**epoch)
            for _ in run.batches(batches):
                run.step(0 * model.weight.sum(), optimizer)
            evaluated = float(run.eval_model.state_dict()["weight"])
            assert evaluated == pytest.approx([1.0, 10.0, 55.0][epoch])
            run.finish_epoch()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_take_the_step_of_their_formula(tmp_path: Path, name: str) -> None:
    """Two steps with gradient 2 from weight 1, rate 0.1, without decay."""
    g, lr = 2.0, 0.1
    root = math.sqrt(0.01 * g * g), math.sqrt(0.99 * 0.01 * g * g + 0.01 * g * g)
    adadelta = math.sqrt(1e-6) / math.sqrt(0.1 * g * g + 1e-6) * g
    second = math.sqrt(0.9 * 0 + 0.1 * adadelta**2 + 1e-6) / math.sqrt(0.19 * g * g + 1e-6) * g
    expected = {
        "sgd": 1 - 2 * lr * g,
        "momentum": 1 - lr * g - lr * 1.9 * g,
        "nesterov": 1 - lr * (g + 0.9 * g) - lr * (g + 0.9 * 1.9 * g),
        "adagrad": 1 - lr * g / math.sqrt(g * g) - lr * g / math.sqrt(2 * g * g),
        "rmsprop": 1 - lr * g / root[0] - lr * g / root[1],
        "adadelta": 1 - lr * (adadelta + second),
        "adam": 1 - 2 * lr,  # of a constant gradient, both corrected means are the gradient's
        "adamw": 1 - 2 * lr,
    }
    options = {"optimizer": name, "lr": lr, "weight_decay": 0.0, "warmup": 0.0, "clip_grad": 0.0}
    config = settings(tmp_path, schedule="constant", ema=0.0, **options)
    with distributed.launch("cpu") as process:
        model = nn.Linear(1, 1, bias=False)
        nn.init.ones_(model.weight)
        run = Run(config, process, model, Header("toy", "linear", {}, []))
        optimizer = run.optimizer(model)
        for _ in range(2):
            run.step(g * model.weight.sum(), optimizer)
    assert float(model.weight.detach()) == pytest.approx(expected[name], rel=1e-4)


def test_average_of_the_weights_follows_its_formula(tmp_path: Path) -> None:
    config = settings(tmp_path, ema=0.5, lr=0.0)
    with distributed.launch("cpu") as process:
        model = nn.Linear(1, 1)
        run = Run(config, process, model, Header("toy", "linear", {}, []))
    optimizer = run.optimizer(model)
    expected = float(model.weight.detach())
    for step, value in enumerate([1.0, 2.0, 4.0], 1):
        nn.init.constant_(model.weight, value)
        run.step(0 * model.weight.sum(), optimizer)  # at rate 0: only the average moves
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    assert float(run.eval_model.state_dict()["weight"]) == pytest.approx(expected)


def test_lookahead_returns_to_the_average_every_few_steps(tmp_path: Path) -> None:
    """Every 2 steps, average += (1 - 0.95^5 (position / epochs)^3) (weights - average)."""
    config = settings(tmp_path, ema=0.0, lookahead=2, epochs=4, lr=0.0)
    with distributed.launch("cpu") as process:
        model = nn.Linear(1, 1)
        run = Run(config, process, model, Header("toy", "linear", {}, []))
    optimizer = run.optimizer(model)
    expected = float(model.weight.detach())
    for step, value in enumerate([1.0, 2.0, 4.0, 8.0, 16.0], 1):
        nn.init.constant_(model.weight, value)
        run.position = float(min(step, 4))
        run.step(0 * model.weight.sum(), optimizer)  # at rate 0
        if step % 2 == 0:
            decay = 0.95**5 * (run.position / 4) ** 3
            expected = decay * expected + (1 - decay) * value
            assert float(model.weight.detach()) == pytest.approx(expected)
        else:
            assert float(model.weight.detach()) == value
        assert float(run.eval_model.state_dict()["weight"]) == pytest.approx(expected)
    with (
        pytest.raises(DlkitError, match="--ema and --lookahead are given together; choose one"),
        distributed.launch("cpu") as process,
    ):
        Run(replace(config, ema=0.9), process, model, Header("toy", "linear", {}, []))


def test_a_resumed_run_with_lookahead_ends_with_the_same_weights(tmp_path: Path) -> None:
    options: dict[str, Any] = {"ema": 0.0, "lookahead": 3, "save_every": 1}
    train(settings(tmp_path / "whole", **options))
    with pytest.raises(Stop):
        train(settings(tmp_path / "broken", **options), stop_in=2)
    train(settings(tmp_path / "broken", **options, resume=True))
    whole, broken = weights(tmp_path / "whole"), weights(tmp_path / "broken")
    assert all(torch.equal(whole[name], broken[name]) for name in whole)


def test_biases_and_norms_have_a_rate_of_their_own(tmp_path: Path) -> None:
    config = settings(tmp_path, optimizer="sgd", lr=0.1, bias_lr=5.0, warmup=0, ema=0, clip_grad=0)
    with distributed.launch("cpu") as process:
        model = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
        run = Run(config, process, model, Header("toy", "linear", {}, []))
        optimizer = run.optimizer(model)
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        run.step(torch.stack([p.sum() for p in model.parameters()]).sum(), optimizer)
    for name, tensor in model.state_dict().items():
        moved = 0.1 if name == "0.weight" else 5.0 * 0.1
        assert torch.allclose(tensor, before[name] - moved)


def test_decay_spares_biases_and_norms(tmp_path: Path) -> None:
    config = settings(
        tmp_path, optimizer="nesterov", weight_decay=0.5, lr=0.1, warmup=0, ema=0, clip_grad=0
    )
    with distributed.launch("cpu") as process:
        model = nn.Linear(2, 2)
        run = Run(config, process, model, Header("toy", "linear", {}, []))
        optimizer = run.optimizer(model)
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        run.step(0 * (model.weight.sum() + model.bias.sum()), optimizer)
    # Nesterov momentum 0.9: the first step is lr * (1 + 0.9) * decay * weight.
    assert torch.allclose(model.weight, before["weight"] * (1 - 0.1 * 1.9 * 0.5))
    assert torch.equal(model.bias, before["bias"])


def test_init_from_takes_what_fits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "source.safetensors"
    stored = {"0.weight": torch.full((3, 2), 7.0), "1.weight": torch.zeros(5, 3)}
    checkpoint.save(source, stored, Header("other", "net", {}, []))
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4))
    with distributed.launch("cpu") as process:
        config = settings(tmp_path / "run", init_from=str(source))
        run = Run(config, process, model, Header("toy", "linear", {}, []))
    assert torch.equal(model.state_dict()["0.weight"], stored["0.weight"])
    assert torch.equal(run.eval_model.state_dict()["0.weight"], stored["0.weight"])
    assert "1 of 4 tensors" in capsys.readouterr().err
    with (
        pytest.raises(DlkitError, match="none of its weights fits"),
        distributed.launch("cpu") as p,
    ):
        Run(config, p, nn.Linear(9, 9), Header("toy", "linear", {}, []))


@dataclass(kw_only=True)
class WithArch(TrainConfig):
    data: Path = Path("toy")
    arch: str = option("large", "Architecture to train.")
    width: int = option(8, "Channels.")


def test_a_model_to_go_on_from_keeps_its_form() -> None:
    source = Source("first", Header("toy", "small", {"tokenizer": [1, 2]}, []))
    for config in (WithArch(), WithArch(arch="small"), WithArch(lr=0.5)):
        source.check_no_conflict(config, ["width"])
    with pytest.raises(DlkitError, match="--width comes from the model first; do not give it"):
        source.check_no_conflict(WithArch(width=9), ["width"])
    with pytest.raises(DlkitError, match="first has --arch small; do not give --arch tiny"):
        source.check_no_conflict(WithArch(arch="tiny"), ["width"])
    with pytest.raises(DlkitError, match="first: it has no setting 'network'"):
        source.start(0.1, sum)
    settings = {"tokenizer": {"a": 1, "b": 2}, "network": {"a": 3}}
    start = Source("second", Header("toy", "small", settings, [])).start(0.1, len)
    assert (start.vocabulary, start.network) == (2, {"a": 3, "dropout": 0.1})


@pytest.mark.parametrize("seed", range(12))
def test_a_state_of_other_types_or_shapes_is_refused(seed: int, tmp_path: Path) -> None:
    with pytest.raises(Stop):
        train(settings(tmp_path, save_every=0), 2)
    path = tmp_path / "last.state.pt"
    state = torch.load(path, weights_only=True)
    rng = random.Random(seed)
    node, key = state, rng.choice([*state])
    while isinstance(node[key], dict | list) and node[key] and rng.random() < 0.8:
        node = node[key]
        key = rng.choice([*node]) if isinstance(node, dict) else rng.randrange(len(node))
    changed: list[Any] = [
        None,
        "x",
        -1,
        [],
        {},
        [1],
        torch.zeros(3, 5),
        torch.zeros(0),
        float("nan"),
    ]
    node[key] = rng.choice(changed)
    torch.save(state, path)
    with contextlib.suppress(DlkitError):  # with one line, which names the file or the folder
        train(settings(tmp_path, resume=True))
