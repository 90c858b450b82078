"""Notices, the spinner and progress bars on stderr.

Loads no torch, and no rich until there is a terminal to draw on.
"""

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager, suppress
from typing import Any, Generic, Literal, TypeVar

from dlkit.core.environment import (
    Coloring,
    coloring,
    is_main_process,
    is_terminal,
    rank,
    streams,
    world_size,
)

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
NOTE_INTERVAL = 0.3  # seconds between two notes beside a bar
SPINNER_DELAY = 0.4  # seconds after which a command that has shown nothing shows the spinner
SPINNER_INTERVAL = 0.1  # seconds
SPINNER_LENGTH = 60  # characters of the text beside the spinner
FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
CLEAR_LINE = "\r\x1b[2K"
LONGEST_LINE = 500  # characters of a message
LONGEST_NAME = 240  # characters of a path or another word in it


def log(message: str, command: str = "") -> None:
    """Print a line on stderr, from the main process only; a `command` to copy follows uncut."""
    if is_main_process():
        write_line(message, command)


def print_error(reason: str) -> None:
    """Print why this process ends on stderr; under torchrun with the number of the process.

    The line is written in one piece, since several processes may fail at once.
    """
    process = f"process {rank()}: " if world_size() > 1 else ""
    write_line(f"dlkit: {process}{reason}")


def printable(text: str) -> str:
    """The text with control characters escaped, which could move the cursor or hide text."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def middle_cut(text: str, longest: int) -> str:
    """The text with at most that many characters, with an ellipsis in its middle."""
    if len(text) <= longest:
        return text
    end = (longest - 1) // 2
    return f"{text[: longest - 1 - end]}…{text[-end:]}"


def one_line(message: str) -> str:
    """A message as one line of at most LONGEST_LINE printable characters."""
    text = printable(middle_cut(message, 20 * LONGEST_LINE))
    if len(text) > LONGEST_NAME:
        text = " ".join(middle_cut(word, LONGEST_NAME) for word in text.split(" "))
    return middle_cut(text, LONGEST_LINE)


def write_trace(trace: str) -> None:
    """Write the trace of an error to stderr, as it is but for control characters."""
    for line in trace.rstrip().split("\n"):
        write_raw(printable(line))


def write_line(line: str, command: str = "") -> None:
    """Write a message to stderr at once, above a progress bar; nothing where stderr is closed.

    It is one line of at most LONGEST_LINE characters: names in it are cut in their middle, and
    control characters are escaped. The `command` behind it is not cut.
    """
    write_raw(one_line(line) + printable(command))


def write_raw(line: str) -> None:
    """Write a line to stderr as it is."""
    stderr = streams().stderr
    if stderr is None or stderr.closed:
        return
    spinner.stop()
    if Bar.drawn and is_terminal(stderr):
        Bar.drawn[-1].progress.console.print(line, markup=False, highlight=False, soft_wrap=True)
        return
    try:
        stderr.write(f"{line}\n")
    except UnicodeEncodeError:  # a terminal or a locale of ASCII
        encoding = stderr.encoding or "ascii"
        stderr.write(f"{line.encode(encoding, 'backslashreplace').decode(encoding)}\n")
    stderr.flush()


def console(stream: Any) -> Any:
    """rich's console on a stream, which honors `--color`, NO_COLOR and TERM."""
    from rich.console import Console

    stream = getattr(stream, "stream", stream)  # of a Terminal, which would escape colors
    chosen = coloring()
    force = True if chosen == Coloring.always else None
    return Console(
        file=stream,
        force_terminal=force,
        no_color=True if chosen == Coloring.never else None,
        highlight=False,
        soft_wrap=False,
    )


def erases_lines(stream: Any) -> bool:
    """Whether the stream is a terminal on which a line can be redrawn."""
    return is_terminal(stream) and os.environ.get("TERM", "dumb") not in {"dumb", "unknown"}


# ---- The spinner ---------------------------------------------------------------------------------


class Spinner:
    """A sign of life on stderr, from half a second after a command's start to its first output.

    It is drawn by a thread, without rich, because the imports themselves take long.
    """

    def __init__(self) -> None:
        self.text = ""
        self.stopped = threading.Event()
        self.lock = threading.Lock()
        self.thread: threading.Thread | None = None

    def start(self, text: str) -> None:
        """Begin to wait; nothing where stderr is no terminal that can redraw a line."""
        self.stop()
        stderr = streams().stderr
        if not (erases_lines(stderr) and is_main_process()):
            return
        self.text, self.stopped = text, threading.Event()
        self.thread = threading.Thread(target=self.draw, args=(stderr,), daemon=True)
        self.thread.start()

    def draw(self, stderr: Any) -> None:
        """Draw until it is stopped, then erase the line."""
        if self.stopped.wait(SPINNER_DELAY):
            return
        began = time.monotonic()
        with suppress(OSError, ValueError):  # the terminal has gone
            while True:
                frame = FRAMES[int((time.monotonic() - began) / SPINNER_INTERVAL) % len(FRAMES)]
                with self.lock:
                    if not self.stopped.is_set():
                        stderr.write(f"{CLEAR_LINE}{frame} {self.text}")
                        stderr.flush()
                if self.stopped.wait(SPINNER_INTERVAL):
                    stderr.write(CLEAR_LINE)
                    stderr.flush()
                    return

    def stop(self) -> None:
        """Erase it, before something else is printed."""
        thread, self.thread = self.thread, None
        if thread is None or thread is threading.current_thread():
            return
        self.stopped.set()
        thread.join()


spinner = Spinner()
# A forked process has no thread that draws.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: setattr(spinner, "thread", None))


def status(text: str) -> None:
    """Set the text beside the spinner, such as "loading animals"."""
    spinner.text = middle_cut(printable(text), SPINNER_LENGTH)


@contextmanager
def spinning(text: str) -> Iterator[None]:
    """Show the spinner within the context until something is printed."""
    spinner.start(text)
    try:
        yield
    finally:
        spinner.stop()


# ---- Bars ----------------------------------------------------------------------------------------


class Inputs(Generic[T_co]):
    """An iterator over inputs that can also be counted, without reading them.

    `count` returns their number; None if it is not known, as for those on stdin.
    """

    def __init__(self, items: Iterable[T_co], count: Callable[[], int | None]) -> None:
        self.items, self.count = iter(items), count

    def __iter__(self) -> Iterator[T_co]:
        return self

    def __next__(self) -> T_co:
        return next(self.items)


def count_of(items: Any) -> Callable[[], int | None]:
    """The function that counts the items without consuming them."""
    if isinstance(items, Inputs):
        return items.count
    return (lambda: len(items)) if isinstance(items, Sized) else (lambda: None)


class Bar:
    """A progress bar on a terminal with count, rate and time left; nothing elsewhere.

    `total` may be a function that counts; it is called in a thread, so that the work does not wait.
    """

    drawn: "list[Bar]" = []  # the bars on the terminal now

    def __init__(
        self,
        label: str,
        total: int | None | Callable[[], int | None],
        unit: Literal["items", "bytes"] = "items",
    ) -> None:
        self.progress: Any = None
        self.noted_at = 0.0
        stderr, stdout = streams().stderr, streams().stdout
        if not (erases_lines(stderr) and is_main_process()):
            return
        spinner.stop()
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            MofNCompleteColumn,
            Progress,
            ProgressColumn,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        class RateColumn(ProgressColumn):
            def render(self, task: Any) -> Any:
                speed = task.finished_speed or task.speed
                return "" if speed is None else rate(speed)

        is_bytes = unit == "bytes"
        # Results may be printed on the same terminal: then by the same console, above the bar.
        self.shared = is_terminal(stdout)
        self.progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            DownloadColumn() if is_bytes else MofNCompleteColumn(),
            TransferSpeedColumn() if is_bytes else RateColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[note]}", markup=False),
            console=console(stdout if self.shared else stderr),
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self.progress.start()
        Bar.drawn.append(self)
        counts = total if callable(total) else None
        shown = middle_cut(printable(label), SPINNER_LENGTH)
        self.task = self.progress.add_task(shown, total=None if callable(total) else total, note="")
        if counts is not None:
            threading.Thread(target=self.set_total, args=(counts,), daemon=True).start()

    def set_total(self, count: Callable[[], int | None]) -> None:
        """Count, and show the total."""
        with suppress(Exception):  # an unreadable input is reported when it is read
            total = count()
            self.progress.update(self.task, total=total)

    def advance(self, note: Callable[[], str] | None = None, by: int = 1) -> None:
        """Advance by this number of items; `note` is called a few times a second at most."""
        if self.progress is None:
            return
        self.progress.advance(self.task, by)
        now = time.monotonic()
        if note is not None and now - self.noted_at > NOTE_INTERVAL:
            self.noted_at = now
            self.progress.update(self.task, note=note())

    def close(self) -> None:
        """Remove the bar from the terminal."""
        if self.progress is not None and self in Bar.drawn:
            Bar.drawn.remove(self)
            self.progress.stop()


def rate(speed: float) -> str:
    """A speed with a sensible number of digits: 12.3/s, or 4.1 s each."""
    if speed >= 1:
        return f"{speed:.0f}/s" if speed >= 100 else f"{speed:.1f}/s"
    return f"{1 / speed:.1f} s each" if speed else ""


def duration(seconds: float) -> str:
    """A time with a sensible unit: 0.84 s, 12 s, 3 min 20 s, 2 h 5 min."""
    if seconds < 60:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def track(items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
    """Yield the items, with a progress bar on a terminal."""
    bar = Bar(label, count_of(items) if total is None else total)
    try:
        for item in items:
            yield item
            bar.advance()
    finally:
        bar.close()
