"""Pruned vocabularies: lines of kept tokens are encoded as before, and nothing becomes unknown."""

import base64
from pathlib import Path
from typing import Any

import pytest

from dlkit.core.errors import DlkitError
from dlkit.tokenize import Tokenizer, train
from dlkit.tokenize.convert import read, write_hugging_face
from dlkit.tokenize.extend import Change, extend
from dlkit.tokenize.prune import Usage, prune
from dlkit.tokenize.readers.hugging_face import read_hugging_face
from tests.conftest import run
from tests.tokenize.families import FAMILIES, Json, strings
from tests.tokenize.families import corpus as family_corpus
from tests.tokenize.helpers import error_line, generate_lines
from tests.tokenize.test_extend import ALGORITHMS

CORPUS = generate_lines(3, 100)


def usage_of(tokenizer: Tokenizer, lines: list[str]) -> Usage:
    usage = Usage(lines=len(lines))
    for line in lines:
        usage.counts.update(tokenizer.encode(line))
    return usage


def check(before: Tokenizer, change: Change, lines: list[str]) -> int:
    """Compare the tokens of lines; returns the number of lines whose tokens are all kept."""
    after = Tokenizer.from_json(change.tokenizer.to_json())
    assert sorted(after.names) == list(range(len(change.origins)))
    ids = {old[0]: new for new, old in enumerate(change.origins)}
    assert all(after.names[new] == before.names[old] for old, new in ids.items())
    assert set(after.special) == set(before.special)
    same = 0
    for line in lines:
        old, new = before.encode(line), after.encode(line)
        if all(i in ids for i in old):
            assert new == [ids[i] for i in old], line
            same += 1
        elif before.algorithm not in {"words", "whitespace", "char"}:
            assert new.count(after.unknown_id or -1) <= old.count(before.unknown_id or -1), line
            if before.algorithm in {"byte-bpe", "bpe", "unigram", "sentencepiece-bpe"}:
                assert after.decode(new) == before.decode(old), line
    return same


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_kind_of_tokenizer(algorithm: str) -> None:
    size = 600 if algorithm == "byte-bpe" else 400
    lines = [line for line in generate_lines(3, 300) if len(line) < 200]
    special = ["<unk>", "[UNK]", "<s>"]
    before = train("\n".join(lines), algorithm=algorithm, vocab_size=size, special=special)
    before = extend(before, ["New York"]).tokenizer
    usage = usage_of(before, CORPUS)
    everything = prune(before, usage)
    assert check(before, everything, CORPUS) == len(CORPUS)
    if algorithm == "byte":
        assert len(everything.origins) == len(before.names)
        with pytest.raises(DlkitError, match="--size 100 is too small: at least 260 tokens"):
            prune(before, usage, 100)
        return
    smaller = prune(before, usage, len(everything.origins) * 3 // 4)
    assert len(smaller.origins) == len(everything.origins) * 3 // 4
    assert 0 < check(before, smaller, CORPUS) < len(CORPUS)
    larger = prune(before, usage, len(before.names) - 5)
    assert len(larger.origins) == len(before.names) - 5
    if len(everything.origins) <= len(larger.origins):
        assert {*map(tuple, everything.origins)} <= {*map(tuple, larger.origins)}
    with pytest.raises(DlkitError, match="has .* tokens already"):
        prune(before, usage, 1000)


@pytest.mark.parametrize(
    "family", ["gpt2", "llama3", "llama2", "bert", "t5", "nllb", "clip", "roberta"]
)
def test_a_tokenizer_of_hugging_face(family: str) -> None:
    library: Any = pytest.importorskip("tokenizers")
    content: Json = FAMILIES[family]()
    content["padding"] = {
        "strategy": "BatchLongest", "direction": "Right", "pad_to_multiple_of": None, "pad_id": 1,
        "pad_type_id": 0, "pad_token": "p",
    }  # fmt: skip
    before = read_hugging_face(content, "t.json")
    lines = strings(40, 3) + family_corpus()[:60]
    usage = usage_of(before, lines)
    for size in (None, len(before.names) * 3 // 5):
        change = prune(before, usage, size)
        same = check(before, change, lines)
        assert same == len(lines) if size is None else family == "bert" or same < len(lines)
        theirs = library.Tokenizer.from_str(write_hugging_face(change.tokenizer)[0].decode())
        theirs.no_padding()
        theirs.encode_special_tokens = True
        for line in lines:
            ids = change.tokenizer.encode(line)
            assert change.tokenizer.add_special(ids) == theirs.encode(line).ids, line


def test_ranks_of_tiktoken(tmp_path: Path) -> None:
    tokens = [bytes([b]) for b in range(256)]
    tokens += [b"lo", b"low", b" n", b"ew", b"er", b" new", b"ow", b"west", b" lower"]
    path = tmp_path / "r.tiktoken"
    path.write_bytes(b"".join(base64.b64encode(t) + b" %d\n" % i for i, t in enumerate(tokens)))
    before = read([str(path)], split="gpt2")
    lines = ["low lower new newer", " lower"]
    change = prune(before, usage_of(before, lines))
    assert check(before, change, [*lines, "lowest"]) >= 2
    kept = {before.names[old[0]] for old in change.origins}
    assert {"Ġlower", "Ġnew", "ew", "lo", "low"} <= kept
    assert "west" not in kept


def test_the_command(tmp_path: Path) -> None:
    corpus, out = tmp_path / "c.txt", tmp_path / "small.json"
    corpus.write_text("A dog runs on the beach.\nTwo dogs run.\n", encoding="utf-8")
    done = run("tokenize", "prune", "english-8k", corpus, "-o", out)
    assert (done.code, done.out) == (0, f"{out}\n")
    assert done.err.endswith("2 lines with 14 tokens, of which 0 are now encoded otherwise\n")
    text = ["--text", "A dog runs."]
    assert run("tokenize", *text, "-m", out).out == run("tokenize", *text).out
    assert "--size 5 is too small: at least 259" in error_line(
        "prune", "english-8k", corpus, "--size", 5, "-o", tmp_path / "x.json"
    )
    assert "no such file" in error_line(
        "prune", "english-8k", tmp_path / "no.txt", "-o", tmp_path / "x.json"
    )
    (tmp_path / "empty.txt").write_text("")
    error_line("prune", "english-8k", tmp_path / "empty.txt", "-o", tmp_path / "x.json")
    assert not (tmp_path / "x.json").exists()
