"""Normalization, compared with Hugging Face tokenizers."""

import random
import time
import unicodedata
from typing import Any, Literal

import pytest

from dlkit.tokenize.normalize import normalize, normalize_aligned
from dlkit.tokenize.unicode_tables import normalize_form
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


FORMS: tuple[Literal["NFC", "NFD", "NFKC", "NFKD"], ...] = ("NFC", "NFD", "NFKC", "NFKD")


def test_long_runs_of_marks_equal_python() -> None:
    rng = random.Random(5)
    marks = [
        *map(chr, range(0x300, 0x34F)),
        *"\u0f71\u0f72\u0f73\u0f75\u3099\u05b0\u05b1\uff9e\u0344",
    ]
    letters = [*"aeo가각か\uff76ｱé\u1e69\u09c7\u09be", "\U0001d165", "\U0001d16e"]
    for _ in range(200):
        text = "".join(rng.choices(marks * 3 + letters, k=rng.randint(20, 150)))
        for form in FORMS:
            assert normalize_form(form, text) == unicodedata.normalize(form, text)


def test_marks_of_two_classes_take_linear_time() -> None:
    text = "a" + "\u0301\u0323" * 100_000  # minutes, if sorted by insertion
    began = time.process_time()
    assert normalize(text, ["strip-accents"]) == "a"
    plain, spans = normalize_aligned(text, ["nfkc"])
    assert set(spans) == {(0, len(text))}
    assert plain == "ạ" + "\u0323" * 99_999 + "\u0301" * 100_000
    assert time.process_time() - began < 20
