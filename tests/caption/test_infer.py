"""Decoding: greedy and beam search, sampling, batches."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dlkit.caption import infer
from dlkit.caption.config import CaptionSearch
from dlkit.caption.infer import ImageCaptions, Predictor, caption, decode, load
from dlkit.core.config import Precision
from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.core.generation.sampling import Sampling
from dlkit.core.store import checkpoint
from dlkit.tokenize import DecoderVocabulary
from tests.caption.helpers import LEARNERS, pixels, untrained_model


def greedy(model: Predictor, memory: Tensor, longest: int) -> list[int]:
    """The most probable next token again and again, by teacher forcing from the start each time."""
    network = model.network
    ids = [network.bos]
    for _ in range(longest):
        logits = network(memory, torch.tensor([ids])).logits[0, -1]
        logits[[network.pad, network.bos, network.unk]] = -torch.inf
        ids.append(int(logits.argmax()))
        if ids[-1] == network.eos:
            return ids[1:-1]
    return ids[1:]


@pytest.mark.slow
@pytest.mark.parametrize("arch", LEARNERS)
def test_a_beam_of_one_is_greedy(arch: str, learned: Callable[[str], Path]) -> None:
    """Of pictures that lie over each other, which nobody learned it."""
    model = load(learned(arch), "cpu", "fp32")
    mixed = (pixels().float() + pixels().float().roll(1, dims=0)) / 2
    memory = model.encode(mixed.to(torch.uint8))
    found = decode(memory, range(10), model, CaptionSearch(beam=1, max_length=9))
    expected = [greedy(model, memory[n : n + 1], 9) for n in range(10)]
    assert [texts[0].ids for texts in found] == expected
    assert len({tuple(ids) for ids in expected}) > 1


@pytest.mark.slow
@pytest.mark.parametrize("arch", LEARNERS)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_batch_gets_the_captions_of_single_images(
    arch: str, precision: Precision, shapes: Path, learned: Callable[[str], Path]
) -> None:
    """All beams and their scores; with the weights as they are shipped, in either precision."""
    model = load(learned(arch), "cpu", precision)
    paths = sorted(map(str, shapes.glob("Images/*.png")))
    search = CaptionSearch(beam=4, count=4, max_length=9)
    together = list(caption(paths, model, search, batch_size=10, workers=0))
    alone = [found for path in paths for found in caption([path], model, search, workers=0)]
    for one, other in zip(together, alone, strict=True):
        assert isinstance(one, ImageCaptions)
        assert isinstance(other, ImageCaptions)
        assert [s.caption for s in one.captions] == [s.caption for s in other.captions]
        scores = [[s.score for s in found.captions] for found in (one, other)]
        assert scores[0] == pytest.approx(scores[1], abs=1e-3 if precision == "fp32" else 0.05)


def test_the_captions_of_an_image_are_ranked_and_different() -> None:
    model = untrained_model("attend")
    for texts in decode(model.encode(pixels()), range(10), model, CaptionSearch(beam=5, count=3)):
        assert len({tuple(text.ids) for text in texts}) == 3
        scores = [infer.score_text(text, model, CaptionSearch()).score for text in texts]
        assert scores == sorted(scores, reverse=True)


def test_samples_depend_on_the_seed_and_the_images_number(shapes: Path) -> None:
    model = untrained_model("nic")
    paths = sorted(map(str, shapes.glob("Images/*.png")))
    search = CaptionSearch(count=2, sampling=Sampling(), seed=3, max_length=8)

    def said(numbers: list[int], search: CaptionSearch) -> list[list[str]]:
        chosen = [paths[number] for number in numbers]
        found = infer.caption_numbered(chosen, numbers, model, search, batch_size=3, workers=0)
        return [
            [s.caption for s in of.captions] for of, _ in found if isinstance(of, ImageCaptions)
        ]

    everything = said([*range(10)], search)
    assert said([1, 4, 7], search) == [everything[number] for number in (1, 4, 7)]
    assert said([*range(10)], replace(search, seed=4)) != everything
    assert all(first != second for first, second in everything)
    cold = said([*range(10)], replace(search, sampling=Sampling(temperature=1e-4)))
    best = said([*range(10)], CaptionSearch(beam=1, no_repeat=0, max_length=8))
    assert cold == [2 * texts for texts in best]


def test_more_captions_than_beams_are_refused() -> None:
    with pytest.raises(DlkitError, match="--captions 4: more than --beam 3"):
        CaptionSearch(beam=3, count=4)


def test_numbers_that_overflow_are_a_failure(shapes: Path) -> None:
    model = untrained_model("nic")
    model.network.get_parameter("embedding.weight").fill_(float("nan"))
    (found,) = caption([str(shapes / "Images" / "0.png")], model, workers=0)
    assert isinstance(found, Failure)
    assert "fp32" in found.error


def test_models_that_cannot_be_used_are_refused_in_a_line(
    tmp_path: Path, learned: Callable[[str], Path]
) -> None:
    header, weights = checkpoint.load(learned("nic"))

    def refusal(settings: Mapping[str, Any], arch: str = "nic") -> str:
        path = tmp_path / "bad.safetensors"
        checkpoint.save(path, weights, replace(header, settings=settings, arch=arch))
        with pytest.raises(DlkitError) as caught:
            load(path, "cpu")
        return str(caught.value)

    assert "tokenizer" in refusal({"network": header.settings["network"]})
    assert "unknown architecture 'lstm'" in refusal(header.settings, "lstm")
    wider = {**header.settings["network"], "width": 48}
    assert "its weights do not fit the architecture" in refusal(
        {**header.settings, "network": wider}
    )
    fewer = DecoderVocabulary.learn(["a b a b"], "words", 10).to_settings()
    assert "they belong to different models" in refusal({**header.settings, "tokenizer": fewer})
