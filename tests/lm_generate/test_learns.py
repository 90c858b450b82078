"""Every architecture learns."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from dlkit.core.store import checkpoint
from dlkit.lm_generate import train_network
from dlkit.lm_generate.config import NEURAL
from dlkit.lm_generate.train import train
from tests.conftest import run
from tests.lm_generate.helpers import load_weights, tiny_config


@pytest.mark.slow
@pytest.mark.parametrize("arch", NEURAL)
def test_every_architecture_learns_and_resumes(arch: Any, text: Path, tmp_path: Path) -> None:
    lasting = {"lr": 0.01, "epochs": 3}
    whole = train(tiny_config(text, tmp_path / "whole", arch=arch, **lasting))
    log = [json.loads(line) for line in (tmp_path / "whole/log.jsonl").read_text().splitlines()]
    assert log[-1]["val_loss"] < log[0]["val_loss"]
    assert log[-1]["perplexity"] == pytest.approx(math.exp(log[-1]["val_loss"]))

    broken = tiny_config(text, tmp_path / "broken", arch=arch, **lasting)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dlkit.lm_generate.train_network.held_out_scores", fail_in(2))
        with pytest.raises(KeyboardInterrupt):
            train(broken)
    broken.resume = True
    text_before = text.read_text()
    resumed = train(broken)
    assert text.read_text() == text_before
    for path in (whole, whole.with_name("last.safetensors")):
        other = load_weights(resumed.with_name(path.name))
        assert all(torch.equal(w, other[name]) for name, w in load_weights(path).items())

    metrics = checkpoint.read_header(whole).metrics
    done = run("lm-generate", "train", text, "--arch", arch, "--out", tmp_path / "whole")
    assert done.code == 2
    assert "holds a run already" in done.err or "was started with" in done.err
    assert metrics == checkpoint.read_header(whole).metrics


@pytest.mark.slow
def test_bert_also_learns_which_halves_belong_together(text: Path, tmp_path: Path) -> None:
    path = train(tiny_config(text, tmp_path, arch="bert", next_sentence=True, context=16))
    assert load_weights(path)["relation.weight"].shape == (2, 16)
    # Two halves of unlike loss: that of the tokens, and at the start about ln 2.
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    without = train(tiny_config(text, tmp_path / "without", arch="bert", context=16))
    other = [json.loads(line) for line in without.with_name("log.jsonl").read_text().splitlines()]
    assert log[0]["loss"] - other[0]["loss"] == pytest.approx(math.log(2), abs=0.2)


def fail_in(epoch: int) -> Any:
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
