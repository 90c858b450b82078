"""The command line of `dlkit translate`."""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlkit.core.errors import DlkitError
from dlkit.core.store import checkpoint
from dlkit.core.store.checkpoint import Header
from dlkit.translate.vocabulary import TranslationVocabulary
from tests.conftest import run
from tests.translate.helpers import ENGLISH, QUICK, lines_out, save_model


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "a",
        "a\n",
        "\n\n\n",
        "A dog runs.\n\nTwo men walk.\n",
        "A dog\x0bruns.\x0c\x1c\x85  Two.\u2028 men\n",
        "tab\there\r\nand \r there\n",
        "\x00\x01\x02\n\x7f\n",
        "<s> </s> <pad> <unk>\n",
        "?!.,;:\n",
        "狗在跑。\nسگ\n🐕🐕🐕\n",
    ],
)
def test_as_many_lines_out_as_in(file: Path, text: str) -> None:
    result = run("translate", "-m", file, *QUICK, stdin=text)
    assert result.code == 0, result.err
    asked = (text[:-1] if text.endswith("\n") else text).split("\n") if text else []
    found = lines_out(result)
    assert len(found) == len(asked)
    for line, translation in zip(asked, found, strict=True):
        assert line.strip() or not translation


@pytest.mark.slow
def test_a_very_long_line_is_one_line(file: Path) -> None:
    for line in ("a" * 100_000, "." * 100_000, "A dog runs. " * 9_000):
        start = time.monotonic()
        result = run("translate", "-m", file, "--beam", 1, "--max-length", 1, stdin=f"{line}\na\n")
        assert result.code == 0, result.err
        assert len(lines_out(result)) == 2
        assert time.monotonic() - start < 30


def test_bytes_that_are_not_utf8_are_reported_once(file: Path, tmp_path: Path) -> None:
    odd = tmp_path / "odd.txt"
    odd.write_bytes(b"A dog\n\xff\xfe runs\nTwo \x80 men\n")
    result = run("translate", odd, "-m", file, *QUICK)
    assert result.code == 0
    assert len(lines_out(result)) == 3
    assert result.err.count("not UTF-8") == 1
    assert "byte 6" in result.err


def test_a_file_that_is_not_there_does_not_end_the_others(file: Path, tmp_path: Path) -> None:
    there = tmp_path / "there.txt"
    there.write_text("A dog runs.\n")
    result = run("translate", there, tmp_path / "missing.txt", there, "-m", file, *QUICK)
    assert result.code == 1
    assert len(lines_out(result)) == 2
    assert "missing.txt" in result.err
    assert "Traceback" not in result.err


def test_a_line_that_fails_is_an_empty_line(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encode = TranslationVocabulary.encode_sources

    def failing(self: TranslationVocabulary, sources: Any, workers: int = 1) -> Any:
        if any("bad" in turn for turns in sources for turn in turns):
            raise DlkitError("no token for this")
        return encode(self, sources, workers)

    monkeypatch.setattr(TranslationVocabulary, "encode_sources", failing)
    result = run("translate", "-m", file, *QUICK, stdin="A dog runs.\nbad\nTwo men.\n")
    assert result.code == 1
    assert [bool(line) for line in lines_out(result)] == [True, False, True]
    assert "line 2: no token for this" in result.err
    records = run("translate", "-m", file, *QUICK, "-f", "jsonl", stdin="bad\na\n")
    assert [json.loads(line).get("error") for line in lines_out(records)] == [
        "no token for this",
        None,
    ]


@pytest.mark.slow
def test_a_slow_pipe_is_answered_line_by_line_and_a_reader_may_leave(file: Path) -> None:
    command = [sys.executable, "-m", "dlkit", "translate", "-m", str(file), *QUICK, "--beam", "1"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        for line in ("A dog runs.", "", "Two men walk."):
            process.stdin.write(line + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
            assert answer.endswith("\n")
            assert bool(answer.strip()) == bool(line)
        process.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write("A dog runs.\n" * 5)
            process.stdin.close()
        assert process.stderr.read() == ""
        assert process.wait() == 1


def test_scores_n_best_and_formats(file: Path) -> None:
    given = "A dog runs.\n\n"
    options = ["-m", file, *QUICK, "--beam", 3]
    bare = lines_out(run("translate", *options, stdin=given))
    scored = lines_out(run("translate", *options, "--scores", "--alignment", stdin=given))
    translation, score, pairs = scored[0].split("\t")
    assert [translation, scored[1]] == bare
    assert float(score) < 0
    assert len(pairs.split()) == len(translation.split())
    several = lines_out(run("translate", *options, "--n-best", 3, "--scores", stdin=given))
    assert [line.split("\t")[0] for line in several] == ["1", "1", "1", "2"]
    found = [float(line.split("\t")[2]) for line in several[:3]]
    assert found == sorted(found, reverse=True)
    (record, empty) = json.loads(
        run("translate", *options, "--n-best", 2, "-f", "json", stdin=given).out
    )
    assert record["translation"] == record["hypotheses"][0]["translation"] == bare[0]
    assert record["source"] == "A dog runs."
    assert empty == {"line": 2, "source": "", "translation": "", "hypotheses": []}
    best = record["hypotheses"][0]
    assert best["score"] == pytest.approx(found[0], abs=1e-3)
    table = run("translate", *options, "--n-best", 2, "-f", "csv", stdin=given).out.splitlines()
    assert table[0] == "line,rank,source,translation,score,logprob,alignment"
    assert len(table) == 3
    assert run("translate", *options, "-f", "csv", stdin="\n").out == table[0] + "\n"


def test_the_same_seed_draws_the_same_translations(file: Path) -> None:
    options = ["-m", file, *QUICK, "--sample", "--text", "A dog runs."]
    first, second = (run("translate", *options, "--seed", 3).out for _ in range(2))
    assert first == second
    others = {run("translate", *options, "--seed", seed).out for seed in range(4)}
    assert len(others) > 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--temperature", "0.5"], "--temperature: has no effect without --sample"),
        (["--seed", "1"], "--seed: has no effect without --sample"),
        (["--sample", "--beam", "2"], "--beam: has no effect with --sample"),
        (["--sample", "--length-penalty", "1"], "--length-penalty: has no effect with --sample"),
        (["--n-best", "4", "--beam", "2"], "--n-best 4: more than --beam 2; give --beam 4"),
        (["--scores", "-f", "jsonl"], "--scores: -f jsonl always has the scores"),
        (["--text", "a", "file.txt"], "--text: has no effect with files"),
        (["--sample", "--top-p", "0"], "--top-p 0"),
        (["--context", "2"], "was not trained with --context"),
        (["-m", "nothing"], "unknown model 'nothing'"),
        (["-m", "nothing.safetensors"], "no such model file"),
        (["--device", "cuda:99"], "no device"),
    ],
)
def test_wrong_options_get_one_line(file: Path, options: list[str], message: str) -> None:
    result = run("translate", "-m", file, *options, stdin="a\n")
    assert result.code == 2
    assert message in result.err
    assert result.err.count("\n") == 1
    assert result.out == ""


def test_checkpoints_that_are_no_translators_are_refused(
    file: Path, vocabulary: TranslationVocabulary, tmp_path: Path
) -> None:
    header, weights = checkpoint.load(file)

    def refused(name: str, changed: Mapping[str, Any], arch: str = "transformer") -> str:
        path = tmp_path / name
        checkpoint.save(path, weights, Header("translate", arch, changed, []))
        result = run("translate", "-m", path, stdin="a\n")
        assert result.code == 2
        assert result.err.count("\n") == 1
        return result.err

    settings = header.settings
    without = {key: value for key, value in settings.items() if key != "tokenizer"}
    assert "it has no setting 'tokenizer'" in refused("a.safetensors", without)
    wider = {**settings, "network": {**settings["network"], "width": 32}}
    assert "its weights do not fit the architecture" in refused("b.safetensors", wider)
    assert "unknown architecture 'other'" in refused("c.safetensors", settings, "other")
    other = TranslationVocabulary.learn(ENGLISH, "char", 300).to_settings()
    refusal = refused("d.safetensors", {**settings, "tokenizer": other})
    assert "they belong to different models" in refusal
    of_detect = tmp_path / "e.safetensors"
    checkpoint.save(of_detect, weights, Header("detect", "yolo", {}, []))
    assert "a model for `dlkit detect`" in run("translate", "-m", of_detect, stdin="a\n").err


def test_a_model_of_dialogues_is_asked_with_its_context(
    vocabulary: TranslationVocabulary, tmp_path: Path
) -> None:
    file = save_model(tmp_path / "chat.safetensors", vocabulary, context=2)
    given = "A dog runs.\nTwo men walk.\n"
    with_turns = lines_out(run("translate", "-m", file, *QUICK, stdin=given))
    without = lines_out(run("translate", "-m", file, *QUICK, "--context", 0, stdin=given))
    assert with_turns[0] == without[0]
    assert with_turns[1] != without[1]
    refused = run("translate", "-m", file, "--alignment", stdin=given)
    assert refused.code == 2
    assert "--context 0" in refused.err


def test_align_prints_words_and_saves_a_picture(file: Path, tmp_path: Path) -> None:
    picture = tmp_path / "heat.png"
    options = ["-m", file, "--precision", "fp32", "--target", "Ein $Hund 狗"]
    result = run("translate", "align", "A dog runs.", *options, "--save", picture)
    assert result.code == 0, result.err
    assert [line.split("\t")[2] for line in lines_out(result)] == ["Ein", "$Hund", "狗"]
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert result.err == ""
    (record,) = json.loads(run("translate", "align", "A dog runs.", *options, "-f", "json").out)
    assert record["source"] == ["A", "dog", "runs."]
    weights = np.array(record["weights"])
    assert weights.shape == (3, 3)
    assert (weights >= 0).all()
    assert (weights.sum(1) <= 1.001).all()
    refused = run("translate", "align", "  ", "-m", file)
    assert refused.code == 2
    assert "empty" in refused.err


def test_the_bundled_model_translates_descriptions() -> None:
    lines = "Two dogs run on the beach.\n\nA man is riding a bicycle.\n"
    result = run("translate", stdin=lines)
    assert result.code == 0
    dogs, empty, man = result.out.splitlines()
    assert dogs.startswith("Zwei Hunde ")
    assert "Strand" in dogs
    assert empty == ""
    assert man.startswith("Ein Mann ")
    assert "Fahrrad" in man
    assert result.err == ""
