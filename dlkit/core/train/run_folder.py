"""A run's folder: its models, its state, its log. Loads no torch.

It holds `best.safetensors` and `last.safetensors` (usable models, with the moving average of the
weights if there is one), `last.state.pt` (everything that resuming needs, in one file, so that a
kill between two writes cannot mix two epochs), `log.jsonl` and `curves.png`; runs of models that
write texts also have `samples.txt`.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from dlkit.core.config import option_name, settings_of
from dlkit.core.environment import command_line, is_main_process, world_size
from dlkit.core.errors import DlkitError
from dlkit.core.io.files import exists, whole_file
from dlkit.core.store import schema
from dlkit.core.store.renamed import upgrade_record, upgrade_settings

# The files of a training that are for people, as its last lines list them.
SHOWN = (
    "best.safetensors", "best.arpa", "last.safetensors", "log.jsonl", "curves.png", "examples.png",
    "examples", "samples", "samples.txt", "templates.png", "skipped.csv",
)  # fmt: skip


def command_card() -> dict[str, str]:
    """The entry of a model card with the command that trained the model; none for Python's."""
    command = command_line()
    return {} if command is None else {"command": command}


def continue_with(resume: bool = True) -> str:
    """The command that starts this training again, with --resume if it has a state."""
    command = command_line()
    if command is None:
        return "the same call" + " and resume=True" * resume
    if world_size() > 1:  # torchrun's or srun's own arguments are not known here
        return "the same command" + " and --resume" * resume
    return command if not resume or "--resume" in command else f"{command} --resume"


def is_part() -> bool:
    """Whether the training is a part of a command that cannot be resumed: cross-validation."""
    command = command_line()
    return command is not None and command.split()[2:3] != ["train"]


def resumable(folder: Path) -> bool:
    """Whether the folder holds the state of a run."""
    return any(RunFolder(folder, name).state.exists() for name in ("last.state.pt", "last.state"))


class RunFolder:
    """The folder of `--out`: paths, log and samples of a run, and what refuses to overwrite it."""

    def __init__(self, folder: Path, state_name: str = "last.state.pt") -> None:
        self.path = Path(folder)
        self.best = self.path / "best.safetensors"
        self.last = self.path / "last.safetensors"
        self.state = self.path / state_name
        self.log = self.path / "log.jsonl"

    def check_free(self, resume: bool | None = None) -> None:
        """Raise DlkitError if the folder holds a run; `resume` None: the run cannot be resumed."""
        if resume or not (exists(self.state) or exists(self.best)):
            return
        advice = "" if resume is None else "add --resume to continue it, or "
        raise DlkitError(f"holds a run already; {advice}give another --out", self.path)

    def check_settings(
        self, config: Any, saved: Mapping[str, Any], task: str, may_change: Collection[str]
    ) -> None:
        """Raise DlkitError if the run to resume was started with other settings.

        `saved` are the settings in its state; those that `may_change` are not compared.
        """
        now = settings_of(config)
        # A setting that did not exist then had the value that is its default now.
        before = {field.name: field.default for field in fields(config)}
        before |= upgrade_settings(dict(saved), task)
        changed = [
            f"{option_name(name)} {before.get(name)}"
            for name in now
            if before.get(name) != now[name] and name not in may_change
        ]
        if changed:
            settings = " ".join(changed)
            raise DlkitError(f"was started with {settings}; resume it with the same", self.path)

    def written(self) -> list[str]:
        """The names of the files that this run has for people."""
        return [name for name in SHOWN if exists(self.path / name)]

    def upgrade_log(self, task: str, epochs: int) -> None:
        """Give the records of the first `epochs`, if they are of an older dlkit, today's names."""
        if not exists(self.log) or not is_main_process():
            return
        with schema.contents(self.log, "damaged; remove it, or give another --out"):
            lines = self.log.read_text().splitlines()
            records = [schema.fit(dict[str, Any], json.loads(line)) for line in lines[:epochs]]
            upgraded = [json.dumps(upgrade_record(record, task)) for record in records]
        if upgraded != lines[:epochs]:
            with whole_file(self.log) as partial:
                partial.write_text("".join(f"{line}\n" for line in upgraded))

    def write_log(self, record: Mapping[str, Any], epoch: int) -> None:
        """Write the record of an epoch (from 1) as its line of log.jsonl.

        After a kill between two writes, the log may be an epoch ahead of the state.
        """
        before = self.log.read_text().splitlines()[: epoch - 1] if epoch > 1 else []
        with whole_file(self.log) as partial:
            partial.write_text("".join(f"{line}\n" for line in [*before, json.dumps(record)]))

    def read_log(self) -> list[dict[str, Any]]:
        """The records of all epochs in log.jsonl; none if there is no log."""
        if not exists(self.log):
            return []
        with schema.contents(self.log, "damaged; remove it, or give another --out"):
            lines = self.log.read_text().splitlines()
            return [schema.fit(dict[str, Any], json.loads(line)) for line in lines]

    def add_sample(self, text: str, epoch: int) -> None:
        """Add text that the model generated after an epoch (from 1) to samples.txt."""
        path = self.path / "samples.txt"
        before = path.read_text(encoding="utf-8") if exists(path) else ""
        rule = f"{'-' * 20} epoch {epoch}\n"
        # After a kill, there may be one of an epoch that is trained again.
        before = before.partition(rule)[0]
        with whole_file(path) as partial:
            partial.write_text(f"{before}{rule}{text}\n", encoding="utf-8")
