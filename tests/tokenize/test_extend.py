"""Added tokens: found as Hugging Face's library finds them, and everything else as before."""

import json
from pathlib import Path
from typing import Any

import pytest

from dlkit.core.errors import DlkitError
from dlkit.tokenize import Tokenizer, load, train
from dlkit.tokenize.convert import write_hugging_face
from dlkit.tokenize.extend import extend
from dlkit.tokenize.readers.hugging_face import read_hugging_face
from tests.conftest import run
from tests.tokenize.families import FAMILIES, strings
from tests.tokenize.helpers import LINES, error_line

NEW = ["electro", "New York", "日本", "zyx"]
TEXT = "The electro quick New York fox 日本語 <tool> zyx electroNew York"
ALGORITHMS = [
    "byte-bpe", "bpe", "wordpiece", "char", "byte", "whitespace", "words", "unigram",
    "sentencepiece-bpe",
]  # fmt: skip


def trained(algorithm: str) -> Tokenizer:
    size = 300 if algorithm == "byte-bpe" else 90
    return train(
        "\n".join(LINES), algorithm=algorithm, vocab_size=size, special=["<unk>", "[UNK]", "<s>"]
    )


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_kind_of_tokenizer_finds_its_new_tokens(algorithm: str) -> None:
    before = trained(algorithm)
    change = extend(before, NEW, ["<tool>"])
    after = Tokenizer.from_json(change.tokenizer.to_json())
    first = max(before.names) + 1
    ids = {name: after.names[first + n] for n, name in enumerate([*NEW, "<tool>"])}
    assert [name.replace("▁", " ") for name in ids.values()] == [*NEW, "<tool>"]
    found = after.encode(TEXT)
    whole = algorithm in {"whitespace", "words"}  # whose words are found as words
    assert [i - first for i in found if i >= first] == (
        [0, 1, 3, 0, 1] if whole else [0, 1, 2, 3, 0, 1]
    )
    assert [i for i in after.encode(TEXT, parse_special=True) if i == first + 4]
    assert [i for i, _ in after.encode_spans(TEXT)] == found
    assert after.encode_batch([TEXT] * 4000)[-1] == found  # by compiled code
    for line in LINES:
        if "日本" not in line:
            assert after.encode(line) == before.encode(line)
    assert change.origins[:first] == [[i] for i in range(first)]
    assert change.origins[first] == before.encode("electro")
    if algorithm in {"byte-bpe", "byte"}:
        assert after.decode(found) == TEXT


@pytest.mark.parametrize("family", ["gpt2", "roberta", "bert", "llama2", "t5", "clip"])
def test_a_tokenizer_of_hugging_face_equals_the_library(family: str) -> None:
    library: Any = pytest.importorskip("tokenizers")
    after = extend(read_hugging_face(FAMILIES[family](), "t.json"), NEW, ["<tool>"]).tokenizer
    theirs = library.Tokenizer.from_str(write_hugging_face(after)[0].decode())
    own = library.Tokenizer.from_str(json.dumps(FAMILIES[family]()))
    assert theirs.get_vocab_size() == own.get_vocab_size() + 5
    for text in [*strings(60), TEXT]:
        for parse_special in (False, True):
            theirs.encode_special_tokens = not parse_special
            expected = theirs.encode(text)
            ids = after.add_special(after.encode(text, parse_special))
            assert ids == expected.ids, text
            assert after.decode(ids) == theirs.decode(ids, skip_special_tokens=False)


def test_decoding_keeps_the_spaces_beside_an_added_token() -> None:
    text = "low New York low"
    for mark in ("end-of-word", "word-start"):
        plain = train("low lower York New", algorithm="bpe", vocab_size=40, mark=mark)
        after = extend(plain, ["New York"]).tokenizer
        assert after.decode(after.encode(text)) == text
        with pytest.raises(DlkitError, match="prints no space"):
            write_hugging_face(after)


def test_what_cannot_be_added_is_refused() -> None:
    tokenizer = load("english-8k")
    assert extend(tokenizer, ["the", "qzqz", "qzqz"], ["<eos>"]).known == ["the", "<eos>"]
    with pytest.raises(DlkitError, match="nothing to add"):
        extend(tokenizer, ["the"])
    with pytest.raises(DlkitError, match="'Ġthe' is the name of another token"):
        extend(tokenizer, ["Ġthe"])
    with pytest.raises(DlkitError, match="name of another token"):
        extend(tokenizer, ["<eos>"])
    with pytest.raises(DlkitError, match="an empty token"):
        extend(tokenizer, [""])
    with pytest.raises(DlkitError, match="choose one"):
        extend(tokenizer, ["qzqz"], ["qzqz"])


def test_the_command(tmp_path: Path) -> None:
    tokens, out, theirs = tmp_path / "words.txt", tmp_path / "own.json", tmp_path / "hf.json"
    tokens.write_text("zyx wvu\n\nthe\nqzqz\n", encoding="utf-8")
    command = ["tokenize", "extend", "english-8k", "--file", tokens, "--special", "<|tool|>"]
    done = run(*command, "-o", out)
    assert (done.code, done.out) == (0, f"{out}\n")
    assert done.err == ("3 tokens added, 8195 in all\n1 token not added, one token already: the\n")
    shown = run("tokenize", "--text", "a zyx wvu <|tool|>", "-m", out, "--parse-special", "--ids")
    assert shown.out.split()[-3:] == ["8192", "223", "8194"]
    assert run(*command, "-o", theirs, "--to", "huggingface").code == 0
    again = run(
        "tokenize", "--text", "a zyx wvu <|tool|>", "-m", theirs, "--parse-special", "--ids"
    )
    assert again.out == shown.out
    assert "exists already" in error_line("extend", "english-8k", "--add", "x1", "-o", out)
    assert "no tokens" in error_line("extend", "english-8k", "-o", tmp_path / "x.json")
    bert = ["english-wordpiece-8k", "--add", "Zq", "-o", tmp_path / "x.txt", "--to", "bert"]
    refused = run("tokenize", "extend", *bert)
    assert (refused.code, refused.out) == (2, "")
    assert "vocab.txt cannot hold added tokens, as 'Zq'" in refused.err
    assert not (tmp_path / "x.txt").exists()
