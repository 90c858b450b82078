"""Objectives of the kinds of models."""

import math
from typing import Any

import pytest
import torch
from torch import nn

from dlkit.lm_generate.model import architecture, build
from dlkit.lm_generate.text_codec import TextCodec
from tests.lm_generate.helpers import random_text


def test_the_loss_of_uniform_predictions_is_the_logarithm_of_the_vocabulary() -> None:
    for arch in ("bert", "t5"):
        codec = TextCodec.learn([random_text(50)], "char", 300, arch)
        network: Any = build(arch, vocab_size=codec.size, context=64, width=8, layers=1, heads=1)
        for parameter in network.parameters():
            nn.init.zeros_(parameter)
        ids = torch.tensor([codec.encode(random_text(50))[:60]] * 3)
        loss = architecture(arch).kind.objective(codec)(network, ids, ids, None)
        assert loss.item() == pytest.approx(math.log(codec.size), abs=1e-4)
