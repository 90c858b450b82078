"""How well a network foretells and translates the pairs held out, as measured while it trains.

Shapes: B pairs, T target tokens of the longest of them.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.nn import functional as F

from dlkit.core import device
from dlkit.core.distributed import Process
from dlkit.translate.config import TranslateTrainConfig
from dlkit.translate.data import Pairs, by_tokens, collated, padded
from dlkit.translate.vocabulary import Vocabulary

TOKENS_AT_ONCE = 4096
LONGER = 50  # tokens by which a translation may be longer than its source


def held_out_scores(
    model: Any,
    pairs: Pairs,
    vocabulary: Vocabulary,
    config: TranslateTrainConfig,
    process: Process,
) -> tuple[dict[str, float], list[str]]:
    """Loss in nats per token, perplexity and BLEU on held-out pairs; and translations of some.

    BLEU is that of greedy translations of the first `val_sentences`.
    """
    model.eval()
    with torch.inference_mode(), device.autocast(process.device, config.precision):
        loss = math.fsum(losses(model, pairs, process)) / sum(len(t) - 1 for t in pairs.targets)
        sources = pairs.sources[: config.val_sentences]
        written = [vocabulary.decode(ids) for ids in translations(model, sources, process)]
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
        order = torch.arange(len(pairs)).numpy()
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


def translations(model: Any, sources: Sequence[Any], process: Process) -> list[list[int]]:
    """The most probable token after each other, for each source."""
    order = sorted(range(len(sources)), key=lambda index: len(sources[index]))
    groups: list[list[int]] = []
    for index in order:
        if groups and len(sources[index]) * (len(groups[-1]) + 1) <= TOKENS_AT_ONCE:
            groups[-1].append(index)
        else:
            groups.append([index])

    def of_groups() -> Iterator[list[list[int]]]:
        for group in process.share(groups):
            rows = [sources[index] for index in group]
            lengths = torch.tensor([len(row) for row in rows])
            yield greedy(
                model, padded(rows, model.pad).to(process.device), lengths.to(process.device)
            )

    found = [ids for group in process.gather(of_groups()) for ids in group]
    placed: list[list[int]] = [[] for _ in sources]
    for index, ids in zip((index for group in groups for index in group), found, strict=True):
        placed[index] = ids
    return placed


def greedy(model: Any, source: torch.Tensor, lengths: torch.Tensor) -> list[list[int]]:
    """The ids that the model writes for sources (B, S): always the most probable, up to </s>."""
    most = int(lengths.max()) + LONGER
    state = model.start(source, lengths, most)
    newest = torch.full((len(source),), model.bos, device=source.device)
    written = []
    ended = torch.zeros(len(source), dtype=torch.bool, device=source.device)
    for _ in range(most):
        logits, _ = model.step(newest, state)
        newest = logits.argmax(1)
        written.append(newest)
        ended |= newest == model.eos
        if bool(ended.all()):
            break
    rows = torch.stack(written, 1).tolist()
    return [row[: row.index(model.eos)] if model.eos in row else row for row in rows]
