"""What a training goes on from: `--init-from`, or the run that is resumed."""

from dataclasses import dataclass, fields, replace
from typing import Any

from dlkit.core.checkpoint import Header, read_header
from dlkit.core.config import spelled
from dlkit.core.errors import DlkitError
from dlkit.core.weights import find
from dlkit.translate.config import TranslateTrainConfig, by_arch
from dlkit.translate.model import SETTINGS
from dlkit.translate.vocabulary import Vocabulary

# Settings that are those of the model to go on from.
ITS_OWN = ("tokenizer", "vocab_size", "lower", *sorted({n for names in SETTINGS.values()
           for n in names} - {"dropout"}))  # fmt: skip


@dataclass(frozen=True)
class Start:
    """The vocabulary and the network settings of a model to go on from."""

    vocabulary: Vocabulary
    network: dict[str, Any]


def started(config: TranslateTrainConfig) -> tuple[TranslateTrainConfig, Start | None]:
    """The settings, with all that was left open decided, and the model to go on from."""
    header = None
    last = config.out / "last.safetensors"
    if config.init_from:
        header = read_header(find("translate", config.init_from), "translate")
        config = with_its_own(config, header)
    elif config.resume and last.exists():
        header = read_header(last, "translate")
    if header is None:
        return by_arch(config), None
    try:
        vocabulary = Vocabulary.from_settings(header.settings["tokenizer"])
        network = {**header.settings["network"], "dropout": config.dropout}
    except (KeyError, TypeError) as error:
        raise DlkitError(f"{config.init_from or last}: its header has no usable {error}") from error
    return by_arch(config), Start(vocabulary, network)


def with_its_own(config: TranslateTrainConfig, header: Header) -> TranslateTrainConfig:
    """The settings, with the architecture of the model of that header."""
    defaults = {field.name: field.default for field in fields(config)}
    for name in ITS_OWN:
        if getattr(config, name) != defaults[name]:
            raise DlkitError(
                f"{spelled(name)} is that of the model {config.init_from}: leave it out"
            )
    if config.arch not in {header.arch, defaults["arch"]}:
        raise DlkitError(
            f"{config.init_from} is of --arch {header.arch}: leave --arch {config.arch} out"
        )
    own: dict[str, Any] = {"arch": header.arch}
    own |= {n: header.settings["network"][n] for n in SETTINGS[header.arch] if n != "dropout"}
    return replace(config, **own)
