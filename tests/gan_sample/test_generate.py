"""Generation of pictures from latent vectors."""

import pytest
import torch

from dlkit.gan_sample import latents
from dlkit.gan_sample.generate import BATCH, generate
from tests.gan_sample.helpers import small


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_picture_is_the_same_whatever_others_are_made_with_it(precision: str) -> None:
    model = small("dcgan").eval()
    count = 2 * BATCH + 3
    z = latents.draw(0, range(count), 6)
    together = torch.cat(list(generate(model, z, precision=precision)))
    assert together.shape == (count, 3, 16, 16)
    assert together.dtype == torch.uint8
    for numbers in ([0], [count - 1], [40, 2, 7], [*range(30, 66)]):
        alone = torch.cat(list(generate(model, latents.draw(0, numbers, 6), precision=precision)))
        assert torch.equal(alone, together[numbers])
