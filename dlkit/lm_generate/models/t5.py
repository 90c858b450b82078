"""T5: an encoder that reads a text with gaps and a decoder that writes them (Raffel et al. 2020).

T5 v1.1 has feed-forward layers with gates (Shazeer 2020) and a head of its own.

RMS norm comes before each sublayer; positions enter by a bias on the attention scores for each
distance, shared by all layers of a stack.

Shapes: B texts, S tokens to read, T tokens to write, V vocabulary, W width, H heads of D numbers.
"""

import math
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.core.errors import DlkitError
from dlkit.core.nn.activations import ACTIVATIONS
from dlkit.lm_generate.models.cache import KeyValueCache, present
from dlkit.lm_generate.models.language_model import DecoderState, NextTokenNetwork

BUCKETS = 32  # of distances, both directions together
MAX_DISTANCE = 128  # all longer distances share a bucket


class RelativeBias(nn.Module):
    """Learned bias of each head on the scores for each distance."""

    def __init__(self, heads: int, bidirectional: bool) -> None:
        super().__init__()
        self.bidirectional = bidirectional
        self.embedding = nn.Embedding(BUCKETS, heads)

    def forward(self, positions: Tensor, keys: int) -> Tensor:
        """Bias (1 or B, H, T, keys) for queries at positions (T) or (B, T), and keys from 0 on."""
        seen = torch.arange(keys, device=positions.device)
        distances = self.bucket(seen - positions.unsqueeze(-1))
        bias: Tensor = self.embedding(distances).movedim(-1, -3)
        return bias if bias.dim() == 4 else bias[None]

    def bucket(self, offsets: Tensor) -> Tensor:
        """Buckets of offsets: half for single near distances, half for ranges of growing width."""
        if self.bidirectional:
            buckets = BUCKETS // 2
            side = (offsets > 0) * buckets
            distances = offsets.abs()
        else:
            buckets, side = BUCKETS, torch.zeros_like(offsets)
            distances = (-offsets).clamp(min=0)
        near = buckets // 2
        ranges = torch.log(distances.clamp(min=near) / near) / math.log(MAX_DISTANCE / near)
        far = near + (ranges * (buckets - near)).long()
        return side + torch.where(distances < near, distances, far.clamp(max=buckets - 1))


class T5Attention(nn.Module):
    """Multi-head attention with unscaled scores: the query weights start small instead."""

    def __init__(self, width: int, heads: int, head_width: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query = nn.Linear(width, heads * head_width, bias=False)
        self.key_value = nn.Linear(width, 2 * heads * head_width, bias=False)
        self.out = nn.Linear(heads * head_width, width, bias=False)

    def keys_and_values(self, x: Tensor) -> Tensor:
        """x (B, T, W) -> (2, B, H, T, D)."""
        both: Tensor = self.key_value(x).unflatten(-1, (2, self.heads, -1))
        return both.permute(2, 0, 3, 1, 4)

    def forward(self, x: Tensor, memory: Tensor, bias: Tensor | None) -> Tensor:
        """Attend from x (B, T, W) to keys and values (2, B, H, S, D) -> (B, T, W).

        bias (B, H, T, S), or (B, 1, 1, S), is added to the scores.
        """
        query = self.query(x).unflatten(-1, (self.heads, -1)).transpose(1, 2).to(memory.dtype)
        drop = self.dropout if self.training else 0.0
        if bias is not None:
            bias = bias.to(query.dtype)
        key, value = memory
        mixed = F.scaled_dot_product_attention(query, key, value, bias, drop, scale=1.0)
        y: Tensor = self.out(mixed.transpose(1, 2).flatten(2).to(x.dtype))
        return y


class T5Block(nn.Module):
    """Self-attention, in the decoder (`reads`) also cross-attention, and a feed-forward layer."""

    def __init__(
        self,
        reads: bool,
        width: int,
        heads: int,
        head_width: int,
        ffn_width: int,
        dropout: float,
        activation: str,
        gated: bool,
        norm_eps: float,
    ) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(width, norm_eps)
        self.attention = T5Attention(width, heads, head_width, dropout)
        self.reading_norm = nn.RMSNorm(width, norm_eps) if reads else None
        self.reading = T5Attention(width, heads, head_width, dropout) if reads else None
        self.norm = nn.RMSNorm(width, norm_eps)
        self.up = None if gated else nn.Linear(width, ffn_width, bias=False)
        self.gate = nn.Linear(width, ffn_width, bias=False) if gated else None
        self.value = nn.Linear(width, ffn_width, bias=False) if gated else None
        self.activation = ACTIVATIONS[activation]
        self.down = nn.Linear(ffn_width, width, bias=False)
        self.dropout = nn.Dropout(dropout)

    def feed_forward(self, x: Tensor) -> Tensor:
        """x (B, T, W) -> (B, T, W)."""
        if self.up is not None:
            hidden = self.activation(self.up(x))
        else:
            assert self.gate is not None
            assert self.value is not None
            hidden = self.activation(self.gate(x)) * self.value(x)
        y: Tensor = self.down(self.dropout(hidden))
        return y

    def forward(
        self,
        x: Tensor,
        bias: Tensor,
        past: KeyValueCache | None = None,
        layer: int = 0,
        memory: Tensor | None = None,
        memory_bias: Tensor | None = None,
    ) -> Tensor:
        normed = self.attention_norm(x)
        own = self.attention.keys_and_values(normed)
        if past is not None:
            own = past.extend(layer, own)
        x = x + self.dropout(self.attention(normed, own, bias))
        if self.reading is not None and self.reading_norm is not None and memory is not None:
            x = x + self.dropout(self.reading(self.reading_norm(x), memory, memory_bias))
        y: Tensor = x + self.dropout(self.feed_forward(self.norm(x)))
        return y


class T5State(DecoderState):
    """Encoder memory of each decoder layer, and the cache of the tokens written so far."""

    def __init__(
        self, cache: KeyValueCache, memories: list[Tensor], memory_bias: Tensor | None
    ) -> None:
        self.cache, self.memories, self.memory_bias = cache, memories, memory_bias

    def select(self, rows: Tensor) -> "T5State":
        memories = [memory[:, rows] for memory in self.memories]
        bias = None if self.memory_bias is None else self.memory_bias[rows]
        return T5State(self.cache.select(rows), memories, bias)

    def detach(self) -> None:
        self.cache.detach()
        self.memories = [memory.detach() for memory in self.memories]


class T5(NextTokenNetwork):
    """Encoder and decoder with `layers` layers each; at most `context` tokens in and out."""

    def __init__(
        self,
        vocab_size: int,
        context: int = 256,
        layers: int = 4,
        heads: int = 4,
        width: int = 256,
        dropout: float = 0.0,
        head_width: int | None = None,
        ffn_width: int | None = None,
        decoder_layers: int | None = None,
        activation: str = "relu",
        gated: bool = False,
        own_head: bool = False,
        scale_output: bool = True,
        norm_eps: float = 1e-6,
    ) -> None:
        """`head_width` is by default `width` / `heads`, `ffn_width` 4 times `width`.

        `own_head`: the output layer does not share the embedding, whose variance of 1 is the reason
        to scale its input down (`scale_output`).
        """
        super().__init__()
        if head_width is None and width % heads:
            raise DlkitError(
                f"--width {width} is not divisible by --heads {heads}; change one of them"
            )
        self.context, self.heads, self.width = context, heads, width
        self.head_width = head_width or width // heads
        self.scale = width**-0.5 if scale_output else 1.0
        block = partial(
            T5Block,
            width=width,
            heads=heads,
            head_width=self.head_width,
            ffn_width=ffn_width or 4 * width,
            dropout=dropout,
            activation=activation,
            gated=gated,
            norm_eps=norm_eps,
        )
        self.embedding = nn.Embedding(vocab_size, width)
        self.dropout = nn.Dropout(dropout)
        self.encoder_bias = RelativeBias(heads, bidirectional=True)
        self.encoder = nn.ModuleList(block(False) for _ in range(layers))
        self.encoder_norm = nn.RMSNorm(width, norm_eps)
        self.decoder_bias = RelativeBias(heads, bidirectional=False)
        self.decoder = nn.ModuleList(block(True) for _ in range(decoder_layers or layers))
        self.decoder_norm = nn.RMSNorm(width, norm_eps)
        self.head = nn.Linear(width, vocab_size, bias=False) if own_head else None
        self.initialize()

    def initialize(self) -> None:
        """Initialize as T5: the scale of the scores is in the query weights."""
        nn.init.normal_(self.embedding.weight, std=1.0)
        for module in self.modules():
            if isinstance(module, T5Attention):
                nn.init.normal_(module.query.weight, std=(self.width * self.head_width) ** -0.5)
            if isinstance(module, RelativeBias):
                nn.init.normal_(module.embedding.weight, std=self.width**-0.5)
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear) and not name.endswith("query"):
                nn.init.normal_(module.weight, std=module.in_features**-0.5)

    def read(self, source: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Encode source (B, S) -> (B, S, W)."""
        x = self.dropout(self.embedding(source))
        bias = self.encoder_bias(torch.arange(source.shape[1], device=x.device), source.shape[1])
        if lengths is not None:
            bias = bias.masked_fill(~present(source, lengths), -torch.inf)
        for block in self.encoder:
            x = block(x, bias)
        y: Tensor = self.dropout(self.encoder_norm(x))
        return y

    def start(
        self,
        batch: int,
        capacity: int,
        source: Tensor | None = None,
        source_lengths: Tensor | None = None,
    ) -> T5State:
        """Return the state of empty texts for sources (B, S), of at most `capacity` tokens."""
        assert source is not None, "T5 needs a source to read"
        weight = self.embedding.weight
        shape = (len(self.decoder), batch, capacity, self.heads, self.head_width)
        cache = KeyValueCache(*shape, like=weight)
        memories, bias = self.memories(source, source_lengths)
        return T5State(cache, [memory.to(cache.dtype) for memory in memories], bias)

    def memories(
        self, source: Tensor, lengths: Tensor | None
    ) -> tuple[list[Tensor], Tensor | None]:
        """Keys and values of the source for each decoder layer, and the bias that hides padding."""
        output = self.read(source, lengths)
        reading = [b.reading for b in self.decoder if isinstance(b.reading, T5Attention)]
        memories = [attention.keys_and_values(output) for attention in reading]
        if lengths is None:
            return memories, None
        hidden = ~present(source, lengths)
        return memories, torch.zeros_like(hidden, dtype=output.dtype).masked_fill(
            hidden, -torch.inf
        )

    def hidden(
        self,
        ids: Tensor,
        memories: list[Tensor],
        memory_bias: Tensor | None,
        past: KeyValueCache | None,
        lengths: Tensor | None,
    ) -> Tensor:
        """Output of the decoder (B, T, W)."""
        tokens = ids.shape[1]
        if past is None:
            positions, keys = torch.arange(tokens, device=ids.device), tokens
        else:
            positions = past.begin(tokens, lengths)
            keys = past.attended
        later = torch.arange(keys, device=ids.device) > positions.unsqueeze(-1)
        later = later if later.dim() == 2 else later[:, None]
        bias = self.decoder_bias(positions, keys).masked_fill(later, -torch.inf)
        x = self.dropout(self.embedding(ids))
        for layer, (block, memory) in enumerate(zip(self.decoder, memories, strict=True)):
            x = block(x, bias, past, layer, memory, memory_bias)
        if past is not None:
            past.advance(tokens, lengths)
        y: Tensor = self.dropout(self.decoder_norm(x)) * self.scale
        return y

    def logits(self, hidden: Tensor) -> Tensor:
        """hidden (..., W) -> (..., V), fp32."""
        if self.head is not None:
            logits: Tensor = self.head(hidden)
            return logits.float()
        return F.linear(hidden, self.embedding.weight).float()

    def forward(
        self,
        ids: Tensor,
        state: DecoderState | None = None,
        lengths: Tensor | None = None,
        source: Tensor | None = None,
        source_lengths: Tensor | None = None,
    ) -> Tensor:
        """Logits (B, T, V) of the token after each of ids (B, T), given the source.

        Give either a state from `start`, or a source (B, S).
        """
        if isinstance(state, T5State):
            known, past = (state.memories, state.memory_bias), state.cache
        else:
            assert source is not None, "T5 needs a source to read"
            known, past = self.memories(source, source_lengths), None
        return self.logits(self.hidden(ids, *known, past, lengths))
