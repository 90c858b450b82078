"""The scripts for sbatch on the page for clusters, on a SLURM of one node."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import run
from tests.core.parallel import slurm

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "dlkit" / "core" / "parallel" / "README.md"
SCRIPTS = re.findall(r"```bash\n(#!/bin/bash\n.*?)```", PAGE.read_text(), re.DOTALL)

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.slow,
    pytest.mark.skipif(slurm.why_not() is not None, reason=str(slurm.why_not())),
]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with slurm.cluster(tmp_path_factory.mktemp("slurm")) as found:
        path = f"{Path(sys.executable).parent}:{found['PATH']}"
        yield {**found, "PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where jobs run: DATA, to train on, and list.txt with its images."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    names = []
    for number in range(20):
        pixels = rng.integers(0, 60, (32, 32, 3), dtype=np.uint8) + 180 * np.uint8(number % 2)
        name = Path("DATA", "train", "dark" if number % 2 else "bright", f"{number}.png")
        name.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(name)
        names.append(f"{name}\n")
    Path("list.txt").write_text("".join(names))
    return tmp_path


def script_with(text: str) -> str:
    (found,) = (script for script in SCRIPTS if text in script)
    return str(found)


def submit(script: str, environment: dict[str, str]) -> str:
    """The number of the job that runs it."""
    done = subprocess.run(
        ["sbatch", "--parsable"],
        input=script,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def states(job: str, environment: dict[str, str]) -> set[str]:
    found = slurm.said("scontrol", "show", "job", job, env=environment)
    return set(re.findall(r"JobState=(\w+)", found))


def finish(job: str, environment: dict[str, str], seconds: float = 300) -> None:
    """Wait until all of a job is done."""
    end = time.monotonic() + seconds
    while (now := states(job, environment)) & {"PENDING", "RUNNING", "CONFIGURING", "COMPLETING"}:
        assert time.monotonic() < end, now
        time.sleep(0.5)
    assert now == {"COMPLETED"}, said_by_jobs()


def said_by_jobs() -> str:
    return "".join(path.read_text() for path in sorted(Path().glob("slurm-*.out")))


def wait_for(text: str, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while text not in said_by_jobs():
        assert time.monotonic() < end, said_by_jobs()
        time.sleep(0.5)


def test_training_on_all_slots(environment: dict[str, str], folder: Path) -> None:
    finish(submit(script_with("--epochs 3\n"), environment), environment)
    assert said_by_jobs().splitlines()[-1] == "run/best.safetensors"
    assert len(Path("run/log.jsonl").read_text().splitlines()) == 3


def test_an_array_of_which_a_part_is_done_again(environment: dict[str, str], folder: Path) -> None:
    script = script_with("--array")
    finish(submit(script, environment), environment)
    whole = sorted(folder.glob("out.*"))
    assert [path.name for path in whole] == [f"out.0000{n}-of-00004.jsonl" for n in range(4)]
    merged = run("merge", *whole)
    assert (merged.code, merged.err) == (0, "")
    paths = [json.loads(line)["path"] for line in merged.out.splitlines()]
    assert paths == Path("list.txt").read_text().splitlines()
    # As after a kill: one part is lost, of another there are two lines and a half.
    whole[1].unlink()
    content = whole[2].read_bytes()
    lines = content.splitlines(keepends=True)
    whole[2].with_name(f"{whole[2].name}.partial").write_bytes(b"".join(lines[:2]) + lines[2][:9])
    whole[2].unlink()
    assert run("merge", whole[0], whole[3]).code == 1
    finish(submit(script, environment), environment)
    assert whole[2].read_bytes() == content
    assert run("merge", *whole) == merged


def test_a_preempted_job_is_requeued_and_goes_on(environment: dict[str, str], folder: Path) -> None:
    job = submit(script_with('requeue "$SLURM_JOB_ID"'), environment)
    log = Path("run/log.jsonl")
    slurm.wait_until(lambda: log.exists() and log.read_text().count("\n") > 1, "a run", folder, 300)
    subprocess.run(["scancel", "--signal=USR1", job], env=environment, check=True)
    slurm.wait_until(lambda: "PENDING" in states(job, environment), "a requeued job", folder, 120)
    done = log.read_text().count("\n")
    assert done < 300
    # A requeued job would wait for two minutes; within the second of its end it cannot start.
    start = ["scontrol", "update", f"JobId={job}", "StartTime=now+3"]
    subprocess.run(start, env=environment, check=True)
    wait_for("resuming")
    slurm.wait_until(lambda: log.read_text().count("\n") > done, "a resumed run", folder, 300)
    subprocess.run(["scancel", job], env=environment, check=True)
    epochs = [json.loads(line)["epoch"] for line in log.read_text().splitlines()]
    assert epochs == list(range(1, len(epochs) + 1))
