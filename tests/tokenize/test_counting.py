"""Counting of pre-tokens: limits, and large corpora as small ones."""

from pathlib import Path
from typing import Any

import pytest

from dlkit.tokenize import train
from tests.tokenize.helpers import error_line, generate_lines


@pytest.mark.slow
def test_error_of_a_pre_token_that_is_too_long(tmp_path: Path) -> None:
    path = tmp_path / "endless.txt"
    path.write_text("ab" * 700_000 + "\n")
    line = error_line("train", path, "-o", tmp_path / "t.json")
    assert "1400000 bytes" in line
    assert not (tmp_path / "t.json").exists()


@pytest.mark.slow
def test_compiled_counts_equal_those_of_python(monkeypatch: pytest.MonkeyPatch) -> None:
    from dlkit.tokenize import counting, learning

    lines = generate_lines(3, 300)
    variants: list[dict[str, Any]] = [
        {},
        {"split": r"\w+|\W+"},  # no compiled pattern: in processes
        {"algorithm": "wordpiece", "normalize": "nfkc,lower,strip-accents", "limit_alphabet": 20},
        {"algorithm": "words"},
    ]
    for settings in variants:
        small = train(lines, vocab_size=600, **settings)
        with monkeypatch.context() as patch:
            patch.setattr(counting, "SMALL", 1)
            patch.setattr(learning, "SMALL", 1)
            patch.setattr("dlkit.core.io.text.BLOCK", 2000)
            large = train(lines, vocab_size=600, **settings)
        assert large.to_json() == small.to_json()
