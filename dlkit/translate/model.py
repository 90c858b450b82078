"""What every translator can do, and the architectures by name.

Shapes: B sentences, S source tokens of each, T target tokens of each, V tokens in the vocabulary.
"""

import importlib
from typing import Any

import torch
from torch import Tensor, nn

from dlkit.core.errors import DlkitError
from dlkit.core.nn.decoder_state import DecoderState

# Where the class of an architecture stands, under `models`, and the settings it takes beside
# `vocab_size` and the ids of the special tokens. Only the class that is asked for is imported, so
# that the first translation comes soon.
ARCHITECTURES = {"rnn": "rnn.RNN", "attention": "attention.Attention", "transformer":
                 "transformer.Transformer"}  # fmt: skip
SETTINGS: dict[str, tuple[str, ...]] = {
    "rnn": ("width", "layers", "dropout", "cell", "residual", "reverse", "untied"),
    "attention": ("width", "layers", "dropout", "cell", "residual", "score", "input_feeding",
                  "untied"),
    "transformer": ("width", "layers", "dropout", "heads", "ffn_width", "pre_norm", "untied"),
}  # fmt: skip


class Translator(nn.Module):
    """A model of the target's next token, given the source and the target so far.

    A source is ids that end with </s>, a target ids that begin with <s>; both are padded at their
    right.
    """

    def __init__(self, vocab_size: int, pad: int, bos: int, eos: int, unk: int) -> None:
        """The ids of <pad>, <s>, </s> and <unk> are for those who decode."""
        super().__init__()
        self.vocab_size = vocab_size
        self.pad, self.bos, self.eos, self.unk = pad, bos, eos, unk

    def forward(
        self,
        source: Tensor,
        lengths: Tensor,
        target: Tensor,
        sampled: float = 0.0,
        at: Tensor | None = None,
    ) -> Tensor:
        """Logits (B, T, V) in fp32, those at t of the token after target[:, t]: teacher forcing.

        source (B, S), its lengths (B), target (B, T). `sampled` is the share of the target that
        is replaced by what the model would have written itself: scheduled sampling (Bengio et al.
        2015). With `at` (B, T) the logits are those (N, V) of the N places where it is true: in
        training those of padding are not worth computing.
        """
        raise NotImplementedError

    @staticmethod
    def mixed(target: Tensor, written: Tensor, sampled: float) -> Tensor:
        """target (B, T), with that share of it, but not <s>, as the model has `written` it.

        written (B, T) foretells at t the token after target[:, t].
        """
        foretold = torch.cat([target[:, :1], written[:, :-1]], dim=1)
        chosen = torch.rand(target.shape, device=target.device) < sampled
        return torch.where(chosen, foretold, target)

    def start(self, source: Tensor, lengths: Tensor, capacity: int) -> DecoderState:
        """Sources (B, S) that are read, and targets that will have at most `capacity` tokens."""
        raise NotImplementedError

    def step(self, ids: Tensor, state: Any) -> tuple[Tensor, Tensor | None]:
        """Logits (B, V) in fp32 of the token after the newest ones ids (B), at first <s>.

        Also the attention (B, S) to the source at this step, in fp32; None where there is none.
        The state moves on in place.
        """
        raise NotImplementedError

    def align(self, source: Tensor, lengths: Tensor, target: Tensor) -> Tensor:
        """Attention (B, T, S) to the source while the token after target[:, t] is foretold."""
        raise NotImplementedError


def build(arch: str, **settings: Any) -> Translator:
    """The network of that architecture, untrained; `settings` are its class's arguments.

    Those are `vocab_size`, the ids `pad`, `bos`, `eos` and `unk`, and what SETTINGS names.
    """
    if arch not in ARCHITECTURES:
        raise DlkitError(f"no architecture {arch!r}: there is {', '.join(ARCHITECTURES)}")
    module, name = ARCHITECTURES[arch].split(".")
    network: Translator = getattr(
        importlib.import_module(f"dlkit.translate.models.{module}"), name
    )(**settings)
    return network
