"""Explanations of texts."""

from pathlib import Path

from tests.conftest import run


def test_word_weights_are_printed_and_saved(words: Path, tmp_path: Path) -> None:
    result = run(
        "classify", "explain", "-m", words, "--text", "snow on the beach", "--save", tmp_path
    )
    weights = {row.split("\t")[1]: float(row.split("\t")[2]) for row in result.out.splitlines()}
    assert list(weights) == ["snow", "on", "the", "beach"]
    label = result.out.split("\t")[0]
    strong, weak = ("snow", "beach") if label == "cold" else ("beach", "snow")
    assert weights[strong] > 0 > weights[weak]
    assert "<span" in (tmp_path / "words.html").read_text()


def test_a_page_of_texts_holds_those_that_were_done_before(tmp_path: Path) -> None:
    command = ["classify", "explain", "-m", "reviews", "--device", "cpu", "--save", tmp_path]
    command += ["-o", tmp_path / "out.jsonl"]
    texts = "never boring\na dull film\nit was fun\n"
    assert run(*command, stdin=texts).code == 0
    page, out = tmp_path / "words.html", tmp_path / "out.jsonl"
    whole, lines = page.read_text(), out.read_text().splitlines(keepends=True)
    page.unlink()
    out.write_text("".join(lines[:2]))
    assert run(*command, "--resume", stdin=texts).code == 0
    assert page.read_text() == whole
