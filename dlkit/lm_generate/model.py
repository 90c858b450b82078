"""The neural architectures: each has the class of its network and its kind of language model."""

import inspect
from dataclasses import dataclass
from typing import Any

from torch import nn

from dlkit.core.errors import DlkitError
from dlkit.core.store import schema
from dlkit.lm_generate.bilm import BiLM
from dlkit.lm_generate.causal_lm import CausalLM
from dlkit.lm_generate.config import ResolvedConfig
from dlkit.lm_generate.masked_lm import MaskedLM
from dlkit.lm_generate.models.bengio import Bengio
from dlkit.lm_generate.models.bert import BERT
from dlkit.lm_generate.models.bilm import BidirectionalLSTM
from dlkit.lm_generate.models.gpt import GPT
from dlkit.lm_generate.models.recurrent import GRU, LSTM, Elman, Jordan
from dlkit.lm_generate.models.t5 import T5
from dlkit.lm_generate.neural import NeuralLM
from dlkit.lm_generate.span_lm import SpanLM


@dataclass(frozen=True)
class Architecture:
    """A network class, and the class of language models that use and train it."""

    network: type[nn.Module]
    kind: type[NeuralLM]
    packs_linears: bool = False  # whether inference with pre-packed linear layers is faster

    def settings(self, config: ResolvedConfig, vocab_size: int) -> dict[str, Any]:
        """The network's keyword arguments, from settings that `by_arch` has completed."""
        parameters = inspect.signature(self.network).parameters
        names = sorted(name for name in parameters if hasattr(config, name))
        return {name: getattr(config, name) for name in names} | {"vocab_size": vocab_size}


ARCHITECTURES: dict[str, Architecture] = {
    "bengio": Architecture(Bengio, CausalLM),
    "rnn-elman": Architecture(Elman, CausalLM),
    "rnn-jordan": Architecture(Jordan, CausalLM),
    "gru": Architecture(GRU, CausalLM),
    "lstm": Architecture(LSTM, CausalLM),
    "bilm": Architecture(BidirectionalLSTM, BiLM),
    "gpt": Architecture(GPT, CausalLM, packs_linears=True),
    "bert": Architecture(BERT, MaskedLM, packs_linears=True),
    "t5": Architecture(T5, SpanLM, packs_linears=True),
}


def architecture(arch: str) -> Architecture:
    """The architecture of this name."""
    if arch not in ARCHITECTURES:
        raise DlkitError(f"unknown architecture {arch!r}; choose from {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[arch]


def build(arch: str, **settings: Any) -> nn.Module:
    """Return an untrained network; `settings` are its class's arguments."""
    return schema.call(architecture(arch).network, settings)
