"""The base class of translators: the interface of their encoders and decoders.

Shapes: B sentences, S source tokens of each, T target tokens of each, V tokens in the vocabulary.
"""

from typing import Any

import torch
from torch import Tensor, nn

from dlkit.core.nn.decoder_state import DecoderState


class Translator(nn.Module):
    """A model of the target's next token, given the source and the target so far.

    A source is ids that end with </s>, a target ids that begin with <s>; both are padded on the
    right.
    """

    def __init__(self, vocab_size: int, pad: int, bos: int, eos: int, unk: int) -> None:
        """`pad`, `bos`, `eos` and `unk` are the ids of <pad>, <s>, </s> and <unk>."""
        super().__init__()
        self.vocab_size = vocab_size
        self.pad, self.bos, self.eos, self.unk = pad, bos, eos, unk

    def forward(
        self,
        source: Tensor,
        lengths: Tensor,
        target: Tensor,
        sampling_share: float = 0.0,
        at: Tensor | None = None,
    ) -> Tensor:
        """Teacher forcing: logits (B, T, V), in fp32, of the tokens after target[:, t] at each t.

        source (B, S), its lengths (B), target (B, T). Scheduled sampling (Bengio et al. 2015)
        replaces a `sampling_share` of the target by the model's own predictions. With a mask `at`
        (B, T) only the logits (N, V) where it is true are computed: training skips padding.
        """
        raise NotImplementedError

    @staticmethod
    def mix_in_predictions(target: Tensor, predicted: Tensor, share: float) -> Tensor:
        """target (B, T) with a random share of it, but not <s>, replaced by predictions.

        predicted (B, T) has at t the prediction of the token after target[:, t].
        """
        shifted = torch.cat([target[:, :1], predicted[:, :-1]], dim=1)
        chosen = torch.rand(target.shape, device=target.device) < share
        return torch.where(chosen, shifted, target)

    def start(self, source: Tensor, lengths: Tensor, capacity: int) -> DecoderState:
        """The state before <s>, for sources (B, S) and targets of at most `capacity` tokens."""
        raise NotImplementedError

    def step(self, ids: Tensor, state: Any) -> tuple[Tensor, Tensor | None]:
        """Logits (B, V), in fp32, of the token after the newest ids (B), of which <s> is the first.

        Also the attention weights (B, S) of this step, in fp32, or None without attention. Updates
        the state in place.
        """
        raise NotImplementedError

    def align(self, source: Tensor, lengths: Tensor, target: Tensor) -> Tensor:
        """Attention weights (B, T, S) at the prediction of the token after target[:, t]."""
        raise NotImplementedError
