"""Fixtures of the tests of caption."""

import csv
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch

from dlkit.core.store import checkpoint
from dlkit.core.store.checkpoint import Header
from tests.caption.helpers import (
    classifier,
    learn_captions,
    pictures,
    tiny_network,
    untrained_model,
    vocabulary,
    write_photos,
)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """The picture of a run's many scores takes several times as long as these runs."""
    monkeypatch.setattr("dlkit.core.train.run.curves", lambda *_: None)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures in Flickr8k's layout, eight of them to train on."""
    return write_photos(tmp_path_factory.mktemp("captions") / "photos")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained classifier, whose maps tell colors apart well enough."""
    return classifier(tmp_path_factory.mktemp("encoder") / "encoder.safetensors", seed=0)


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ten pictures in Flickr8k's layout, each in all splits, five captions an image."""
    root = tmp_path_factory.mktemp("captions") / "photos"
    (root / "Images").mkdir(parents=True)
    names, rows = [], []
    for number, (image, sentence) in enumerate(pictures()):
        names.append(f"{number}.png")
        image.save(root / "Images" / names[-1])
        rows += [[names[-1], sentence], [names[-1], f"This is {sentence} ."]]
    with (root / "captions.txt").open("w", newline="") as file:
        csv.writer(file).writerows([["image", "caption"], *rows])
    for split in ("train", "dev", "test"):
        text = "".join(f"{name}\n" for name in names)
        (root / f"Flickr_8k.{split}Images.txt").write_text(text)
    return root


@pytest.fixture(scope="session")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The checkpoint of a captioner that has learned the ten pictures, by its architecture."""
    folder = tmp_path_factory.mktemp("taught")

    @cache
    def made(arch: str) -> Path:
        model = untrained_model(arch)
        learn_captions(model)
        path = folder / f"{arch}.safetensors"
        name, network = tiny_network(arch, vocabulary())
        settings = {"network": network, "tokenizer": vocabulary().to_settings()}
        checkpoint.save(path, model.network.state_dict(), Header("caption", name, settings, []))
        return path

    return made
