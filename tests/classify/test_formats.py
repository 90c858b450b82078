"""fastText's lines, there and back."""

import io
from pathlib import Path
from typing import Any

import pytest

from dlkit.classify.formats import fasttext_lines, read_fasttext, write_fasttext
from dlkit.classify.infer import Prediction, TextClassification
from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from tests.conftest import run

TEXTS = [
    "a fine film",
    "two  spaces, and\ta tab",
    "x__label__y is one word",
    "no\u00a0break, line\u2028separator, \x85, \x1c!",
    "日本 café",
    '"quoted", or not"',
]
LABELS = ["pos", "très\u00a0bon", "a,b", "日本", "1", "__label__"]


def written(results: list[Any]) -> str:
    file = io.StringIO(newline="")
    write_fasttext(fasttext_lines(results), file)
    return file.getvalue()


def classified(text: str, *labels: str) -> TextClassification:
    return TextClassification(text, [Prediction(label, 1.0) for label in labels])


def test_what_is_written_is_read(tmp_path: Path) -> None:
    pairs = [(text, label) for text in TEXTS for label in LABELS]
    content = written([classified(*pair) for pair in pairs])
    skipped: list[str] = []
    rows = read_fasttext(io.StringIO(content), tmp_path, lambda *row: skipped.append(row[0]))
    assert [(row["text"], row["label"]) for _, row in rows] == pairs
    assert not skipped


def test_lines_are_those_that_fasttext_reads(tmp_path: Path) -> None:
    fasttext = pytest.importorskip("fasttext")
    texts = [f"{word} film number {n}" for n in range(20) for word in ("good", "bad")]
    lines = written([classified(text, f"très\u00a0{text[:3]}") for text in texts])
    (tmp_path / "train.txt").write_text(lines, encoding="utf-8")
    model = fasttext.train_supervised(str(tmp_path / "train.txt"), verbose=0, minCount=1)
    assert sorted(model.labels) == ["__label__très\u00a0bad", "__label__très\u00a0goo"]
    assert len(model.words) == 4 + 20 + 1  # and </s>


@pytest.mark.parametrize("text", ["two\nlines", "__label__x", "a __label__b c"])
def test_a_text_that_would_be_read_as_another_is_a_failure(text: str) -> None:
    (found,) = fasttext_lines([classified(text, "a")])
    assert isinstance(found, Failure)


def test_a_label_with_white_space_is_refused() -> None:
    with pytest.raises(DlkitError, match="the label 'very good' has white space"):
        written([classified("text", "very good")])


def test_several_labels_and_none() -> None:
    assert written([classified("text", "a", "b"), classified("text")]) == (
        "__label__a __label__b text\ntext\n"
    )


def test_the_command_writes_lines_that_it_trains_on(tmp_path: Path) -> None:
    texts = [f"{of} film {n}" for n in range(20) for of in ("a fine", "an awful")]
    (tmp_path / "in.txt").write_text("\n".join(texts))
    out = tmp_path / "train.txt"
    done = run("classify", tmp_path / "in.txt", "-m", "reviews", "-f", "fasttext", "-o", out)
    assert done.code == 0
    labels = ["__label__pos", "__label__neg"] * 20
    assert out.read_text().splitlines() == list(map(" ".join, zip(labels, texts, strict=True)))
    options = ["--arch", "fasttext", "--epochs", 1, "--out", tmp_path / "run", "--device", "cpu"]
    trained = run("classify", "train", out, *options)
    assert trained.code == 0
    assert "train.txt: 40 rows" in trained.err.splitlines()
    refused = run("classify", tmp_path / "in.txt", "-f", "fasttext")
    assert refused.code == 2
    assert "the lines hold texts" in refused.err
