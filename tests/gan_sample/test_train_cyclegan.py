"""The image pool of CycleGAN."""

import pytest
import torch

from dlkit.gan_sample.train_cyclegan import POOL_SIZE, ImagePool


def test_the_pool_shows_new_images_and_half_of_the_time_earlier_ones() -> None:
    torch.manual_seed(0)
    pool = ImagePool()
    first = torch.arange(POOL_SIZE).float().view(-1, 1, 1, 1)
    assert torch.equal(pool.query(first), first)
    later = torch.arange(1000, 1400).float().view(-1, 1, 1, 1)
    shown = pool.query(later)
    new = (shown == later).float().mean()
    assert float(new) == pytest.approx(0.5, abs=0.1)
    earlier = shown[shown != later]
    assert len(set(earlier.tolist())) == len(earlier)  # what was shown has left the pool
