"""Fixtures of the tests of `dlkit embed`."""

from pathlib import Path

import numpy as np
import pytest

from dlkit.embed.model import save_embedding
from tests.embed.helpers import CAPITALS, COUNTRIES, OTHERS, embedding


@pytest.fixture(scope="module")
def topics(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sentences of words of one topic: red0 to red9, or blue0 to blue9."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("topics") / "topics.txt"
    lines = [
        " ".join(f"{('red', 'blue')[i % 2]}{k}" for k in rng.integers(10, size=12))
        for i in range(1200)
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model in which a capital is its country plus one direction."""
    rng = np.random.default_rng(1)
    countries = rng.normal(size=(5, 12))
    capitals = countries + rng.normal(size=12) + rng.normal(size=(5, 12)) * 0.02
    others = rng.normal(size=(6, 12)) * 0.5
    path = tmp_path_factory.mktemp("embed") / "world.safetensors"
    vectors = np.concatenate([countries, capitals, others])
    counts = np.arange(16, 0, -1)
    save_embedding(path, embedding(COUNTRIES + CAPITALS + OTHERS, vectors, counts=counts))
    return path
