"""Text networks: fastText, bidirectional LSTM, (hierarchical) attention, Transformer encoder.

Shapes: B texts of T words with vectors of dimension E, K features, L labels, N sentences of all
texts. Id 0 is padding, which has no effect on the results.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

PADDING = 0
MAX_WAVELENGTH = 10_000  # of the sinusoidal positions, divided by 2 pi


def word_mask(ids: Tensor) -> Tensor:
    """Return a mask (B, T) of words; an empty text counts as one word of padding."""
    mask = ids != PADDING
    mask[:, 0] |= ~mask.any(dim=1)
    return mask


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean (B, K) of values (B, T, K) where the mask (B, T) is true."""
    weights = mask.to(values.dtype).unsqueeze(-1)
    return (values * weights).sum(dim=1) / weights.sum(dim=1)


class TextNetwork(nn.Module):
    """A text classifier: logits (B, L) from ids (B, T), and the weight of each word."""

    def word_weights(self, ids: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return the weight of each word for the label of each text (B, T); 0 for padding.

        `labels` (B,) are those of the highest logit if they are None.
        """
        raise NotImplementedError

    def best(self, ids: Tensor) -> Tensor:
        """Return the label of the highest logit (B,)."""
        logits: Tensor = self(ids)
        return logits.argmax(dim=1)


def divide_among_words(parts: Sequence[Tensor], length: int) -> Tensor:
    """Return weights (B, T) of words from those of words (B, T), bigrams (B, T - 1), ...

    The weight of an n-gram is divided equally among its words.
    """
    weights = torch.zeros(len(parts[0]), length, device=parts[0].device)
    for n, added in enumerate(parts, start=1):
        for offset in range(n):
            weights[:, offset : offset + added.shape[1]] += added / n
    return weights


class SequenceNetwork(TextNetwork):
    """A network on sequences of word vectors; subclasses define `classify_vectors`."""

    def __init__(self, vocab_size: int, embedding_size: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, embedding_size, padding_idx=PADDING)
        nn.init.normal_(self.embedding.weight, std=0.1)
        with torch.no_grad():
            self.embedding.weight[PADDING] = 0

    def classify_vectors(self, words: Tensor, ids: Tensor) -> Tensor:
        """Return logits (B, L) for word vectors (B, T, E) and their ids (B, T)."""
        raise NotImplementedError

    def forward(self, ids: Tensor) -> Tensor:
        """Logits (B, L) of ids (B, T)."""
        return self.classify_vectors(self.embedding(ids), ids)

    def word_weights(self, ids: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return word weights (B, T): the gradient of the label's logit times the word vector.

        To first order, this is the word's contribution to the logit; it may be negative.
        """
        # cuDNN has no backward pass of recurrent networks in eval mode.
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            torch.backends.cudnn.flags(enabled=False),
        ):
            ids = ids.clone()
            words = self.embedding(ids).detach().requires_grad_()
            logits = self.classify_vectors(words, ids)
            chosen = logits.argmax(dim=1) if labels is None else labels
            (gradient,) = torch.autograd.grad(logits.gather(1, chosen[:, None]).sum(), words)
        weights: Tensor = (gradient * words.detach()).sum(dim=2) * (ids != PADDING)
        return weights


class FastText(TextNetwork):
    """fastText (Joulin et al. 2016): a linear layer on the mean vector of words and n-grams.

    N-grams share `buckets` vectors by fastText's hash of their words.
    """

    MULTIPLIER = 116_049_371

    def __init__(
        self,
        num_labels: int,
        vocab_size: int,
        embedding_size: int = 32,
        ngrams: int = 2,
        buckets: int = 100_000,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.vocab_size, self.ngrams, self.buckets = vocab_size, ngrams, buckets
        rows = vocab_size + (buckets if ngrams > 1 else 0)
        self.embedding = nn.EmbeddingBag(rows, embedding_size, mode="mean", padding_idx=PADDING)
        nn.init.uniform_(self.embedding.weight, -1 / embedding_size, 1 / embedding_size)
        with torch.no_grad():
            self.embedding.weight[PADDING] = 0
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(embedding_size, num_labels)

    def features(self, ids: Tensor) -> list[Tensor]:
        """Return embedding rows of words (B, T), bigrams (B, T - 1), ...; 0 if padding is in it."""
        rows = [ids]
        hashes, whole = ids, ids != PADDING
        for n in range(2, min(self.ngrams, ids.shape[1]) + 1):
            last = ids[:, n - 1 :]
            hashes = hashes[:, :-1] * self.MULTIPLIER + last  # wraps around at 64 bits
            whole = whole[:, :-1] & (last != PADDING)
            rows.append((self.vocab_size + hashes.remainder(self.buckets)) * whole)
        return rows

    def forward(self, ids: Tensor) -> Tensor:
        """Logits (B, L) of ids (B, T)."""
        means = self.embedding(torch.cat(self.features(ids), dim=1))
        logits: Tensor = self.fc(self.dropout(means))
        return logits

    @torch.no_grad()
    def word_weights(self, ids: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return word weights (B, T): the exact contribution of each word to the label's logit.

        An n-gram's contribution is divided equally among its words. With the bias, the weights sum
        to the logit.
        """
        best = self.best(ids) if labels is None else labels
        scores = self.embedding.weight @ self.fc.weight.T  # of each row for each label
        rows = self.features(ids)
        parts = [scores[features, best[:, None]] * (features != PADDING) for features in rows]
        weights = divide_among_words(parts, ids.shape[1])
        count = sum((features != PADDING).sum(dim=1) for features in rows)
        return weights / torch.as_tensor(count).clamp(min=1)[:, None]


class Recurrent(nn.Module):
    """Bidirectional LSTM or GRU layers for padded sequences."""

    def __init__(
        self, kind: type[nn.LSTM] | type[nn.GRU], inputs: int, hidden: int, layers: int, drop: float
    ) -> None:
        super().__init__()
        between = drop if layers > 1 else 0.0
        self.rnn = kind(
            inputs, hidden, layers, batch_first=True, bidirectional=True, dropout=between
        )

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return states (B, T, 2 hidden) for x (B, T, E); padding at the end is never read."""
        lengths = mask.sum(dim=1).cpu()
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(
            self.rnn(packed)[0], batch_first=True, total_length=x.shape[1]
        )
        return states


class BiLSTM(SequenceNetwork):
    """Stacked bidirectional LSTM (Graves et al. 2013) with pooling over time."""

    def __init__(
        self,
        num_labels: int,
        vocab_size: int,
        embedding_size: int = 128,
        hidden: int = 128,
        layers: int = 1,
        pooling: str = "max",
        dropout: float = 0.5,
    ) -> None:
        super().__init__(vocab_size, embedding_size)
        self.pooling = pooling
        self.encoder = Recurrent(nn.LSTM, embedding_size, hidden, layers, dropout)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(2 * hidden, num_labels)

    def classify_vectors(self, words: Tensor, ids: Tensor) -> Tensor:
        mask = word_mask(ids)
        states = self.encoder(self.dropout(words), mask)
        if self.pooling == "max":
            pooled = states.masked_fill(~mask.unsqueeze(-1), -torch.inf).amax(dim=1)
        else:
            pooled = masked_mean(states, mask)
        logits: Tensor = self.fc(self.dropout(pooled))
        return logits


class AdditiveAttention(nn.Module):
    """Additive attention with one learned query (Yang et al. 2016, equations 5 to 7)."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.project = nn.Linear(inputs, hidden)
        self.query = nn.Linear(hidden, 1, bias=False)

    def forward(self, states: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weighted sum (B, K) of states (B, T, K), and weights (B, T) that sum to 1."""
        scores = self.query(torch.tanh(self.project(states))).squeeze(-1).float()
        weights = scores.masked_fill(~mask, -torch.inf).softmax(dim=1)
        return (weights.unsqueeze(-1) * states.float()).sum(dim=1), weights


class AttentionNetwork(SequenceNetwork):
    """A bidirectional GRU with additive attention over its states.

    With `sentence_ends`, the ids that end a sentence, it is the hierarchical attention network of
    Yang et al. 2016: attention over the words of each sentence, then over the sentences.
    """

    def __init__(
        self,
        num_labels: int,
        vocab_size: int,
        embedding_size: int = 128,
        hidden: int = 64,
        dropout: float = 0.5,
        sentence_ends: Sequence[int] | None = None,
    ) -> None:
        super().__init__(vocab_size, embedding_size)
        self.sentence_ends = sentence_ends
        self.word_encoder = Recurrent(nn.GRU, embedding_size, hidden, 1, 0.0)
        self.word_attention = AdditiveAttention(2 * hidden, 2 * hidden)
        if sentence_ends is not None:
            self.sentence_encoder = Recurrent(nn.GRU, 2 * hidden, hidden, 1, 0.0)
            self.sentence_attention = AdditiveAttention(2 * hidden, 2 * hidden)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(2 * hidden, num_labels)

    def classify_vectors(self, words: Tensor, ids: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.dropout(self.read(words, ids)[0]))
        return logits

    @torch.no_grad()
    def word_weights(self, ids: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return the attention to each word (B, T), times that to its sentence; it sums to 1."""
        return self.read(self.embedding(ids), ids)[1] * (ids != PADDING)

    def read(self, words: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (B, K) of the texts, and the attention weights (B, T) of the words."""
        words, mask = self.dropout(words), word_mask(ids)
        if self.sentence_ends is None:
            found: tuple[Tensor, Tensor] = self.word_attention(self.word_encoder(words, mask), mask)
            return found
        number, place = self.sentences(ids)
        text, at = mask.nonzero(as_tuple=True)
        # One row per sentence: (N, words of the longest).
        first = F.pad((number.amax(dim=1) + 1).cumsum(dim=0), (1, 0))
        row, column = (first[:-1, None] + number)[text, at], place[text, at]
        rows, longest = int(first[-1]), int(column.max()) + 1
        inside = torch.zeros(rows, longest, dtype=torch.bool, device=ids.device)
        inside[row, column] = True
        apart = words.new_zeros(rows, longest, words.shape[2]).index_put(
            (row, column), words[text, at]
        )
        vectors, attention = self.word_attention(self.word_encoder(apart, inside), inside)
        # Sentence vectors of each text: (B, sentences of the longest, K).
        most = int(number.max()) + 1
        there = torch.arange(most, device=ids.device) <= number.amax(dim=1, keepdim=True)
        owner, turn = there.nonzero(as_tuple=True)
        sequence = vectors.new_zeros(len(ids), most, vectors.shape[1]).index_put(
            (owner, turn), vectors
        )
        features, shares = self.sentence_attention(self.sentence_encoder(sequence, there), there)
        weights = attention.new_zeros(ids.shape)
        weights[text, at] = attention[row, column] * shares[text, number[text, at]]
        return features, weights

    def sentences(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sentence number of each word (B, T), and its position in the sentence.

        A sentence starts after one or more ids of `sentence_ends`. Padding belongs to the last one.
        """
        ends = torch.isin(ids, torch.tensor(list(self.sentence_ends or ()), device=ids.device))
        begins = F.pad(ends[:, :-1] & ~ends[:, 1:] & (ids[:, 1:] != PADDING), (1, 0))
        position = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
        return begins.cumsum(dim=1), position - (position * begins).cummax(dim=1).values


class EncoderBlock(nn.Module):
    """A pre-norm Transformer encoder block (Xiong et al. 2020)."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.drop = heads, dropout
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(4 * width, width)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Transform x (B, T, E), attending only where the mask (B, T) is true."""
        b, t, width = x.shape
        qkv = self.qkv(self.norm1(x)).view(b, t, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        heads = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=mask[:, None, None, :],
            dropout_p=self.drop if self.training else 0.0,
        )
        x = x + self.dropout(self.out(heads.transpose(1, 2).reshape(b, t, width)))
        out: Tensor = x + self.dropout(self.mlp(self.norm2(x)))
        return out


class TransformerNetwork(SequenceNetwork):
    """Transformer encoder (Vaswani et al. 2017) with a linear layer on the mean of its outputs."""

    def __init__(
        self,
        num_labels: int,
        vocab_size: int,
        embedding_size: int = 128,
        layers: int = 2,
        heads: int = 4,
        dropout: float = 0.3,
    ) -> None:
        super().__init__(vocab_size, embedding_size)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            EncoderBlock(embedding_size, heads, dropout) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(embedding_size)
        self.fc = nn.Linear(embedding_size, num_labels)

    def classify_vectors(self, words: Tensor, ids: Tensor) -> Tensor:
        mask = word_mask(ids)
        # Positions are scaled to the initial size of the word vectors.
        x = self.dropout(
            words + 0.1 * sinusoidal_positions(words.shape[1], words.shape[2], words.device)
        )
        for block in self.blocks:
            x = block(x, mask)
        logits: Tensor = self.fc(self.dropout(masked_mean(self.norm(x), mask)))
        return logits


def sinusoidal_positions(length: int, width: int, device: torch.device) -> Tensor:
    """Sinusoidal position encodings (T, E) (Vaswani et al. 2017, section 3.5)."""
    rates = torch.arange(0, width, 2, device=device) * (-math.log(MAX_WAVELENGTH) / width)
    angles = torch.arange(length, device=device)[:, None] * rates.exp()
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)[:, :width]


TEXT_ARCHITECTURES: dict[str, Callable[..., TextNetwork]] = {
    "fasttext": FastText,
    "bilstm": BiLSTM,
    "attention": AttentionNetwork,
    "transformer": TransformerNetwork,
}
