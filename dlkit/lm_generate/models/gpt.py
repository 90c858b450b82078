"""GPT: a decoder-only Transformer, in the form of GPT-2 (Radford et al. 2019).

Layer norm comes before attention and before the feed-forward layer, and once more at the end; the
output shares the token embedding's weights. Dropout applies to the embedding and to the output of
each sublayer, not to the attention weights, which no fast kernel on CPUs supports. Positions are
learned, sinusoidal (Vaswani et al. 2017) or rotary (Su et al. 2021).

Shapes: B texts, T new tokens, V vocabulary, W width, H heads of D = W / H.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.core.errors import DlkitError
from dlkit.core.nn.activations import ACTIVATIONS
from dlkit.core.nn.fast_inference import as_cuda_graph
from dlkit.core.nn.layers import Dropout
from dlkit.lm_generate.models.cache import KeyValueCache, attend, round_up
from dlkit.lm_generate.models.language_model import DecoderState, NextTokenNetwork

LARGEST_WAVELENGTH = 10_000  # of sinusoidal and rotary positions, divided by 2 pi
# CUDA graphs: each one attends to a multiple of GRAPH_WINDOW tokens, and is captured after a batch
# has lived STEPS_BEFORE_GRAPH steps, since capture takes as long as many steps (beams live one).
GRAPH_WINDOW, STEPS_BEFORE_GRAPH = 256, 4
POSITIONS = ("learned", "sinusoidal", "rotary")


def angles(positions: int, width: int) -> Tensor:
    """Angles (positions, width / 2) of each position at each wavelength."""
    exponents = torch.arange(0, width, 2) / width
    return torch.arange(positions)[:, None] * LARGEST_WAVELENGTH**-exponents


class CausalAttention(nn.Module):
    """Causal multi-head self-attention."""

    def __init__(self, width: int, heads: int, bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.out = nn.Linear(width, width, bias=bias)

    def forward(
        self,
        x: Tensor,
        rotation: tuple[Tensor, Tensor] | None,
        past: KeyValueCache | None,
        layer: int,
    ) -> Tensor:
        """x (B, T, W) -> (B, T, W)."""
        batch, tokens, width = x.shape
        # (3, B, H, T, D): queries, keys and values.
        parts = self.qkv(x).view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        if past is not None:
            parts = parts.to(past.dtype)
        query, key, value = parts
        if rotation is not None:
            query, key = rotate(parts[:2], *rotation).to(parts.dtype)
        mask, causal = None, tokens > 1
        if past is not None:
            new = parts[1:] if rotation is None else torch.stack([key, value])
            key, value = past.extend(layer, new)
            mask = past.mask
        if self.training and past is None and value.dtype == torch.bfloat16 and x.is_cpu:
            # Rotary positions were applied in fp32, as the angles are.
            mixed = causal_attention(query.to(value.dtype), key.to(value.dtype), value)
        elif mask is not None:
            mixed = attend(query, key, value, mask)
        else:
            mixed = F.scaled_dot_product_attention(query, key, value, is_causal=causal)
        y: Tensor = self.out(mixed.transpose(1, 2).reshape(batch, tokens, width).to(x.dtype))
        return y


def causal_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Replace scaled_dot_product_attention of three (B, H, T, D) where its backward is slow.

    On CPUs its backward in bf16 takes twice as long as that of these products.
    """
    tokens, size = query.shape[-2:]
    later = query.new_full((tokens, tokens), -torch.inf).triu(1)
    scores = (query * size**-0.5) @ key.transpose(-1, -2)
    with torch.autocast("cpu", enabled=False):  # autocast would compute the softmax in fp32
        weights = (scores + later).softmax(-1)
    y: Tensor = weights @ value
    return y


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x (..., B, H, T, D) with each pair (i, i + D / 2) rotated; cos and sin (..., T, D / 2)."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


class GPTBlock(nn.Module):
    """Causal self-attention and a feed-forward layer, each after layer norm and with a residual."""

    def __init__(
        self,
        width: int,
        heads: int,
        ffn_width: int,
        dropout: float,
        bias: bool,
        activation: str,
        norm_eps: float,
    ) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width, norm_eps, bias=bias)
        self.attention = CausalAttention(width, heads, bias)
        self.norm = nn.LayerNorm(width, norm_eps, bias=bias)
        self.up = nn.Linear(width, ffn_width, bias=bias)
        self.activation = ACTIVATIONS[activation]
        self.down = nn.Linear(ffn_width, width, bias=bias)
        self.dropout = Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        rotation: tuple[Tensor, Tensor] | None,
        past: KeyValueCache | None,
        layer: int,
    ) -> Tensor:
        mixed = self.attention(self.attention_norm(x), rotation, past, layer)
        x = x + (self.dropout(mixed) if self.training else mixed)
        hidden = self.down(self.activation(self.up(self.norm(x))))
        y: Tensor = x + (self.dropout(hidden) if self.training else hidden)
        return y


class GPT(NextTokenNetwork):
    """The Transformer, with a context of at most `context` tokens."""

    context: int
    graphs = True  # CUDA graphs speed up single tokens; a sharded network has none
    cos: Tensor
    sin: Tensor

    def __init__(
        self,
        vocab_size: int,
        context: int = 256,
        layers: int = 4,
        heads: int = 4,
        width: int = 256,
        dropout: float = 0.0,
        positions: str = "learned",
        tie_embeddings: bool = True,
        bias: bool = True,
        ffn_width: int | None = None,
        activation: str = "gelu-tanh",
        norm_eps: float = 1e-5,
    ) -> None:
        """`ffn_width` is the width of the feed-forward layers, by default 4 times `width`."""
        super().__init__()
        if width % heads:
            raise DlkitError(
                f"--width {width} is not divisible by --heads {heads}; change one of them"
            )
        if positions not in POSITIONS:
            raise DlkitError(f"unknown positions {positions!r}; choose from {', '.join(POSITIONS)}")
        if positions != "learned" and width // heads % 2:
            raise DlkitError(
                f"--positions {positions} needs an even width of each head, not {width // heads};"
                " change --width or --heads"
            )
        self.context, self.heads, self.positions = context, heads, positions
        self.embedding = nn.Embedding(vocab_size, width)
        if positions == "learned":
            self.position_embedding = nn.Embedding(context, width)
        else:
            phases = angles(context, width if positions == "sinusoidal" else width // heads)
            self.register_buffer("cos", phases.cos(), persistent=False)
            self.register_buffer("sin", phases.sin(), persistent=False)
        self.dropout = Dropout(dropout)
        ffn_width = ffn_width or 4 * width
        self.blocks = nn.ModuleList(
            GPTBlock(width, heads, ffn_width, dropout, bias, activation, norm_eps)
            for _ in range(layers)
        )
        self.final_norm = nn.LayerNorm(width, norm_eps, bias=bias)
        self.head = None if tie_embeddings else nn.Linear(width, vocab_size, bias=False)
        self.initialize()

    def initialize(self) -> None:
        """Initialize as GPT-2: with more blocks, layers that add to the residual start smaller."""
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                adds = name.endswith(("attention.out", "down"))
                scale = 1 / math.sqrt(2 * len(self.blocks)) if adds else 1.0
                nn.init.normal_(module.weight, std=0.02 * scale)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def start(self, batch: int, capacity: int) -> KeyValueCache:
        weight = self.embedding.weight
        size = weight.shape[1] // self.heads
        return KeyValueCache(len(self.blocks), batch, capacity, self.heads, size, like=weight)

    def hidden(self, ids: Tensor, past: KeyValueCache | None, lengths: Tensor | None) -> Tensor:
        """Output of the last layer (B, T, W)."""
        tokens = ids.shape[1]
        if past is None:
            positions = torch.arange(tokens, device=ids.device)
        else:
            positions = past.begin(tokens, lengths)
        x = self.embedding(ids)
        rotation = None
        if self.positions == "learned":
            x = x + self.position_embedding(positions)
        else:
            cos, sin = self.cos[positions], self.sin[positions]
            if self.positions == "rotary":
                # (T, D / 2), or (B, 1, T, D / 2) where rows are at different positions.
                several = positions.dim() == 2
                rotation = (cos[:, None], sin[:, None]) if several else (cos, sin)
            else:
                x = x * math.sqrt(x.shape[-1]) + torch.cat([sin, cos], dim=-1).to(x.dtype)
        x = self.dropout(x)
        for layer, block in enumerate(self.blocks):
            x = block(x, rotation, past, layer)
        if past is not None:
            past.advance(tokens, lengths)
        last: Tensor = self.final_norm(x)
        return last

    def logits(self, hidden: Tensor) -> Tensor:
        """hidden (..., W) -> (..., V), fp32."""
        if self.head is None:
            return F.linear(hidden, self.embedding.weight).float()
        logits: Tensor = self.head(hidden)
        return logits.float()

    def forward(
        self, ids: Tensor, state: DecoderState | None = None, lengths: Tensor | None = None
    ) -> Tensor:
        assert state is None or isinstance(state, KeyValueCache)
        return self.logits(self.hidden(ids, state, lengths))

    def next_logits(
        self, ids: Tensor, state: DecoderState, lengths: Tensor | None = None
    ) -> Tensor:
        assert isinstance(state, KeyValueCache)
        if self.graphs and ids.is_cuda and ids.shape[1] == 1 and lengths is None:
            state.steps += 1
            if state.steps > STEPS_BEFORE_GRAPH:
                return self.replay_step(ids, state)
        hidden = self.hidden(ids, state, lengths)
        if lengths is None:
            return self.logits(hidden[:, -1])
        return self.logits(hidden[torch.arange(len(ids), device=ids.device), lengths - 1])

    def replay_step(self, ids: Tensor, state: KeyValueCache) -> Tensor:
        """Logits (B, V) after one more token of each row, by a CUDA graph per GRAPH_WINDOW tokens.

        A graph always attends to that many tokens; a mask hides those that do not exist yet.
        """
        window = min(round_up(state.longest + 1, GRAPH_WINDOW), state.capacity)
        if state.step is None or state.window != window:
            state.window = window
            longest = state.longest
            state.step = as_cuda_graph(
                lambda given: self.logits(self.hidden(given, state, None)[:, -1]),
                ids,
                state.lengths,
            )
            state.longest = longest
        state.longest += 1
        return state.step(ids)
