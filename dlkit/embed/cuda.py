"""Skip-gram, CBOW and fastText with negative sampling in large batches, for CUDA devices.

Everything that is drawn (subsampling, widths of windows, negative words) is drawn on the device. A
step takes thousands of consecutive positions in groups: the words around a group's positions are
gathered once, their scores with the group's words are one small matrix product, masked to the
windows, and the group shares its negative words, each counting for a share of `negative`.

A batch adds up hundreds of gradients of a frequent word, all computed from the same vectors: as one
step of SGD that diverges. What a row changes by is therefore divided by 1 + rate * h, with h the
sum of s (1 - s) |other|^2 over the row's scores s, which bounds the curvature that it sees (the
trace of its Hessian): as an implicit step would, it goes no further than to the minimum, and rows
that are rare in a batch make the plain step.

Shapes: B groups of G positions, C = G + 2 * window words around a group, K negative words, D
dimensions, N words, R rows.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from dlkit.core.errors import DlkitError
from dlkit.embed.config import EmbedTrainConfig, Method

GROUP = 32  # positions that share their negative words
SHARED = 64  # negative words of a group
STEP = 8192  # positions of a step
BLOCK = 1 << 24  # ids that are moved to the device at a time
NEGATIVE_POWER = 0.75  # of the words' frequencies
LEAST_RATE = 1e-4  # of the learning rate, in the end
SENTENCE_END = -1


@dataclass
class TorchState:
    """All that training changes: what resuming needs, from one block of ids to the next."""

    inputs: Tensor  # float32 (R, D)
    outputs: Tensor  # float32 (N, D)
    epoch: int = 0
    done: int = 0  # ids of this epoch
    loss: float = 0.0  # the mean of a pair, of the last block

    @classmethod
    def start(
        cls, rows: int, num_words: int, dim: int, seed: int, device: str, widest: float = 0.5
    ) -> "TorchState":
        """Inputs of at most widest / D (word2vec.c 0.5, fastText, gensim 1), outputs of zeros."""
        generator = torch.Generator().manual_seed(seed)
        inputs = (2 * torch.rand(rows, dim, generator=generator) - 1) * widest / dim
        return cls(inputs.to(device), torch.zeros(num_words, dim, device=device))


@dataclass
class Change:
    """What rows are to change by, and the curvature they see."""

    rows: Tensor  # int64 (P)
    gradients: Tensor  # (P, D)
    curvatures: Tensor  # (P)


class Table:
    """The rows of each word, whose mean is its vector: its own alone, or with n-grams' too."""

    def __init__(self, weights: Tensor, rows: np.ndarray | None, starts: np.ndarray | None) -> None:
        """Word w has rows[starts[w] : starts[w + 1]]; without `rows`, its own."""
        self.weights = weights
        self.rows = self.starts = None
        if rows is not None and starts is not None:
            self.rows = torch.from_numpy(rows.astype(np.int64)).to(weights.device)
            self.starts = torch.from_numpy(starts.astype(np.int64)).to(weights.device)

    def owned(self, words: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The rows of these words (P), whose each is (P), and how many each word has."""
        assert self.rows is not None
        assert self.starts is not None
        first = self.starts[words]
        sizes = self.starts[words + 1] - first
        owner = torch.repeat_interleave(sizes)
        before = torch.cumsum(sizes, 0) - sizes
        place = torch.arange(len(owner), device=owner.device) - before[owner] + first[owner]
        return self.rows[place], owner, sizes

    def vectors(self, words: Tensor) -> Tensor:
        """The vectors (P, D) of words (P)."""
        if self.rows is None:
            return self.weights[words]
        rows, owner, sizes = self.owned(words)
        sums = self.weights.new_zeros(len(words), self.weights.shape[1])
        return sums.index_add_(0, owner, self.weights[rows]) / sizes[:, None]

    def change(self, change: Change, rate: float) -> None:
        """A step along the gradients; each row of a mean takes the whole, as in fastText."""
        rows, gradients, curvatures = added_up(change.rows, change.gradients, change.curvatures)
        if self.rows is not None:
            owned, owner, _ = self.owned(rows)
            rows, gradients, curvatures = added_up(owned, gradients[owner], curvatures[owner])
        gradients *= (rate / (1 + rate * curvatures))[:, None]
        self.weights.index_add_(0, rows, gradients)


def added_up(rows: Tensor, gradients: Tensor, curvatures: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same for different rows alone."""
    unique, place = torch.unique(rows, return_inverse=True)
    sums = gradients.new_zeros(len(unique), gradients.shape[1]).index_add_(0, place, gradients)
    return unique, sums, curvatures.new_zeros(len(unique)).index_add_(0, place, curvatures)


@dataclass
class Group:
    """Positions that are trained together, for each of B groups."""

    around: Tensor  # int64 (B, C): the words; 0 where there is none
    centers: Tensor  # int64 (B, G): the words in the middle, likewise
    pairs: Tensor  # float (B, G, C): 1 where a word is in the window of a position
    negatives: Tensor  # int64 (B, K)
    counts: Tensor  # float (B, K, G): what a negative word counts at a position


def train_batches(
    ids: np.ndarray,
    counts: np.ndarray,
    config: EmbedTrainConfig,
    state: TorchState,
    on_progress: Callable[[TorchState], None],
    rows: np.ndarray | None = None,
    starts: np.ndarray | None = None,
) -> np.ndarray:
    """Train from `state` on to the last epoch: the vectors (N, D).

    `ids` have SENTENCE_END after each sentence. `rows` and `starts` are fastText's (see Table).
    """
    if config.hs:
        raise DlkitError("--hs runs on the CPU: give --device cpu, or train without it")
    table, outputs = Table(state.inputs, rows, starts), Table(state.outputs, None, None)
    device = state.inputs.device
    keep = torch.from_numpy(kept(counts, config.sample)).to(device)
    chances = torch.from_numpy(np.cumsum(counts.astype(np.float64) ** NEGATIVE_POWER)).to(device)
    negatives_until = chances / chances[-1]  # rare words of a large vocabulary need double
    is_cbow = config.method is Method.cbow or (
        config.method is Method.fasttext and config.fasttext_model == "cbow"
    )
    train_group = cbow_step if is_cbow else skipgram_step
    while state.epoch < config.epochs:
        if state.done >= len(ids):
            state.epoch, state.done = state.epoch + 1, 0
            continue
        generator = torch.Generator(device).manual_seed(
            (config.seed << 40) + state.epoch * len(ids) + state.done
        )
        block = torch.from_numpy(np.array(ids[state.done : state.done + BLOCK])).to(device)
        drawn = groups(block, keep, negatives_until, config, generator)
        loss, pairs = torch.zeros((), device=device), torch.zeros((), device=device)
        for group, share in drawn:
            progress = (state.epoch + (state.done + share * len(block)) / len(ids)) / config.epochs
            rate = config.lr * max(1 - progress, LEAST_RATE)
            step_loss, step_pairs = train_group(group, table, outputs, rate)
            loss += step_loss
            pairs += step_pairs
        state.done += len(block)
        state.loss = float(loss / pairs.clamp(min=1))
        on_progress(state)
    words = torch.arange(len(counts), device=device)
    return torch.cat([table.vectors(part) for part in words.split(STEP)]).cpu().numpy()


def kept(counts: np.ndarray, sample: float) -> np.ndarray:
    """The share of each word's occurrences that is trained on, as in word2vec.c, float32 (N)."""
    if not sample:
        return np.ones(len(counts), np.float32)
    frequent = counts / (sample * counts.sum())
    return np.minimum((np.sqrt(frequent) + 1) / frequent, 1).astype(np.float32)


def groups(
    ids: Tensor,
    keep: Tensor,
    negatives_until: Tensor,
    config: EmbedTrainConfig,
    generator: torch.Generator,
) -> Iterator[tuple[Group, float]]:
    """The batches of a block of ids, with the share of the block that lies before each.

    `negatives_until` (N) is the cumulative distribution of negative words.
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
        around, within = words[first : first + STEP // GROUP], sentence[first:][: STEP // GROUP]
        size = (len(around), GROUP, 1)
        reach = torch.randint(1, window + 1, size, generator=generator, device=device)
        pairs = (distance <= reach) & (distance > 0) & (around >= 0)[:, None, :]
        pairs &= (around[:, middle, None] >= 0) & (within[:, middle, None] == within[:, None, :])
        shape, double = (len(around), SHARED), torch.double
        chance = torch.rand(shape, generator=generator, device=device, dtype=double)
        negatives = torch.searchsorted(negatives_until, chance).clamp(max=len(keep) - 1)
        around = around.clamp(min=0)
        centers = around[:, middle]
        others = negatives[:, :, None] != centers[:, None, :]
        share = config.negative / SHARED
        yield (
            Group(around, centers, pairs.float(), negatives, others.float() * share),
            first / len(words),
        )


def skipgram_step(
    group: Group, inputs: Table, outputs: Table, rate: float
) -> tuple[Tensor, Tensor]:
    """Every word in a window predicts the middle; the sum of losses, and of how many pairs."""
    around, middle, negative = vectors_of(group, inputs, outputs)
    scores = middle @ around.mT  # (B, G, C)
    wrong = negative @ around.mT  # (B, K, C)
    times = group.counts @ group.pairs
    slope = torch.sigmoid(-scores) * group.pairs
    wrong_slope = -torch.sigmoid(wrong) * times
    curvature = slope * torch.sigmoid(scores)
    wrong_curvature = -wrong_slope * torch.sigmoid(-wrong)
    loss = -(F.logsigmoid(scores) * group.pairs).sum() - (F.logsigmoid(-wrong) * times).sum()

    by_input = squares(around)
    by_output = (curvature.mT @ squares(middle) + wrong_curvature.mT @ squares(negative))[..., 0]
    inputs.change(
        flat(group.around, slope.mT @ middle + wrong_slope.mT @ negative, by_output), rate
    )
    change_outputs(
        group,
        outputs,
        (slope @ around, wrong_slope @ around),
        ((curvature @ by_input)[..., 0], (wrong_curvature @ by_input)[..., 0]),
        rate,
    )
    return loss, group.pairs.sum()


def cbow_step(group: Group, inputs: Table, outputs: Table, rate: float) -> tuple[Tensor, Tensor]:
    """The mean of a window predicts the middle; each of its words takes the whole change."""
    around, middle, negative = vectors_of(group, inputs, outputs)
    size = group.pairs.sum(dim=2, keepdim=True)
    present = size.clamp(max=1)  # (B, G, 1)
    mean = (group.pairs / size.clamp(min=1)) @ around  # (B, G, D)
    scores = (mean * middle).sum(dim=2, keepdim=True)  # (B, G, 1)
    wrong = negative @ mean.mT  # (B, K, G)
    times = group.counts * present.mT
    slope = torch.sigmoid(-scores) * present
    wrong_slope = -torch.sigmoid(wrong) * times
    curvature = slope * torch.sigmoid(scores)
    wrong_curvature = -wrong_slope * torch.sigmoid(-wrong)
    loss = -(F.logsigmoid(scores) * present).sum() - (F.logsigmoid(-wrong) * times).sum()

    gradient = slope * middle + wrong_slope.mT @ negative
    by_output = curvature * squares(middle) + wrong_curvature.mT @ squares(negative)
    by_input = squares(mean)
    inputs.change(
        flat(group.around, group.pairs.mT @ gradient, (group.pairs.mT @ by_output)[..., 0]), rate
    )
    change_outputs(
        group,
        outputs,
        (slope * mean, wrong_slope @ mean),
        ((curvature * by_input)[..., 0], (wrong_curvature @ by_input)[..., 0]),
        rate,
    )
    return loss, present.sum()


def vectors_of(group: Group, inputs: Table, outputs: Table) -> tuple[Tensor, Tensor, Tensor]:
    """Vectors of the words around (B, C, D), in the middle (B, G, D), and negative (B, K, D)."""
    words, place = torch.unique(group.around, return_inverse=True)
    around = inputs.vectors(words)[place]
    return around, outputs.weights[group.centers], outputs.weights[group.negatives]


def squares(vectors: Tensor) -> Tensor:
    return (vectors * vectors).sum(dim=-1, keepdim=True)


def flat(words: Tensor, gradients: Tensor, curvatures: Tensor) -> Change:
    return Change(words.flatten(), gradients.flatten(0, 1), curvatures.flatten())


def change_outputs(
    group: Group,
    outputs: Table,
    gradients: tuple[Tensor, Tensor],
    curvatures: tuple[Tensor, Tensor],
    rate: float,
) -> None:
    """One step for the words in the middle and the negative words together."""
    middle = flat(group.centers, gradients[0], curvatures[0])
    negative = flat(group.negatives, gradients[1], curvatures[1])
    outputs.change(
        Change(
            torch.cat([middle.rows, negative.rows]),
            torch.cat([middle.gradients, negative.gradients]),
            torch.cat([middle.curvatures, negative.curvatures]),
        ),
        rate,
    )
