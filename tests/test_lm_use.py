"""Language models in use: choosing tokens, growing texts, scores, gaps, dialogues."""

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch

from dlkit.core.errors import DlkitError
from dlkit.core.generation import sampling, tensor_sampling
from dlkit.core.generation.sampling import Sampling
from dlkit.core.store import checkpoint
from dlkit.core.store.checkpoint import Header
from dlkit.core.store.weights import find
from dlkit.lm_generate import neural_texts
from dlkit.lm_generate.chat import Dialogue, Speakers, chat
from dlkit.lm_generate.generate import GrowingText, Limits, beam_search
from dlkit.lm_generate.infer import (
    GenerationConfig,
    StreamedText,
    features,
    fill,
    generate,
    load,
    score,
)
from dlkit.lm_generate.language_model import LanguageModel
from dlkit.lm_generate.model import architecture, build
from dlkit.lm_generate.neural import NeuralLM
from dlkit.lm_generate.ngram import NGram
from dlkit.lm_generate.results import Continuation, Features, FilledText
from dlkit.lm_generate.span_lm import SpanLM
from dlkit.lm_generate.text_codec import TextCodec
from dlkit.tokenize import Tokenizer, train
from tests.conftest import run
from tests.test_layers import loaded_by
from tests.test_lm_transformers import write_gpt2

TEXT = "To be, or not to be, that is the question: whether 'tis nobler in the mind to suffer\n" * 3
SETTINGS = {"context": 32, "layers": 2, "heads": 2, "width": 16}


def letters(characters: str) -> TextCodec:
    """Units of these characters, among them the end of a line."""
    settings = {"normalize": [], "split": "characters", "unk": "<unk>"}
    header = Header("tokenize", "char", settings, [])
    vocab = {c: i + 1 for i, c in enumerate(sorted({*characters, "\n"}))}
    content = {"header": vars(header), "special": {"<unk>": 0}, "vocab": vocab}
    return TextCodec(Tokenizer.from_settings(content))


CODEC = letters(TEXT)


def network(arch: str = "gpt", seed: int = 0, sharp: float = 6.0, **changed: Any) -> Any:
    """A random network whose next tokens differ much in probability."""
    torch.manual_seed(seed)
    made: Any = build(arch, **{"vocab_size": CODEC.size, **SETTINGS, **changed})
    for parameter in made.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    with torch.no_grad():
        made.embedding.weight.mul_(sharp)
    return made.eval()


def model_of(made: Any, codec: TextCodec = CODEC, arch: str = "gpt") -> NeuralLM:
    return architecture(arch).kind("random", Header("lm-generate", arch, {}, []), codec, made)


@pytest.fixture(scope="module")
def gpt() -> NeuralLM:
    return model_of(network())


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model as a checkpoint."""
    path = tmp_path_factory.mktemp("lm") / "random.safetensors"
    settings = {
        "network": {"vocab_size": CODEC.size, **SETTINGS},
        "tokenizer": CODEC.to_settings(),
    }
    checkpoint.save(path, network().state_dict(), Header("lm-generate", "gpt", settings, []))
    return path


def written(prompts: Sequence[str], model: LanguageModel, **how: Any) -> list[Continuation]:
    results = []
    for writing in generate(prompts, model, GenerationConfig(**how)):
        assert isinstance(writing, StreamedText)
        results.append(writing.result())
    return results


# Choosing


LOGITS = np.random.default_rng(0).normal(size=(3, 50)) * 2
CHOICES = [
    Sampling(),
    Sampling(temperature=0.5),
    Sampling(top_k=5),
    Sampling(top_p=0.7),
    Sampling(min_p=0.1),
    Sampling(temperature=1.7, top_k=20, top_p=0.9, min_p=0.02),
]


def expected(logits: np.ndarray, chosen: Sampling) -> np.ndarray:
    """The distribution that is drawn from, by the definitions, token by token."""
    p = np.exp(logits / chosen.temperature)
    p /= p.sum()
    order = sorted(range(len(p)), key=lambda i: -p[i])
    kept = order[: chosen.top_k or len(p)]
    of_kept = sum(p[i] for i in kept)
    nucleus, mass = [], 0.0
    for i in kept:
        nucleus.append(i)
        mass += p[i] / of_kept
        if mass >= chosen.top_p:
            break
    final = [i for i in nucleus if p[i] >= chosen.min_p * p[order[0]]]
    result = np.zeros(len(p))
    result[final] = p[final]
    return result / result.sum()


@pytest.mark.parametrize("chosen", CHOICES, ids=str)
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_frequencies_follow_the_distribution(chosen: Sampling, library: str) -> None:
    draws = 20_000
    uniforms = np.random.default_rng(1).random(draws, dtype=np.float32).astype(float)
    for logits in LOGITS:
        if library == "numpy":
            tokens = sampling.choose(np.tile(logits, (draws, 1)), chosen, uniforms)
        else:
            many = torch.from_numpy(np.tile(logits.astype(np.float32), (draws, 1)))
            tokens = tensor_sampling.choose(many, chosen, torch.from_numpy(uniforms)).numpy()
        p = expected(logits, chosen)
        counts = np.bincount(tokens, minlength=len(p))
        assert not counts[p == 0].any()
        often = p * draws > 5
        chi_square = float((((counts - p * draws) ** 2)[often] / (p * draws)[often]).sum())
        freedom = max(int(often.sum()) - 1, 1)
        # Wilson and Hilferty: chi-square's cube root is nearly normal; 4 deviations.
        limit = freedom * (1 - 2 / (9 * freedom) + 4 * (2 / (9 * freedom)) ** 0.5) ** 3
        assert chi_square < limit


@pytest.mark.parametrize("chosen", CHOICES, ids=str)
def test_torch_and_numpy_choose_alike(chosen: Sampling) -> None:
    rng = np.random.default_rng(2)
    logits = rng.normal(size=(200, 400)).astype(np.float32) * 3
    uniforms = rng.random(200, dtype=np.float32).astype(float)
    ours = tensor_sampling.choose(torch.from_numpy(logits), chosen, torch.from_numpy(uniforms))
    assert (ours.numpy() == sampling.choose(logits, chosen, uniforms)).mean() > 0.99


def test_top_p_of_a_flat_distribution_keeps_more_than_it_first_ranks() -> None:
    flat = torch.zeros(1, 4 * sampling.FEW)
    flat[0, : 2 * sampling.FEW] = 1.0
    lowest = tensor_sampling.floor(flat, Sampling(top_p=0.9))
    assert lowest.item() == 0.0
    assert tensor_sampling.floor(flat, Sampling(top_p=0.7)).item() == 1.0
    assert sampling.floor(flat.numpy(), Sampling(top_p=0.9)).item() == 0.0


def test_greedy_takes_the_most_probable() -> None:
    greedy = Sampling(greedy=True)
    assert (sampling.choose(LOGITS, greedy, np.zeros(3)) == LOGITS.argmax(-1)).all()
    ours = tensor_sampling.choose(torch.from_numpy(LOGITS), greedy, torch.zeros(3))
    assert (ours.numpy() == LOGITS.argmax(-1)).all()


def test_repetition_penalty_by_its_definition() -> None:
    logits = np.array([[2.0, -2.0, 1.0, -1.0]])
    now = neural_texts.penalized(torch.from_numpy(logits), [[0, 1, 0]], 2.0)
    assert now.tolist() == [[1.0, -4.0, 1.0, -1.0]]
    seen = np.array([[True, True, False, False]])
    assert sampling.penalized(logits, seen, 2.0).tolist() == now.tolist()


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"temperature": 0}, "--greedy"),
        ({"temperature": -1.0}, "--temperature -1"),
        ({"temperature": float("nan")}, "--temperature nan"),
        ({"top_k": -1}, "--top-k"),
        ({"top_p": 0.0}, "--top-p"),
        ({"top_p": 1.1}, "--top-p"),
        ({"min_p": -0.1}, "--min-p"),
        ({"repetition_penalty": 0.0}, "--repetition-penalty"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], word: str) -> None:
    with pytest.raises(DlkitError, match=word):
        Sampling(**settings)


# Growing


ARCHES = ["gpt", "gru", "lstm", "rnn-elman", "rnn-jordan", "bengio"]


def random_model(arch: str) -> NeuralLM:
    settings: dict[str, Any] = {"vocab_size": CODEC.size, "width": 16}
    if arch == "gpt":
        return model_of(network())
    torch.manual_seed(3)
    made: Any = build(arch, **settings, **({"context": 3} if arch == "bengio" else {"layers": 2}))
    with torch.no_grad():
        made.embedding.weight.mul_(3)
    return model_of(made.eval(), arch=arch)


@pytest.mark.parametrize("arch", ARCHES)
def test_the_state_gives_what_the_whole_text_gives(arch: str) -> None:
    model = random_model(arch)
    [result] = written(["To be"], model, sampling=Sampling(greedy=True), max_tokens=20)
    ids = CODEC.encode("To be")
    for token in result.tokens:
        with torch.no_grad():
            logits = model.network(torch.tensor([ids]))[0, -1]
        allowed = logits.clone()
        allowed[0] = -torch.inf  # <unk> is never written
        assert token.id == int(allowed.argmax())
        assert token.logprob == pytest.approx(float(logits.log_softmax(0)[token.id]), abs=2e-4)
        ids.append(token.id)
    assert result.text == CODEC.decode([token.id for token in result.tokens])
    assert result.logprob == pytest.approx(sum(t.logprob or 0 for t in result.tokens), abs=2e-3)


@pytest.mark.parametrize("arch", ARCHES)
def test_the_same_seed_writes_the_same_text_whatever_the_batch(arch: str) -> None:
    model = random_model(arch)
    prompts = ["To", "be, or not", "question: whether 'tis", "mind"]
    how = {"samples": 3, "max_tokens": 20, "stop": ("ff",), "seed": 5}
    together = written(prompts, model, batch_size=16, **how)
    assert [r.text for r in written(prompts, model, batch_size=1, **how)] == [
        r.text for r in together
    ]
    assert [r.text for r in written(prompts, model, batch_size=5, **how)] == [
        r.text for r in together
    ]
    assert len({r.text for r in together}) > 4
    assert together != written(prompts, model, batch_size=16, **{**how, "seed": 6})
    # More samples leave the first ones as they are.
    more = written(prompts, model, **{**how, "samples": 4})
    assert [r for r in more if r.sample < 3] == together


def test_sampled_tokens_follow_the_model(gpt: NeuralLM) -> None:
    """Of many samples, the first tokens are as frequent as the model says."""
    many = written(["To be, or"], gpt, samples=3000, max_tokens=1, batch_size=500)
    with torch.no_grad():
        logits = gpt.network(torch.tensor([CODEC.encode("To be, or")]))[0, -1].double()
    logits[0] = -torch.inf
    p = logits.softmax(0).numpy()
    counts = np.bincount([r.tokens[0].id for r in many], minlength=len(p))
    often = p * 3000 > 5
    chi_square = float((((counts - p * 3000) ** 2)[often] / (p * 3000)[often]).sum())
    assert chi_square < 2 * often.sum() + 20


def test_texts_end_before_a_stop_string(gpt: NeuralLM) -> None:
    [whole] = written(["To be"], gpt, max_tokens=30)
    for start, length in itertools.product(range(1, 25, 3), (1, 2, 5)):
        stop = whole.text[start : start + length]
        [cut] = written(["To be"], gpt, max_tokens=30, stop=("never there", stop))
        assert cut.finish == "stop"
        assert cut.text == whole.text[: whole.text.index(stop)]
        pieces = next(
            iter(
                generate(
                    ["To be"], gpt, GenerationConfig(max_tokens=30, stop=("never there", stop))
                )
            )
        )
        assert isinstance(pieces, StreamedText)
        assert "".join(pieces) == cut.text  # nothing of it was shown


def test_what_may_become_a_stop_string_is_withheld_and_then_shown() -> None:
    text = GrowingText(CODEC, "", [], Limits(5, ("be or",)), ())
    ids = CODEC.encode("tbe o")
    assert [text.add(i, 0.0) for i in ids] == ["t", "", "", "", "be o"]
    assert (text.text, text.finish) == ("tbe o", "length")


WORDS = ["naïve", "日本", "the", "cat's", "🎉", "re-read"]


@pytest.mark.parametrize(
    "algorithm",
    ["byte", "char", "byte-bpe", "bpe", "wordpiece", "words", "unigram"],
)
def test_pieces_are_the_whole_text(algorithm: str) -> None:
    """Token by token the text is what decoding all at once gives, and characters stay whole."""
    corpus = [" ".join(WORDS) + " and so on for a while"] * 4
    size = {"byte": 8000, "byte-bpe": 300, "unigram": 60}.get(algorithm, 80)
    tokenizer = train(corpus, algorithm=algorithm, vocab_size=size, min_count=1)
    codec = TextCodec(tokenizer)
    rng = np.random.default_rng(0)
    for _ in range(20):
        words = [WORDS[i] for i in rng.integers(len(WORDS), size=8)]
        prompt, rest = " ".join(words[:3]), " ".join(words[3:])
        ids = codec.encode(f"{prompt} {rest}")
        known = len(codec.encode(prompt))
        text = GrowingText(codec, prompt, ids[:known], Limits(1000), ())
        pieces = [text.add(i, 0.0) for i in ids[known:-1]]
        text.limits = Limits(0)
        pieces.append(text.add(ids[-1], 0.0))
        assert "".join(pieces) == codec.decode(ids)[len(codec.decode(ids[:known])) :]
        assert not any("\ufffd" in piece for piece in pieces)


def test_bytes_that_are_no_text_become_replacement_characters() -> None:
    codec = TextCodec(train(["a"], algorithm="byte"))
    rng = np.random.default_rng(0)
    data = rng.integers(256, size=300).astype(np.uint8).tobytes()
    ids = codec.tokenizer.encode(data)
    text = GrowingText(codec, "", [], Limits(len(ids)), ())
    assert "".join(text.add(i, 0.0) for i in ids) == data.decode("utf-8", "replace")


def test_a_space_that_ends_the_prompt_is_not_doubled() -> None:
    codec = TextCodec(train(["the cat sat"] * 3, algorithm="words", vocab_size=20, min_count=1))
    for prompt, piece in (("the ", "cat"), ("the", " cat")):
        text = GrowingText(codec, prompt, codec.encode(prompt), Limits(9), ())
        assert text.add(codec.encode("cat")[0], 0.0) == piece


def test_special_tokens_and_the_unknown_one_are_not_written() -> None:
    special = ["<unk>", "</s>", "<pad>", "<|endoftext|>"]
    tokenizer = train(["a b c"], algorithm="words", vocab_size=9, min_count=1, special=special)
    codec = TextCodec(tokenizer)
    model = model_of(network(vocab_size=codec.size + 3), codec)
    unwritten = {tokenizer.special[name] for name in ("<unk>", "<pad>")}
    assert model.banned == unwritten | {codec.size, codec.size + 1, codec.size + 2}
    assert model.ends == {tokenizer.special["<|endoftext|>"]}
    results = written(["a"], model, samples=60, max_tokens=20, sampling=Sampling(temperature=9))
    made = {token.id for result in results for token in result.tokens}
    assert not made & model.banned
    assert {result.finish for result in results} == {"end", "length"}
    assert any("\n" in result.text for result in results)  # </s> ends a line
    assert not any("endoftext" in result.text for result in results)


def digits() -> NeuralLM:
    """Every digit is equally probable."""
    codec = letters("0123456789")
    uniform: Any = build("gpt", vocab_size=codec.size, **SETTINGS)
    for parameter in uniform.parameters():
        torch.nn.init.zeros_(parameter)
    return model_of(uniform.eval(), codec)


# Beam search


def test_a_wide_beam_finds_the_most_probable_text() -> None:
    codec = letters("abc")
    model = model_of(network(vocab_size=codec.size, sharp=2), codec)
    prompt = codec.encode("ab")
    scores = {}
    for ids in itertools.product(range(1, codec.size), repeat=4):
        with torch.no_grad():
            logprobs = model.network(torch.tensor([[*prompt, *ids]]))[0].log_softmax(-1)
        places = range(len(prompt) - 1, len(prompt) + 3)
        scores[ids] = sum(float(logprobs[p, i]) for p, i in zip(places, ids, strict=True))
    best = sorted(scores, key=lambda ids: -scores[ids])[:5]
    found = written(["ab"], model, beam=256, samples=5, max_tokens=4)
    assert [tuple(t.id for t in r.tokens) for r in found] == best
    assert found[0].logprob == pytest.approx(scores[best[0]], abs=1e-3)


def test_a_beam_of_one_is_greedy(gpt: NeuralLM) -> None:
    [greedy] = written(["To be"], gpt, sampling=Sampling(greedy=True), max_tokens=40)
    [beam] = written(["To be"], gpt, beam=1, max_tokens=40)
    assert beam.text == greedy.text
    assert len(beam.tokens) == 40  # longer than the context


def test_beams_that_end_are_compared_by_their_mean() -> None:
    """A: 0.5 then end (0.9); B: 0.5 then 0.1 for ever. The ended text is better."""

    class Scripted:
        truncated = False

        def __init__(self) -> None:
            self.rows = [[]]  # type: list[list[int]]

        def best(self, count: int) -> tuple[list[list[int]], list[list[float]]]:
            tokens, scores = [], []
            for ids in self.rows:
                p = {1: 0.5, 2: 0.5} if not ids else {3: 0.9, 1: 0.1} if ids[-1] == 1 else {2: 0.4}
                tokens.append(list(p))
                scores.append([float(np.log(value)) for value in p.values()])
            return tokens, scores

        def append(self, tokens: Sequence[int]) -> None:
            for ids, token in zip(self.rows, tokens, strict=True):
                ids.append(token)

        def select(self, rows: Sequence[int]) -> None:
            self.rows = [list(self.rows[row]) for row in rows]

        def choose(self, *_: Any) -> Any:
            raise NotImplementedError

    codec = letters("abc")
    found = beam_search(Scripted(), GrowingText(codec, "", [], Limits(5), {3}), 2)
    assert found[0].ids == [1, 3]
    assert found[0].finish == "end"
    assert found[0].logprobs == pytest.approx([np.log(0.5), np.log(0.9)])


# The context


def test_a_text_longer_than_the_context_slides_and_says_so_once(
    gpt: NeuralLM, capsys: pytest.CaptureFixture[str]
) -> None:
    prompt = TEXT[:50]
    results = written([prompt, "To"], gpt, sampling=Sampling(greedy=True), max_tokens=60)
    assert capsys.readouterr().err.count("random sees 32 tokens") == 1
    # The first token comes from the end of the prompt, three quarters of the context long.
    kept = neural_texts.tokens_kept(32)
    with torch.no_grad():
        logits = gpt.network(torch.tensor([CODEC.encode(prompt)[-kept:]]))[0, -1]
    logits[0] = -torch.inf
    assert results[0].tokens[0].id == int(logits.argmax())
    # What a text sees depends on its own length, not on others of the batch.
    alone = written(["To"], gpt, sampling=Sampling(greedy=True), max_tokens=60)
    assert alone[0].text == results[1].text
    ids = [*CODEC.encode("To"), *(token.id for token in alone[0].tokens)]
    full = ids[: SETTINGS["context"] + 1]
    seen = full[len(full) - kept :]
    with torch.no_grad():
        after = gpt.network(torch.tensor([seen]))[0, -1]
    after[0] = -torch.inf
    assert ids[SETTINGS["context"] + 1] == int(after.argmax())


# Scores


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
    line = TEXT[:100].replace("\n", " ")
    [once] = score([line], model)
    assert len(once.tokens) == 99
    monkeypatch.setattr("dlkit.lm_generate.scoring.LOGITS_AT_ONCE", 100)  # part by part
    [again] = score([line], model)
    assert again.logprob == pytest.approx(once.logprob, abs=2e-3)


def test_perplexity_of_uniform_digits_is_10(tmp_path: Path) -> None:
    model = digits()
    [result] = score(["31415926535"], model)
    # Of the tokens, the unknown one and the line's end are as probable as each digit.
    assert result.perplexity == pytest.approx(model.codec.size)
    with torch.no_grad():
        model.network.final_norm.bias.fill_(1.0)
        model.network.embedding.weight[:, 0] = torch.tensor(
            [0.0 if name in "0123456789" else -1e4 for _, name in sorted(names_of(model.codec))]
        )
    [result] = score(["31415926535"], model)
    assert result.perplexity == pytest.approx(10)
    counts = np.bincount(
        [t.id for r in written(["1"], model, samples=50, max_tokens=20) for t in r.tokens]
    )
    assert (counts > 0).sum() == 10


def names_of(codec: TextCodec) -> list[tuple[int, str]]:
    return list(codec.tokenizer.names.items())


# Gaps


def bert() -> NeuralLM:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = train(
        ["the cat sat on the mat and the dog saw it"] * 3,
        algorithm="wordpiece",
        vocab_size=60,
        special=special,
    )
    codec = TextCodec(tokenizer)
    torch.manual_seed(0)
    made: Any = build("bert", vocab_size=codec.size, **SETTINGS)
    with torch.no_grad():
        made.embedding.weight.mul_(40)
    return model_of(made.eval(), codec, "bert")


def test_masks_are_filled_with_the_most_probable_tokens() -> None:
    model = bert()
    [found] = fill(["the [MASK] sat on [MASK] mat"], model, 3)
    assert isinstance(found, FilledText)
    special = model.codec.tokenizer.special
    ids = [special["[CLS]"], *model.codec.encode("the"), special["[MASK]"]]
    place = len(ids) - 1
    ids += [*model.codec.encode("sat on"), special["[MASK]"], *model.codec.encode("mat")]
    ids.append(special["[SEP]"])
    with torch.no_grad():
        logits = model.network(torch.tensor([ids]))[0][0, place]
    logits[list(special.values())] = -torch.inf
    shares, tokens = logits.softmax(-1).topk(3)
    first = found.gaps[0].candidates
    assert [c.token for c in first] == [model.codec.tokenizer.names[int(i)] for i in tokens]
    assert [c.probability for c in first] == pytest.approx(shares.tolist(), abs=1e-4)
    assert len(found.gaps) == 2
    assert found.gaps[1].candidates[0].text.startswith("the [MASK] sat on ")
    [failed] = fill(["no gap"], model, 3)
    assert "[MASK]" in getattr(failed, "error", "")


def test_a_bert_scores_by_masking_each_token() -> None:
    model = bert()
    [result] = score(["the cat sat"], model)
    special, ids = model.codec.tokenizer.special, model.codec.encode("the cat sat")
    total = 0.0
    for place in range(len(ids)):
        masked = [special["[CLS]"], *ids, special["[SEP]"]]
        masked[place + 1] = special["[MASK]"]
        with torch.no_grad():
            logits = model.network(torch.tensor([masked]))[0][0, place + 1]
        total += float(logits.log_softmax(-1)[ids[place]])
    assert result.logprob == pytest.approx(total, abs=1e-3)
    empty, long = score(["", "the cat sat on the mat " * 10], model)
    assert empty.tokens == []
    assert len(long.tokens) > model.network.context
    with pytest.raises(DlkitError, match="cannot continue"):
        next(generate(["the"], model))


def test_a_bilm_scores_from_both_sides() -> None:
    torch.manual_seed(0)
    made: Any = build("bilm", vocab_size=CODEC.size, width=8, layers=2).eval()
    model = model_of(made, arch="bilm")
    [result] = score(["To be"], model)
    ids = CODEC.encode("To be")
    with torch.no_grad():
        right, left = (x[0].log_softmax(-1) for x in made(torch.tensor([ids])))
    sums = [float(left[1, ids[0]])]
    for t in range(1, len(ids) - 1):
        sums.append(float(right[t - 1, ids[t]] + left[t + 1, ids[t]]) / 2)
    sums.append(float(right[len(ids) - 2, ids[-1]]))
    assert [t.logprob for t in result.tokens] == pytest.approx(sums, abs=1e-3)
    with pytest.raises(DlkitError, match="cannot continue"):
        next(generate(["the"], model))


@pytest.mark.parametrize("command", ["fill", "features"])
def test_shards_of_texts_merge_into_what_one_run_makes(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    texts = "the [MASK] sat\nthe dog\nthe cat [MASK] on\n"
    with mock.patch("dlkit.lm_generate.infer.load", return_value=bert()):
        one = run("lm-generate", command, "-o", "one.jsonl", stdin=texts)
        assert one.code == (command == "fill"), one.err  # the second text has no gap
        for index in (0, 1):
            options = ["-o", "of.jsonl", "--shard", f"{index}/2"]
            done = run("lm-generate", command, *options, stdin=texts)
            assert done.code == (command == "fill" and index == 1), done.err
    merged = run("merge", "of.00001-of-00002.jsonl", "of.00000-of-00002.jsonl")
    assert merged.out == Path("one.jsonl").read_text()
    assert merged.out.count("\n") == 3


def test_tokens_are_described_in_their_context() -> None:
    torch.manual_seed(0)
    made: Any = build("bilm", vocab_size=CODEC.size, width=8, layers=2).eval()
    for layer in (None, 0, 1, 2):
        [found] = features(["To be"], model_of(made, arch="bilm"), layer)
        assert isinstance(found, Features)
        assert found.tokens == list("To be")
        with torch.no_grad():
            vectors = made.features(torch.tensor([CODEC.encode("To be")]))[
                2 if layer is None else layer, 0
            ]
        assert np.allclose(found.vectors, vectors.numpy(), atol=1e-5)
    [failure] = features(["To be"], model_of(made, arch="bilm"), 3)
    assert "0 to 2" in getattr(failure, "error", "")
    [of_bert] = features(["the cat sat"], bert())
    assert isinstance(of_bert, Features)
    assert np.shape(of_bert.vectors) == (len(of_bert.tokens), 16)
    with pytest.raises(DlkitError, match="cannot compute features"):
        next(features(["a"], model_of(network())))


def test_a_t5_fills_spans_and_continues_prompts() -> None:
    special = SpanLM.special_ids(CODEC.tokenizer)
    made = network("t5", vocab_size=SpanLM.vocab_size(CODEC), sharp=2)
    model = model_of(made, arch="t5")
    [found] = fill(["To <extra_id_0> or not<extra_id_1>"], model, 2)
    assert isinstance(found, FilledText)
    assert len(found.gaps) == 2
    assert found.gaps[0].candidates[0].text.startswith("To ")
    assert "extra_id" not in found.gaps[0].candidates[0].text
    [failed] = fill(["To <extra_id_1>"], model, 2)
    assert "<extra_id_0>" in getattr(failed, "error", "")
    prompts = ["To be, or not", "to", ""]
    together = written(prompts, model, max_tokens=10)
    alone = written(prompts, model, max_tokens=10, batch_size=1)
    assert [r.text for r in together] == [r.text for r in alone]
    # As the decoder computes it without a state.
    source = [*CODEC.encode("to"), special["<extra_id_0>"], special["</s>"]]
    ids = [special["<pad>"], special["<extra_id_0>"], *(t.id for t in together[1].tokens)]
    with torch.no_grad():
        logits = made(torch.tensor([ids]), source=torch.tensor([source]))[0].log_softmax(-1)
    for place, token in enumerate(together[1].tokens):
        assert token.logprob == pytest.approx(float(logits[place + 1, token.id]), abs=1e-3)


# n-grams


@pytest.fixture(scope="module")
def ngrams(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An n-gram model of words, trained from the command line."""
    folder = tmp_path_factory.mktemp("ngrams")
    corpus = folder / "corpus.txt"
    corpus.write_text("the cat sat on the mat\nthe dog sat on the log\na cat saw the dog\n" * 3)
    done = run(
        "lm-generate", "train", corpus, "--arch", "ngram", "--order", 3, "--tokenizer", "words",
        "--smoothing", "jelinek-mercer", "--out", folder / "run",
    )  # fmt: skip
    assert done.code == 0, done.err
    return Path(done.out.strip())


def test_an_ngram_model_writes_and_scores(ngrams: Path) -> None:
    model = load(ngrams)
    assert isinstance(model, NGram)
    results = written(["the", "", "a cat"], model, samples=4, max_tokens=12)
    again = written(["the", "", "a cat"], model, samples=4, max_tokens=12, batch_size=1)
    assert results == again
    assert any("\n" in r.text for r in results)  # the next line begins
    assert not any("<unk>" in r.text or "</s>" in r.text for r in results)
    for result in results:
        ids = model.prompt_ids(result.prompt)
        for token in result.tokens:
            logprob = float(model.next_logprobs(ids)[token.id])
            assert token.logprob == pytest.approx(logprob, abs=1e-5)
            ids.append(token.id)
    [whole] = score(["the cat sat"], model)
    codec = model.codec
    assert codec.line_end is not None
    ids = [codec.line_end, *codec.encode("the cat sat"), codec.line_end]
    total = sum(float(model.next_logprobs(ids[:place])[ids[place]]) for place in range(1, len(ids)))
    assert whole.logprob == pytest.approx(total, abs=1e-3)
    [beam] = written(["the"], model, beam=4, max_tokens=5)
    [greedy] = written(["the"], model, sampling=Sampling(greedy=True), max_tokens=5)
    assert (beam.logprob or 0) >= (greedy.logprob or 0)
    assert "needs no --device" in run("lm-generate", "a", "-m", ngrams, "--device", "cuda").err


@pytest.mark.parametrize(
    "command",
    [("the cat",), ("score", "LINES"), ("evaluate", "LINES"), ("chat",), ("the", "--beam", "2")],
)
def test_ngram_commands_load_no_torch(
    ngrams: Path, tmp_path: Path, command: tuple[str, ...]
) -> None:
    lines = tmp_path / "lines.txt"
    lines.write_text("the cat sat\n")
    arguments = [str(lines) if word == "LINES" else word for word in command]
    loaded = loaded_by("lm-generate", *arguments, "-m", str(ngrams))
    assert "dlkit.lm_generate.ngram" in loaded
    assert not loaded & {"torch", "numba", "matplotlib"}


def test_without_smoothing_what_cannot_be_has_no_logprob(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("the cat sat\nthe cat ran\n" * 2)
    done = run(
        "lm-generate", "train", corpus, "--arch", "ngram", "--order", 2, "--tokenizer", "words",
        "--smoothing", "add-k", "--add-k", 0, "--val-share", 0, "--out", tmp_path / "run",
    )  # fmt: skip
    assert done.code == 0, done.err
    model = load(done.out.strip())
    possible, impossible = score(["the cat sat", "sat the cat"], model)
    assert possible.logprob == pytest.approx(np.log(0.5), abs=1e-4)
    assert (impossible.logprob, impossible.perplexity) == (None, None)
    for result in written(["the", "zebra"], model, samples=5, max_tokens=6):
        assert len(result.tokens) == 6


# Dialogues


def test_a_dialogue_remembers_as_many_exchanges_as_asked_for(gpt: NeuralLM) -> None:
    speakers = Speakers("You:", "Me:")
    for turns, remembered in ((None, 2), (1, 1), (0, 0)):
        dialogue = Dialogue(model_of(network(context=500)), speakers, turns, 10)
        dialogue.exchanges = [("a", "b"), ("c", "d")]
        lines = ["You: a", "Me: b", "You: c", "Me: d"][4 - 2 * remembered :]
        assert dialogue.prompt("e") == "\n".join([*lines, "You: e", "Me:"])
    short = Dialogue(gpt, speakers, None, 4)  # the context holds 32 tokens
    short.exchanges = [("a", "b"), ("c", "d")]
    assert short.prompt("e") == "You: c\nMe: d\nYou: e\nMe:"


def test_answers_follow_messages(gpt: NeuralLM) -> None:
    seen: list[str] = []

    def messages() -> Iterator[str]:
        yield from ("To be?", "", " or not ")

    answers = []
    for answer in chat(messages(), gpt, GenerationConfig(max_tokens=12), Speakers("", "")):
        pieces = "".join(answer)  # type: ignore[arg-type]
        reply = answer.result()  # type: ignore[union-attr]
        assert pieces == reply.reply == reply.reply.strip()
        assert "\n" not in reply.reply
        answers.append(reply)
        seen.append(reply.message)
    assert seen == ["To be?", "or not"]
    assert [reply.turn for reply in answers] == [0, 1]


# Published models


def test_gpt2_continues_as_transformers_does(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    write_gpt2(tmp_path)
    model = load(tmp_path, "cpu", "fp32")
    theirs = transformers.GPT2LMHeadModel.from_pretrained(tmp_path).eval()
    prompt = "the cat sat"
    ids = torch.tensor([model.codec.encode(prompt)])
    settings = {"do_sample": False, "max_new_tokens": 20, "pad_token_id": 0}
    greedy = theirs.generate(ids, attention_mask=torch.ones_like(ids), **settings)
    beam = theirs.generate(ids, attention_mask=torch.ones_like(ids), num_beams=4, **settings)
    penalized = theirs.generate(
        ids, attention_mask=torch.ones_like(ids), repetition_penalty=1.5, **settings
    )
    for expected_ids, how in (
        (greedy, {"sampling": Sampling(greedy=True)}),
        (beam, {"beam": 4}),
        (penalized, {"sampling": Sampling(greedy=True, repetition_penalty=1.5)}),
    ):
        [ours] = written([prompt], model, max_tokens=20, **how)
        assert [t.id for t in ours.tokens] == expected_ids[0, ids.shape[1] :].tolist()


# From the command line


def test_a_prompt_is_printed_with_what_follows(file: Path) -> None:
    result = run("lm-generate", "To be", "-m", file, "--max-tokens", 12, "--precision", "fp32")
    assert result.code == 0, result.err
    assert result.out.startswith("To be")
    [text] = written(
        ["To be"], load(file, "cpu", "fp32"), sampling=Sampling(temperature=0.8), max_tokens=12
    )
    assert result.out == f"To be{text.text}\n"


def test_many_texts_are_a_line_each(file: Path, tmp_path: Path) -> None:
    common = ("-m", file, "--max-tokens", 30, "--temperature", 3)
    result = run("lm-generate", *common, "-n", 2, stdin="To be\nor not\n")
    assert result.code == 0, result.err
    lines = result.out.splitlines()
    assert [line[:5] for line in lines] == ["To be", "To be", "or no", "or no"]
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("To be\nor not\n")
    assert run("lm-generate", *common, "-n", 2, "--file", prompts).out == result.out
    records = [
        json.loads(line)
        for line in run("lm-generate", *common, "-n", 2, "--file", prompts, "-f", "jsonl")
        .out.strip()
        .splitlines()
    ]
    assert [(r["prompt"], r["sample"]) for r in records] == [
        ("To be", 0), ("To be", 1), ("or not", 0), ("or not", 1)
    ]  # fmt: skip
    assert any("\n" in r["text"] for r in records)
    shown = [(r["prompt"] + r["text"]).replace("\n", "\\n") for r in records]
    assert shown == lines
    for record in records:
        assert len(record["tokens"]) == 30
        assert {"token", "id", "logprob"} == set(record["tokens"][0])
        assert record["logprob"] == pytest.approx(
            sum(t["logprob"] for t in record["tokens"]), abs=1e-2
        )
        assert record["finish"] == "length"
    table = run("lm-generate", *common, "--file", prompts, "-f", "csv").out
    assert table.startswith("prompt,sample,text,finish,logprob\n")
    assert json.loads(run("lm-generate", "To", "-m", file, "-f", "json").out)[0]["prompt"] == "To"
    target = tmp_path / "out.txt"
    assert run("lm-generate", "To be", "-m", file, "-o", target).out == ""
    assert target.read_text().startswith("To be")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--temperature", "0"], "--greedy"),
        (["--temperature", "-2"], "--temperature -2"),
        (["--greedy", "--top-k", "3"], "--top-k: has no effect with --greedy"),
        (["--beam", "3", "--temperature", "1"], "--temperature: has no effect with --beam"),
        (["--beam", "2", "-n", "3"], "--beam 2"),
        (["--greedy", "--beam", "2"], "--beam 1"),
        (["--greedy", "-n", "2"], "--greedy"),
        (["--beam", "2", "--repetition-penalty", "2"], "--beam"),
        (["--top-p", "0"], "--top-p"),
        (["--stop", ""], "--stop"),
        (["--max-tokens", "0"], "max-tokens"),
        (["--seed", "-1"], "seed"),
        (["--file", "no-such-file"], "give one of them"),
        (["-m", "no-such-model"], "unknown model"),
        (["-m", "no-such.safetensors"], "no such model file"),
    ],
)
def test_bad_arguments_are_one_line(file: Path, arguments: list[str], words: str) -> None:
    result = run("lm-generate", "To be", "-m", file, *arguments)
    assert result.code == 2
    assert words in result.err
    assert result.err.strip().count("\n") <= 4  # Typer shows the usage, too
    assert "Traceback" not in result.err


def test_bad_prompts(file: Path, tmp_path: Path) -> None:
    empty = run("lm-generate", "", "-m", file, "--max-tokens", 5)
    assert empty.code == 0  # it starts as after the end of a line
    result = run("lm-generate", "Zü be", "-m", file, "--max-tokens", 5)
    assert result.code == 0
    assert "does not know 'Z', 'ü'" in result.err
    long = run("lm-generate", TEXT, "-m", file, "--max-tokens", 5)
    assert long.code == 0
    assert "sees 32 tokens" in long.err
    missing = run("lm-generate", "--file", tmp_path / "none.txt", "-m", file)
    assert missing.code == 2
    assert "none.txt" in missing.err
    latin = tmp_path / "latin.txt"
    latin.write_bytes(b"caf\xe9\n")
    assert "UTF-8" in run("lm-generate", "--file", latin, "-m", file).err
    assert run("lm-generate", "-m", file, stdin="").out == ""


def test_bytes_that_are_no_text(file: Path, tmp_path: Path) -> None:
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


def test_a_model_without_a_line_break_needs_a_first_character() -> None:
    codec = TextCodec(train(["abc"] * 3, algorithm="char"))
    model = model_of(network(vocab_size=codec.size), codec)
    [failure] = generate([""], model)
    assert "first character" in getattr(failure, "error", "")


def test_models_of_other_kinds_are_refused(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    checkpoint.save(other, {"x": torch.ones(1)}, Header("detect", "yolo", {}, []))
    assert "dlkit detect" in run("lm-generate", "To", "-m", other).err
    header, weights = checkpoint.load(file)
    small = letters("abc").to_settings()
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


def test_score_and_chat_from_the_command_line(file: Path, tmp_path: Path) -> None:
    common = ("-m", file, "--precision", "fp32")
    result = run("lm-generate", "score", *common, stdin="To be\nor not\n")
    assert result.code == 0, result.err
    rows = [line.split("\t") for line in result.out.splitlines()]
    assert [row[3] for row in rows] == ["To be", "or not"]
    [direct, _] = score(["To be", "or not"], load(file, "cpu", "fp32"))
    assert float(rows[0][0]) == pytest.approx(direct.logprob)
    assert run("lm-generate", "score", "--text", "To be", *common).out == "\t".join(rows[0]) + "\n"
    records = run("lm-generate", "score", *common, "-f", "jsonl", stdin="To be\n").out
    assert len(json.loads(records)["tokens"]) == 4
    talk = run("lm-generate", "chat", *common, "--max-tokens", 9, stdin="To be\n\nor not\n")
    assert talk.code == 0, talk.err
    assert talk.out.count("\n") == 2
    told = run("lm-generate", "chat", *common, "--max-tokens", 9, "-f", "jsonl", stdin="To be\n")
    record = json.loads(told.out)
    assert record["message"] == "To be"
    assert record["reply"] == talk.out.splitlines()[0]
    refused = run("lm-generate", "fill", "the [MASK]", "-m", file)
    assert refused.code == 2
    assert "fill gaps" in refused.err


def test_a_closed_pipe_ends_the_writing_quietly(file: Path) -> None:
    command = [sys.executable, "-m", "dlkit", "lm-generate", "To be", "-m", str(file)]
    with subprocess.Popen(
        [*command, "--max-tokens", "1000000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(40).startswith(b"To be")
        process.stdout.close()
        process.wait(timeout=60)
        assert b"Traceback" not in process.stderr.read()
        assert process.returncode == 1


def test_the_bundled_model_writes_like_shakespeare() -> None:
    verse = "What light is this that breaks upon the night?"
    backwards, shuffled = verse[::-1], " ".join(sorted(verse.split()))
    result = run(
        "lm-generate", "score", "-f", "json", stdin="\n".join((verse, backwards, shuffled))
    )
    natural, *others = [record["perplexity"] for record in json.loads(result.out)]
    assert natural < 12
    assert natural < min(others)
    written = run("lm-generate", "ROMEO:", "--greedy", "--max-tokens", 60).out
    assert written.startswith("ROMEO:\n")
    assert len(written.split()) > 8


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
