"""Sampling of the next token, in torch: the functions of sampling.py.

Shapes: B texts, V tokens of the vocabulary.
"""

import math

import torch
from torch import Tensor

from dlkit.core.generation.sampling import FEW, Sampling

BLOCK = 256  # tokens whose weights are summed first


def choose(logits: Tensor, sampling: Sampling, uniforms: Tensor) -> Tensor:
    """The next tokens (B) from logits (B, V), by one uniform number (B) from 0 to below 1 each."""
    if sampling.greedy:
        return logits.argmax(-1)
    scaled = logits if sampling.temperature == 1 else logits / sampling.temperature
    weights = (scaled - scaled.amax(-1, keepdim=True)).exp_()
    if sampling.top_k or sampling.top_p < 1 or sampling.min_p:
        weights.masked_fill_(scaled < floor(scaled, sampling), 0)
    return draw_columns(weights, uniforms)


def draw_columns(weights: Tensor, uniforms: Tensor) -> Tensor:
    """The columns (B) where the cumulative weights (B, V) exceed this share of their sum.

    Only the sums of blocks, and the weights of one block, are accumulated: all of them in double
    precision would take as long as a small network.
    """
    whole = weights.shape[1] // BLOCK * BLOCK
    sums = weights[:, :whole].unflatten(1, (-1, BLOCK)).sum(-1, dtype=torch.float64)
    rest = weights[:, whole:].sum(-1, keepdim=True, dtype=torch.float64)
    cumulative = torch.cat([sums, rest], dim=1).cumsum(-1)
    target = uniforms[:, None] * cumulative[:, -1:]
    block = torch.searchsorted(cumulative, target, right=True).clamp(max=cumulative.shape[1] - 1)
    before = torch.where(block > 0, cumulative.gather(1, (block - 1).clamp(min=0)), 0.0)
    columns = block * BLOCK + torch.arange(BLOCK, device=weights.device)
    there = columns < weights.shape[1]
    inside = weights.gather(1, columns.clamp(max=weights.shape[1] - 1)) * there
    place = torch.searchsorted(before + inside.cumsum(-1, dtype=torch.float64), target, right=True)
    # The sums may differ in the last bit: the last token of a block that has weight.
    last = (torch.arange(BLOCK, device=weights.device) * (inside > 0)).amax(-1, keepdim=True)
    return (block * BLOCK + torch.minimum(place, last))[:, 0]


def floor(scaled: Tensor, sampling: Sampling) -> Tensor:
    """The lowest logit (B, 1) that top-k, top-p and min-p keep."""
    lowest = scaled.new_full((len(scaled), 1), -torch.inf)
    size = scaled.shape[-1]
    few = sampling.top_k if 0 < sampling.top_k < size else 0
    ranked = scaled.topk(few, dim=-1).values if few else scaled
    if few:
        lowest = ranked[:, -1:]
    if sampling.top_p < 1:
        total = ranked.logsumexp(-1, keepdim=True)
        if not few:
            ranked = scaled.topk(min(FEW, size), dim=-1).values
        mass = (ranked - total).exp().cumsum(-1, dtype=torch.float64)
        if not few and bool((mass[:, -1] < sampling.top_p).any()):
            ranked = scaled.sort(dim=-1, descending=True).values
            mass = (ranked - total).exp().cumsum(-1, dtype=torch.float64)
        place = (mass < sampling.top_p).sum(-1, keepdim=True).clamp(max=ranked.shape[-1] - 1)
        lowest = torch.maximum(lowest, ranked.gather(-1, place))
    if sampling.min_p:
        lowest = torch.maximum(lowest, scaled.amax(-1, keepdim=True) + math.log(sampling.min_p))
    return lowest
