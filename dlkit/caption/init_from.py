"""What a training goes on from: `--init-from`, or the run that is resumed."""

from dataclasses import replace
from typing import Any

from dlkit.caption.config import CaptionTrainConfig, by_arch
from dlkit.caption.model import SETTINGS
from dlkit.core.train.init_from import Start, source_of
from dlkit.tokenize import DecoderVocabulary

# Settings that are those of the model to go on from.
ITS_OWN = ("backbone", "image_size", "fit", "grid", "patch", "tokenizer", "vocab_size", "raw",
           *sorted({n for names in SETTINGS.values() for n in names} - {"dropout"}))  # fmt: skip
OF_ENCODER = ("image_size", "fit", "grid", "patch")


def started(
    config: CaptionTrainConfig,
) -> tuple[CaptionTrainConfig, Start[DecoderVocabulary] | None]:
    """The settings, with all that was left open decided, and the model to go on from."""
    source = source_of(config, "caption")
    if source is None:
        return by_arch(config), None
    start = source.start(config.dropout, DecoderVocabulary.from_settings)
    if config.init_from:
        source.check_no_conflict(config, ITS_OWN)
        header, network = source.header, start.network
        own: dict[str, Any] = {"arch": header.arch, "raw": bool(header.settings.get("raw"))}
        own |= {name: network[name] for name in SETTINGS[header.arch]}
        own |= {name: network[name] for name in OF_ENCODER if name in network}
        config = replace(config, **own)
    return by_arch(config), start
