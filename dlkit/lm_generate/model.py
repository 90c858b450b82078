"""What every language model that generates can do, and the architectures by name.

Shapes: B texts, T tokens of each, V tokens in the vocabulary.
"""

import importlib
from typing import Any

import torch
from torch import Tensor, nn

from dlkit.core.errors import DlkitError
from dlkit.lm_generate.config import RECURRENT, TRANSFORMERS, LmTrainConfig

# Where the class of an architecture stands, under `models`. Only the one that is asked for is
# imported, so that the first token comes soon.
ARCHITECTURES = {
    "bengio": "bengio.Bengio",
    "rnn-elman": "recurrent.Elman",
    "rnn-jordan": "recurrent.Jordan",
    "gru": "recurrent.GRU",
    "lstm": "recurrent.LSTM",
    "bilm": "bilm.BiLM",
    "gpt": "gpt.GPT",
    "bert": "bert.BERT",
    "t5": "t5.T5",
}


class DecoderState:
    """What a model remembers of the texts of a batch."""

    def select(self, rows: Tensor) -> "DecoderState":
        """The state of these rows (N), which may repeat, be fewer, or change places."""
        raise NotImplementedError

    def detach(self) -> None:
        """Keep the values, and forget how they came about: no gradient goes further back."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """The values, to go on with later."""
        raise NotImplementedError

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over values of such a state."""
        raise NotImplementedError


class LanguageModel(nn.Module):
    """A model of the next token.

    `context` is how many tokens a state can hold, the new ones included; None: a state goes on
    without end.
    """

    context: int | None = None

    def start(self, batch: int, capacity: int) -> DecoderState:
        """An empty past for `batch` texts that will have at most `capacity` tokens."""
        raise NotImplementedError

    def forward(self, ids: Tensor, state: Any = None, lengths: Tensor | None = None) -> Tensor:
        """Logits (B, T, V) in fp32 from ids (B, T): those at t are of the token after t.

        With a state, the ids go on with each row's text, and the state moves on in place by
        lengths (B) tokens, by default T; what stands behind a row's length has no effect.
        Without one, each row is a text from its start.
        """
        raise NotImplementedError

    def next_logits(self, ids: Tensor, state: Any, lengths: Tensor | None = None) -> Tensor:
        """Logits (B, V) of the token that comes next in each row; else as `forward`."""
        logits = self(ids, state, lengths)
        if lengths is None:
            return logits[:, -1]
        return logits[torch.arange(len(ids), device=ids.device), lengths - 1]


def build(arch: str, **settings: Any) -> nn.Module:
    """The network of that architecture, untrained; `settings` are its class's arguments."""
    if arch not in ARCHITECTURES:
        raise DlkitError(f"no neural architecture {arch!r}: there is {', '.join(ARCHITECTURES)}")
    module, name = ARCHITECTURES[arch].split(".")
    network: nn.Module = getattr(
        importlib.import_module(f"dlkit.lm_generate.models.{module}"), name
    )(**settings)
    return network


def network_settings(config: LmTrainConfig, vocab_size: int) -> dict[str, Any]:
    """The keyword arguments of `build()`, from settings that `by_arch` has filled in."""
    names = {"width", "dropout"}
    if config.arch in {*TRANSFORMERS, "bengio", "bilm"}:
        names |= {"context"}
    if config.arch != "bengio":
        names |= {"layers"}
    if config.arch in TRANSFORMERS:
        names |= {"heads"}
    if config.arch in {*RECURRENT, "gpt"}:
        names |= {"untied"}
    if config.arch in RECURRENT:
        names |= {"learn_start"}
    own = {"gpt": {"positions"}, "bengio": {"hidden", "direct"}, "bert": {"next_sentence"}}
    names |= own.get(config.arch, set())
    return {"vocab_size": vocab_size, **{name: getattr(config, name) for name in sorted(names)}}
