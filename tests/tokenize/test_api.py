"""The Python functions of tokenize against the command line."""

import json
import random
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

import dlkit
from dlkit.core.errors import DlkitError
from dlkit.tokenize import Config, Tokenizer, evaluate, load, read, tokenize, train
from dlkit.tokenize.config import Algorithm
from dlkit.tokenize.convert import convert
from tests.conftest import records, run
from tests.tokenize.helpers import LINES, generate_lines

MODELS = ("english-8k", "english-wordpiece-8k")


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("option", ["", "offsets", "parse_special"])
def test_same_results_as_the_command(model: str, option: str) -> None:
    options: dict[str, Any] = {option: True} if option else {}
    arguments = [f"--{option.replace('_', '-')}"] if option else []
    lines = [*LINES, "[SEP] a [UNK]"]
    command = run("tokenize", "-m", model, "-f", "jsonl", *arguments, stdin="\n".join(lines) + "\n")
    found = tokenize(lines, model, **options)
    assert json.loads(json.dumps([asdict(result) for result in found])) == records(command)
    if not option:
        command = run("tokenize", "-m", model, stdin="\n".join(lines) + "\n")
        assert "".join(f"{result}\n" for result in found) == command.out


def test_a_string_is_one_text_with_its_line_breaks() -> None:
    text = "Two dogs\nrun."
    found = tokenize(text)
    assert found.text == text
    assert found.ids == load().encode(text)
    assert [result.ids for result in tokenize(iter(LINES))] == [*map(load().encode, LINES)]
    assert tokenize([]) == []
    assert dlkit.tokenize(text) == found
    with pytest.raises(DlkitError, match="not a text"):
        tokenize(Path("a.txt"))  # type: ignore[call-overload]


def test_many_texts_are_encoded_by_compiled_code_alike() -> None:
    lines = generate_lines(0, 8000)
    assert sum(map(len, lines)) > 1 << 18
    tokenizer = load()
    assert [r.ids for r in tokenize(lines, tokenizer)] == [*map(tokenizer.encode, lines)]


def test_dropout_leaves_the_random_numbers_of_the_program_alone() -> None:
    random.seed(5)
    expected = random.random()
    random.seed(5)
    first = tokenize("unbelievable", dropout=0.5, seed=1)
    assert random.random() == expected
    assert tokenize("unbelievable", dropout=0.5, seed=1) == first
    assert load().decode(first.ids) == "unbelievable"
    options = ["--text", "unbelievable", "--dropout", 0.5, "--seed", 1, "--ids"]
    assert run("tokenize", *options).out.split() == [*map(str, first.ids)]
    for wrong in ({"dropout": 1.5}, {"dropout": 0.5, "offsets": True}):
        options_: dict[str, Any] = wrong
        with pytest.raises(DlkitError, match="--dropout"):
            tokenize("a", **options_)


def test_train_from_texts_and_from_a_config(corpus: Path, tmp_path: Path) -> None:
    tokenizer = train(corpus.read_text().split("\n"), vocab_size=300)
    assert isinstance(tokenizer, Tokenizer)
    assert train(corpus, vocab_size=300).vocab == tokenizer.vocab
    one: Any = str(corpus)  # a file, not a list of letters
    method: Any = "bpe"
    path = train(Config(corpus=one, out=tmp_path / "a.json", algorithm=method, vocab_size=300))
    assert load(path).algorithm == Algorithm.bpe
    out = tmp_path / "b.json"
    run("tokenize", "train", corpus, "-a", "bpe", "--vocab-size", 300, "--out", out)
    assert load(out).vocab == load(path).vocab
    with pytest.raises(DlkitError, match="exists already"):
        train(Config(corpus=[str(corpus)], out=path))
    wrong: Any = "nothing"
    with pytest.raises(DlkitError, match="choose from"):
        train(Config(corpus=[str(corpus)], algorithm=wrong, out=out, force=True))
    # A file that is written again is read again.
    again = train(Config(corpus=[str(corpus)], out=path, vocab_size=280, force=True))
    assert tokenize("The quick fox", again).ids == load(again).encode("The quick fox")


def test_a_string_is_one_text_to_learn_from() -> None:
    assert train("low lower lowest " * 9, vocab_size=260).tokens("low")[0] == "low"


def test_evaluate_as_the_command_does(corpus: Path, tmp_path: Path) -> None:
    (found,) = evaluate(corpus)
    (record,) = json.loads(run("tokenize", "evaluate", corpus, "-f", "json").out)
    speed = "megabytes_per_second"
    assert {**asdict(found), speed: 0} == {**record, speed: 0}
    assert [scores.file for scores in evaluate([corpus, corpus])] == [str(corpus)] * 2 + ["all"]
    with pytest.raises(DlkitError, match=r"none\.txt: no such file"):
        evaluate([str(tmp_path / "none.txt")])


def test_results_are_shown_and_saved(tmp_path: Path) -> None:
    found = tokenize(["a <b>", "two words"])
    shown = found[0]._repr_html_()
    assert shown.count("<span") == len(found[0].ids)
    assert "<b>" not in shown
    assert f'title="{found[0].ids[0]}"' in shown
    lines = found.save(tmp_path / "a.txt").read_text()
    assert lines == run("tokenize", stdin="a <b>\ntwo words\n").out
    assert json.loads(found[1].save(tmp_path / "a.json").read_text())[0]["ids"] == found[1].ids


def test_tokenizers_of_other_tools_are_read(tmp_path: Path) -> None:
    (path,) = convert(["english-8k"], tmp_path / "tokenizer.json", to="huggingface")
    assert tokenize("two words", read([str(path)])).ids == tokenize("two words").ids


def test_no_torch_and_no_numpy() -> None:
    script = (
        "import sys, dlkit\n"
        "from dlkit.tokenize import load\n"
        "assert not {'torch', 'numpy', 'dlkit.tokenize.model'} & {*sys.modules}\n"
        "assert dlkit.tokenize('hello').ids == load().encode('hello')\n"
        "assert not {'torch', 'numpy'} & {*sys.modules}\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
