"""Growing texts: stop strings and beam search."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from dlkit.core.generation.sampling import Sampling
from dlkit.lm_generate.generate import GrowingText, Limits, beam_search
from dlkit.lm_generate.infer import GenerationConfig, StreamedText, generate
from dlkit.lm_generate.neural import NeuralLM
from tests.lm_generate.helpers import CODEC, generate_all, letter_codec, random_network, wrap


def test_texts_end_before_a_stop_string(gpt: NeuralLM) -> None:
    [whole] = generate_all(["To be"], gpt, max_tokens=30)
    for start, length in itertools.product(range(1, 25, 3), (1, 2, 5)):
        stop = whole.text[start : start + length]
        [cut] = generate_all(["To be"], gpt, max_tokens=30, stop=("never there", stop))
        assert cut.finish == "stop"
        assert cut.text == whole.text[: whole.text.index(stop)]
        pieces = next(
            iter(
                generate(
                    ["To be"], gpt, GenerationConfig(max_tokens=30, stop=("never there", stop))
                )
            )
        )
        assert isinstance(pieces, StreamedText)
        assert "".join(pieces) == cut.text  # nothing of it was shown


def test_the_beginning_of_a_stop_string_is_withheld() -> None:
    text = GrowingText(CODEC, "", [], Limits(5, ("be or",)), ())
    ids = CODEC.encode("tbe o")
    assert [text.add(i, 0.0) for i in ids] == ["t", "", "", "", "be o"]
    assert (text.text, text.finish) == ("tbe o", "length")


def test_a_wide_beam_finds_the_most_probable_text() -> None:
    codec = letter_codec("abc")
    model = wrap(random_network(vocab_size=codec.size, sharp=2), codec)
    prompt = codec.encode("ab")
    scores = {}
    for ids in itertools.product(range(1, codec.size), repeat=4):
        with torch.no_grad():
            logprobs = model.network(torch.tensor([[*prompt, *ids]]))[0].log_softmax(-1)
        places = range(len(prompt) - 1, len(prompt) + 3)
        scores[ids] = sum(float(logprobs[p, i]) for p, i in zip(places, ids, strict=True))
    best = sorted(scores, key=lambda ids: -scores[ids])[:5]
    found = generate_all(["ab"], model, beam=256, samples=5, max_tokens=4)
    assert [tuple(t.id for t in r.tokens) for r in found] == best
    assert found[0].logprob == pytest.approx(scores[best[0]], abs=1e-3)


def test_a_beam_of_one_is_greedy(gpt: NeuralLM) -> None:
    [greedy] = generate_all(["To be"], gpt, sampling=Sampling(greedy=True), max_tokens=40)
    [beam] = generate_all(["To be"], gpt, beam=1, max_tokens=40)
    assert beam.text == greedy.text
    assert len(beam.tokens) == 40  # longer than the context


def test_beams_that_end_are_compared_by_their_mean() -> None:
    """A: 0.5 then end (0.9); B: 0.5 then 0.1 for ever. The ended text is better."""

    class Scripted:
        truncated = False

        def __init__(self) -> None:
            self.rows = [[]]  # type: list[list[int]]

        def best(self, count: int) -> tuple[list[list[int]], list[list[float]]]:
            tokens, scores = [], []
            for ids in self.rows:
                p = {1: 0.5, 2: 0.5} if not ids else {3: 0.9, 1: 0.1} if ids[-1] == 1 else {2: 0.4}
                tokens.append(list(p))
                scores.append([float(np.log(value)) for value in p.values()])
            return tokens, scores

        def append(self, tokens: Sequence[int]) -> None:
            for ids, token in zip(self.rows, tokens, strict=True):
                ids.append(token)

        def select(self, rows: Sequence[int]) -> None:
            self.rows = [list(self.rows[row]) for row in rows]

        def choose(self, *_: Any) -> Any:
            raise NotImplementedError

    codec = letter_codec("abc")
    found = beam_search(Scripted(), GrowingText(codec, "", [], Limits(5), {3}), 2)
    assert found[0].ids == [1, 3]
    assert found[0].finish == "end"
    assert found[0].logprobs == pytest.approx([np.log(0.5), np.log(0.9)])
