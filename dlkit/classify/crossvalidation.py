"""K-fold cross-validation."""

import csv
import json
import random
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from dlkit.classify.config import OWN, ClassifyTrainConfig, is_text_model
from dlkit.classify.evaluate import evaluate_checkpoint
from dlkit.classify.layouts import read_split
from dlkit.classify.text import read_texts
from dlkit.classify.torchvision_zoo import find_model
from dlkit.classify.train import train
from dlkit.core.config import ALLOW_SKIPPED_ROWS, Precision, allowed_share
from dlkit.core.errors import DlkitError
from dlkit.core.io.scores import Score, rounded
from dlkit.core.progress import log
from dlkit.core.store.checkpoint import read_header


def cross_validate(
    data: Path,
    model: str,
    folds: int,
    device: str,
    precision: Precision,
    allow_skipped: float | None = None,
) -> Iterator[Score]:
    """Train once per fold and yield the scores on the held-out fold, their mean and deviation.

    The settings are those in the model's header. The last epoch is scored, because the best one
    would be selected on the held-out fold itself. All splits of the data are pooled.
    """
    if folds < 2:
        raise DlkitError(f"--folds {folds}: too few; give 2 or more")
    columns, rows = list_samples(data, is_text_model(model), allow_skipped)
    if len(rows) < folds:
        raise DlkitError(f"{len(rows)} samples are too few for {folds} folds", data)
    config = read_config(model)
    random.Random(config.seed).shuffle(rows)
    rows.sort(key=lambda row: row[1])  # so that each label is in all folds
    found: dict[str, list[float]] = {}
    definitions = {}
    with tempfile.TemporaryDirectory() as folder:
        for fold in range(folds):
            place = Path(folder) / str(fold)
            place.mkdir()
            kept = [row for number, row in enumerate(rows) if number % folds != fold]
            write_rows(place, "train", columns, kept)
            write_rows(place, "val", columns, rows[fold::folds])
            log(f"fold {fold + 1} of {folds}")
            run = replace(config, data=place, out=place / "run", device=device, precision=precision)
            last = train(run).with_name("last.safetensors")
            for score in evaluate_checkpoint(
                [str(place)], "val", str(last), None, 2, device, precision
            ):
                if isinstance(score, Score) and score.label == "all" and score.value is not None:
                    found.setdefault(score.metric, []).append(score.value)
                    definitions[score.metric] = score.definition
                    yield Score(score.metric, f"fold {fold + 1}", score.value, score.definition)
    for metric, values in found.items():
        yield Score(metric, "mean", rounded(statistics.mean(values)), definitions[metric])
        deviation = f"Standard deviation over the folds. {definitions[metric]}"
        yield Score(metric, "deviation", rounded(statistics.stdev(values)), deviation)


def list_samples(
    data: Path, texts: bool, allow_skipped: float | None
) -> tuple[list[str], list[tuple[str, str]]]:
    """Return the columns and rows of all samples."""
    if texts:
        allowed = allowed_share(allow_skipped, default=ALLOW_SKIPPED_ROWS)
        names, samples = read_texts(data, allowed).split("all")
        return ["text", "label"], [(text, names[label]) for text, label in samples]
    labeled = read_split(data, "all")
    labeled.ledger.use("images", len(labeled.samples))
    labeled.ledger.report()
    labeled.ledger.check(allowed_share(allow_skipped), data)
    rows = [
        (str(sample.path.resolve()), ";".join(labeled.labels[label] for label in sample.labels))
        for sample in labeled.samples
    ]
    return ["path", "label"], rows


def write_rows(folder: Path, split: str, columns: list[str], rows: list[tuple[str, str]]) -> None:
    """Write SPLIT.csv of images, or SPLIT.jsonl of texts, which may have any number of lines."""
    if columns[0] == "text":
        with (folder / f"{split}.jsonl").open("w", encoding="utf-8") as file:
            for row in rows:
                print(json.dumps(dict(zip(columns, row, strict=True))), file=file)
        return
    with (folder / f"{split}.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([columns, *rows])


def read_config(model: str) -> ClassifyTrainConfig:
    """Read the training settings of a model from its header."""
    header = read_header(find_model(model))
    if "arch" not in header.config:
        raise DlkitError("its header has no training settings; give a model of `train`", model)
    known: dict[str, Any] = {
        f.name: header.config[f.name]
        for f in fields(ClassifyTrainConfig)
        if f.name in header.config and header.arch in OWN.get(f.name, (header.arch,))
    }
    known |= {name: Path(known[name]) for name in ("data", "out")}
    return replace(ClassifyTrainConfig(**known), resume=False)
