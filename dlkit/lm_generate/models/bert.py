"""BERT: a Transformer encoder that fills in mselected tokens (Devlin et al. 2019).

Layer norm comes after attention and after the feed-forward layer; positions and segments are
learned; the output shares the token embedding's weights.

Shapes: B texts, T tokens, V vocabulary, W width, H heads, N tokens to predict.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.core.errors import DlkitError
from dlkit.core.nn.activations import ACTIVATIONS
from dlkit.lm_generate.models.cache import present


class BertAttention(nn.Module):
    """Bidirectional multi-head self-attention."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """x (B, T, W) -> (B, T, W); mask (B, 1, 1, T) is true where a row has a token."""
        query, key, value = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        drop = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, mask, drop)
        y: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return y


class BertBlock(nn.Module):
    """Self-attention and a feed-forward layer, each followed by layer norm."""

    def __init__(
        self,
        width: int,
        heads: int,
        ffn_width: int,
        dropout: float,
        activation: str,
        norm_eps: float,
    ) -> None:
        super().__init__()
        self.attention = BertAttention(width, heads, dropout)
        self.attention_norm = nn.LayerNorm(width, norm_eps)
        self.up = nn.Linear(width, ffn_width)
        self.activation = ACTIVATIONS[activation]
        self.down = nn.Linear(ffn_width, width)
        self.norm = nn.LayerNorm(width, norm_eps)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        x = self.attention_norm(x + self.dropout(self.attention(x, mask)))
        hidden = self.activation(self.up(x))
        y: Tensor = self.norm(x + self.dropout(self.down(hidden)))
        return y


class BERT(nn.Module):
    """The encoder with its heads for mselected language modeling and next-sentence prediction."""

    def __init__(
        self,
        vocab_size: int,
        context: int = 256,
        layers: int = 4,
        heads: int = 4,
        width: int = 256,
        dropout: float = 0.0,
        next_sentence: bool = False,
        ffn_width: int | None = None,
        segments: int = 2,
        activation: str = "gelu",
        norm_eps: float = 1e-12,
    ) -> None:
        """`ffn_width` is the width of the feed-forward layers, by default 4 times `width`."""
        super().__init__()
        if width % heads:
            raise DlkitError(
                f"--width {width} is not divisible by --heads {heads}; change one of them"
            )
        ffn_width = ffn_width or 4 * width
        self.context = context
        self.embedding = nn.Embedding(vocab_size, width)
        self.position_embedding = nn.Embedding(context, width)
        self.segment_embedding = nn.Embedding(segments, width)
        self.embedding_norm = nn.LayerNorm(width, norm_eps)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            BertBlock(width, heads, ffn_width, dropout, activation, norm_eps) for _ in range(layers)
        )
        self.transform = nn.Linear(width, width)
        self.activation = ACTIVATIONS[activation]
        self.transform_norm = nn.LayerNorm(width, norm_eps)
        self.output_bias = nn.Parameter(torch.zeros(vocab_size))
        self.pooler = nn.Linear(width, width) if next_sentence else None
        self.relation = nn.Linear(width, 2) if next_sentence else None
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def hidden(
        self, ids: Tensor, segments: Tensor | None = None, lengths: Tensor | None = None
    ) -> Tensor:
        """Output of the last layer (B, T, W): a vector for each token in its context."""
        positions = torch.arange(ids.shape[1], device=ids.device)
        segments = torch.zeros_like(ids) if segments is None else segments
        x = self.embedding(ids) + self.position_embedding(positions)
        x = self.dropout(self.embedding_norm(x + self.segment_embedding(segments)))
        mask = None if lengths is None else present(ids, lengths)
        for block in self.blocks:
            x = block(x, mask)
        y: Tensor = x
        return y

    def forward(
        self,
        ids: Tensor,
        segments: Tensor | None = None,
        lengths: Tensor | None = None,
        at: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Logits (B, T, V) of each token of ids (B, T), and next-sentence logits (B, 2).

        The latter are for 0: the second segment continues the first one, and 1: it is from another
        text; None without `next_sentence`. `segments` (B, T) are 0 or 1; tokens beyond `lengths`
        (B) are padding. With `at` (B, T) the logits are those (N, V) of the N tokens where it is
        true. All logits are fp32.
        """
        x = self.hidden(ids, segments, lengths)
        selected = x if at is None else x[at]
        selected = self.transform_norm(self.activation(self.transform(selected)))
        logits = F.linear(selected, self.embedding.weight, self.output_bias).float()
        if self.pooler is None or self.relation is None:
            return logits, None
        return logits, self.relation(torch.tanh(self.pooler(x[:, 0]))).float()
