"""Architectures and their settings."""

import inspect
from dataclasses import fields
from typing import Any

import pytest
import torch

from dlkit.core.errors import DlkitError
from dlkit.core.nn.rebuild import Building
from dlkit.lm_generate.config import NEURAL, OWN, LmTrainConfig, by_arch
from dlkit.lm_generate.model import architecture, build
from tests.lm_generate.helpers import small_gpt

pytestmark = pytest.mark.usefixtures("seeded")


@pytest.mark.parametrize("arch", NEURAL)
def test_the_settings_of_a_network_reach_it(arch: Any) -> None:
    config = by_arch(LmTrainConfig(data=[], arch=arch))
    given = architecture(arch).settings(config, 9)
    options = {field.name for field in fields(LmTrainConfig)}
    understood = set(inspect.signature(type(build(arch, **given)).__init__).parameters)
    assert understood & options == set(given)
    assert {name for name in given if name in OWN} == {
        name for name in understood & options if name in OWN and arch in OWN[name]
    }


@pytest.mark.parametrize("kind", ["gpt", "bert", "t5"])
def test_a_width_that_the_heads_cannot_share_is_refused(kind: str) -> None:
    with pytest.raises(DlkitError, match="width"):
        build(kind, vocab_size=9, width=10, heads=3)


def test_networks_to_be_loaded_skip_their_initialization() -> None:
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    with Building():
        network: Any = build("gpt", vocab_size=50, width=32, heads=2, positions="rotary")
    assert torch.equal(torch.random.get_rng_state(), before)
    filled = small_gpt("rotary")
    assert torch.equal(network.cos[:32], filled.cos)
