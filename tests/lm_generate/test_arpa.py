"""ARPA files."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dlkit.core.errors import DlkitError
from dlkit.lm_generate.arpa import write_arpa
from dlkit.lm_generate.ngram_files import load as load_ngrams
from tests.lm_generate.helpers import kneser_ney_model, license_lines, train_ngrams


@pytest.mark.parametrize("name", ["kneser-ney", "katz", "jelinek-mercer"])
def test_a_model_is_the_same_from_an_arpa_file(tmp_path: Path, name: str) -> None:
    model = load_ngrams(train_ngrams(tmp_path, smoothing=name, tokenizer="whitespace", arpa=True))
    read = load_ngrams(tmp_path / "run" / "best.arpa")
    assert [len(words) for words in read.trie.words] == [len(words) for words in model.trie.words]
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
        ("ngram 2=2", "ngram 3=2", "line 4: 'ngram 3=2'"),
        ("ngram 2=2", "ngram 2=3", "line 15: '' is no 2-gram"),
        ("-0.1\t<s> the", "-0.1\t<s>", "line 13: '-0.1\\\\t<s>' is no 2-gram"),
        ("-0.3\tthe", "x\tthe", "line 10: .* is no 1-gram"),
        ("<s> the", "<s> other", "'other', up to this line, is none"),
        ("\\2-grams:", "\\3-grams:", "not ..-grams:"),
        ("\\end\\", "", "ends too early"),
    ],
)
def test_a_damaged_arpa_file_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "damaged.arpa"
    path.write_text(ARPA.replace(old, new, 1))
    with pytest.raises(DlkitError, match=message):
        load_ngrams(path)
