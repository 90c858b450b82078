"""Training speed of translation: `python -m tests.benchmarks.translate_train S T`.

Target tokens per second on the pairs of the files S and T (one sentence per line), in a whole step:
forward, loss, backward, clipping and Adam. The other contender is a plain loop around
torch.nn.Transformer of the same shape, with the same batches, loss and optimizer, one embedding
for source, target and output, and the target's padding ignored in the loss. Both run in fp32 and
with bf16 autocast.
"""

import argparse
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.core.config import Precision
from dlkit.core.nn.transformer import sinusoids
from dlkit.core.parallel import device as devices
from dlkit.core.parallel.distributed import Process
from dlkit.translate import data
from dlkit.translate.config import TranslateTrainConfig, by_arch
from dlkit.translate.loss import smoothed_cross_entropy
from dlkit.translate.model import build
from dlkit.translate.train import network_settings
from tests.benchmarks import harness

LONGEST = 512  # positions of the plain loop


class Plain(nn.Module):
    """A plain model around torch.nn.Transformer."""

    positions: Tensor

    def __init__(self, vocab_size: int, shape: dict[str, Any]) -> None:
        super().__init__()
        width, layers = shape["width"], shape["layers"]
        self.embedding = nn.Embedding(vocab_size, width)
        self.transformer = nn.Transformer(
            width, shape["heads"], layers, layers, shape["ffn_width"], shape["dropout"],
            batch_first=True, norm_first=shape["pre_norm"],
        )  # fmt: skip
        self.dropout = nn.Dropout(shape["dropout"])
        self.register_buffer("positions", sinusoids(LONGEST, width))
        nn.init.normal_(self.embedding.weight, std=width**-0.5)

    def embed(self, ids: Tensor) -> Tensor:
        x = self.embedding(ids) * math.sqrt(self.embedding.embedding_dim)
        y: Tensor = self.dropout(x + self.positions[: ids.shape[1]])
        return y

    def forward(self, source: Tensor, padding: Tensor, target: Tensor) -> Tensor:
        later = torch.ones(target.shape[1], target.shape[1], dtype=torch.bool).triu(1)
        x = self.transformer(
            self.embed(source), self.embed(target), tgt_mask=later.to(source.device),
            src_key_padding_mask=padding, memory_key_padding_mask=padding, tgt_is_causal=True,
        )  # fmt: skip
        return F.linear(x, self.embedding.weight)


def config_of(args: argparse.Namespace) -> TranslateTrainConfig:
    shape = {name: getattr(args, name) for name in ("layers", "width", "ffn_width", "heads")}
    config = TranslateTrainConfig(source=[str(args.source)], target=[str(args.target)])
    return by_arch(replace(config, **shape, batch_size=args.batch_tokens))


def made(
    config: TranslateTrainConfig, steps: int, device: torch.device
) -> tuple[list[list[Tensor]], dict[str, Any]]:
    """Return some batches and the settings of the network."""
    loaded = data.load_data(config)
    settings = network_settings(config, loaded.vocabulary)
    process = Process(0, 1, device)
    every = data.batch_loader(loaded.training, config, process, 0, loaded.vocabulary.pad)
    return [[part.to(device) for part in batch] for batch in islice(every, steps)], settings


def learning(args: argparse.Namespace, plain: bool, precision: Precision) -> Callable[[], object]:
    device = devices.choose(args.device)
    config = config_of(args)
    batches, settings = made(config, args.steps, device)
    torch.manual_seed(0)
    if not plain:
        devices.tune_malloc()
    network: Any = (
        Plain(settings["vocab_size"], settings) if plain else build("transformer", **settings)
    )
    network.to(device).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, betas=(0.9, 0.98))
    pad = settings["pad"]

    def work() -> float:
        for source, lengths, target, _ in batches:
            after = target[:, 1:]
            real = after != pad
            with devices.autocast(device, precision):
                if plain:
                    logits = network(source, source == pad, target[:, :-1])
                else:
                    logits = network(source, lengths, target[:, :-1], 0.0, real)
            if plain:
                loss = F.cross_entropy(
                    logits.float().flatten(0, 1), after.flatten(), ignore_index=pad,
                    label_smoothing=0.1,
                )  # fmt: skip
            else:
                loss = smoothed_cross_entropy(logits, after[real], pad, 0.1)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
        return loss.item()

    return work


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("source", type=Path, help="train.en.txt of multi30k")
    parser.add_argument("target", type=Path, help="train.de.txt")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--ffn-width", type=int, default=256)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--steps", type=int, default=3, help="batches per round")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    args = parser.parse_args()
    harness.machine(args.threads)
    batches, settings = made(config_of(args), args.steps, torch.device("cpu"))
    count = sum(int((target[:, 1:] != settings["pad"]).sum()) for _, _, target, _ in batches)
    precisions: list[Precision] = ["fp32", "bf16"]
    contenders = {
        f"{name} {precision}": partial(learning, args, plain, precision)
        for name, plain in (("dlkit", False), ("nn.Transformer", True))
        for precision in precisions
    }
    for precision in precisions:
        pair = {label: work for label, work in contenders.items() if label.endswith(precision)}
        found = harness.compare_apart(
            f"training {precision}", pair, "tokens", count, args.repeats,
            f"nn.Transformer {precision}", args.threads, args.clock,
        )  # fmt: skip
        harness.require(found[f"dlkit {precision}"], at_least=1.0)


if __name__ == "__main__":
    main()
