"""Scores of a captioner on images with reference captions, and a sheet of its best and worst."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dlkit.caption.config import DEFAULT_MODEL, DEFAULT_SEARCH, CaptionSearch
from dlkit.caption.infer import ImageCaptions, Predictor, caption, load
from dlkit.caption.layouts import CaptionedImage, read_split
from dlkit.caption.metrics import DEFINITIONS, caption_metrics, cider_d
from dlkit.caption.ptb_tokenize import words
from dlkit.core.config import allowed_share
from dlkit.core.environment import is_main_process
from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.core.io.files import check_free_in, draw_beside, save_ledgers
from dlkit.core.io.scores import Score, rounded
from dlkit.core.ledger import Ledger
from dlkit.core.vision import images

SHOWN = 8  # images of the best, and of the worst
SIDE = 240  # pixels of an image on the sheet
SHEET = "best-and-worst.png"


@dataclass(frozen=True)
class EvaluatedCaption:
    """An image with its references, and the model's caption."""

    sample: CaptionedImage
    caption: str


def evaluate(
    predictor: Predictor,
    samples: Sequence[CaptionedImage],
    search: CaptionSearch,
    ledger: Ledger,
    workers: int = 2,
) -> list[EvaluatedCaption]:
    """The model's caption of each image; unreadable images are skipped, counted by the ledger."""
    found = caption([str(s.path) for s in samples], predictor, search, workers=workers)
    evaluated = []
    for sample, result in zip(samples, found, strict=True):
        if isinstance(result, ImageCaptions):
            evaluated.append(EvaluatedCaption(sample, result.captions[0].caption))
        else:
            ledger.drop("images", "unreadable image", f"{result.path} ({result.error})")
    if len(evaluated) < len(samples):
        ledger.report()
    if not evaluated:
        raise DlkitError("none of the images to evaluate on can be read")
    return evaluated


def evaluate_checkpoint(
    data: Sequence[str],
    split: str = "test",
    model: str = DEFAULT_MODEL,
    save: Path | None = None,
    workers: int = 2,
    device: str = "auto",
    precision: str = "auto",
    *,
    allow_skipped: float | None = None,
) -> Iterator[Score | Failure]:
    """The scores of a model's captions on one split; a sheet of the best and worst in `save`.

    `data` is one folder or file. Raises DlkitError where more than the share `allow_skipped` of the
    images or captions cannot be used.
    """
    (folder,) = map(Path, data)
    check_free_in(save, SHEET)
    predictor = load(model, device, precision)
    known = read_split(folder, split, predictor.draw)
    ledger, allowed = known.ledger, allowed_share(allow_skipped)
    ledger.use("images", len(known.samples))
    ledger.use("captions", sum(len(sample.captions) for sample in known.samples))
    ledger.report()
    ledger.check(allowed, folder)
    evaluated = evaluate(predictor, known.samples, DEFAULT_SEARCH, ledger, workers)
    ledger.check(allowed, folder)
    yield from scores(evaluated, training_captions(folder, predictor))
    if save is not None and is_main_process():
        save_ledgers(save, ledger)
        yield from draw_beside(save / SHEET, save_sheet, evaluated, save / SHEET)


def training_captions(data: Path, predictor: Predictor) -> list[str] | None:
    """The captions of the data's training images; None where it has none."""
    try:
        training = read_split(data, "train", predictor.draw, report=False)
    except DlkitError:
        return None
    return [text for sample in training.samples for text in sample.captions]


def scores(
    evaluated: Sequence[EvaluatedCaption], training: Sequence[str] | None
) -> Iterator[Score]:
    """All metrics, and the diversity and novelty of the captions.

    `training` are the captions that the model was trained on, if they are known.
    """
    captions = [found.caption for found in evaluated]
    references = [found.sample.captions for found in evaluated]
    yield Score("images", "all", len(evaluated), "Images with a caption and references.")
    for name, value in caption_metrics(captions, references).items():
        yield Score(name, "all", rounded(value), DEFINITIONS[name])
    tokens = [tuple(words(text)) for text in captions]
    vocabulary = {word for text in tokens for word in text}
    known = {word for texts in references for text in texts for word in words(text)}
    yield Score("words_used", "all", len(vocabulary), "Different words in the captions.")
    yield Score(
        "words_used_share",
        "all",
        rounded(len(vocabulary) / max(len(known), 1)),
        f"words_used over the {len(known)} different words of the references.",
    )
    yield Score(
        "distinct",
        "all",
        rounded(len({*tokens}) / len(tokens)),
        "Different captions over all captions.",
    )
    if training is not None:
        learned = {tuple(words(text)) for text in training}
        new = sum(text not in learned for text in tokens)
        about = f"Share of captions that are none of the {len(training)} training captions."
        yield Score("new", "all", rounded(new / len(tokens)), about)


def save_sheet(evaluated: Sequence[EvaluatedCaption], path: Path) -> None:
    """Save the images with the best captions, by CIDEr-D, then those with the worst."""
    agreement = cider_d(
        [words(found.caption) for found in evaluated],
        [[words(text) for text in found.sample.captions] for found in evaluated],
    )
    ranked = np.argsort(-agreement, kind="stable").tolist()
    shown = ranked if len(ranked) <= 2 * SHOWN else ranked[:SHOWN] + ranked[-SHOWN:]
    pictures = [images.as_pillow(images.read(str(evaluated[place].sample.path))) for place in shown]
    texts = [
        f"CIDEr-D {agreement[place]:.2f}\n{evaluated[place].caption}\n"
        f"(reference: {evaluated[place].sample.captions[0]})"
        for place in shown
    ]
    images.save(images.grid(pictures, 4, SIDE, texts), path)
