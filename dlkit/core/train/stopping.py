"""Signals that ask a training to end: Ctrl-C, and those that schedulers send. Loads no torch."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

from dlkit.core.environment import STOP_SIGNALS, world_size
from dlkit.core.errors import ExitStatus, Interrupted
from dlkit.core.io.files import exists
from dlkit.core.progress import Bar, log
from dlkit.core.train.run_folder import RunFolder, continue_with, is_part

FORWARDED = 5.0  # seconds in which torchrun forwards a Ctrl-C that its processes also get


class StopSignals:
    """The signals that a training has received, on which it acts where it can save its state.

    A second Ctrl-C ends it at once, with the state that was saved before.
    """

    def __init__(self, files: RunFolder) -> None:
        self.files = files
        self.received = 0
        self.received_at = 0.0
        self.saved = ""  # the place of the latest saved state, as "after epoch 2 and 30 steps"
        self.waits_for = ""  # printed at Ctrl-C where it takes a while until the state is saved

    @contextmanager
    def handlers(self) -> Iterator[None]:
        """Note the signals within the context."""
        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread can set handlers
            return
        before = {number: signal.signal(number, self.note) for number in STOP_SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def note(self, number: int, frame: object) -> None:
        """Keep the signal; end at once if it is the second Ctrl-C."""
        if number == signal.SIGINT and is_part():
            close_bars()
            raise KeyboardInterrupt
        if number == signal.SIGINT == self.received:
            if world_size() == 1 or time.monotonic() - self.received_at > FORWARDED:
                self.stop_at_once()
            return
        if number == signal.SIGINT and self.waits_for:
            with suppress(RuntimeError):  # the signal came while stderr was written to
                log(f"stopping once {self.waits_for}; Ctrl-C again stops at once")
        self.received, self.received_at = number, time.monotonic()

    def stop(self, number: int) -> NoReturn:
        """End this process by that signal, after its state was saved."""
        close_bars()
        place = f"saved {self.files.path} {self.saved}"
        if number == signal.SIGINT:
            log(f"interrupted: {place}; continue with ", continue_with())
            raise Interrupted
        log(f"{signal.Signals(number).name}: {place}; continue with --resume")
        raise SystemExit(ExitStatus.REQUEUE)

    def stop_at_once(self) -> NoReturn:
        """End this process with what was saved before."""
        close_bars()
        if exists(self.files.state):
            kept = f"{self.files.path} is as saved {self.saved}"
            log(f"interrupted at once: {kept}; continue with ", continue_with())
        else:
            again = continue_with(resume=False)
            log("interrupted at once: nothing was saved yet; start again with ", again)
        raise Interrupted


def close_bars() -> None:
    """Remove the bars, which an exception may leave there, from the terminal."""
    for bar in [*Bar.drawn]:
        bar.close()
