"""`dlkit lm-generate train`: counts n-grams, or trains a network. Counting loads no torch."""

from pathlib import Path

from dlkit.lm_generate.config import LmTrainConfig, by_arch
from dlkit.lm_generate.init_from import find_start


def train(config: LmTrainConfig) -> Path:
    """Train a language model, and return the path of its best checkpoint."""
    config, start = find_start(config) if config.init_from else (config, None)
    resolved = by_arch(config)
    if resolved.arch == "ngram":
        from dlkit.lm_generate.ngram_training import train_ngram

        return train_ngram(resolved)
    from dlkit.core.parallel import distributed
    from dlkit.lm_generate.train_network import train_network

    with distributed.launch(resolved.device, resolved.seed) as process:
        return train_network(resolved, process, start)
