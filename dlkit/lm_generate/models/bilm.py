"""A bidirectional language model as ELMo's (Peters et al. 2018): two stacks of LSTMs, one for each
direction, which share the embedding and the output layer.

Shapes: B texts, T tokens, V vocabulary, W numbers that describe a token, L layers.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.core.nn.layers import Dropout
from dlkit.lm_generate.models.cache import present


class BiLM(nn.Module):
    """Scores texts from both sides and describes tokens in their context; it does not generate."""

    def __init__(
        self, vocab_size: int, context: int = 256, layers: int = 2, width: int = 128,
        dropout: float = 0.0,
    ) -> None:  # fmt: skip
        """`context` is how many tokens the training reads at once; others may be longer."""
        super().__init__()
        self.context = context
        self.embedding = nn.Embedding(vocab_size, width)
        self.forwards = nn.ModuleList(nn.LSTM(width, width) for _ in range(layers))
        self.backwards = nn.ModuleList(nn.LSTM(width, width) for _ in range(layers))
        self.dropout = Dropout(dropout)
        self.bias = nn.Parameter(torch.zeros(vocab_size))
        nn.init.normal_(self.embedding.weight, std=1 / math.sqrt(width))

    def features(self, ids: Tensor, lengths: Tensor | None = None) -> Tensor:
        """What each layer knows of each token, from its left and its right (L + 1, B, T, 2 W).

        The first layer is the embedding, twice. What is right of `lengths` (B) is padding.
        """
        embedded = self.dropout(self.embedding(ids))
        right = self.stack(self.forwards, embedded)
        left = [turned(x, lengths) for x in self.stack(self.backwards, turned(embedded, lengths))]
        both = zip([embedded, *right], [embedded, *left], strict=True)
        return torch.stack([torch.cat(pair, dim=-1) for pair in both])

    def stack(self, layers: nn.ModuleList, x: Tensor) -> list[Tensor]:
        """Each layer's output (B, T, W), with a way around it from the second on."""
        outputs: list[Tensor] = []
        for number, layer in enumerate(layers):
            y = layer(x.transpose(0, 1))[0].transpose(0, 1)
            x = self.dropout(y + x if number else y)
            outputs.append(x)
        return outputs

    def forward(self, ids: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Logits (B, T, V) of the token after each of ids (B, T), and of the one before it; fp32.

        What is right of `lengths` (B) is padding.
        """
        last = self.features(ids, lengths)[-1]
        right, left = (
            F.linear(half, self.embedding.weight, self.bias).float() for half in last.chunk(2, -1)
        )
        return right, left


def turned(x: Tensor, lengths: Tensor | None) -> Tensor:
    """x (B, T, W) from the last token to the first; padding stays where it is."""
    if lengths is None:
        return x.flip(1)
    places = torch.arange(x.shape[1], device=x.device).expand(len(x), -1)
    there = present(x[..., 0], lengths)[:, 0, 0]
    places = torch.where(there, lengths[:, None] - 1 - places, places)
    return x.gather(1, places[..., None].expand_as(x))
