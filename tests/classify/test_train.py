"""The training loops."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from dlkit.classify.config import IMAGES
from dlkit.core.errors import DlkitError
from dlkit.core.store import checkpoint
from dlkit.core.train.run import Run
from tests.classify.helpers import TINY, evaluated, train, trained
from tests.conftest import run

# These take some seconds even on six images.
DEEP = {"densenet121", "densenet169", "densenet201", "inception-v3", "vgg16", "vgg19"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "arch",
    [pytest.param(a, marks=[pytest.mark.slow] if a in DEEP else []) for a in sorted(IMAGES)],
)
def test_every_image_architecture_trains_and_answers(few: Path, tmp_path: Path, arch: str) -> None:
    options = ["--arch", arch, "--epochs", 1, "--batch-size", 6, "--optimizer", "sgd"]
    if "resnet" in arch:
        options += ["--width-multiplier", 0.125]
    best = trained(few, tmp_path / "run", *options, "--val-share", 0)
    records = json.loads(run("classify", few / "train", "-m", best, "-f", "json").out)
    assert [len(record["labels"]) for record in records] == [1] * 6
    header = checkpoint.read_header(best)
    assert header.arch == arch
    if arch != "knn":
        assert math.isfinite(json.loads((best.parent / "log.jsonl").read_text())["loss"])


@pytest.mark.slow
def test_a_resumed_run_ends_with_the_same_weights(
    stripes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [*TINY, "--cutout", 0.3, "--mixup", 0.4, "--randaugment", 5]
    whole = trained(stripes, tmp_path / "whole", *options)
    finish = Run.finish_epoch

    def killed_in_the_last(self: Run, *args: Any, **metrics: Any) -> bool:
        if self.epoch == 2:
            raise DlkitError("killed")
        return finish(self, *args, **metrics)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "finish_epoch", killed_in_the_last)
        assert train(stripes, tmp_path / "cut", *options).code == 2
    trained(stripes, tmp_path / "cut", *options, "--resume")
    ours = checkpoint.load(whole.with_name("last.safetensors"))[1]
    theirs = checkpoint.load(tmp_path / "cut" / "last.safetensors")[1]
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_rare_labels_weigh_as_much(tmp_path: Path) -> None:
    from dlkit.classify.train import balanced_weights

    weights = balanced_weights(torch.tensor([0] * 6 + [1] * 2), 2)
    assert weights.tolist() == pytest.approx([8 / 12, 8 / 4])
    assert float((weights * torch.tensor([6.0, 2.0])).sum()) == pytest.approx(8)
    multi_label = balanced_weights(torch.tensor([[1.0, 0], [0, 0], [0, 1], [0, 1]]), 2)
    assert multi_label.tolist() == pytest.approx([3, 1])


@pytest.mark.slow
def test_weights_that_start_from_zeros_do_not_learn(stripes: Path, tmp_path: Path) -> None:
    options = ["--arch", "mlp", "--hidden", "16", "--norm", "none", "--init", "zeros"]
    best = trained(stripes, tmp_path / "run", *options)
    assert evaluated(stripes, "-m", best)["top1", "all"] == pytest.approx(1 / 3, abs=1e-5)


@pytest.mark.slow
def test_l1_makes_weights_small(stripes: Path, tmp_path: Path) -> None:
    def size(name: str, *options: Any) -> float:
        best = trained(stripes, tmp_path / name, "--arch", "linear", *options)
        return float(
            checkpoint.load(best.with_name("last.safetensors"))[1]["head.fc.weight"].abs().sum()
        )

    assert size("l1", "--l1", 1.0) < 0.7 * size("none")
