"""Fixtures of the tests of translate."""

from pathlib import Path

import pytest
import torch

from dlkit.translate.infer import Predictor, load
from dlkit.translate.vocabulary import TranslationVocabulary
from tests.translate.helpers import ENGLISH, save_model, sentences, write_lines


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Files of 300 pairs to train on and 20 to validate."""
    folder = tmp_path_factory.mktemp("numbers")
    found = {}
    for name, count, seed in (("", 300, 0), ("val_", 20, 1)):
        both = sentences(count, seed)
        found[f"{name}source"] = [write_lines(folder / f"{name}en", both[0])]
        found[f"{name}target"] = [write_lines(folder / f"{name}de", both[1])]
    return found


@pytest.fixture(scope="module")
def vocabulary() -> TranslationVocabulary:
    return TranslationVocabulary.learn(ENGLISH * 3, "byte-bpe", 300)


@pytest.fixture(scope="module")
def file(vocabulary: TranslationVocabulary, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("models") / "tiny.safetensors", vocabulary)


@pytest.fixture(scope="module")
def model(file: Path) -> Predictor:
    return load(file, "cpu", "fp32")
