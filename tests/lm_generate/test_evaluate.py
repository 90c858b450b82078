"""Scores of models on texts."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from dlkit.core.io.scores import Score
from dlkit.core.store import checkpoint
from dlkit.core.store.checkpoint import Header
from dlkit.lm_generate.causal_lm import CausalLM
from dlkit.lm_generate.evaluate import evaluate
from dlkit.lm_generate.language_model import LanguageModel
from dlkit.lm_generate.model import build
from dlkit.lm_generate.text_codec import TextCodec
from dlkit.lm_generate.train import train
from tests.conftest import run
from tests.lm_generate.helpers import random_text, tiny_config


def test_bytes_that_are_not_utf8(file: Path, tmp_path: Path) -> None:
    latin = tmp_path / "latin.txt"
    latin.write_bytes(b"to be or not caf\xe9\n" * 20)
    result = run("lm-generate", "evaluate", latin, "-m", file)
    assert result.code == 1
    assert result.err.count("\n") == 1
    assert "--errors replace" in result.err
    replaced = run("lm-generate", "evaluate", latin, "-m", file, "--errors", "replace")
    assert replaced.code == 0, replaced.err
    assert "perplexity" in replaced.out
    options = ("--arch", "ngram", "--order", 2, "--tokenizer", "char", "--out", tmp_path / "run")
    assert run("lm-generate", "train", latin, *options).code == 2
    assert run("lm-generate", "train", latin, *options, "--errors", "replace").code == 0
    missing = run("lm-generate", "evaluate", tmp_path / "none", "-m", file)
    assert (missing.code, missing.err.count("\n")) == (1, 1)


def digit_lstm(codec: TextCodec) -> LanguageModel:
    """An lstm that finds all ten digits equally probable, and nothing else possible."""
    network: Any = build("lstm", vocab_size=codec.size, width=4)
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    network.bias.data[[codec.tokenizer.unknown_id, codec.tokenizer.vocab["\n"]]] = -torch.inf
    return CausalLM("digits", Header("lm-generate", "lstm", {}, []), codec, network.eval())


def evaluate_file(model: LanguageModel, path: Path) -> dict[str, float | None]:
    scores = (score for score in evaluate(model, [str(path)]) if isinstance(score, Score))
    return {score.metric: score.value for score in scores}


def test_the_perplexity_of_uniform_digits_is_ten(tmp_path: Path) -> None:
    path = tmp_path / "digits.txt"
    path.write_text("".join(np.random.default_rng(0).choice(list("0123456789"), 1000)))
    codec = TextCodec.learn([path.read_text()], "char", 300, "gpt")
    found = evaluate_file(digit_lstm(codec), path)
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
    found = evaluate_file(model, path)
    nats = 5 * math.log(codec.size)  # three words and the ends of two lines
    assert found["word_perplexity"] == pytest.approx(math.exp(nats / 3), rel=1e-4)
    assert found["bits_per_character"] == pytest.approx(nats / math.log(2) / 9, rel=1e-4)


def test_evaluate_scores_files_and_the_held_out_part(text: Path, tmp_path: Path) -> None:
    path = train(tiny_config(text, tmp_path / "run", arch="gpt", eval_tokens=0))
    other = tmp_path / "other.txt"
    other.write_text(random_text(20, 9))
    command = ["lm-generate", "evaluate", "-m", path, "-f", "json", "--device", "cpu"]
    both = json.loads(run(*command, text, other).out)
    assert {score["label"] for score in both} == {str(text), str(other), "all"}
    held_out = json.loads(run(*command, text, "--split", "val", "--stride", 8).out)
    loss = next(score["value"] for score in held_out if score["metric"] == "loss")
    header = checkpoint.read_header(path)
    assert loss == pytest.approx(header.metrics["val_loss"], abs=1e-5)
    short = run(*command, text, "--stride", 9)
    assert (short.code, "would skip tokens" in short.err) == (2, True)
