"""What a training goes on from: `--init-from`, or the run that is resumed."""

from dataclasses import replace
from typing import Any

from dlkit.core.train.init_from import Start, source_of
from dlkit.translate.config import TranslateTrainConfig, by_arch
from dlkit.translate.model import SETTINGS
from dlkit.translate.vocabulary import Vocabulary

# Settings that are those of the model to go on from.
ITS_OWN = ("tokenizer", "vocab_size", "lower", *sorted({n for names in SETTINGS.values()
           for n in names} - {"dropout"}))  # fmt: skip


def started(
    config: TranslateTrainConfig,
) -> tuple[TranslateTrainConfig, Start[Vocabulary] | None]:
    """The settings, with all that was left open decided, and the model to go on from."""
    source = source_of(config, "translate")
    if source is None:
        return by_arch(config), None
    start = source.start(config.dropout, Vocabulary.from_settings)
    if config.init_from:
        source.check_no_conflict(config, ITS_OWN)
        own: dict[str, Any] = {"arch": source.header.arch}
        own |= {name: start.network[name] for name in SETTINGS[source.header.arch]}
        config = replace(config, **own)
    return by_arch(config), start
