"""How well a network foretells and writes the captions held out, as measured while it trains.

Shapes: B images, P places of C numbers.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from dlkit.caption.config import CaptionTrainConfig
from dlkit.caption.data import Captions
from dlkit.caption.metrics import caption_metrics
from dlkit.core.generation.beam_search import beam_search
from dlkit.core.nn.padding import padded
from dlkit.core.parallel import device
from dlkit.core.parallel.distributed import Process
from dlkit.tokenize import DecoderVocabulary

BATCH = 64  # images or captions that are computed at once

Memories = Callable[[Sequence[str]], Tensor]  # of the images of these paths: (B, P, C)


def held_out_scores(
    network: Any,
    vocabulary: DecoderVocabulary,
    held_out: Captions,
    memories: Memories,
    longest: int,
    config: CaptionTrainConfig,
    process: Process,
) -> tuple[dict[str, float], list[str]]:
    """Loss in nats per token, and the scores of greedy captions; and these captions.

    They are those of the first `val_images`, of at most `longest` tokens.
    """
    network.eval()
    with torch.inference_mode(), device.autocast(process.device, config.precision):
        loss = math.fsum(losses(network, held_out, memories, process)) / sum(
            len(ids) - 1 for ids in held_out.ids
        )
        some = held_out.samples[: config.val_images]
        paths = [str(sample.path) for sample in some]
        written = captions(network, vocabulary, paths, memories, longest, process)
    scores = {"val_loss": loss}
    if written:
        scores |= caption_metrics(written, [sample.captions for sample in some])
    return scores, written


def losses(network: Any, held_out: Captions, memories: Memories, process: Process) -> list[float]:
    """The loss of each caption, summed over its tokens, in nats; in no certain order."""
    paths = held_out.paths

    def of_batches() -> Iterator[list[float]]:
        for start in process.share(range(0, len(held_out), BATCH)):
            end = start + BATCH
            memory = memories([paths[number] for number in held_out.images[start:end]])
            target = padded(held_out.ids[start:end], network.pad).to(process.device)
            logits = network(memory.to(process.device), target[:, :-1]).logits
            found = F.cross_entropy(
                logits.transpose(1, 2), target[:, 1:], ignore_index=network.pad, reduction="none"
            )
            yield found.double().sum(1).tolist()

    return [loss for batch in process.gather(of_batches()) for loss in batch]


def captions(
    network: Any,
    vocabulary: DecoderVocabulary,
    paths: Sequence[str],
    memories: Memories,
    longest: int,
    process: Process,
) -> list[str]:
    """The greedy caption of each image."""

    def of_batches() -> Iterator[list[str]]:
        for start in process.share(range(0, len(paths), BATCH)):
            memory = memories(paths[start : start + BATCH]).to(process.device)
            lengths = torch.full((len(memory),), memory.shape[1], device=memory.device)
            limits = torch.full_like(lengths, longest)
            found = beam_search(network, memory, lengths, limits, beam=1, alpha=0.0)
            yield [vocabulary.decode(texts[0].ids) if texts else "" for texts in found]

    return [caption for batch in process.gather(of_batches()) for caption in batch]
