"""Rows of different lengths as one tensor."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


def padded(rows: Sequence[Sequence[int] | np.ndarray], pad: int) -> Tensor:
    """Rows of ids as one matrix (rows, longest), padded at the right."""
    matrix = np.full((len(rows), max(map(len, rows))), pad, np.int64)
    for row, ids in zip(matrix, rows, strict=True):
        row[: len(ids)] = ids
    return torch.from_numpy(matrix)


def padded_tensors(rows: Sequence[Tensor], pad: float) -> Tensor:
    """Tensors (N, ...) of one type as (B, largest N or 1, ...), padded at the end."""
    one = rows[0].new_zeros(1, *rows[0].shape[1:])  # where all are empty
    return pad_sequence([*rows, one], batch_first=True, padding_value=pad)[:-1]
