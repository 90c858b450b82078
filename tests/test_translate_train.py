"""What `dlkit translate` is trained on and how: pairs, vocabulary, batches, runs, scores."""

import gzip
import json
import math
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import sacrebleu
import torch
from torch import Tensor, nn

from dlkit.core.errors import DlkitError
from dlkit.core.failures import Skipped
from dlkit.core.io.splits import hold_out
from dlkit.core.parallel.distributed import Process
from dlkit.core.store import checkpoint
from dlkit.tokenize import train as train_tokenizer
from dlkit.translate import data, evaluate, validation
from dlkit.translate.config import Search, TranslateTrainConfig, by_arch
from dlkit.translate.data import EncodedPairs, PairBatches, batch_by_tokens
from dlkit.translate.infer import load
from dlkit.translate.pairs import Pair, PairFiles, read_pairs
from dlkit.translate.train import train
from dlkit.translate.vocabulary import TranslationVocabulary
from tests.conftest import run

NUMBERS = {"one": "eins", "two": "zwei", "three": "drei", "four": "vier", "five": "fünf"}
CPU = Process(0, 1, torch.device("cpu"))


def sentences(count: int, seed: int) -> tuple[list[str], list[str]]:
    """Numbers in words, and in German."""
    draw = random.Random(seed)
    source = [" ".join(draw.choices(list(NUMBERS), k=draw.randint(1, 6))) for _ in range(count)]
    return source, [" ".join(NUMBERS[word] for word in text.split()) for text in source]


def write(path: Path, texts: list[str]) -> str:
    path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Files of 300 pairs to train on and 20 to validate."""
    folder = tmp_path_factory.mktemp("numbers")
    found = {}
    for name, count, seed in (("", 300, 0), ("val_", 20, 1)):
        both = sentences(count, seed)
        found[f"{name}source"] = [write(folder / f"{name}en", both[0])]
        found[f"{name}target"] = [write(folder / f"{name}de", both[1])]
    return found


def settings(out: Path, numbers: dict[str, Any], **changed: Any) -> TranslateTrainConfig:
    given: dict[str, Any] = {
        **numbers, "out": out, "tokenizer": "words", "layers": 1, "width": 16, "dropout": 0.0,
        "epochs": 2, "batch_size": 256, "lr": 0.01, "warmup": 1.0, "workers": 1, "device": "cpu",
        "precision": "fp32", "label_smoothing": 0.0,
    }  # fmt: skip
    return TranslateTrainConfig(**{**given, **changed})


def weights(path: Path) -> dict[str, Tensor]:
    return checkpoint.load(path)[1]


# Reading.


def texts_of(pairs: list[Pair]) -> list[tuple[str, str]]:
    return [(pair.source, pair.target) for pair in pairs]


def test_only_a_line_feed_ends_a_line(tmp_path: Path) -> None:
    odd = ["a\u2028b", "c\x0bd", "e\x85f", "g\rh", "last"]
    source = write(tmp_path / "s", [f"\ufeff{odd[0]}", *odd[1:]])
    target = tmp_path / "t"
    target.write_bytes("".join(f"{n}\r\n" for n in range(5)).encode())
    pairs = read_pairs(PairFiles([], [source], [str(target)]), 0, Skipped())
    assert texts_of(pairs) == list(zip(odd, "01234", strict=True))


def test_several_files_of_each_kind(tmp_path: Path) -> None:
    packed = tmp_path / "c.tsv.gz"
    packed.write_bytes(gzip.compress(b"e\tf\tattribution\n"))
    rows = [{"en": "g", "de": "h"}, {"translation": {"de": "j", "en": "i"}}]
    as_json = write(tmp_path / "d.jsonl", [json.dumps(row) for row in rows])
    files = PairFiles(
        [str(packed), as_json],
        [write(tmp_path / "a.en", ["a"]), write(tmp_path / "b.en", ["c"])],
        [write(tmp_path / "a.de", ["b"]), write(tmp_path / "b.de", ["d"])],
        ("en", "de"),
    )
    skipped = Skipped()
    found = texts_of(read_pairs(files, 0, skipped))
    assert ["".join(pair) for pair in found] == ["ab", "cd", "ef", "gh", "ij"]
    assert not skipped.places


def test_a_mismatch_in_lines_names_both_counts(tmp_path: Path) -> None:
    source, target = write(tmp_path / "s", ["a"] * 7), write(tmp_path / "t", ["b"] * 5)
    for files in (PairFiles([], [source], [target]), PairFiles([], [target], [source])):
        with pytest.raises(DlkitError, match=r"(7 lines .* 5|5 lines .* 7): each line"):
            read_pairs(files, 0, Skipped())
    with pytest.raises(DlkitError, match="1 source files and 2 target files"):
        read_pairs(PairFiles([], [source], [target, target]), 0, Skipped())


def test_what_is_no_pair_is_counted(tmp_path: Path) -> None:
    table = write(tmp_path / "a.tsv", ["a\tb", "no tab", "\tb", "a\t ", ""])
    rows = ["{", '"text"', '{"source": 1, "target": "b"}', '{"source": "a"}']
    skipped = Skipped()
    found = read_pairs(PairFiles([table, write(tmp_path / "b.jsonl", rows)]), 0, skipped)
    assert texts_of(found) == [("a", "b")]
    assert {kind: len(places) for kind, places in skipped.places.items()} == {
        "line without a tab": 1,
        "empty line": 3,
        "line that is not JSON": 1,
        "line without text in source and target": 3,
    }
    assert skipped.places["empty line"] == [f"{table}:{n}" for n in (3, 4, 5)]


def test_dialogues_have_the_turns_before(tmp_path: Path) -> None:
    rows = ["q1\ta1", "q2\ta2", "q3\ta3", "\t", "q4\ta4", "q5\ta5"]
    skipped = Skipped()
    pairs = read_pairs(PairFiles([write(tmp_path / "a.tsv", rows)]), 3, skipped)
    assert [pair.turns for pair in pairs] == [
        ("q1",),
        ("q1", "a1", "q2"),
        ("a1", "q2", "a2", "q3"),
        ("q4",),
        ("q4", "a4", "q5"),
    ]
    assert not skipped.places
    without = read_pairs(PairFiles([write(tmp_path / "a.tsv", rows)]), 0, Skipped())
    assert {pair.before for pair in without} == {()}


def test_long_and_unlike_pairs_are_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = ["a b\tc d", "a b c d e\tc", "a b c d\tc", "a " * 8 + "\t" + "b " * 8]
    config = settings(tmp_path, {"data": [write(tmp_path / "a.tsv", rows)]}, max_tokens=7,
                      max_ratio=4.0, val_share=0.0)  # fmt: skip
    found = data.load_data(by_arch(config))
    assert [pair.where[-1] for pair in found.training.texts] == ["1", "3"]
    err = capsys.readouterr().err
    assert "skipped 1 x pair of more than 7 tokens" in err
    assert "skipped 1 x pair with 4 times the tokens on a side" in err


def test_a_share_is_held_out_and_equal_sources_stay_together() -> None:
    pairs = [Pair(str(n % 50), str(n), "") for n in range(100)]

    def split_pairs(share: float, seed: int) -> tuple[list[Pair], list[Pair]]:
        return hold_out(pairs, share, seed, key=lambda pair: pair.source)

    held_out, training = split_pairs(0.1, seed=3)
    assert (len(training), len(held_out)) == (90, 10)
    assert not {pair.source for pair in training} & {pair.source for pair in held_out}
    assert split_pairs(0.1, seed=3)[0] == held_out
    assert split_pairs(0.1, seed=4)[0] != held_out
    assert split_pairs(0.0, seed=3) == ([], pairs)


# TranslationVocabulary.


@pytest.mark.parametrize(
    "algorithm", ["byte-bpe", "sentencepiece-bpe", "unigram", "wordpiece", "char", "byte"]
)
def test_sentences_are_framed_and_come_back(algorithm: str) -> None:
    texts = [text for both in zip(*sentences(50, 0), strict=True) for text in both]
    with mock.patch("sys.stderr"):
        vocabulary = TranslationVocabulary.learn(
            texts, algorithm, 300 if "byte" in algorithm else 40
        )
    assert (vocabulary.pad, vocabulary.bos, vocabulary.eos, vocabulary.unk) == (0, 1, 2, 3)
    ((first, *ids, last),) = vocabulary.encode_targets(["zwei fünf"])
    assert (first, last) == (vocabulary.bos, vocabulary.eos)
    assert max(ids) < vocabulary.size
    assert vocabulary.decode([first, *ids, last, *ids, vocabulary.pad]) == "zwei fünf"
    # A special token that is written in a text is text.
    assert vocabulary.eos not in vocabulary.encode_targets(["one </s>"])[0][1:-1]
    again = TranslationVocabulary.from_settings(json.loads(json.dumps(vocabulary.to_settings())))
    assert again.encode_sources([["one"]]) == vocabulary.encode_sources([["one"]])


def test_each_turn_of_a_source_ends() -> None:
    vocabulary = TranslationVocabulary.learn(["a b c"], "whitespace", 7)
    a, b, c = vocabulary.encode_targets(["a b c"])[0][1:-1]
    end = vocabulary.eos
    assert vocabulary.encode_sources([["a b", "c"], ["b"]]) == [[a, b, end, c, end], [b, end]]


def test_a_tokenizer_without_special_tokens_gets_new_ids(tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    file.write_text(train_tokenizer(["ab"], algorithm="byte", special=["</s>"]).to_json())
    vocabulary = TranslationVocabulary.load(str(file))
    own = vocabulary.tokenizer.special["</s>"]
    assert vocabulary.eos == own
    new = [vocabulary.pad, vocabulary.bos, vocabulary.unk]
    assert new == [257, 258, 259]
    assert vocabulary.size == 260
    assert vocabulary.decode([*new, *vocabulary.tokenizer.encode("ab"), own]) == "ab"


# Batches.


def some_pairs(count: int) -> EncodedPairs:
    random = np.random.default_rng(0)
    lengths = random.integers(2, 40, (count, 2))
    rows = [[np.full(length, n, np.int32) for length in of] for n, of in enumerate(lengths)]
    texts = [Pair("", "", str(n)) for n in range(count)]
    return EncodedPairs(texts, [row[0] for row in rows], [row[1] for row in rows])


def test_batches_have_each_pair_once_within_so_many_tokens(tmp_path: Path) -> None:
    pairs = some_pairs(200)
    config = settings(tmp_path, {}, batch_size=300)
    epochs = [list(PairBatches(pairs, config, CPU, epoch, pad=-1)) for epoch in (0, 0, 1)]
    for batches in epochs:
        seen = [int(row[0]) for source, _, _, _ in batches for row in source]
        assert sorted(seen) == list(range(200))
        for source, lengths, target, weight in batches:
            assert max(source.numel(), target[:, 1:].numel()) <= 300
            assert lengths.tolist() == (source >= 0).sum(1).tolist()
            assert weight == 1
    real = sum(int((target[:, 1:] >= 0).sum()) for _, _, target, _ in epochs[0])
    padded = sum(target[:, 1:].numel() for _, _, target, _ in epochs[0])
    assert real > 0.85 * padded
    same, other = ([source.tolist() for source, *_ in epochs[n]] for n in (1, 2))
    assert [source.tolist() for source, *_ in epochs[0]] == same != other


def test_a_pair_longer_than_a_batch_is_one() -> None:
    pairs = EncodedPairs([], [np.arange(n) for n in (3, 50, 3)], [np.arange(n) for n in (3, 3, 3)])
    assert sorted(map(sorted, batch_by_tokens(pairs, 12, np.arange(3)))) == [[0, 2], [1]]


@pytest.mark.parametrize("ranks", [2, 3])
def test_processes_share_each_batch_and_their_weights_make_the_mean(
    tmp_path: Path, ranks: int
) -> None:
    pairs = some_pairs(31)
    config = settings(tmp_path, {}, batch_size=120)
    alone = list(PairBatches(pairs, config, CPU, 0, pad=-1))
    shares = [
        list(PairBatches(pairs, config, Process(rank, ranks, CPU.device), 0, pad=-1))
        for rank in range(ranks)
    ]
    for whole, *parts in zip(alone, *shares, strict=True):
        mean = whole[2][:, 1:][whole[2][:, 1:] >= 0].double().mean()
        means = [part[2][:, 1:][part[2][:, 1:] >= 0].double().mean() for part in parts]
        together = sum(m * part[3] for m, part in zip(means, parts, strict=True)) / ranks
        assert float(together) == pytest.approx(float(mean))
    assert any(int(part[3]) == 0 and len(part[0]) == 1 for share in shares for part in share)


# Training.


@pytest.mark.parametrize(("arch", "bleu"), [("rnn", 10), ("attention", 30), ("transformer", 40)])
def test_every_architecture_learns_and_is_measured(
    arch: Any, bleu: float, numbers: dict[str, list[str]], tmp_path: Path
) -> None:
    config = settings(tmp_path, numbers, arch=arch, epochs=15, width=32, val_limit=10)
    path = train(config)
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert records[-1]["val_loss"] < 0.6 * records[0]["val_loss"]
    assert max(record["bleu"] for record in records) > bleu
    assert records[-1]["perplexity"] == pytest.approx(math.exp(records[-1]["val_loss"]))
    header = checkpoint.read_header(path, "translate")
    best = max(records, key=lambda record: record["bleu"])
    assert header.metrics["bleu"] == best["bleu"]
    samples = (tmp_path / "samples.txt").read_text().split("-" * 20)
    assert len(samples) == 16
    first = Path(numbers["val_source"][0]).read_text().splitlines()[0]
    assert samples[1].startswith(f" epoch 1\n{first}\n= ")
    model = load(path, "cpu", "fp32")
    assert (model.longest, model.context) == (7, 0)
    (loss, tokens) = evaluate.reference_loss(
        [Pair(s, t, "") for s, t in zip(*sentences(20, 1), strict=True)], model
    )
    assert loss == pytest.approx(best["val_loss"], abs=1e-4)
    assert tokens == sum(len(text.split()) + 1 for text in sentences(20, 1)[0])


class Stop(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize("arch", ["attention", "transformer"])
def test_a_resumed_run_is_the_uninterrupted_one(
    arch: Any, numbers: dict[str, list[str]], tmp_path: Path
) -> None:
    changed: dict[str, Any] = {"arch": arch, "epochs": 3, "dropout": 0.3, "swa_epochs": 2,
                               "scheduled_sampling": 0.3}  # fmt: skip
    whole = train(settings(tmp_path / "whole", numbers, **changed))
    real = validation.validation_scores
    calls = 0

    def scores(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise Stop
        return real(*arguments)

    target = "dlkit.translate.train.validation_scores"
    with mock.patch(target, scores), pytest.raises(Stop):
        train(settings(tmp_path / "parts", numbers, **changed))
    parts = train(settings(tmp_path / "parts", numbers, **changed, resume=True))
    for name in ("best.safetensors", "last.safetensors"):
        both = [weights(path.with_name(name)) for path in (whole, parts)]
        assert all(torch.equal(tensor, both[1][name]) for name, tensor in both[0].items())
    assert (tmp_path / "whole/samples.txt").read_text() == (
        tmp_path / "parts/samples.txt"
    ).read_text()


def options_of(files: dict[str, list[str]]) -> list[str]:
    """The files as options of the command."""
    return [
        part
        for name, values in files.items()
        for value in values
        for part in (f"--{name.replace('_', '-')}", value)
    ]


def test_two_processes_train_what_one_does(numbers: dict[str, list[str]], tmp_path: Path) -> None:
    # Not adam, which follows even the sign of gradients that are zero but for rounding.
    options = (
        "--arch transformer --width 8 --layers 1 --heads 1 --dropout 0 --epochs 2 --device cpu"
        " --batch-size 256 --warmup 1 --precision fp32 --tokenizer words --workers 1"
        " --optimizer momentum --lr 0.1"
    )
    command = ["translate", "train", *options_of(numbers), *options.split(), "--out"]
    alone = run(*command, tmp_path / "1")
    assert alone.code == 0, alone.err
    several = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", "-m"]
    done = subprocess.run(
        [sys.executable, *several, "dlkit", *command, str(tmp_path / "2")],
        capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    folders = [tmp_path / "1", tmp_path / "2"]
    both = [weights(folder / "last.safetensors") for folder in folders]
    for name, weight in both[0].items():
        torch.testing.assert_close(weight, both[1][name], atol=1e-5, rtol=1e-4)
    logs = [(folder / "log.jsonl").read_text().splitlines() for folder in folders]
    losses = [[json.loads(line)["val_loss"] for line in log] for log in logs]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    assert losses[0][1] < losses[0][0]


def test_training_goes_on_from_a_model_with_its_vocabulary(
    numbers: dict[str, list[str]], tmp_path: Path
) -> None:
    first = train(settings(tmp_path / "first", numbers, arch="attention", cell="lstm", epochs=1))
    config = TranslateTrainConfig(
        source=[write(tmp_path / "s", ["six"])], target=[write(tmp_path / "t", ["sechs"])],
        val_share=0.0, init_from=str(first), out=tmp_path / "second", epochs=1, lr=0.0,
        device="cpu", precision="fp32", workers=1,
    )  # fmt: skip
    second = train(config)
    assert all(torch.equal(w, weights(second)[name]) for name, w in weights(first).items())
    headers = [checkpoint.read_header(path) for path in (first, second)]
    assert headers[0].settings["tokenizer"] == headers[1].settings["tokenizer"]
    assert headers[1].arch == "attention"
    for option in (["--width", "8"], ["--tokenizer", "byte"], ["--arch", "rnn"]):
        done = run("translate", "train", "--init-from", first, "--out", tmp_path / "x", *option)
        assert done.code == 2
        assert "leave" in done.err


def test_scheduled_sampling_rises_over_the_epochs(
    numbers: dict[str, list[str]], tmp_path: Path
) -> None:
    seen: list[float] = []

    class Watched(nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, source: Any, lengths: Any, target: Any, sampled: float, at: Any) -> Any:
            seen.append(sampled)
            return self.model(source, lengths, target, sampled, at)

    config = settings(tmp_path, numbers, epochs=3, scheduled_sampling=0.5, best_metric="loss",
                      val_limit=0)  # fmt: skip
    with mock.patch.object(Process, "wrap", lambda self, model: Watched(model)):
        train(config)
    assert list(dict.fromkeys(seen)) == [0.0, 0.25, 0.5]
    record = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[0])
    assert "bleu" not in record
    assert record["score"] == -record["val_loss"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--arch rnn --heads 2", "--heads is for transformer"),
        ("--arch rnn --score dot", "--score is for attention"),
        ("--reverse", "--reverse is for rnn"),
        ("--cell lstm", "--cell is for rnn, attention"),
        ("--optimizer sgd --beta2 0.9", "--beta2: has no effect on sgd"),
        (
            "--tokenizer english-8k --vocab-size 100",
            "--vocab-size: the tokenizer english-8k is not learned",
        ),
        ("--tokenizer byte --vocab-size 100", "--vocab-size: bytes always have"),
        ("--val-share 0.2", "--val-share: has no effect with a file"),
        ("--val-limit 0", "--best-metric bleu: needs translations"),
        ("--tokenizer nothing", "or learned from the text: bpe, byte-bpe"),
        ("--warmup 0", "--schedule inverse-sqrt falls from the end of --warmup"),
        ("--keys en", "--keys en: not two names; give two"),
        ("--width 10", "--width 10"),
    ],
)
def test_an_option_without_effect_is_refused(
    options: str, message: str, numbers: dict[str, list[str]], tmp_path: Path
) -> None:
    done = run(
        "translate", "train", *options_of(numbers), "--out", tmp_path / "run", *options.split()
    )
    assert done.code == 2
    assert message in done.err.splitlines()[-1]
    assert "Traceback" not in done.err


def test_no_pairs_are_said(tmp_path: Path) -> None:
    empty = write(tmp_path / "empty.tsv", ["a", ""])
    for arguments, message in (
        ([], "nothing to train on"),
        ([empty], "no pairs to train on"),
        ([tmp_path / "none.tsv"], "No such file"),
        (["--source", empty], "1 source files and 0 target files"),
    ):
        done = run("translate", "train", *arguments, "--out", tmp_path / "run")
        assert done.code == 2
        assert message in done.err.splitlines()[-1]


# Scores.


def files_of(folder: Path) -> tuple[str, str, str, list[str], list[list[str]]]:
    source, first = sentences(30, 5)
    written = [text.replace("drei", "vier") for text in first]
    second = [" ".join(reversed(text.split())) for text in first]
    names = [write(folder / name, texts)
             for name, texts in (("hyp", written), ("r1", first), ("r2", second))]  # fmt: skip
    write(folder / "src", source)
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
    file = write(tmp_path / "a", texts)
    command = ["translate", "evaluate", "--hyp", file, "--ref", file, "--by-length", "-f", "json"]
    assert "give --source" in run(*command).err
    found = json.loads(run(*command, "--source", file).out)
    groups = {score["label"]: score["definition"] for score in found if score["label"] != "all"}
    assert list(groups) == ["1-9 words", "10-14 words", "15-19 words", "60 words or more"]
    assert [int(text.rpartition(", ")[2].split()[0]) for text in groups.values()] == [2, 2, 1, 1]


def test_the_worst_translations_come_first(tmp_path: Path) -> None:
    written = ["good day", "nothing like it", "good nights"]
    hyp = write(tmp_path / "h", written)
    ref = write(tmp_path / "r", ["good day", "xyz", "good night"])
    out = run("translate", "evaluate", "--hyp", hyp, "--ref", ref, "--worst", 2, "-f", "json").out
    assert [(row["line"], row["translation"]) for row in json.loads(out)] == [
        (2, "nothing like it"),
        (3, "good nights"),
    ]
    lower = write(tmp_path / "l", [text.upper() for text in written])
    command = ["translate", "evaluate", "--hyp", lower, "--ref", hyp, "-f", "json"]
    values = [json.loads(run(*command, *more).out)[1]["value"] for more in ([], ["--lowercase"])]
    assert values[0] < 10
    assert values[1] == 100


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    three, two = write(tmp_path / "3", ["a"] * 3), write(tmp_path / "2", ["b"] * 2)
    for command, message in (
        (["--hyp", three, "--ref", two], f"{three} has 3 lines and {two} 2"),
        (["--hyp", three], "give --ref"),
        ([], "give --source"),
        (["--hyp", three, "--ref", three, "--beam", 2], "--beam: has no effect with --hyp"),
    ):
        done = run("translate", "evaluate", *command)
        assert (done.code, done.err.count("\n")) == (2, 1)
        assert message in done.err


def test_a_model_is_measured_with_its_loss(numbers: dict[str, list[str]], tmp_path: Path) -> None:
    path = train(settings(tmp_path / "run", numbers, epochs=1, arch="rnn"))
    model = load(path, "cpu", "fp32")
    for parameter in model.network.parameters():
        nn.init.zeros_(parameter)
    source, ref = numbers["val_source"][0], numbers["val_target"][0]
    found = evaluate.translate_file(source, [ref], model, Search(beam=1, max_length=2))
    scores = {score.metric: score.value for score in evaluate.scores(found)}  # type: ignore[union-attr]
    # All tokens are as probable.
    assert scores["loss"] == pytest.approx(math.log(model.vocabulary.size), abs=1e-4)
    assert scores["perplexity"] == pytest.approx(model.vocabulary.size, abs=1e-2)
    assert len(found.translations) == 20
    listed = list(evaluate.evaluate_checkpoint([source, ref], model=str(path)))
    metrics = [getattr(score, "metric", None) for score in listed]
    assert metrics == ["bleu", "chrf", "loss", "perplexity"]


def test_dialogues_are_evaluated_with_the_turns_as_they_were(tmp_path: Path) -> None:
    """The answer is the turn before the question: it cannot be known without."""
    draw = random.Random(0)
    rows = []
    for _ in range(150):
        word = draw.choice(list(NUMBERS))
        rows += [f"{word}\tyes", f"again\t{word}", "\t"]
    table = write(tmp_path / "talk.tsv", rows)
    config = settings(tmp_path / "run", {"data": [table]}, arch="attention", context=2, epochs=12,
                      width=32, val_share=0.3, tokenizer="whitespace", max_ratio=0.0,
                      best_metric="loss")  # fmt: skip
    with mock.patch("dlkit.translate.data.hold_out", lambda pairs, *_, key: (pairs[:20], pairs)):
        path = train(config)
    source = write(tmp_path / "q", ["two", "again", "", "five", "again"])
    ref = write(tmp_path / "a", ["yes", "two", "", "yes", "five"])
    found = evaluate.translate_file(source, [ref], load(path, "cpu", "fp32"), Search(beam=1))
    assert found.translations == ["yes", "two", "", "yes", "five"]
