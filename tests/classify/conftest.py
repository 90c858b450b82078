"""Data and models that several tests of classify share."""

from pathlib import Path

import pytest
import torch

from dlkit.classify.data import Preprocessing
from dlkit.classify.infer import Classifier
from dlkit.classify.model import build
from tests.classify.helpers import FOLDER_COLORS, TEXTS, TINY, save_picture, trained, write_folders
from tests.conftest import run


@pytest.fixture(scope="session")
def stripes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    counts = {"train": 16, "val": 4, "test": 4}
    return write_folders(tmp_path_factory.mktemp("data") / "stripes", counts)


@pytest.fixture(scope="session")
def model(stripes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(stripes, tmp_path_factory.mktemp("run") / "tiny", *TINY, "--epochs", 6)


@pytest.fixture(scope="session")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folders(tmp_path_factory.mktemp("data") / "few", {"train": 2})


@pytest.fixture(scope="session")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model for short texts, trained on files with one text per line."""
    root = tmp_path_factory.mktemp("texts")
    for label, texts in TEXTS.items():
        (root / f"{label}.txt").write_text(
            "\n".join(f"{text} {n}" for n in range(8) for text in texts)
        )
    options = "--arch fasttext --epochs 12 --batch-size 8 --lr 0.05 --ngrams 1 --device cpu"
    done = run("classify", "train", root, "--out", root / "run", *options.split())
    assert done.code == 0, done.err
    return Path(done.out.strip())


@pytest.fixture(scope="session")
def classifier() -> Classifier:
    torch.manual_seed(0)
    network = build("resnet9", 4, 32, width_multiplier=0.1).eval()
    inputs = Preprocessing(32, "squash", 3, [0.5] * 3, [0.25] * 3)
    return Classifier(network, list("abcd"), inputs, torch.device("cpu"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four images of each color, in folders of their own."""
    for name, color in FOLDER_COLORS.items():
        for number in range(4):
            save_picture(tmp_path / "all" / name / f"{number}.png", number, color)
    return tmp_path / "all"
