"""Streams, signals and what only some systems have, as a command sees them."""

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dlkit.cli import main
from dlkit.core import environment
from dlkit.core.environment import Streams
from dlkit.core.errors import ExitStatus

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.slow
def test_every_module_is_imported_where_signals_and_modules_of_unix_are_missing() -> None:
    """As on Windows: no SIGUSR1, no fork, no resource, no /proc."""
    names = sorted(
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in (ROOT / "dlkit").rglob("*.py")
        if path.name not in ("__main__.py", "__init__.py")
    )
    script = (
        "import builtins, importlib, os, pathlib, signal, sys\n"
        "import torch, torchvision, numba, matplotlib, PIL.Image, regex, sacrebleu\n"
        "for name in ('SIGUSR1', 'SIGUSR2', 'SIGALRM', 'SIGKILL', 'SIGHUP', 'SIGPIPE'):\n"
        "    delattr(signal, name)\n"
        "for name in ('fork', 'forkpty', 'getuid', 'mkfifo', 'posix_fadvise', 'uname'):\n"
        "    delattr(os, name)\n"
        "for name in ('resource', 'fcntl', 'termios', 'pwd', 'grp', 'readline'):\n"
        "    sys.modules[name] = None\n"
        "read_text = pathlib.Path.read_text\n"
        "def without_proc(path, *args, **kwargs):\n"
        "    if str(path).startswith('/proc'): raise FileNotFoundError(path)\n"
        "    return read_text(path, *args, **kwargs)\n"
        "pathlib.Path.read_text = without_proc\n"
        f"for name in {names!r}:\n"
        "    importlib.import_module(name)\n"
        "from dlkit.core import environment\n"
        "assert environment.available_memory() is environment.total_memory() is None\n"
        "assert environment.cpu_flags() == frozenset()\n"
        "assert environment.PREEMPTION_SIGNALS == (signal.SIGTERM,)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_schedulers_signals_are_those_this_system_has() -> None:
    assert signal.SIGTERM in environment.PREEMPTION_SIGNALS


def command(*arguments: str, stdin: str | None = "", **streams: io.TextIOBase | None) -> int:
    """The exit code of a command with these streams."""
    given = {
        "stdin": None if stdin is None else io.StringIO(stdin),
        "stdout": io.StringIO(),
        "stderr": io.StringIO(),
        **streams,
    }
    with pytest.raises(SystemExit) as end:
        main([*arguments], Streams(**given))  # type: ignore[arg-type]
    assert isinstance(end.value.code, int)
    return end.value.code


def test_closed_streams_are_one_line() -> None:
    err = io.StringIO()
    for task in ("tokenize", "translate", "lm-generate", "embed vector", "classify -m reviews"):
        err = io.StringIO()
        assert command(*task.split(), stdin=None, stderr=err) == ExitStatus.USAGE
        assert err.getvalue() == "dlkit: stdin is closed; give files, or lines on stdin\n"
    err = io.StringIO()
    assert command("tokenize", "--text", "a", stdout=None, stderr=err) == ExitStatus.USAGE
    assert err.getvalue().startswith("dlkit: stdout is closed")
    assert command("tokenize", "no-such-file", stderr=None) != ExitStatus.OK


def test_a_stream_that_cannot_seek_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    class Pipe(io.StringIO):
        def seekable(self) -> bool:
            return False

        def seek(self, *_: object) -> int:
            raise io.UnsupportedOperation("seek")

    out = io.StringIO()
    with pytest.raises(SystemExit) as end:
        main(["tokenize"], Streams(Pipe("hello\n"), out, io.StringIO()))
    assert end.value.code == ExitStatus.OK
    assert out.getvalue() == "he ll o\n"


def test_text_is_utf8_in_an_ascii_locale() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dlkit", "tokenize", "-m", "english-wordpiece-8k"],
        input="größe\n".encode(),
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C"},
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == ExitStatus.OK, done.stderr
    assert "ß" in done.stdout.decode()


@pytest.mark.parametrize("debug", ["", "1"])
def test_the_line_of_a_failed_input_is_followed_by_its_trace_where_that_is_asked_for(
    debug: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DLKIT_DEBUG", debug)
    damaged, good = tmp_path / "damaged.png", ROOT / "data" / "cat.jpg"
    damaged.write_bytes(b"no image")
    with pytest.raises(SystemExit) as end:
        main(["classify", str(damaged), str(good), "--device", "cpu", "-f", "jsonl"])
    assert end.value.code == ExitStatus.FAILED_INPUTS
    printed = capsys.readouterr()
    record = json.loads(printed.out.splitlines()[0])
    assert record.keys() == {"path", "error"}
    assert ("Traceback" in printed.err) == (debug == "1")
    assert printed.err.count(f"dlkit: {damaged}: not an image") == 1


@pytest.mark.parametrize("debug", ["", "1"])
def test_an_error_is_followed_by_its_trace_where_that_is_asked_for(
    debug: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DLKIT_DEBUG", debug)
    with pytest.raises(SystemExit) as end:
        main(["detect", "data/cat.jpg", "-m", "nothing"])
    assert end.value.code == ExitStatus.USAGE
    first, *trace = capsys.readouterr().err.splitlines()
    assert first.startswith("dlkit: unknown model 'nothing'")
    assert bool(trace) == (debug == "1")
    assert not trace or trace[0].startswith("Traceback")
