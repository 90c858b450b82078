"""The layers of Transformers that read and write (Vaswani et al. 2017), and their decoder.

Dropout is on the embedding and on what each part adds (section 5.4). Layer norm comes after each
part, or with `pre_norm` before it and once more at the end of each stack (Wang et al. 2019).

Shapes: B texts, S things read, T tokens written, V vocabulary, W width, H heads of D = W / H,
L layers, R = M x K rows that are written for M sources, E tokens written by all K of a source.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlkit.core.errors import DlkitError
from dlkit.core.nn.activations import ACTIVATIONS
from dlkit.core.nn.decoder_state import DecoderState, EncoderMemory
from dlkit.core.nn.layers import Dropout

LARGEST_WAVELENGTH = 10_000  # of the positions, divided by 2 pi
TABLE = 256  # positions are computed for a multiple of so many
BLOCK = 16  # tokens that memory is made ready for at once


def sinusoids(positions: int, width: int) -> Tensor:
    """PE(pos, 2 i) = sin(pos / 10000^(2 i / W)), PE(pos, 2 i + 1) = cos of it; (positions, W)."""
    exponents = torch.arange(0, width, 2) / width
    angles = torch.arange(positions)[:, None] * LARGEST_WAVELENGTH**-exponents
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


def additive_mask(hidden: Tensor) -> Tensor:
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
        # On short sentences torch's kernel takes longer in bf16, its backward five times as long.
        return shares(query, key, mask).to(value.dtype) @ value
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
    def __init__(self, width: int, ffn_width: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, ffn_width)
        self.activation = ACTIVATIONS["relu"]
        self.down = nn.Linear(ffn_width, width)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.down(self.activation(self.up(x)))
        return y


class Layer(nn.Module):
    """What encoder and decoder layers share: a part adds to x, with layer norm before or after."""

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
        """What a part sees of x."""
        y: Tensor = norm(x) if self.pre_norm else x
        return y

    def after(self, x: Tensor, added: Tensor, norm: nn.LayerNorm) -> Tensor:
        x = x + self.dropout(added)
        y: Tensor = x if self.pre_norm else norm(x)
        return y

    def add_self_attention(self, x: Tensor, mask: Tensor) -> Tensor:
        """Attention to the own sequence."""
        added = self.attention(self.before(x, self.attention_norm), mask)
        return self.after(x, added, self.attention_norm)

    def add_feed_forward(self, x: Tensor) -> Tensor:
        """The feed-forward layer."""
        return self.after(x, self.feed_forward(self.before(x, self.norm)), self.norm)


class EncoderLayer(Layer):
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x (B, S, W) -> (B, S, W)."""
        return self.add_feed_forward(self.add_self_attention(x, mask))


class DecoderLayer(Layer):
    def __init__(
        self, width: int, heads: int, ffn_width: int, dropout: float, pre_norm: bool
    ) -> None:
        super().__init__(width, heads, ffn_width, dropout, pre_norm)
        self.reading = CrossAttention(width, heads)
        self.reading_norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, mask: Tensor, memory: Tensor, memory_mask: Tensor) -> Tensor:
        """x (B, T, W), keys and values (2, B, H, S, D) of what was read -> (B, T, W)."""
        x = self.add_self_attention(x, mask)
        added = self.reading(self.before(x, self.reading_norm), memory, memory_mask)
        return self.add_feed_forward(self.after(x, added, self.reading_norm))

    def step(
        self, x: Tensor, past: Tensor, seen: Tensor, memory: Tensor, memory_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The newest tokens x (M, K, W) -> (M, K, W), and their attention (M, K, S), the heads'
        mean.

        past (2, M, H, E, D) are keys and values of all that was written; those of the newest
        tokens are stored at its end. seen (M, 1, K, E) hides what is of other beams.
        """
        parts = self.attention.project(self.before(x, self.attention_norm))
        past[:, :, :, -x.shape[1] :] = parts[1:]
        mixed = shares(parts[0].to(past.dtype), past[0], seen) @ past[1]
        added = self.attention.out(mixed.transpose(1, 2).flatten(2).to(x.dtype))
        x = self.after(x, added, self.attention_norm)
        attention = self.attends(x, memory, memory_mask)
        mixed = attention @ memory[1]
        added = self.reading.out(mixed.transpose(1, 2).flatten(2).to(x.dtype))
        return self.add_feed_forward(self.after(x, added, self.reading_norm)), attention.mean(1)

    def attends(self, x: Tensor, memory: Tensor, memory_mask: Tensor) -> Tensor:
        """Attention (B, H, T, S) of x (B, T, W) to what was read."""
        query = self.reading.queries(self.before(x, self.reading_norm))
        return shares(query.to(memory.dtype), memory[0], memory_mask)


class Written(DecoderState):
    """What was read, and the keys and values of all that was written, by whatever beam.

    A beam that goes on in two, or ends, moves none of these: each row only knows which of what was
    written for its source is its own.
    """

    def __init__(self, sources: EncoderMemory, seen: Tensor, length: int) -> None:
        # (2 L, M, H, S, D) of what was read, the mask (1, M, 1, 1, S) of its padding, and
        # (2 L, M, H, at least E, D) of the E tokens written.
        self.sources = sources
        self.seen = seen  # (R, E), added to the scores
        self.length = length  # tokens of each row

    def select(self, rows: Tensor) -> "Written":
        return Written(self.sources.select(rows), self.seen[rows], self.length)

    def grow(self) -> tuple[Tensor, Tensor]:
        """Room for a token of each row: past (2 L, M, H, E, D), and seen (M, 1, K, E)."""
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


class TransformerDecoding(nn.Module):
    """The part of a model that writes: an embedding, a stack of decoder layers, logits.

    It is a base class beside the task's own, so that its layers stand in the model itself under
    the same names in all tasks: a subclass calls `add_embedding`, `add_decoder` and `initialize`.
    """

    table: Tensor
    embedding: nn.Embedding
    head: nn.Linear | None
    width: int

    def add_embedding(self, vocab_size: int, width: int, heads: int, dropout: float) -> None:
        if width % heads or width % 2:
            raise DlkitError(f"--width {width} cannot be shared by --heads {heads}, or is odd")
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
        y: Tensor = self.dropout(x)
        return y

    def decoder_layers(self) -> list[DecoderLayer]:
        return [layer for layer in self.decoder if isinstance(layer, DecoderLayer)]

    def known(self, x: Tensor) -> list[Tensor]:
        """Each layer's keys and values (2, B, H, S, D) of what was read, x (B, S, W)."""
        return [layer.reading.keys_and_values(x) for layer in self.decoder_layers()]

    def write(self, target: Tensor, memories: list[Tensor], mask: Tensor) -> Tensor:
        """The decoder's output (B, T, W) for target (B, T), before the last norm."""
        x, causal = self.embed(target), self.causal(target)
        for layer, memory in zip(self.decoder_layers(), memories, strict=True):
            x = layer(x, causal, memory, mask)
        return x

    def causal(self, target: Tensor) -> Tensor:
        """What hides later tokens (T, T)."""
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

    def begin(self, memories: list[Tensor], mask: Tensor, capacity: int) -> Written:
        """What `step` starts from, for texts of at most `capacity` tokens."""
        memory = torch.cat(memories)
        if memory.device.type == "cpu":
            memory = memory.float()  # attention of one token to many is quicker than in bf16
        past = memory.new_empty(*memory.shape[:3], min(capacity, BLOCK), memory.shape[4])
        sources = EncoderMemory([memory, mask[None], past])
        return Written(sources, mask.new_empty(memory.shape[1], 0), 0)

    def step(self, ids: Tensor, state: Written) -> tuple[Tensor, Tensor]:
        """Logits (B, V) after the newest tokens ids (B), and the attention (B, S) of the layer
        that `aligning` tells of.
        """
        memory, (mask,), _ = state.sources.tensors
        x = state.sources.grouped(self.embed(ids[:, None], state.length))
        past, seen = state.grow()
        attentions = []
        of_layers = zip(self.decoder_layers(), past.split(2), memory.split(2), strict=True)
        for layer, own, known in of_layers:
            x, attention = layer.step(x, own, seen, known, mask)
            attentions.append(attention)
        return self.logits(x.flatten(0, 1)), attentions[self.aligning()].flatten(0, 1)

    def aligning(self) -> int:
        """The decoder's layer before the last: its attention aligns best (Garg et al. 2019)."""
        return max(len(self.decoder) - 2, 0)

    def attention(self, target: Tensor, memories: list[Tensor], mask: Tensor) -> Tensor:
        """That layer's attention (B, T, S), the mean of its heads, in fp32."""
        x, causal = self.embed(target), self.causal(target)
        number = self.aligning()
        layers = self.decoder_layers()
        for layer, memory in zip(layers[:number], memories, strict=False):
            x = layer(x, causal, memory, mask)
        x = layers[number].add_self_attention(x, causal)
        return layers[number].attends(x, memories[number], mask).mean(1).float()
