"""The losses of networks on a text: how improbable they found it.

Shapes: N ids of the text, B windows or streams, T ids of each.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from dlkit.core.parallel import device
from dlkit.core.parallel.distributed import Process
from dlkit.lm_generate.config import STREAMED, LmTrainConfig
from dlkit.lm_generate.data import ids_and_targets, window
from dlkit.lm_generate.loss import Objective, masked_loss, span_loss
from dlkit.lm_generate.text_codec import TextCodec

LOGITS_AT_ONCE = 1 << 24
STREAMS = 16  # into which a text is cut while training, each of which starts anew
CHUNK = 256  # tokens of a stream that are read at once


def held_out_scores(
    model: Any, ids: np.ndarray, config: LmTrainConfig, loss_of: Objective, process: Process
) -> dict[str, float]:
    """Loss in nats per token and perplexity on held-out ids (N,): a quick measure while training.

    gpt sees windows that do not overlap, recurrent nets parts of the text that go on; bert, t5
    and bilm have their own loss.
    """
    model.eval()
    with torch.inference_mode(), device.autocast(process.device, config.precision):
        if config.arch in STREAMED:
            losses = stream_losses(model, ids, process, STREAMS)
        elif config.arch == "gpt":
            losses = window_losses(model, ids, config.context, config.context, process)
        else:
            losses = objective_losses(model, ids, window(config), loss_of, process)
    loss = float(losses.mean())
    return {"val_loss": loss, "perplexity": math.exp(min(loss, 700))}


def window_losses(
    model: Any, ids: np.ndarray, context: int, stride: int, process: Process
) -> np.ndarray:
    """Losses in nats (N - 1) of all ids but the first, in float64.

    A window of `context` ids moves on by `stride`: each id is foretold from `context` - `stride`
    ids before it or more, but for those of the first window.
    """
    return windows(model, ids, context, stride, vocabulary(model), process)


def windows(
    logits_of: Callable[[Tensor], Tensor],
    ids: np.ndarray,
    context: int,
    stride: int,
    vocab_size: int,
    process: Process,
) -> np.ndarray:
    """The same, by a function from ids (B, T) to logits (B, T, V) of what follows each."""
    starts = np.arange(0, max(len(ids) - 1 - (context - stride), 1), stride)
    rows = max(1, LOGITS_AT_ONCE // (context * vocab_size))
    groups = [starts[at : at + rows] for at in range(0, len(starts), rows)]

    def losses() -> Iterator[np.ndarray]:
        for group in process.share(groups):
            # What stands behind the text has no effect on what comes before it.
            places = np.minimum(group[:, None] + np.arange(context + 1), len(ids) - 1)
            cut = torch.from_numpy(ids[places].astype(np.int64)).to(process.device)
            found = losses_of(logits_of(cut[:, :-1]), cut[:, 1:])
            for start, row in zip(group.tolist(), found, strict=True):
                fresh = row[context - stride :] if start else row
                yield fresh[: len(ids) - 1 - start - (context - stride if start else 0)]

    return np.concatenate(list(process.gather(losses())))


def stream_losses(model: Any, ids: np.ndarray, process: Process, streams: int = 1) -> np.ndarray:
    """Losses in nats (N - 1) of all ids but the first, in float64.

    The text is read in one go, or in `streams` parts side by side.
    """
    length = -(-(len(ids) - 1) // streams)
    starts = np.arange(0, len(ids) - 1, length)
    mine = np.array(list(process.share(starts.tolist())), np.int64)
    parts: list[np.ndarray] = []
    if len(mine):
        state = model.start(len(mine), length)
        chunk = max(1, min(CHUNK, LOGITS_AT_ONCE // (len(mine) * vocabulary(model))))
        for at in range(0, length, chunk):
            size = min(chunk, length - at)
            places = np.minimum(mine[:, None] + at + np.arange(size + 1), len(ids) - 1)
            cut = torch.from_numpy(ids[places].astype(np.int64)).to(process.device)
            parts.append(losses_of(model(cut[:, :-1], state), cut[:, 1:]))
    of_streams = np.concatenate(parts, axis=1) if parts else np.zeros((0, length))
    return np.concatenate(list(process.gather(of_streams)))[: len(ids) - 1]


def both_directions(model: Any, ids: np.ndarray, stride: int, process: Process) -> np.ndarray:
    """A bilm's mean losses (N - 1): of each id from those before it, and from those behind it."""
    context = model.context

    def backwards(turned: Tensor) -> Tensor:
        logits: Tensor = model(turned.flip(1))[1].flip(1)
        return logits

    size = vocabulary(model)
    before = windows(lambda cut: model(cut)[0], ids, context, stride, size, process)
    behind = windows(backwards, ids[::-1], context, stride, size, process)
    return np.asarray((before + behind) / 2)


def hidden_losses(
    arch: str, model: Any, units: TextCodec, ids: np.ndarray, process: Process
) -> np.ndarray:
    """Mean losses of what bert or t5 were not shown, in groups of windows."""
    tokens = units.tokenizer
    if arch == "t5":
        return objective_losses(model, ids, model.context, span_loss(tokens), process)
    loss_of = masked_loss(tokens, next_sentence=False)
    return objective_losses(model, ids, max(model.context - 2, 1), loss_of, process)


def objective_losses(
    model: Any, ids: np.ndarray, length: int, loss_of: Objective, process: Process
) -> np.ndarray:
    """Mean losses in nats of groups of windows; what they hide at random is always the same."""
    starts = np.arange(0, max(len(ids) - length, 1), length)
    length = min(length, len(ids) - 1)
    rows = max(1, LOGITS_AT_ONCE // (length * vocabulary(model)))
    groups = [(at, starts[at : at + rows]) for at in range(0, len(starts) - rows + 1, rows)]

    def losses() -> Iterator[float]:
        for at, group in process.share(groups or [(0, starts)]):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(at)
                cut, after = ids_and_targets(ids, group, length)
                here = process.device
                yield float(loss_of(model, cut.to(here), after.to(here), None))

    return np.array(list(process.gather(losses())))


def losses_of(logits: Tensor, targets: Tensor) -> np.ndarray:
    """Losses in nats (B, T) of targets (B, T) under logits (B, T, V), in float64."""
    losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
    return losses.view(targets.shape).double().cpu().numpy()


def vocabulary(model: Any) -> int:
    size: int = model.embedding.num_embeddings
    return size
