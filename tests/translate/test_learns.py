"""Trainings that must reach a score."""

import json
import math
import random
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from dlkit.core.store import checkpoint
from dlkit.translate.config import TranslationSearch
from dlkit.translate.evaluate import reference_loss, translate_file
from dlkit.translate.infer import load
from dlkit.translate.pairs import Pair
from dlkit.translate.train import train
from tests.translate.helpers import NUMBERS, configure, sentences, write_lines


@pytest.mark.slow
@pytest.mark.parametrize(("arch", "bleu"), [("rnn", 10), ("attention", 30), ("transformer", 40)])
def test_every_architecture_learns_and_is_measured(
    arch: Any, bleu: float, numbers: dict[str, list[str]], tmp_path: Path
) -> None:
    config = configure(tmp_path, numbers, arch=arch, epochs=15, width=32, val_limit=10)
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
    (loss, tokens) = reference_loss(
        [Pair(s, t, "") for s, t in zip(*sentences(20, 1), strict=True)], model
    )
    assert loss == pytest.approx(best["val_loss"], abs=1e-4)
    assert tokens == sum(len(text.split()) + 1 for text in sentences(20, 1)[0])


@pytest.mark.slow
def test_dialogues_are_evaluated_with_the_turns_as_they_were(tmp_path: Path) -> None:
    """The answer is the turn before the question: it cannot be known without."""
    draw = random.Random(0)
    rows = []
    for _ in range(150):
        word = draw.choice(list(NUMBERS))
        rows += [f"{word}\tyes", f"again\t{word}", "\t"]
    table = write_lines(tmp_path / "talk.tsv", rows)
    config = configure(tmp_path / "run", {"data": [table]}, arch="attention", context=2, epochs=12,
                      width=32, val_share=0.3, tokenizer="whitespace", max_ratio=0.0,
                      best_metric="loss")  # fmt: skip
    with mock.patch("dlkit.translate.data.hold_out", lambda pairs, *_, key: (pairs[:20], pairs)):
        path = train(config)
    source = write_lines(tmp_path / "q", ["two", "again", "", "five", "again"])
    ref = write_lines(tmp_path / "a", ["yes", "two", "", "yes", "five"])
    found = translate_file(source, [ref], load(path, "cpu", "fp32"), TranslationSearch(beam=1))
    assert found.translations == ["yes", "two", "", "yes", "five"]
