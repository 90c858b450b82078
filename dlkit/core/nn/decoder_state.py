"""Decoder state between two steps: encoder memory and caches."""

from collections.abc import Sequence

import torch
from torch import Tensor


class DecoderState:
    """The state of each row in decoding: its source, and the tokens generated so far."""

    def select(self, rows: Tensor) -> "DecoderState":
        """The state of these rows (N), which may repeat, be fewer, or change places.

        It may share memory with this one: only one of the two can be used afterwards.
        """
        raise NotImplementedError


class EncoderMemory:
    """The encoder's output, stored once for each source and used by all of its beams.

    Tensors (any, M, ...) of M sources; R = M x K rows are decoded, K beams of each source. As long
    as all sources have the same number of beams, side by side, nothing is copied when beams change
    places.
    """

    def __init__(self, tensors: Sequence[Tensor], beams: int = 1) -> None:
        self.tensors = list(tensors)
        self.beams = beams  # K

    def select(self, rows: Tensor) -> "EncoderMemory":
        """The memory of these rows (N) of the R."""
        sources, counts = (rows // self.beams).unique_consecutive(return_counts=True)
        beams = int(counts[0]) if len(counts) else 1
        if not bool((counts == beams).all()):
            sources, beams = rows // self.beams, 1
        if torch.equal(sources, torch.arange(self.tensors[0].shape[1], device=rows.device)):
            return EncoderMemory(self.tensors, beams)
        return EncoderMemory([tensor.index_select(1, sources) for tensor in self.tensors], beams)

    def group_beams(self, x: Tensor) -> Tensor:
        """x (R, T, W) as (M, K x T, W): the beams of a source one after another."""
        return x.reshape(-1, self.beams * x.shape[1], x.shape[-1])
