"""The training loop of `dlkit translate train`."""

from pathlib import Path
from typing import Any

from dlkit.core.io.files import save_ledgers
from dlkit.core.parallel import distributed
from dlkit.core.store.checkpoint import Header
from dlkit.core.train.epoch_log import BestMetric
from dlkit.core.train.init_from import find_start
from dlkit.core.train.run import Run
from dlkit.translate import data
from dlkit.translate.config import FIXED, TranslateTrainConfig, by_arch
from dlkit.translate.infer import Predictor
from dlkit.translate.loss import smoothed_cross_entropy
from dlkit.translate.model import SETTINGS, TranslatorSettings, build
from dlkit.translate.validation import validation_scores
from dlkit.translate.vocabulary import TranslationVocabulary

SAMPLES = 3  # translations of an epoch in samples.txt
METRICS = {
    "bleu": BestMetric("bleu"),
    "loss": BestMetric("val_loss", lower=True),
}  # by --best-metric


def train(config: TranslateTrainConfig) -> Path:
    """Train a translator, and return the path of its best checkpoint."""
    read_vocabulary = TranslationVocabulary.from_settings
    config, start = find_start(
        config, "translate", SETTINGS, read_vocabulary, config.dropout, FIXED, ("lower",)
    )
    config = by_arch(config)
    with distributed.launch(config.device, config.seed) as process:
        loaded = data.load_data(config, start.vocabulary if start else None)
        vocabulary, validation = loaded.vocabulary, loaded.validation
        settings = start.network if start else network_settings(config, vocabulary)
        model: Any = build(config.arch, **settings)
        network = process.wrap(model)  # the same weights, with gradients averaged over processes
        header_settings: TranslatorSettings = {
            "network": settings,
            "tokenizer": vocabulary.to_settings(),
            "lower": config.lower,
            "context": config.context,
            "longest": max(map(len, loaded.training.sources)),
        }
        run = Run(config, process, model, Header("translate", config.arch, header_settings, []))
        save_ledgers(run.folder, *loaded.ledgers)
        optimizer = run.optimizer(model)
        if config.optimizer in {"adam", "adamw"}:
            for group in optimizer.param_groups:
                group["betas"] = (0.9, config.beta2)

        for epoch in run.epochs(METRICS[config.best_metric] if len(validation) else None):
            sampling_share = config.scheduled_sampling * epoch / max(config.epochs - 1, 1)
            batches = data.batch_loader(loaded.training, config, process, epoch, vocabulary.pad)
            for source, lengths, target, weight in run.batches(batches):
                labels = target[:, 1:]
                real = labels != vocabulary.pad
                with run.autocast():
                    logits = network(source, lengths, target[:, :-1], sampling_share, real)
                loss = smoothed_cross_entropy(
                    logits, labels[real], vocabulary.pad, config.label_smoothing
                )
                run.step(loss * weight, optimizer)
            scores: dict[str, float] = {}
            if len(validation):
                evaluated: Any = run.eval_model
                predictor = Predictor(config.arch, run.header, vocabulary, evaluated)
                scores, translations = validation_scores(predictor, validation, config, process)
                some = zip(validation.texts, translations[:SAMPLES], strict=False)
                run.add_sample("\n".join(f"{p.source}\n= {p.target}\n> {t}" for p, t in some))
            run.finish_epoch(**scores)
    return run.best


def network_settings(
    config: TranslateTrainConfig, vocabulary: TranslationVocabulary
) -> dict[str, Any]:
    """The keyword arguments of `build()`."""
    own = {name: getattr(config, name) for name in SETTINGS[config.arch]}
    return {**vocabulary.network_settings(), **own}
