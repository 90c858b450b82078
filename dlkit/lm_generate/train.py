"""The training loops of `dlkit lm-generate train`."""

from pathlib import Path

from dlkit.core import distributed
from dlkit.core.checkpoint import Header
from dlkit.core.distributed import Process
from dlkit.core.training import Run
from dlkit.lm_generate import data
from dlkit.lm_generate.config import STREAMED, LmTrainConfig, by_arch
from dlkit.lm_generate.evaluate import held_out_scores
from dlkit.lm_generate.loss import next_token_loss
from dlkit.lm_generate.model import build, network_settings
from dlkit.lm_generate.samples import write_sample


def train(config: LmTrainConfig) -> Path:
    """Train a language model, and return the path of its best checkpoint."""
    config = by_arch(config)
    with distributed.launch(config.device, config.seed) as process:
        return train_network(config, process)


def train_network(config: LmTrainConfig, process: Process) -> Path:
    corpus = data.prepared(config, process, None)
    units = corpus.units
    settings = network_settings(config, units.size)
    model = build(config.arch, **settings)
    network = process.wrap(model)  # the same weights, with gradients averaged over processes
    described = {"network": settings, "tokenizer": units.to_settings()}
    run = Run(config, process, model, Header("lm-generate", config.arch, described, []))
    optimizer = run.optimizer(model)
    if config.optimizer in {"adam", "adamw"}:
        for group in optimizer.param_groups:
            group["betas"] = (0.9, config.beta2)
    if config.compile:
        network.compile()
    held_out = corpus.validation[: config.eval_tokens or None]

    for epoch in run.epochs():
        batches = data.batches(corpus.training, config, process, epoch)
        rows = config.batch_size // process.world_size
        state = model.start(rows, config.context) if config.arch in STREAMED else None
        for ids, targets in run.batches(batches):
            with run.autocast():
                logits = network(ids, state)
            run.step(next_token_loss(logits, targets), optimizer)
            if state is not None:
                state.detach()
        scores = {}
        if len(held_out) > 1:
            scores = held_out_scores(run.evaluated, held_out, config, process)
        # With nothing to validate on, the last epoch is the best.
        run.finish_epoch(-scores["val_loss"] if scores else float(epoch), **scores)
        if process.is_main and config.sample_tokens:
            write_sample(run.folder, epoch, run.evaluated, units, config)
    return run.best
