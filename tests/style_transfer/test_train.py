"""Training of painters: it learns, and resumes exactly."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from dlkit.core.errors import DlkitError
from dlkit.core.store import checkpoint
from dlkit.core.vision import images
from dlkit.style_transfer.model import build
from dlkit.style_transfer.models.features import load_features
from dlkit.style_transfer.train import finish_epoch, train
from tests.style_transfer.helpers import settings


def test_photographs_are_needed(examples: Path, tmp_path: Path) -> None:
    with pytest.raises(DlkitError, match="--images: none given"):
        train(settings(examples, tmp_path / "run", "fast", images=[]))


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["fast", "adain"])
def test_training_learns_and_writes_examples(examples: Path, tmp_path: Path, arch: str) -> None:
    chosen = settings(examples, tmp_path / "run", arch, steps_per_epoch=20, lr=5e-3, every=2)
    header, weights = checkpoint.load(train(chosen), "style-transfer")
    _, skipped = (tmp_path / "run" / "skipped.csv").read_text().splitlines()
    assert skipped.startswith("train,pictures,unreadable picture,")
    assert "broken.jpg (damaged image" in skipped
    lines = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    first, last = (json.loads(line)["loss"] for line in lines)
    assert last < 0.9 * first
    sheets = sorted((tmp_path / "run" / "examples").iterdir())
    assert [sheet.name for sheet in sheets] == ["002.png"]
    # Two photographs, each in both styles, above their captions.
    assert images.size(sheets[0]) == (3 * 36, 2 * (36 + 21))
    painter = build(header.arch, **header.settings)
    painter.load_state_dict(weights)
    assert header.labels == (["red", "stripes"] if arch == "fast" else [])


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["fast", "adain"])
def test_a_stopped_run_resumes_exactly(examples: Path, tmp_path: Path, arch: str) -> None:
    whole = train(settings(examples, tmp_path / "whole", arch))

    def stop_in_the_second(run: Any, *arguments: Any) -> None:
        if run.epoch == 1:
            raise KeyboardInterrupt
        finish_epoch(run, *arguments)

    stopped = settings(examples, tmp_path / "stopped", arch)
    with (
        mock.patch("dlkit.style_transfer.train.finish_epoch", stop_in_the_second),
        pytest.raises(KeyboardInterrupt),
    ):
        train(stopped)
    train(replace(stopped, resume=True))
    weights = [
        checkpoint.load(path.parent / "last.safetensors")[1]
        for path in (whole, tmp_path / "stopped" / "last.safetensors")
    ]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_the_encoder_of_adain_is_not_trained(examples: Path, tmp_path: Path) -> None:
    chosen = settings(examples, tmp_path / "run", "adain", content_layer="relu3_1")
    _, weights = checkpoint.load(train(chosen))
    network = load_features("random:0", torch.device("cpu"))
    own = network.state_dict()
    encoder = {n.removeprefix("encoder."): w for n, w in weights.items() if "encoder" in n}
    assert "steps.conv3_1.weight" in encoder
    assert "steps.conv3_2.weight" not in encoder
    assert encoder
    assert all(torch.equal(weight, own[name]) for name, weight in encoder.items())
