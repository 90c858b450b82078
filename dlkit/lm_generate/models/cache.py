"""What the Transformers share: the past of each layer, kept while a text grows.

Shapes: B texts, T new tokens, H heads of D numbers, L layers.
"""

from collections.abc import Callable
from functools import partial
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

from dlkit.lm_generate.model import State

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu-tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
}


def present(ids: Tensor, lengths: Tensor) -> Tensor:
    """Where rows have tokens (B, 1, 1, T); what is right of their lengths (B) is padding."""
    seen = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]
    return seen[:, None, None]


class Cache(State):
    """Keys and values of all layers, in memory reserved for `capacity` tokens."""

    def __init__(
        self, layers: int, batch: int, capacity: int, heads: int, size: int, like: Tensor
    ) -> None:
        """On the device of `like`, and of its type; on a CPU fp32.

        There attention of one token to many is several times quicker in fp32 than in bf16.
        """
        dtype = torch.float32 if like.device.type == "cpu" else like.dtype
        # Zeros: masked attention multiplies what was never written with 0, and 0 x NaN is NaN.
        self.keys = like.new_zeros(layers, batch, heads, capacity, size, dtype=dtype)
        self.values = torch.zeros_like(self.keys)
        self.lengths = torch.zeros(batch, dtype=torch.long, device=like.device)  # tokens, each row
        self.longest = 0  # no row has more tokens
        self.even = True  # all rows have `longest` tokens
        self.steps = 0  # of one token, since these rows are together
        # How far a step sees that is replayed as a CUDA graph; 0: there is none.
        self.window = 0
        self.step: Callable[[Tensor], Tensor] | None = None

    @property
    def capacity(self) -> int:
        return self.keys.shape[3]

    def select(self, rows: Tensor) -> Self:
        chosen = object.__new__(type(self))
        shape = list(self.keys.shape)
        shape[1] = len(rows)
        chosen.keys, chosen.values = self.keys.new_zeros(shape), self.keys.new_zeros(shape)
        chosen.keys[..., : self.longest, :] = self.keys[:, rows, :, : self.longest]
        chosen.values[..., : self.longest, :] = self.values[:, rows, :, : self.longest]
        chosen.lengths = self.lengths[rows]
        chosen.longest, chosen.even = self.longest, self.even
        chosen.steps, chosen.window, chosen.step = 0, 0, None
        return chosen

    def detach(self) -> None:
        self.keys, self.values = self.keys.detach(), self.values.detach()

    def begin(self, tokens: int, lengths: Tensor | None) -> Tensor:
        """Make ready for `tokens` more in each row; their positions (T), or (B, T)."""
        replayed = bool(self.window) and tokens == 1
        self.end = self.window if replayed else min(self.longest + tokens, self.capacity)
        steps = torch.arange(tokens, device=self.lengths.device)
        if self.even and not replayed:
            self.places = None
            positions = steps + self.longest
            # Without a mask attention is causal from the first token on; one token sees all.
            self.mask = None
            if self.longest and tokens > 1:
                self.mask = torch.arange(self.end, device=steps.device) <= positions[:, None]
            return positions
        positions = self.lengths[:, None] + steps
        if lengths is None:
            rows = torch.arange(len(positions), device=steps.device).repeat_interleave(tokens)
            columns = steps.repeat(len(positions))
        else:
            rows, columns = (steps < lengths[:, None]).nonzero(as_tuple=True)
            positions = positions.clamp(max=self.capacity - 1)
        self.places = rows, columns, positions[rows, columns]
        seen = torch.arange(self.end, device=steps.device)
        self.mask = (seen <= positions[..., None])[:, None]
        return positions

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store the new keys and values (B, T, H, D); returns all so far (B, H, S', D)."""
        for kept, new in ((self.keys[layer], keys), (self.values[layer], values)):
            if self.places is None:
                kept[:, :, self.longest : self.end] = new.transpose(1, 2)
            else:
                rows, columns, positions = self.places
                kept[rows, :, positions] = new[rows, columns].to(kept.dtype)
        return self.keys[layer, :, :, : self.end], self.values[layer, :, :, : self.end]

    def advance(self, tokens: int, lengths: Tensor | None) -> None:
        self.lengths += tokens if lengths is None else lengths  # in place: graphs know the memory
        self.longest = min(self.longest + tokens, self.capacity)
        if lengths is not None:
            self.longest = int(self.lengths.max())
            self.even = bool((self.lengths == self.longest).all())
