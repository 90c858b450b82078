"""Log-probabilities of given texts by neural models.

Shapes: B windows, T tokens of each, V tokens of the vocabulary.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

LOGITS_AT_ONCE = 1 << 24


@dataclass(frozen=True)
class Window:
    """What a model sees of a text at once: ids up to the one before `end`."""

    text: int
    begin: int
    counted: int  # the first id that it foretells and no window before it did
    end: int


@torch.inference_mode()
def logprobs(
    texts: Sequence[Sequence[int]], network: Any, starts: Sequence[int]
) -> list[list[float]]:
    """For each text the log-probabilities of its tokens, given those before, after `starts`.

    Where `starts` is empty, nothing foretells the first one. What is longer than the context is
    read in windows that overlap by half.
    """
    whole = [torch.tensor([*starts, *ids], dtype=torch.long) for ids in texts]
    found: list[list[float]] = [[] for _ in texts]
    windows = [w for text, ids in enumerate(whole) for w in windows_of(text, ids, network.context)]
    for group in groups_of(windows, network.embedding.num_embeddings):
        cut = [whole[w.text][w.begin : w.end] for w in group]
        padded = pad_sequence(cut, batch_first=True).to(network.embedding.weight.device)
        rows = torch.cat([of_targets(*read) for read in reading(network, padded)], dim=1).tolist()
        for window, row in zip(group, rows, strict=True):
            first, last = window.counted - window.begin - 1, window.end - window.begin - 1
            found[window.text] += row[first:last]
    return found


def windows_of(text: int, ids: Tensor, context: int | None) -> Iterator[Window]:
    size = len(ids)
    if size < 2:
        return
    if context is None or size - 1 <= context:
        yield Window(text, 0, 1, size)
        return
    stride = max(context // 2, 1)
    counted = 1
    for begin in range(0, size - 1 - context + stride, stride):
        end = min(begin + context + 1, size)
        yield Window(text, begin, counted, end)
        counted = end


def groups_of(windows: Sequence[Window], vocab_size: int) -> Iterator[list[Window]]:
    """Windows that are read together, in their order within each text."""
    group: list[Window] = []
    longest = 0
    for window in windows:
        length = max(longest, window.end - window.begin)
        if group and (len(group) + 1) * length * vocab_size > LOGITS_AT_ONCE:
            yield group
            group, length = [], window.end - window.begin
        group.append(window)
        longest = length
    if group:
        yield group


def reading(network: Any, ids: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Logits (B, T', V) and what they foretell (B, T') of ids (B, T + 1), part by part."""
    rows, tokens = len(ids), ids.shape[1] - 1
    part = max(1, LOGITS_AT_ONCE // (rows * network.embedding.num_embeddings))
    if tokens <= part:
        yield network(ids[:, :-1]), ids[:, 1:]
        return
    state = network.start(rows, tokens)
    for at in range(0, tokens, part):
        end = min(at + part, tokens)
        yield network(ids[:, at:end], state), ids[:, at + 1 : end + 1]


def of_targets(logits: Tensor, targets: Tensor) -> Tensor:
    """The log-probabilities (B, T) of targets (B, T) under logits (B, T, V)."""
    chosen = logits.gather(-1, targets[..., None])[..., 0]
    return chosen - logits.logsumexp(-1)


@torch.inference_mode()
def pseudo_logprobs(
    texts: Sequence[Sequence[int]], network: Any, special: dict[str, int]
) -> list[list[float]]:
    """For each text the log-probability of each token by a BERT, when it alone is masked.

    Of a text longer than the context it sees what is around the token.
    """
    device = network.embedding.weight.device
    begin, end = torch.tensor([[special["[CLS]"]], [special["[SEP]"]]], device=device)
    found = []
    for ids in texts:
        whole = torch.tensor(ids, dtype=torch.long, device=device)
        size = min(len(ids), network.context - 2)
        rows = max(1, LOGITS_AT_ONCE // (size + 2) // network.position_embedding.embedding_dim)
        of_text: list[float] = []
        for places in torch.arange(len(ids), device=device).split(rows) if ids else ():
            starts = (places - size // 2).clamp(min=0, max=len(ids) - size)
            seen = whole[starts[:, None] + torch.arange(size, device=device)]
            framed = torch.cat([begin.expand(len(seen), 1), seen, end.expand(len(seen), 1)], dim=1)
            asked = torch.zeros_like(framed, dtype=torch.bool)
            asked[torch.arange(len(places), device=device), places - starts + 1] = True
            logits, _ = network(framed.masked_fill(asked, special["[MASK]"]), at=asked)
            of_text += of_targets(logits, whole[places]).tolist()
        found.append(of_text)
    return found


@torch.inference_mode()
def both_ways(
    texts: Sequence[Sequence[int]], network: Any, around: Sequence[int]
) -> list[list[float]]:
    """For each text the mean of each token's log-probabilities by a BiLM, from left and right.

    Texts stand between tokens `around`; without those, the first token is foretold from the right
    only, and the last one from the left.
    """
    found: list[list[float]] = []
    for ids in texts:
        whole = torch.tensor([[*around, *ids, *around]], dtype=torch.long)
        if whole.shape[1] < 2:
            found.append([])
            continue
        whole = whole.to(network.embedding.weight.device)
        right, left = network(whole)
        sums = torch.zeros(whole.shape[1], device=whole.device)
        ways = torch.zeros_like(sums)
        sums[1:] += of_targets(right[:, :-1], whole[:, 1:])[0]
        ways[1:] += 1
        sums[:-1] += of_targets(left[:, 1:], whole[:, :-1])[0]
        ways[:-1] += 1
        found.append((sums / ways)[len(around) : len(around) + len(ids)].tolist())
    return found
