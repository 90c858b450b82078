"""Errors that the user can correct, and exit codes."""

import os
from enum import IntEnum


class ExitStatus(IntEnum):
    """The exit codes of `dlkit`."""

    OK = 0  # everything asked for was done
    FAILED_INPUTS = 1  # some inputs of a batch failed; the others are done
    USAGE = 2  # the command or its data cannot be used
    BUG = 70  # an error inside dlkit: EX_SOFTWARE of sysexits.h
    REQUEUE = 75  # may succeed when it is started again: EX_TEMPFAIL of sysexits.h
    INTERRUPTED = 130  # Ctrl-C


class DlkitError(Exception):
    """A mistake the user can correct: printed as one line: what, where, and what to do.

    `reason` describes the mistake and its correction, `path` is the file or input concerned.
    """

    def __init__(self, reason: str, path: "str | os.PathLike[str] | None" = None) -> None:
        place = "stdin" if path == "-" else path
        super().__init__(reason if place is None else f"{place}: {reason}")
        self.reason = reason
        self.path = None if path is None else str(path)

    def reason_for(self, path: "str | os.PathLike[str]") -> str:
        """The message without the path, where it is about that one."""
        return self.reason if self.path == str(path) else str(self)


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, after a line about the work that is kept."""


def os_reason(error: Exception) -> str:
    """The reason of a failure to read or write a file, for a message."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, UnicodeError):
        return "its name cannot be written in this system's encoding"
    if isinstance(error, ValueError):
        return "its name has a NUL character, which no file has"
    if isinstance(error, RuntimeError):  # of Path.resolve
        return "a link that leads to itself"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def outside_cause(error: BaseException) -> DlkitError | None:
    """The error for a cause outside dlkit: a file, its name, memory, nesting; else None."""
    if isinstance(error, DlkitError):
        return error
    if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
        name = error.filename if isinstance(error.filename, str | bytes) else None
        return DlkitError(os_reason(error), None if name is None else os.fsdecode(name))
    if isinstance(error, MemoryError):
        return DlkitError("not enough memory; give smaller inputs, or fewer at once")
    if isinstance(error, RecursionError):
        return DlkitError("an input is nested too deeply")
    if isinstance(error, ValueError) and "null byte" in str(error):
        return DlkitError("a name with a NUL character, which no file has")
    if isinstance(error, ValueError) and "has an empty name" in str(error):  # of Path.with_name
        return DlkitError("a folder where a file is needed")
    return None
