"""Log-probabilities of texts by networks that predict the next token.

Shapes: B windows, T tokens of each, V tokens of the vocabulary.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from dlkit.lm_generate.models.language_model import NextTokenNetwork

LOGITS_AT_ONCE = 1 << 24


@dataclass(frozen=True)
class Window:
    """A part of a text that a network reads at once: ids `begin` to `end` - 1."""

    text: int
    begin: int
    first_new: int  # the first id that no window before it predicts
    end: int


@torch.inference_mode()
def logprobs(
    texts: Sequence[Sequence[int]], network: NextTokenNetwork, starts: Sequence[int]
) -> list[list[float]]:
    """For each text the log-probabilities of its tokens, given those before and `starts`.

    Where `starts` is empty, the first token is not predicted. A text longer than the context is
    read in windows that overlap by half.
    """
    whole = [torch.tensor([*starts, *ids], dtype=torch.long) for ids in texts]
    found: list[list[float]] = [[] for _ in texts]
    windows = [w for text, ids in enumerate(whole) for w in cut_windows(text, ids, network.context)]
    for group in group_windows(windows, network.embedding.num_embeddings):
        cut = [whole[w.text][w.begin : w.end] for w in group]
        padded = pad_sequence(cut, batch_first=True).to(network.embedding.weight.device)
        rows = torch.cat(
            [target_logprobs(*part) for part in predict(network, padded)], dim=1
        ).tolist()
        for window, row in zip(group, rows, strict=True):
            first, last = window.first_new - window.begin - 1, window.end - window.begin - 1
            found[window.text] += row[first:last]
    return found


def cut_windows(text: int, ids: Tensor, context: int | None) -> Iterator[Window]:
    """Cut a text in windows of the context's length."""
    size = len(ids)
    if size < 2:
        return
    if context is None or size - 1 <= context:
        yield Window(text, 0, 1, size)
        return
    stride = max(context // 2, 1)
    first_new = 1
    for begin in range(0, size - 1 - context + stride, stride):
        end = min(begin + context + 1, size)
        yield Window(text, begin, first_new, end)
        first_new = end


def group_windows(windows: Sequence[Window], vocab_size: int) -> Iterator[list[Window]]:
    """Group windows that are read together: those of one text, in their order.

    Rounding depends on the shapes of products, so that a score computed beside other texts would
    depend on them.
    """
    group: list[Window] = []
    longest = 0
    for window in windows:
        length = max(longest, window.end - window.begin)
        full = (len(group) + 1) * length * vocab_size > LOGITS_AT_ONCE
        if group and (full or window.text != group[0].text):
            yield group
            group, length = [], window.end - window.begin
        group.append(window)
        longest = length
    if group:
        yield group


def predict(network: NextTokenNetwork, ids: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield logits (B, T', V) and their targets (B, T') of ids (B, T + 1), part by part."""
    rows, tokens = len(ids), ids.shape[1] - 1
    part = max(1, LOGITS_AT_ONCE // (rows * network.embedding.num_embeddings))
    if tokens <= part:
        yield network(ids[:, :-1]), ids[:, 1:]
        return
    state = network.start(rows, tokens)
    for at in range(0, tokens, part):
        end = min(at + part, tokens)
        yield network(ids[:, at:end], state), ids[:, at + 1 : end + 1]


def target_logprobs(logits: Tensor, targets: Tensor) -> Tensor:
    """The log-probabilities (B, T) of targets (B, T) under logits (B, T, V)."""
    chosen = logits.gather(-1, targets[..., None])[..., 0]
    return chosen - logits.logsumexp(-1)
