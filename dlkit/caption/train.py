"""The training loop of `dlkit caption train`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from dlkit.caption import data
from dlkit.caption.config import FIXED, INHERITED, CaptionTrainConfig, by_arch
from dlkit.caption.data import CachedFeatures, ImageBatches, find_unreadable
from dlkit.caption.features import Features, load_features
from dlkit.caption.loss import caption_loss, reinforce
from dlkit.caption.model import SETTINGS, CaptionerSettings, build
from dlkit.caption.models.captioner import Captioner
from dlkit.caption.validation import Encode, validation_scores
from dlkit.classify import backbones
from dlkit.core.io.files import save_ledgers
from dlkit.core.parallel import distributed
from dlkit.core.store.checkpoint import Header
from dlkit.core.train.epoch_log import BestMetric
from dlkit.core.train.init_from import find_start
from dlkit.core.train.run import Run
from dlkit.core.train.sampler import ignore_stop_signals
from dlkit.core.vision.augment import jitter_color, random_affine
from dlkit.tokenize import DecoderVocabulary

SAMPLES = 3  # captions of an epoch in samples.txt
METRICS = {
    "cider-d": BestMetric("cider_d"),
    "bleu-4": BestMetric("bleu_4"),
    "loss": BestMetric("val_loss", lower=True),
}  # by --best-metric


def train(config: CaptionTrainConfig) -> Path:
    """Train a captioner, and return the path of its best checkpoint."""
    config, start = find_start(
        config,
        "caption",
        SETTINGS,
        DecoderVocabulary.from_settings,
        config.dropout,
        FIXED,
        INHERITED,
    )
    config = by_arch(config)
    with distributed.launch(config.device, config.seed) as process:
        loaded = data.load_data(config, start.vocabulary if start else None)
        vocabulary = loaded.vocabulary
        trained: backbones.Backbone | None = None
        if start:
            settings = start.network
        else:
            settings, trained = network_settings(config, vocabulary)
        model: Any = build(config.arch, **settings)
        if trained is not None:
            model.encoder.load_state_dict(trained.state_dict())
        longest = max(len(ids) - 1 for ids in loaded.training.ids)
        header_settings: CaptionerSettings = {
            "network": settings,
            "tokenizer": vocabulary.to_settings(),
            "keep_case": config.keep_case,
            "longest": longest,
        }
        model.to(process.device)
        run = Run(config, process, model, Header("caption", config.arch, header_settings, []))
        finetuned_from = config.epochs  # the first epoch that also trains the encoder
        if config.finetune_encoder_after is not None:
            finetuned_from = config.finetune_encoder_after
        elif model.encoder is not None:
            model.encoder.requires_grad_(False)
        optimizer = run.optimizer(model, slower=model.encoder, share=config.encoder_lr)

        paths = [*loaded.training.paths, *loaded.validation.paths]
        features: Features | None = None
        if run.epoch < finetuned_from:
            file = config.features or run.folder / "features.safetensors"
            features = load_features(
                file, model, encoder_name(config), paths, process, config.workers
            )
            unreadable = features.unreadable
        else:
            unreadable = find_unreadable(paths, model.preprocessing, config.workers)
        training = data.without_unreadable(loaded.training, unreadable, loaded.ledgers[0])
        validation = data.without_unreadable(loaded.validation, unreadable, loaded.ledgers[1])
        if unreadable:
            data.check_ledgers(loaded, config)
        save_ledgers(run.folder, *loaded.ledgers)

        network: Any = None
        for epoch in run.epochs(METRICS[config.best_metric] if len(validation) else None):
            frozen = features if epoch < finetuned_from else None
            shared = (config, process, epoch, vocabulary.pad)
            batches: DataLoader[list[Tensor]]
            if frozen is not None:
                batches = DataLoader(CachedFeatures(training, frozen, *shared), None)
            else:
                batches = DataLoader(
                    ImageBatches(training, model.preprocessing, *shared),
                    None,
                    num_workers=config.workers,
                    worker_init_fn=ignore_stop_signals,
                )
            if network is None or epoch == finetuned_from:
                if model.encoder is not None:
                    model.encoder.requires_grad_(frozen is None)
                # The same weights, with gradients averaged over processes.
                network = process.wrap(model)
            for inputs, target, weight, *owners in run.batches(batches):
                if frozen is None:
                    inputs = model.preprocessing.normalize(augment(inputs, config))
                labels = target[:, 1:]
                real = labels != vocabulary.pad
                with run.autocast():
                    output = network(inputs, target[:, :-1], real, *owners)
                loss = caption_loss(output, labels, real, config.label_smoothing, config.penalty)
                if output.chosen is not None:
                    attention_loss, baseline = reinforce(output, labels, real, model.baseline)
                    model.baseline.copy_(baseline)
                    loss = loss + attention_loss
                run.step(loss * weight, optimizer)
            scores: dict[str, float] = {}
            if len(validation):
                evaluated: Any = run.eval_model
                encode = frozen.memories if frozen is not None else image_encoder(evaluated)
                scores, captions = validation_scores(
                    evaluated, vocabulary, validation, encode, longest, config, process
                )
                some = zip(validation.samples, captions[:SAMPLES], strict=False)
                run.add_sample("\n".join(f"{s.path}\n= {s.captions[0]}\n> {c}" for s, c in some))
            run.finish_epoch(**scores)
    return run.best


def augment(images: Tensor, config: CaptionTrainConfig) -> Tensor:
    """Images (B, 3, S, S) of values to 255, zoomed and color-jittered at random."""
    if config.zoom > 1:
        images = random_affine(images.float(), 0.0, config.zoom, 0.0)
    if config.color_jitter:
        images = jitter_color(images.float(), config.color_jitter)
    return images


def network_settings(
    config: CaptionTrainConfig, vocabulary: DecoderVocabulary
) -> tuple[dict[str, Any], backbones.Backbone | None]:
    """The keyword arguments of `build()`, and the trained encoder to start from."""
    own = {name: getattr(config, name) for name in SETTINGS[config.arch]}
    settings = {**vocabulary.network_settings(), **own, "fit": config.fit}
    if config.patch:
        return {**settings, "image_size": config.image_size, "patch": config.patch}, None
    trained, backbone = backbones.load(config.backbone)
    size = config.image_size or trained.preprocessing.image_size
    return {**settings, "image_size": size, "backbone": backbone, "grid": config.grid}, trained


def encoder_name(config: CaptionTrainConfig) -> str:
    """The encoder's name in the file of features."""
    return f"--patch {config.patch}" if config.patch else config.init_from or config.backbone


def image_encoder(network: Captioner) -> Encode:
    """A function that reads images and encodes them with the network's present encoder."""

    def encode(paths: Sequence[str]) -> Tensor:
        pixels = torch.stack([network.preprocessing.read(path) for path in paths])
        device = next(network.parameters()).device
        return network.encode(network.preprocessing.normalize(pixels.to(device)))

    return encode
