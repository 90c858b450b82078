"""Learning-rate schedules: the rate is a function of the position in the run. Loads no torch."""

import math

from dlkit.core.config import TrainConfig
from dlkit.core.errors import DlkitError

PLATEAU_EPOCHS = 5  # without a better score, after which `plateau` lowers the rate


def check_schedule(config: TrainConfig) -> None:
    """Raise DlkitError for settings that give no rate."""
    if config.schedule == "inverse-sqrt" and not config.warmup:
        raise DlkitError("--schedule inverse-sqrt falls from the end of --warmup; give it epochs")


def rate(config: TrainConfig, position: float, decays: int = 0) -> float:
    """The learning rate as a share of `--lr`: linear warm-up, then the schedule.

    `position` counts epochs, with the part of this one; `decays` are those of `plateau` so far.
    """
    if config.schedule == "one-cycle":
        return one_cycle(position / config.epochs)
    if position < config.warmup:
        return max(position, 1e-3) / config.warmup  # the first step moves, too
    if config.schedule == "inverse-sqrt":  # Vaswani et al. 2017, section 5.3
        return math.sqrt(config.warmup / position)
    done = (position - config.warmup) / max(config.epochs - config.warmup, 1e-9)
    if config.schedule == "cosine":
        return 0.01 + 0.99 * (1 + math.cos(math.pi * min(done, 1))) / 2
    if config.schedule == "linear":
        return 1 - 0.99 * min(done, 1)
    if config.schedule == "step":
        return 0.1 ** ((done >= 0.5) + (done >= 0.75))
    return 0.1**decays if config.schedule == "plateau" else 1.0


def changed_length(before: TrainConfig, now: TrainConfig, position: float, decays: int = 0) -> str:
    """The line about the rates of a run that is resumed at `position` with other `--epochs`."""
    old, new = (config.lr * rate(config, position, decays) for config in (before, now))
    line = f"{now.schedule} over {now.epochs} epochs instead of {before.epochs}: the rate"
    if now.schedule in {"constant", "plateau", "inverse-sqrt"}:
        return f"{line} does not depend on their number"
    falls = {"step": "falls at their half and three quarters"}.get(now.schedule, "falls again")
    if math.isclose(old, new, rel_tol=1e-3):
        change = f"continues at {new:.2g}"
    elif new > old:
        change = f"rises from {old:.2g} to {new:.2g} and {falls}"
    else:
        change = f"falls from {old:.2g} to {new:.2g}"
    return f"{line} {change}; a run of {now.epochs} epochs from the start ends with other weights"


def one_cycle(done: float) -> float:
    """The rate after a share `done` of the run, as a share of the highest (Smith and Topin 2019).

    It rises linearly from a 25th over 30 % of the run and falls linearly to a ten-thousandth.
    """
    if done < 0.3:
        return 0.04 + 0.96 * done / 0.3
    return 1e-4 + (1 - 1e-4) * (1 - done) / 0.7
