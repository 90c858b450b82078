"""Recall of `dlkit data suspects` at 90 % precision, on labels and boxes that were made wrong.

`python -m tests.benchmarks.suspects CIFAR10 BCCD [--seeds 5]`: of 5,000 test images of CIFAR-10
(500 a label) 250 get another label; of the boxes of BCCD's val and test 40 are shifted by 30 to
50 % of their sides. cleanlab ranks the same predictions where it is installed.
"""

import argparse
import random
from collections import defaultdict
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from dlkit.classify import features, infer
from dlkit.core.datasets.samples import Sample
from dlkit.core.datasets.sources import find_source
from dlkit.core.failures import Failure
from dlkit.core.ledger import Ledger
from dlkit.data import confident
from dlkit.detect import detect

find_label_issues = compute_badloc_box_scores = None
with suppress(ImportError):
    find_label_issues = import_module("cleanlab.filter").find_label_issues
    ranks = import_module("cleanlab.object_detection.rank")
    compute_badloc_box_scores = ranks.compute_badloc_box_scores

WRONG_LABELS, WRONG_BOXES, A_LABEL = 250, 40, 500
PRECISION = 0.9


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.suspects")
    parser.add_argument("cifar10", type=Path)
    parser.add_argument("bccd", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    settings = parser.parse_args()
    report("labels", labels(settings.cifar10, settings.seeds), (50, 250))
    report("boxes", boxes(settings.bccd, settings.seeds), (40, 94))


def report(title: str, rankings: dict[str, list[np.ndarray]], places: tuple[int, int]) -> None:
    """Print means over the seeds; a ranking is whether each of its samples is wrong (N,)."""
    number = {"labels": WRONG_LABELS, "boxes": WRONG_BOXES}[title]
    print(f"{title}: recall at 90 % precision (least, largest), share of wrong ones in the first")
    for name, runs in rankings.items():
        recalls = [recall(hits, number) for hits in runs]
        first = [np.mean([hits[:place].mean() for hits in runs]) for place in places]
        spread = f"{np.mean(recalls):.3f} ({min(recalls):.3f}, {max(recalls):.3f})"
        shares = ", ".join(f"{p}: {share:.2f}" for p, share in zip(places, first, strict=True))
        print(f"  {name}: {spread}; {shares}", flush=True)


def recall(hits: np.ndarray, number: int) -> float:
    """The largest share of the wrong ones that a beginning of PRECISION holds."""
    precise = hits.cumsum() / np.arange(1, len(hits) + 1) >= PRECISION
    places = np.flatnonzero(precise)
    return float(hits.cumsum()[places[-1]] / number) if len(places) else 0.0


def labels(folder: Path, seeds: int) -> dict[str, list[np.ndarray]]:
    """Rankings of labels by regressions on the features of `caltech101`."""
    draw = random.Random(0)
    folders = sorted((folder / "test").iterdir())
    paths = [str(p) for own in folders for p in draw.sample(sorted(own.iterdir()), A_LABEL)]
    true = np.repeat(np.arange(len(folders)), A_LABEL)
    described = features.describe(paths, infer.load("caltech101"), workers=0)
    descriptors = np.stack([d.descriptor.numpy() for d in described if not isinstance(d, Failure)])
    rankings = defaultdict(list)
    for seed in range(seeds):
        generator = np.random.default_rng(seed)
        wrong = np.zeros(len(true), bool)
        wrong[generator.choice(len(true), WRONG_LABELS, replace=False)] = True
        given = true.copy()
        given[wrong] += generator.integers(1, len(folders), WRONG_LABELS)
        given %= len(folders)
        found = confident.held_out_probabilities(descriptors, given, len(folders), 5, seed)
        rankings["dlkit"].append(wrong[confident.suspect_labels(given, found)])
        if find_label_issues is not None:
            order = find_label_issues(
                given, found, return_indices_ranked_by="self_confidence", n_jobs=1
            )
            rankings["cleanlab, its default filter"].append(wrong[order])
    return rankings


def boxes(folder: Path, seeds: int) -> dict[str, list[np.ndarray]]:
    """Rankings of boxes by the predictions of `cells`, which was trained on the split train."""
    source = find_source(folder)
    samples = [sample for split in ("val", "test") for sample in source.read(split, Ledger(split))]
    paths = [str(sample.path) for sample in samples]
    results = [r.objects for r in detect(paths, "cells", threshold=0.05)]
    places = [(i, g) for i, sample in enumerate(samples) for g in range(len(sample.annotations))]
    names = sorted({a.label for sample in samples for a in sample.annotations})
    rankings = defaultdict(list)
    for seed in range(1, seeds + 1):
        generator = np.random.default_rng(seed)
        chosen = generator.choice(len(places), WRONG_BOXES, replace=False)
        wrong = np.zeros(len(places), bool)
        wrong[chosen] = True
        moved = {places[k] for k in chosen}
        given = [
            shifted(s, {g for i, g in moved if i == n}, generator) for n, s in enumerate(samples)
        ]
        scores = np.concatenate(
            [suspicion(*entry) for entry in zip(samples, given, results, strict=True)]
        )
        order = np.argsort(-scores, kind="stable")
        rankings["dlkit"].append(wrong[order[scores[order] > 0]])
        if compute_badloc_box_scores is not None:
            for low in (None, 0.05):
                quality = compute_badloc_box_scores(
                    labels=[
                        {
                            "bboxes": b,
                            "labels": np.array([names.index(a.label) for a in s.annotations]),
                        }
                        for s, b in zip(samples, given, strict=True)
                    ],
                    predictions=[by_label(objects, names) for objects in results],
                    low_probability_threshold=low,
                )
                ranked = np.argsort(np.nan_to_num(np.concatenate(quality), nan=1.0), kind="stable")
                rankings[f"cleanlab, low_probability_threshold={low}"].append(wrong[ranked])
    return rankings


def shifted(sample: Sample, chosen: set[int], generator: np.random.Generator) -> np.ndarray:
    """The boxes (G, 4) of a sample, of which the chosen are shifted within the image."""
    found = np.array([a.box for a in sample.annotations], float).reshape(-1, 4)
    assert sample.size is not None
    for number in sorted(chosen):
        sides = found[number, 2:] - found[number, :2]
        shift = generator.uniform(0.3, 0.5) * sides * generator.choice([-1, 1], 2)
        out = (found[number, :2] + shift < 0) | (found[number, 2:] + shift > sample.size)
        found[number] += np.tile(np.where(out, -shift, shift), 2)
    clipped: np.ndarray = found.clip(0, np.tile(sample.size, 2))
    return clipped


def suspicion(sample: Sample, given: np.ndarray, objects: Any) -> np.ndarray:
    """The score (G,) of each given box as one that is elsewhere, 0 for none."""
    scores = np.zeros(len(given))
    found = np.array([(o.x1, o.y1, o.x2, o.y2) for o in objects], float).reshape(-1, 4)
    own, others = [a.label for a in sample.annotations], [o.label for o in objects]
    sure = np.array([o.score for o in objects], float)
    for suspect in confident.suspect_boxes(given, own, found, others, sure):
        if suspect.kind == "box":
            scores[suspect.given] = suspect.score
    return scores


def by_label(objects: Any, names: list[str]) -> np.ndarray:
    """cleanlab's form of predictions: for each label x1, y1, x2, y2, score."""
    rows = np.empty(len(names), dtype=object)
    for k, name in enumerate(names):
        own = [(o.x1, o.y1, o.x2, o.y2, o.score) for o in objects if o.label == name]
        rows[k] = np.array(own, float).reshape(-1, 5)
    return rows


if __name__ == "__main__":
    main()
