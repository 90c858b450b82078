"""Log-probabilities of texts."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dlkit.lm_generate.infer import score
from dlkit.lm_generate.model import build
from dlkit.lm_generate.neural import NeuralLM
from dlkit.lm_generate.text_codec import TextCodec
from tests.lm_generate.helpers import (
    CODEC,
    HAMLET,
    SMALL_GPT,
    generate_all,
    letter_codec,
    random_model,
    wrap,
)


def uniform_gpt() -> NeuralLM:
    """Every digit is equally probable."""
    codec = letter_codec("0123456789")
    uniform: Any = build("gpt", vocab_size=codec.size, **SMALL_GPT)
    for parameter in uniform.parameters():
        torch.nn.init.zeros_(parameter)
    return wrap(uniform.eval(), codec)


@pytest.mark.parametrize("arch", ["gpt", "lstm"])
def test_scores_are_those_of_the_whole_line(arch: str) -> None:
    model = random_model(arch)
    lines = ["To be, or not", "", "that", "T", "is the question"]
    found = list(score(lines, model, batch_size=3))
    for line, result in zip(lines, found, strict=True):
        ids = CODEC.encode(line)
        expected_sum = 0.0
        if len(ids) > 1:
            with torch.no_grad():
                logprobs = model.network(torch.tensor([ids]))[0].log_softmax(-1)
            expected_sum = sum(float(logprobs[t, i]) for t, i in enumerate(ids[1:]))
        assert result.text == line
        assert result.logprob == pytest.approx(expected_sum, abs=1e-3)
        assert [t.id for t in result.tokens] == ids[1:]
        assert (result.perplexity is None) == (len(ids) < 2)


@pytest.mark.parametrize("arch", ["gpt", "gru"])
def test_long_lines_are_scored_whole(arch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model(arch)
    line = HAMLET[:100].replace("\n", " ")
    [once] = score([line], model)
    assert len(once.tokens) == 99
    monkeypatch.setattr("dlkit.lm_generate.scoring.LOGITS_AT_ONCE", 100)  # part by part
    [again] = score([line], model)
    assert again.logprob == pytest.approx(once.logprob, abs=2e-3)


def test_perplexity_of_uniform_digits_is_10(tmp_path: Path) -> None:
    model = uniform_gpt()
    [result] = score(["31415926535"], model)
    # Of the tokens, the unknown one and the line's end are as probable as each digit.
    assert result.perplexity == pytest.approx(model.codec.size)
    with torch.no_grad():
        model.network.final_norm.bias.fill_(1.0)
        model.network.embedding.weight[:, 0] = torch.tensor(
            [0.0 if name in "0123456789" else -1e4 for _, name in sorted(named_tokens(model.codec))]
        )
    [result] = score(["31415926535"], model)
    assert result.perplexity == pytest.approx(10)
    counts = np.bincount(
        [t.id for r in generate_all(["1"], model, samples=50, max_tokens=20) for t in r.tokens]
    )
    assert (counts > 0).sum() == 10


def named_tokens(codec: TextCodec) -> list[tuple[int, str]]:
    return list(codec.tokenizer.names.items())
