"""Scores of a captioner on images with people's captions, and a sheet of its best and worst."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dlkit.caption.infer import Captions, Model, Search, caption, load
from dlkit.caption.layouts import Sample, read_split
from dlkit.caption.metrics import DEFINITIONS, caption_metrics, cider_d
from dlkit.caption.ptb_tokenize import words
from dlkit.core.environment import is_main_process
from dlkit.core.errors import DlkitError
from dlkit.core.io.scores import Score, rounded
from dlkit.core.progress import log
from dlkit.core.vision import images

SHOWN = 8  # images of the best, and of the worst
SIDE = 240  # pixels of an image on the sheet
SHEET = "best-and-worst.png"


@dataclass(frozen=True)
class Described:
    """An image, its references, and what the model says of it."""

    sample: Sample
    caption: str


def evaluate(
    model: Model, samples: Sequence[Sample], search: Search, workers: int = 2
) -> list[Described]:
    """What the model says of each image; those that cannot be read are named and left out."""
    found = caption([str(s.path) for s in samples], model, search, workers=workers)
    described = []
    for sample, result in zip(samples, found, strict=True):
        if isinstance(result, Captions):
            described.append(Described(sample, result.captions[0].caption))
        else:
            log(f"left out {result.path}: {result.error}")
    if not described:
        raise DlkitError("none of the images to evaluate on can be read")
    return described


def evaluate_checkpoint(
    data: Path,
    split: str,
    model: str,
    save: Path | None = None,
    workers: int = 2,
    device: str = "auto",
    precision: str = "auto",
) -> Iterator[Score]:
    """The scores of a model's captions on one split; a sheet of the best and worst in `save`."""
    loaded = load(model, device, precision)
    known = read_split(data, split, *loaded.dealt)
    known.skipped.report()
    described = evaluate(loaded, known.samples, Search(), workers)
    if save is not None and is_main_process():
        save_sheet(described, save / SHEET)
        log(f"saved {save / SHEET}")
    yield from scores(described, trained_on(data, loaded))


def trained_on(data: Path, model: Model) -> list[str] | None:
    """The captions of the data's training images; None where it has none."""
    try:
        return [
            text for s in read_split(data, "train", *model.dealt).samples for text in s.captions
        ]
    except DlkitError:
        return None


def scores(described: Sequence[Described], training: Sequence[str] | None) -> Iterator[Score]:
    """All metrics, and how rich and how new the captions are; `training` are those learned from."""
    captions = [found.caption for found in described]
    references = [found.sample.captions for found in described]
    yield Score("images", "all", len(described), "Images with a caption and references.")
    for name, value in caption_metrics(captions, references).items():
        yield Score(name, "all", rounded(value), DEFINITIONS[name])
    said = [tuple(words(text)) for text in captions]
    vocabulary = {word for text in said for word in text}
    of_people = {word for of_image in references for text in of_image for word in words(text)}
    yield Score("words_used", "all", len(vocabulary), "Different words in the captions.")
    yield Score(
        "words_used_share",
        "all",
        rounded(len(vocabulary) / max(len(of_people), 1)),
        f"words_used over the {len(of_people)} different words of the references.",
    )
    yield Score(
        "distinct",
        "all",
        rounded(len({*said}) / len(said)),
        "Different captions over all captions.",
    )
    if training is not None:
        learned = {tuple(words(text)) for text in training}
        new = sum(text not in learned for text in said)
        about = f"Share of captions that are none of the {len(training)} training captions."
        yield Score("new", "all", rounded(new / len(said)), about)


def save_sheet(described: Sequence[Described], path: Path) -> None:
    """The images with the best captions, by CIDEr-D, then those with the worst."""
    agreement = cider_d(
        [words(found.caption) for found in described],
        [[words(text) for text in found.sample.captions] for found in described],
    )
    ranked = np.argsort(-agreement, kind="stable").tolist()
    shown = ranked if len(ranked) <= 2 * SHOWN else ranked[:SHOWN] + ranked[-SHOWN:]
    pictures = [images.as_pillow(images.read(str(described[place].sample.path))) for place in shown]
    texts = [
        f"CIDEr-D {agreement[place]:.2f}\n{described[place].caption}\n"
        f"(people: {described[place].sample.captions[0]})"
        for place in shown
    ]
    images.save(images.grid(pictures, 4, SIDE, texts), path)
