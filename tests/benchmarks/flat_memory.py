"""Peak memory of `dlkit classify` on a list of 10,000 and of 1,000,000 paths.

    python -m tests.benchmarks.flat_memory [--counts 10000 1000000]

The network is tiny and the image has 8 x 8 pixels, so that any growth with the number of inputs is
visible: memory stays within 10 %.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from tests.conftest import save_stub


def measure(folder: Path, count: int) -> tuple[float, float]:
    """Return the peak memory in MB and the seconds of a run on `count` paths."""
    command = [
        sys.executable,
        "-m",
        "dlkit",
        "classify",
        "-",
        "-m",
        str(folder / "stub.safetensors"),
    ]
    options = ["--workers", "1", "--device", "cpu", "-o", str(folder / f"{count}.jsonl")]
    began = time.monotonic()
    process = subprocess.Popen([*command, *options], stdin=subprocess.PIPE)
    assert process.stdin is not None
    path = f"{folder / 'image.png'}\n".encode()
    for _ in range(count):
        process.stdin.write(path)
    process.stdin.close()
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, "the run failed"
    with (folder / f"{count}.jsonl").open("rb") as results:
        assert sum(1 for _ in results) == count
    return usage.ru_maxrss / 1000, time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--counts", type=int, nargs="+", default=[10_000, 1_000_000])
    counts = parser.parse_args().counts
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_stub(folder / "stub.safetensors")
        pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "image.png")
        peaks = []
        for count in counts:
            peak, seconds = measure(folder, count)
            peaks.append(peak)
            print(f"{count:>9} paths: peak {peak:.1f} MB, {seconds:.0f} s", flush=True)
        print(f"the largest peak is {max(peaks) / peaks[0]:.3f} times the first")


if __name__ == "__main__":
    main()
