"""Reading pictures to learn from, and training every architecture: it learns, stops, resumes."""

import json
import math
import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dlkit.core.errors import DlkitError
from dlkit.core.store import checkpoint
from dlkit.core.train.run import Run
from dlkit.gan_sample.config import GanTrainConfig, by_arch
from dlkit.gan_sample.data import (
    Shape,
    SquareImages,
    choose_shape,
    from_uint8,
    list_pictures,
    to_uint8,
)
from dlkit.gan_sample.model import restore
from dlkit.gan_sample.train import train
from dlkit.gan_sample.train_autoencoder import corrupt
from dlkit.gan_sample.train_cyclegan import POOL_SIZE, ImagePool

SIDE = 16
ARCHS: dict[str, dict[str, Any]] = {
    "residual": {"width": 4},
    "gan": {"hidden": 20, "loss": "minimax"},
    "dcgan": {"width": 4, "spectral_norm": True, "augment": "translation", "ema": 0.9},
    "wgan": {"width": 4, "d_steps": 2},
    "wgan-gp": {"width": 4, "d_steps": 2},
    "cgan": {"width": 4, "loss": "least-squares"},
    "autoencoder": {"width": 4, "noise": 0.3, "masking": 0.2, "sparsity": 0.1},
    "vae": {"network": "dense", "hidden": 20},
    "cyclegan": {"width": 4, "blocks": 1, "batch_size": 2, "image_size": 32},
}


def draw(path: Path, label: int, seed: int, size: tuple[int, int] = (SIDE, SIDE)) -> None:
    """A bright bar on dark noise: across with label 0, upright with label 1."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 60, (size[1], size[0]), dtype=np.uint8)
    place = int(rng.integers(3, 9))
    if label:
        pixels[:, place : place + 4] = 220
    else:
        pixels[place : place + 4] = 220
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture(autouse=True)
def no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing them takes longer than the training."""
    monkeypatch.setattr("dlkit.core.train.run.curves", lambda *_: None)


@pytest.fixture(scope="module")
def bars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train/ with 30 bars of each direction, which are the classes."""
    root = tmp_path_factory.mktemp("bars")
    for label, name in enumerate(("across", "upright")):
        for seed in range(30):
            draw(root / "train" / name / f"{seed:02}.png", label, 100 * label + seed)
    return root


@pytest.fixture(scope="module")
def domains(bars: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("domains")
    for source, name in (("across", "trainA"), ("upright", "trainB")):
        (root / name).symlink_to(bars / "train" / source)
    return root


def settings(data: Path, out: Path, arch: str, **changed: Any) -> GanTrainConfig:
    given: dict[str, Any] = {
        "data": data, "out": out, "arch": arch, "epochs": 2, "steps_per_epoch": 6,
        "batch_size": 8, "workers": 0, "device": "cpu", "precision": "fp32", **ARCHS[arch],
    }  # fmt: skip
    if arch != "cyclegan":
        given["latent"] = 5
    if arch != "autoencoder":
        given["eval_samples"] = 20
    return GanTrainConfig(**{**given, **changed})


def data_of(arch: str, bars: Path, domains: Path) -> Path:
    return domains if arch == "cyclegan" else bars


def log_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


# ---- every architecture --------------------------------------------------------------------------


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
    if arch == "autoencoder":
        assert record["score"] == -record["val_loss"]
    else:
        assert record["score"] == -record["fid"]
        assert {"kid", "precision", "recall", "diversity"} < record.keys()
    if arch not in {"autoencoder", "vae"}:
        balance = {"discriminator_loss", "generator_loss", "output_on_real", "output_on_fake"}
        assert balance < record.keys()


class Stop(Exception):
    """Stands for a kill."""


def same(first: Any, second: Any) -> bool:
    """Whether two saved states are equal to the last bit."""
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[k], second[k]) for k in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return torch.equal(first, second) if isinstance(first, torch.Tensor) else first == second


@pytest.mark.parametrize("arch", ["residual", "wgan-gp", "cgan", "autoencoder", "vae", "cyclegan"])
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
    for part in ("model", "average", "optimizers", "steps", "best_score"):
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


def test_a_killed_run_goes_on_exactly(bars: Path, tmp_path: Path) -> None:
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


# ---- what the loop does --------------------------------------------------------------------------


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
    train(settings(bars, tmp_path, "gan", best_metric="kid", epochs=1))
    (record,) = log_of(tmp_path)
    assert record["score"] == -record["kid"]


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


def test_a_gan_learns_where_the_bar_is(bars: Path, tmp_path: Path) -> None:
    """The mean of its pictures comes close to the mean of those it saw."""
    out = tmp_path / "run"
    best = train(
        settings(
            bars, out, "dcgan", width=8, epochs=1, steps_per_epoch=120, lr=2e-3, loss="hinge",
            augment="none", spectral_norm=False,
        )
    )  # fmt: skip
    header, weights = checkpoint.load(best)
    made = restore("run", header, weights).sample(torch.randn(64, 5)).mean(dim=0)
    paths = sorted(bars.rglob("*.png"))
    real = from_uint8(torch.stack([Shape(SIDE, 1).read(path)[0] for path in paths])).mean(dim=0)
    start = np.square(real.numpy()).mean() ** 0.5  # of gray, which it makes at first
    apart = float((made - real).detach().square().mean().sqrt())
    assert apart < 0.5 * start


def test_a_vae_learns_to_reconstruct(bars: Path, tmp_path: Path) -> None:
    changed = {"epochs": 3, "steps_per_epoch": 60, "hidden": 64, "lr": 3e-3}
    train(settings(bars, tmp_path / "vae", "vae", **changed))
    records = log_of(tmp_path / "vae")
    assert records[-1]["val_reconstruction"] < 0.9 * records[0]["val_reconstruction"]
    assert records[-1]["val_loss"] == pytest.approx(
        records[-1]["val_reconstruction"] + records[-1]["val_kl"]
    )
    train(settings(bars, tmp_path / "tight", "vae", beta=50.0, **changed))
    # So strong a prior leaves the codes almost nothing to say.
    assert log_of(tmp_path / "tight")[-1]["val_kl"] / 50 < 0.2 * records[-1]["val_kl"]
    assert (tmp_path / "vae" / "samples" / "epoch-0003-reconstructions.png").exists()


def test_a_sparse_autoencoders_codes_are_sparse(bars: Path, tmp_path: Path) -> None:
    changed = {"network": "dense", "width": None, "hidden": 64, "steps_per_epoch": 80, "lr": 3e-3}
    means = []
    for weight in (1e-6, 100.0):
        out = tmp_path / str(weight)
        options = {"sparsity": weight, "noise": 0.0, "masking": 0.0, **changed}
        best = train(settings(bars, out, "autoencoder", **options))
        header, weights = checkpoint.load(best)
        model = restore("run", header, weights)
        assert torch.equal(model.code_mean, weights["code_mean"])
        means.append(float(model.code_mean.mean()))
    assert means[1] == pytest.approx(0.05, abs=0.03)
    assert means[0] > 2 * means[1]


def test_a_denoising_autoencoder_is_given_spoilt_pictures() -> None:
    torch.manual_seed(0)
    images = torch.full((40, 3, 10, 10), 0.5)
    assert torch.equal(corrupt(images, 0, 0), images)
    noisy = corrupt(images, 0.3, 0) - images
    assert float(noisy.std()) == pytest.approx(0.3, rel=0.05)
    masked = corrupt(images, 0, 0.25)
    assert float((masked[:, 0] == 0).float().mean()) == pytest.approx(0.25, abs=0.03)
    assert torch.equal(masked[:, 0], masked[:, 2])  # whole pixels


def test_the_pool_shows_new_images_and_half_of_the_time_earlier_ones() -> None:
    torch.manual_seed(0)
    pool = ImagePool()
    first = torch.arange(POOL_SIZE).float().view(-1, 1, 1, 1)
    assert torch.equal(pool.query(first), first)
    later = torch.arange(1000, 1400).float().view(-1, 1, 1, 1)
    shown = pool.query(later)
    new = (shown == later).float().mean()
    assert float(new) == pytest.approx(0.5, abs=0.1)
    earlier = shown[shown != later]
    assert len(set(earlier.tolist())) == len(earlier)  # what was shown has left the pool


# ---- what can go wrong ---------------------------------------------------------------------------


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


def test_mixed_sizes_are_cut_to_their_middle_and_that_is_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = [(16, 16)] * 9 + [(40, 16), (16, 30), (64, 64)]
    for seed, size in enumerate(sizes):
        draw(tmp_path / f"{seed:02}.png", 0, seed, size)
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "broken.png").write_text("no picture")
    listed = list_pictures(tmp_path, "train")
    shape = choose_shape(listed.paths, None, "auto")
    assert shape == Shape(16, 1)
    pictures = SquareImages(listed, shape)
    pictures.report()
    err = capsys.readouterr().err
    assert err.count("2 pictures are not square: center-cropped") == 1
    assert "skipped 1 x unreadable picture" in err
    assert pictures.pixels.shape == (12, 1, 16, 16)


def test_the_middle_is_the_middle(tmp_path: Path) -> None:
    pixels = np.zeros((16, 48, 3), np.uint8)
    pixels[:, 16:32] = (250, 0, 0)
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    kept, cut = Shape(16, 3).read(tmp_path / "wide.png")
    assert cut
    assert kept.float().mean(dim=(1, 2)).tolist() == [250, 0, 0]


def test_gray_among_color_is_color_unless_gray_is_asked_for(tmp_path: Path) -> None:
    for seed in range(10):
        draw(tmp_path / f"{seed}.png", 0, seed)
    red = np.full((SIDE, SIDE, 3), (200, 0, 0), np.uint8)
    Image.fromarray(red).save(tmp_path / "red.png")
    listed = list_pictures(tmp_path, "train")
    assert choose_shape(listed.paths, None, "auto").channels == 3
    shape = choose_shape(listed.paths, 32, "gray")
    assert shape == Shape(32, 1)
    kept, _ = shape.read(tmp_path / "red.png")
    assert set(kept.flatten().tolist()) == {round(0.299 * 200)}
    pictures = SquareImages(listed, Shape(16, 3))
    assert torch.equal(pictures.pixels[0, 0], pictures.pixels[0, 2])


def test_splits_and_classes_are_folders(bars: Path, tmp_path: Path) -> None:
    assert len(list_pictures(bars, "train").paths) == 60
    assert len(list_pictures(bars / "train", "test").paths) == 60  # no splits: all there is
    listed = list_pictures(bars, "train", classes=True)
    assert listed.names == ["across", "upright"]
    assert listed.labels == [0] * 30 + [1] * 30
    turned = list_pictures(bars, "train", True, ["upright", "more", "across"])
    assert turned.labels == [0] * 30 + [2] * 30
    with pytest.raises(DlkitError, match="no split 'test'; choose from train"):
        list_pictures(bars, "test")
    with pytest.raises(DlkitError, match="no class 'upright'"):
        list_pictures(bars, "train", True, ["across"])
    with pytest.raises(DlkitError, match="two or more"):
        list_pictures(bars / "train" / "across", "train", classes=True)
    with pytest.raises(DlkitError, match="no pictures"):
        list_pictures(tmp_path, "train")
    with pytest.raises(DlkitError, match="no such folder"):
        list_pictures(tmp_path / "none", "train")
    with pytest.raises(DlkitError, match="trainA and trainB"):
        train(settings(bars, tmp_path / "run", "cyclegan"))


def test_an_epoch_sees_each_picture_as_often(bars: Path) -> None:
    listed = list_pictures(bars, "train")
    pictures = SquareImages(listed, Shape(SIDE, 1))
    pictures.length = 150
    assert len(pictures) == 150
    pixels, _ = pictures.__getitems__([3, 63, 123])
    assert torch.equal(pixels[0], pixels[2])
    held_out, rest = pictures.split_off(0.1, seed=0)
    assert (len(held_out), len(rest)) == (6, 54)
    again = pictures.split_off(0.1, seed=0)[0]
    assert torch.equal(held_out.pixels, again.pixels)


def test_pixels_survive_the_way_to_the_network_and_back() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    images = from_uint8(pixels)
    assert (float(images.min()), float(images.max())) == (-1, 1)
    assert torch.equal(to_uint8(images), pixels)


@pytest.mark.parametrize(
    ("arch", "option", "message"),
    [
        ("dcgan", {"beta": 2.0}, "--beta is for vae, not dcgan"),
        ("gan", {"width": 8}, "--width is for .*, not gan"),
        ("wgan", {"loss": "hinge"}, "--loss is for .*, not wgan"),
        ("wgan", {"beta1": 0.9}, "--beta1 is for adam"),
        ("cgan", {"hidden": 8}, "--hidden has no effect in convolutional"),
        ("vae", {"network": "dense", "kernel": 3}, "--kernel has no effect in a dense network"),
        ("vae", {"network": "residual"}, "--network residual is for cgan"),
        ("autoencoder", {"activity": 0.1}, "--activity has no effect without --sparsity"),
        ("autoencoder", {"eval_samples": 99}, "--eval-samples is for"),
        (
            "cyclegan",
            {"loss": "hinge"},
            "choose from least-squares, non-saturating",
        ),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(
    arch: Any, option: dict[str, Any], message: str
) -> None:
    with pytest.raises(DlkitError, match=message):
        by_arch(GanTrainConfig(data=Path("x"), arch=arch, **option))


def test_what_is_left_open_is_the_papers() -> None:
    wgan = by_arch(GanTrainConfig(data=Path("x"), arch="wgan"))
    assert (wgan.optimizer, wgan.lr, wgan.d_steps, wgan.clip_weights) == ("rmsprop", 5e-5, 5, 0.01)
    penalized = by_arch(GanTrainConfig(data=Path("x"), arch="wgan-gp"))
    assert (penalized.lr, penalized.beta1, penalized.d_steps) == (1e-4, 0, 5)
    assert penalized.gradient_penalty == 10
    dcgan = by_arch(GanTrainConfig(data=Path("x"), arch="dcgan", lr=1e-3))
    assert (dcgan.lr, dcgan.beta1, dcgan.loss) == (1e-3, 0.5, "non-saturating")


def test_a_size_that_the_networks_cannot_make_is_named(
    bars: Path, domains: Path, tmp_path: Path
) -> None:
    with pytest.raises(DlkitError, match="give --image-size 24"):
        train(settings(bars, tmp_path, "dcgan", image_size=26))
    with pytest.raises(DlkitError, match="--image-size 34: not for cyclegan; give a multiple of 4"):
        train(settings(domains, tmp_path, "cyclegan", image_size=34))
    with pytest.raises(DlkitError, match="32 or more"):
        train(settings(domains, tmp_path, "cyclegan", image_size=None))
