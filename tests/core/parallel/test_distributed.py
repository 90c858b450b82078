"""Several processes do what one does: two gloo processes under torchrun."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dlkit.core.store import checkpoint

TRAIN = "--size nano --epochs 2 --image-size 64 --batch-size 4 --workers 0 --device cpu"


def dlkit(processes: int, *args: object) -> subprocess.CompletedProcess[str]:
    """`dlkit ARGS` in one process, or in several under torchrun."""
    many = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--standalone"]
    return subprocess.run(
        [sys.executable, *(many if processes > 1 else []), "-m", "dlkit", *map(str, args)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("command", ["infer", "evaluate"])
def test_two_processes_print_what_one_prints(shapes: Path, model: Path, command: str) -> None:
    (shapes / "JPEGImages" / "broken.jpg").write_text("no image")
    source = shapes if command == "evaluate" else shapes / "JPEGImages"
    options = [source, "-m", model, "-f", "jsonl", "--device", "cpu", "--precision", "fp32"]
    if command == "infer":
        options += ["--threshold", 0.01]
    one, two = (dlkit(n, "detect", command, *options) for n in (1, 2))
    (shapes / "JPEGImages" / "broken.jpg").unlink()
    assert len(one.stdout.splitlines()) > 16
    assert one.stdout == two.stdout
    if command == "infer":
        assert one.returncode == 1
        assert two.returncode != 0
        assert two.stderr.count("broken.jpg: ") == 1


@pytest.mark.slow
def test_a_run_of_two_processes_is_resumed_by_one(shapes: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    first = dlkit(2, "detect", "train", shapes, "--out", out, *TRAIN.split())
    assert first.returncode == 0, first.stderr
    assert first.stdout.splitlines() == [str(out / "best.safetensors")]
    # As after a kill in the last epoch: what was saved is the state after the one before.
    state = torch.load(out / "last.state.pt", weights_only=True)
    torch.save({**state, "epoch": 1}, out / "last.state.pt")
    second = dlkit(1, "detect", "train", shapes, "--out", out, *TRAIN.split(), "--resume")
    assert second.returncode == 0, second.stderr
    assert "resuming" in second.stderr
    assert len((out / "log.jsonl").read_text().splitlines()) == 2


@pytest.mark.slow
def test_two_processes_average_their_gradients(tmp_path: Path) -> None:
    """Each process sees half of the batch; the weights are those of one that sees it all."""
    script = tmp_path / "step.py"
    script.write_text(
        "import sys, torch\n"
        "from pathlib import Path\n"
        "from torch import nn\n"
        "from dlkit.core.parallel import distributed\n"
        "from dlkit.core.store import checkpoint\n"
        "def step():\n"
        "    with distributed.launch('cpu', seed=3) as process:\n"
        "        model = nn.Linear(4, 1)\n"
        "        network = process.wrap(model)\n"
        "        x = torch.arange(32.0).view(8, 4) / 32\n"
        "        mine = torch.stack(list(process.share(x)))\n"
        "        network(mine).square().mean().backward()\n"
        "        sums = [float(v) for v in process.gather(float(row.sum()) for row in mine)]\n"
        "        assert sums == [float(row.sum()) for row in x], sums\n"
        "        assert [*process.gather(process.share(range(1023)))] == [*range(1023)]\n"
        "        if process.is_main:\n"
        "            weights = {'gradient': model.weight.grad}\n"
        "            header = checkpoint.Header('toy', 'linear', {}, [])\n"
        "            checkpoint.save(Path(sys.argv[1]), weights, header)\n"
        "step()\n"
        "import os; os._exit(0)\n"  # see dlkit.cli.leave
    )
    gradients = []
    for processes in (1, 2):
        many = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--standalone"]
        path = tmp_path / f"{processes}.safetensors"
        command = [sys.executable, *(many if processes > 1 else []), str(script), str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        gradients.append(checkpoint.load(path)[1]["gradient"])
    assert torch.allclose(gradients[0], gradients[1], atol=1e-6)
