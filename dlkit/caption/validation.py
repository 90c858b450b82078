"""Loss and caption metrics on the held-out images while a captioner is trained.

Shapes: B images, P locations of C channels.
"""

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from dlkit.caption.config import CaptionTrainConfig
from dlkit.caption.data import EncodedCaptions
from dlkit.caption.metrics import caption_metrics
from dlkit.caption.models.captioner import Captioner
from dlkit.core.generation.beam_search import beam_search
from dlkit.core.nn.padding import padded
from dlkit.core.parallel import device
from dlkit.core.parallel.distributed import Process
from dlkit.core.progress import track
from dlkit.tokenize import DecoderVocabulary

BATCH = 64  # images or captions that are computed together

Encode = Callable[[Sequence[str]], Tensor]  # image paths -> memories (B, P, C)


def validation_scores(
    network: Captioner,
    vocabulary: DecoderVocabulary,
    held_out: EncodedCaptions,
    encode: Encode,
    longest: int,
    config: CaptionTrainConfig,
    process: Process,
) -> tuple[dict[str, float], list[str]]:
    """Loss in nats per token, and metrics of greedy captions; also these captions.

    The first `val_limit` images are captioned, with at most `longest` tokens each.
    """
    network.eval()
    with torch.inference_mode(), device.autocast(process.device, config.precision):
        loss = math.fsum(caption_losses(network, held_out, encode, process)) / sum(
            len(ids) - 1 for ids in held_out.ids
        )
        some = held_out.samples[: config.val_limit]
        paths = [str(sample.path) for sample in some]
        captions = greedy_captions(network, vocabulary, paths, encode, longest, process)
    scores = {"val_loss": loss}
    if captions:
        scores |= caption_metrics(captions, [sample.captions for sample in some])
    return scores, captions


def caption_losses(
    network: Captioner, held_out: EncodedCaptions, encode: Encode, process: Process
) -> list[float]:
    """The loss of each caption, summed over its tokens, in nats; in no particular order."""
    paths = held_out.paths

    def batch_losses() -> Iterator[list[float]]:
        for start in process.share(track(range(0, len(held_out), BATCH), "evaluating")):
            end = start + BATCH
            memory = encode([paths[number] for number in held_out.images[start:end]])
            target = padded(held_out.ids[start:end], network.pad).to(process.device)
            logits = network(memory.to(process.device), target[:, :-1]).logits
            found = F.cross_entropy(
                logits.transpose(1, 2), target[:, 1:], ignore_index=network.pad, reduction="none"
            )
            yield found.double().sum(1).tolist()

    return [loss for batch in process.gather(batch_losses()) for loss in batch]


def greedy_captions(
    network: Captioner,
    vocabulary: DecoderVocabulary,
    paths: Sequence[str],
    encode: Encode,
    longest: int,
    process: Process,
) -> list[str]:
    """The greedy caption of each image."""

    def batch_captions() -> Iterator[list[str]]:
        for start in process.share(track(range(0, len(paths), BATCH), "captioning")):
            memory = encode(paths[start : start + BATCH]).to(process.device)
            lengths = torch.full((len(memory),), memory.shape[1], device=memory.device)
            limits = torch.full_like(lengths, longest)
            found = beam_search(network, memory, lengths, limits, beam=1, alpha=0.0)
            yield [vocabulary.decode(texts[0].ids) if texts else "" for texts in found]

    return [caption for batch in process.gather(batch_captions()) for caption in batch]
