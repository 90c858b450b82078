"""A bidirectional language model in the form of ELMo (Peters et al. 2018).

Two stacks of LSTMs, one for each direction, share the embedding and the output layer.

Shapes: B texts, T tokens, V vocabulary, W model dimension, L layers.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.core.nn.layers import Dropout
from dlkit.lm_generate.models.cache import present


class BidirectionalLSTM(nn.Module):
    """Predicts each token from the left and from the right; it does not generate."""

    def __init__(
        self, vocab_size: int, context: int = 256, layers: int = 2, width: int = 128,
        dropout: float = 0.0,
    ) -> None:  # fmt: skip
        """`context` is the number of tokens of a training window; other texts may be longer."""
        super().__init__()
        self.context = context
        self.embedding = nn.Embedding(vocab_size, width)
        self.forwards = nn.ModuleList(nn.LSTM(width, width) for _ in range(layers))
        self.backwards = nn.ModuleList(nn.LSTM(width, width) for _ in range(layers))
        self.dropout = Dropout(dropout)
        self.bias = nn.Parameter(torch.zeros(vocab_size))
        nn.init.normal_(self.embedding.weight, std=1 / math.sqrt(width))

    def features(self, ids: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Output of each layer for each token, from left and right: (L + 1, B, T, 2 W).

        The first layer is the embedding, twice. Tokens beyond `lengths` (B) are padding.
        """
        embedded = self.dropout(self.embedding(ids))
        right = self.stack(self.forwards, embedded)
        left = [reverse(x, lengths) for x in self.stack(self.backwards, reverse(embedded, lengths))]
        both = zip([embedded, *right], [embedded, *left], strict=True)
        return torch.stack([torch.cat(pair, dim=-1) for pair in both])

    def stack(self, layers: nn.ModuleList, x: Tensor) -> list[Tensor]:
        """Output (B, T, W) of each layer, with a residual connection from the second on."""
        outputs: list[Tensor] = []
        for number, layer in enumerate(layers):
            y = layer(x.transpose(0, 1))[0].transpose(0, 1)
            x = self.dropout(y + x if number else y)
            outputs.append(x)
        return outputs

    def forward(self, ids: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Logits (B, T, V) of the token after each of ids (B, T), and of the token before it; fp32.

        Tokens beyond `lengths` (B) are padding.
        """
        last = self.features(ids, lengths)[-1]
        right, left = (
            F.linear(half, self.embedding.weight, self.bias).float() for half in last.chunk(2, -1)
        )
        return right, left


def reverse(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Reverse the tokens of x (B, T, W); padding stays in place."""
    if lengths is None:
        return x.flip(1)
    places = torch.arange(x.shape[1], device=x.device).expand(len(x), -1)
    inside = present(x[..., 0], lengths)[:, 0, 0]
    places = torch.where(inside, lengths[:, None] - 1 - places, places)
    return x.gather(1, places[..., None].expand_as(x))
