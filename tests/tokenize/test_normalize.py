"""Normalization, compared with Hugging Face tokenizers."""

from typing import Any

import pytest

from dlkit.tokenize.normalize import normalize
from tests.tokenize.helpers import generate_lines


def test_normalization_equals_hugging_face() -> None:
    normalizers = pytest.importorskip("tokenizers").normalizers
    steps: dict[str, list[Any]] = {
        "nfc": [normalizers.NFC()],
        "nfkc": [normalizers.NFKC()],
        "lower": [normalizers.Lowercase()],
        "strip-accents": [normalizers.NFD(), normalizers.StripAccents()],
    }
    for name, parts in steps.items():
        theirs = normalizers.Sequence(parts)
        for line in generate_lines(4, 20):
            assert normalize(line, [name]) == theirs.normalize_str(line), name
