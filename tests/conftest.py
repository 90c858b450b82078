"""What the tests share: `run()` for the command line, a tiny detector with its data, `loud()`.

`on_processes()` is what torchrun does, without a start of Python and torch for each process.
"""

import contextlib
import http.server
import io
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torch import nn

from dlkit.classify.backbones import BackboneSettings
from dlkit.classify.model import build
from dlkit.cli import main
from dlkit.core.store import checkpoint

LABELS = ["disc", "square"]
SIDE = 96  # of the generated images

Box = tuple[int, int, int, int]

# The settings of a small network of dlkit classify, for what stands on one.
NARROW: BackboneSettings = {
    "arch": "resnet18",
    "network": {"num_labels": 2, "image_size": 96, "channels": 3, "width_multiplier": 0.25},
    "preprocessing": {
        "image_size": 96,
        "fit": "squash",
        "channels": 3,
        "mean": [0.4, 0.5, 0.6],
        "std": [0.2, 0.25, 0.3],
    },
}


@dataclass(frozen=True)
class Result:
    """What a command left: its exit code, stdout, stderr, and what it said that it saved.

    The lines "saved PATH", with which every command that writes files ends, are not in `err`.
    """

    code: int
    out: str
    err: str
    saved: tuple[str, ...] = field(default=(), compare=False)


def run(*args: object, stdin: str = "") -> Result:
    """`dlkit ARGS` in this process."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mock.patch("sys.stdin", io.StringIO(stdin)),
    ):
        try:
            main([str(arg) for arg in args])
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    lines = err.getvalue().splitlines(keepends=True)
    saved = tuple(line[6:-1] for line in lines if line.startswith("saved "))
    left = "".join(line for line in lines if not line.startswith("saved "))
    return Result(code, out.getvalue(), left, saved)


@dataclass
class Screen:
    """A terminal: what it was sent, the lines that it shows at the end, the command's exit code."""

    code: int = 0
    lines: list[str] = field(default_factory=list)
    sent: str = ""


@contextlib.contextmanager
def on_terminal(columns: int = 80, rows: int = 40, **environment: str) -> Iterator[Screen]:
    """A terminal of that size as stdout and stderr within the context."""
    import pty

    import pyte

    master, slave = pty.openpty()
    sent: list[bytes] = []

    def read() -> None:
        with contextlib.suppress(OSError):  # the other end is closed
            while data := os.read(master, 1 << 16):
                sent.append(data)

    reader = threading.Thread(target=read)
    reader.start()
    variables = {"TERM": "xterm-256color", "COLUMNS": str(columns), "LINES": str(rows)}
    screen = Screen()
    with (
        open(slave, "w", encoding="utf-8") as terminal,
        contextlib.redirect_stdout(terminal),
        contextlib.redirect_stderr(terminal),
        mock.patch.dict(os.environ, {**variables, **environment}),
    ):
        yield screen
    reader.join()
    os.close(master)
    shown = pyte.Screen(columns, rows)
    pyte.ByteStream(shown).feed(b"".join(sent))
    screen.lines = [line.rstrip() for line in shown.display]
    while screen.lines and not screen.lines[-1]:
        screen.lines.pop()
    screen.sent = b"".join(sent).decode()


def run_on_terminal(*args: object, stdin: str = "", **terminal: Any) -> Screen:
    """`dlkit ARGS` in this process, with stdout and stderr on a terminal, as `on_terminal`."""
    with on_terminal(**terminal) as screen, mock.patch("sys.stdin", io.StringIO(stdin)):
        try:
            main([str(arg) for arg in args])
        except SystemExit as stop:
            screen.code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return screen


def records(result: Result) -> list[dict[str, Any]]:
    """The JSON lines that a command printed."""
    return [json.loads(line) for line in result.out.splitlines()]


def one_line(result: Result, *parts: str) -> None:
    """Check that the command was refused with one line on stderr that holds these parts."""
    assert result.code == 2, result
    assert result.out == ""
    (line,) = result.err.splitlines()
    assert line.startswith("dlkit: ")
    for part in parts:
        assert part in line


def assert_killed_ends_as_whole(folder: Path, epochs: int, *command: str) -> None:
    """`kill -9` in the middle of an epoch, then --resume: the weights of a run left alone."""
    command = (*command, "--epochs", str(epochs), "--out")
    whole, killed = folder / "whole", folder / "killed"
    assert run(*command, whole).err.count(f"/{epochs}  loss ") == epochs
    with subprocess.Popen(
        [sys.executable, "-m", "dlkit", *command, str(killed)],
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:
        while not (killed / "last.state.pt").exists():
            assert process.poll() is None
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
    assert "resuming" in run(*command, killed, "--resume").err
    for name in ("best.safetensors", "last.safetensors"):
        _, expected = checkpoint.load(whole / name)
        _, found = checkpoint.load(killed / name)
        assert all(torch.equal(expected[key], found[key]) for key in expected)


def on_processes(
    count: int, work: Callable[..., object], *args: Any, **environment: str
) -> list[int]:
    """The exit codes of `work(*args)` in so many processes that can join each other by gloo.

    They are forked from a server that has imported all that takes long; `work` is a function of a
    module. Those that go on long after one has failed are killed.
    """
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(
        [
            "torch._dynamo",  # which the first step imports
            *(f"dlkit.{task}.train" for task in ("classify", "detect", "translate")),
            "dlkit.lm_generate.train_network",
            "tests.core.parallel.test_cluster",
        ]
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [
        server.Process(target=as_rank, args=(rank, count, port, work, args, environment))
        for rank in range(count)
    ]
    for process in processes:
        process.start()
    end = time.monotonic() + 180
    running = list(processes)
    while running:
        wait([process.sentinel for process in running], max(end - time.monotonic(), 0))
        if any(process.exitcode for process in processes):
            end = min(end, time.monotonic() + 8)
        if time.monotonic() >= end:
            for process in running:
                process.kill()
                process.join()
        running = [process for process in running if process.exitcode is None]
    return [int(process.exitcode or 0) for process in processes]


def as_rank(
    rank: int,
    count: int,
    port: int,
    work: Callable[..., object],
    args: Any,
    environment: dict[str, str],
) -> None:
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(count))
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), **environment)
    work(*args)


def loud(network: nn.Module) -> Any:
    """The network with larger weights than at the start: else all logits are about alike."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return network.eval()


def save_stub(path: Path) -> Path:
    """A classifier of 8 x 8 pixels, as small as one can be: labels a, b and c."""
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "network": {"num_labels": 3, "image_size": 8},
        "preprocessing": {
            "image_size": 8, "fit": "crop", "channels": 3, "mean": [0.5] * 3, "std": [0.25] * 3,
        },
        "loss": "cross-entropy",
    }  # fmt: skip
    header = checkpoint.Header("classify", "linear", settings, ["a", "b", "c"])
    checkpoint.save(path, loud(build("linear", **settings["network"])).state_dict(), header)
    return path


def scene(seed: int) -> tuple[Image.Image, list[tuple[str, Box]]]:
    """A bright square and a bright disc on dark noise, with their boxes x1, y1, x2, y2."""
    rng = np.random.default_rng(seed)
    image = Image.fromarray(rng.integers(0, 60, (SIDE, SIDE, 3), dtype=np.uint8))
    canvas = ImageDraw.Draw(image)
    objects = []
    for label, left in (("square", 2), ("disc", SIDE // 2 + 2)):
        size = int(rng.integers(24, 40))
        x, y = left + int(rng.integers(0, 44 - size)), int(rng.integers(2, SIDE - size - 2))
        # Pillow's corners are inclusive; ours end after the last pixel.
        corners = (x, y, x + size - 1, y + size - 1)
        if label == "square":
            canvas.rectangle(corners, fill=(255, 60, 40))
        else:
            canvas.ellipse(corners, fill=(60, 120, 255))
        objects.append((label, (x, y, x + size, y + size)))
    return image, objects


def voc_xml(objects: list[tuple[str, Box]]) -> str:
    """A VOC annotation: its pixels count from 1, and boxes include both ends."""
    things = "".join(
        f"  <object>\n    <name>{label}</name>\n    <bndbox><xmin>{x1 + 1}</xmin>"
        f"<ymin>{y1 + 1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox>\n  </object>\n"
        for label, (x1, y1, x2, y2) in objects
    )
    return f"<annotation>\n{things}</annotation>\n"


def write_voc(root: Path, splits: dict[str, list[int]]) -> Path:
    """A VOC folder with one scene for each seed of each split."""
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for split, seeds in splits.items():
        for seed in set(seeds):
            image, objects = scene(seed)
            image.save(root / "JPEGImages" / f"{seed:03}.jpg", quality=95)
            (root / "Annotations" / f"{seed:03}.xml").write_text(voc_xml(objects))
        lines = "".join(f"{seed:03}\n" for seed in seeds)
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text(lines)
    return root


@pytest.fixture(scope="session", autouse=True)
def quiet_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One thread, as the machine is shared; and nobody's own cache of models."""
    torch.set_num_threads(1)
    with mock.patch.dict(os.environ, DLKIT_CACHE=str(tmp_path_factory.mktemp("cache"))):
        yield


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Squares and discs in VOC layout: 8 images to train (ten times), 4 to validate and test."""
    splits = {"train": [*range(8)] * 10, "val": [*range(8, 12)], "test": [*range(12, 16)]}
    return write_voc(tmp_path_factory.mktemp("data") / "shapes", splits)


@pytest.fixture(scope="session")
def handful(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four squares and discs to train on, where a step or two is enough; one to validate."""
    return write_voc(
        tmp_path_factory.mktemp("data") / "handful", {"train": [*range(4)], "val": [4]}
    )


@pytest.fixture(scope="session")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small classifier of dlkit classify, untrained."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("backbone") / "narrow.safetensors"
    about = {k: NARROW[k] for k in ("network", "preprocessing")} | {"loss": "cross-entropy"}
    header = checkpoint.Header("classify", NARROW["arch"], about, ["a", "b"])
    checkpoint.save(path, build(NARROW["arch"], **NARROW["network"]).state_dict(), header)
    return path


@pytest.fixture(scope="session")
def model(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny detector, trained for seconds: it finds every square and disc."""
    out = tmp_path_factory.mktemp("run") / "shapes"
    options = (
        "--size nano --image-size 64 --epochs 7 --batch-size 4 --lr 5e-3 --warmup 0.2 --ema 0"
        " --mosaic 0 --zoom 1.2 --seed 0 --workers 0 --device cpu --precision fp32"
    )
    done = run("detect", "train", shapes, "--out", out, *options.split())
    assert done.code == 0, done.err
    return out / "last.safetensors"  # the best is the first to find all, and unsure of it


@dataclass
class Hub:
    """A local server as Hugging Face's hub is: OWNER/NAME/resolve/main/FILE in `folder`.

    `asked` are the paths that were asked for; a path in `refused` is answered with its code and
    the hub's name of the reason, one in `moved` with its new place.
    """

    folder: Path
    address: str = ""
    asked: list[str] = field(default_factory=list)
    tokens: list[str | None] = field(default_factory=list)
    refused: dict[str, tuple[int, str]] = field(default_factory=dict)
    moved: dict[str, str] = field(default_factory=dict)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub that `hf:OWNER/NAME` asks, and an empty cache."""
    made = Hub(tmp_path / "hub")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

        def do_GET(self) -> None:
            made.asked.append(self.path)
            made.tokens.append(self.headers.get("Authorization"))
            if self.path in made.refused:
                code, reason = made.refused[self.path]
                self.send_response(code)
                self.send_header("X-Error-Code", reason)
            elif self.path in made.moved:
                self.send_response(307)
                self.send_header("Location", made.moved[self.path])
            else:
                super().do_GET()
                return
            self.send_header("Content-Length", "0")
            self.end_headers()

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Handler, directory=str(made.folder))
    )
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    made.address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("HF_ENDPOINT", made.address)
    monkeypatch.setenv("DLKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


def loaded_by(*arguments: str, **environment: str) -> set[str]:
    """The modules a fresh interpreter has loaded after a command."""
    script = (
        "import json, sys, atexit\n"
        "atexit.register(lambda: print(json.dumps(list(sys.modules)), file=sys.stderr))\n"
        "from dlkit.cli import main\n"
        f"main({list(arguments)!r})"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )
    modules: list[str] = json.loads(done.stderr.strip().splitlines()[-1])
    return set(modules)
