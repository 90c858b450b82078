"""The Transformer (Vaswani et al. 2017): encoder and decoder of attention and feed-forward layers.

One embedding serves source, target and output (section 3.4); dropout is on the embedding and on
what each part adds (section 5.4). Layer norm comes after each part, or with `pre_norm` before it
and once more at the end of each stack (Wang et al. 2019).

Shapes: B sentences, S source tokens, T target tokens, V vocabulary, W width, H heads of D = W / H,
R rows that are written for M sources.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.core.errors import DlkitError
from dlkit.core.layers import Dropout
from dlkit.translate.model import State, Translator
from dlkit.translate.models.sources import Sources

LARGEST_WAVELENGTH = 10_000  # of the positions, divided by 2 pi
TABLE = 256  # positions are computed for a multiple of so many
Memory = tuple[Tensor, Tensor]  # the keys and values of what was read


def sinusoids(positions: int, width: int) -> Tensor:
    """PE(pos, 2 i) = sin(pos / 10000^(2 i / W)), PE(pos, 2 i + 1) = cos of it; (positions, W)."""
    exponents = torch.arange(0, width, 2) / width
    angles = torch.arange(positions)[:, None] * LARGEST_WAVELENGTH**-exponents
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


def hiding(hidden: Tensor) -> Tensor:
    """What is added to attention's scores where they are to be `hidden`, in fp32."""
    return torch.zeros(hidden.shape, device=hidden.device).masked_fill_(hidden, -torch.inf)


def padding(length: int, lengths: Tensor) -> Tensor:
    """Where there is padding (B, 1, 1, length), right of the lengths (B)."""
    return (torch.arange(length, device=lengths.device) >= lengths[:, None])[:, None, None]


def shares(query: Tensor, key: Tensor, mask: Tensor) -> Tensor:
    """softmax(Q K^T / sqrt(D) + mask) of (B, H, T, D) and (B, H, S, D): (B, H, T, S) in fp32."""
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    return (scores + mask).softmax(-1)


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """The shares of the values (B, H, S, D) -> (B, H, T, D)."""
    if query.device.type == "cpu":
        # On short sentences torch's kernel takes longer, its backward in bf16 five times as long.
        mixed = shares(query.to(key.dtype), key, mask).to(value.dtype) @ value
        return mixed.to(query.dtype)
    return F.scaled_dot_product_attention(query, key, value, mask.to(query.dtype))


class SelfAttention(nn.Module):
    """Attention of several heads to the own sequence."""

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
    """Attention of several heads to what was read."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def queries(self, x: Tensor) -> Tensor:
        """x (B, T, W) -> (B, H, T, D)."""
        return self.query(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def keys_and_values(self, memory: Tensor) -> Memory:
        """memory (B, S, W) -> two of (B, H, S, D)."""
        both = self.key_value(memory).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return both[0], both[1]

    def forward(self, x: Tensor, memory: Memory, mask: Tensor) -> Tensor:
        """x (B, T, W), and keys and values (B, H, S, D) -> (B, T, W)."""
        mixed = attend(self.queries(x), *memory, mask)
        y: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return y


class FeedForward(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, inner)
        self.down = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.down(F.relu(self.up(x)))
        return y


class Layer(nn.Module):
    """What encoder and decoder layers share: a part adds to x, with layer norm before or after."""

    def __init__(self, width: int, heads: int, inner: int, dropout: float, pre_norm: bool) -> None:
        super().__init__()
        self.pre_norm = pre_norm
        self.attention = SelfAttention(width, heads)
        self.attention_norm = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, inner)
        self.norm = nn.LayerNorm(width)
        self.dropout = Dropout(dropout)

    def before(self, x: Tensor, norm: nn.LayerNorm) -> Tensor:
        """What a part sees of x."""
        y: Tensor = norm(x) if self.pre_norm else x
        return y

    def after(self, x: Tensor, added: Tensor, norm: nn.LayerNorm) -> Tensor:
        x = x + self.dropout(added)
        y: Tensor = x if self.pre_norm else norm(x)
        return y

    def listen(self, x: Tensor, mask: Tensor) -> Tensor:
        """Attention to the own sequence."""
        added = self.attention(self.before(x, self.attention_norm), mask)
        return self.after(x, added, self.attention_norm)

    def think(self, x: Tensor) -> Tensor:
        """The feed-forward layer."""
        return self.after(x, self.feed_forward(self.before(x, self.norm)), self.norm)


class EncoderLayer(Layer):
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x (B, S, W) -> (B, S, W)."""
        return self.think(self.listen(x, mask))


class DecoderLayer(Layer):
    def __init__(self, width: int, heads: int, inner: int, dropout: float, pre_norm: bool) -> None:
        super().__init__(width, heads, inner, dropout, pre_norm)
        self.reading = CrossAttention(width, heads)
        self.reading_norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, mask: Tensor, memory: Memory, memory_mask: Tensor) -> Tensor:
        """x (B, T, W), keys and values (B, H, S, D) of what was read -> (B, T, W)."""
        return self.read(self.listen(x, mask), memory, memory_mask)

    def read(self, x: Tensor, memory: Memory, memory_mask: Tensor) -> Tensor:
        """What comes after attention to the own sequence."""
        norm = self.reading_norm
        x = self.after(x, self.reading(self.before(x, norm), memory, memory_mask), norm)
        return self.think(x)


class Written(State):
    """The keys and values of what R rows wrote, and of what was read for them.

    Those of all layers lie in one piece, the first tokens first, so that what is there by now can
    be copied and multiplied quickly.
    """

    def __init__(self, own: Tensor, sources: Sources, length: int = 0) -> None:
        self.own = own  # (capacity, L, 2, R, H, D)
        self.sources = sources  # of each layer two (M, H, S, D); the mask (M, 1, 1, S)
        self.length = length  # tokens that each row has written

    def select(self, rows: Tensor) -> "Written":
        own = self.own.new_empty(*self.own.shape[:3], len(rows), *self.own.shape[4:])
        there = slice(self.length)
        torch.index_select(self.own[there], 3, rows, out=own[there])
        return Written(own, self.sources.select(rows), self.length)

    def extend(self, layer: int, new: Tensor) -> tuple[Tensor, Tensor]:
        """Store the newest keys and values (2, R, H, D); returns all (T, R, H, D)."""
        self.own[self.length, layer] = new
        key, value = self.own[: self.length + 1, layer].unbind(1)
        return key, value


class Transformer(Translator):
    table: Tensor

    def __init__(
        self,
        vocab_size: int,
        pad: int,
        bos: int,
        eos: int,
        unk: int,
        width: int = 256,
        layers: int = 4,
        dropout: float = 0.1,
        heads: int = 4,
        inner: int | None = None,
        pre_norm: bool = False,
        untied: bool = False,
    ) -> None:
        """`inner` is the width of the feed-forward layers, by default 4 times `width`."""
        super().__init__(vocab_size, pad, bos, eos, unk)
        if width % heads or width % 2:
            raise DlkitError(f"--width {width} cannot be shared by --heads {heads}, or is odd")
        inner = inner or 4 * width
        self.width, self.heads = width, heads
        self.embedding = nn.Embedding(vocab_size, width)
        self.register_buffer("table", sinusoids(TABLE, width), persistent=False)
        self.dropout = Dropout(dropout)
        shape = width, heads, inner, dropout, pre_norm
        self.encoder = nn.ModuleList(EncoderLayer(*shape) for _ in range(layers))
        self.encoder_norm = nn.LayerNorm(width) if pre_norm else nn.Identity()
        self.decoder = nn.ModuleList(DecoderLayer(*shape) for _ in range(layers))
        self.decoder_norm = nn.LayerNorm(width) if pre_norm else nn.Identity()
        self.head = nn.Linear(width, vocab_size, bias=False) if untied else None
        self.initialise()

    def initialise(self) -> None:
        """Glorot's, with queries, keys and values each as a matrix of its own."""
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
        """ids (B, T) at positions from `start` on -> (B, T, W)."""
        end = start + ids.shape[1]
        if end > len(self.table):
            table = sinusoids(-(-end // TABLE) * TABLE, self.width)
            self.table = table.to(self.table.device, self.table.dtype)
        x = self.embedding(ids) * math.sqrt(self.width) + self.table[start:end]
        return self.dropout(x)

    def read(self, source: Tensor, lengths: Tensor) -> tuple[list[Memory], Tensor]:
        """Each decoder layer's keys and values of source (B, S), and what hides its padding."""
        x = self.embed(source)
        mask = hiding(padding(source.shape[1], lengths))
        for layer in self.encoder:
            x = layer(x, mask)
        x = self.encoder_norm(x)
        return [layer.reading.keys_and_values(x) for layer in self.decoder_layers()], mask

    def decoder_layers(self) -> list[DecoderLayer]:
        return [layer for layer in self.decoder if isinstance(layer, DecoderLayer)]

    def write(self, target: Tensor, memories: list[Memory], mask: Tensor) -> Tensor:
        """The decoder's output (B, T, W) for target (B, T), before the last norm."""
        x, causal = self.embed(target), self.causal(target)
        for layer, memory in zip(self.decoder_layers(), memories, strict=True):
            x = layer(x, causal, memory, mask)
        return x

    def causal(self, target: Tensor) -> Tensor:
        """What hides later tokens (T, T)."""
        tokens = target.shape[1]
        later = torch.ones(tokens, tokens, dtype=torch.bool, device=target.device).triu(1)
        return hiding(later)

    def logits(self, x: Tensor) -> Tensor:
        """The decoder's output (..., W) -> (..., V), fp32."""
        x = self.decoder_norm(x)
        if self.head is None:
            return F.linear(x, self.embedding.weight).float()
        logits: Tensor = self.head(x)
        return logits.float()

    def forward(
        self,
        source: Tensor,
        lengths: Tensor,
        target: Tensor,
        sampled: float = 0.0,
        at: Tensor | None = None,
    ) -> Tensor:
        """`sampled` as Mihaylova and Martins 2019: a first pass of the decoder foretells each
        token from the true ones, a second one sees some of those in place of the true ones.
        """
        memories, mask = self.read(source, lengths)
        if sampled:
            with torch.no_grad():
                written = self.logits(self.write(target, memories, mask)).argmax(-1)
            target = self.mixed(target, written, sampled)
        x = self.write(target, memories, mask)
        return self.logits(x if at is None else x[at])

    def start(self, source: Tensor, lengths: Tensor, capacity: int) -> Written:
        memories, mask = self.read(source, lengths)
        # On CPUs attention of few tokens to many is several times quicker in fp32.
        dtype = torch.float32 if source.device.type == "cpu" else memories[0][0].dtype
        kept = [part.to(dtype).contiguous() for memory in memories for part in memory]
        shape = capacity, len(self.decoder), 2, len(source), self.heads, self.width // self.heads
        return Written(kept[0].new_empty(shape), Sources([*kept, mask]))

    def step(self, ids: Tensor, state: Written) -> tuple[Tensor, Tensor | None]:
        """No attention, which `align` computes when it is wanted."""
        x = self.embed(ids[:, None], state.length)
        *kept, mask = state.sources.tensors
        for number, layer in enumerate(self.decoder_layers()):
            memory = kept[2 * number], kept[2 * number + 1]
            norm = layer.attention_norm
            query, *_ = parts = layer.attention.project(layer.before(x, norm))[:, :, :, 0]
            key, value = state.extend(number, parts[1:])
            # (T, R, H, 1): with one query, sums over products are quicker than matrix products.
            scores = (query.to(key.dtype) * key).sum(-1, keepdim=True) * key.shape[-1] ** -0.5
            mixed = (scores.softmax(0) * value).sum(0).flatten(1)[:, None].to(x.dtype)
            x = layer.after(x, layer.attention.out(mixed), norm)
            x = layer.read(state.sources.grouped(x), memory, mask).flatten(0, 1)[:, None]
        state.length += 1
        return self.logits(x[:, 0]), None

    def aligning(self) -> int:
        """The decoder's layer before the last: its attention aligns best (Garg et al. 2019)."""
        return max(len(self.decoder) - 2, 0)

    def attention(self, layer: DecoderLayer, x: Tensor, memory: Memory, mask: Tensor) -> Tensor:
        """The mean of its heads' attention (B, T, S) to what was read, fp32."""
        query = layer.reading.queries(layer.before(x, layer.reading_norm))
        return shares(query, memory[0], mask).mean(1)

    def align(self, source: Tensor, lengths: Tensor, target: Tensor) -> Tensor:
        """The mean over the heads of the decoder's layer before the last (Garg et al. 2019)."""
        memories, mask = self.read(source, lengths)
        x, causal = self.embed(target), self.causal(target)
        number = self.aligning()
        layers = self.decoder_layers()
        for layer, memory in zip(layers[:number], memories, strict=False):
            x = layer(x, causal, memory, mask)
        x = layers[number].listen(x, causal)
        return self.attention(layers[number], x, memories[number], mask)
