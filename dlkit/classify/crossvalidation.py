"""How well a recipe does, whatever the split: k-fold cross-validation."""

import csv
import random
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from dlkit.classify.config import ClassifyTrainConfig
from dlkit.classify.evaluate import Score, evaluate_checkpoint, rounded
from dlkit.classify.layouts import read_split
from dlkit.classify.train import train
from dlkit.core.checkpoint import read_header
from dlkit.core.config import Precision
from dlkit.core.errors import DlkitError
from dlkit.core.progress import log
from dlkit.core.weights import find


def cross_validate(
    data: Path, model: str, folds: int, device: str, precision: Precision
) -> Iterator[Score]:
    """The scores of `folds` trainings, each on all images but a part, measured on that part.

    The settings are those in the model's header. What is measured is the last epoch, since the
    best would be chosen by the very images it is measured on. All splits are taken together.
    """
    if folds < 2:
        raise DlkitError("--folds: 2 or more are needed")
    labelled = read_split(data, "all")
    labelled.skipped.report()
    if len(labelled.samples) < folds:
        raise DlkitError(f"{data}: {len(labelled.samples)} images are too few for {folds} folds")
    config = settings_of(model)
    order = list(range(len(labelled.samples)))
    random.Random(config.seed).shuffle(order)
    order.sort(key=lambda index: labelled.samples[index].labels)  # each label in all folds
    found: dict[str, list[float]] = {}
    definitions = {}
    with tempfile.TemporaryDirectory() as folder:
        for fold in range(folds):
            place = Path(folder) / str(fold)
            place.mkdir()
            for name, chosen in (("train", False), ("val", True)):
                with (place / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
                    writer = csv.writer(file)
                    writer.writerow(["path", "label"])
                    for position, index in enumerate(order):
                        if (position % folds == fold) == chosen:
                            sample = labelled.samples[index]
                            names = ";".join(labelled.labels[label] for label in sample.labels)
                            writer.writerow([sample.path.resolve(), names])
            log(f"fold {fold + 1} of {folds}")
            run = replace(config, data=place, out=place / "run", device=device, precision=precision)
            last = train(run).with_name("last.safetensors")
            for score in evaluate_checkpoint(place, "val", str(last), None, 2, device, precision):
                if score.label == "all" and score.value is not None:
                    found.setdefault(score.metric, []).append(score.value)
                    definitions[score.metric] = score.definition
                    yield Score(score.metric, f"fold {fold + 1}", score.value, score.definition)
    for metric, values in found.items():
        yield Score(metric, "mean", rounded(statistics.mean(values)), definitions[metric])
        deviation = f"Standard deviation over the folds. {definitions[metric]}"
        yield Score(metric, "deviation", rounded(statistics.stdev(values)), deviation)


def settings_of(model: str) -> ClassifyTrainConfig:
    """The settings a model was trained with, from its header."""
    config = read_header(find("classify", model)).config
    known: dict[str, Any] = {f.name: config[f.name] for f in fields(ClassifyTrainConfig)}
    known |= {name: Path(known[name]) for name in ("data", "out")}
    return replace(ClassifyTrainConfig(**known), resume=False)
