"""Style transfer: what painters learn from, and that training learns, and resumes exactly."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dlkit.core.errors import DlkitError
from dlkit.core.store import checkpoint
from dlkit.core.vision import images
from dlkit.style_transfer import train as training
from dlkit.style_transfer.config import StyleTrainConfig, by_arch
from dlkit.style_transfer.data import SquareCrops, center_crops, list_images, random_crop
from dlkit.style_transfer.model import build
from dlkit.style_transfer.train import train


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four photographs, two styles (red noise, stripes), and a file that is no image."""
    folder = tmp_path_factory.mktemp("style")
    rng = np.random.default_rng(0)
    for name in ("photos", "styles"):
        (folder / name).mkdir()
    for number in range(4):
        small = rng.integers(0, 255, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(small).resize((64, 48)).save(folder / "photos" / f"{number}.png")
    red = rng.integers(0, 255, (40, 40, 3), dtype=np.uint8) * np.array([1, 0, 0], np.uint8)
    stripes = np.zeros((40, 60, 3), np.uint8)
    stripes[::4, :, 2] = 255
    for name, pixels in (("red", red), ("stripes", stripes)):
        Image.fromarray(pixels).save(folder / "styles" / f"{name}.png")
    (folder / "photos" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    return folder


def config(folder: Path, out: Path, arch: str, **options: Any) -> StyleTrainConfig:
    settings: dict[str, Any] = {
        "data": [str(folder / "styles")],
        "images": [str(folder / "photos")],
        "out": out,
        "arch": arch,
        "features": "random:0",
        "image_size": 32,
        "steps_per_epoch": 4,
        "epochs": 2,
        "batch_size": 2,
        "val_share": 0.3,
        "workers": 0,
        "device": "cpu",
        "precision": "fp32",
    }
    if arch == "fast":
        settings |= {"width": 4, "style_size": 40}
    return StyleTrainConfig(**{**settings, **options})


# ---- data ----------------------------------------------------------------------------------------


def test_squares_are_parts_of_pictures_of_any_size() -> None:
    torch.manual_seed(0)
    ramp = torch.arange(100, dtype=torch.uint8).view(1, 1, -1).expand(3, 50, -1)
    starts = set()
    for _ in range(20):
        part = random_crop(ramp, 50)
        assert part.shape == (3, 50, 50)
        row = part[0, 0].int()
        # Not resized, since no part is larger; mirrored or not.
        assert row.diff().unique().tolist() in ([1], [-1])
        starts.add(int(row.min()))
    assert len(starts) > 10
    small = torch.full((3, 9, 12), 7, dtype=torch.uint8)
    assert (random_crop(small, 16) == 7).all()


def test_unreadable_pictures_are_skipped_and_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    squares = SquareCrops(list_images([str(folder / "photos")], "photographs"), 16)
    assert len(squares) == 4
    assert "skipped" in capsys.readouterr().err
    assert squares[0].shape == (3, 16, 16)
    # The shorter side is at most twice the square's.
    assert min(squares.pictures[0].shape[1:]) == 32
    assert center_crops([str(folder / "photos" / "broken.jpg")], 16).shape == (0, 3, 16, 16)
    with pytest.raises(DlkitError, match="broken.jpg: unreadable, and so are all others"):
        SquareCrops([str(folder / "photos" / "broken.jpg")], 16)


# ---- settings ------------------------------------------------------------------------------------


def test_options_of_the_other_architecture_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DlkitError, match="--width is for fast, not adain"):
        by_arch(config(folder, tmp_path, "adain", width=8))
    chosen = by_arch(config(folder, tmp_path, "adain", style_weight=3.0))
    assert (chosen.style_weight, chosen.tv_weight) == (3.0, 20.0)


def test_photographs_are_needed(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DlkitError, match="--images: none given"):
        train(config(folder, tmp_path / "run", "fast", images=[]))


# ---- training ------------------------------------------------------------------------------------


@pytest.mark.parametrize("arch", ["fast", "adain"])
def test_training_learns_and_writes_examples(folder: Path, tmp_path: Path, arch: str) -> None:
    chosen = config(folder, tmp_path / "run", arch, steps_per_epoch=20, lr=5e-3, every=2)
    header, weights = checkpoint.load(train(chosen), "style-transfer")
    lines = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    first, last = (json.loads(line)["loss"] for line in lines)
    assert last < 0.9 * first
    sheets = sorted((tmp_path / "run" / "examples").iterdir())
    assert [sheet.name for sheet in sheets] == ["002.png"]
    assert images.size(sheets[0]) == (3 * 36, 2 * 36)  # two photographs in both styles
    painter = build(header.arch, **header.settings)
    painter.load_state_dict(weights)
    assert header.labels == (["red", "stripes"] if arch == "fast" else [])


@pytest.mark.parametrize("arch", ["fast", "adain"])
def test_a_run_that_was_stopped_goes_on_exactly(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arch: str
) -> None:
    whole = train(config(folder, tmp_path / "whole", arch))
    finish_epoch = training.finish_epoch

    def stop_in_the_second(run: Any, *arguments: Any) -> None:
        if run.epoch == 1:
            raise KeyboardInterrupt
        finish_epoch(run, *arguments)

    stopped = config(folder, tmp_path / "stopped", arch)
    with monkeypatch.context() as patch:
        patch.setattr(training, "finish_epoch", stop_in_the_second)
        with pytest.raises(KeyboardInterrupt):
            train(stopped)
    train(replace(stopped, resume=True))
    weights = [
        checkpoint.load(path.parent / "last.safetensors")[1]
        for path in (whole, tmp_path / "stopped" / "last.safetensors")
    ]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_the_encoder_of_adain_is_not_trained(folder: Path, tmp_path: Path) -> None:
    chosen = config(folder, tmp_path / "run", "adain", content_layer="relu3_1")
    _, weights = checkpoint.load(train(chosen))
    network = training.load_features("random:0", torch.device("cpu"))
    own = network.state_dict()
    encoder = {n.removeprefix("encoder."): w for n, w in weights.items() if "encoder" in n}
    assert "steps.conv3_1.weight" in encoder
    assert "steps.conv3_2.weight" not in encoder
    assert encoder
    assert all(torch.equal(weight, own[name]) for name, weight in encoder.items())
