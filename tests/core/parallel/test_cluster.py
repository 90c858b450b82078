"""Several processes train what one does, and nothing is lost when one of them is.

The processes speak by gloo, two and four of them on one machine.
"""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image

from dlkit.cli import leave, main
from dlkit.core.errors import DlkitError
from dlkit.core.store import checkpoint
from dlkit.core.train.run import Run
from dlkit.tokenize.model import Tokenizer
from tests.conftest import on_processes, run, write_voc
from tests.core.helpers import dlkit, settings, train


def toy(notices: Path, out: Path, resume: bool, fault: str | None = None) -> None:
    """The training of helpers.py; in the second epoch, the fault befalls the second rank."""
    sys.stderr = notices.open("a", buffering=1)
    count = int(os.environ["WORLD_SIZE"])

    def befall(run: Run) -> None:
        if fault and (run.process.rank, run.epoch, run.steps) == (count - 1, 1, 8):
            os.kill(os.getpid(), getattr(signal, fault))

    with mock.patch("dlkit.core.train.run.curves"):
        config = settings(out, save_every=2, resume=resume)
        train(config, at_each_step=befall, norm=count == 2)  # norms want two samples in each
    leave(0)


def killed(notices: Path, *args: object) -> None:
    """`dlkit` under torchrun, whose second rank is killed in its sixth step when first started."""
    take = Run.step

    def step(run: Run, *of: Any) -> None:
        take(run, *of)
        place = os.environ["TORCHELASTIC_RESTART_COUNT"], run.process.rank, run.steps
        if place == ("0", 1, 6):
            os.kill(os.getpid(), signal.SIGKILL)

    with mock.patch.object(Run, "step", step):
        dlkit(notices, *args)


def failing(notices: Path, error: type[Exception], *args: object) -> None:
    """`dlkit`, whose second rank raises such an error in its third step."""
    take = Run.step

    def step(run: Run, *of: Any) -> None:
        if (run.process.rank, run.steps) == (1, 2):
            raise error("out of luck")
        take(run, *of)

    with mock.patch.object(Run, "step", step):
        dlkit(notices, *args)


def preempted(notices: Path, *args: object) -> None:
    """`dlkit`, whose second rank a scheduler tells in its second step that it will end."""
    take = Run.step

    def step(run: Run, *of: Any) -> None:
        take(run, *of)
        if (run.process.rank, run.steps) == (1, 2):
            os.kill(os.getpid(), signal.SIGTERM)

    with mock.patch.object(Run, "step", step):
        dlkit(notices, *args)


def losses(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / "log.jsonl").read_text().splitlines()]


def weights(out: Path) -> dict[str, torch.Tensor]:
    return checkpoint.load(out / "last.safetensors")[1]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dark and light squares in two folders; lines of words, and the same in other words."""
    root = tmp_path_factory.mktemp("cluster")
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 2)):
        for label, low in (("dark", 0), ("light", 90)):
            folder = root / "images" / split / label
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(low, low + 160, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    write_voc(root / "shapes", {"train": [*range(8)] * 2, "val": [8, 9]})
    lengths = rng.integers(2, 7, 80)
    lines = [" ".join(f"w{word}" for word in rng.integers(0, 9, length)) for length in lengths]
    (root / "source.txt").write_text("\n".join(lines) + "\n")
    (root / "target.txt").write_text("\n".join(lines).replace("w", "v") + "\n")
    return root


def commands(data: Path) -> dict[str, str]:
    """A training of each of four tasks, without what is drawn at random for each process."""
    text = data / "source.txt"
    return {
        "classify": f"classify train {data / 'images'} --arch lenet --image-size 32 --flip 0"
        " --shift 0 --batch-size 8 --epochs 2",
        "detect": f"detect train {data / 'shapes'} --size nano --image-size 64 --batch-size 8"
        " --epochs 2",
        "translate": f"translate train --source {text} --target {data / 'target.txt'}"
        " --arch transformer --width 16 --layers 1 --heads 2 --dropout 0 --batch-size 60"
        " --epochs 2",
        "lm-generate": f"lm-generate train {text} --arch gpt --width 16 --layers 1 --heads 2"
        " --context 16 --dropout 0 --batch-size 8 --epochs 2 --sample-tokens 0",
    }


@pytest.mark.slow
@pytest.mark.parametrize("task", ["classify", "detect", "translate", "lm-generate"])
def test_one_two_and_four_processes_have_the_same_losses(
    task: str, data: Path, tmp_path: Path
) -> None:
    """The detector has batch norm, which is of a part of the batch: it gets the same four parts."""
    found = {}
    for count in (1, 2, 4):
        out = tmp_path / str(count)
        options = ["--accumulate", 4 // count] if task == "detect" else []
        command = [*commands(data)[task].split(), "--out", out, *options]
        codes = on_processes(count, dlkit, tmp_path / "notices", *command)
        assert codes == [0] * count, (tmp_path / "notices").read_text()
        found[count] = losses(out)
    assert found[2] == pytest.approx(found[1], rel=1e-4)
    assert found[4] == pytest.approx(found[1], rel=1e-4)


@pytest.mark.slow
def test_a_sharded_network_learns_what_a_whole_one_does(data: Path, tmp_path: Path) -> None:
    """Its files are those of one process, too, which generates from them and goes on."""
    notices = tmp_path / "notices"
    common = commands(data)["lm-generate"].replace("--sample-tokens 0", "--sample-tokens 9").split()
    common += ["--accumulate", "2", "--out"]
    fsdp = ["--parallel", "fsdp"]
    assert on_processes(2, dlkit, notices, *common, tmp_path / "ddp") == [0, 0]
    assert on_processes(2, dlkit, notices, *common, tmp_path / "fsdp", *fsdp) == [0, 0], (
        notices.read_text()
    )
    broken = [*common, tmp_path / "broken", *fsdp, "--save-every", 3]
    assert on_processes(2, preempted, notices, *broken) == [75, 75], notices.read_text()
    state = torch.load(tmp_path / "broken" / "last.state.pt", weights_only=True)
    assert state["done"] > 0
    assert on_processes(2, dlkit, notices, *broken, "--resume") == [0, 0], notices.read_text()

    assert losses(tmp_path / "fsdp") == pytest.approx(losses(tmp_path / "ddp"), rel=1e-5)
    assert losses(tmp_path / "broken") == losses(tmp_path / "fsdp")
    ddp, whole, resumed = (weights(tmp_path / name) for name in ("ddp", "fsdp", "broken"))
    assert [(name, w.shape) for name, w in whole.items()] == [(n, w.shape) for n, w in ddp.items()]
    assert all(torch.allclose(whole[name], ddp[name], atol=1e-4) for name in ddp)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    samples = [(tmp_path / name / "samples.txt").read_text() for name in ("ddp", "fsdp")]
    assert samples[0] == samples[1]
    best = tmp_path / "fsdp" / "best.safetensors"
    done = run("lm-generate", "w", "-m", best, "--max-tokens", 5, "--device", "cpu")
    assert done.code == 0, done.err
    assert len(done.out) > 5


@pytest.mark.slow
def test_processes_share_prompts_also_where_texts_are_printed(data: Path, tmp_path: Path) -> None:
    notices, prompts = tmp_path / "notices", tmp_path / "prompts"
    prompts.write_text("w1 w2\nw3\nw4 w\n")
    command = [*commands(data)["lm-generate"].split(), "--out", tmp_path]
    assert on_processes(1, dlkit, notices, *command) == [0], notices.read_text()
    command = ["lm-generate", "--file", prompts, "-m", tmp_path / "best.safetensors", "-n", 2]
    command += ["--max-tokens", 5, "--batch-size", 1, "--device", "cpu", "--output"]
    for count in (1, 2):
        out = tmp_path / f"{count}.txt"
        assert on_processes(count, counting, notices, *command, out) == [0] * count
    lines = (tmp_path / "1.txt").read_text().splitlines()
    assert [line[:2] for line in lines] == ["w1", "w1", "w3", "w3", "w4", "w4"]
    assert (tmp_path / "2.txt").read_text().splitlines() == lines


def tokenizer(text: Path, out: Path, algorithm: str) -> None:
    """Blocks of a few lines, so that there are some for each process."""
    with mock.patch("dlkit.core.io.text.BLOCK", 100), contextlib.redirect_stdout(io.StringIO()):
        main(
            ["tokenize", "train", str(text), "-a", algorithm, "--vocab-size", "270", "-o", str(out)]
        )


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["byte-bpe", "wordpiece", "words"])
def test_processes_count_what_one_counts(algorithm: str, data: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text((data / "source.txt").read_text() + "naïve café 日本語\n" * 30)
    for count in (1, 2, 4):
        assert on_processes(count, tokenizer, text, tmp_path / f"{count}", algorithm) == [0] * count
    one = (tmp_path / "1").read_bytes()
    assert len(one) > 500
    assert (tmp_path / "2").read_bytes() == (tmp_path / "4").read_bytes() == one


@pytest.mark.slow
def test_processes_share_the_blocks_of_a_text_that_is_encoded_and_decoded(
    data: Path, tmp_path: Path
) -> None:
    """Of several files, one of which is not there and one ends without a line's end."""
    notices, files = tmp_path / "notices", [tmp_path / f"{number}.txt" for number in range(4)]
    text = (data / "source.txt").read_text() + "naïve café 日本語\n" * 30
    texts = [text, "one line", "", text[:200] + "\n"]
    for file, content in zip(files, texts, strict=True):
        file.write_text(content)
    sources = [*files[:2], tmp_path / "none.txt", *files[2:]]
    one, three = tmp_path / "one.ids", tmp_path / "three.ids"
    assert run("tokenize", *sources, "--ids", "-o", one).code == 1
    command = ["tokenize", *sources, "--ids", "-o", three]
    assert on_processes(3, counting, notices, *command) == [1] * 3, notices.read_text()
    assert three.read_text() == one.read_text()
    assert notices.read_text().count("none.txt: no such file") == 1
    command = ["tokenize", "decode", one, "-o", tmp_path / "back.txt"]
    assert on_processes(2, counting, notices, *command) == [0, 0], notices.read_text()
    assert (tmp_path / "back.txt").read_text() == text + "one line\n" + texts[3]

    # The results of compiled code are memoryviews, which must be copied to be sent.
    command = ["tokenize", *files, "-o", tmp_path / "capitals.txt"]
    assert on_processes(2, compiled, notices, *command) == [0, 0], notices.read_text()
    assert (tmp_path / "capitals.txt").read_text() == f"{text}one line\n{texts[3]}".upper()

    wrong = tmp_path / "wrong.ids"
    wrong.write_text(one.read_text() + "seven\n")
    command = ["tokenize", "decode", wrong, "-o", tmp_path / "wrong.txt"]
    assert 2 in on_processes(2, counting, notices, *command)
    number = one.read_text().count("\n") + 1
    assert f"line {number}: 'seven' is not an id" in notices.read_text()


def compiled(notices: Path, *args: object) -> None:
    """`counting` with a mock of the compiled encoder, from the first block on."""

    def written(block: bytes) -> memoryview:
        return memoryview(f"{block.decode().upper().rstrip()}\n".encode())

    encoder = mock.Mock()
    encoder.text_encoder.return_value = written
    with (
        mock.patch("dlkit.tokenize.infer.COMPILED_SIZE", 0),
        mock.patch.object(Tokenizer, "compiled_encoder", return_value=encoder),
    ):
        counting(notices, *args)


def counting(notices: Path, *args: object) -> None:
    """Blocks of text and slices of words so small that there are some for each process."""
    sys.stderr = notices.open("a", buffering=1)
    with (
        mock.patch("dlkit.core.io.text.BLOCK", 100),
        mock.patch("dlkit.embed.cooccurrence.SLICE", 20),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        main([*map(str, args)])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("lm-generate train TEXT --arch ngram --order 3 --arpa --out", "best.arpa"),
        ("embed train TEXT --method glove --min-count 1 --dim 8 --epochs 2 --threads 1 --out", ""),
        ("embed train TEXT --method glove --min-count 1 --dim 8 --epochs 2 --threads 1 --phrases 1"
         " --threshold 9 --out", ""),
        ("embed phrases TEXT --passes 2 --min-count 2 --threshold 8 --output", "."),
    ],
)  # fmt: skip
def test_processes_count_words_that_stand_together_as_one_does(
    command: str, name: str, data: Path, tmp_path: Path
) -> None:
    text, notices = tmp_path / "text.txt", tmp_path / "notices"
    pairs = "new york and san francisco bay\nthe new york times\nold york in the bay\n" * 20
    text.write_text((data / "source.txt").read_text() + pairs)
    args = command.replace("TEXT", str(text)).split()
    for count in (1, 2, 3):
        out = tmp_path / str(count)
        assert on_processes(count, counting, notices, *args, out) == [0] * count, (
            notices.read_text()
        )
    results = [tmp_path / str(count) / name for count in (1, 2, 3)]
    if name:
        one = results[0].read_bytes()
        assert len(one) > 1000
        assert (b"new_york" if name == "." else b"ngram 3=") in one
        assert all(path.read_bytes() == one for path in results)
    else:
        found = [checkpoint.load(path / "best.safetensors")[1] for path in results]
        assert found[0]["vectors"].shape[1] == 8
        assert all(torch.equal(found[0][key], of[key]) for of in found for key in found[0])
        # Nothing is left of the counting.
        assert [path.name for path in results[1].glob("c*")] == ["curves.png"]


@pytest.mark.slow
def test_painters_and_recurrent_networks_train_on_two_processes(data: Path, tmp_path: Path) -> None:
    """A frozen encoder beside what is learned; a state of its own for each part of a batch."""
    pictures, text = data / "images" / "train", data / "source.txt"
    commands = [
        f"style-transfer train {pictures / 'dark'} --images {pictures / 'light'} --arch adain"
        " --features random:0 --image-size 32 --steps-per-epoch 2 --batch-size 2 --epochs 1",
        f"lm-generate train {text} --arch lstm --width 16 --context 8 --batch-size 8 --epochs 1"
        " --steps-per-epoch 4 --accumulate 2",
    ]
    notices = tmp_path / "notices"
    for number, command in enumerate(commands):
        out = tmp_path / str(number)
        codes = on_processes(2, dlkit, notices, *command.split(), "--out", out)
        assert codes == [0, 0], notices.read_text()
        assert len(losses(out)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize(
    ("fault", "codes", "notice"),
    [
        ("SIGKILL", (75, -9), "process 0: another process was lost, or did not answer within"),
        ("SIGSTOP", (75, -9), "process 0: another process was lost, or did not answer within 4 s"),
        ("SIGTERM", (75, 75), "SIGTERM: saved"),
        ("SIGUSR1", (75, 75), "SIGUSR1: saved"),
    ],
)
def test_nothing_is_lost_with_a_process(
    tmp_path: Path,
    count: int,
    fault: str,
    codes: tuple[int, int],
    notice: str,
) -> None:
    """The others say so in a bounded time, and the run goes on to the weights of one left alone."""
    notices, out = tmp_path / "notices", tmp_path / "broken"
    began = time.monotonic()
    found = on_processes(count, toy, notices, out, False, fault, DLKIT_TIMEOUT="4")
    assert time.monotonic() - began < 60
    assert found == [codes[0]] * (count - 1) + [codes[1]], notices.read_text()
    assert notice in notices.read_text()
    assert on_processes(count, toy, notices, out, True) == [0] * count
    assert "resuming" in notices.read_text()
    assert on_processes(count, toy, notices, tmp_path / "whole", False) == [0] * count
    whole, broken = weights(tmp_path / "whole"), weights(out)
    assert all(torch.equal(whole[name], broken[name]) for name in whole)
    assert losses(tmp_path / "whole") == losses(out)


@pytest.mark.slow
def test_torchrun_starts_all_again_when_one_is_killed(data: Path, tmp_path: Path) -> None:
    """What `--max-restarts` and `--resume auto` make of it: two steps are lost, no weight differs.

    The state was last saved after four steps, and the sixth was taken when the kill came.
    """
    notices, options = tmp_path / "notices", ["--save-every", 4, "--resume", "auto"]
    command = [*commands(data)["lm-generate"].split(), *options, "--out"]
    script = tmp_path / "rank.py"
    script.write_text(
        "import sys\nfrom pathlib import Path\n"
        "from tests.core.parallel.test_cluster import killed\n"
        "killed(Path(sys.argv[1]), *sys.argv[2:])\n"
    )
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    launcher += ["--nproc-per-node", "2", "--max-restarts", "1", str(script)]
    done = subprocess.run(
        [*launcher, *map(str, [notices, *command, tmp_path / "broken"])],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[3])},
        stderr=subprocess.PIPE,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr + notices.read_text()
    assert f"resuming {tmp_path / 'broken'} after epoch 0 and 4 steps" in notices.read_text()
    assert on_processes(2, dlkit, notices, *command, tmp_path / "whole") == [0, 0]
    whole, broken = weights(tmp_path / "whole"), weights(tmp_path / "broken")
    assert all(torch.equal(whole[name], broken[name]) for name in whole)
    assert losses(tmp_path / "whole") == losses(tmp_path / "broken")


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (DlkitError, 2, "dlkit: process 1: out of luck"),
        (KeyError, 70, "dlkit: process 1: KeyError: 'out of luck'"),
    ],
)
def test_an_error_of_any_process_is_said_and_stops_all(
    error: type[Exception], code: int, line: str, data: Path, tmp_path: Path
) -> None:
    notices, began = tmp_path / "notices", time.monotonic()
    command = [*commands(data)["classify"].split(), "--out", tmp_path / "run"]
    assert on_processes(2, failing, notices, error, *command) == [75, code], notices.read_text()
    assert time.monotonic() - began < 60
    lines = notices.read_text().splitlines()
    assert lines.count(line) == 1
    assert ("Traceback (most recent call last):" in lines) == (error is KeyError)
    assert [of[:41] for of in lines if "process 0" in of] == [
        "dlkit: process 0: another process was lost"[:41]
    ]


@pytest.mark.slow
def test_a_process_that_never_comes_is_said(tmp_path: Path) -> None:
    notices = tmp_path / "notices"
    expected = {"WORLD_SIZE": "2", "DLKIT_TIMEOUT": "2"}
    assert on_processes(1, toy, notices, tmp_path / "run", False, **expected) == [75]
    assert "not all of 2 processes connected to 127.0.0.1" in notices.read_text()
