"""Networks, sentences and files that several tests of translate share."""

import random
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dlkit.core.store import checkpoint
from dlkit.core.store.checkpoint import Header
from dlkit.translate.config import TranslateTrainConfig
from dlkit.translate.infer import Translation
from dlkit.translate.model import build
from dlkit.translate.models.translator import Translator
from dlkit.translate.pairs import Pair
from dlkit.translate.vocabulary import TranslationVocabulary
from tests.conftest import loud

V, W, H = 23, 16, 4
PAD, BOS, EOS = 0, 1, 2
SPECIAL = {"vocab_size": V, "pad": PAD, "bos": BOS, "eos": EOS, "unk": 3}
CLOSE = 1e-5
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "rnn": ("rnn", {}),
    "rnn-lstm": (
        "rnn",
        {"cell": "lstm", "reverse": True, "residual": True, "tie_embeddings": False},
    ),
    "attention": ("attention", {}),
    "attention-general": (
        "attention",
        {"score": "general", "cell": "lstm", "tie_embeddings": False},
    ),
    "attention-dot": ("attention", {"score": "dot", "input_feeding": True, "residual": True}),
    "transformer": ("transformer", {"heads": H, "ffn_width": 24}),
    "transformer-pre-norm": (
        "transformer",
        {"heads": H, "pre_norm": True, "tie_embeddings": False},
    ),
}


def small_network(name: str, **settings: Any) -> Any:
    arch, own = NETWORKS[name]
    return loud(
        build(arch, **{**SPECIAL, "width": W, "layers": 3, "dropout": 0.2, **own, **settings})
    )


def close(a: Tensor, b: Tensor, tolerance: float = CLOSE) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


def random_ids(lengths: list[int], begin: int | None = None, end: int | None = None) -> Tensor:
    """Random ids, padded at their right."""
    ids = torch.full((len(lengths), max(lengths)), PAD)
    for row, length in enumerate(lengths):
        ids[row, :length] = torch.randint(4, V, (length,))
        if begin is not None:
            ids[row, 0] = begin
        if end is not None:
            ids[row, length - 1] = end
    return ids


def random_batch() -> tuple[Tensor, Tensor, Tensor, list[int]]:
    """Sources (5, 9) and their lengths, targets (5, 8) and theirs."""
    lengths = [9, 2, 5, 1, 7]
    written = [3, 8, 1, 5, 8]
    return random_ids(lengths, end=EOS), torch.tensor(lengths), random_ids(written, BOS), written


def by_hand(layer: Any, x: Tensor, past: tuple[Tensor, ...], suffix: str) -> tuple[Tensor, ...]:
    """One step of a cell for one sentence: x (W), each tensor of its state (units)."""
    of_input = getattr(layer, f"weight_ih_{suffix}") @ x + getattr(layer, f"bias_ih_{suffix}")
    of_past = getattr(layer, f"weight_hh_{suffix}") @ past[0] + getattr(layer, f"bias_hh_{suffix}")
    if isinstance(layer, nn.GRU):
        (r, z, n), (r_past, z_past, n_past) = of_input.chunk(3), of_past.chunk(3)
        reset, update = torch.sigmoid(r + r_past), torch.sigmoid(z + z_past)
        new = torch.tanh(n + reset * n_past)
        return ((1 - update) * new + update * past[0],)
    gates = (of_input + of_past).chunk(4)
    keep, forget, out = (torch.sigmoid(gates[number]) for number in (0, 1, 3))
    cell = forget * past[1] + keep * torch.tanh(gates[2])
    return out * torch.tanh(cell), cell


def stack_by_hand(
    stack: Any, xs: list[Tensor], pasts: list[tuple[Tensor, ...]] | None = None
) -> tuple[list[Tensor], list[tuple[Tensor, ...]]]:
    """What a stack says to each of xs (W), and the last state of each layer."""
    states = []
    for number, layer in enumerate(stack.layers):
        directions = []
        for suffix in ["l0", "l0_reverse"][: 1 + layer.bidirectional]:
            units = layer.hidden_size
            zeros = (torch.zeros(units),) * (2 if isinstance(layer, nn.LSTM) else 1)
            past = zeros if pasts is None else pasts[number]
            said = []
            for x in xs if suffix == "l0" else xs[::-1]:
                past = by_hand(layer, x, past, suffix)
                said.append(past[0])
            directions.append((said if suffix == "l0" else said[::-1], past))
        outputs = [torch.cat(both) for both in zip(*(d[0] for d in directions), strict=True)]
        states.append(
            tuple(torch.cat(both) for both in zip(*(d[1] for d in directions), strict=True))
        )
        added = stack.residual and number > 0
        xs = [x + y if added else y for x, y in zip(xs, outputs, strict=True)]
    return xs, states


def output_by_hand(model: Any, x: Tensor) -> Tensor:
    weight: Tensor = model.embedding.weight if model.head is None else model.head.weight
    return weight @ x + model.bias


NUMBERS = {"one": "eins", "two": "zwei", "three": "drei", "four": "vier", "five": "fünf"}


def sentences(count: int, seed: int) -> tuple[list[str], list[str]]:
    """Numbers in words, and in German."""
    draw = random.Random(seed)
    source = [" ".join(draw.choices(list(NUMBERS), k=draw.randint(1, 6))) for _ in range(count)]
    return source, [" ".join(NUMBERS[word] for word in text.split()) for text in source]


def write_lines(path: Path, texts: list[str]) -> str:
    path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return str(path)


def configure(out: Path, numbers: dict[str, Any], **changed: Any) -> TranslateTrainConfig:
    given: dict[str, Any] = {
        **numbers, "out": out, "tokenizer": "words", "layers": 1, "width": 16, "dropout": 0.0,
        "epochs": 2, "batch_size": 256, "lr": 0.01, "warmup": 1.0, "workers": 1, "device": "cpu",
        "precision": "fp32", "label_smoothing": 0.0,
    }  # fmt: skip
    return TranslateTrainConfig(**{**given, **changed})


def weights_of(path: Path) -> dict[str, Tensor]:
    return checkpoint.load(path)[1]


def texts_of_pairs(pairs: list[Pair]) -> list[tuple[str, str]]:
    return [(pair.source, pair.target) for pair in pairs]


def options_of(files: dict[str, list[str]]) -> list[str]:
    """The files as options of the command."""
    return [
        part
        for name, values in files.items()
        for value in values
        for part in (f"--{name.replace('_', '-')}", value)
    ]


ENGLISH = ["A dog runs.", "Two men walk on the street.", "The girl eats a red apple.", "Ein Hund."]
LINES = [
    "A dog runs.",
    "",
    "Two men walk.",
    "   ",
    "The girl eats a red apple on the street, and two dogs walk.",
    "...!?",
    "собака 狗 🐕",
    "a",
]


def random_network(
    vocabulary: TranslationVocabulary, arch: str = "transformer", seed: int = 0
) -> Translator:
    """A random random_network whose next tokens differ much in probability."""
    torch.manual_seed(seed)
    settings: dict[str, Any] = {"width": 16, "layers": 2, "dropout": 0.1}
    if arch == "transformer":
        settings |= {"heads": 2, "ffn_width": 32}
    made = build(arch, **vocabulary.network_settings(), **settings)
    for parameter in made.parameters():
        if parameter.dim() > 1:
            parameter.data *= 2.5
    return made.eval().requires_grad_(False)


def save_model(
    path: Path, vocabulary: TranslationVocabulary, arch: str = "transformer", **settings: Any
) -> Path:
    made = random_network(vocabulary, arch)
    shape: dict[str, Any] = {"width": 16, "layers": 2, "dropout": 0.1}
    if arch == "transformer":
        shape |= {"heads": 2, "ffn_width": 32}
    described = {
        "network": {**vocabulary.network_settings(), **shape},
        "tokenizer": vocabulary.to_settings(),
        **settings,
    }
    checkpoint.save(path, made.state_dict(), Header("translate", arch, described, []))
    return path


def translations_of(results: Any) -> list[str]:
    return [result.translation for result in results if isinstance(result, Translation)]


QUICK = ("--precision", "fp32", "--max-length", "12")


def lines_out(result: Any) -> list[str]:
    assert result.out == "" or result.out.endswith("\n")
    found: list[str] = result.out.split("\n")[:-1]
    return found
