"""Rows of different lengths as one tensor."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def padded(rows: Sequence[Sequence[int] | np.ndarray], pad: int) -> Tensor:
    """Rows of ids as one matrix, with `pad` after the shorter ones."""
    matrix = np.full((len(rows), max(map(len, rows))), pad, np.int64)
    for row, ids in zip(matrix, rows, strict=True):
        row[: len(ids)] = ids
    return torch.from_numpy(matrix)
