"""The training loop of `dlkit segment train`."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np

from dlkit.classify import backbones
from dlkit.core.config import non_defaults, option_name, refuse_unused
from dlkit.core.errors import DlkitError
from dlkit.core.io.files import draw_in_training, save_ledgers
from dlkit.core.parallel import distributed
from dlkit.core.progress import log
from dlkit.core.store.checkpoint import Header
from dlkit.core.train.epoch_log import BestMetric
from dlkit.core.train.run import Run
from dlkit.core.vision.augment import jitter_color
from dlkit.segment import model, torchvision_zoo
from dlkit.segment.architecture import SegmenterSettings, TrainingBatch
from dlkit.segment.config import PUBLISHED, SegmentTrainConfig
from dlkit.segment.data import SegmentationDataset, class_weights, collate
from dlkit.segment.evaluate import evaluate, save_examples
from dlkit.segment.infer import make_predictor
from dlkit.segment.layouts import AnnotatedImage, DatasetSplit, read_training
from dlkit.segment.masks import IGNORED, MaskFile

SUSPECT_SHARE = 0.1  # of masks with one class and ignored pixels, above which a line is printed
SHOWN = 5  # classes without a pixel that are named
BEST_METRIC = {"semantic": BestMetric("mean_iou"), "instance": BestMetric("map_50_95_coco101")}


def train(config: SegmentTrainConfig) -> Path:
    """Train a segmenter, and return the path of its best checkpoint."""
    architecture = model.find(config.arch)
    check_options(config)
    objects = architecture.instances
    with distributed.launch(config.device, config.seed) as process:
        training, validation = read_training(config, objects)
        names = training.labels
        if not objects:
            check_classes(config.data, training)

        if config.init_from in PUBLISHED:
            torchvision_zoo.fetch(config.init_from)
        settings, trained = network_settings(config)
        segmenter = model.build(config.arch, len(names), **settings)
        if trained is not None:
            segmenter.backbone.load_state_dict(trained.state_dict())
        network = process.wrap(segmenter)  # shares the weights; averages gradients over processes
        run = Run(config, process, segmenter, Header("segment", config.arch, settings, names))
        optimizer = run.optimizer(segmenter)
        dataset = SegmentationDataset(training.samples, config, objects, training.ledger)
        save_ledgers(run.folder, training.ledger, validation.ledger)
        training.ledger.check(config.allowed, config.data)
        batches = run.loader(dataset, collate)
        weights = None
        if config.class_weights != "none":
            weights = class_weights(training.samples, config.class_weights).to(process.device)
        predictor = make_predictor(
            run.eval_model, run.header, config.image_size, process.device, config.precision
        )

        for _ in run.epochs(BEST_METRIC[config.task]):
            for channels, indices, labels in run.batches(batches):
                images = jitter_color(channels[:, :3].float(), config.color_jitter)
                border = channels[:, 3].float() / 255 if config.border_weight else None
                batch = TrainingBatch(
                    segmenter.normalize(images), indices[:, 0], indices[:, -1], labels, border
                )
                with run.autocast():
                    loss = architecture.loss(network, batch, config, weights)
                run.step(loss, optimizer)
            run.eval_model.eval()
            scores = evaluate(predictor, validation.samples, process, config.workers).summary
            scores.pop("boundary_f1", None)  # too slow here; `dlkit segment evaluate` computes it
            better = run.finish_epoch(**scores)
            if better and process.is_main:
                path = run.folder / "examples.png"
                draw_in_training(path, save_examples, predictor, validation.samples, path)
    return run.best


def check_options(config: SegmentTrainConfig) -> None:
    """Raise DlkitError for options that contradict each other or have no effect."""
    instances = [arch for arch, record in model.ARCHITECTURES.items() if record.instances]
    if (config.task == "instance") != (config.arch in instances):
        raise DlkitError(f"--task instance: goes only with --arch {' or '.join(instances)}")
    refuse_unused(config, model.options_by_architecture())
    given = non_defaults(config)
    if "focal_gamma" in given and config.loss != "focal":
        raise DlkitError("--focal-gamma: only for --loss focal")
    if "border_sigma" in given and not config.border_weight:
        raise DlkitError("--border-sigma: requires --border-weight")
    for name in ("class_weights", "border_weight"):
        if name in given and config.loss == "dice":
            option = option_name(name)
            raise DlkitError(f"{option}: weighs the cross-entropy, not dice; use another --loss")


def check_classes(data: Path, training: DatasetSplit) -> None:
    """Print which classes have no pixel in the training masks, and which values are ignored.

    Raises DlkitError if fewer than two classes have pixels.
    """
    pixels = np.array([sample.pixels for sample in training.samples])
    present = pixels.sum(axis=0) > 0
    missing = [name for name, used in zip(training.labels, present, strict=True) if not used]
    sizes = np.array([sample.width * sample.height for sample in training.samples])
    # Masks of one class and ignored pixels: as those with 255 for the object.
    binary = (pixels > 0).sum(axis=1) < 2
    binary &= pixels.sum(axis=1) < sizes
    suspects = range(len(sizes)) if missing else np.flatnonzero(binary).tolist()
    ignored = ""
    if missing or len(suspects) > SUSPECT_SHARE * len(sizes):
        ignored = describe_ignored([training.samples[place] for place in suspects])
    if present.sum() < 2:
        names = [name for name, used in zip(training.labels, present, strict=True) if used]
        raise DlkitError(
            f"the training masks contain a single class ({', '.join(names) or 'none'});"
            f" at least two are needed{ignored}",
            data,
        )
    if missing:
        more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
        log(f"{', '.join(missing[:SHOWN])}{more}: no pixel in the training masks{ignored}")
    elif ignored:
        log(f"{len(suspects)} of {len(sizes)} training masks have one class only{ignored}")


def describe_ignored(samples: Sequence[AnnotatedImage]) -> str:
    """The most frequent ignored value, for the end of a message; nothing where none is ignored."""
    counts: Counter[str] = Counter()
    for sample in samples:
        if isinstance(sample.truth, MaskFile):
            counts += sample.truth.ignored()
    if not counts:
        return ""
    ((value, count),) = counts.most_common(1)
    advice = ": if it is a class, add the color 255 255 255 to its line of classes.txt"
    return (
        f"; {count:,} pixels have the {value}, which is ignored"
        f"{advice if value == f'value {IGNORED}' else ''}"
    )


def network_settings(
    config: SegmentTrainConfig,
) -> tuple[SegmenterSettings, backbones.Backbone | None]:
    """The settings for `build()`, and the trained backbone to start from."""
    architecture = model.find(config.arch)
    chosen = {name: getattr(config, name) for name in architecture.settings}
    given = {name: value for name, value in chosen.items() if value is not None}
    settings = cast(SegmenterSettings, given)
    name = config.backbone or (None if settings else architecture.default_backbone)
    if name in {None, "none"} or not architecture.classifier_backbone:
        if not config.pretrained_backbone:
            raise DlkitError("--no-pretrained-backbone: requires a dlkit classify --backbone")
        if name is not None and name != "none":
            settings["backbone"] = name
        return settings, None
    trained, settings["backbone"] = model.load_backbone(config.arch, str(name))
    return settings, trained if config.pretrained_backbone else None
