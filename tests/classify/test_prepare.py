"""Settings, data and frozen layers of a training."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dlkit.classify.config import OWN
from dlkit.core.store import checkpoint
from tests.classify.helpers import TINY, train, trained, write_folders


@pytest.mark.slow
def test_transfer_starts_from_weights_and_freezes(
    stripes: Path, model: Path, tmp_path: Path
) -> None:
    options = [*TINY, "--init-from", model, "--freeze", "features", "--epochs", 1]
    moved = checkpoint.load(trained(stripes, tmp_path / "run", *options))[1]
    before = checkpoint.load(model)[1]
    for name, tensor in before.items():
        same = torch.equal(tensor, moved[name])
        assert same == name.startswith("features"), name
    other = ["--image-size", 36, "--fit", "squash"]
    larger = trained(stripes, tmp_path / "larger", *options, *other)
    inputs = checkpoint.read_header(larger).settings["preprocessing"]
    assert (inputs["image_size"], inputs["fit"]) == (36, "squash")
    options[options.index("features")] = "2"
    moved = checkpoint.load(trained(stripes, tmp_path / "two", *options))[1]
    convolutions = [name for name, tensor in before.items() if tensor.dim() == 4]
    kept = [torch.equal(before[name], moved[name]) for name in convolutions]
    assert kept == [True, True, *[False] * (len(kept) - 2)]


@pytest.mark.slow
def test_frozen_layers_must_have_the_weights_they_start_from(
    stripes: Path, model: Path, tmp_path: Path
) -> None:
    freeze = ["--freeze", "features", "--epochs", 1]
    wider = ["--arch", "resnet9", "--width-multiplier", "0.25", "--init-from", model, *freeze]
    refused = train(stripes, tmp_path / "wider", *wider)
    assert refused.code == 2
    assert f"--freeze features: the weights of {model} do not fit: features.0.0.weight" in (
        refused.err
    )
    assert "needs the shape (16, 3, 3, 3) and has (8, 3, 3, 3)" in refused.err
    assert not list((tmp_path / "wider").rglob("*.safetensors"))
    refused = train(stripes, tmp_path / "random", *TINY, *freeze)
    assert refused.code == 2
    assert "--freeze features: the frozen layers have no trained weights" in refused.err
    # A part that fits may be frozen, and a run is resumed without its source.
    trained(stripes, tmp_path / "run", *TINY, *freeze, "--init-from", model)
    trained(stripes, tmp_path / "run", *TINY, *freeze, "--resume")


def with_one_label(data: Path) -> None:
    for label in ("blue", "cyan"):
        shutil.rmtree(data / "train" / label)


def with_an_empty_folder(data: Path) -> None:
    for path in (data / "train" / "blue").iterdir():
        path.unlink()


def without_training(data: Path) -> None:
    shutil.rmtree(data / "train")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("break_it", "options", "code", "message"),
    [
        (with_one_label, [], 2, "only one label"),
        (with_an_empty_folder, [], 0, "without images"),
        (lambda d: (d / "train" / "blue" / "0.png").write_bytes(b"x"), [], 2, "unreadable image"),
        (
            lambda d: (d / "train" / "blue" / "0.png").write_bytes(b"x"),
            ["--allow-skipped", "0.2"],
            0,
            "unreadable image",
        ),
        (lambda d: (d / "train" / "blue" / "0.png").write_bytes(b"x"), ["--strict"], 2, "1 of "),
        (lambda d: None, ["--freeze", "most"], 2, "give a number of layers"),
        (lambda d: None, ["--init-from", "nothing"], 2, "unknown model 'nothing'"),
        (lambda d: None, ["--pretrained"], 2, "no ImageNet weights of resnet9"),
        (lambda d: None, ["--hidden", "7"], 2, "hidden"),
        (
            lambda d: None,
            ["--ngrams", "3"],
            2,
            "--ngrams is for fasttext, nbsvm, tfidf, not resnet9",
        ),
        (
            lambda d: None,
            ["--arch", "bilstm"],
            2,
            f"--width-multiplier is for {', '.join(OWN['width_multiplier'])}, not bilstm",
        ),
        (lambda d: None, ["--margin", "0.5"], 2, "--margin goes with --loss triplet"),
        (lambda d: None, ["--loss", "triplet", "--mixup", "1"], 2, "--mixup goes with"),
        (without_training, [], 2, "no split 'train'; choose from test"),
        (shutil.rmtree, [], 2, "no such folder"),
    ],
)
def test_bad_data_and_settings_get_one_line(
    tmp_path: Path, break_it: Callable[[Path], Any], options: list[str], code: int, message: str
) -> None:
    data = write_folders(tmp_path / "data", {"train": 3, "test": 1})
    break_it(data)
    result = train(data, tmp_path / "run", *TINY, "--epochs", 1, *options)
    assert result.code == code, result.err
    assert message in result.err
    assert "Traceback" not in result.err
