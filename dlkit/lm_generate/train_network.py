"""The training loop of the neural language models."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dlkit.core.parallel import device
from dlkit.core.parallel.distributed import Process
from dlkit.core.store.checkpoint import Header, TextModelSettings
from dlkit.core.train.epoch_log import BestMetric
from dlkit.core.train.run import Run
from dlkit.lm_generate import corpus
from dlkit.lm_generate.config import ResolvedConfig
from dlkit.lm_generate.init_from import Start
from dlkit.lm_generate.model import architecture
from dlkit.lm_generate.neural import NeuralLM
from dlkit.lm_generate.samples import write_sample

BEST_METRIC = BestMetric("val_loss", lower=True)


def train_network(config: ResolvedConfig, process: Process, start: Start | None = None) -> Path:
    """Train a network, and return the path of its best checkpoint."""
    if process.is_main:
        corpus.prepare(config, start.vocabulary if start else None)
    process.barrier()
    text = corpus.open_corpus(config.out)
    arch = architecture(config.arch)
    settings = start.network if start else arch.settings(config, arch.kind.vocab_size(text.codec))
    network: Any = arch.network(**settings)
    if start and start.weights:
        network.load_state_dict(start.weights)
        config = replace(config, init_from=None)
    sharded = config.parallel == "fsdp" and process.world_size > 1
    described: TextModelSettings = {"network": settings, "tokenizer": text.codec.to_settings()}
    special = start.special if start else {}
    header = Header("lm-generate", config.arch, {**described, **special}, [])
    text.codec.read_special(special)
    if sharded:
        run = Run(config, process, network, header)  # loads the weights before they are sharded
        wrapped = shard(network, process)
    else:
        wrapped = process.wrap(network)  # the same weights, with gradients averaged over processes
        run = Run(config, process, network, header)
    model = arch.kind(str(run.folder), run.header, text.codec, network)
    optimizer = run.optimizer(network)
    if config.optimizer in {"adam", "adamw"}:
        for group in optimizer.param_groups:
            group["betas"] = (0.9, config.beta2)
    objective = model.objective(text.codec, config.next_sentence)
    compiled = torch.compile(wrapped) if config.compile else wrapped
    held_out = text.validation[: config.eval_tokens or None]

    for epoch in run.epochs(BEST_METRIC if len(held_out) > 1 else None):
        states = [model.training_state(config, process) for _ in range(config.accumulate)]
        states = [None if state is None else run.track(state) for state in states]
        for ids, targets in run.batches(model.batches(text.training, config, process, epoch)):
            state = states[run.part]
            with run.autocast():
                loss = objective(compiled, ids, targets, state)
            run.step(loss, optimizer)
            if state is not None:
                state.detach()
        scores = {}
        # All processes compute a sharded network together: each then evaluates the whole text.
        evaluating = Process(0, 1, process.device) if sharded else process
        if len(held_out) > 1:
            average = replace(model, network=run.eval_model)
            scores = held_out_scores(average, held_out, config, evaluating)
        if (process.is_main or sharded) and model.writes_samples and config.sample_tokens:
            write_sample(run, epoch, model, config.sample_tokens)
        run.finish_epoch(**scores)
    return run.best


def held_out_scores(
    model: NeuralLM, ids: np.ndarray, config: ResolvedConfig, process: Process
) -> dict[str, float]:
    """Loss in nats per token and perplexity on held-out ids (N)."""
    model.network.eval()
    with torch.inference_mode(), device.autocast(process.device, config.precision):
        losses = model.validation_losses(ids, config, process)
    loss = float(losses.mean())
    return {"val_loss": loss, "perplexity": math.exp(min(loss, 700))}


def shard(network: Any, process: Process) -> Any:
    """Shard a gpt over the processes, block by block."""
    from torch.distributed.fsdp import register_fsdp_forward_method

    process.shard(network, network.blocks)
    register_fsdp_forward_method(network, "next_logits")
    network.graphs = False
    return network
