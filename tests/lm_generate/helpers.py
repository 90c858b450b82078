"""Texts, models and corpora that several tests use."""

import json
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dlkit.core.parallel.distributed import Process
from dlkit.core.store import checkpoint
from dlkit.core.store.checkpoint import Header
from dlkit.lm_generate import pruning, smoothing
from dlkit.lm_generate.config import LmTrainConfig
from dlkit.lm_generate.counting import Counts, count
from dlkit.lm_generate.infer import GenerationConfig, StreamedText, generate
from dlkit.lm_generate.language_model import LanguageModel
from dlkit.lm_generate.model import architecture, build
from dlkit.lm_generate.models.gpt import GPT
from dlkit.lm_generate.neural import NeuralLM
from dlkit.lm_generate.ngram import NGram
from dlkit.lm_generate.ngram_training import take_logs
from dlkit.lm_generate.results import Continuation
from dlkit.lm_generate.text_codec import TextCodec
from dlkit.lm_generate.train import train
from dlkit.tokenize import Tokenizer
from dlkit.tokenize import train as train_tokenizer
from tests.conftest import loud

HAMLET = (
    "To be, or not to be, that is the question: whether 'tis nobler in the mind to suffer\n" * 3
)


SMALL_GPT = {"context": 32, "layers": 2, "heads": 2, "width": 16}


def letter_codec(characters: str) -> TextCodec:
    """A codec of these characters and the end of a line."""
    settings = {"normalize": [], "split": "characters", "unk": "<unk>"}
    header = Header("tokenize", "char", settings, [])
    vocab = {c: i + 1 for i, c in enumerate(sorted({*characters, "\n"}))}
    content = {"header": vars(header), "special": {"<unk>": 0}, "vocab": vocab}
    return TextCodec(Tokenizer.from_settings(content))


CODEC = letter_codec(HAMLET)


def random_network(arch: str = "gpt", seed: int = 0, sharp: float = 6.0, **changed: Any) -> Any:
    """A random network whose next tokens differ much in probability."""
    torch.manual_seed(seed)
    made: Any = build(arch, **{"vocab_size": CODEC.size, **SMALL_GPT, **changed})
    for parameter in made.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    with torch.no_grad():
        made.embedding.weight.mul_(sharp)
    return made.eval()


def wrap(made: Any, codec: TextCodec = CODEC, arch: str = "gpt") -> NeuralLM:
    return architecture(arch).kind("random", Header("lm-generate", arch, {}, []), codec, made)


def generate_all(prompts: Sequence[str], model: LanguageModel, **how: Any) -> list[Continuation]:
    results = []
    for text in generate(prompts, model, GenerationConfig(**how)):
        assert isinstance(text, StreamedText)
        results.append(text.result())
    return results


GENERATING = ["gpt", "gru", "lstm", "rnn-elman", "rnn-jordan", "bengio"]


def random_model(arch: str) -> NeuralLM:
    settings: dict[str, Any] = {"vocab_size": CODEC.size, "width": 16}
    if arch == "gpt":
        return wrap(random_network())
    torch.manual_seed(3)
    made: Any = build(arch, **settings, **({"context": 3} if arch == "bengio" else {"layers": 2}))
    with torch.no_grad():
        made.embedding.weight.mul_(3)
    return wrap(made.eval(), arch=arch)


def random_bert() -> NeuralLM:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = train_tokenizer(
        ["the cat sat on the mat and the dog saw it"] * 3,
        algorithm="wordpiece",
        vocab_size=60,
        special=special,
    )
    codec = TextCodec(tokenizer)
    torch.manual_seed(0)
    made: Any = build("bert", vocab_size=codec.size, **SMALL_GPT)
    with torch.no_grad():
        made.embedding.weight.mul_(40)
    return wrap(made.eval(), codec, "bert")


CORPUS_WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", "the", "dog", "ran", "to", "a", "log"]


SINGLE_PROCESS = Process(0, 1, torch.device("cpu"))


TINY_CONFIG: dict[str, Any] = {
    "width": 16, "context": 8, "batch_size": 4, "epochs": 2, "steps_per_epoch": 6,
    "device": "cpu", "precision": "fp32", "sample_tokens": 12,
}  # fmt: skip


def random_text(lines: int, seed: int = 0) -> str:
    random = np.random.default_rng(seed)
    return "".join(
        " ".join(random.choice(CORPUS_WORDS, random.integers(1, 9)).tolist()) + "\n"
        for _ in range(lines)
    )


def tiny_config(text: Path, out: Path, **changed: Any) -> LmTrainConfig:
    given = {**TINY_CONFIG, **changed}
    if given.get("arch") == "bengio":
        given["context"] = 3
    if given.get("arch") in {"bilm", "bert", "t5"}:
        del given["sample_tokens"]
    return LmTrainConfig(data=[str(text)], out=out, **given)


def load_weights(path: Path) -> dict[str, Tensor]:
    return checkpoint.load(path)[1]


END = 0  # the end of a line in the texts of ids below


TOKENS = 12


def random_ids(seed: int = 0, lines: int = 80, longest: int = 9) -> np.ndarray:
    """Ids of random lines, some of them empty, of frequent and rare tokens; two never occur."""
    rng = np.random.default_rng(seed)
    ids = [END]
    for _ in range(lines):
        drawn = 1 + (TOKENS - 3) * rng.random(rng.integers(0, longest)) ** 2
        ids += [*drawn.astype(int), END]
    return np.array(ids, np.uint16)


def as_dict(counts: Counts) -> dict[tuple[int, ...], int]:
    return {
        tuple(gram): int(times)
        for level, level_counts in enumerate(counts.counts)
        for gram, times in zip(
            counts.trie.ngrams(level, 0, len(level_counts)).tolist(), level_counts, strict=True
        )
        if times
    }


def smooth(counts: Counts, name: str, folder: Path, held_out: np.ndarray) -> smoothing.Smoothed:
    if name == "kneser-ney":
        return smoothing.kneser_ney(counts, [0] * counts.trie.order, folder)
    if name == "katz":
        return smoothing.katz(counts, folder)
    if name == "jelinek-mercer":
        return smoothing.jelinek_mercer(counts, held_out, folder)
    return smoothing.add_k(counts, 0.5 if name == "add-k" else 0.0, folder)


def ngram_model(
    ids: np.ndarray, order: int, name: str, folder: Path, line_end: int | None = END
) -> NGram:
    counts = count(ids, TOKENS, order, line_end, folder)
    smoothed = smooth(counts, name, folder, random_ids(99))
    header = Header("lm-generate", "ngram", {"tokenizer": {}}, [])
    probs, weights = take_logs(smoothed.probs), take_logs(smoothed.backoffs)
    return NGram(header, counts.trie, probs, weights, name == "add-k")


def all_contexts(length: int) -> list[list[int]]:
    """All contexts of at most `length` tokens."""
    return [list(c) for n in range(length + 1) for c in product(range(TOKENS), repeat=n)]


def license_lines() -> list[list[str]]:
    license_ = Path(__file__).parents[2] / "LICENSE"
    return [line.split() for line in license_.read_text().splitlines() if line.strip()]


def kneser_ney_model(
    lines: Sequence[Sequence[str]], order: int, folder: Path, thresholds: Sequence[int] = (0,)
) -> tuple[NGram, dict[str, int]]:
    """A Kneser-Ney model, and the ids of words; `</s>` is 0, `<unk>` 1."""
    numbers = {"</s>": 0, "<unk>": 1}
    for line in lines:
        for word in line:
            numbers.setdefault(word, len(numbers))
    ids = [0] + [numbers[word] for line in lines for word in [*line, "</s>"]]
    counts = count(np.array(ids), len(numbers), order, 0, folder)
    levels = [*thresholds, *[thresholds[-1]] * order][:order]
    smoothed = smoothing.kneser_ney(counts, levels, folder)
    trie, probs, weights = pruning.compact(
        counts.trie, smoothed, pruning.select_frequent(counts, levels)
    )
    header = Header("lm-generate", "ngram", {}, [])
    return NGram(header, trie, take_logs(probs), take_logs(weights)), numbers


PLAY = "to be or not to be\nthat is the question\nto die to sleep\nno more\n"


def train_ngrams(tmp_path: Path, content: str = PLAY * 20, **settings: Any) -> Path:
    corpus = tmp_path / "corpus.txt"
    corpus.write_text(content)
    options: dict[str, Any] = {"tokenizer": "words", "order": 3, **settings}
    config = LmTrainConfig(data=[str(corpus)], out=tmp_path / "run", arch="ngram", **options)
    return train(config)


CATS = "the cat sat on the mat, and the dog sat by the door; the cat saw the dog."


CLOSE = 1e-4


def small_gpt(positions: str, **settings: Any) -> GPT:
    network: GPT = loud(GPT(50, 32, 3, 2, 32, positions=positions, **settings))
    return network


def difference(a: Tensor, b: Tensor) -> float:
    return (a - b).abs().max().item()


def byte_tokenizer() -> Tokenizer:
    return train_tokenizer([CATS] * 3, vocab_size=280, special=["<|endoftext|>"])


def word_pieces() -> Tokenizer:
    return train_tokenizer(
        [CATS] * 3,
        algorithm="wordpiece",
        vocab_size=45,
        special=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
    )


def write_gpt2(folder: Path) -> Tensor:
    """A small random GPT-2 in transformers' format; its logits of 24 tokens are returned."""
    transformers = pytest.importorskip("transformers")
    tokenizer = byte_tokenizer()
    config = transformers.GPT2Config(
        vocab_size=280, n_positions=32, n_embd=48, n_layer=3, n_head=4, initializer_range=0.2,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    network = loud(transformers.GPT2LMHeadModel(config))
    network.save_pretrained(folder)
    vocab = {**tokenizer.special, **tokenizer.vocab}
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False))
    merges = "".join(f"{left} {right}\n" for left, right in tokenizer.merges)
    (folder / "merges.txt").write_text(f"#version: 0.2\n{merges}")
    with torch.inference_mode():
        logits: Tensor = network(gpt2_ids()).logits
    return logits


def gpt2_ids() -> Tensor:
    return torch.arange(48).view(2, 24) * 5


V, W = 11, 6  # tokens in the vocabulary, and model dimension


def loud_network(arch: str, **settings: Any) -> Any:
    """A network with large weights, so that each of them has an effect."""
    torch.manual_seed(0)
    model = build(arch, vocab_size=V, width=W, **settings)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    return model.eval()


def some_ids(*shape: int) -> Tensor:
    return torch.randint(V, shape, generator=torch.Generator().manual_seed(1))


def assert_close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
