"""Skip-gram, CBOW and fastText with negative sampling in large batches, for CUDA devices.

All random numbers (subsampling, window widths, negative words) are drawn on the device. A step
takes thousands of consecutive positions in groups: the context words of a group are gathered once,
their scores with the group's words are one small matrix product, masked to the windows, and the
positions of a group share their negative words, weighted so that they count as `negative` words.

A batch adds up hundreds of gradients of a frequent word, all computed from the same vectors: as one
SGD step, that diverges. Therefore the change of a row is divided by 1 + rate * h, where h, the sum
of s (1 - s) |other|^2 over the row's scores s, bounds the curvature (the trace of the row's
Hessian). Like an implicit step, this never overshoots the minimum, and rows that are rare in a
batch take the plain SGD step.

Shapes: B groups of G positions, C = G + 2 * window context words of a group, K negative words, D
dimensions, N words, R rows.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from dlkit.core.errors import DlkitError
from dlkit.embed.config import EmbedMethod, ResolvedConfig
from dlkit.embed.corpus import SENTENCE_END
from dlkit.embed.sampling import NEGATIVE_POWER, keep_probabilities, learning_rate

GROUP = 32  # positions that share their negative words
NEGATIVES = 64  # negative words of a group
STEP = 8192  # positions of a step
BLOCK = 1 << 24  # ids moved to the device at a time


@dataclass
class TorchState:
    """All that training changes, between two blocks of ids: enough to resume from."""

    inputs: Tensor  # float32 (R, D)
    outputs: Tensor  # float32 (N, D)
    epoch: int = 0
    done: int = 0  # ids of this epoch
    loss: float = 0.0  # mean of the pairs in the last block

    @classmethod
    def start(
        cls, rows: int, num_words: int, dim: int, seed: int, device: str, widest: float = 0.5
    ) -> "TorchState":
        """Inputs of at most widest / D (word2vec.c 0.5, fastText, gensim 1), outputs of zeros."""
        generator = torch.Generator().manual_seed(seed)
        inputs = (2 * torch.rand(rows, dim, generator=generator) - 1) * widest / dim
        return cls(inputs.to(device), torch.zeros(num_words, dim, device=device))

    def set_inputs(self, rows: np.ndarray, vectors: np.ndarray) -> None:
        """Set rows of the inputs to vectors."""
        device = self.inputs.device
        self.inputs[torch.from_numpy(rows).to(device)] = torch.from_numpy(vectors).to(device)


@dataclass
class RowUpdate:
    """Gradients of rows, and the curvature of the loss along each."""

    rows: Tensor  # int64 (P)
    gradients: Tensor  # (P, D)
    curvatures: Tensor  # (P)


class RowTable:
    """The rows of each word, whose mean is its vector: its own row alone, or also its n-grams'."""

    def __init__(self, weights: Tensor, rows: np.ndarray | None, starts: np.ndarray | None) -> None:
        """Word w has rows[starts[w] : starts[w + 1]]; without `rows`, only row w."""
        self.weights = weights
        self.rows = self.starts = None
        if rows is not None and starts is not None:
            self.rows = torch.from_numpy(rows.astype(np.int64)).to(weights.device)
            self.starts = torch.from_numpy(starts.astype(np.int64)).to(weights.device)

    def expand_words(self, words: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the rows of these words, the index of each row's word, and the rows per word."""
        assert self.rows is not None
        assert self.starts is not None
        first = self.starts[words]
        sizes = self.starts[words + 1] - first
        owner = torch.repeat_interleave(sizes)
        before = torch.cumsum(sizes, 0) - sizes
        place = torch.arange(len(owner), device=owner.device) - before[owner] + first[owner]
        return self.rows[place], owner, sizes

    def vectors(self, words: Tensor) -> Tensor:
        """Return the vectors (P, D) of words (P)."""
        if self.rows is None:
            return self.weights[words]
        rows, owner, sizes = self.expand_words(words)
        sums = self.weights.new_zeros(len(words), self.weights.shape[1])
        return sums.index_add_(0, owner, self.weights[rows]) / sizes[:, None]

    def apply(self, update: RowUpdate, rate: float) -> None:
        """Take a step along the gradients; each row of a mean gets all of it, as in fastText."""
        rows, gradients, curvatures = sum_duplicates(
            update.rows, update.gradients, update.curvatures
        )
        if self.rows is not None:
            owned, owner, _ = self.expand_words(rows)
            rows, gradients, curvatures = sum_duplicates(owned, gradients[owner], curvatures[owner])
        gradients *= (rate / (1 + rate * curvatures))[:, None]
        self.weights.index_add_(0, rows, gradients)


def sum_duplicates(
    rows: Tensor, gradients: Tensor, curvatures: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Add up the gradients and curvatures of rows that occur more than once."""
    unique, place = torch.unique(rows, return_inverse=True)
    sums = gradients.new_zeros(len(unique), gradients.shape[1]).index_add_(0, place, gradients)
    return unique, sums, curvatures.new_zeros(len(unique)).index_add_(0, place, curvatures)


@dataclass
class GroupBatch:
    """B groups of positions that are trained together."""

    context: Tensor  # int64 (B, C): the context words; 0 where there is none
    centers: Tensor  # int64 (B, G): the words at the positions; 0 where there is none
    pairs: Tensor  # float (B, G, C): 1 where a context word is in the window of a position
    negatives: Tensor  # int64 (B, K)
    counts: Tensor  # float (B, K, G): the weight of a negative word at a position


def train_batches(
    ids: np.ndarray,
    counts: np.ndarray,
    config: ResolvedConfig,
    state: TorchState,
    on_progress: Callable[[TorchState], None],
    rows: np.ndarray | None = None,
    starts: np.ndarray | None = None,
) -> np.ndarray:
    """Train from `state` to the last epoch, and return the vectors (N, D).

    `ids` have SENTENCE_END after each sentence. `rows` and `starts` are for fastText (see
    RowTable).
    """
    if config.hs:
        raise DlkitError("--hs runs on the CPU only; give --device cpu, or remove --hs")
    table, outputs = RowTable(state.inputs, rows, starts), RowTable(state.outputs, None, None)
    device = state.inputs.device
    keep = torch.from_numpy(keep_probabilities(counts, config.sample).astype(np.float32)).to(device)
    cumulative = torch.from_numpy(np.cumsum(counts.astype(np.float64) ** NEGATIVE_POWER)).to(device)
    negative_cdf = cumulative / cumulative[-1]  # rare words of a large vocabulary need double
    is_cbow = config.method is EmbedMethod.cbow or (
        config.method is EmbedMethod.fasttext and config.fasttext_model == "cbow"
    )
    train_batch = cbow_step if is_cbow else skipgram_step
    while state.epoch < config.epochs:
        if state.done >= len(ids):
            state.epoch, state.done = state.epoch + 1, 0
            continue
        generator = torch.Generator(device).manual_seed(
            (config.seed << 40) + state.epoch * len(ids) + state.done
        )
        block = torch.from_numpy(np.array(ids[state.done : state.done + BLOCK])).to(device)
        batches = make_batches(block, keep, negative_cdf, config, generator)
        loss, pairs = torch.zeros((), device=device), torch.zeros((), device=device)
        for batch, share in batches:
            done = (state.done + share * len(block)) / len(ids)
            rate = learning_rate(config, state.epoch + done)
            step_loss, step_pairs = train_batch(batch, table, outputs, rate)
            loss += step_loss
            pairs += step_pairs
        state.done += len(block)
        state.loss = float(loss / pairs.clamp(min=1))
        on_progress(state)
    words = torch.arange(len(counts), device=device)
    return torch.cat([table.vectors(part) for part in torch.split(words, STEP)]).cpu().numpy()


def make_batches(
    ids: Tensor,
    keep: Tensor,
    negative_cdf: Tensor,
    config: ResolvedConfig,
    generator: torch.Generator,
) -> Iterator[tuple[GroupBatch, float]]:
    """Yield the batches of a block of ids, with the share of the block before each.

    `negative_cdf` (N) is the cumulative distribution of negative words.
    """
    device, window = ids.device, config.window
    ends = ids == SENTENCE_END
    drawn = torch.rand(len(ids), generator=generator, device=device)
    ids = ids[ends | (drawn < keep[ids.clamp(min=0)])].long()
    filled = -(-len(ids) // GROUP) * GROUP
    padded = F.pad(ids, (window, window + filled - len(ids)), value=SENTENCE_END)
    sentence = torch.cumsum(padded == SENTENCE_END, 0).unfold(0, GROUP + 2 * window, GROUP)
    words = padded.unfold(0, GROUP + 2 * window, GROUP)  # (groups, C)
    center = torch.arange(GROUP, device=device)[:, None] + window
    distance = (torch.arange(GROUP + 2 * window, device=device) - center).abs()  # (G, C)
    middle = slice(window, window + GROUP)
    for first in range(0, len(words), STEP // GROUP):
        context, within = words[first : first + STEP // GROUP], sentence[first:][: STEP // GROUP]
        size = (len(context), GROUP, 1)
        reach = torch.randint(1, window + 1, size, generator=generator, device=device)
        pairs = (distance <= reach) & (distance > 0) & (context >= 0)[:, None, :]
        pairs &= (context[:, middle, None] >= 0) & (within[:, middle, None] == within[:, None, :])
        shape, double = (len(context), NEGATIVES), torch.double
        chance = torch.rand(shape, generator=generator, device=device, dtype=double)
        negatives = torch.searchsorted(negative_cdf, chance).clamp(max=len(keep) - 1)
        context = context.clamp(min=0)
        centers = context[:, middle]
        others = negatives[:, :, None] != centers[:, None, :]
        share = config.negative / NEGATIVES
        yield (
            GroupBatch(context, centers, pairs.float(), negatives, others.float() * share),
            first / len(words),
        )


def skipgram_step(
    group: GroupBatch, inputs: RowTable, outputs: RowTable, rate: float
) -> tuple[Tensor, Tensor]:
    """Train each position on every context word; return the sum of losses and number of pairs."""
    context, middle, negative = gather_vectors(group, inputs, outputs)
    scores = middle @ context.mT  # (B, G, C)
    wrong = negative @ context.mT  # (B, K, C)
    times = group.counts @ group.pairs
    slope = torch.sigmoid(-scores) * group.pairs
    wrong_slope = -torch.sigmoid(wrong) * times
    curvature = slope * torch.sigmoid(scores)
    wrong_curvature = -wrong_slope * torch.sigmoid(-wrong)
    loss = -(F.logsigmoid(scores) * group.pairs).sum() - (F.logsigmoid(-wrong) * times).sum()

    by_input = squared_norms(context)
    by_output = (
        curvature.mT @ squared_norms(middle) + wrong_curvature.mT @ squared_norms(negative)
    )[..., 0]
    inputs.apply(
        flatten_update(group.context, slope.mT @ middle + wrong_slope.mT @ negative, by_output),
        rate,
    )
    update_outputs(
        group,
        outputs,
        (slope @ context, wrong_slope @ context),
        ((curvature @ by_input)[..., 0], (wrong_curvature @ by_input)[..., 0]),
        rate,
    )
    return loss, group.pairs.sum()


def cbow_step(
    group: GroupBatch, inputs: RowTable, outputs: RowTable, rate: float
) -> tuple[Tensor, Tensor]:
    """Train each position on the mean of its context; return the sum of losses and their number.

    Every context word gets the full gradient of the mean.
    """
    context, middle, negative = gather_vectors(group, inputs, outputs)
    size = group.pairs.sum(dim=2, keepdim=True)
    present = size.clamp(max=1)  # (B, G, 1)
    mean = (group.pairs / size.clamp(min=1)) @ context  # (B, G, D)
    scores = (mean * middle).sum(dim=2, keepdim=True)  # (B, G, 1)
    wrong = negative @ mean.mT  # (B, K, G)
    times = group.counts * present.mT
    slope = torch.sigmoid(-scores) * present
    wrong_slope = -torch.sigmoid(wrong) * times
    curvature = slope * torch.sigmoid(scores)
    wrong_curvature = -wrong_slope * torch.sigmoid(-wrong)
    loss = -(F.logsigmoid(scores) * present).sum() - (F.logsigmoid(-wrong) * times).sum()

    gradient = slope * middle + wrong_slope.mT @ negative
    by_output = curvature * squared_norms(middle) + wrong_curvature.mT @ squared_norms(negative)
    by_input = squared_norms(mean)
    inputs.apply(
        flatten_update(
            group.context, group.pairs.mT @ gradient, (group.pairs.mT @ by_output)[..., 0]
        ),
        rate,
    )
    update_outputs(
        group,
        outputs,
        (slope * mean, wrong_slope @ mean),
        ((curvature * by_input)[..., 0], (wrong_curvature @ by_input)[..., 0]),
        rate,
    )
    return loss, present.sum()


def gather_vectors(
    group: GroupBatch, inputs: RowTable, outputs: RowTable
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the vectors of context (B, C, D), center (B, G, D) and negative (B, K, D) words."""
    words, place = torch.unique(group.context, return_inverse=True)
    context = inputs.vectors(words)[place]
    return context, outputs.weights[group.centers], outputs.weights[group.negatives]


def squared_norms(vectors: Tensor) -> Tensor:
    return (vectors * vectors).sum(dim=-1, keepdim=True)


def flatten_update(words: Tensor, gradients: Tensor, curvatures: Tensor) -> RowUpdate:
    return RowUpdate(words.flatten(), gradients.flatten(0, 1), curvatures.flatten())


def update_outputs(
    group: GroupBatch,
    outputs: RowTable,
    gradients: tuple[Tensor, Tensor],
    curvatures: tuple[Tensor, Tensor],
    rate: float,
) -> None:
    """Take one step for the center words and the negative words together."""
    middle = flatten_update(group.centers, gradients[0], curvatures[0])
    negative = flatten_update(group.negatives, gradients[1], curvatures[1])
    outputs.apply(
        RowUpdate(
            torch.cat([middle.rows, negative.rows]),
            torch.cat([middle.gradients, negative.gradients]),
            torch.cat([middle.curvatures, negative.curvatures]),
        ),
        rate,
    )
