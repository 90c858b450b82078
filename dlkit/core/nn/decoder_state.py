"""What a writer of texts remembers between two tokens: of what it has read and has written."""

from collections.abc import Sequence

import torch
from torch import Tensor


class DecoderState:
    """What decoding remembers of each row: the source, and what has been written so far."""

    def select(self, rows: Tensor) -> "DecoderState":
        """The state of these rows (N), which may repeat, be fewer, or change places.

        It may share memory with this one: only one of the two can go on.
        """
        raise NotImplementedError


class EncoderMemory:
    """What was read, kept once for each source, however many beams are written for it.

    Tensors (any, M, ...) of M sources; R = M x K rows are written, K for each source.

    As long as each source has as many rows, side by side, beams may change places, and nothing
    is copied.
    """

    def __init__(self, tensors: Sequence[Tensor], beams: int = 1) -> None:
        self.tensors = list(tensors)
        self.beams = beams  # K

    def select(self, rows: Tensor) -> "EncoderMemory":
        """Those of these rows (N) of the R."""
        sources, counts = (rows // self.beams).unique_consecutive(return_counts=True)
        beams = int(counts[0]) if len(counts) else 1
        if not bool((counts == beams).all()):
            sources, beams = rows // self.beams, 1
        if torch.equal(sources, torch.arange(self.tensors[0].shape[1], device=rows.device)):
            return EncoderMemory(self.tensors, beams)
        return EncoderMemory([tensor.index_select(1, sources) for tensor in self.tensors], beams)

    def grouped(self, x: Tensor) -> Tensor:
        """x (R, T, W) as (M, K x T, W): beams as if they were later tokens."""
        return x.reshape(-1, self.beams * x.shape[1], x.shape[-1])
