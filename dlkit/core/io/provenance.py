"""The origin of results, in a file beside theirs: model, options, version. Loads no torch.

The file of FILE is FILE.meta.json. `--resume` and `dlkit merge` compare it, `dlkit verify` repeats
the command that it has.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from dlkit.core.errors import DlkitError, os_reason
from dlkit.core.progress import log

SUFFIX = ".meta.json"
FIELDS = {"dlkit": str, "command": str, "arguments": list, "options": dict, "models": dict}


@dataclass(frozen=True)
class Provenance:
    """The version of dlkit, the command with its arguments, its options, its models.

    `options` are those that change results; `models` has the SHA-256 of each model's file, or an
    empty string where a name has no single file.
    """

    dlkit: str
    command: str
    arguments: list[str]
    options: dict[str, Any]
    models: dict[str, str]

    def differences(self, other: "Provenance") -> list[str]:
        """The models and options in which two differ, as "threshold 0.3 and 0.5"."""
        found = []
        if self.command != other.command:
            found.append(f"command {self.command!r} and {other.command!r}")
        if list(self.models.values()) != list(other.models.values()):
            found.append(f"model {names(self.models)} and {names(other.models)}")
        for name in dict.fromkeys([*self.options, *other.options]):
            one, two = self.options.get(name), other.options.get(name)
            if one != two:
                found.append(f"--{name.replace('_', '-')} {one} and {two}")
        return found


def names(models: dict[str, str]) -> str:
    """The names of models, with the beginnings of their digests."""
    return ", ".join(
        f"{name} ({digest[:8]})" if digest else name for name, digest in models.items()
    )


_describe: Callable[[], Provenance] | None = None


@contextmanager
def describing(describe: Callable[[], Provenance] | None) -> Iterator[None]:
    """Within the context of a command, `describe` returns its provenance; it is called once."""
    global _describe
    before, _describe = _describe, None if describe is None else cache(describe)
    try:
        yield
    finally:
        _describe = before


def current() -> Provenance | None:
    """The provenance of this command's results; None for a command without a model."""
    return None if _describe is None else _describe()


def file_of(results: Path) -> Path:
    """The file beside a file of results."""
    return results.parent / f"{results.name}{SUFFIX}"


def save_beside(results: Path, provenance: Provenance | None = None) -> None:
    """Write this command's provenance beside a file of results; nothing for a command without."""
    from dlkit.core.io.files import whole_file

    found = provenance or current()
    if found is not None:
        with whole_file(file_of(results)) as partial:
            partial.write_text(
                json.dumps(asdict(found), ensure_ascii=False, indent=1) + "\n",
                encoding="utf-8",
                errors="surrogateescape",
            )


def read_beside(results: Path) -> Provenance | None:
    """The provenance of a file of results; None if it has none.

    Raises DlkitError for a file that is not one of `save_beside`.
    """
    file = file_of(results)
    try:
        content = json.loads(file.read_bytes().decode("utf-8", "surrogateescape"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DlkitError(os_reason(error), file) from error
    except (ValueError, RecursionError) as error:
        raise DlkitError("not JSON; delete it to continue without it", file) from error
    if not isinstance(content, dict) or {k: type(v) for k, v in content.items()} != FIELDS:
        raise DlkitError("not the record of a command; delete it to continue without it", file)
    return Provenance(**content)


def check_beside(results: Path) -> None:
    """Raise DlkitError if the results so far are of another model or of other options."""
    known, now = read_beside(results), current()
    if known is None or now is None:
        return
    if differences := known.differences(now):
        raise DlkitError(
            f"--resume: the results so far were made with other settings: {'; '.join(differences)}",
            results,
        )
    if known.dlkit != now.dlkit:
        log(f"{results}: the results so far are of dlkit {known.dlkit}, the others of {now.dlkit}")


def common(files: Sequence[Path]) -> Provenance | None:
    """The provenance that files of results have in common; None if none of them has one.

    Raises DlkitError for two that differ.
    """
    found = [(file, provenance) for file in files if (provenance := read_beside(file)) is not None]
    for file, provenance in found[1:]:
        first, known = found[0]
        if differences := known.differences(provenance):
            raise DlkitError(f"differs from {first}: {'; '.join(differences)}", file)
    return found[0][1] if found else None
