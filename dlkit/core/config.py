"""Settings of training: a dataclass field is an option, its help, and a line in the checkpoint.

Loads no torch: the command line is built from these classes.
"""

import os
from collections.abc import Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from dlkit.core.errors import DlkitError

ALLOW_SKIPPED = 0.05  # largest share of a split's samples or annotations that may be skipped
ALLOW_SKIPPED_ROWS = 0.01  # largest share of the rows of a CSV, of JSON lines or of texts
C = TypeVar("C", bound=Any)
Precision = Literal["auto", "fp32", "bf16", "fp16"]
Optimizer = Literal[
    "sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adadelta", "adam", "adamw"
]
Schedule = Literal["cosine", "linear", "step", "one-cycle", "plateau", "inverse-sqrt", "constant"]


def option(default: Any, help: str, **limits: Any) -> Any:
    """A dataclass field that becomes `--name`; `limits` are Typer's, such as min and max.

    `group` is its group on the help page; a redeclared field stays in its group without it.
    """
    return field(default=default, metadata={"help": help, **limits})


def group_of(config: type[Any], name: str) -> str | None:
    """The group of a setting on the help page: its own, or that of the field it redeclares."""
    declared = (getattr(kind, "__dataclass_fields__", {}).get(name) for kind in config.__mro__)
    groups = (setting.metadata.get("group") for setting in declared if setting is not None)
    return next((group for group in groups if group is not None), None)


def settings_of(config: Any) -> dict[str, Any]:
    """The settings of a config as JSON values, for a checkpoint's header."""
    return {k: str(v) if isinstance(v, os.PathLike) else v for k, v in asdict(config).items()}


def non_defaults(config: Any) -> list[str]:
    """The names of the settings that are not at their defaults, in their order."""
    return [f.name for f in fields(config) if getattr(config, f.name) != f.default]


def option_name(name: str) -> str:
    """The command-line option of a setting."""
    return f"--{name.replace('_', '-')}"


def given_option(config: Any, name: str) -> str:
    """The option with which a setting was given: `--no-x` where it turns a default off."""
    return option_name(f"no_{name}" if getattr(config, name) is False else name)


def split_names(given: Sequence[str], known: Sequence[str]) -> list[str]:
    """The names in texts such as "cat,dog": known ones first, which may hold commas themselves.

    Of several readings the one with the longest known names is taken. Parts that are no known name
    are names of their own.
    """
    names = []
    for text in given:
        parts = text.split(",")
        start = 0
        while start < len(parts):
            ends = range(len(parts), start, -1)
            readings = ((end, ",".join(parts[start:end]).strip()) for end in ends)
            fallback = start + 1, parts[start].strip()
            start, name = next((found for found in readings if found[1] in known), fallback)
            names.append(name)
    return names


def refuse_unused(config: Any, own: dict[str, tuple[str, ...]], by: str = "arch") -> None:
    """Raise DlkitError for an option that is given and that `--arch` does not have.

    `own` lists the architectures of each option that is not for all; `by` is their setting.
    """
    for name in sorted(set(non_defaults(config)) & own.keys()):
        if getattr(config, by) not in own[name]:
            raise DlkitError(
                f"{given_option(config, name)} is for {', '.join(own[name])}, not"
                f" {getattr(config, by)}"
            )


def with_defaults(config: C, defaults: dict[str, Any]) -> C:
    """The settings, with these defaults of its architecture where they are None."""
    missing = {name: value for name, value in defaults.items() if getattr(config, name) is None}
    return replace(config, **missing)


def argument(help: str, default: Any = MISSING, **limits: Any) -> Any:
    """A dataclass field that becomes a positional argument; with a default it is optional."""
    return field(default=default, metadata={"help": help, "positional": True, **limits})


@dataclass(kw_only=True)
class TrainConfig:
    """The settings of every training; a task overrides a default by redeclaring the field."""

    data: Path = argument(
        "Folder of training data; `dlkit docs TASK` has the layouts.", group="Data"
    )
    out: Path = option(
        Path("run"),
        "Folder for the checkpoints and log of this run.",
        group="Run and cluster",
    )
    init_from: str | None = option(
        None, "Start from the weights of this model (name, file or URL).", group="Architecture"
    )
    epochs: int = option(100, "Passes over the training data.", min=1, group="Optimization")
    batch_size: int = option(
        16, "Samples of one step, over all processes together.", min=1, group="Optimization"
    )
    optimizer: Optimizer = option(
        "adamw", "momentum and nesterov are sgd with momentum 0.9.", group="Optimization"
    )
    lr: float = option(1e-3, "Learning rate after warm-up.", min=0, group="Optimization")
    schedule: Schedule = option(
        "cosine",
        "How the learning rate changes after warm-up. step: a tenth after half of the epochs and"
        " again after three quarters; one-cycle: up for 30 % of them, then down; plateau: a tenth"
        " after 5 epochs without a better score; inverse-sqrt: divided by the square root of the"
        " epochs done.",
        group="Optimization",
    )
    warmup: float = option(
        1.0, "Epochs over which the learning rate rises from zero.", min=0, group="Optimization"
    )
    weight_decay: float = option(
        0.05, "Weight decay; biases and norms have none.", min=0, group="Optimization"
    )
    bias_lr: float = option(
        1.0,
        "Learning rate of biases and norms, as a multiple of --lr.",
        min=0,
        group="Optimization",
    )
    clip_grad: float = option(
        10.0, "Largest norm of the gradient; 0 for no limit.", min=0, group="Optimization"
    )
    ema: float = option(
        0.0,
        "Decay of the moving average of the weights; 0 for none.",
        min=0,
        max=1,
        group="Optimization",
    )
    lookahead: int = option(
        0,
        "Steps after which the weights return to their moving average, whose decay grows to 0.77;"
        " 0: never.",
        min=0,
        group="Optimization",
    )
    swa_epochs: int = option(
        0,
        "Evaluate and save the mean of the weights after each of the last epochs.",
        min=0,
        group="Optimization",
    )
    accumulate: int = option(
        1,
        "Parts in which each process computes its share of a batch, to save memory.",
        min=1,
        group="Optimization",
    )
    patience: int = option(
        0,
        "Stop after this many epochs without a better score (or val_loss, if equal); 0: never.",
        min=0,
        group="Validation",
    )
    seed: int = option(0, "Seed of weights, order and augmentation.", group="Run and cluster")
    workers: int = option(
        2, "Processes that prepare batches; 0: none.", min=0, group="Run and cluster"
    )
    device: str = option("auto", "auto, cpu, cuda, cuda:1, mps.", group="Run and cluster")
    precision: Precision = option(
        "auto", "auto: bf16 where the hardware is fast at it, else fp32.", group="Run and cluster"
    )
    save_every: int = option(
        0,
        "Steps after which the state is saved within an epoch; 0: as often as that takes 1 % of the"
        " time, every minute at most.",
        min=0,
        group="Run and cluster",
    )
    resume: bool = option(
        False,
        "Continue the run in --out, if there is one.",
        group="Run and cluster",
    )


@dataclass(kw_only=True)
class SkipSettings:
    """Limits of skipping: settings of trainings that read samples."""

    allow_skipped: float | None = option(
        None,
        "Largest share that may be skipped of samples and annotations (0.05), and of rows of CSV,"
        " of JSON lines and of texts (0.01).",
        min=0,
        max=1,
        group="Data",
    )
    strict: bool = option(
        False, "Fail if anything is skipped, as with --allow-skipped 0.", group="Data"
    )

    @property
    def allowed(self) -> float:
        """The largest share of samples and annotations that may be skipped."""
        return allowed_share(self.allow_skipped, self.strict)

    @property
    def allowed_rows(self) -> float:
        """The largest share of rows that may be skipped."""
        return allowed_share(self.allow_skipped, self.strict, ALLOW_SKIPPED_ROWS)


@dataclass(kw_only=True)
class SplitSettings:
    """The draw of a val split that the data lack: settings of trainings on samples."""

    val_share: float = option(
        0.1,
        "Share of the training data to validate on if the data have no val split.",
        min=0,
        max=0.9,
        group="Validation",
    )
    group_by: str | None = option(
        None,
        "Regular expression of a part of the files' paths: files that agree in it are not"
        " separated when a val split is drawn.",
        group="Validation",
    )


def allowed_share(
    allow_skipped: float | None, strict: bool = False, default: float = ALLOW_SKIPPED
) -> float:
    """The share that `--allow-skipped` and `--strict` allow."""
    if strict:
        return 0.0
    return default if allow_skipped is None else allow_skipped
