"""Cross-validation."""

from pathlib import Path

import numpy as np
import pytest

from tests.classify.helpers import evaluated, scores
from tests.conftest import run


@pytest.mark.slow
def test_cross_validation_trains_once_a_fold(stripes: Path, model: Path) -> None:
    found = scores(
        run(
            "classify",
            "evaluate",
            stripes,
            "-m",
            model,
            "--folds",
            3,
            "-f",
            "json",
            "--device",
            "cpu",
        )
    )
    folds = [found["top1", f"fold {n}"] for n in (1, 2, 3)]
    assert found["top1", "mean"] == pytest.approx(np.mean(folds), abs=1e-4)
    assert found["top1", "deviation"] == pytest.approx(np.std(folds, ddof=1), abs=1e-4)
    assert found["top1", "mean"] > 0.8


@pytest.mark.slow
def test_texts_are_cross_validated(words: Path) -> None:
    options = ["-m", words, "--folds", 2, "--device", "cpu"]
    found = evaluated(words.parent.parent, *options)
    assert found["top1", "mean"] == pytest.approx(
        (found["top1", "fold 1"] + found["top1", "fold 2"]) / 2, abs=1e-4
    )
    assert found["top1", "mean"] > 0.9
