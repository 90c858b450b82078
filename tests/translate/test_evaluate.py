"""Scores of translations."""

import json
import math
from pathlib import Path

import pytest
import sacrebleu
from torch import nn

from dlkit.translate.config import TranslationSearch
from dlkit.translate.evaluate import evaluate_checkpoint, scores, translate_file
from dlkit.translate.infer import load
from dlkit.translate.train import train
from tests.conftest import run
from tests.translate.helpers import configure, sentences, write_lines


def files_of(folder: Path) -> tuple[str, str, str, list[str], list[list[str]]]:
    source, first = sentences(30, 5)
    written = [text.replace("drei", "vier") for text in first]
    second = [" ".join(reversed(text.split())) for text in first]
    names = [write_lines(folder / name, texts)
             for name, texts in (("hyp", written), ("r1", first), ("r2", second))]  # fmt: skip
    write_lines(folder / "src", source)
    return names[0], names[1], names[2], written, [first, second]


def test_bleu_and_chrf_are_those_of_sacrebleu(tmp_path: Path) -> None:
    hyp, first, second, written, references = files_of(tmp_path)
    for refs, texts in (([first], references[:1]), ([first, second], references)):
        given = [part for ref in refs for part in ("--ref", ref)]
        done = run("translate", "evaluate", "--hyp", hyp, *given, "-f", "json")
        assert done.code == 0, done.err
        scores = {score["metric"]: score for score in json.loads(done.out)}
        bleu = sacrebleu.corpus_bleu(written, texts)
        assert scores["bleu"]["value"] == pytest.approx(bleu.score, abs=1e-4)
        assert f"nrefs:{len(refs)}|case:mixed" in scores["bleu"]["definition"]
        chrf = sacrebleu.corpus_chrf(written, texts)
        assert scores["chrf"]["value"] == pytest.approx(chrf.score, abs=1e-4)
        assert set(scores) == {"bleu", "chrf"}


def test_bleu_by_length_counts_each_sentence_once(tmp_path: Path) -> None:
    texts = [" ".join(["word"] * count) for count in (1, 9, 10, 14, 15, 70)]
    file = write_lines(tmp_path / "a", texts)
    command = ["translate", "evaluate", "--hyp", file, "--ref", file, "--by-length", "-f", "json"]
    assert "give --source" in run(*command).err
    found = json.loads(run(*command, "--source", file).out)
    groups = {score["label"]: score["definition"] for score in found if score["label"] != "all"}
    assert list(groups) == ["1-9 words", "10-14 words", "15-19 words", "60 words or more"]
    assert [int(text.rpartition(", ")[2].split()[0]) for text in groups.values()] == [2, 2, 1, 1]


def test_the_worst_translations_come_first(tmp_path: Path) -> None:
    written = ["good day", "nothing like it", "good nights"]
    hyp = write_lines(tmp_path / "h", written)
    ref = write_lines(tmp_path / "r", ["good day", "xyz", "good night"])
    out = run("translate", "evaluate", "--hyp", hyp, "--ref", ref, "--worst", 2, "-f", "json").out
    assert [(row["line"], row["translation"]) for row in json.loads(out)] == [
        (2, "nothing like it"),
        (3, "good nights"),
    ]
    lower = write_lines(tmp_path / "l", [text.upper() for text in written])
    command = ["translate", "evaluate", "--hyp", lower, "--ref", hyp, "-f", "json"]
    values = [json.loads(run(*command, *more).out)[1]["value"] for more in ([], ["--lowercase"])]
    assert values[0] < 10
    assert values[1] == 100


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    three, two = write_lines(tmp_path / "3", ["a"] * 3), write_lines(tmp_path / "2", ["b"] * 2)
    for command, message in (
        (["--hyp", three, "--ref", two], f"{three} has 3 lines and {two} 2"),
        (["--hyp", three], "give --ref"),
        ([], "give --source"),
        (["--hyp", three, "--ref", three, "--beam", 2], "--beam: has no effect with --hyp"),
    ):
        done = run("translate", "evaluate", *command)
        assert (done.code, done.err.count("\n")) == (2, 1)
        assert message in done.err


@pytest.mark.slow
def test_a_model_is_measured_with_its_loss(numbers: dict[str, list[str]], tmp_path: Path) -> None:
    path = train(configure(tmp_path / "run", numbers, epochs=1, arch="rnn"))
    model = load(path, "cpu", "fp32")
    for parameter in model.network.parameters():
        nn.init.zeros_(parameter)
    source, ref = numbers["val_source"][0], numbers["val_target"][0]
    found = translate_file(source, [ref], model, TranslationSearch(beam=1, max_length=2))
    measured = {score.metric: score.value for score in scores(found)}  # type: ignore[union-attr]
    # All tokens are as probable.
    assert measured["loss"] == pytest.approx(math.log(model.vocabulary.size), abs=1e-4)
    assert measured["perplexity"] == pytest.approx(model.vocabulary.size, abs=1e-2)
    assert len(found.translations) == 20
    listed = list(evaluate_checkpoint([source, ref], model=str(path)))
    metrics = [getattr(score, "metric", None) for score in listed]
    assert metrics == ["bleu", "chrf", "loss", "perplexity"]
