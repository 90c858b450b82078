"""Tokenizers of other tools, by family, against Hugging Face's library."""

import json
import os
from typing import Any

import pytest

from dlkit.tokenize.model import HuggingFace, Tokenizer
from dlkit.tokenize.readers.hugging_face import read_hugging_face
from tests.tokenize.families import FAMILIES, Json, strings

library: Any = pytest.importorskip("tokenizers")


SEED = int(os.environ.get("DLKIT_TEST_SEED", "0"))  # other strings than those of the repository


def theirs_of(content: Json) -> Any:
    theirs = library.Tokenizer.from_str(json.dumps(content))
    theirs.no_truncation()
    theirs.no_padding()
    return theirs


def check_equal(ours: Tokenizer, content: Json, texts: list[str], offsets: bool = True) -> None:
    """Compare ids, offsets and decoded texts, with special tokens as text and as such."""
    theirs = theirs_of(content)
    for parse_special in (False, True):
        theirs.encode_special_tokens = not parse_special
        for text in texts:
            expected = theirs.encode(text)
            ids = ours.add_special(ours.encode(text, parse_special))
            assert ids == expected.ids, text
            assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=False), text
            if offsets:
                spans = ours.add_special_spans(ours.encode_spans(text, parse_special))
                assert spans == list(zip(expected.ids, expected.offsets, strict=True)), text


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family(family: str, capsys: pytest.CaptureFixture[str]) -> None:
    content = FAMILIES[family]()
    ours = read_hugging_face(content, "tokenizer.json")
    if isinstance(ours, HuggingFace):
        assert ours.uses_library is None
        ours = Tokenizer.from_json(ours.to_json())
    check_equal(ours, content, strings(120, SEED))
    assert capsys.readouterr().err == ""


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_on_many_texts(family: str) -> None:
    content = FAMILIES[family]()
    check_equal(read_hugging_face(content, "tokenizer.json"), content, strings(2000, seed=SEED + 2))
