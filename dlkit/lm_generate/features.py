"""Vectors of tokens in their context, from networks that see both sides: bilm and bert."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.core.parallel.sharding import Shard, map_shard
from dlkit.lm_generate.infer import Model, one_line


@dataclass(frozen=True)
class Features:
    """A vector for each token of a text."""

    text: str
    tokens: list[str]
    vectors: list[list[float]]

    def rows(self) -> list[dict[str, Any]]:
        return [
            {"token": one_line(token), **{str(index): value for index, value in enumerate(vector)}}
            for token, vector in zip(self.tokens, self.vectors, strict=True)
        ]


def features(
    texts: Iterable[str], model: Model, layer: int | None = None, shard: Shard | None = None
) -> Iterator[Features | Failure]:
    """What a layer of the network knows of each token; by default the last layer.

    Only the `shard` of the texts is described; without one, the processes share them.
    """
    if model.arch not in ("bilm", "bert"):
        raise DlkitError(f"{model.name} is of --arch {model.arch}: bilm and bert describe tokens")

    def results(shared: Iterator[str]) -> Iterator[Features | Failure]:
        for text in shared:
            try:
                ids = model.units.encode(text)
                vectors = described(ids, model, layer) if ids else []
            except DlkitError as error:
                yield Failure(text, str(error))
                continue
            names = [model.units.tokenizer.names[i] for i in ids]
            shortest = [[float(f"{number:.7g}") for number in vector] for vector in vectors]
            yield Features(text, names, shortest)

    return map_shard(results, texts, model.device_name, shard)


@torch.inference_mode()
def described(ids: list[int], model: Model, layer: int | None) -> list[list[float]]:
    network, device = model.network, model.network.embedding.weight.device
    found: Tensor
    if model.arch == "bilm":
        of_layers = network.features(torch.tensor([ids], device=device))
        if not 0 <= (len(of_layers) - 1 if layer is None else layer) < len(of_layers):
            raise DlkitError(f"--layer {layer}: {model.name} has layers 0 to {len(of_layers) - 1}")
        found = of_layers[-1 if layer is None else layer]
    else:
        if layer is not None:
            raise DlkitError("--layer is for a bilm; of a bert there is the last one")
        marks = model.marks
        if len(ids) + 2 > network.context:
            raise DlkitError(
                f"it has {len(ids) + 2} tokens, and {model.name} sees {network.context}"
            )
        framed = [marks["[CLS]"], *ids, marks["[SEP]"]]
        found = network.hidden(torch.tensor([framed], device=device))[:, 1:-1]
    vectors: list[list[float]] = found[0].float().tolist()
    return vectors
