"""Beam search and drawing, against a search by hand and all texts there are."""

import itertools
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dlkit.core.generation.beam_search import (
    GeneratedText,
    beam_search,
    candidates,
    draw,
    length_penalty,
)
from dlkit.core.generation.sampling import Sampling, Uniforms
from dlkit.core.nn.decoder_state import DecoderState

PAD, BOS, EOS, UNK = 0, 1, 2, 3


class Memory(DecoderState):
    def __init__(self, tables: Tensor, newest: Tensor) -> None:
        self.tables, self.newest, self.steps = tables, newest, 0

    def select(self, rows: Tensor) -> "Memory":
        chosen = Memory(self.tables[rows], self.newest[rows])
        chosen.steps = self.steps
        return chosen


class Table(nn.Module):
    """The next token depends on the source, the last token and the step, by drawn logits."""

    def __init__(self, vocab_size: int = 7, seed: int = 0, sharp: float = 1.5) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.pad, self.bos, self.eos, self.unk = PAD, BOS, EOS, UNK
        generator = torch.Generator().manual_seed(seed)
        shape = (64, 12, vocab_size, vocab_size)  # sources, steps, last token, next token
        self.logits = nn.Parameter(sharp * torch.randn(shape, generator=generator))

    def start(self, source: Tensor, lengths: Tensor, capacity: int) -> Memory:
        numbers = torch.stack(
            [row[:n].sum() for row, n in zip(source.long(), lengths, strict=True)]
        )
        return Memory(numbers % 64, torch.zeros_like(lengths))

    def step(self, ids: Tensor, state: Any) -> tuple[Tensor, Tensor | None]:
        logits = self.logits[state.tables, state.steps % 12, ids]
        state.steps += 1
        return logits.clone(), None


def sources(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Right-padded sources of different lengths."""
    lengths = torch.randint(1, 6, (count,), generator=torch.Generator().manual_seed(seed))
    rows = torch.full((count, 5), PAD)
    for row, length in enumerate(lengths.tolist()):
        rows[row, :length] = torch.arange(4, 4 + length) + row
    return rows, lengths


def all_texts(network: Table, table: int, limit: int) -> Iterator[tuple[list[int], float, bool]]:
    """Every text that can be written: its ids, log-probability, and whether it ended itself."""
    logprobs = network.logits.detach()[table].log_softmax(-1)
    words = [i for i in range(network.vocab_size) if i not in {PAD, BOS, UNK, EOS}]

    def grown(ids: list[int], total: float) -> Iterator[tuple[list[int], float, bool]]:
        row = logprobs[len(ids), ids[-1] if ids else BOS]
        yield ids, total + float(row[EOS]), True
        for word in words:
            longer, sum_ = [*ids, word], total + float(row[word])
            if len(longer) == limit:
                yield longer, sum_, False
            else:
                yield from grown(longer, sum_)

    yield from grown([], 0.0)


def table_of(row: Tensor, length: Tensor) -> int:
    return int(row[:length].sum() % 64)


def test_length_penalty_is_wus_formula() -> None:
    assert length_penalty(1, 0.6) == 1.0
    assert length_penalty(7, 1.0) == 2.0
    assert length_penalty(19, 0.5) == 2.0
    assert length_penalty(50, 0) == 1.0


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.5])
def test_a_wide_beam_finds_what_an_exhaustive_search_finds(alpha: float) -> None:
    network, limit = Table(), 4
    rows, lengths = sources(5)
    limits = torch.full((5,), limit)
    found = beam_search(network, rows, lengths, limits, 200, alpha)
    for row, length, texts in zip(rows, lengths, found, strict=True):
        possible = [
            (total / length_penalty(len(ids) + ended, alpha), ids, total)
            for ids, total, ended in all_texts(network, table_of(row, length), limit)
        ]
        possible.sort(reverse=True)
        assert len(texts) == len(possible)
        assert [text.ids for text in texts[:20]] == [ids for _, ids, _ in possible[:20]]
        for text, (_, _, total) in zip(texts, possible, strict=True):
            assert text.logprob == pytest.approx(total, abs=1e-4)


def slow_beam_search(
    network: Table, table: int, limit: int, beam: int, alpha: float
) -> list[tuple[list[int], float]]:
    """Of one source, with lists."""
    logprobs = network.logits.detach().double()[table].log_softmax(-1)
    growing: list[tuple[float, list[int]]] = [(0.0, [])]
    ended: list[tuple[float, list[int], float]] = []
    for step in range(limit):
        options = [
            (total + float(logprobs[step, ids[-1] if ids else BOS, token]), [*ids, token])
            for total, ids in growing
            for token in range(network.vocab_size)
            if token not in {PAD, BOS, UNK}
        ]
        options.sort(reverse=True)
        for total, ids in options[:beam]:
            if ids[-1] == EOS or step == limit - 1:
                text = ids[:-1] if ids[-1] == EOS else ids
                ended.append((total / length_penalty(len(ids), alpha), text, total))
        if len(ended) >= beam:
            break
        growing = [option for option in options if option[1][-1] != EOS][:beam]
    return [(ids, total) for _, ids, total in sorted(ended, reverse=True)[:beam]]


@pytest.mark.slow
@pytest.mark.parametrize("beam", [1, 2, 3, 6])
def test_many_sources_at_once_are_searched_like_one_by_hand(beam: int) -> None:
    network = Table(vocab_size=70, seed=beam)  # more than one block of tokens, and a part of one
    rows, lengths = sources(40)
    limits = torch.randint(3, 9, (40,), generator=torch.Generator().manual_seed(1))
    found = beam_search(network, rows, lengths, limits, beam, 0.6)
    finishes = set()
    for row, length, limit, texts in zip(rows, lengths, limits.tolist(), found, strict=True):
        expected = slow_beam_search(network, table_of(row, length), limit, beam, 0.6)
        assert [text.ids for text in texts] == [ids for ids, _ in expected]
        assert [t.logprob for t in texts] == pytest.approx([s for _, s in expected], abs=1e-4)
        finishes |= {text.finish for text in texts}
    assert finishes == {"end", "length"}


def test_one_beam_is_greedy() -> None:
    network = Table(vocab_size=70, seed=5)
    rows, lengths = sources(30, seed=3)
    found = beam_search(network, rows, lengths, torch.full((30,), 10), 1, 0.6)
    for row, length, (text,) in zip(rows, lengths, found, strict=True):
        state = network.start(row[None], length[None], 10)
        ids: list[int] = []
        newest = torch.tensor([BOS])
        while len(ids) < 10:
            logits, _ = network.step(newest, state)
            logits[:, [PAD, BOS, UNK]] = -torch.inf
            newest = logits.argmax(-1)
            if int(newest) == EOS:
                break
            ids.append(int(newest))
        assert text.ids == ids


def test_candidates_are_the_best_of_all_beams() -> None:
    torch.manual_seed(0)
    for beams, size in itertools.product((1, 3), (5, 64, 130)):
        logits, totals = torch.randn(2 * beams, size), torch.randn(2, beams)
        expected = logits.log_softmax(-1).view(2, beams, size) + totals[..., None]
        expected[..., [PAD, BOS]] = -torch.inf
        values, parents, tokens = candidates(logits, totals, 4, torch.tensor([PAD, BOS]))
        best = expected.flatten(1).topk(4)
        assert torch.allclose(values, best.values)
        kept = values.isfinite()
        assert torch.equal((parents * size + tokens)[kept], best.indices[kept])
    few, _, _ = candidates(torch.zeros(1, 5), torch.zeros(1, 1), 200, torch.tensor([PAD]))
    assert few.isfinite().sum() == 4
    assert few.shape == (1, 200)


def test_numbers_that_overflow_find_nothing() -> None:
    network = Table()
    rows, lengths = sources(3)
    with torch.no_grad():
        network.logits[table_of(rows[1], lengths[1])] = torch.nan
    found = beam_search(network, rows, lengths, torch.full((3,), 4), 2, 0.6)
    assert [len(texts) for texts in found] == [2, 0, 2]


def test_drawn_texts_follow_the_distribution() -> None:
    network, limit, count = Table(sharp=1.0), 2, 4000
    rows, lengths = (tensor.repeat_interleave(count, 0) for tensor in sources(1))
    uniforms = [Uniforms(0, number, 0) for number in range(count)]
    found = draw(network, rows, lengths, [limit] * count, Sampling(), uniforms)
    possible = list(all_texts(network, table_of(rows[0], lengths[0]), limit))
    # Special tokens are never drawn: what is left of each step's probability is shared.
    for ids, total, ended in possible:
        share = sum(text.ids == ids and (text.finish == "end") == ended for text in found) / count
        steps = network.logits.detach()[table_of(rows[0], lengths[0])].softmax(-1)
        left = [
            float(1 - steps[step, before, [PAD, BOS, UNK]].sum())
            for step, before in enumerate([BOS, *ids][:limit])
        ]
        assert share == pytest.approx(math.exp(total) / math.prod(left), abs=0.03)
    by_text = {(tuple(ids), ended): total for ids, total, ended in possible}
    for text in found[:50]:
        expected = by_text[tuple(text.ids), text.finish == "end"]
        assert text.logprob == pytest.approx(expected, abs=1e-4)


def test_a_drawn_text_does_not_depend_on_the_others() -> None:
    network = Table(vocab_size=20)
    rows, lengths = sources(6)
    sampling = Sampling(temperature=0.7, top_k=10)

    def drawn(some: slice) -> list[GeneratedText]:
        numbers = range(6)[some]
        uniforms = [Uniforms(3, number, 0) for number in numbers]
        return draw(network, rows[some], lengths[some], [8] * len(numbers), sampling, uniforms)

    assert drawn(slice(6)) == [*drawn(slice(0, 2)), *drawn(slice(2, 6))]


def test_a_source_may_be_features() -> None:
    network = Table()
    rows, lengths = sources(5)
    features = torch.nn.functional.one_hot(torch.zeros_like(rows), 3) * rows[..., None].float()
    limits = torch.full((5,), 6)
    expected = beam_search(network, rows, lengths, limits, 3, 0.6)
    assert beam_search(network, features, lengths, limits, 3, 0.6) == expected
    sampling, uniforms = Sampling(), [[Uniforms(3, n, 0) for n in range(5)] for _ in range(2)]
    drawn = draw(network, rows, lengths, limits.tolist(), sampling, uniforms[0])
    assert draw(network, features, lengths, limits.tolist(), sampling, uniforms[1]) == drawn


@pytest.mark.parametrize("number", [1, 2, 3])
def test_no_run_of_tokens_is_written_twice(number: int) -> None:
    network = Table(vocab_size=7, seed=3, sharp=0.3)  # three words only: texts must repeat them
    network.logits.data[..., EOS] -= 4
    rows, lengths = sources(6)
    limits = torch.full((6,), 12)
    free = beam_search(network, rows, lengths, limits, 3, 0.6)
    once = beam_search(network, rows, lengths, limits, 3, 0.6, number)

    def repeats(text: GeneratedText) -> bool:
        runs = list(zip(*(text.ids[i:] for i in range(number)), strict=False))
        return len(set(runs)) < len(runs)

    assert any(repeats(text) for texts in free for text in texts)
    assert not any(repeats(text) for texts in once for text in texts if math.isfinite(text.logprob))
    for row, length, texts in zip(rows, lengths, once, strict=True):
        logprobs = network.logits.detach()[table_of(row, length)].log_softmax(-1)
        for text in texts:  # what is left is as probable as it was
            if math.isfinite(text.logprob):
                ids = [BOS, *text.ids, *([EOS] if text.finish == "end" else [])]
                sum_ = sum(
                    float(logprobs[step, a, b])
                    for step, (a, b) in enumerate(itertools.pairwise(ids))
                )
                assert math.isclose(sum_, text.logprob, abs_tol=1e-3)
