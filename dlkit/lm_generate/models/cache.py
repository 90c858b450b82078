"""Key-value cache of the Transformers, with a row for each text of a batch.

Shapes: B texts, T new tokens, H heads of D numbers, L layers.
"""

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

from dlkit.lm_generate.models.language_model import DecoderState

# On a CPU attention covers one of these numbers of tokens, or a multiple of the last one, and a
# mask hides those that do not exist yet: up to 256 tokens the sums of a row then have the same
# order, whatever the lengths of the other rows. (That of 192 tokens is another.)
SPANS = (64, 128, 256)
# There the kernel sums in another order for the last one to three queries of a block of 32.
QUERIES = 4


def round_up(number: int, block: int) -> int:
    """Round up to a multiple of `block`."""
    return -(-number // block) * block


def span(tokens: int, device: torch.device) -> int:
    """The number of tokens that attention covers for `tokens` of them."""
    if device.type != "cpu":
        return tokens
    return next((size for size in SPANS if tokens <= size), round_up(tokens, SPANS[-1]))


def present(ids: Tensor, lengths: Tensor) -> Tensor:
    """Mask (B, 1, 1, T) of the tokens within each row's length (B); the others are padding."""
    seen = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]
    return seen[:, None, None]


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """Attention of query (B, H, T, D) to the keys and values of a cache (B, H, S, D): (B, H, T, D).

    On a CPU the result for a text does not depend on the lengths of the others.
    """
    tokens = query.shape[-2]
    if query.is_cpu and tokens > 1 and (extra := -tokens % QUERIES):
        query, mask = F.pad(query, (0, 0, 0, extra)), F.pad(mask, (0, 0, 0, extra))
    mixed = F.scaled_dot_product_attention(query, key, value, mask)
    return mixed[..., :tokens, :]


class KeyValueCache(DecoderState):
    """Keys and values of all layers, with memory reserved for `capacity` tokens."""

    def __init__(
        self, layers: int, batch: int, capacity: int, heads: int, size: int, like: Tensor
    ) -> None:
        """The cache has the device and dtype of `like`; on a CPU it is fp32.

        There attention of one token to many is several times faster in fp32 than in bf16.
        """
        dtype = torch.float32 if like.device.type == "cpu" else like.dtype
        shape = (2, batch, heads, span(capacity, like.device), size)  # keys, and values
        self.capacity = capacity
        # Zeros: masked attention multiplies unwritten memory by 0, and 0 x NaN is NaN.
        self.layers = [torch.zeros(shape, dtype=dtype, device=like.device) for _ in range(layers)]
        self.lengths = torch.zeros(batch, dtype=torch.long, device=like.device)  # tokens, each row
        self.longest = 0  # no row has more tokens
        self.even = True  # all rows have `longest` tokens
        self.steps = 0  # of one token, since these rows were selected
        # Tokens that a step replayed as a CUDA graph attends to; 0: no graph.
        self.window = 0
        self.step: Callable[[Tensor], Tensor] | None = None

    @property
    def dtype(self) -> torch.dtype:
        return self.layers[0].dtype

    def select(self, rows: Tensor) -> Self:
        chosen = object.__new__(type(self))
        chosen.layers = []
        for kept in self.layers:
            chosen.layers.append(kept.new_zeros(2, len(rows), *kept.shape[2:]))
            chosen.layers[-1][..., : self.longest, :] = kept[:, rows, :, : self.longest]
        chosen.capacity = self.capacity
        chosen.lengths = self.lengths[rows]
        chosen.longest, chosen.even = self.longest, self.even
        chosen.steps, chosen.window, chosen.step = 0, 0, None
        return chosen

    def detach(self) -> None:
        self.layers = [kept.detach() for kept in self.layers]

    def begin(self, tokens: int, lengths: Tensor | None) -> Tensor:
        """Prepare for `tokens` more in each row, and return their positions (T) or (B, T)."""
        replayed = bool(self.window) and tokens == 1
        self.end = min(self.longest + tokens, self.capacity)
        self.attended = self.window if replayed else span(self.end, self.lengths.device)
        steps = torch.arange(tokens, device=self.lengths.device)
        places = torch.arange(self.attended, device=steps.device)
        if self.even and not replayed:
            self.places = None
            positions = steps + self.longest
            self.mask: Tensor | None = self.additive_mask(places > positions[:, None])
            if not self.lengths.is_cpu and (tokens == 1 or not self.longest):
                self.mask = (
                    None  # it would hide nothing, or only later tokens, which is_causal does
                )
            return positions
        positions = self.lengths[:, None] + steps
        if lengths is None:
            rows = torch.arange(len(positions), device=steps.device).repeat_interleave(tokens)
            columns = steps.repeat(len(positions))
        else:
            rows, columns = (steps < lengths[:, None]).nonzero(as_tuple=True)
            positions = positions.clamp(max=self.capacity - 1)
        self.places = rows, columns, positions[rows, columns]
        self.mask = self.additive_mask((places > positions[..., None])[:, None])
        return positions

    def additive_mask(self, unseen: Tensor) -> Tensor:
        """Mask to add to the scores, converted once here instead of in each layer."""
        return torch.zeros(unseen.shape, dtype=self.dtype, device=unseen.device).masked_fill_(
            unseen, -torch.inf
        )

    def extend(self, layer: int, new: Tensor) -> Tensor:
        """Store new keys and values (2, B, H, T, D), and return all so far (2, B, H, S, D)."""
        kept = self.layers[layer]
        if self.places is None:
            kept[:, :, :, self.longest : self.end] = new
        else:
            rows, columns, positions = self.places
            kept[:, rows, :, positions] = new[:, rows, :, columns].to(kept.dtype)
        return kept[:, :, :, : self.attended]

    def advance(self, tokens: int, lengths: Tensor | None) -> None:
        self.lengths += tokens if lengths is None else lengths  # in place: graphs hold its address
        self.longest = min(self.longest + tokens, self.capacity)
        if lengths is not None:
            self.longest = int(self.lengths.max())
            self.even = bool((self.lengths == self.longest).all())
