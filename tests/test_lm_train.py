"""Training language models: codec, the corpus, batches, losses, runs and how they go on."""

import gzip
import inspect
import json
import math
import os
import subprocess
import sys
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zstandard
from safetensors.torch import save_file
from torch import Tensor, nn

from dlkit.core.io.scores import Score
from dlkit.core.parallel.distributed import Process
from dlkit.core.store import checkpoint
from dlkit.core.store.checkpoint import Header
from dlkit.lm_generate import corpus, perplexity, train_network
from dlkit.lm_generate.bilm import bidirectional_loss, bidirectional_losses
from dlkit.lm_generate.causal_lm import CausalLM
from dlkit.lm_generate.config import NEURAL, OWN, LmTrainConfig, by_arch
from dlkit.lm_generate.data import Streams, Windows
from dlkit.lm_generate.evaluate import evaluate
from dlkit.lm_generate.language_model import LanguageModel
from dlkit.lm_generate.model import architecture, build
from dlkit.lm_generate.text_codec import TextCodec, split_pieces
from dlkit.lm_generate.train import train
from tests.conftest import run

WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", "the", "dog", "ran", "to", "a", "log"]
SINGLE_PROCESS = Process(0, 1, torch.device("cpu"))
TINY: dict[str, Any] = {
    "width": 16, "context": 8, "batch_size": 4, "epochs": 2, "steps_per_epoch": 6,
    "device": "cpu", "precision": "fp32", "sample_tokens": 12,
}  # fmt: skip


def some_text(lines: int, seed: int = 0) -> str:
    random = np.random.default_rng(seed)
    return "".join(
        " ".join(random.choice(WORDS, random.integers(1, 9)).tolist()) + "\n" for _ in range(lines)
    )


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(some_text(120))
    return path


def settings(text: Path, out: Path, **changed: Any) -> LmTrainConfig:
    given = {**TINY, **changed}
    if given.get("arch") == "bengio":
        given["context"] = 3
    if given.get("arch") in {"bilm", "bert", "t5"}:
        del given["sample_tokens"]
    return LmTrainConfig(data=[str(text)], out=out, **given)


def weights(path: Path) -> dict[str, Tensor]:
    return checkpoint.load(path)[1]


# ---- codec ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["char", "byte", "byte-bpe", "words", "whitespace", "bpe"])
def test_units_give_the_text_back_with_its_lines(algorithm: str) -> None:
    text = some_text(30)
    codec = TextCodec.learn([text], algorithm, 300, "gpt")
    ids = codec.encode(text)
    assert codec.decode(ids) == text
    assert max(ids) < codec.size
    for copy in (TextCodec.from_settings(codec.to_settings()), codec):
        in_blocks = list(copy.encode_blocks(text.splitlines(keepends=True)))
        assert np.concatenate(in_blocks).tolist() == ids
    ends = algorithm in {"words", "whitespace", "bpe"}
    assert (codec.line_end is not None) == ends
    assert codec.begin == codec.line_end
    if ends:
        assert ids.count(codec.tokenizer.special["</s>"]) == text.count("\n")


def test_a_long_text_is_encoded_in_pieces_of_whole_lines_or_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dlkit.lm_generate.text_codec.PIECE", 1000)
    for text in (some_text(400), some_text(400).replace("\n", " ")):
        cut = list(split_pieces(text))
        assert "".join(cut) == text
        assert len(cut) > 5
        assert all(piece[-1] == "\n" or after[0] == " " for piece, after in pairwise(cut))
        codec = TextCodec.learn([text], "char", 300, "gpt")
        assert np.concatenate(list(codec.encode_blocks([text], 2))).tolist() == codec.encode(text)


def test_special_tokens_are_those_of_the_architecture() -> None:
    bert = TextCodec.learn([some_text(9)], "char", 300, "bert")
    assert bert.tokenizer.encode("[MASK]", parse_special=True) == [bert.tokenizer.special["[MASK]"]]
    t5 = TextCodec.learn([some_text(9)], "words", 300, "t5")
    assert {"<pad>", "</s>", "<extra_id_0>", "<extra_id_99>"} <= t5.tokenizer.special.keys()


# ---- the corpus ----------------------------------------------------------------------------------


def made(config: LmTrainConfig) -> corpus.Corpus:
    corpus.prepare(by_arch(config))
    return corpus.open_corpus(config.out)


def test_the_end_of_the_text_is_held_out_where_a_line_ends(text: Path, tmp_path: Path) -> None:
    found = made(settings(text, tmp_path))
    whole = text.read_text()
    training, held_out = (
        found.codec.decode(p.tolist()) for p in (found.training, found.validation)
    )
    assert training + held_out == whole
    assert training.endswith("\n")
    assert 0 <= len(training) - 0.9 * len(whole) < 40
    assert found.training.dtype == np.uint16
    assert isinstance(found.training, np.memmap)


def test_files_of_all_kinds_make_one_corpus(tmp_path: Path) -> None:
    parts = [some_text(20, seed) for seed in range(4)]
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt").write_text(parts[0])
    (folder / "b.txt.gz").write_bytes(gzip.compress(parts[1].encode()))
    (folder / "c.txt.zst").write_bytes(zstandard.compress(parts[2].encode()))
    (tmp_path / "d").write_text(parts[3])
    config = settings(folder, tmp_path / "run", val_share=0.0)
    config.data.append(str(tmp_path / "d"))
    found = made(config)
    assert found.codec.decode(found.training.tolist()) == "".join(parts)
    assert len(found.validation) == 0
    config = settings(folder, tmp_path / "words", tokenizer="words", val=[str(tmp_path / "d")])
    found = made(config)
    # Each file begins with the token that also ends its lines.
    assert found.codec.decode(found.training.tolist()) == "\n" + "\n".join(parts[:3])
    assert found.codec.decode(found.validation.tolist()) == "\n" + parts[3]


def test_a_text_of_one_line_is_cut_between_characters(tmp_path: Path) -> None:
    path = tmp_path / "line.txt"
    path.write_text("ä€" * 50_000)
    found = made(settings(path, tmp_path / "run", val_share=0.5))
    assert len(found.training) in {50_000, 50_001}
    assert len(found.training) + len(found.validation) == 100_000


def test_words_are_learned_from_the_text_to_train_on_only(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("a b\n" * 90 + "c b\n" * 10)
    found = made(settings(path, tmp_path / "run", tokenizer="words"))
    assert set(found.codec.tokenizer.vocab) == {"a", "b"}
    assert found.codec.tokenizer.unknown_id in found.validation


def test_more_ids_than_two_bytes_hold_take_four(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("".join(f"w{number} " * 2 + "\n" for number in range(66_000)))
    config = settings(path, tmp_path / "run", tokenizer="whitespace", vocab_size=70_000)
    config.val_share = 0.0
    found = made(config)
    assert found.training.dtype == np.uint32
    assert found.codec.decode(found.training[:5].tolist()) == "\nw0 w0\nw1"


# ---- batches -------------------------------------------------------------------------------------


def test_each_pass_shows_each_token_once_and_processes_share_it() -> None:
    ids = np.arange(1000, dtype=np.uint16)
    config = by_arch(settings(Path(), Path(), batch_size=6, steps_per_epoch=0, epochs=9))
    seen = []
    for epoch in range(3):
        whole = list(Windows(ids, config, SINGLE_PROCESS, epoch, 8))
        halves = [
            list(Windows(ids, config, Process(rank, 2, SINGLE_PROCESS.device), epoch, 8))
            for rank in (0, 1)
        ]
        for (x, y), (a, _), (b, _) in zip(whole, *halves, strict=True):
            assert torch.equal(x[:, 1:], y[:, :-1])
            assert torch.equal(x[0::2], a)
            assert torch.equal(x[1::2], b)
        seen.append(torch.cat([y.flatten() for _, y in whole]))
    # An epoch is a whole number of batches, a pass a whole number of windows.
    assert len(seen[0].unique()) == len(seen[0]) == 960
    assert not torch.equal(seen[0], seen[1])
    again = torch.cat([y.flatten() for _, y in Windows(ids, config, SINGLE_PROCESS, 1, 8)])
    assert torch.equal(seen[1], again)


def test_short_epochs_go_on_with_the_pass() -> None:
    ids = np.arange(1000, dtype=np.uint16)
    long = by_arch(settings(Path(), Path(), batch_size=4, steps_per_epoch=12))
    short = by_arch(settings(Path(), Path(), batch_size=4, steps_per_epoch=4))
    for arch in (Windows, Streams):
        expected = [x for x, _ in arch(ids, long, SINGLE_PROCESS, 0, 8)]
        found = [x for epoch in range(3) for x, _ in arch(ids, short, SINGLE_PROCESS, epoch, 8)]
        assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_a_stream_goes_on_where_the_batch_before_ended() -> None:
    ids = np.arange(1000, dtype=np.uint16)
    config = by_arch(settings(Path(), Path(), batch_size=4, steps_per_epoch=0, arch="lstm"))
    batches = list(Streams(ids, config, SINGLE_PROCESS, 0, 8))
    assert len(batches) == 999 // 4 // 8 - 1
    for (x, y), (after, _) in pairwise(batches):
        assert torch.equal(x[:, 1:], y[:, :-1])
        assert torch.equal(y[:, -1], after[:, 0])
    rows = [
        list(Streams(ids, config, Process(rank, 2, SINGLE_PROCESS.device), 0, 8)) for rank in (0, 1)
    ]
    assert torch.equal(rows[1][3][0], batches[3][0][1::2])


def test_a_text_shorter_than_a_window_is_said(tmp_path: Path) -> None:
    path = tmp_path / "short.txt"
    path.write_text("a cat\n")
    for options in (["--arch", "gpt"], ["--arch", "lstm", "--batch-size", "50"]):
        out = tmp_path / options[1]
        done = run("lm-generate", "train", path, "--out", out, *options, "--device", "cpu")
        assert done.code == 2
        assert "the training text has" in done.err
        assert "give more text" in done.err
    path.write_text("")
    done = run("lm-generate", "train", path, "--out", tmp_path / "none")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "no text in it" in done.err


# ---- losses --------------------------------------------------------------------------------------


def digits(codec: TextCodec) -> LanguageModel:
    """An lstm that finds all ten digits equally probable, and nothing else possible."""
    network: Any = build("lstm", vocab_size=codec.size, width=4)
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    network.bias.data[[codec.tokenizer.unknown_id, codec.tokenizer.vocab["\n"]]] = -torch.inf
    return CausalLM("digits", Header("lm-generate", "lstm", {}, []), codec, network.eval())


def measured(model: LanguageModel, path: Path) -> dict[str, float | None]:
    scores = (score for score in evaluate(model, [str(path)]) if isinstance(score, Score))
    return {score.metric: score.value for score in scores}


def test_the_perplexity_of_uniform_digits_is_ten(tmp_path: Path) -> None:
    path = tmp_path / "digits.txt"
    path.write_text("".join(np.random.default_rng(0).choice(list("0123456789"), 1000)))
    codec = TextCodec.learn([path.read_text()], "char", 300, "gpt")
    found = measured(digits(codec), path)
    assert found["perplexity"] == pytest.approx(10, abs=1e-4)
    assert found["loss"] == pytest.approx(math.log(10), abs=1e-5)
    assert found["bits_per_character"] == pytest.approx(math.log2(10), abs=1e-5)


def test_scores_do_not_depend_on_the_tokens(tmp_path: Path) -> None:
    """Two uniform models, of bytes and of characters, that find a text equally probable."""
    path = tmp_path / "text.txt"
    path.write_text("ab cd\nab\n")
    codec = TextCodec.learn(["ab cd\n"], "words", 300, "gpt")
    network: Any = build("lstm", vocab_size=codec.size, width=4)
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    model = CausalLM("words", Header("lm-generate", "lstm", {}, []), codec, network.eval())
    found = measured(model, path)
    nats = 5 * math.log(codec.size)  # three words and the ends of two lines
    assert found["word_perplexity"] == pytest.approx(math.exp(nats / 3), rel=1e-4)
    assert found["bits_per_character"] == pytest.approx(nats / math.log(2) / 9, rel=1e-4)


@pytest.mark.parametrize(("length", "stride"), [(40, 8), (41, 3), (7, 5), (9, 1), (2, 4), (33, 6)])
@torch.no_grad()
def test_windows_foretell_each_token_once_from_what_they_hold(length: int, stride: int) -> None:
    torch.manual_seed(0)
    network: Any = build("gpt", vocab_size=7, context=8, layers=1, heads=1, width=8).eval()
    ids = np.random.default_rng(0).integers(0, 7, length)
    found = perplexity.window_losses(network, ids, 8, stride, SINGLE_PROCESS)
    assert len(found) == length - 1
    for place in range(1, length):
        number = max(0, -(-(place - 8) // stride))  # of the window that first foretells it
        seen = torch.from_numpy(ids[number * stride : place])[None]
        expected = -network(seen)[0, -1].log_softmax(-1)[ids[place]]
        assert found[place - 1] == pytest.approx(float(expected), abs=1e-5)


@pytest.mark.parametrize("streams", [1, 3, 16])
@torch.no_grad()
def test_streams_foretell_each_token_once(streams: int) -> None:
    torch.manual_seed(0)
    network: Any = build("gru", vocab_size=7, width=8).eval()
    ids = np.random.default_rng(0).integers(0, 7, 600)
    found = perplexity.stream_losses(network, ids, SINGLE_PROCESS, streams)
    size = -(-599 // streams)
    expected = []
    for start in range(0, 599, size):
        part = torch.from_numpy(ids[start : start + size + 1])
        expected.append(
            -network(part[None, :-1])[0].log_softmax(-1)[range(len(part) - 1), part[1:]]
        )
    np.testing.assert_allclose(found, torch.cat(expected), atol=1e-5)


@torch.no_grad()
def test_a_bilm_is_measured_from_both_sides() -> None:
    torch.manual_seed(0)
    network: Any = build("bilm", vocab_size=7, width=8, context=50).eval()
    ids = np.random.default_rng(0).integers(0, 7, 30)
    losses = bidirectional_losses(network, ids, 25, SINGLE_PROCESS)
    whole = torch.from_numpy(ids)[None]
    right, left = network(whole)
    before = nn.functional.cross_entropy(right[0, :-1], whole[0, 1:])
    behind = nn.functional.cross_entropy(left[0, 1:], whole[0, :-1])
    assert losses.mean() == pytest.approx(float(before + behind) / 2, abs=1e-5)
    with_one_more = torch.cat([whole, torch.tensor([[3]])], dim=1)
    trained = bidirectional_loss(network, whole, with_one_more[:, 1:], None)
    last = nn.functional.cross_entropy(right[0], with_one_more[0, 1:])
    assert float(trained) == pytest.approx(float(last + behind) / 2, abs=1e-5)


def test_a_network_that_knows_nothing_loses_the_logarithm_of_its_vocabulary() -> None:
    for arch in ("bert", "t5"):
        codec = TextCodec.learn([some_text(50)], "char", 300, arch)
        network: Any = build(arch, vocab_size=codec.size, context=64, width=8, layers=1, heads=1)
        for parameter in network.parameters():
            nn.init.zeros_(parameter)
        ids = torch.tensor([codec.encode(some_text(50))[:60]] * 3)
        loss = architecture(arch).kind.objective(codec)(network, ids, ids, None)
        assert loss.item() == pytest.approx(math.log(codec.size), abs=1e-4)


@pytest.mark.parametrize("arch", NEURAL)
def test_the_settings_of_a_network_reach_it(arch: Any) -> None:
    config = by_arch(LmTrainConfig(data=[], arch=arch))
    given = architecture(arch).settings(config, 9)
    options = {field.name for field in fields(LmTrainConfig)}
    understood = set(inspect.signature(type(build(arch, **given)).__init__).parameters)
    assert understood & options == set(given)
    assert {name for name in given if name in OWN} == {
        name for name in understood & options if name in OWN and arch in OWN[name]
    }


# ---- runs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("arch", NEURAL)
def test_every_architecture_learns_resumes_and_is_measured(
    arch: Any, text: Path, tmp_path: Path
) -> None:
    lasting = {"lr": 0.01, "epochs": 3}
    whole = train(settings(text, tmp_path / "whole", arch=arch, **lasting))
    log = [json.loads(line) for line in (tmp_path / "whole/log.jsonl").read_text().splitlines()]
    assert log[-1]["val_loss"] < log[0]["val_loss"]
    assert log[-1]["perplexity"] == pytest.approx(math.exp(log[-1]["val_loss"]))

    broken = settings(text, tmp_path / "broken", arch=arch, **lasting)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dlkit.lm_generate.train_network.held_out_scores", failing_in(2))
        with pytest.raises(KeyboardInterrupt):
            train(broken)
    broken.resume = True
    text_before = text.read_text()
    resumed = train(broken)
    assert text.read_text() == text_before
    for path in (whole, whole.with_name("last.safetensors")):
        other = weights(resumed.with_name(path.name))
        assert all(torch.equal(w, other[name]) for name, w in weights(path).items())

    metrics = checkpoint.read_header(whole).metrics
    done = run("lm-generate", "train", text, "--arch", arch, "--out", tmp_path / "whole")
    assert done.code == 2
    assert "holds a run already" in done.err or "was started with" in done.err
    assert metrics == checkpoint.read_header(whole).metrics


def test_bert_also_learns_which_halves_belong_together(text: Path, tmp_path: Path) -> None:
    path = train(settings(text, tmp_path, arch="bert", next_sentence=True, context=16))
    assert weights(path)["relation.weight"].shape == (2, 16)
    # Two halves of unlike loss: that of the tokens, and at the start about ln 2.
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    without = train(settings(text, tmp_path / "without", arch="bert", context=16))
    other = [json.loads(line) for line in without.with_name("log.jsonl").read_text().splitlines()]
    assert log[0]["loss"] - other[0]["loss"] == pytest.approx(math.log(2), abs=0.2)


def failing_in(epoch: int) -> Any:
    """The real thing, up to this evaluation."""
    calls = 0
    original = train_network.held_out_scores

    def scores(*arguments: Any) -> dict[str, float]:
        nonlocal calls
        calls += 1
        if calls == epoch:
            raise KeyboardInterrupt
        return original(*arguments)

    return scores


def test_a_killed_run_goes_on(text: Path, tmp_path: Path) -> None:
    """kill -9 between two epochs and in the middle of one; stdin is not needed again."""
    out = tmp_path / "run"
    options = ["--epochs", "40", "--steps-per-epoch", "4", "--context", "8", "--width", "8"]
    command = [sys.executable, "-m", "dlkit", "lm-generate", "train", "-", "--out", str(out)]
    command += [*options, "--device", "cpu", "--layers", "1", "--heads", "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (
        text.open() as file,
        subprocess.Popen(
            command, stdin=file, stderr=subprocess.PIPE, env=environment, text=True
        ) as process,
    ):
        assert process.stderr is not None
        while not next(process.stderr).startswith("epoch 3/"):
            pass
        process.kill()
    done = run(*command[3:], "--resume")
    assert done.code == 0, done.err
    assert "resuming" in done.err
    assert len((out / "log.jsonl").read_text().splitlines()) == 40
    assert (out / "samples.txt").read_text().count("- epoch ") == 40


def test_samples_are_written_with_their_epoch(text: Path, tmp_path: Path) -> None:
    train(settings(text, tmp_path, arch="lstm", tokenizer="words"))
    samples = (tmp_path / "samples.txt").read_text()
    assert samples.startswith("-------------------- epoch 1\n")
    assert "\n-------------------- epoch 2\n" in samples
    assert set(samples.split()) - {"epoch", "1", "2", "-" * 20} <= {*WORDS}


def test_training_goes_on_from_a_model_with_its_units(text: Path, tmp_path: Path) -> None:
    first = train(settings(text, tmp_path / "first", arch="gru", tokenizer="words"))
    other = tmp_path / "other.txt"
    other.write_text(some_text(60, 5) + "zebra zebra\n")
    config = LmTrainConfig(
        data=[str(other)], out=tmp_path / "second", init_from=str(first), device="cpu",
        epochs=1, steps_per_epoch=1, batch_size=4, precision="fp32", lr=0.0,
    )  # fmt: skip
    second = train(config)
    assert all(torch.equal(w, weights(second)[name]) for name, w in weights(first).items())
    headers = [checkpoint.read_header(path) for path in (first, second)]
    assert headers[0].settings["tokenizer"] == headers[1].settings["tokenizer"]
    assert headers[1].arch == "gru"
    for option in (["--width", "8"], ["--tokenizer", "byte"], ["--arch", "lstm"]):
        done = run(
            "lm-generate", "train", other, "--init-from", first, "--out", tmp_path / "x", *option
        )
        assert done.code == 2
        assert "leave" in done.err


def test_two_processes_train_what_one_does(text: Path, tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text("import os, sys\nfrom dlkit.cli import main\nmain(sys.argv[1:])\n")
    found = []
    for processes in (1, 2):
        many = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--standalone"]
        out = tmp_path / str(processes)
        options = (
            "--arch gru --width 8 --context 8 --batch-size 4 --epochs 2 --steps-per-epoch 5"
            " --dropout 0 --device cpu --precision fp32"
        )
        command = [*(many if processes > 1 else []), "-m", "dlkit", "lm-generate", "train"]
        done = subprocess.run(
            [sys.executable, *command, str(text), "--out", str(out), *options.split()],
            capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found.append((weights(out / "last.safetensors"), (out / "log.jsonl").read_text()))
    for name, weight in found[0][0].items():
        torch.testing.assert_close(weight, found[1][0][name], atol=1e-4, rtol=1e-3)
    logs = [[json.loads(line)["val_loss"] for line in log.splitlines()] for _, log in found]
    assert logs[0] == pytest.approx(logs[1], abs=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--arch lstm --heads 2", "--heads is for"),
        ("--arch gpt --order 3", "--order is for ngram"),
        ("--arch ngram --lr 0.1", "--lr is for"),
        ("--arch bengio --layers 2", "--layers is for"),
        ("--optimizer sgd --beta2 0.9", "--beta2 is for adam"),
        ("--tokenizer english-8k --vocab-size 100", "--vocab-size is for a tokenizer"),
        ("--tokenizer byte --vocab-size 100", "--vocab-size has no use"),
        ("--val other.txt --val-share 0.2", "--val-share is for training without --val"),
        ("--tokenizer nothing", "or learned from the text: char"),
    ],
)
def test_an_option_without_effect_is_refused(
    options: str, message: str, text: Path, tmp_path: Path
) -> None:
    done = run("lm-generate", "train", text, "--out", tmp_path / "run", *options.split())
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert message in done.err


def test_evaluate_tells_files_apart_and_takes_what_was_held_out(text: Path, tmp_path: Path) -> None:
    path = train(settings(text, tmp_path / "run", arch="gpt", eval_tokens=0))
    other = tmp_path / "other.txt"
    other.write_text(some_text(20, 9))
    command = ["lm-generate", "evaluate", "-m", path, "-f", "json", "--device", "cpu"]
    both = json.loads(run(*command, text, other).out)
    assert {score["label"] for score in both} == {str(text), str(other), "all"}
    held_out = json.loads(run(*command, text, "--split", "val", "--stride", 8).out)
    loss = next(score["value"] for score in held_out if score["metric"] == "loss")
    header = checkpoint.read_header(path)
    assert loss == pytest.approx(header.metrics["val_loss"], abs=1e-5)
    short = run(*command, text, "--stride", 9)
    assert (short.code, "would skip tokens" in short.err) == (2, True)


def test_a_folder_of_hugging_face_is_fine_tuned(text: Path, tmp_path: Path) -> None:
    codec = TextCodec.learn([text.read_text()], "byte-bpe", 280, "gpt")
    shape = {"context": 16, "width": 8, "layers": 1, "heads": 2, "ffn_width": 24}
    theirs: Any = build("gpt", vocab_size=codec.size, **shape).eval()
    folder = tmp_path / "gpt2"
    folder.mkdir()
    save_file(as_gpt2(theirs.state_dict()), folder / "model.safetensors")
    config_of_theirs = {"model_type": "gpt2", "vocab_size": codec.size, "n_positions": 16}
    config_of_theirs |= {"n_embd": 8, "n_layer": 1, "n_head": 2, "n_inner": 24}
    (folder / "config.json").write_text(json.dumps(config_of_theirs))
    (folder / "vocab.json").write_text(json.dumps(codec.tokenizer.vocab))
    merges = "".join(f"{a} {b}\n" for a, b in codec.tokenizer.merges)
    (folder / "merges.txt").write_text(f"#version: 0.2\n{merges}")

    config = LmTrainConfig(
        data=[str(text)], out=tmp_path / "run", init_from=str(folder), device="cpu", lr=0.01,
        epochs=2, steps_per_epoch=4, batch_size=4, precision="fp32", context=8, dropout=0.0,
    )  # fmt: skip
    tuned = train(config)
    header = checkpoint.read_header(tuned)
    assert header.settings["network"]["ffn_width"] == 24
    ids = torch.tensor([codec.encode(text.read_text())[:17]])
    with torch.no_grad():
        untrained = nn.functional.cross_entropy(theirs(ids[:, :-1])[0], ids[0, 1:]).item()
    assert header.metrics["val_loss"] < untrained
    # Training began where the folder's model is: a rate of 0 leaves its weights.
    config.lr, config.out = 0.0, tmp_path / "same"
    same = weights(train(config))
    assert all(torch.equal(w, same[name]) for name, w in theirs.state_dict().items())


def as_gpt2(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights by their names in GPT-2, whose matrices are the other way around."""
    names = {
        "embedding.": "wte.", "position_embedding.": "wpe.", "final_norm.": "ln_f.",
        "blocks.": "h.",
        "attention_norm": "ln_1", "attention.qkv": "attn.c_attn", "attention.out": "attn.c_proj",
        ".norm": ".ln_2", ".up": ".mlp.c_fc", ".down": ".mlp.c_proj",
    }  # fmt: skip
    found = {}
    for name, weight in weights.items():
        turned = weight.dim() > 1 and name.startswith("blocks.")
        for ours, its in names.items():
            if name.startswith(ours) or (ours in name and name.startswith("h.")):
                name = name.replace(ours, its, 1)
        found[name] = (weight.T if turned else weight).contiguous()
    return found
