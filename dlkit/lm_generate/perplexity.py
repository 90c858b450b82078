"""Losses of networks on a long text, by windows, streams or a training objective.

Shapes: N ids of the text, B windows or streams, T ids of each.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from dlkit.core.parallel.distributed import Process
from dlkit.lm_generate.data import ids_and_targets

LOGITS_AT_ONCE = 1 << 24
CHUNK = 256  # tokens of a stream that are read at once


def window_losses(
    network: Any, ids: np.ndarray, context: int, stride: int, process: Process
) -> np.ndarray:
    """Losses in nats (N - 1) of all ids but the first, in float64.

    A window of `context` ids moves by `stride`: each id is predicted from at least `context` -
    `stride` ids before it, except in the first window.
    """
    return windows(network, ids, context, stride, vocab_size(network), process)


def windows(
    logits_of: Callable[[Tensor], Tensor],
    ids: np.ndarray,
    context: int,
    stride: int,
    num_tokens: int,
    process: Process,
) -> np.ndarray:
    """`window_losses` of a function from ids (B, T) to logits (B, T, V) of the next ids."""
    starts = np.arange(0, max(len(ids) - 1 - (context - stride), 1), stride)
    rows = max(1, LOGITS_AT_ONCE // (context * num_tokens))
    groups = [starts[at : at + rows] for at in range(0, len(starts), rows)]

    def losses() -> Iterator[np.ndarray]:
        for group in process.share(groups):
            # The last window is padded: later ids have no effect on earlier ones.
            places = np.minimum(group[:, None] + np.arange(context + 1), len(ids) - 1)
            cut = torch.from_numpy(ids[places].astype(np.int64)).to(process.device)
            found = token_losses(logits_of(cut[:, :-1]), cut[:, 1:])
            for start, row in zip(group.tolist(), found, strict=True):
                new = row[context - stride :] if start else row
                yield new[: len(ids) - 1 - start - (context - stride if start else 0)]

    return np.concatenate(list(process.gather(losses())))


def stream_losses(network: Any, ids: np.ndarray, process: Process, streams: int = 1) -> np.ndarray:
    """Losses in nats (N - 1) of all ids but the first, in float64.

    The text is read as one stream, or cut in `streams` parts that are read side by side.
    """
    length = -(-(len(ids) - 1) // streams)
    starts = np.arange(0, len(ids) - 1, length)
    mine = np.array(list(process.share(starts.tolist())), np.int64)
    parts: list[np.ndarray] = []
    if len(mine):
        state = network.start(len(mine), length)
        chunk = max(1, min(CHUNK, LOGITS_AT_ONCE // (len(mine) * vocab_size(network))))
        for at in range(0, length, chunk):
            size = min(chunk, length - at)
            places = np.minimum(mine[:, None] + at + np.arange(size + 1), len(ids) - 1)
            cut = torch.from_numpy(ids[places].astype(np.int64)).to(process.device)
            parts.append(token_losses(network(cut[:, :-1], state), cut[:, 1:]))
    rows = np.concatenate(parts, axis=1) if parts else np.zeros((0, length))
    return np.concatenate(list(process.gather(rows)))[: len(ids) - 1]


def objective_losses(
    network: Any,
    ids: np.ndarray,
    length: int,
    objective: Callable[[Any, Tensor, Tensor, Any], Tensor],
    process: Process,
) -> np.ndarray:
    """Mean losses in nats of groups of windows, with the same random masks each time."""
    starts = np.arange(0, max(len(ids) - length, 1), length)
    length = min(length, len(ids) - 1)
    rows = max(1, LOGITS_AT_ONCE // (length * vocab_size(network)))
    groups = [(at, starts[at : at + rows]) for at in range(0, len(starts) - rows + 1, rows)]

    def losses() -> Iterator[float]:
        for at, group in process.share(groups or [(0, starts)]):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(at)
                cut, after = ids_and_targets(ids, group, length)
                here = process.device
                yield float(objective(network, cut.to(here), after.to(here), None))

    return np.array(list(process.gather(losses())))


def token_losses(logits: Tensor, targets: Tensor) -> np.ndarray:
    """Losses in nats (B, T) of targets (B, T) under logits (B, T, V), in float64."""
    losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
    return losses.view(targets.shape).double().cpu().numpy()


def vocab_size(network: Any) -> int:
    size: int = network.embedding.num_embeddings
    return size
