"""How well a network foretells and translates the pairs held out, as measured while it trains."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from dlkit.core.parallel import device
from dlkit.core.parallel.distributed import Process
from dlkit.translate.config import TranslateTrainConfig
from dlkit.translate.data import Pairs, by_tokens, collated
from dlkit.translate.infer import Model, Part, Search, write

TOKENS_AT_ONCE = 4096


def held_out_scores(
    model: Model, pairs: Pairs, config: TranslateTrainConfig, process: Process
) -> tuple[dict[str, float], list[str]]:
    """Loss in nats per token, perplexity and BLEU on held-out pairs; and translations of some.

    BLEU is that of greedy translations of the first `val_sentences`.
    """
    model.network.eval()
    with torch.inference_mode(), device.autocast(process.device, config.precision):
        loss = math.fsum(losses(model.network, pairs, process)) / sum(
            len(t) - 1 for t in pairs.targets
        )
        written = translations(model, pairs.sources[: config.val_sentences], process)
    scores = {"val_loss": loss, "perplexity": math.exp(min(loss, 700))}
    if written:
        references = [pair.target for pair in pairs.texts[: len(written)]]
        scores["bleu"] = bleu(written, references, config.lower)
    return scores, written


def bleu(written: Sequence[str], references: Sequence[str], lower: bool = False) -> float:
    """sacreBLEU with its default tokenizer; without regard to case for a model without it."""
    import sacrebleu

    return float(sacrebleu.corpus_bleu(written, [list(references)], lowercase=lower).score)


def losses(model: Any, pairs: Pairs, process: Process) -> list[float]:
    """The loss of each pair, summed over its tokens, in nats; in no certain order."""

    def of_batches() -> Iterator[list[float]]:
        order = np.arange(len(pairs))
        for batch in process.share(by_tokens(pairs, TOKENS_AT_ONCE, order)):
            source, lengths, target = (
                tensor.to(process.device) for tensor in collated(pairs, batch, model.pad)
            )
            logits = model(source, lengths, target[:, :-1])
            found = F.cross_entropy(
                logits.transpose(1, 2), target[:, 1:], ignore_index=model.pad, reduction="none"
            )
            yield found.double().sum(1).tolist()

    return [loss for batch in process.gather(of_batches()) for loss in batch]


def translations(model: Model, sources: Sequence[np.ndarray], process: Process) -> list[str]:
    """The greedy translation of each source's ids."""
    parts = [Part("", ids.tolist()) for ids in sources]
    mine = list(process.share(parts))
    write(mine, model, Search(beam=1))
    texts = (part.written[0].ids if part.written else [] for part in mine)
    return list(process.gather(model.vocabulary.decode(ids) for ids in texts))
