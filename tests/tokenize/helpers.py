"""Texts, corpora and checks that the tests of tokenize share."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from dlkit.tokenize import Tokenizer
from dlkit.tokenize.convert import convert
from tests.conftest import run

WORDS = {"hug": 10, "pug": 5, "pun": 12, "bun": 4, "hugs": 5}
LINES = [
    "The quick brown fox jumps over the lazy dog.",
    "Don't stop: it's the quick fox's 3rd jump, isn't it?",
    "Ein schöner Tag, naïve café — 日本語のテキスト 😀👩‍👩‍👧",
    "",
    "  two  spaces\tand a tab ",
]
ODD = [
    "Don't we'LL I'VE 'S 'ſ ''s they're",
    "naïve café cafe\u0301 Ünïcödé ǅ ẞ İstanbul ΣΊΣΥΦΟΣ",
    "日本語 テキスト 한국어 العربية हिन्दी 中文，标点。",
    "😀👩‍👩‍👧🏽 ½ ² Ⅷ ١٢٣ 1234567 3.14 $5 a_b",
    "\x00 \x01\x1b[0m \x1c\x1f \x7f\x85\u00a0\u2003\u200b\ufeff x",
    "   leading  and   trailing   \t ",
    "a\r",
    "[UNK] <unk> ## ##a </w> ▁ Ġ",
    "x" * 300,
    "",
]
NASTY = "abcdeé 'stSTlLvVrRdDmMſ019½\t\r\n \u00a0\u2003.,;!_-$日本ーй😀\u0301\x00\x1c\x85"


def generate_lines(seed: int, lines: int) -> list[str]:
    """Text of invented words, the frequent ones short, with some odd lines among it."""
    rng = random.Random(seed)
    syllables = ["ba", "ko", "ti", "é", "sch", "ing", "th", "e", "an", "日", "й"]
    words = ["".join(rng.choices(syllables, k=rng.randint(1, 4))) for _ in range(300)]
    weights = [1 / (i + 1) for i in range(300)]
    text = [
        rng.choice(["", " ", "\t"])
        + rng.choice([" ", "  ", ", ", "-"]).join(rng.choices(words, weights, k=rng.randint(1, 12)))
        + rng.choice(["", ".", "!", " 42", "'s"])
        for _ in range(lines)
    ]
    return text + ODD


def error_line(*args: object, stdin: str = "", code: int = 2) -> str:
    """The one line that a command ends with."""
    result = run("tokenize", *args, stdin=stdin)
    assert result.code == code, (result.out[:500], result.err)
    assert result.err.count("\n") == 1, result.err
    assert "Traceback" not in result.err
    return result.err


def in_hugging_face(tokenizer: Tokenizer, tmp_path: Path) -> Any:
    """The converted tokenizer, loaded by Hugging Face's library."""
    library = pytest.importorskip("tokenizers")
    (tmp_path / "own.json").write_text(tokenizer.to_json(), encoding="utf-8")
    convert([str(tmp_path / "own.json")], tmp_path / "theirs.json", "huggingface", force=True)
    return library.Tokenizer.from_file(str(tmp_path / "theirs.json"))


def train_in_hugging_face(tokenizer: Any, trainer: Any, lines: list[str], tmp_path: Path) -> Any:
    """Hugging Face's result on the same file; the library reads it line by line, as we do."""
    path = tmp_path / "corpus.txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="")
    tokenizer.train([str(path)], trainer)
    return json.loads(tokenizer.to_str())["model"]
