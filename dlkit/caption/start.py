"""What a training goes on from: `--init-from`, or the run that is resumed."""

from dataclasses import dataclass, fields, replace
from typing import Any

from dlkit.caption.config import CaptionTrainConfig, by_arch
from dlkit.caption.model import SETTINGS
from dlkit.core.checkpoint import Header, read_header
from dlkit.core.config import spelled
from dlkit.core.errors import DlkitError
from dlkit.core.weights import find
from dlkit.tokenize import Vocabulary

# Settings that are those of the model to go on from.
ITS_OWN = ("backbone", "image_size", "fit", "grid", "patch", "tokenizer", "vocab_size", "raw",
           *sorted({n for names in SETTINGS.values() for n in names} - {"dropout"}))  # fmt: skip
OF_ENCODER = ("image_size", "fit", "grid", "patch")


@dataclass(frozen=True)
class Start:
    """The vocabulary and the network settings of a model to go on from."""

    vocabulary: Vocabulary
    network: dict[str, Any]


def started(config: CaptionTrainConfig) -> tuple[CaptionTrainConfig, Start | None]:
    """The settings, with all that was left open decided, and the model to go on from."""
    header = None
    last = config.out / "last.safetensors"
    if config.init_from:
        header = read_header(find("caption", config.init_from), "caption")
        config = with_its_own(config, header)
    elif config.resume and last.exists():
        header = read_header(last, "caption")
    config = by_arch(config)
    if header is None:
        return config, None
    try:
        vocabulary = Vocabulary.from_settings(header.settings["tokenizer"])
        network = {**header.settings["network"], "dropout": config.dropout}
    except (KeyError, TypeError) as error:
        raise DlkitError(f"{config.init_from or last}: its header has no usable {error}") from error
    return config, Start(vocabulary, network)


def with_its_own(config: CaptionTrainConfig, header: Header) -> CaptionTrainConfig:
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
    network = header.settings["network"]
    own: dict[str, Any] = {"arch": header.arch, "raw": bool(header.settings.get("raw"))}
    own |= {name: network[name] for name in SETTINGS[header.arch] if name != "dropout"}
    own |= {name: network[name] for name in OF_ENCODER if name in network}
    return replace(config, **own)
