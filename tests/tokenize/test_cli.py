"""The commands of `dlkit tokenize`: the course's example, options, files that exist."""

import json
from pathlib import Path

import pytest

from dlkit.tokenize import Tokenizer, load
from tests.conftest import Hub, run
from tests.tokenize.helpers import WORDS, error_line


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("course")
    (folder / "words.txt").write_text("".join(f"{w}\n" * n for w, n in WORDS.items()))
    out = folder / "hug.json"
    result = run(
        "tokenize", "train", folder / "words.txt", "-a", "bpe", "--mark", "none",
        "--vocab-size", 11, "-o", out,
    )  # fmt: skip
    assert result.code == 0, result.err
    assert result.out.strip() == str(out)
    return out


def test_the_worked_example_of_the_course(course: Path) -> None:
    assert run("tokenize", "show", "--merges", "-m", course).out == (
        "0\tu\tg\tug\n1\tu\tn\tun\n2\th\tug\thug\n"
    )
    assert run("tokenize", "--text", "bug", "-m", course).out == "b ug\n"
    steps = run("tokenize", "show", "hugs", "-m", course, "-f", "json")
    assert [step["word"] for step in json.loads(steps.out)] == ["h u g s", "h ug s", "hug s"]


def test_files_are_not_overwritten(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "kept"
    out.write_text("mine")
    assert "--force" in error_line("train", corpus, "--vocab-size", 300, "-o", out)
    assert "--force" in error_line(corpus, "-o", out)
    assert "--force" in error_line("evaluate", corpus, "-o", out)
    assert "--force" in error_line("show", "-o", out)
    assert "--force" in error_line("convert", "english-8k", "-o", out)
    assert out.read_text() == "mine"
    assert run("tokenize", "--text", "hello", "-o", out, "--force").code == 0
    assert out.read_text() == "he ll o\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--text", "x", "--dropout", "1.5"], "--dropout"),
        (["--text", "x", "--dropout", "0.5", "-m", "english-wordpiece-8k"], "--dropout"),
        (["--text", "x", "a.txt"], "both given"),
        (["train", "none.txt"], "none.txt"),
        (["train", "-", "--split", "("], "no pattern"),
        (["train", "-", "--normalize", "upper"], "--normalize"),
        (["train", "-", "--mark", "none"], "--mark is for bpe, not byte-bpe"),
        (["train", "-", "-a", "unigram", "--split", "gpt2"], "--split is for"),
        (["show", "--merges", "-m", "english-wordpiece-8k"], "no list of merges"),
        (["convert", "english-8k", "--to", "bert", "-o", "x"], "wordpiece"),
        (["convert", "none.model", "-o", "x"], "none.model"),
        (["evaluate", "none.txt"], "none.txt"),
    ],
)
def test_errors_of_invalid_arguments(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code = 1 if arguments[0] == "evaluate" else 2
    assert message in error_line(*arguments, stdin="text\n", code=code)
    assert not list(tmp_path.iterdir())


def test_bundled_models_have_cards() -> None:
    records = json.loads(run("tokenize", "models", "-f", "json").out)
    assert [record["name"] for record in records] == ["english-8k", "english-wordpiece-8k"]
    for record in records:
        tokenizer: Tokenizer = load(record["name"])
        assert len(tokenizer.names) == 8192
        assert {"data", "terms", "command", "seed", "score"} <= {*tokenizer.header.card}


def test_models_of_the_hub_in_every_verb(hub: Hub, tmp_path: Path) -> None:
    served = hub.folder / "someone" / "bert" / "resolve" / "main"
    served.mkdir(parents=True)
    (served / "vocab.txt").write_text("[UNK]\n[CLS]\n[SEP]\nthe\nTHE\ncat\n##s\n")
    settings = {"do_lower_case": False, "tokenizer_class": "BertTokenizer"}
    (served / "tokenizer_config.json").write_text(json.dumps(settings))
    model = ("-m", "hf:someone/bert")
    text = tmp_path / "text.txt"
    text.write_text("the cats THE\n")
    assert run("tokenize", text, *model).out == "the cat ##s THE\n"
    assert run("tokenize", "decode", "--text", "3 5 6", *model).out == "the cats\n"
    assert '"tokens": 4' in run("tokenize", "evaluate", text, *model, "-f", "jsonl").out
    assert len(run("tokenize", "show", *model).out.splitlines()) == 7
    out = tmp_path / "own.json"
    assert run("tokenize", "convert", "hf:someone/bert", "-o", out).code == 0
    assert load(out).encode("the cats THE") == [3, 5, 6, 4]
    assert load("hf:someone/bert").encode("cats") == [5, 6]
    assert load(tmp_path / "cache" / "huggingface" / "someone" / "bert").encode("cats") == [5, 6]
    lower = run(
        "tokenize", "convert", "hf:someone/bert", "--normalize", "lower", "-o", out, "--force"
    )
    assert lower.code == 0
    assert load(out).encode("THE CATS") == [3, 5, 6]
    assert "hf:nobody/none: no tokenizer at" in error_line("--text", "x", "-m", "hf:nobody/none")
