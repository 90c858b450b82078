"""Annotations that are probably wrong, ranked, by predictions of models that did not see them."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, TypeVar

import numpy as np

from dlkit.core.datasets.samples import Annotation, Box, Sample, Source
from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.core.io.colors import label_colors
from dlkit.core.io.files import note_saved, whole_file
from dlkit.core.io.text import reading_errors
from dlkit.core.ledger import Ledger
from dlkit.core.progress import log
from dlkit.core.store.checkpoint import read_header
from dlkit.core.store.weights import find
from dlkit.data import confident
from dlkit.data.check import split_place
from dlkit.data.convert import convert
from dlkit.data.layouts import Content
from dlkit.data.report import FILE, as_img, document, drawn

MAX_SHOWN = 200  # suspects with pictures in a report
BOX_EPOCHS = 30
CLASSIFIER = "caltech101"
LEAST_SCORE = 0.05  # of a predicted box
GIVEN, SUGGESTED = "given", "suggested"  # labels of the two boxes in a picture


@dataclass(frozen=True)
class Suspect:
    """An annotation that is probably wrong; `score` is higher for the more suspect of its kind.

    `suggested` is the label that the predictions have instead, `box` and `suggested_box` are
    x1, y1, x2, y2 in pixels of the upright image.
    """

    kind: str
    score: float
    split: str
    path: str
    line: int | None
    label: str
    suggested: str
    box: Box | None = None
    suggested_box: Box | None = None
    image: str = ""
    noun: ClassVar[str] = "suspect"
    columns: ClassVar[tuple[str, ...]] = ("kind", "score", "split", "place", "label", "suggested")

    def rows(self) -> list[dict[str, Any]]:
        place = self.path if self.line is None else f"{self.path}:{self.line}"
        row = {"kind": self.kind, "score": self.score, "split": self.split}
        return [{**row, "place": place, "label": self.label, "suggested": self.suggested}]


@dataclass(frozen=True)
class Settings:
    """The settings of the search. `model` is a classifier to start from, or a detector.

    `epochs` None: labels are predicted by a regression on the classifier's descriptors, and
    detectors are trained for BOX_EPOCHS.
    """

    model: str | None = None
    folds: int = 5
    seed: int = 0
    predictions: Path | None = None
    epochs: int | None = None
    workers: int = 2


def find_suspects(
    source: Source, splits: Sequence[str], settings: Settings
) -> tuple[list[Suspect], list[Ledger]]:
    """The suspects of a data set of labeled images, or of images with boxes, and its accounts.

    Raises DlkitError for another data set.
    """
    ledgers = [Ledger(split) for split in splits]
    samples = [
        (split, sample)
        for split, ledger in zip(splits, ledgers, strict=True)
        for sample in source.read(split, ledger)
    ]
    if any(sample.labels for _, sample in samples):
        return labels_of_images(samples, ledgers, settings, source.root), ledgers
    if any(a.box is not None for _, sample in samples for a in sample.annotations):
        if settings.predictions is not None:
            raise DlkitError("--predictions are of labeled images; these have boxes", source.root)
        return boxes_of_images(samples, ledgers, source.classes.names, settings), ledgers
    raise DlkitError("holds neither labels of images nor boxes, which are compared", source.root)


# ---- Labels --------------------------------------------------------------------------------------


def labels_of_images(
    samples: Sequence[tuple[str, Sample]], ledgers: Sequence[Ledger], settings: Settings, root: Path
) -> list[Suspect]:
    """The images whose label is probably wrong."""
    books = {ledger.name: ledger for ledger in ledgers}
    single = []
    for split, sample in samples:
        if len(sample.labels) == 1:
            single.append((split, sample))
        else:
            books[split].skip("images", "no label or several", sample.where)
    names = sorted({sample.labels[0] for _, sample in single})
    number = {name: k for k, name in enumerate(names)}
    if len(names) < 2:
        raise DlkitError(f"all images have the label {names[0]!r}; nothing to compare", root)
    labels = np.array([number[sample.labels[0]] for _, sample in single])
    if settings.predictions is not None:
        probabilities = read_probabilities(settings.predictions, len(single), len(names))
    else:
        counts = Counter(sample.labels[0] for _, sample in single)
        rare = [name for name in names if counts[name] < settings.folds]
        if rare:
            raise DlkitError(
                f"{counts[rare[0]]} images of {rare[0]!r}, fewer than --folds {settings.folds};"
                " give fewer folds",
                root,
            )
        predict = by_regression if settings.epochs is None else by_training
        found_probabilities = predict(single, labels, names, settings)
        read = [k for k, row in enumerate(found_probabilities) if not isinstance(row, Failure)]
        for (split, sample), row in zip(single, found_probabilities, strict=True):
            if isinstance(row, Failure):
                books[split].skip("images", row.error, str(sample.path))
        single, labels = [single[k] for k in read], labels[read]
        probabilities = np.stack(
            [row for row in found_probabilities if not isinstance(row, Failure)]
        )
    for split, _ in single:
        books[split].use("images")
    accuracy = float((probabilities.argmax(axis=1) == labels).mean())
    log(f"predictions agree with {accuracy:.1%} of the labels")
    found = []
    for row in confident.suspect_labels(labels, probabilities):
        split, sample = single[row]
        path, line = split_place(sample.where)
        label, suggested = names[labels[row]], names[int(probabilities[row].argmax())]
        score = round(1 - float(probabilities[row, labels[row]]), 4)
        found.append(
            Suspect("label", score, split, path, line, label, suggested, image=str(sample.path))
        )
    return found


Predicted = list[np.ndarray | Failure]  # probabilities (K,) of each image


def by_regression(
    samples: Sequence[tuple[str, Sample]],
    labels: np.ndarray,
    names: Sequence[str],
    settings: Settings,
) -> Predicted:
    """Probabilities by softmax regressions on a classifier's descriptors."""
    from dlkit.classify import features, infer

    classifier = infer.load(settings.model or CLASSIFIER)
    paths = [str(sample.path) for _, sample in samples]
    found = list(features.describe(paths, classifier, workers=settings.workers))
    read = [row for row, one in enumerate(found) if not isinstance(one, Failure)]
    descriptors = np.stack(
        [one.descriptor.numpy() for one in found if not isinstance(one, Failure)]
    )
    probabilities = confident.held_out_probabilities(
        descriptors, labels[read], len(names), settings.folds, settings.seed
    )
    rows = dict(zip(read, probabilities, strict=True))
    return [one if isinstance(one, Failure) else rows[row] for row, one in enumerate(found)]


def by_training(
    samples: Sequence[tuple[str, Sample]],
    labels: np.ndarray,
    names: Sequence[str],
    settings: Settings,
) -> Predicted:
    """Probabilities by classifiers that were trained on the other folds."""
    from dlkit.classify import Config, infer, train

    fold_of = confident.stratified_folds(labels, settings.folds, settings.seed)
    start = settings.model or CLASSIFIER
    header = read_header(find("classify", start), "classify")
    same: dict[str, Any] = {n: header.config[n] for n in ("width_multiplier", "image_size")}
    same["arch"] = header.arch

    def of_fold(data: Path, run: Path, paths: Sequence[str]) -> Predicted:
        config = Config(
            data=data / "data.csv", out=run, init_from=start, **same,
            epochs=settings.epochs or 1, seed=settings.seed, workers=settings.workers,
            allow_skipped=1.0,
        )  # fmt: skip
        classifier = infer.load(str(train(config).with_name("last.safetensors")))
        columns = [names.index(label) for label in classifier.labels]
        found: Predicted = []
        for _, outputs in infer.predict(classifier, paths, workers=settings.workers):
            if isinstance(outputs, Failure):
                found.append(outputs)
                continue
            row = np.zeros(len(names))
            row[columns] = classifier.probabilities(outputs[None])[0].double().numpy()
            found.append(row)
        return found

    return each_fold([sample for _, sample in samples], fold_of, names, "csv", settings, of_fold)


T = TypeVar("T")


def each_fold(
    samples: Sequence[Sample],
    fold_of: np.ndarray,
    classes: Sequence[str],
    layout: str,
    settings: Settings,
    of_fold: Callable[[Path, Path, Sequence[str]], list[T]],
) -> list[T]:
    """The results of all samples, each by a model that was trained on the other folds.

    `of_fold` gets a data set in that layout, whose split val is the fold, a folder for the run, and
    the paths of the fold.
    """
    found: dict[int, T] = {}
    with TemporaryDirectory(prefix="dlkit-suspects-") as folder:
        for fold in range(settings.folds):
            held = np.flatnonzero(fold_of == fold).tolist()
            rest = np.flatnonzero(fold_of != fold).tolist()
            log(f"fold {fold + 1} of {settings.folds}: training on {len(rest)} images")
            splits = {"train": [samples[k] for k in rest], "val": [samples[k] for k in held]}
            data, run = Path(folder) / f"data{fold}", Path(folder) / f"run{fold}"
            convert(Content(tuple(classes), splits), layout, data, copy=False, lossy=False)
            paths = [str(samples[k].path) for k in held]
            found.update(zip(held, of_fold(data, run, paths), strict=True))
    return [found[k] for k in range(len(samples))]


def read_probabilities(path: Path, samples: int, classes: int) -> np.ndarray:
    """Probabilities (N, K) in a .npy file, a row for each image and a column for each label."""
    with reading_errors(str(path)):
        try:
            found = np.load(path, allow_pickle=False)
        except ValueError as error:
            raise DlkitError("not a .npy file of numbers", path) from error
    if found.shape != (samples, classes) or found.dtype.kind != "f":
        raise DlkitError(
            f"numbers of shape {found.shape}, not {(samples, classes)}: a row for each image, in"
            " their order, and a column for each label, sorted",
            path,
        )
    if not (np.isfinite(found).all() and np.allclose(found.sum(axis=1), 1, atol=1e-3)):
        raise DlkitError("rows that are no probabilities: their sum is not 1", path)
    probabilities: np.ndarray = found.astype(float)
    return probabilities


# ---- Boxes ---------------------------------------------------------------------------------------


def boxes_of_images(
    samples: Sequence[tuple[str, Sample]],
    ledgers: Sequence[Ledger],
    classes: Sequence[str],
    settings: Settings,
) -> list[Suspect]:
    """The boxes that are probably wrong or missing, the kinds one after the other."""
    books = {ledger.name: ledger for ledger in ledgers}
    images = [sample for _, sample in samples]
    if settings.model is None:
        predictions = cross_validated(images, classes, settings)
    else:
        paths = [str(sample.path) for sample in images]
        predictions = predicted(paths, settings.model, settings.workers)
    found: list[Suspect] = []
    for (split, sample), result in zip(samples, predictions, strict=True):
        if isinstance(result, Failure):
            books[split].skip("images", result.error, str(sample.path))
            continue
        books[split].use("images")
        books[split].use("annotations", len(sample.annotations))
        found += suspects_of_image(split, sample, result)
    return sorted(found, key=lambda suspect: -suspect.score)


def suspects_of_image(split: str, sample: Sample, objects: Sequence[Any]) -> Iterator[Suspect]:
    """The suspects of an image by the objects that a detector finds in it."""
    given = [a for a in sample.annotations if a.box is not None and not a.crowd]
    boxes = np.array([a.box for a in given], float).reshape(-1, 4)
    found = np.array([(o.x1, o.y1, o.x2, o.y2) for o in objects], float).reshape(-1, 4)
    labels, found_labels = [a.label for a in given], [o.label for o in objects]
    scores = np.array([o.score for o in objects], float)
    for one in confident.suspect_boxes(boxes, labels, found, found_labels, scores):
        about = None if one.given is None else given[one.given]
        there = None if one.predicted is None else objects[one.predicted]
        path, line = (str(sample.path), None) if about is None else split_place(about.where)
        yield Suspect(
            one.kind,
            round(one.score, 4),
            split,
            path,
            line,
            "" if about is None else about.label,
            "" if there is None else there.label,
            None if about is None else about.box,
            None if there is None else (there.x1, there.y1, there.x2, there.y2),
            str(sample.path),
        )


def predicted(paths: Sequence[str], model: str, workers: int) -> list[Sequence[Any] | Failure]:
    """The objects that a detector finds in each image, or a Failure."""
    from dlkit.detect import detect

    results = detect(list(paths), model, threshold=LEAST_SCORE, workers=workers, errors="return")
    return [result if isinstance(result, Failure) else result.objects for result in results]


def cross_validated(
    samples: Sequence[Sample], classes: Sequence[str], settings: Settings
) -> list[Sequence[Any] | Failure]:
    """The objects of each image by a detector that was trained on the other folds."""
    from dlkit.detect import Config, train

    if len(samples) < 2 * settings.folds:
        raise DlkitError(f"{len(samples)} images are too few for --folds {settings.folds}")
    generator = np.random.default_rng(settings.seed)
    fold_of = generator.permutation(np.arange(len(samples)) % settings.folds)

    def of_fold(data: Path, run: Path, paths: Sequence[str]) -> list[Sequence[Any] | Failure]:
        config = Config(
            data=data, out=run, epochs=settings.epochs or BOX_EPOCHS, seed=settings.seed,
            workers=settings.workers, allow_skipped=1.0,
        )  # fmt: skip
        # `best` was chosen on the held-out images.
        last = train(config).with_name("last.safetensors")
        return predicted(paths, str(last), settings.workers)

    return each_fold(list(map(plain, samples)), fold_of, classes, "coco", settings, of_fold)


def plain(sample: Sample) -> Sample:
    """The sample with nothing but its boxes."""
    boxes = [a for a in sample.annotations if a.box is not None]
    kept = tuple(Annotation(a.label, a.where, a.box, crowd=a.crowd) for a in boxes)
    return replace(sample, annotations=kept, captions=(), mask=None, object_mask=None)


# ---- Report --------------------------------------------------------------------------------------


def save_suspects(suspects: Sequence[Suspect], root: Path, folder: Path) -> None:
    """Write `report.html` with the pictures of the first suspects into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / FILE
    name = escape(root.name or str(root))
    parts = [
        f"<h1>{name}: suspects</h1>",
        f"<p>{len(suspects):,} suspects in {escape(str(root))}</p>",
    ]
    for kind in dict.fromkeys(suspect.kind for suspect in suspects):
        own = [suspect for suspect in suspects if suspect.kind == kind]
        figures = "".join(map(figure, own[:MAX_SHOWN]))
        parts.append(f"<h2>{escape(kind)}: {len(own):,}</h2>")
        parts.append(f'<div class="pictures">{figures}</div>')
        if len(own) > MAX_SHOWN:
            parts.append(f"<p>and {len(own) - MAX_SHOWN:,} more; -f jsonl lists all.</p>")
    with whole_file(target) as partial:
        partial.write_text(
            document(f"{name}: suspects", parts), encoding="utf-8", errors="backslashreplace"
        )
    note_saved(target)


def figure(suspect: Suspect) -> str:
    """The picture of a suspect, with the given and the suggested box drawn."""
    boxes = [
        Annotation(label, label, box)
        for label, box in ((GIVEN, suspect.box), (SUGGESTED, suspect.suggested_box))
        if box is not None
    ]
    sample = Sample(Path(suspect.image), suspect.image, annotations=tuple(boxes))
    picture = "".join(map(as_img, drawn(sample, label_colors([GIVEN, SUGGESTED]))))
    change = " → ".join(filter(None, (suspect.label, suspect.suggested)))
    text = f"{escape(suspect.rows()[0]['place'])}: {escape(change)} ({suspect.score:.2f})"
    return f"<figure>{picture}<figcaption>{text}</figcaption></figure>"
