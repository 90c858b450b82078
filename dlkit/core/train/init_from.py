"""The model that training starts from: that of `--init-from`, or of the run that is resumed.

Loads no torch.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from dlkit.core.config import TrainConfig, given_option, non_defaults
from dlkit.core.errors import DlkitError
from dlkit.core.io.files import exists
from dlkit.core.store.checkpoint import Header, read_header, text_model_settings
from dlkit.core.store.weights import find

C = TypeVar("C", bound=TrainConfig)
V = TypeVar("V")


@dataclass(frozen=True)
class Start(Generic[V]):
    """The vocabulary and the network settings of the model that training starts from."""

    vocabulary: V
    network: dict[str, Any]


@dataclass(frozen=True)
class Source:
    """The model that training starts from, under the user's name for it."""

    name: str
    header: Header

    def check_no_conflict(self, config: Any, names: Sequence[str]) -> None:
        """Raise DlkitError if one of these settings, or another `--arch`, is given as well."""
        changed = non_defaults(config)
        for name in names:
            if name in changed:
                raise DlkitError(
                    f"{given_option(config, name)} comes from the model {self.name}; do not give it"
                )
        if "arch" in changed and config.arch != self.header.arch:
            raise DlkitError(
                f"{self.name} has --arch {self.header.arch}; do not give --arch {config.arch}"
            )

    def start(self, dropout: float, read: Callable[[Any], V]) -> Start[V]:
        """Its tokenizer, by `read`, and its network settings with another dropout."""
        try:
            settings = text_model_settings(self.header)
            vocabulary = read(settings["tokenizer"])
            return Start(vocabulary, {**settings["network"], "dropout": dropout})
        except DlkitError as error:
            raise DlkitError(str(error), self.name) from error


def source_of(config: TrainConfig, task: str) -> Source | None:
    """The model that `--init-from` names, or else that of the run that is resumed."""
    if config.init_from:
        return Source(config.init_from, read_header(find(task, config.init_from), task))
    last = config.out / "last.safetensors"
    if config.resume and exists(last):
        return Source(str(last), read_header(last, task))
    return None


def find_start(
    config: C,
    task: str,
    arch_settings: Mapping[str, Sequence[str]],
    read_vocabulary: Callable[[Any], V],
    dropout: float,
    fixed: Sequence[str] = (),
    inherited: Sequence[str] = (),
) -> tuple[C, Start[V] | None]:
    """The model that a text model's training starts from, and `config` with its settings.

    `arch_settings` names the network settings of each architecture. These, but for the dropout,
    and the `fixed` ones cannot be given beside `--init-from`; they and the `inherited` ones come
    from the model's header. Raises DlkitError for an option that contradicts the model.
    """
    source = source_of(config, task)
    if source is None:
        return config, None
    start = source.start(dropout, read_vocabulary)
    if config.init_from:
        names = {name for names in arch_settings.values() for name in names} - {"dropout"}
        source.check_no_conflict(config, [*fixed, *sorted(names)])
        stored = {**source.header.settings, **start.network}
        if source.header.arch not in arch_settings:
            raise DlkitError(f"unknown architecture {source.header.arch!r}", source.name)
        taken = [*arch_settings[source.header.arch], *(n for n in inherited if n in stored)]
        if missing := [name for name in taken if name not in stored]:
            raise DlkitError(f"its header has no setting {missing[0]!r}", source.name)
        own = {"arch": source.header.arch} | {name: stored[name] for name in taken}
        config = replace(config, **own)
    return config, start
