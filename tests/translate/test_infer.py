"""Decoding: segments, batches, dialogues, scores."""

import math
from typing import Any

import pytest
import torch

from dlkit.core.generation.beam_search import length_penalty
from dlkit.core.generation.sampling import Sampling
from dlkit.core.store.checkpoint import Header
from dlkit.translate import infer
from dlkit.translate.config import TranslationSearch
from dlkit.translate.infer import LineFailure, Predictor, Translation, translate
from dlkit.translate.vocabulary import TranslationVocabulary
from tests.translate.helpers import LINES, random_network, translations_of


@pytest.mark.parametrize(
    "search",
    [
        TranslationSearch(beam=1, max_length=12),
        TranslationSearch(beam=3, count=2, max_length=12),
        TranslationSearch(sampling=Sampling(temperature=0.8), count=2, seed=1, max_length=12),
    ],
    ids=["greedy", "beam", "drawn"],
)
def test_lines_together_are_translated_as_lines_by_themselves(
    model: Predictor, search: TranslationSearch
) -> None:
    together = list(translate([LINES], model, search))
    one_by_one = list(translate([[line] for line in LINES], model, search))
    assert translations_of(together) == translations_of(one_by_one)
    for one, other in zip(together, one_by_one, strict=True):
        assert isinstance(one, Translation)
        assert isinstance(other, Translation)
        assert [h.translation for h in one.hypotheses] == [h.translation for h in other.hypotheses]
        scores = [h.logprob for h in other.hypotheses]
        assert [h.logprob for h in one.hypotheses] == pytest.approx(scores, abs=1e-3)
    assert [result.line for result in together if isinstance(result, Translation)] == [*range(1, 9)]
    assert len(set(translations_of(together))) > 4


def test_batches_hold_each_part_once_and_similar_lengths() -> None:
    parts = [infer.Segment("", [4] * length) for length in (9, 300, 2, 700, 2, 50)] * 40
    made = list(infer.batch_segments(parts, 5))
    assert sum(map(len, made)) == len(parts)
    assert [len(p.ids) for batch in made for p in batch] == sorted(len(p.ids) for p in parts)
    for batch in made:
        longest = max(len(part.ids) for part in batch)
        assert (
            len(batch) == 1
            or 5 * len(batch) * (2 * longest + infer.EXTRA_LENGTH) <= infer.MAX_POSITIONS
        )
        assert 5 * len(batch) <= infer.MAX_ROWS


def test_numbers_that_overflow_are_an_error_of_their_line(
    vocabulary: TranslationVocabulary,
) -> None:
    made = random_network(vocabulary)
    broken = Predictor("broken", Header("translate", "transformer", {}, []), vocabulary, made)
    made.get_parameter("encoder.0.norm.weight").data.fill_(torch.nan)
    (found,) = translate([["A dog runs."]], broken, TranslationSearch(beam=2, max_length=5))
    assert found == LineFailure("line 1", "the model's numbers overflow; try --precision fp32")


def test_a_long_line_is_the_translations_of_its_sentences(model: Predictor) -> None:
    short = Predictor(model.name, Header("translate", "", {"longest": 16}, []), model.vocabulary,
                  model.network)  # fmt: skip
    search = TranslationSearch(beam=2, max_length=8, alignment=True)
    sentences = ["A dog runs.", "Two men walk.", "The girl eats."]
    (whole,) = translate([[" ".join(sentences)]], short, search)
    each = list(translate([sentences], short, search))
    assert isinstance(whole, Translation)
    assert whole.translation == " ".join(filter(None, translations_of(each)))
    logprobs = [result.hypotheses[0].logprob for result in each if isinstance(result, Translation)]
    assert whole.hypotheses[0].logprob == pytest.approx(math.fsum(logprobs), abs=1e-3)


def test_the_score_is_the_log_probability_over_the_length_penalty(model: Predictor) -> None:
    (found,) = translate(
        [["A dog runs."]], model, TranslationSearch(beam=3, alpha=1.0, max_length=30)
    )
    assert isinstance(found, Translation)
    best = found.hypotheses[0]
    (again,) = translate(
        [["A dog runs."]], model, TranslationSearch(beam=3, alpha=0.0, max_length=30)
    )
    assert isinstance(again, Translation)
    assert again.hypotheses[0].score == again.hypotheses[0].logprob
    count = {
        length: round(best.logprob / length_penalty(length, 1.0), 4) for length in range(1, 31)
    }
    assert best.score in count.values()


def test_a_dialogue_is_read_with_the_turns_before(
    model: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []
    encode = TranslationVocabulary.encode_sources

    def watching(self: TranslationVocabulary, sources: Any, workers: int = 1) -> Any:
        seen.extend([*turns] for turns in sources)
        return encode(self, sources, workers)

    monkeypatch.setattr(TranslationVocabulary, "encode_sources", watching)
    answers = translations_of(
        translate([["hi", "yes", "", "so"]], model, TranslationSearch(max_length=6), context=2)
    )
    assert len(answers) == 4
    assert answers[2] == ""
    assert ["hi", answers[0], "yes"] in seen
    assert seen[-1] == ["so"]  # the empty line ended the dialogue
    alone = translations_of(translate([["yes"]], model, TranslationSearch(max_length=6)))
    assert answers[1] != alone[0]


def test_turns_that_do_not_fit_go_first(model: Predictor) -> None:
    short = Predictor("short", Header("translate", "", {"longest": 12}, []), model.vocabulary,
                  model.network)  # fmt: skip
    turns = ["the street the street the street", "yes"]
    (part,) = infer.make_segments("a dog", 1, turns, short, TranslationSearch())  # type: ignore[misc]
    (expected,) = model.vocabulary.encode_sources([["yes", "a dog"]])
    assert part.ids == expected
