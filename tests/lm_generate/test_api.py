"""The Python functions of lm-generate against the command line."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.lm_generate import (
    Config,
    Continuation,
    evaluate,
    features,
    fill,
    lm_generate,
    load,
    score,
    train,
)
from tests.conftest import records, run
from tests.lm_generate.helpers import random_bert

PROMPTS = ["ab ba", "", "a b"]
QUICK: dict[str, Any] = {"max_tokens": 12}


def as_record(result: Any) -> Any:
    """What -f jsonl prints of a result."""
    return json.loads(json.dumps(asdict(result)))


@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        ({}, []),
        ({"temperature": 0.5, "top_k": 5, "seed": 3, "samples": 2},
         ["--temperature", 0.5, "--top-k", 5, "--seed", 3, "--samples", 2]),
        ({"greedy": True, "repetition_penalty": 1.2}, ["--greedy", "--repetition-penalty", 1.2]),
        ({"beam": 3, "stop": "b"}, ["--beam", 3, "--stop", "b"]),
        ({"top_p": 0.8, "min_p": 0.01, "stop": ["a", "\n"]},
         ["--top-p", 0.8, "--min-p", 0.01, "--stop", "a", "--stop", "\\n"]),
    ],
    ids=["default", "samples", "greedy", "beam", "stop"],
)  # fmt: skip
def test_same_texts_as_the_command(
    file: Path, options: dict[str, Any], arguments: list[object]
) -> None:
    asked = ["lm-generate", "-m", file, "--max-tokens", 12, *arguments]
    command = run(*asked, "-f", "jsonl", stdin="\n".join(PROMPTS) + "\n")
    found = lm_generate(PROMPTS, file, **QUICK, **options)
    assert [as_record(result) for result in found] == records(command)
    printed = run(*asked, stdin="\n".join(PROMPTS) + "\n").out
    assert printed == "".join(f"{result.as_line()}\n" for result in found)


def test_a_string_is_one_prompt(file: Path) -> None:
    one = lm_generate("ab ba", file, **QUICK)
    assert isinstance(one, Continuation)
    assert str(one) + "\n" == run("lm-generate", "ab ba", "-m", file, "--max-tokens", 12).out
    several = lm_generate("ab ba", file, samples=3, **QUICK)
    assert [found.sample for found in several] == [0, 1, 2]
    assert several[0] == one
    assert load(file)("ab ba", **QUICK) == one
    assert lm_generate(iter(["ab ba"]), file, **QUICK) == [one]
    with pytest.raises(DlkitError, match="not a text"):
        lm_generate(3, file)  # type: ignore[call-overload]


def test_scores_are_those_of_the_command(file: Path, ngrams: Path) -> None:
    for model in (file, ngrams):
        command = run("lm-generate", "score", "-m", model, "-f", "jsonl", stdin="ab ba\nthe cat\n")
        assert [as_record(s) for s in score(["ab ba", "the cat"], model)] == records(command)
        assert as_record(score("the cat", model)) == records(command)[1]


def test_gaps_and_features_are_those_of_the_commands() -> None:
    bert = random_bert()
    text = "the [MASK] sat"
    with mock.patch("dlkit.lm_generate.infer.load", return_value=bert):
        (filled,) = records(run("lm-generate", "fill", text, "-n", 3, "-f", "jsonl"))
        (described,) = records(run("lm-generate", "features", "the cat", "-f", "jsonl"))
        error = run("lm-generate", "fill", "no gap").err
    assert as_record(fill(text, bert, count=3)) == filled
    assert as_record(features("the cat", bert)) == described
    found = fill([text, "no gap"], bert, errors="return")
    assert as_record(found[0])["text"] == text
    assert isinstance(found[1], Failure)
    with pytest.raises(DlkitError) as caught:
        fill("no gap", bert)
    assert error == f"dlkit: {caught.value}\n"


def test_mistakes_have_the_message_of_the_command(file: Path) -> None:
    for options, arguments in (
        ({"greedy": True, "top_k": 3}, ["--greedy", "--top-k", 3]),
        ({"beam": 2, "samples": 3}, ["--beam", 2, "--samples", 3]),
        ({"stop": ""}, ["--stop", ""]),
    ):
        given: dict[str, Any] = options
        with pytest.raises(DlkitError) as caught:
            lm_generate("a", file, **given)
        asked: list[object] = ["lm-generate", "a", "-m", file, *arguments]
        assert run(*asked).err == f"dlkit: {caught.value}\n"
    with pytest.raises(DlkitError, match="cannot fill gaps"):
        fill("a [MASK]", file)
    with pytest.raises(DlkitError, match="max_tokens=0: not in the range"):
        lm_generate("a", file, max_tokens=0)


def test_evaluate_as_the_command_does(file: Path, ngrams: Path, text: Path) -> None:
    for model in (file, ngrams):
        found = evaluate(text, model=model)
        command = run("lm-generate", "evaluate", text, "-m", model, "-f", "jsonl")
        assert [asdict(result) for result in found] == records(command)
        assert found["perplexity"] == next(
            record["value"] for record in records(command) if record["metric"] == "perplexity"
        )
    assert evaluate([text], model=load(file))[0].metric == "loss"


@pytest.mark.slow
def test_train_from_python(text: Path, tmp_path: Path) -> None:
    one: Any = str(text)  # a file, not a list of letters
    best = train(Config(data=one, arch="ngram", tokenizer="words", order=2, out=tmp_path / "run"))
    assert best == tmp_path / "run" / "best.safetensors"
    assert len(lm_generate("", best, max_tokens=3).tokens) == 3


def test_results_are_shown_and_saved(file: Path, tmp_path: Path) -> None:
    found = lm_generate("<b>a", file, **QUICK)
    assert "&lt;b&gt;a<b>" in found._repr_html_()
    assert found.save(tmp_path / "one.txt").read_text() == f"{found}\n"
    many = lm_generate(["a\nb", "b"], file, **QUICK)
    lines = many.save(tmp_path / "many.txt").read_text().splitlines()
    assert lines == [result.as_line() for result in many]
    assert lines[0].startswith("a\\nb")
    scored = score("ab ba", file)
    shown = scored._repr_html_()
    assert shown.count("<span") == len(scored.tokens)
    assert "log-probability" in shown
    assert scored.save(tmp_path / "score.csv").read_text().startswith("logprob,perplexity,tokens")


def test_n_gram_models_load_no_torch(ngrams: Path) -> None:
    script = (
        "import sys\nfrom dlkit.lm_generate import lm_generate, score\n"
        "assert not {'torch', 'numpy'} & {*sys.modules}\n"
        f"lm_generate('the', {str(ngrams)!r}, max_tokens=3), score('the cat', {str(ngrams)!r})\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
