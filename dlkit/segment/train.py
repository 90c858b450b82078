"""The training loop of `dlkit segment train`."""

from pathlib import Path
from typing import Any

import numpy as np

from dlkit.classify import backbones
from dlkit.core.config import non_defaults, option_name
from dlkit.core.errors import DlkitError
from dlkit.core.io.files import whole_file
from dlkit.core.parallel import distributed
from dlkit.core.parallel.distributed import Process
from dlkit.core.store.checkpoint import Header
from dlkit.core.train.run import Run
from dlkit.core.vision.augment import jitter_color
from dlkit.segment import torchvision_zoo
from dlkit.segment.config import PUBLISHED, SegmentTrainConfig
from dlkit.segment.data import Pictures, class_weights, collate
from dlkit.segment.draw import palette
from dlkit.segment.evaluate import evaluate, evaluate_instances, save_examples
from dlkit.segment.infer import Predictor
from dlkit.segment.layouts import Annotated, read_split
from dlkit.segment.loss import as_pixels, instance_loss, random_places, segmentation_loss
from dlkit.segment.model import build, load_backbone, options

DEFAULT_BACKBONE = "caltech101"  # of a unet of which nothing else is chosen
CHOICES = ("width", "depth", "padding", "context", "window", "step")
SCORES = {"semantic": "mean_iou", "instance": "map_50_95_coco101"}  # what `best` goes by
TORCHVISION = ("deeplabv3", "lraspp", "maskrcnn")  # their backbones are torchvision's, untrained
OF_PIXELS = ("loss", "focal_gamma", "class_weights", "border_weight", "border_sigma", "loss_share")
OF_NEIGHBORS = ("border_weight", "loss_share")  # nothing where single pixels are learned from


def train(config: SegmentTrainConfig) -> Path:
    """Train a segmenter, and return the path of its best checkpoint."""
    with distributed.launch(config.device, config.seed) as process:
        refuse_unused(config)
        objects = config.task == "instance"
        with_borders = config.border_weight > 0
        training = read_split(config.data, "train", None, objects, with_borders)
        names = training.labels
        validation = read_split(config.data, "val", names, objects)
        if not objects:
            refuse_one_class(config.data, training)

        if config.init_from in PUBLISHED:
            torchvision_zoo.fetch(config.init_from)
        settings, trained = network_settings(config)
        model = build(config.arch, len(names), **settings)
        if trained is not None:
            model.backbone.load_state_dict(trained.state_dict())
        network = process.wrap(model)  # the same weights, with gradients averaged over processes
        run = Run(config, process, model, Header("segment", config.arch, settings, names))
        optimizer = run.optimizer(model)
        name_skipped(run.folder, [training, validation], process)
        batches = run.loader(Pictures(training.samples, config, objects), collate)
        weights = None
        if config.class_weights != "none":
            weights = class_weights(training.samples, config.class_weights).to(process.device)
        predictor = Predictor(
            run.eval_model,
            names,
            config.image_size,
            process.device,
            palette(len(names)),
            config.precision,
        )

        for _ in run.epochs():
            for pictures, indices, labels in run.batches(batches):
                images = jitter_color(pictures[:, :3].float(), config.color_jitter)
                mask, numbers = indices[:, 0], indices[:, -1]
                border = pictures[:, 3].float() / 255 if config.border_weight else None
                with run.autocast():
                    if objects:
                        loss = instance_loss(network, images, numbers, labels)
                    elif config.arch == "patch":
                        places = random_places(mask, config.places)
                        logits = network(model.normalize(images), places)
                        loss = segmentation_loss(*as_pixels(logits, mask, places), config, weights)
                    else:
                        logits = network(model.normalize(images))
                        loss = segmentation_loss(logits, mask, config, weights, border)
                run.step(loss, optimizer)
            predictor.network.eval()
            measure = evaluate_instances if objects else evaluate
            scores = measure(predictor, validation.samples, process, config.workers).summary
            scores.pop("boundary_f1", None)  # slow: `dlkit segment evaluate` has it
            better = run.finish_epoch(scores[SCORES[config.task]], **scores)
            if better and process.is_main:
                save_examples(predictor, validation.samples, run.folder / "examples.png")
    return run.best


def refuse_unused(config: SegmentTrainConfig) -> None:
    """Raise DlkitError for options that do not go together, or would do nothing."""
    if (config.task == "instance") != (config.arch == "maskrcnn"):
        raise DlkitError("--task instance goes with --arch maskrcnn, and no other task does")
    for name in non_defaults(config):
        option = option_name(name)
        if name in OF_PIXELS and config.task == "instance":
            raise DlkitError(f"{option} is for --task semantic: maskrcnn has losses of its own")
        if name in OF_NEIGHBORS and config.arch == "patch":
            raise DlkitError(f"{option} is not for patch, which learns from some --places only")
        if name == "places" and config.arch != "patch":
            raise DlkitError(f"{option} is for --arch patch")
        if name == "focal_gamma" and config.loss != "focal":
            raise DlkitError(f"{option} goes with --loss focal")
        if name == "border_sigma" and not config.border_weight:
            raise DlkitError(f"{option} goes with --border-weight")
        if name in {"class_weights", "border_weight"} and config.loss == "dice":
            raise DlkitError(f"{option} weighs the pixels of the cross-entropy, not of dice")


def refuse_one_class(data: Path, training: Annotated) -> None:
    """Raise DlkitError where there is nothing to tell apart."""
    there = np.sum([sample.pixels for sample in training.samples], axis=0) > 0
    if there.sum() < 2:
        names = [name for name, seen in zip(training.labels, there, strict=True) if seen]
        raise DlkitError(
            f"{data}: one class only in the training masks ({', '.join(names) or 'none'}):"
            " there is nothing to tell apart"
        )


def network_settings(
    config: SegmentTrainConfig,
) -> tuple[dict[str, Any], backbones.Backbone | None]:
    """The keyword arguments of `build()`, and the trained backbone to start from."""
    settings = {name: getattr(config, name) for name in CHOICES}
    settings = {name: value for name, value in settings.items() if value is not None}
    name = config.backbone
    if name is None and config.arch == "unet" and not settings:
        name = DEFAULT_BACKBONE
    borrowed = name not in {None, "none"} and config.arch not in TORCHVISION
    if config.from_scratch and not borrowed:
        raise DlkitError("--from-scratch needs a --backbone of dlkit classify")
    if not borrowed or "backbone" not in options(config.arch):
        return settings | ({} if name in {None, "none"} else {"backbone": name}), None
    trained, settings["backbone"] = load_backbone(config.arch, str(name))
    return settings, None if config.from_scratch else trained


def name_skipped(folder: Path, parts: list[Annotated], process: Process) -> None:
    """skipped.txt: what was left out, and why."""
    found = [line for part in parts for line in part.skipped.lines()]
    if found and process.is_main:
        with whole_file(folder / "skipped.txt") as partial:
            partial.write_text("\n".join(found) + "\n")
