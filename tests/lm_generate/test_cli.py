"""The command line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dlkit.core.generation.sampling import Sampling
from dlkit.lm_generate.infer import load, score
from tests.conftest import run
from tests.lm_generate.helpers import HAMLET, generate_all


def test_a_prompt_is_printed_with_what_follows(file: Path) -> None:
    result = run("lm-generate", "To be", "-m", file, "--max-tokens", 12, "--precision", "fp32")
    assert result.code == 0, result.err
    assert result.out.startswith("To be")
    [text] = generate_all(
        ["To be"], load(file, "cpu", "fp32"), sampling=Sampling(temperature=0.8), max_tokens=12
    )
    assert result.out == f"To be{text.text}\n"


@pytest.mark.slow
def test_many_texts_are_a_line_each(file: Path, tmp_path: Path) -> None:
    common = ("-m", file, "--max-tokens", 30, "--temperature", 3)
    result = run("lm-generate", *common, "-n", 2, stdin="To be\nor not\n")
    assert result.code == 0, result.err
    lines = result.out.splitlines()
    assert [line[:5] for line in lines] == ["To be", "To be", "or no", "or no"]
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("To be\nor not\n")
    assert run("lm-generate", *common, "-n", 2, "--file", prompts).out == result.out
    records = [
        json.loads(line)
        for line in run("lm-generate", *common, "-n", 2, "--file", prompts, "-f", "jsonl")
        .out.strip()
        .splitlines()
    ]
    assert [(r["prompt"], r["sample"]) for r in records] == [
        ("To be", 0), ("To be", 1), ("or not", 0), ("or not", 1)
    ]  # fmt: skip
    assert any("\n" in r["text"] for r in records)
    shown = [(r["prompt"] + r["text"]).replace("\n", "\\n") for r in records]
    assert shown == lines
    for record in records:
        assert len(record["tokens"]) == 30
        assert {"token", "id", "logprob"} == set(record["tokens"][0])
        assert record["logprob"] == pytest.approx(
            sum(t["logprob"] for t in record["tokens"]), abs=1e-2
        )
        assert record["finish"] == "length"
    table = run("lm-generate", *common, "--file", prompts, "-f", "csv").out
    assert table.startswith("prompt,sample,text,finish,logprob\n")
    assert json.loads(run("lm-generate", "To", "-m", file, "-f", "json").out)[0]["prompt"] == "To"
    target = tmp_path / "out.txt"
    assert run("lm-generate", "To be", "-m", file, "-o", target).out == ""
    assert target.read_text().startswith("To be")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--temperature", "0"], "--greedy"),
        (["--temperature", "-2"], "--temperature -2"),
        (["--greedy", "--top-k", "3"], "--top-k: has no effect with --greedy"),
        (["--beam", "3", "--temperature", "1"], "--temperature: has no effect with --beam"),
        (["--beam", "2", "-n", "3"], "--beam 2"),
        (["--greedy", "--beam", "2"], "--beam 1"),
        (["--greedy", "-n", "2"], "--greedy"),
        (["--beam", "2", "--repetition-penalty", "2"], "--beam"),
        (["--top-p", "0"], "--top-p"),
        (["--stop", ""], "--stop"),
        (["--max-tokens", "0"], "max-tokens"),
        (["--seed", "-1"], "seed"),
        (["--file", "no-such-file"], "give one of them"),
        (["-m", "no-such-model"], "unknown model"),
        (["-m", "no-such.safetensors"], "no such model file"),
    ],
)
def test_bad_arguments_are_one_line(file: Path, arguments: list[str], words: str) -> None:
    result = run("lm-generate", "To be", "-m", file, *arguments)
    assert result.code == 2
    assert words in result.err
    assert result.err.strip().count("\n") <= 4  # Typer shows the usage, too
    assert "Traceback" not in result.err


def test_bad_prompts(file: Path, tmp_path: Path) -> None:
    empty = run("lm-generate", "", "-m", file, "--max-tokens", 5)
    assert empty.code == 0  # it starts as after the end of a line
    result = run("lm-generate", "Zü be", "-m", file, "--max-tokens", 5)
    assert result.code == 0
    assert "does not know 'Z', 'ü'" in result.err
    long = run("lm-generate", HAMLET, "-m", file, "--max-tokens", 5)
    assert long.code == 0
    assert "sees 32 tokens" in long.err
    missing = run("lm-generate", "--file", tmp_path / "none.txt", "-m", file)
    assert missing.code == 1
    assert "none.txt" in missing.err
    latin = tmp_path / "latin.txt"
    latin.write_bytes(b"caf\xe9\n")
    assert "UTF-8" in run("lm-generate", "--file", latin, "-m", file).err
    assert run("lm-generate", "-m", file, stdin="").out == ""


def test_score_and_chat_from_the_command_line(file: Path, tmp_path: Path) -> None:
    common = ("-m", file, "--precision", "fp32")
    result = run("lm-generate", "score", *common, stdin="To be\nor not\n")
    assert result.code == 0, result.err
    rows = [line.split("\t") for line in result.out.splitlines()]
    assert [row[3] for row in rows] == ["To be", "or not"]
    [direct, _] = score(["To be", "or not"], load(file, "cpu", "fp32"))
    assert float(rows[0][0]) == pytest.approx(direct.logprob)
    assert run("lm-generate", "score", "--text", "To be", *common).out == "\t".join(rows[0]) + "\n"
    records = run("lm-generate", "score", *common, "-f", "jsonl", stdin="To be\n").out
    assert len(json.loads(records)["tokens"]) == 4
    talk = run("lm-generate", "chat", *common, "--max-tokens", 9, stdin="To be\n\nor not\n")
    assert talk.code == 0, talk.err
    assert talk.out.count("\n") == 2
    record_output = run(
        "lm-generate", "chat", *common, "--max-tokens", 9, "-f", "jsonl", stdin="To be\n"
    )
    record = json.loads(record_output.out)
    assert record["message"] == "To be"
    assert record["reply"] == talk.out.splitlines()[0]
    refused = run("lm-generate", "fill", "the [MASK]", "-m", file)
    assert refused.code == 2
    assert "fill gaps" in refused.err


@pytest.mark.slow
def test_a_closed_pipe_ends_the_writing_quietly(file: Path) -> None:
    command = [sys.executable, "-m", "dlkit", "lm-generate", "To be", "-m", str(file)]
    with subprocess.Popen(
        [*command, "--max-tokens", "1000000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(40).startswith(b"To be")
        process.stdout.close()
        process.wait(timeout=60)
        assert b"Traceback" not in process.stderr.read()
        assert process.returncode == 1


def test_the_bundled_model_writes_like_shakespeare() -> None:
    verse = "What light is this that breaks upon the night?"
    backwards, shuffled = verse[::-1], " ".join(sorted(verse.split()))
    result = run(
        "lm-generate", "score", "-f", "json", stdin="\n".join((verse, backwards, shuffled))
    )
    natural, *others = [record["perplexity"] for record in json.loads(result.out)]
    assert natural < 12
    assert natural < min(others)
    written = run("lm-generate", "ROMEO:", "--greedy", "--max-tokens", 60).out
    assert written.startswith("ROMEO:\n")
    assert len(written.split()) > 8
