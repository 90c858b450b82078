"""The training loop of `dlkit translate train`."""

from pathlib import Path
from typing import Any

from dlkit.core.parallel import distributed
from dlkit.core.store.checkpoint import Header
from dlkit.core.train.run import Run
from dlkit.translate import data
from dlkit.translate.config import TranslateTrainConfig
from dlkit.translate.infer import Model
from dlkit.translate.init_from import started
from dlkit.translate.loss import objective
from dlkit.translate.model import SETTINGS, build
from dlkit.translate.validation import held_out_scores

SAMPLES = 3  # translations of an epoch in samples.txt


def train(config: TranslateTrainConfig) -> Path:
    """Train a translator, and return the path of its best checkpoint."""
    config, start = started(config)
    with distributed.launch(config.device, config.seed) as process:
        pairs = data.prepared(config, start.vocabulary if start else None)
        vocabulary, validation = pairs.vocabulary, pairs.validation
        settings = start.network if start else network_settings(config, vocabulary)
        model: Any = build(config.arch, **settings)
        network = process.wrap(model)  # the same weights, with gradients averaged over processes
        described = {
            "network": settings,
            "tokenizer": vocabulary.to_settings(),
            "lower": config.lower,
            "context": config.context,
            "longest": max(map(len, pairs.training.sources)),
        }
        run = Run(config, process, model, Header("translate", config.arch, described, []))
        optimizer = run.optimizer(model)
        if config.optimizer in {"adam", "adamw"}:
            for group in optimizer.param_groups:
                group["betas"] = (0.9, config.beta2)

        for epoch in run.epochs():
            sampled = config.scheduled_sampling * epoch / max(config.epochs - 1, 1)
            batches = data.batches(pairs.training, config, process, epoch, vocabulary.pad)
            for source, lengths, target, weight in run.batches(batches):
                after = target[:, 1:]
                real = after != vocabulary.pad
                with run.autocast():
                    logits = network(source, lengths, target[:, :-1], sampled, real)
                loss = objective(logits, after[real], vocabulary.pad, config.label_smoothing)
                run.step(loss * weight, optimizer)
            scores: dict[str, float] = {}
            if len(validation):
                evaluated: Any = run.eval_model
                translator = Model(config.arch, run.header, vocabulary, evaluated)
                scores, written = held_out_scores(translator, validation, config, process)
                some = zip(validation.texts, written[:SAMPLES], strict=False)
                run.add_sample("\n".join(f"{p.source}\n= {p.target}\n> {w}" for p, w in some))
            # With nothing to validate on, the last epoch is the best.
            score = float(epoch)
            if scores:
                score = scores["bleu"] if config.select == "bleu" else -scores["val_loss"]
            run.finish_epoch(score, **scores)
    return run.best


def network_settings(config: TranslateTrainConfig, vocabulary: data.Vocabulary) -> dict[str, Any]:
    """The keyword arguments of `build()`."""
    own = {name: getattr(config, name) for name in SETTINGS[config.arch]}
    return {**vocabulary.network_settings(), **own}
