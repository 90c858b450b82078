"""Two hosts: network namespaces with a cable between them, which is pulled in mid-run."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from dlkit.core.store import checkpoint
from tests.conftest import on_processes
from tests.core.helpers import SMALL, dlkit

HOSTS = ("dlkit-a", "dlkit-b")
ADDRESS = "10.77.0"
NETWORK = "dlkit0"  # the name of the network's interface in each
BOUND = 10  # DLKIT_TIMEOUT
STARTING = 240  # seconds that a busy machine may take to start both


def ip(*args: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["ip", *args], capture_output=True, check=False)


@pytest.fixture
def hosts() -> Iterator[None]:
    if shutil.which("ip") is None or os.geteuid() != 0 or ip("netns", "add", HOSTS[0]).returncode:
        pytest.skip("needs root, iproute2 and a kernel that gives network namespaces")
    try:
        ip("netns", "add", HOSTS[1])
        ip("link", "add", "dlkit-va", "type", "veth", "peer", "name", "dlkit-vb")
        for number, (host, end) in enumerate(zip(HOSTS, ("dlkit-va", "dlkit-vb"), strict=True), 1):
            ip("link", "set", end, "netns", host, "name", NETWORK)
            ip("-n", host, "address", "add", f"{ADDRESS}.{number}/24", "dev", NETWORK)
            for name in ("lo", NETWORK):
                ip("-n", host, "link", "set", name, "up")
        reached = ["netns", "exec", HOSTS[0], "ping", "-c", "1", "-W", "2", f"{ADDRESS}.2"]
        if shutil.which("ping") and ip(*reached).returncode:
            pytest.skip("the kernel has no veth pairs")
        yield
    finally:
        for host in HOSTS:
            ip("netns", "delete", host)


def started(command: list[str], folder: Path) -> list[subprocess.Popen[bytes]]:
    """The command on both hosts, under torchrun; stderr goes to a file for each."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2"]
    torchrun += ["--nproc-per-node", "1", "--master-addr", f"{ADDRESS}.1", "--master-port", "29477"]
    settings = {"GLOO_SOCKET_IFNAME": NETWORK, "DLKIT_TIMEOUT": str(BOUND), "OMP_NUM_THREADS": "1"}
    processes = []
    for rank, host in enumerate(HOSTS):
        here = ["ip", "netns", "exec", host, *torchrun, "--node-rank", str(rank), "-m", "dlkit"]
        with (folder / f"{host}.txt").open("ab") as notices:
            processes.append(
                subprocess.Popen(
                    [*here, *command],
                    stdout=subprocess.DEVNULL,
                    stderr=notices,
                    env={**os.environ, **settings},
                )
            )
    return processes


@pytest.mark.slow
@pytest.mark.netns
def test_a_host_that_is_cut_off_is_noticed_and_the_run_goes_on(hosts: None, tmp_path: Path) -> None:
    text, out, log = tmp_path / "text", tmp_path / "run", tmp_path / "run" / "log.jsonl"
    text.write_text("the cat saw the dog and ran\n" * 300)
    command = (
        f"lm-generate train {text} --arch gpt --width 16 --layers 1 --heads 2 --context 16"
        f" --batch-size 8 --epochs 40 --steps-per-epoch 20 --sample-tokens 0 {SMALL}"
    ).split()
    resumed = [*command, "--out", str(out), "--resume", "auto"]
    notices = tmp_path / f"{HOSTS[0]}.txt"

    first, second = started(resumed, tmp_path)
    end = time.monotonic() + STARTING
    while not log.exists() or len(log.read_text().splitlines()) < 3:
        assert first.poll() is None, notices.read_text()
        assert time.monotonic() < end
        time.sleep(0.05)
    ip("-n", HOSTS[1], "link", "set", NETWORK, "down")
    cut = time.monotonic()
    while "another process was lost" not in notices.read_text():
        assert time.monotonic() < cut + BOUND + 30, notices.read_text()
        time.sleep(0.05)
    first.wait(60)
    second.kill()  # as a scheduler does with the rest of a job
    second.wait()
    assert first.returncode != 0
    epochs = len(log.read_text().splitlines())
    assert 3 <= epochs < 40

    ip("-n", HOSTS[1], "link", "set", NETWORK, "up")
    again = started(resumed, tmp_path)
    for process in again:
        assert process.wait(STARTING) == 0, notices.read_text()
    assert "resuming" in notices.read_text()
    assert len(log.read_text().splitlines()) == 40

    whole = tmp_path / "whole"
    assert on_processes(2, dlkit, tmp_path / "notices", *command, "--out", whole) == [0, 0]
    files = [checkpoint.load(folder / "last.safetensors")[1] for folder in (out, whole)]
    assert all(torch.equal(files[0][name], files[1][name]) for name in files[0])
    losses = [
        [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]
        for folder in (out, whole)
    ]
    assert losses[0] == losses[1]
