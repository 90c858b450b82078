"""Encoder and decoder layers of the Transformer (Vaswani et al. 2017), and its decoder.

Dropout is applied to the embedding and to the output of each sublayer (section 5.4). Layer norm
comes after each sublayer, or with `pre_norm` before it and once more after each stack (Wang et al.
2019).

Shapes: B texts, S source tokens, T target tokens, V vocabulary, W width, H heads of D = W / H,
L layers, R = M x K rows: K beams of M sources, E cached tokens of all K beams of a source.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.core.errors import DlkitError
from dlkit.core.nn.activations import ACTIVATIONS
from dlkit.core.nn.decoder_state import DecoderState, EncoderMemory
from dlkit.core.nn.layers import Dropout

MAX_WAVELENGTH = 10_000  # of the positions, divided by 2 pi
TABLE = 256  # the table of positions grows by this number
BLOCK = 16  # the cache grows by this number of tokens


def sinusoids(positions: int, width: int) -> Tensor:
    """PE(pos, 2 i) = sin(pos / 10000^(2 i / W)), PE(pos, 2 i + 1) = cos of it; (positions, W)."""
    exponents = torch.arange(0, width, 2) / width
    angles = torch.arange(positions)[:, None] * MAX_WAVELENGTH**-exponents
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


def additive_mask(hidden: Tensor) -> Tensor:
    """The mask that is added to attention scores: -inf where `hidden`, else 0, in fp32."""
    return torch.zeros(hidden.shape, device=hidden.device).masked_fill_(hidden, -torch.inf)


def padding(length: int, lengths: Tensor) -> Tensor:
    """A mask (B, 1, 1, length) that is true at padding, right of the lengths (B)."""
    return (torch.arange(length, device=lengths.device) >= lengths[:, None])[:, None, None]


def attention_weights(query: Tensor, key: Tensor, mask: Tensor) -> Tensor:
    """softmax(Q K^T / sqrt(D) + mask) of (B, H, T, D) and (B, H, S, D): (B, H, T, S) in fp32."""
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    weights: Tensor = (scores + mask).softmax(-1)
    return weights


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """Attention of (B, H, T, D) to keys and values (B, H, S, D): (B, H, T, D)."""
    if query.device.type == "cpu":
        # On short sentences torch's kernel takes longer in bf16, its backward five times as long.
        return attention_weights(query, key, mask).to(value.dtype) @ value
    return F.scaled_dot_product_attention(query, key, value, mask.to(query.dtype))


class SelfAttention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def project(self, x: Tensor) -> Tensor:
        """Queries, keys and values (3, B, H, T, D) of x (B, T, W)."""
        parts: Tensor = self.qkv(x).unflatten(-1, (3, self.heads, -1))
        return parts.permute(2, 0, 3, 1, 4)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x (B, T, W) -> (B, T, W)."""
        query, key, value = self.project(x)
        mixed = attend(query, key, value, mask)
        y: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return y


class CrossAttention(nn.Module):
    """Multi-head attention of the decoder to the encoder's output."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def queries(self, x: Tensor) -> Tensor:
        """x (B, T, W) -> (B, H, T, D)."""
        queries: Tensor = self.query(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        return queries

    def keys_and_values(self, memory: Tensor) -> Tensor:
        """memory (B, S, W) -> (2, B, H, S, D)."""
        both: Tensor = self.key_value(memory).unflatten(-1, (2, self.heads, -1))
        return both.permute(2, 0, 3, 1, 4)

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        """x (B, T, W), and keys and values (2, B, H, S, D) -> (B, T, W)."""
        mixed = attend(self.queries(x), memory[0], memory[1], mask)
        y: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return y


class FeedForward(nn.Module):
    """The position-wise feed-forward layer (section 3.3)."""

    def __init__(self, width: int, ffn_width: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, ffn_width)
        self.activation = ACTIVATIONS["relu"]
        self.down = nn.Linear(ffn_width, width)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.down(self.activation(self.up(x)))
        return y


class Layer(nn.Module):
    """Base of encoder and decoder layers: residual sublayers with layer norm before or after."""

    def __init__(
        self, width: int, heads: int, ffn_width: int, dropout: float, pre_norm: bool
    ) -> None:
        super().__init__()
        self.pre_norm = pre_norm
        self.attention = SelfAttention(width, heads)
        self.attention_norm = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, ffn_width)
        self.norm = nn.LayerNorm(width)
        self.dropout = Dropout(dropout)

    def before(self, x: Tensor, norm: nn.LayerNorm) -> Tensor:
        """The input of a sublayer."""
        y: Tensor = norm(x) if self.pre_norm else x
        return y

    def after(self, x: Tensor, added: Tensor, norm: nn.LayerNorm) -> Tensor:
        """x plus a sublayer's output."""
        x = x + self.dropout(added)
        y: Tensor = x if self.pre_norm else norm(x)
        return y

    def add_self_attention(self, x: Tensor, mask: Tensor) -> Tensor:
        """x plus self-attention."""
        added = self.attention(self.before(x, self.attention_norm), mask)
        return self.after(x, added, self.attention_norm)

    def add_feed_forward(self, x: Tensor) -> Tensor:
        """x plus the feed-forward layer."""
        return self.after(x, self.feed_forward(self.before(x, self.norm)), self.norm)


class EncoderLayer(Layer):
    """Self-attention, then the feed-forward layer."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x (B, S, W) -> (B, S, W)."""
        return self.add_feed_forward(self.add_self_attention(x, mask))


class DecoderLayer(Layer):
    """Causal self-attention, attention to the encoder's output, then the feed-forward layer."""

    def __init__(
        self, width: int, heads: int, ffn_width: int, dropout: float, pre_norm: bool
    ) -> None:
        super().__init__(width, heads, ffn_width, dropout, pre_norm)
        self.reading = CrossAttention(width, heads)
        self.reading_norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, mask: Tensor, memory: Tensor, memory_mask: Tensor) -> Tensor:
        """x (B, T, W), keys and values (2, B, H, S, D) of the source -> (B, T, W)."""
        x = self.add_self_attention(x, mask)
        added = self.reading(self.before(x, self.reading_norm), memory, memory_mask)
        return self.add_feed_forward(self.after(x, added, self.reading_norm))

    def step(
        self, x: Tensor, past: Tensor, seen: Tensor, memory: Tensor, memory_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The newest tokens x (M, K, W) -> (M, K, W), and their attention (M, K, S) to the source.

        The attention is the mean of the heads. past (2, M, H, E, D) are keys and values of all
        tokens so far, with room for those of the newest at its end. seen (M, 1, K, E) masks the
        tokens of other beams.
        """
        parts = self.attention.project(self.before(x, self.attention_norm))
        past[:, :, :, -x.shape[1] :] = parts[1:]
        mixed = attention_weights(parts[0].to(past.dtype), past[0], seen) @ past[1]
        added = self.attention.out(mixed.transpose(1, 2).flatten(2).to(x.dtype))
        x = self.after(x, added, self.attention_norm)
        attention = self.cross_attention_weights(x, memory, memory_mask)
        mixed = attention @ memory[1]
        added = self.reading.out(mixed.transpose(1, 2).flatten(2).to(x.dtype))
        return self.add_feed_forward(self.after(x, added, self.reading_norm)), attention.mean(1)

    def cross_attention_weights(self, x: Tensor, memory: Tensor, memory_mask: Tensor) -> Tensor:
        """Attention weights (B, H, T, S) of x (B, T, W) to the source."""
        query = self.reading.queries(self.before(x, self.reading_norm))
        return attention_weights(query.to(memory.dtype), memory[0], memory_mask)


class KeyValueCache(DecoderState):
    """Keys and values of the source, and of all tokens that any beam has generated.

    A beam that splits in two, or ends, moves none of them: each row only has a mask of the tokens
    that are its own.
    """

    def __init__(self, sources: EncoderMemory, seen: Tensor, length: int) -> None:
        # (2 L, M, H, S, D) of the source, the mask (1, M, 1, 1, S) of its padding, and
        # (2 L, M, H, at least E, D) of the E generated tokens.
        self.sources = sources
        self.seen = seen  # (R, E), added to the scores
        self.length = length  # tokens of each row

    def select(self, rows: Tensor) -> "KeyValueCache":
        return KeyValueCache(self.sources.select(rows), self.seen[rows], self.length)

    def grow(self) -> tuple[Tensor, Tensor]:
        """Make room for a token of each row: past (2 L, M, H, E, D), and seen (M, 1, K, E)."""
        beams = self.sources.beams
        before = self.seen.shape[1]
        after = before + beams
        past = self.sources.tensors[2]
        if after > past.shape[3]:
            more = past.new_empty(*past.shape[:3], BLOCK * beams, past.shape[4])
            past = self.sources.tensors[2] = torch.cat([past[..., :before, :], more], dim=3)
        others = additive_mask(~torch.eye(beams, dtype=torch.bool, device=past.device))
        others = others.repeat(len(self.seen) // beams, 1)
        self.seen = torch.cat([self.seen, others], dim=1)
        self.length += 1
        return past[..., :after, :], self.seen.view(-1, 1, beams, after)


class TransformerDecoder(nn.Module):
    """The decoder of a model: an embedding, a stack of decoder layers, logits.

    It is a mixin, so that its layers have the same names in the models of all tasks: a subclass
    calls `add_embedding`, `add_decoder` and `initialize`.
    """

    table: Tensor
    embedding: nn.Embedding
    head: nn.Linear | None
    width: int

    def add_embedding(self, vocab_size: int, width: int, heads: int, dropout: float) -> None:
        """Add the embedding. Raises DlkitError if the heads do not divide the width."""
        if width % heads or width % 2:
            raise DlkitError(f"--width {width} must be even and a multiple of --heads {heads}")
        self.width = width
        self.embedding = nn.Embedding(vocab_size, width)
        self.register_buffer("table", sinusoids(TABLE, width), persistent=False)
        self.dropout = Dropout(dropout)

    def add_decoder(
        self,
        layers: int,
        heads: int,
        ffn_width: int,
        dropout: float,
        pre_norm: bool,
        tie_embeddings: bool = True,
    ) -> None:
        """`ffn_width` is the width of the feed-forward layers.

        With `tie_embeddings` the output layer shares the embedding's matrix.
        """
        shape = self.width, heads, ffn_width, dropout, pre_norm
        self.decoder = nn.ModuleList(DecoderLayer(*shape) for _ in range(layers))
        self.decoder_norm = nn.LayerNorm(self.width) if pre_norm else nn.Identity()
        size = self.embedding.num_embeddings
        self.head = None if tie_embeddings else nn.Linear(self.width, size, bias=False)

    def initialize(self) -> None:
        """Initialize as Glorot and Bengio 2010, with queries, keys and values apart."""
        nn.init.normal_(self.embedding.weight, std=self.width**-0.5)
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
                parts = {"qkv": 3, "key_value": 2}.get(name.rpartition(".")[2], 1)
                for part in module.weight.data.chunk(parts):
                    nn.init.xavier_uniform_(part)
        if self.head is not None:
            nn.init.normal_(self.head.weight, std=self.width**-0.5)

    def embed(self, ids: Tensor, start: int = 0) -> Tensor:
        """ids (B, T) at the positions after `start` -> (B, T, W)."""
        end = start + ids.shape[1]
        if end > len(self.table):
            table = sinusoids(-(-end // TABLE) * TABLE, self.width)
            self.table = table.to(self.table.device, self.table.dtype)
        x = self.embedding(ids) * math.sqrt(self.width) + self.table[start:end]
        y: Tensor = self.dropout(x)
        return y

    def decoder_layers(self) -> list[DecoderLayer]:
        """The layers of the decoder, from the input to the output."""
        return [layer for layer in self.decoder if isinstance(layer, DecoderLayer)]

    def keys_and_values(self, x: Tensor) -> list[Tensor]:
        """Each layer's keys and values (2, B, H, S, D) of the encoder's output x (B, S, W)."""
        return [layer.reading.keys_and_values(x) for layer in self.decoder_layers()]

    def decode(self, target: Tensor, memories: list[Tensor], mask: Tensor) -> Tensor:
        """The decoder's output (B, T, W) for target (B, T), before the last norm."""
        x, causal = self.embed(target), self.causal(target)
        for layer, memory in zip(self.decoder_layers(), memories, strict=True):
            x = layer(x, causal, memory, mask)
        return x

    def causal(self, target: Tensor) -> Tensor:
        """The additive mask (T, T) of later tokens."""
        tokens = target.shape[1]
        later = torch.ones(tokens, tokens, dtype=torch.bool, device=target.device).triu(1)
        return additive_mask(later)

    def logits(self, x: Tensor) -> Tensor:
        """The decoder's output (..., W) -> (..., V), fp32."""
        x = self.decoder_norm(x)
        if self.head is None:
            return F.linear(x, self.embedding.weight).float()
        logits: Tensor = self.head(x)
        return logits.float()

    def begin(self, memories: list[Tensor], mask: Tensor, capacity: int) -> KeyValueCache:
        """The state of the first `step`, for texts of at most `capacity` tokens."""
        memory = torch.cat(memories)
        if memory.device.type == "cpu":
            memory = memory.float()  # attention of one token to many is faster than in bf16
        past = memory.new_empty(*memory.shape[:3], min(capacity, BLOCK), memory.shape[4])
        sources = EncoderMemory([memory, mask[None], past])
        return KeyValueCache(sources, mask.new_empty(memory.shape[1], 0), 0)

    def step(self, ids: Tensor, state: KeyValueCache) -> tuple[Tensor, Tensor]:
        """Logits (B, V) after the newest tokens ids (B), and the attention (B, S) to the source.

        The attention is that of the layer `aligning_layer`.
        """
        memory, (mask,), _ = state.sources.tensors
        x = state.sources.group_beams(self.embed(ids[:, None], state.length))
        past, seen = state.grow()
        attentions = []
        of_layers = zip(self.decoder_layers(), past.split(2), memory.split(2), strict=True)
        for layer, own, known in of_layers:
            x, attention = layer.step(x, own, seen, known, mask)
            attentions.append(attention)
        return self.logits(x.flatten(0, 1)), attentions[self.aligning_layer()].flatten(0, 1)

    def aligning_layer(self) -> int:
        """The number of the last layer but one, which aligns best (Garg et al. 2019)."""
        return max(len(self.decoder) - 2, 0)

    def attention(self, target: Tensor, memories: list[Tensor], mask: Tensor) -> Tensor:
        """The attention (B, T, S) of that layer to the source, the mean of its heads, in fp32."""
        x, causal = self.embed(target), self.causal(target)
        number = self.aligning_layer()
        layers = self.decoder_layers()
        for layer, memory in zip(layers[:number], memories, strict=False):
            x = layer(x, causal, memory, mask)
        x = layers[number].add_self_attention(x, causal)
        return layers[number].cross_attention_weights(x, memories[number], mask).mean(1).float()
