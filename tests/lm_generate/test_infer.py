"""Language models in use."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch

from dlkit.core.errors import DlkitError
from dlkit.core.generation.sampling import Sampling
from dlkit.core.store import checkpoint
from dlkit.core.store.checkpoint import Header
from dlkit.core.store.weights import find
from dlkit.lm_generate.infer import features, generate, load, score
from dlkit.lm_generate.model import build
from dlkit.lm_generate.neural import NeuralLM
from dlkit.lm_generate.results import Features
from dlkit.lm_generate.text_codec import TextCodec
from dlkit.tokenize import train as train_tokenizer
from tests.conftest import run
from tests.lm_generate.helpers import (
    CATS,
    CODEC,
    GENERATING,
    SMALL_GPT,
    generate_all,
    letter_codec,
    random_bert,
    random_model,
    random_network,
    wrap,
)

pytestmark = pytest.mark.usefixtures("seeded")


@pytest.mark.parametrize("arch", GENERATING)
def test_the_same_seed_generates_the_same_text_in_any_batch(arch: str) -> None:
    model = random_model(arch)
    prompts = ["To", "be, or not", "question: whether 'tis", "mind"]
    how = {"samples": 3, "max_tokens": 20, "stop": ("ff",), "seed": 5}
    together = generate_all(prompts, model, batch_size=16, **how)
    assert [r.text for r in generate_all(prompts, model, batch_size=1, **how)] == [
        r.text for r in together
    ]
    assert [r.text for r in generate_all(prompts, model, batch_size=5, **how)] == [
        r.text for r in together
    ]
    assert len({r.text for r in together}) > 4
    assert together != generate_all(prompts, model, batch_size=16, **{**how, "seed": 6})
    # More samples leave the first ones as they are.
    more = generate_all(prompts, model, **{**how, "samples": 4})
    assert [r for r in more if r.sample < 3] == together


def test_sampled_tokens_follow_the_model(gpt: NeuralLM) -> None:
    """The frequencies of first tokens are the model's probabilities."""
    many = generate_all(["To be, or"], gpt, samples=3000, max_tokens=1, batch_size=500)
    with torch.no_grad():
        logits = gpt.network(torch.tensor([CODEC.encode("To be, or")]))[0, -1].double()
    logits[0] = -torch.inf
    p = logits.softmax(0).numpy()
    counts = np.bincount([r.tokens[0].id for r in many], minlength=len(p))
    often = p * 3000 > 5
    chi_square = float((((counts - p * 3000) ** 2)[often] / (p * 3000)[often]).sum())
    assert chi_square < 2 * often.sum() + 20


def test_special_and_unknown_tokens_are_never_generated() -> None:
    special = ["<unk>", "</s>", "<pad>", "<|endoftext|>"]
    tokenizer = train_tokenizer(
        ["a b c"], algorithm="words", vocab_size=9, min_count=1, special=special
    )
    codec = TextCodec(tokenizer)
    model = wrap(random_network(vocab_size=codec.size + 3), codec)
    unwritten = {tokenizer.special[name] for name in ("<unk>", "<pad>")}
    assert model.banned == unwritten | {codec.size, codec.size + 1, codec.size + 2}
    assert model.ends == {tokenizer.special["<|endoftext|>"]}
    results = generate_all(
        ["a"], model, samples=60, max_tokens=20, sampling=Sampling(temperature=9)
    )
    made = {token.id for result in results for token in result.tokens}
    assert not made & model.banned
    assert {result.finish for result in results} == {"end", "length"}
    assert any("\n" in result.text for result in results)  # </s> ends a line
    assert not any("endoftext" in result.text for result in results)


@pytest.mark.parametrize("command", ["fill", "features"])
def test_shards_of_texts_merge_into_what_one_run_makes(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    texts = "the [MASK] sat\nthe dog\nthe cat [MASK] on\n"
    with mock.patch("dlkit.lm_generate.infer.load", return_value=random_bert()):
        one = run("lm-generate", command, "-o", "one.jsonl", stdin=texts)
        assert one.code == (command == "fill"), one.err  # the second text has no gap
        for index in (0, 1):
            options = ["-o", "of.jsonl", "--shard", f"{index}/2"]
            done = run("lm-generate", command, *options, stdin=texts)
            assert done.code == (command == "fill" and index == 1), done.err
    merged = run("merge", "of.00001-of-00002.jsonl", "of.00000-of-00002.jsonl")
    assert merged.out == Path("one.jsonl").read_text()
    assert merged.out.count("\n") == 3


def test_features_of_tokens_in_their_context() -> None:
    torch.manual_seed(0)
    made: Any = build("bilm", vocab_size=CODEC.size, width=8, layers=2).eval()
    for layer in (None, 0, 1, 2):
        [found] = features(["To be"], wrap(made, arch="bilm"), layer)
        assert isinstance(found, Features)
        assert found.tokens == list("To be")
        with torch.no_grad():
            vectors = made.features(torch.tensor([CODEC.encode("To be")]))[
                2 if layer is None else layer, 0
            ]
        assert np.allclose(found.vectors, vectors.numpy(), atol=1e-5)
    [failure] = features(["To be"], wrap(made, arch="bilm"), 3)
    assert "0 to 2" in getattr(failure, "error", "")
    [of_bert] = features(["the cat sat"], random_bert())
    assert isinstance(of_bert, Features)
    assert np.shape(of_bert.vectors) == (len(of_bert.tokens), 16)
    with pytest.raises(DlkitError, match="cannot compute features"):
        next(features(["a"], wrap(random_network())))


def test_a_model_without_a_line_break_needs_a_first_character() -> None:
    codec = TextCodec(train_tokenizer(["abc"] * 3, algorithm="char"))
    model = wrap(random_network(vocab_size=codec.size), codec)
    [failure] = generate([""], model)
    assert "first character" in getattr(failure, "error", "")


def test_models_of_other_kinds_are_refused(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    checkpoint.save(other, {"x": torch.ones(1)}, Header("detect", "yolo", {}, []))
    assert "dlkit detect" in run("lm-generate", "To", "-m", other).err
    header, weights = checkpoint.load(file)
    small = letter_codec("abc").to_settings()
    changed = Header("lm-generate", "gpt", {**header.settings, "tokenizer": small}, [])
    less = tmp_path / "less.safetensors"
    checkpoint.save(less, weights, changed)
    result = run("lm-generate", "abc", "-m", less)
    assert result.code == 2
    assert "its tokenizer has 5 tokens, but its network" in result.err
    run_folder = tmp_path / "run"
    run_folder.mkdir()
    (run_folder / "best.safetensors").write_bytes(b"")
    assert "best.safetensors" in run("lm-generate", "To", "-m", run_folder).err
    less.write_bytes(file.read_bytes()[:-5])
    assert "damaged" in run("lm-generate", "abc", "-m", less).err


def test_the_bundled_english_model_prefers_english() -> None:
    model = load("english", precision="fp32")
    assert find("lm-generate", "english").stat().st_size < 8_000_000
    lines = [
        "The city was founded in the 19th century.",
        "Century 19th the in founded was city the.",
    ]
    sense, nonsense = (s.logprob for s in score(lines, model))
    assert sense is not None
    assert nonsense is not None
    assert sense > nonsense + 10


@pytest.mark.slow
def test_the_first_token_waits_for_torch_and_for_no_compiler(tmp_path: Path) -> None:
    codec = TextCodec.learn([CATS], "char", 100, "gpt")
    settings = {"vocab_size": codec.size, "context": 32, "width": 32, "heads": 2}
    described = {"network": settings, "tokenizer": codec.to_settings()}
    header = Header("lm-generate", "gpt", described, [])
    path = tmp_path / "small.safetensors"
    checkpoint.save(path, build("gpt", **settings).state_dict(), header)
    script = (
        "import atexit, json, sys\n"
        "atexit.register(lambda: print(json.dumps(list(sys.modules)), file=sys.stderr))\n"
        "from dlkit.cli import main\n"
        f"main(['lm-generate', 'the cat', '-m', {str(path)!r}, '--max-tokens', '3'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    loaded = set(json.loads(done.stderr.splitlines()[-1]))
    assert "torch" in loaded
    assert not loaded & {"torch._dynamo", "sympy", "numba", "transformers", "matplotlib"}


def test_a_checkpoint_of_0_1_with_untied_embeddings_loads(tmp_path: Path) -> None:
    made = random_network(tie_embeddings=False)
    settings = {
        "network": {"vocab_size": CODEC.size, **SMALL_GPT, "untied": True},
        "tokenizer": CODEC.to_settings(),
    }
    path = tmp_path / "old.safetensors"
    checkpoint.save(
        path, made.state_dict(), Header("lm-generate", "gpt", settings, [], dlkit="0.1.0")
    )
    model = load(path, "cpu", "fp32")
    assert "untied" not in model.header.settings["network"]
    [ours], [theirs] = (generate_all(["To"], m, max_tokens=9) for m in (model, wrap(made)))
    assert ours.text == theirs.text
