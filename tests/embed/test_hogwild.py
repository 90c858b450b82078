"""Seeds of chunks and initial weights of training in threads."""

import numpy as np

from dlkit.embed.hogwild import HogwildState, chunk_seed
from tests.embed.helpers import DIM, kernel_settings


def test_seeds_and_starts_differ() -> None:
    seeds = {chunk_seed(s, e, c) for s in (-1, 0, 1) for e in range(3) for c in range(3)}
    assert len(seeds) == 27
    state = HogwildState.start(3, 3, kernel_settings(method="skipgram"), 0.5)
    matrix = state.matrix(DIM)
    assert np.abs(matrix).max() <= 0.5 / DIM
    assert np.unique(matrix).size == matrix.size
    assert not state.outputs.any()
