"""Latent vectors and their interpolation."""

import math

import pytest
import torch

from dlkit.gan_sample import latents


def test_a_latent_vector_depends_on_seed_and_number_alone() -> None:
    together = latents.draw(3, range(50), 7)
    assert torch.equal(latents.draw(3, [41, 0], 7), together[[41, 0]])
    assert not torch.equal(latents.draw(4, [0], 7), together[:1])
    many = latents.draw(0, range(2000), 8)
    assert abs(float(many.mean())) < 0.03
    assert float(many.std()) == pytest.approx(1, abs=0.03)


def test_truncation_bounds_the_vectors_and_keeps_their_order() -> None:
    whole = latents.draw(0, range(300), 4)
    cut = latents.draw(0, range(300), 4, truncation=0.7)
    assert float(cut.abs().max()) <= 0.7
    assert torch.equal(whole.flatten().argsort(), cut.flatten().argsort())
    # The variance of a normal between -t and t: 1 - 2 t phi(t) / (2 Phi(t) - 1).
    density = math.exp(-0.5 * 0.49) / math.sqrt(2 * math.pi)
    variance = 1 - 2 * 0.7 * density / math.erf(0.7 / math.sqrt(2))
    assert float(cut.var()) == pytest.approx(variance, rel=0.08)
    assert torch.allclose(latents.draw(0, range(300), 4, truncation=8.0), whole, atol=1e-4)


def test_the_arc_between_two_vectors() -> None:
    start, end = torch.tensor([2.0, 0.0]), torch.tensor([0.0, 2.0])
    arc = latents.slerp(start, end, torch.tensor([0.0, 1 / 3, 1.0]))
    third = 2 * torch.tensor([math.cos(math.pi / 6), math.sin(math.pi / 6)])
    assert torch.allclose(arc, torch.stack([start, third, end]), atol=1e-6)
    same = latents.slerp(start, 3 * start, torch.tensor([0.5]))
    assert torch.allclose(same, 2 * start[None])
