"""Texts encoded in segments, against the same texts encoded whole, and against the library."""

import json
import random
from typing import Any

import pytest

from dlkit.core.errors import DlkitError
from dlkit.tokenize.model import HuggingFace
from dlkit.tokenize.pipeline.segments import Segments
from dlkit.tokenize.readers.hugging_face import read_hugging_face
from tests.tokenize.families import FAMILIES, Json
from tests.tokenize.test_random_pipelines import random_content

# Spaces, and what could change or join with a space beside it.
CHARACTERS = [
    *[" "] * 14, *"aabbcdeé.,'-1", "\t", "\n", "\u00a0", "\u200b", "\u3000", "▁", "▁", "\u0301",
    "\u0300", "\u0600", "\u0e33", "가", "\u1100", "\u1161", "ﬁ", "½", "´", "ﷺ", "Σ", "日", "\x00",
    "\x85", "\ufeff", "ß", "İ", "\u0378", "😀", "\u200d", "#", "<s>", "hello", " x", "\r\n", "AB",
    "\u1680", "\u2028", "\udcff", "Ġ", "\u0338", "\u093f", "क", "\u00ad", "<|endoftext|>",
]  # fmt: skip
SEGMENTED = {
    "bert", "deepseek", "digits", "gemma", "gpt_neox", "llama2", "llama3", "marian", "mistral",
    "nllb", "phi", "qwen", "roberta", "t5", "xlm_r",
}  # fmt: skip


def texts(seed: object, number: int) -> list[str]:
    rng = random.Random(str(seed))
    return ["".join(rng.choices(CHARACTERS, k=rng.randint(0, 30))) for _ in range(number)]


def encode(tokenizer: HuggingFace, text: str, parse_special: bool) -> Any:
    try:
        return tokenizer.engine.encode(text, parse_special)
    except DlkitError as error:
        return str(error)


def check(content: Json, seed: object, number: int) -> Segments | None:
    """Compare both ways of a file that has both; returns its segments."""
    tokenizer = read_hugging_face(content, "tokenizer.json")
    if not isinstance(tokenizer, HuggingFace) or tokenizer.uses_library:
        return None
    engine: Any = tokenizer.engine
    segments: Segments | None = engine.segments
    if segments is not None:
        for text in texts(seed, number):
            for parse_special in (False, True):
                engine.segments = segments
                found = encode(tokenizer, text, parse_special)
                engine.segments = None
                assert found == encode(tokenizer, text, parse_special), text
    return segments


@pytest.mark.parametrize("family", FAMILIES)
def test_families_have_the_ids_of_whole_texts(family: str) -> None:
    pytest.importorskip("tokenizers")
    segments = check(FAMILIES[family](), family, 100)
    assert (segments is not None) == (family in SEGMENTED)
    if segments is not None:
        assert sum(map(len, segments.kept.values())) > 50


@pytest.mark.parametrize("seed", range(100, 140))
def test_random_files_have_the_ids_of_whole_texts(seed: int) -> None:
    pytest.importorskip("tokenizers")
    check(random_content(seed), seed, 40)


@pytest.mark.parametrize("family", ["llama2", "t5", "bert"])
def test_what_is_kept_does_not_grow_without_end(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    library: Any = pytest.importorskip("tokenizers")
    monkeypatch.setattr("dlkit.tokenize.pipeline.segments.KEPT", 10)
    content = FAMILIES[family]()
    tokenizer: Any = read_hugging_face(content, "tokenizer.json")
    theirs = library.Tokenizer.from_str(json.dumps(content))
    for number in range(30):
        text = f"the word{number} and {number} more, {'x' * 200} y"
        assert tokenizer.encode(text) == theirs.encode(text, add_special_tokens=False).ids
    assert all(len(kept) <= 10 for kept in tokenizer.engine.segments.kept.values())
    assert not any("xxx" in segment for segment in tokenizer.engine.segments.kept[False, False])


def test_a_model_whose_tokens_cross_spaces_is_read_whole() -> None:
    content = FAMILIES["llama2"]()
    model = content["model"]
    crossing = {**model, "vocab": {**model["vocab"], "e▁": 9000}, "merges": [["e", "▁"]]}
    by_name = {**model, "ignore_merges": True}
    for changed, expected in ((model, True), (by_name, False), (crossing, False)):
        tokenizer: Any = read_hugging_face({**content, "model": changed}, "tokenizer.json")
        assert (tokenizer.engine.segments is not None) == expected
    assert tokenizer.tokens("the e a") == ["▁", "t", "h", "e▁", "e▁", "a"]
