"""Loss and BLEU on the held-out pairs while a translator is trained."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.nn import functional as F

from dlkit.core.parallel import device
from dlkit.core.parallel.distributed import Process
from dlkit.core.progress import track
from dlkit.translate.config import TranslateTrainConfig, TranslationSearch
from dlkit.translate.data import EncodedPairs, batch_by_tokens, collate_pairs
from dlkit.translate.infer import Predictor, Segment, translate_segments
from dlkit.translate.models.translator import Translator

BATCH_TOKENS = 4096


def validation_scores(
    predictor: Predictor, pairs: EncodedPairs, config: TranslateTrainConfig, process: Process
) -> tuple[dict[str, float], list[str]]:
    """Loss in nats per token, perplexity and BLEU on held-out pairs; also translations of some.

    BLEU is computed on greedy translations of the first `val_limit` sentences.
    """
    predictor.network.eval()
    with torch.inference_mode(), device.autocast(process.device, config.precision):
        loss = math.fsum(pair_losses(predictor.network, pairs, process)) / sum(
            len(t) - 1 for t in pairs.targets
        )
        translations = greedy_translations(predictor, pairs.sources[: config.val_limit], process)
    scores = {"val_loss": loss, "perplexity": math.exp(min(loss, 700))}
    if translations:
        references = [pair.target for pair in pairs.texts[: len(translations)]]
        scores["bleu"] = bleu(translations, references, config.lower)
    return scores, translations


def bleu(translations: Sequence[str], references: Sequence[str], lower: bool = False) -> float:
    """sacreBLEU with its default tokenizer; `lower` ignores case."""
    import sacrebleu

    return float(sacrebleu.corpus_bleu(translations, [list(references)], lowercase=lower).score)


def pair_losses(network: Translator, pairs: EncodedPairs, process: Process) -> list[float]:
    """The loss of each pair, summed over its tokens, in nats; in no particular order."""

    def batch_losses() -> Iterator[list[float]]:
        order = np.arange(len(pairs))
        batches = batch_by_tokens(pairs, BATCH_TOKENS, order)
        for batch in process.share(track(batches, "evaluating")):
            source, lengths, target = (
                tensor.to(process.device) for tensor in collate_pairs(pairs, batch, network.pad)
            )
            logits = network(source, lengths, target[:, :-1])
            found = F.cross_entropy(
                logits.transpose(1, 2), target[:, 1:], ignore_index=network.pad, reduction="none"
            )
            yield found.double().sum(1).tolist()

    return [loss for batch in process.gather(batch_losses()) for loss in batch]


def greedy_translations(
    predictor: Predictor, sources: Sequence[np.ndarray], process: Process
) -> list[str]:
    """The greedy translation of each source's ids."""
    own = list(process.share([Segment("", ids.tolist()) for ids in sources]))
    translate_segments(own, predictor, TranslationSearch(beam=1))
    texts = (segment.found[0].ids if segment.found else [] for segment in own)
    return list(process.gather(predictor.vocabulary.decode(ids) for ids in texts))
