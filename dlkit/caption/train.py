"""The training loop of `dlkit caption train`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from dlkit.caption import data
from dlkit.caption.config import CaptionTrainConfig
from dlkit.caption.data import CachedFeatures, Pictures, unreadable
from dlkit.caption.features import Features, features
from dlkit.caption.init_from import started
from dlkit.caption.loss import objective, reinforce
from dlkit.caption.model import SETTINGS, Captioner, build
from dlkit.caption.validation import Memories, held_out_scores
from dlkit.classify import backbones
from dlkit.core.io.files import whole_file
from dlkit.core.parallel import distributed
from dlkit.core.store.checkpoint import Header
from dlkit.core.train.run import Run
from dlkit.core.train.sampler import ignore_preemption_signals
from dlkit.core.vision.augment import jitter_color, random_affine
from dlkit.tokenize import DecoderVocabulary

SAMPLES = 3  # captions of an epoch in samples.txt
SCORES = {"cider-d": "cider_d", "bleu-4": "bleu_4", "loss": "val_loss"}


def train(config: CaptionTrainConfig) -> Path:
    """Train a captioner, and return the path of its best checkpoint."""
    config, start = started(config)
    with distributed.launch(config.device, config.seed) as process:
        found = data.prepared(config, start.vocabulary if start else None)
        vocabulary, skipped = found.vocabulary, found.skipped
        trained: backbones.Backbone | None = None
        if start:
            settings = start.network
        else:
            settings, trained = network_settings(config, vocabulary)
        model: Any = build(config.arch, **settings)
        if trained is not None:
            model.encoder.load_state_dict(trained.state_dict())
        longest = max(len(ids) - 1 for ids in found.training.ids)
        described = {
            "network": settings,
            "tokenizer": vocabulary.to_settings(),
            "raw": config.raw,
            "longest": longest,
        }
        model.to(process.device)
        run = Run(config, process, model, Header("caption", config.arch, described, []))
        tuned_from = config.epochs  # the first epoch that also trains the encoder
        if config.finetune_encoder_after is not None:
            tuned_from = config.finetune_encoder_after
        elif model.encoder is not None:
            model.encoder.requires_grad_(False)
        optimizer = run.optimizer(model, slower=model.encoder, share=config.encoder_lr)

        paths = [*found.training.paths, *found.validation.paths]
        kept: Features | None = None
        if run.epoch < tuned_from:
            file = config.features or run.folder / "features.safetensors"
            kept = features(file, model, encoder_name(config), paths, process, config.workers)
        bad = kept.unreadable if kept else unreadable(paths, model.preprocessing, config.workers)
        for path, why in bad.items():
            skipped.add("unreadable image", f"{path} ({why})")
        skipped.report()
        if skipped.places and process.is_main:
            with whole_file(run.folder / "skipped.txt") as partial:
                partial.write_text("\n".join(skipped.lines()) + "\n")
        training, validation = found.training.without(bad), found.validation.without(bad)

        network: Any = None
        for epoch in run.epochs():
            frozen = kept if epoch < tuned_from else None
            of_epoch = (config, process, epoch, vocabulary.pad)
            batches: DataLoader[list[Tensor]]
            if frozen is not None:
                batches = DataLoader(CachedFeatures(training, frozen, *of_epoch), None)
            else:
                pictures = Pictures(training, model.preprocessing, *of_epoch)
                batches = DataLoader(
                    pictures,
                    None,
                    num_workers=config.workers,
                    worker_init_fn=ignore_preemption_signals,
                )
            if network is None or epoch == tuned_from:
                if model.encoder is not None:
                    model.encoder.requires_grad_(frozen is None)
                # The same weights, with gradients averaged over processes.
                network = process.wrap(model)
            for seen, target, weight, *owners in run.batches(batches):
                if frozen is None:
                    seen = model.preprocessing.normalize(augmented(seen, config))
                after = target[:, 1:]
                real = after != vocabulary.pad
                with run.autocast():
                    foretold = network(seen, target[:, :-1], real, *owners)
                loss = objective(foretold, after, real, config.label_smoothing, config.penalty)
                if foretold.chosen is not None:
                    learned, baseline = reinforce(foretold, after, real, model.baseline)
                    model.baseline.copy_(baseline)
                    loss = loss + learned
                run.step(loss * weight, optimizer)
            scores: dict[str, float] = {}
            if len(validation):
                evaluated: Any = run.eval_model
                memories = frozen.of if frozen is not None else encoding(evaluated)
                scores, written = held_out_scores(
                    evaluated, vocabulary, validation, memories, longest, config, process
                )
                some = zip(validation.samples, written[:SAMPLES], strict=False)
                run.add_sample("\n".join(f"{s.path}\n= {s.captions[0]}\n> {w}" for s, w in some))
            # With nothing to validate on, the last epoch is the best.
            score = float(epoch)
            if scores:
                score = scores[SCORES[config.select]] * (-1 if config.select == "loss" else 1)
            run.finish_epoch(score, **scores)
    return run.best


def augmented(images: Tensor, config: CaptionTrainConfig) -> Tensor:
    """Images (B, 3, S, S) of values to 255, zoomed and recolored at random."""
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
    """What the file of features calls the encoder."""
    return f"--patch {config.patch}" if config.patch else config.init_from or config.backbone


def encoding(network: Captioner) -> Memories:
    """Memories by the encoder as it is now, of images read from their files."""

    def memories(paths: Sequence[str]) -> Tensor:
        pixels = torch.stack([network.preprocessing.read(path) for path in paths])
        device = next(network.parameters()).device
        return network.encode(network.preprocessing.normalize(pixels.to(device)))

    return memories
