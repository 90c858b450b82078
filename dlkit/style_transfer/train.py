"""The training loops of `dlkit style-transfer train`.

Shapes: B photographs of a batch, S x S pixels, N styles.
"""

import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import default_collate

from dlkit.core.errors import DlkitError
from dlkit.core.io.files import draw_in_training, save_ledgers
from dlkit.core.ledger import Ledger
from dlkit.core.parallel import distributed
from dlkit.core.parallel.distributed import Process
from dlkit.core.store.checkpoint import Header
from dlkit.core.train.epoch_log import BestMetric
from dlkit.core.train.run import Run
from dlkit.core.vision.images import Picture, as_pillow, grid, save
from dlkit.style_transfer.config import ResolvedConfig, StyleTrainConfig, by_arch
from dlkit.style_transfer.data import SquareCrops, center_crops, list_images, read
from dlkit.style_transfer.loss import (
    content_loss,
    gram,
    statistics_loss,
    style_loss,
    total_variation,
)
from dlkit.style_transfer.model import Painter
from dlkit.style_transfer.models.adain import AdaIN, AdaINSettings
from dlkit.style_transfer.models.fast import Fast, FastSettings
from dlkit.style_transfer.models.features import FeatureNetwork, load_features

STYLE_LAYERS = {f"relu{stage}_1": 0.25 for stage in range(1, 5)}
BEST_METRIC = BestMetric("val_loss", lower=True)
MAX_EXAMPLES = 5  # photographs, and styles, of an example picture


def train(config: StyleTrainConfig) -> Path:
    """Train a painter, and return the path of its best checkpoint."""
    with distributed.launch(config.device, config.seed) as process:
        resolved = by_arch(config)
        if not config.images:
            raise DlkitError("--images: none given; give photographs to train on")
        photos = list_images(config.images, "photographs")
        random.Random(config.seed).shuffle(photos)
        held_out = min(math.ceil(config.val_share * len(photos)), len(photos) - 1)
        length = config.steps_per_epoch * config.batch_size or None
        ledgers = Ledger("train"), Ledger("val")
        training = SquareCrops(photos[held_out:], config.image_size, ledgers[0], length)
        validation = center_crops(photos[:held_out], config.image_size, ledgers[1]) / 255
        if held_out:
            ledgers[1].report()
        check_ledgers(config, *ledgers)
        features = load_features(config.features, process.device)
        features.to(memory_format=torch.channels_last)
        loop = train_fast if config.arch == "fast" else train_adain
        return loop(resolved, process, features, training, validation.to(process.device), ledgers)


def check_ledgers(config: StyleTrainConfig, *ledgers: Ledger) -> None:
    """Raise DlkitError where more pictures are skipped than may be."""
    for ledger in ledgers:
        ledger.check(config.allowed, Path(config.images[0]))


def train_fast(
    config: ResolvedConfig,
    process: Process,
    features: FeatureNetwork,
    training: SquareCrops,
    validation: Tensor,
    ledgers: Sequence[Ledger],
) -> Path:
    """Train a network for fixed styles on the losses of Gatys et al. (Johnson et al. 2016)."""
    paths = list_images(config.data, "style")
    styles = [read(path, config.style_size).to(process.device) for path in paths]
    contents = {config.content_layer: 1.0}
    features.check(list(contents))
    with torch.no_grad():
        maps = [features(style, list(STYLE_LAYERS)) for style in styles]
        grams = {name: torch.cat([gram(own[name]) for own in maps]) for name in STYLE_LAYERS}

    settings: FastSettings = {"styles": len(styles), "width": config.width}
    model = Fast(**settings)
    network = process.wrap(model)  # the same weights, with gradients averaged over processes
    header = Header("style-transfer", "fast", settings, [Path(path).stem for path in paths])
    run = Run(config, process, model, header)
    save_ledgers(run.folder, *ledgers)
    optimizer = run.optimizer(model)
    batches = run.loader(training, collate)
    codes = torch.eye(len(styles), device=process.device)

    def compute_loss(painter: nn.Module, images: Tensor, numbers: Tensor) -> Tensor:
        with run.autocast():
            with torch.no_grad():
                targets = features(images, list(contents))
            painted = painter(images, codes[numbers])
            maps = features(painted, [*contents, *STYLE_LAYERS])
        target_grams = {name: own[numbers] for name, own in grams.items()}
        return (
            config.content_weight * content_loss(maps, targets, contents)
            + config.style_weight * style_loss(maps, target_grams, STYLE_LAYERS)
            + config.tv_weight * total_variation(painted)
        )

    def validation_loss(images: Tensor) -> Tensor:
        return compute_loss(run.eval_model, images, torch.arange(len(images)) % len(styles))

    for _ in run.epochs(BEST_METRIC if len(validation) else None):
        for (squares,) in run.batches(batches):
            numbers = torch.randint(len(styles), (len(squares),))
            run.step(compute_loss(network, squares / 255, numbers), optimizer)
        finish_epoch(run, validation_loss, validation, list(range(len(styles))), paths)
    return run.best


def train_adain(
    config: ResolvedConfig,
    process: Process,
    features: FeatureNetwork,
    training: SquareCrops,
    validation: Tensor,
    ledgers: Sequence[Ledger],
) -> Path:
    """Train the decoder of AdaIN, with a frozen encoder (Huang and Belongie 2017)."""
    paths = list_images(config.data, "styles")
    ledger = Ledger("styles")
    styles = SquareCrops(paths, config.image_size, ledger, len(paths))
    check_ledgers(config, ledger)
    examples = center_crops(styles.paths, config.image_size, Ledger()).to(process.device) / 255
    settings: AdaINSettings = {"features": features.settings, "layer": config.content_layer}
    model = AdaIN(**settings)
    layers = {name: own for name, own in STYLE_LAYERS.items() if name in model.encoder.layers}
    model.encoder.load_state_dict(features.truncate(model.layer).state_dict())
    process.wrap(model.encoder)
    decoder = process.wrap(model.decoder)  # the same weights, with gradients averaged
    run = Run(config, process, model, Header("style-transfer", "adain", settings, []))
    save_ledgers(run.folder, *ledgers, ledger)
    optimizer = run.optimizer(model)
    batches = run.loader(training, collate)

    def compute_loss(painter: AdaIN, decode: nn.Module, images: Tensor, styles: Tensor) -> Tensor:
        with run.autocast():
            with torch.no_grad():
                target = painter.blend(painter.maps(images), painter.code(styles))
                target_grams = painter.encoder(styles, list(layers))
            painted = decode(target)
            maps = painter.encoder(painted, [*layers, painter.layer])
        return (
            config.content_weight * F.mse_loss(maps[painter.layer].float(), target)
            + config.style_weight * statistics_loss(maps, target_grams, layers)
            + config.tv_weight * total_variation(painted)
        )

    def validation_loss(images: Tensor) -> Tensor:
        painter = run.eval_model
        assert isinstance(painter, AdaIN)
        own = examples[torch.arange(len(images)) % len(examples)]
        return compute_loss(painter, painter.decoder, images, own)

    for _ in run.epochs(BEST_METRIC if len(validation) else None):
        for (squares,) in run.batches(batches):
            drawn = torch.stack([styles[0] for _ in squares]).to(process.device)
            run.step(compute_loss(model, decoder, squares / 255, drawn / 255), optimizer)
        finish_epoch(run, validation_loss, validation, list(examples.split(1)), styles.paths)
    return run.best


def collate(squares: list[Tensor]) -> list[Tensor]:
    """One tensor (B, 3, S, S) as a list, which the loader moves to the device."""
    return [default_collate(squares)]


@torch.no_grad()
def finish_epoch(
    run: Run,
    loss: Callable[[Tensor], Tensor],
    validation: Tensor,
    styles: Sequence[Tensor | int],
    paths: Sequence[str],
) -> None:
    """End an epoch: validate, save and write example paintings."""
    scores = {}
    painter = run.eval_model.eval()
    if len(validation):
        losses = [loss(part) * len(part) for part in validation.split(run.config.batch_size)]
        scores = {"val_loss": float(torch.stack(losses).sum()) / len(validation)}
    run.finish_epoch(**scores)
    assert isinstance(run.config, StyleTrainConfig)
    assert isinstance(painter, Painter)
    if run.process.is_main and len(validation) and run.epoch % run.config.every == 0:
        path = run.folder / "examples" / f"{run.epoch:03}.png"
        shown = validation[:MAX_EXAMPLES], styles[:MAX_EXAMPLES]
        draw_in_training(path, save_examples, painter, *shown, paths, run, path)


def save_examples(
    painter: Painter,
    photos: Tensor,
    styles: Sequence[Tensor | int],
    paths: Sequence[str],
    run: Run,
    path: Path,
) -> None:
    """Write a grid with a row for each photograph, which comes first, and captions.

    `paths` are those of the styles, whose names are the captions.
    """
    columns = [photos]
    with run.autocast():
        columns += [painter(photos, style) for style in styles]
    pixels = (torch.stack(columns, dim=1).flatten(0, 1).cpu() * 255).round().to(torch.uint8)
    pictures = [as_pillow(Picture(own, own.shape[2], own.shape[1])) for own in pixels]
    captions = ["photograph", *(Path(path).stem for path in paths[: len(styles)])] * len(photos)
    save(grid(pictures, len(columns), photos.shape[-1] + 4, captions), path)
