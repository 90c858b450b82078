"""tokenizer.json files encoded by compiled code, against Hugging Face's library."""

import json
from pathlib import Path
from typing import Any

import pytest

from dlkit.tokenize.pretokenize import ONIGURUMA
from dlkit.tokenize.readers.hugging_face import read_hugging_face
from tests.conftest import run
from tests.tokenize.families import FAMILIES, Json, bert, strings

library: Any = pytest.importorskip("tokenizers")


def gpt4_nfkc() -> Json:
    content = FAMILIES["roberta"]()
    pattern = {"Regex": ONIGURUMA["gpt4"]}
    split = {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}
    level = {**content["pre_tokenizer"], "use_regex": False}
    before = {"type": "Sequence", "pretokenizers": [split, level]}
    return {**content, "normalizer": {"type": "NFKC"}, "pre_tokenizer": before}


FILES = {
    "bert": bert,
    "cased": lambda: bert(lowercase=False),
    "accents": lambda: bert(strip_accents=False, clean_text=False),
    "words": lambda: {**bert(), "pre_tokenizer": {"type": "WhitespaceSplit"}},
    "roberta": FAMILIES["roberta"],
    "nfc": lambda: {**FAMILIES["roberta"](), "normalizer": {"type": "NFC"}},
    "gpt4": gpt4_nfkc,
}


@pytest.mark.parametrize("name", FILES)
def test_compiled_ids_are_those_of_the_library(name: str) -> None:
    content = FILES[name]()
    encoder = read_hugging_face(content, "tokenizer.json").compiled_encoder()
    assert encoder is not None
    theirs = library.Tokenizer.from_str(json.dumps(content))
    theirs.encode_special_tokens = True
    texts = strings(1500, 7)
    expected = [found.ids for found in theirs.encode_batch(texts, add_special_tokens=False)]
    for text, ours, ids in zip(texts, encoder.encode_texts(texts, 1), expected, strict=True):
        assert ours == ids, text


@pytest.mark.parametrize("name", ["llama3", "gpt_neox", "digits", "t5", "llama2"])
def test_other_files_are_not_compiled(name: str) -> None:
    assert read_hugging_face(FAMILIES[name](), "tokenizer.json").compiled_encoder() is None


@pytest.mark.parametrize("options", [(), ("--no-special",), ("--whole",)])
def test_commands_print_the_same_by_compiled_code(
    options: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, text = tmp_path / "tokenizer.json", tmp_path / "text.txt"
    model.write_text(json.dumps(bert()))
    text.write_text("\n".join(["", "Hello [MASK] world", *strings(200, 3)]), "utf-8", newline="")
    out = {}
    for size in (1 << 30, 0):
        monkeypatch.setattr("dlkit.tokenize.infer.COMPILED_SIZE", size)
        monkeypatch.setattr("dlkit.tokenize.token_counts.COMPILED_SIZE", size)
        ids = tmp_path / "ids.npy"
        command = ("tokenize", text, "-m", model, *options)
        written = run(*command, "-o", ids, "--force", "--end-token", "[PAD]")
        assert written.code == 0
        whole = [option for option in options if option == "--whole"]
        out[size] = (
            run(*command).out,
            run(*command, "--ids").out,
            ids.read_bytes(),
            run("tokenize", "count", text, "-m", model, *whole).out,
        )
    assert out[0] == out[1 << 30]
    lines = out[0][0].split("\n")
    if "--whole" in options:
        assert len(lines) == 2
    else:
        assert lines[0] == ("" if options else "[CLS] [SEP]")
