"""The training loop of the neural language models."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from dlkit.core.parallel.distributed import Process
from dlkit.core.store.checkpoint import Header
from dlkit.core.train.run import Run
from dlkit.lm_generate import corpus, data
from dlkit.lm_generate.config import STREAMED, LmTrainConfig
from dlkit.lm_generate.init_from import Start
from dlkit.lm_generate.loss import objective
from dlkit.lm_generate.masking import bert_marks, t5_marks, vocab_size
from dlkit.lm_generate.model import build, network_settings
from dlkit.lm_generate.perplexity import held_out_scores
from dlkit.lm_generate.samples import write_sample
from dlkit.lm_generate.text_codec import TextCodec


def train_network(config: LmTrainConfig, process: Process, start: Start | None = None) -> Path:
    """Train a network, and return the path of its best checkpoint."""
    if process.is_main:
        corpus.prepare(config, start.vocabulary if start else None)
    process.barrier()
    text = corpus.corpus_of(config.out)
    settings = start.network if start else network_settings(config, ids_of(config, text.units))
    model: Any = build(config.arch, **settings)
    if start and start.weights:
        model.load_state_dict(start.weights)
        config = replace(config, init_from=None)
    sharded = config.parallel == "fsdp" and process.world_size > 1
    described = {"network": settings, "tokenizer": text.units.to_settings()}
    header = Header("lm-generate", config.arch, described, [])
    if sharded:
        run = Run(config, process, model, header)  # which loads the weights that are sharded then
        network = shard(model, process)
    else:
        network = process.wrap(model)  # the same weights, with gradients averaged over processes
        run = Run(config, process, model, header)
    optimizer = run.optimizer(model)
    if config.optimizer in {"adam", "adamw"}:
        for group in optimizer.param_groups:
            group["betas"] = (0.9, config.beta2)
    loss_of = objective(config.arch, text.units.tokenizer, config.next_sentence)
    stepped = torch.compile(network) if config.compile else network
    held_out = text.validation[: config.eval_tokens or None]
    has_samples = config.sample_tokens > 0 and config.arch in {*STREAMED, "gpt"}
    streams = config.batch_size // process.world_size // config.accumulate

    for epoch in run.epochs():
        states: list[Any] = [None] * config.accumulate
        if config.arch in STREAMED:
            states = [run.track(model.start(streams, config.context)) for _ in states]
        for ids, targets in run.batches(data.batches(text.training, config, process, epoch)):
            state = states[run.part]
            with run.autocast():
                loss = loss_of(stepped, ids, targets, state)
            run.step(loss, optimizer)
            if state is not None:
                state.detach()
        scores = {}
        # All processes compute a sharded network together: each sees all the text then.
        alone = Process(0, 1, process.device) if sharded else process
        if len(held_out) > 1:
            scores = held_out_scores(run.eval_model, held_out, config, loss_of, alone)
        if (process.is_main or sharded) and has_samples:
            write_sample(run, epoch, text.units, config.sample_tokens)
        # With nothing to validate on, the last epoch is the best.
        run.finish_epoch(-scores["val_loss"] if scores else float(epoch), **scores)
    return run.best


def shard(model: Any, process: Process) -> Any:
    """The gpt cut over the processes, block by block."""
    from torch.distributed.fsdp import register_fsdp_forward_method

    process.shard(model, model.blocks)
    register_fsdp_forward_method(model, "next_logits")
    model.graphs = False
    return model


def ids_of(config: LmTrainConfig, units: TextCodec) -> int:
    """How many ids the network knows: those of bert and t5 may be more than the tokenizer's."""
    if config.arch not in {"bert", "t5"}:
        return units.size
    marks = (bert_marks if config.arch == "bert" else t5_marks)(units.tokenizer)
    return vocab_size(units.tokenizer, marks)
