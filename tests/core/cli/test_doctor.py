"""`dlkit doctor`: the verdict, and what the processor's instructions mean."""

import json
import re
from pathlib import Path

import pytest
import torch

from dlkit.core.cli import doctor
from dlkit.core.store import checkpoint
from tests.conftest import Result, run


def findings(result: Result) -> dict[str, str]:
    return {r["what"]: r["value"] for r in json.loads(result.out) if "what" in r}


@pytest.fixture
def no_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in place of the bundled models."""
    folder = tmp_path / "weights"
    monkeypatch.setattr("dlkit.core.store.weights.folder", lambda task: folder)
    return folder


def with_flags(monkeypatch: pytest.MonkeyPatch, *flags: str) -> None:
    for module in ("dlkit.core.cli.doctor", "dlkit.core.parallel.device"):
        monkeypatch.setattr(f"{module}.cpu_flags", lambda: frozenset(flags))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)


@pytest.mark.parametrize(
    ("flags", "instructions", "precision", "faster"),
    [
        ([], "unknown on this system", "fp32", False),
        (["avx2"], "AVX2; without AVX-512, AVX512-BF16, AMX", "fp32", True),
        (["avx512f", "avx512_bf16"], "AVX-512, AVX512-BF16; without AVX2, AMX", "bf16", True),
        (["avx2", "avx512f", "amx_bf16"], "AVX2, AVX-512, AMX; without AVX512-BF16", "bf16", False),
    ],
    ids=["unknown", "avx2", "avx512", "amx"],
)  # fmt: skip
def test_the_verdict_names_the_precision_and_its_speed(
    flags: list[str], instructions: str, precision: str, faster: bool,
    no_models: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    with_flags(monkeypatch, *flags)
    monkeypatch.setattr(doctor, "speed", lambda device, name: {"fp32": 40.0, "bf16": 90.0}[name])
    found = findings(run("doctor", "-f", "json"))
    assert found["cpu instructions"] == instructions
    assert found["speed"] == "fp32 40, bf16 90 billion operations a second on cpu"
    verdict = found["verdict"]
    assert verdict.startswith(f"everything works; dlkit computes on cpu in {precision} (CPU with")
    assert "bf16 has 2.2 times the speed of fp32" in verdict
    assert ("a CPU with AMX, or a GPU, is faster" in verdict) == faster


def test_the_speed_is_that_of_a_product(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock of our own: each round takes half a second, the third a quarter."""
    times = iter([0, 0.5, 1, 1.5, 2, 2.25, 3, 3.5, 4, 4.5, 5, 5.5])
    monkeypatch.setattr("time.perf_counter", lambda: next(times))
    assert doctor.speed(torch.device("cpu"), "fp32") == pytest.approx(2 * 1024**3 / 0.25 / 1e9)


def test_a_damaged_file_turns_the_verdict(no_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "speed", lambda device, name: 1.0)
    path = no_models / "bad.safetensors"
    checkpoint.save(path, {"x": torch.ones(9)}, checkpoint.Header("detect", "yolo", {}, []))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    done = run("doctor", "-f", "json")
    assert done.code == 1
    assert re.fullmatch(r"(\d+) of \1 bundled files damaged; install dlkit-cli again", (
        findings(done)["verdict"]
    ))  # fmt: skip
    shown = run("doctor", "--color", "always")
    assert shown.code == 1
    assert shown.out.rstrip().splitlines()[-1].startswith("\x1b[1;31m✗ ")


def test_a_terminal_ends_with_the_mark(no_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "speed", lambda device, name: 1.0)
    done = run("doctor", "--color", "always")
    assert done.code == 0
    assert done.out.rstrip().splitlines()[-1].startswith("\x1b[1;32m✓ everything works; ")
    plain = run("doctor").out.splitlines()
    assert plain[-1].startswith("verdict\teverything works; ")
    assert all(line.count("\t") == 1 for line in plain)
