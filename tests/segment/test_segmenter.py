"""Padding."""

import numpy as np
import pytest
import torch

from dlkit.segment.models.segmenter import mirror_pad


@pytest.mark.parametrize("shape", [(5, 7), (2, 1), (3, 12)])
def test_borders_are_mirrored_as_numpy_does(shape: tuple[int, int]) -> None:
    images = torch.rand(2, 3, *shape)
    expected = np.pad(images.numpy(), ((0, 0), (0, 0), (4, 9), (4, 11)), mode="reflect")
    assert np.array_equal(mirror_pad(images, 4, 9, 11).numpy(), expected)
