"""Generation of text for many sources at once: beam search, and random sampling.

Shapes: B sources, K beams of each, B x K rows (the beams of a source are neighbors), S parts of a
source, T tokens generated, C candidates of a source, V tokens of the vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from dlkit.core.generation.options import Search
from dlkit.core.generation.sampling import Sampling, Uniforms
from dlkit.core.generation.tensor_sampling import choose
from dlkit.core.nn.decoder_state import DecoderState

BLOCK = 64  # tokens whose highest logit is found first
# Single beams, whose states are not copied at each step, are removed together: when one of this
# number has ended.
REMOVAL_SHARE = 8


class DecoderModel(Protocol):
    """A model that generates a text for a source, token by token, with its special ids."""

    pad: int
    bos: int
    eos: int
    unk: int

    def start(self, source: Tensor, lengths: Tensor, capacity: int) -> DecoderState:
        """The state after encoding the sources, for texts of at most `capacity` tokens."""

    def step(self, ids: Tensor, state: Any) -> tuple[Tensor, Tensor | None]:
        """Logits (B, V) in fp32 of the token after the newest ones ids (B), and any attention."""


@dataclass(frozen=True)
class GeneratedText:
    """A generated text: its tokens without <s> and </s>, and their natural log-probability.

    The log-probability includes that of </s>, if the model generated it: `finish` is then "end".
    """

    ids: list[int]
    logprob: float
    finish: Literal["end", "length"]

    @property
    def length(self) -> int:
        """The number of generated tokens, with </s>."""
        return len(self.ids) + (self.finish == "end")


def length_penalty(length: int, alpha: float) -> float:
    """The divisor of log-probabilities (Wu et al. 2016, equation 14); 1 for alpha 0."""
    return float(((5 + length) / 6) ** alpha)


@torch.inference_mode()
def beam_search(
    model: DecoderModel,
    source: Tensor,
    lengths: Tensor,
    limits: Tensor,
    beam: int,
    alpha: float,
    no_repeat: int = 0,
) -> list[list[GeneratedText]]:
    """Up to `beam` texts for each source, best first by logprob / length_penalty.

    source (B, S, ...), of ids or of features, is padded at its right, lengths (B); limits (B) are
    the most tokens to generate, </s> included. A search ends when `beam` texts have ended, or at
    its limit. It is empty where the model's numbers overflow. No text repeats an n-gram of
    `no_repeat` tokens (0: it may).
    """
    found: list[list[GeneratedText]] = [[] for _ in range(len(source))]
    state = model.start(source, lengths, int(limits.max()))
    banned = banned_tokens(model, source)
    # The numbers of the sources that are still in the batch.
    numbers = torch.arange(len(source), device=source.device)
    ended_before = torch.zeros_like(numbers)
    newest = torch.full_like(numbers, model.bos)
    totals = torch.zeros(len(source), 1, device=source.device)
    written = numbers.new_empty(len(source), 1, 0)
    for length in count(1):
        logits, _ = model.step(newest, state)
        # A beam ends with one token at most, so `beam` of twice as many candidates continue.
        values, parents, tokens = candidates(
            logits, totals, 2 * beam, banned, repeating(written, no_repeat, model.pad)
        )
        ends = tokens == model.eos
        last = limits <= length
        ended = (ends | last[:, None]) & values.isfinite()
        ended[:, beam:] = False
        row, rank = ended.nonzero(as_tuple=True)
        if len(row):
            texts = torch.cat([written[row, parents[row, rank]], tokens[row, rank, None]], dim=1)
            which, sums = numbers[row].tolist(), values[row, rank].tolist()
            for number, ids, logprob in zip(which, texts.tolist(), sums, strict=True):
                found[number].append(finish_text(ids, logprob, model.eos))
        ended_before += ended.sum(1)
        done = last | (ended_before >= beam)
        going = (~done).nonzero()[:, 0]
        if not len(going):
            break
        if beam == 1 and len(going) * REMOVAL_SHARE > len(done) * (REMOVAL_SHARE - 1):
            values.masked_fill_(done[:, None], -torch.inf)
            going = torch.arange(len(done), device=source.device)
        # The beams that continue, in their order.
        places = ends.byte().argsort(dim=1, stable=True)[going, :beam]
        totals = values[going].gather(1, places)
        parents = parents[going].gather(1, places)
        newest = tokens[going].gather(1, places)
        written = torch.cat([written[going[:, None], parents], newest[..., None]], dim=2)
        rows = (going[:, None] * (len(logits) // len(done)) + parents).flatten()
        if len(rows) != len(logits) or not torch.equal(rows, torch.arange(len(rows)).to(rows)):
            state = state.select(rows)
        newest = newest.flatten()
        numbers, limits, ended_before = numbers[going], limits[going], ended_before[going]
    return [
        sorted(texts, key=lambda text: -text.logprob / length_penalty(text.length, alpha))[:beam]
        for texts in found
    ]


def candidates(
    logits: Tensor, totals: Tensor, number: int, banned: Tensor, repeats: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """The most probable continuations of each source, best first.

    From logits (B x K, V) and the log-probabilities of the beams so far (B, K): the candidates'
    log-probabilities, beams and tokens (B, C), of which those beyond the possible ones have -inf.
    No beam continues with one of the tokens `banned`, or with its own `repeats` (B x K, N).
    """
    batch, beams = totals.shape
    size = logits.shape[1]
    logprobs = logits.log_softmax(-1).index_fill_(1, banned, -torch.inf)
    if repeats is not None:
        logprobs.scatter_(1, repeats, -torch.inf)
    # Sorting all logits takes longer than computing them: the highest of each block is found
    # fast, and the best tokens are in the best blocks.
    whole = size // BLOCK * BLOCK
    highest = [logprobs[:, :whole].unflatten(1, (-1, BLOCK)).amax(-1)]
    if whole < size:
        highest.append(logprobs[:, whole:].amax(-1, keepdim=True))
    of_blocks = torch.cat(highest, dim=1).view(batch, beams, -1) + totals[..., None]
    blocks = of_blocks.shape[-1]
    best = of_blocks.flatten(1).topk(min(number, beams * blocks)).indices
    beam = best // blocks
    token = (best % blocks * BLOCK)[..., None] + torch.arange(BLOCK, device=best.device)
    row = beam + beams * torch.arange(batch, device=best.device)[:, None]
    inside = logprobs.flatten()[row[..., None] * size + token.clamp(max=size - 1)]
    inside = (inside + totals.gather(1, beam)[..., None]).masked_fill_(token >= size, -torch.inf)
    found = inside.flatten(1)
    if found.shape[1] < number:  # a tiny vocabulary
        found = F.pad(found, (0, number - found.shape[1]), value=-torch.inf)
        best = F.pad(best, (0, number - best.shape[1]))
    values, places = found.topk(number)
    block = best.gather(1, places // BLOCK)
    tokens = block % blocks * BLOCK + places % BLOCK
    return values, block // blocks, tokens.clamp(max=size - 1)  # where there is none


def repeating(written: Tensor, number: int, pad: int) -> Tensor | None:
    """The tokens (B x K, N) that would repeat an n-gram of `number` tokens of written (B, K, T).

    None where nothing can repeat; `pad` is the value for tokens that do not.
    """
    if not number or written.shape[2] < number:
        return None
    if number == 1:
        return written.flatten(0, 1)
    before = written.unfold(2, number - 1, 1)  # all runs of one token less: (B, K, N + 1, number-1)
    same = (before[:, :, :-1] == before[:, :, -1:]).all(-1)
    return written[:, :, number - 1 :].masked_fill(~same, pad).flatten(0, 1)


@torch.inference_mode()
def draw(
    model: DecoderModel,
    source: Tensor,
    lengths: Tensor,
    limits: Sequence[int],
    sampling: Sampling,
    uniforms: Sequence[Uniforms],
) -> list[GeneratedText]:
    """A text for each source, sampled from the model's distribution; see `beam_search`."""
    ids: list[list[int]] = [[] for _ in range(len(source))]
    sums = [0.0] * len(source)
    state = model.start(source, lengths, max(limits))
    banned = banned_tokens(model, source)
    newest = torch.full_like(lengths, model.bos)
    places = list(range(len(source)))
    while True:
        logits, _ = model.step(newest, state)
        totals = logits.logsumexp(-1)
        logits.index_fill_(1, banned, -torch.inf)
        drawn = torch.tensor([uniforms[place].next() for place in places], dtype=torch.float64)
        newest = choose(logits, sampling, drawn.to(logits.device))
        logprobs = (logits.gather(1, newest[:, None])[:, 0] - totals).tolist()
        going = []
        for row, token in enumerate(newest.tolist()):
            place = places[row]
            ids[place].append(token)
            sums[place] += logprobs[row]
            if token != model.eos and len(ids[place]) < limits[place]:
                going.append(row)
        if not going:
            break
        if len(going) < len(places):
            places = [places[row] for row in going]
            rows = torch.tensor(going, device=source.device)
            state, newest = state.select(rows), newest[rows]
    return [finish_text(*text, model.eos) for text in zip(ids, sums, strict=True)]


def generate_texts(
    model: DecoderModel,
    source: Tensor,
    lengths: Tensor,
    limits: Sequence[int],
    search: Search,
    uniforms: Sequence[Sequence[Uniforms]],
    no_repeat: int = 0,
) -> list[list[GeneratedText]]:
    """Up to `search.count` texts for each source, by `beam_search`, best first, or by `draw`.

    `uniforms` are needed for samples only, one for each text of each source.
    """
    count = search.count
    if search.sampling is None:
        most = torch.tensor(limits, device=source.device)
        found = beam_search(model, source, lengths, most, search.beam, search.alpha, no_repeat)
        return [texts[:count] for texts in found]
    drawn = draw(
        model,
        source.repeat_interleave(count, dim=0),
        lengths.repeat_interleave(count),
        [limit for limit in limits for _ in range(count)],
        search.sampling,
        [uniform for of_source in uniforms for uniform in of_source],
    )
    return [drawn[i : i + count] for i in range(0, len(drawn), count)]


def banned_tokens(model: DecoderModel, like: Tensor) -> Tensor:
    """The ids of tokens that are never generated."""
    return torch.tensor([model.pad, model.bos, model.unk], device=like.device)


def finish_text(ids: list[int], logprob: float, eos: int) -> GeneratedText:
    """The text of the generated ids, without </s>."""
    if ids[-1] == eos:
        return GeneratedText(ids[:-1], logprob, "end")
    return GeneratedText(ids, logprob, "length")
