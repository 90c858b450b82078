"""ARPA files."""

import bz2
import gzip
import lzma
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dlkit.core.errors import DlkitError
from dlkit.lm_generate import infer
from dlkit.lm_generate.arpa import write_arpa
from dlkit.lm_generate.infer import load
from dlkit.lm_generate.ngram import NGram
from dlkit.lm_generate.ngram_files import load as load_ngrams
from tests.lm_generate.helpers import kneser_ney_model, license_lines, train_ngrams


@pytest.mark.parametrize("name", ["kneser-ney", "katz", "jelinek-mercer"])
def test_a_model_is_the_same_from_an_arpa_file(tmp_path: Path, name: str) -> None:
    model = load_ngrams(train_ngrams(tmp_path, smoothing=name, tokenizer="whitespace", arpa=True))
    read = load_ngrams(tmp_path / "run" / "best.arpa")
    unigrams, *others = [len(words) for words in model.trie.words]
    assert [len(words) for words in read.trie.words] == [unigrams + 1, *others]  # and <s>
    for line in ["to be or not to sleep", "no question", "to whom it may concern"]:
        ours = model.score(model.codec.encode(f"\n{line}\n"))
        theirs = read.score(read.codec.encode(f"\n{line}\n"))
        assert ours[1:] == pytest.approx(theirs[1:], abs=2e-6)


def test_kenlm_reads_our_arpa_files(tmp_path: Path) -> None:
    kenlm = pytest.importorskip("kenlm")
    lines = license_lines()
    model, numbers = kneser_ney_model(lines, 4, tmp_path)
    settings = {**model.header.settings, "tokenizer": word_tokenizer(numbers)}
    model = replace(model, header=replace(model.header, settings=settings))
    write_arpa(tmp_path / "license.arpa", model)
    peer = kenlm.LanguageModel(str(tmp_path / "license.arpa"))
    assert peer.order == 4
    for line in [*lines[:40], ["no", "such", "thing", "License"]]:
        ids = [0, *(numbers.get(word, 1) for word in line), 0]
        expected = [logprob for logprob, *_ in peer.full_scores(" ".join(line))]
        assert model.score(ids)[1:] / math.log(10) == pytest.approx(expected, abs=2e-6)


def word_tokenizer(numbers: dict[str, int]) -> dict[str, Any]:
    """The settings of a tokenizer with these words."""
    header = {"task": "tokenize", "arch": "whitespace", "labels": []}
    settings = {"normalize": [], "split": "whitespace", "unk": "<unk>"}
    special = {"</s>": 0, "<unk>": 1}
    vocab = {word: number for word, number in numbers.items() if word not in special}
    return {"header": {**header, "settings": settings}, "special": special, "vocab": vocab}


def test_white_space_in_tokens_is_escaped(tmp_path: Path) -> None:
    train_ngrams(tmp_path, "a b\nb a\n" * 30, tokenizer="char", order=2, arpa=True)
    content = (tmp_path / "run" / "best.arpa").read_text()
    lines = [line.split("\t")[1] for line in content.splitlines() if "\t" in line]
    assert {"a", "b", "\\u0020", "\\u000a", "a \\u0020"} <= set(lines)
    assert not {"<s>", "</s>"} & set(lines)  # n-grams span the ends of lines


ARPA = """
\\data\\
ngram 1=4
ngram 2=2

\\1-grams:
-1.0\t<unk>
-99\t<s>\t-0.5
-0.5\t</s>
-0.3\tthe\t-0.2

\\2-grams:
-0.1\t<s> the
-0.4 the </s>

\\end\\
"""


def test_an_arpa_file_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "small.arpa"
    path.write_text(ARPA)
    model = load_ngrams(path)
    codec = model.codec
    assert codec.line_end == codec.tokenizer.special["</s>"]
    ids = [codec.line_end, *codec.encode("the the unseen\n")]
    expected = [-0.1, -0.2 - 0.3, -0.2 - 1.0, -0.5]  # the last one after <unk>
    assert model.score(ids)[1:] / math.log(10) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("\\data\\", "data\n" * 1000, "no ARPA file"),
        ("\\data\\", "data", "no line .data.: this is no ARPA file"),
        ("ngram 2=2", "ngram 3=2", "line 4: 'ngram 3=2'"),
        ("ngram 2=2", "ngram 2=3", r"line 16: '\\\\end\\\\' after 2 of 3 2-grams"),
        (
            "ngram 2=2",
            "ngram 2=1",
            "line 14: '-0.4 the </s>' is one more 2-gram than ngram 2=1",
        ),
        (
            "ngram 1=4",
            "ngram 1=3",
            "line 10: .* is one more 1-gram than ngram 1=3",
        ),
        ("-0.1\t<s> the", "-0.1\t<s>", "line 13: '-0.1\\\\t<s>' is no 2-gram"),
        ("-0.3\tthe", "x\tthe", "line 10: .* is no 1-gram"),
        ("<s> the", "<s> other", "line 13: 'other' is none of the 1-grams"),
        ("-0.1\t<s>", "0.1\t<s>", r"line 13: '0.1\\t<s> the': a logarithm above 0"),
        ("-0.1\t<s>", "nan\t<s>", r"line 13: 'nan\\t<s> the': not a number"),
        ("-0.1\t<s>", "-0,1\t<s>", "line 13: .* is no 2-gram"),
        ("-0.1\t<s>", "-1_0\t<s>", "line 13: .* is no 2-gram"),
        ("the\t-0.2", "the\t-inf", "line 10: .*: no finite back-off weight"),
        ("the\t-0.2", "the -0.2", "line 10: .*: no tab before the back-off weight"),
        ("<s> the", "<s> the\t-0.5", "line 13: .*: a back-off weight in the highest order"),
        ("-0.4 the", "\n-0.4 other", "line 15: 'other' is none of the 1-grams"),
        ("\\end\\\n", "\\end\\\n\nmore\n", "line 18: 'more' after .end.; remove"),
        ("\\2-grams:", "\\3-grams:", "not ..-grams:"),
        ("\\end\\", "", "ends too early"),
    ],
)
def test_a_damaged_arpa_file_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "damaged.arpa"
    assert old in ARPA
    path.write_text(ARPA.replace(old, new, 1))
    with pytest.raises(DlkitError, match=message):
        load_ngrams(path)


HEAD = """\\data\\
ngram 1=7
ngram 2=5

\\1-grams:
-2.5\t<unk>
-1.9\tnew\u00a0york\t-0.2
-99\t<s>\t-0.3
-1.0\t</s>
-0.7\tthe\t-0.2
-0.9\tcat\t-0.1
-1.1\tsat\t-0.15

\\2-grams:
-2.0\t<s> </s>
-0.2\t<s> the
-0.3\tthe cat
-0.4\tcat sat
-0.1\tsat </s>

\\end\\
"""
TEXTS = ["", "the cat sat", "the dog", "new\u00a0york cat", "cat", "the\x0bcat \x0c sat", "sat the"]
# How people's files differ, and what each of TEXTS then has as its logarithm to base 10.
VARIANTS: dict[str, tuple[str, str]] = {
    "plain": ("", ""),
    "<UNK>": ("-2.5\t<unk>", "-2.5\t<UNK>\t-0.4"),
    "both <unk>, the last counts": ("=7\n", "=8\n"),
    "<s> twice": ("-2.0\t<s> </s>", "-0.001\t<s> <s>\n-2.0\t<s> </s>"),
    "an n-gram twice": ("-0.3\tthe cat", "-0.3\tthe cat\n-3.2\tthe cat"),
    "a word twice": ("-0.9\tcat\t-0.1", "-0.9\tcat\t-0.1\n-0.5\tcat\t-0.2"),
    "blank lines": ("-0.3\tthe cat", "\n \t\n-0.3\tthe cat\n\n"),
    "vertical tabs and form feeds in words": ("new\u00a0york", "v\x0bw\x0c"),
    "ends of lines of Windows": ("\n", "\r\n"),
    "no end of the last line": ("\\end\\\n", "\\end\\"),
    "an infinite logarithm": ("-2.5\t<unk>", "-inf\t<unk>"),
    "positive back-off weights": ("-0.9\tcat\t-0.1", "-0.9\tcat\t0.1"),
    "no <unk>": ("-2.5\t<unk>\n", ""),
    "-99": ("-0.9\tcat", "-99\tcat"),
    "comments": ("\\data\\", "# made by hand\n\n\\data\\"),
}


def variant(name: str) -> str:
    """The text of a file, with the numbers of n-grams that it has."""
    old, new = VARIANTS[name]
    text = HEAD.replace(old, new) if old else HEAD
    if name.startswith("both"):
        text = text.replace("-2.5\t<unk>", "-2.5\t<unk>\n-2.1\t<UNK>")
    added = new.count("-") - old.count("-") if name in {"<s> twice", "an n-gram twice"} else 0
    text = text.replace("ngram 2=5", f"ngram 2={5 + bool(added)}")
    if name == "a word twice":
        text = text.replace("ngram 1=7", "ngram 1=8")
    return text.replace("ngram 1=7", "ngram 1=6") if name == "no <unk>" else text


def scores(path: Path) -> list[float | None]:
    """Logarithms to base 10 of TEXTS."""
    model = load(str(path))
    found = [score.logprob for score in infer.score(TEXTS, model)]
    return [None if logprob is None else logprob / math.log(10) for logprob in found]


@pytest.mark.parametrize("name", VARIANTS)
def test_texts_have_the_scores_of_kenlm(tmp_path: Path, name: str) -> None:
    kenlm = pytest.importorskip("kenlm")
    path = tmp_path / "variant.arpa"
    path.write_bytes(variant(name).encode())
    peer = kenlm.LanguageModel(str(path))
    expected = [peer.score(text) for text in TEXTS]
    for ours, theirs in zip(scores(path), expected, strict=True):
        assert ours is None if math.isinf(theirs) else ours == pytest.approx(theirs, abs=1e-4)


def test_texts_have_scores_computed_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "m.arpa"
    path.write_bytes(variant("<UNK>").encode())
    after_unknown = -0.4 - 0.9 - 0.1 - 1.0
    expected = [
        -2.0,
        -0.2 - 0.3 - 0.4 - 0.1,
        -0.2 + (-0.2 - 2.5) + (-0.4 - 1.0),
        (-0.3 - 1.9) + (-0.2 - 0.9) + (-0.1 - 1.0),
        (-0.3 - 0.9) + (-0.1 - 1.0),
        -0.2 - 0.3 - 0.4 - 0.1,
        (-0.3 - 1.1) + (-0.15 - 0.7) + (-0.2 - 1.0),
    ]
    assert scores(path) == pytest.approx(expected, abs=1e-4)
    model = load(str(path))
    [unknown] = infer.score(["dog cat"], model)
    assert unknown.logprob == pytest.approx((-0.3 - 2.5 + after_unknown) * math.log(10), abs=1e-4)


@pytest.mark.parametrize("lines", ["the cat\nsat the\n\ncat", "\n\n"])
def test_each_line_of_a_text_begins_anew(tmp_path: Path, lines: str) -> None:
    path = tmp_path / "m.arpa"
    path.write_bytes(HEAD.encode())
    model = load(str(path))
    assert isinstance(model, NGram)
    [whole, *parts] = [score.logprob for score in infer.score([lines, *lines.split("\n")], model)]
    assert whole == pytest.approx(sum(part for part in parts if part is not None), abs=1e-4)
    ids = [*model.start_ids, *model.codec.encode(lines)]
    following = [model.next_logprobs(ids[:end])[ids[end]] for end in range(1, len(ids))]
    assert following == pytest.approx(model.score(ids)[1:].tolist(), abs=1e-5)


@pytest.mark.parametrize("mark", [b"\xef\xbb\xbf", b"made by hand\n\n"])
def test_what_stands_before_the_model_is_no_part_of_it(tmp_path: Path, mark: bytes) -> None:
    plain, marked = tmp_path / "plain.arpa", tmp_path / "marked.arpa"
    plain.write_bytes(HEAD.encode())
    marked.write_bytes(mark + HEAD.encode())
    assert scores(plain) == scores(marked)


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "m.lm": bytes,
    "m": bytes,
    "m.ARPA": bytes,
    "m.lm.gz": gzip.compress,
    "m.arpa.bz2": bz2.compress,
    "m.arpa.xz": lzma.compress,
}


@pytest.mark.parametrize("name", PACKERS)
def test_a_file_of_any_name_is_looked_into(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(PACKERS[name](HEAD.encode()))
    assert scores(path)[1] == pytest.approx(-1.0, abs=1e-4)


def test_a_file_that_is_no_model_is_named(tmp_path: Path) -> None:
    notes, binary = tmp_path / "notes", tmp_path / "m.binary"
    notes.write_text("some notes\n")
    binary.write_bytes(b"mmap lm http://kheafield.com/code format version 5\n\0" + bytes(100))
    with pytest.raises(DlkitError, match=r"notes: a text file, not a model"):
        load(str(notes))
    with pytest.raises(DlkitError, match=r"m.binary: a binary model of KenLM; give the ARPA file"):
        load(str(binary))


@pytest.mark.parametrize("missing", ["<s>", "</s>", "both"])
def test_a_model_without_marks_of_lines_is_said(
    tmp_path: Path, missing: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "m.arpa"
    marks = ["<s>", "</s>"] if missing == "both" else [missing]
    rows = HEAD.splitlines()
    rows = [row for row in rows if not any(mark in re.split("[\t ]", row) for mark in marks)]
    words = 7 - len(marks)
    pairs = {"<s>": 3, "</s>": 3, "both": 2}[missing]
    text = "\n".join(rows).replace("1=7", f"1={words}").replace("2=5", f"2={pairs}")
    path.write_text(text + "\n")
    found = scores(path)[1]
    expected = {
        "<s>": -0.7 - 0.3 - 0.4 - 0.1,
        "</s>": -0.2 - 0.3 - 0.4,
        "both": -0.7 - 0.3 - 0.4,
    }
    assert found == pytest.approx(expected[missing], abs=1e-4)
    assert all(f"no {mark}: " in capfd.readouterr().err for mark in marks[:1])


def test_the_number_that_the_header_promises_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "m.arpa"
    path.write_text(HEAD.replace("ngram 2=5", "ngram 2=900000000000"))
    with pytest.raises(DlkitError, match="announces 900000000007 n-grams, but has"):
        load(str(path))
