"""GPT: a decoder-only Transformer, in the form of GPT-2 (Radford et al. 2019).

Layer norm comes before attention and before the feed-forward layer, and once more at the end; the
output shares the token embedding's weights. Dropout is on the embedding and on what each layer
adds, not on the attention's shares, which no quick kernel on CPUs has. Positions are learned,
sinusoidal (Vaswani et al. 2017) or rotary (Su et al. 2021).

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
from dlkit.lm_generate.model import DecoderState, LanguageModel
from dlkit.lm_generate.models.cache import Cache, rounded

LARGEST_WAVELENGTH = 10_000  # of sinusoidal and rotary positions, divided by 2 pi
# CUDA graphs: how many tokens further back each one sees, and the steps a batch must have lived
# before one is made of it, which takes as long as many steps (beams live one).
WINDOW, BEFORE_GRAPHS = 256, 4
POSITIONS = ("learned", "sinusoidal", "rotary")


def angles(positions: int, width: int) -> Tensor:
    """What each position (rows) is multiplied with at each wavelength (columns, width / 2)."""
    exponents = torch.arange(0, width, 2) / width
    return torch.arange(positions)[:, None] * LARGEST_WAVELENGTH**-exponents


class Attention(nn.Module):
    """Causal attention of several heads."""

    def __init__(self, width: int, heads: int, bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.out = nn.Linear(width, width, bias=bias)

    def forward(
        self, x: Tensor, rotation: tuple[Tensor, Tensor] | None, past: Cache | None, layer: int
    ) -> Tensor:
        """x (B, T, W) -> (B, T, W)."""
        batch, tokens, width = x.shape
        # (3, B, H, T, D): queries, keys and values.
        parts = self.qkv(x).view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        if past is not None:
            parts = parts.to(past.dtype)
        query, key, value = parts
        if rotation is not None:
            query, key = rotated(parts[:2], *rotation).to(parts.dtype)
        mask, causal = None, tokens > 1
        if past is not None:
            new = parts[1:] if rotation is None else torch.stack([key, value])
            key, value = past.extend(layer, new)
            mask = past.mask
            causal = causal and mask is None
        if self.training and past is None and value.dtype == torch.bfloat16 and x.is_cpu:
            # Turned in fp32, as the angles are.
            mixed = causal_attention(query.to(value.dtype), key.to(value.dtype), value)
        else:
            mixed = F.scaled_dot_product_attention(query, key, value, mask, is_causal=causal)
        y: Tensor = self.out(mixed.transpose(1, 2).reshape(batch, tokens, width).to(x.dtype))
        return y


def causal_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """scaled_dot_product_attention of three (B, H, T, D), where its kernel's backward is slow.

    On CPUs it takes twice as long as that of these products in bf16.
    """
    tokens, size = query.shape[-2:]
    later = query.new_full((tokens, tokens), -torch.inf).triu(1)
    scores = (query * size**-0.5) @ key.transpose(-1, -2)
    with torch.autocast("cpu", enabled=False):  # which would have the softmax in fp32
        shares = (scores + later).softmax(-1)
    return shares @ value


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x (..., B, H, T, D) with each pair (i, i + D / 2) turned; cos and sin (..., T, D / 2)."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


class Block(nn.Module):
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
        self.attention = Attention(width, heads, bias)
        self.norm = nn.LayerNorm(width, norm_eps, bias=bias)
        self.up = nn.Linear(width, ffn_width, bias=bias)
        self.activation = ACTIVATIONS[activation]
        self.down = nn.Linear(ffn_width, width, bias=bias)
        self.dropout = Dropout(dropout)

    def forward(
        self, x: Tensor, rotation: tuple[Tensor, Tensor] | None, past: Cache | None, layer: int
    ) -> Tensor:
        mixed = self.attention(self.attention_norm(x), rotation, past, layer)
        x = x + (self.dropout(mixed) if self.training else mixed)
        hidden = self.down(self.activation(self.up(self.norm(x))))
        return x + (self.dropout(hidden) if self.training else hidden)


class GPT(LanguageModel):
    """The Transformer; it looks back on at most `context` tokens."""

    context: int
    graphs = True  # CUDA graphs speed up single tokens; not of a network that is sharded
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
        untied: bool = False,
        bias: bool = True,
        ffn_width: int | None = None,
        activation: str = "gelu-tanh",
        norm_eps: float = 1e-5,
    ) -> None:
        """`ffn_width` is the width of the feed-forward layers, by default 4 times `width`."""
        super().__init__()
        if width % heads:
            raise DlkitError(f"--width {width} cannot be shared by --heads {heads}")
        if positions not in POSITIONS:
            raise DlkitError(f"no positions {positions!r}: there is {', '.join(POSITIONS)}")
        if positions != "learned" and width // heads % 2:
            raise DlkitError(f"{positions} positions need an even number in each head")
        self.context, self.heads, self.positions = context, heads, positions
        self.embedding = nn.Embedding(vocab_size, width)
        if positions == "learned":
            self.position_embedding = nn.Embedding(context, width)
        else:
            turns = angles(context, width if positions == "sinusoidal" else width // heads)
            self.register_buffer("cos", turns.cos(), persistent=False)
            self.register_buffer("sin", turns.sin(), persistent=False)
        self.dropout = Dropout(dropout)
        ffn_width = ffn_width or 4 * width
        self.blocks = nn.ModuleList(
            Block(width, heads, ffn_width, dropout, bias, activation, norm_eps)
            for _ in range(layers)
        )
        self.final_norm = nn.LayerNorm(width, norm_eps, bias=bias)
        self.head = nn.Linear(width, vocab_size, bias=False) if untied else None
        self.initialize()

    def initialize(self) -> None:
        """As GPT-2: what adds to the residual stream is smaller, the more layers do."""
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                adds = name.endswith(("attention.out", "down"))
                scale = 1 / math.sqrt(2 * len(self.blocks)) if adds else 1.0
                nn.init.normal_(module.weight, std=0.02 * scale)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def start(self, batch: int, capacity: int) -> Cache:
        weight = self.embedding.weight
        size = weight.shape[1] // self.heads
        return Cache(len(self.blocks), batch, capacity, self.heads, size, like=weight)

    def hidden(self, ids: Tensor, past: Cache | None, lengths: Tensor | None) -> Tensor:
        """The last layer's output (B, T, W)."""
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
        assert state is None or isinstance(state, Cache)
        return self.logits(self.hidden(ids, state, lengths))

    def next_logits(
        self, ids: Tensor, state: DecoderState, lengths: Tensor | None = None
    ) -> Tensor:
        assert isinstance(state, Cache)
        if self.graphs and ids.is_cuda and ids.shape[1] == 1 and lengths is None:
            state.steps += 1
            if state.steps > BEFORE_GRAPHS:
                return self.replayed(ids, state)
        hidden = self.hidden(ids, state, lengths)
        if lengths is None:
            return self.logits(hidden[:, -1])
        return self.logits(hidden[torch.arange(len(ids), device=ids.device), lengths - 1])

    def replayed(self, ids: Tensor, state: Cache) -> Tensor:
        """The logits (B, V) after one token more in each row, by a graph for every WINDOW tokens.

        A graph always sees so many tokens; a mask hides those that are not there yet.
        """
        window = min(rounded(state.longest + 1, WINDOW), state.capacity)
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
