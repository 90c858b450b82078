"""Training that starts from a model."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from dlkit.core.store import checkpoint
from dlkit.lm_generate.config import LmTrainConfig
from dlkit.lm_generate.model import build
from dlkit.lm_generate.text_codec import TextCodec
from dlkit.lm_generate.train import train
from tests.conftest import run
from tests.lm_generate.helpers import load_weights, random_text, tiny_config


@pytest.mark.slow
def test_training_starts_from_a_model_with_its_tokenizer(text: Path, tmp_path: Path) -> None:
    first = train(tiny_config(text, tmp_path / "first", arch="gru", tokenizer="words"))
    other = tmp_path / "other.txt"
    other.write_text(random_text(60, 5) + "zebra zebra\n")
    config = LmTrainConfig(
        data=[str(other)], out=tmp_path / "second", init_from=str(first), device="cpu",
        epochs=1, steps_per_epoch=1, batch_size=4, precision="fp32", lr=0.0,
    )  # fmt: skip
    second = train(config)
    assert all(
        torch.equal(w, load_weights(second)[name]) for name, w in load_weights(first).items()
    )
    headers = [checkpoint.read_header(path) for path in (first, second)]
    assert headers[0].settings["tokenizer"] == headers[1].settings["tokenizer"]
    assert headers[1].arch == "gru"
    for option in (["--width", "8"], ["--tokenizer", "byte"], ["--arch", "lstm"]):
        done = run(
            "lm-generate", "train", other, "--init-from", first, "--out", tmp_path / "x", *option
        )
        assert done.code == 2
        assert "do not give" in done.err


@pytest.mark.slow
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
    same = load_weights(train(config))
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
