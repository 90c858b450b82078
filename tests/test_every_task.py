"""Every task: the same files, help, and the round train, infer, evaluate, resume."""

import contextlib
import functools
import json
import re
import shlex
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image

from dlkit import __version__
from dlkit.caption.config import CaptionTrainConfig
from dlkit.core.config import TrainConfig
from dlkit.core.errors import ExitStatus
from dlkit.core.store import checkpoint
from dlkit.core.train.run import Run
from dlkit.detect.config import DetectTrainConfig
from dlkit.gan_sample.config import GanTrainConfig
from dlkit.segment.config import SegmentTrainConfig
from dlkit.style_transfer.config import StyleTrainConfig
from dlkit.tasks import TASKS
from tests.conftest import Result, run, write_voc

ROOT = Path(__file__).parent.parent
ROLES = ["config", "model", "infer", "evaluate", "train", "cli"]


@pytest.mark.parametrize("task", TASKS)
def test_the_same_files(task: str) -> None:
    folder = ROOT / "dlkit" / task.replace("-", "_")
    assert {path.stem for path in folder.glob("*.py")} >= set(ROLES)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("command", [[], ["infer"], ["train"], ["evaluate"], ["models"]])
def test_every_command_has_help_and_is_on_the_page(task: str, command: list[str]) -> None:
    result = run(task, *command, "--help")
    assert result.code == 0
    assert "Usage: dlkit" in result.out
    spoken = " ".join(["dlkit", task, *(c for c in command if c != "infer")])
    assert spoken in (ROOT / "dlkit" / task.replace("-", "_") / "README.md").read_text()


@pytest.mark.parametrize(
    ("task", "config", "arch"),
    [
        ("caption", CaptionTrainConfig, "attend"),
        ("detect", DetectTrainConfig, "yolo"),
        ("gan-sample", GanTrainConfig, "residual"),
        ("segment", SegmentTrainConfig, "unet"),
        ("style-transfer", StyleTrainConfig, "fast"),
    ],
)
def test_every_setting_is_an_option_and_its_help_says_the_default(
    task: str, config: type[TrainConfig], arch: str
) -> None:
    out = run(task, "train", "--help-all").out
    for field in fields(config):
        name = field.name.replace("_", "-")
        assert f"--{name}" in out or field.name == "data"
    assert f"[default: {arch}]" in " ".join(out.split())


@pytest.mark.parametrize("task", TASKS)
def test_arguments_without_a_command_go_to_infer(task: str) -> None:
    for arguments in (["no-such-file"], ["--nope"], ["./train"], ["--", "train"]):
        direct, option_name = run(task, *arguments), run(task, "infer", *arguments)
        assert (direct.code, direct.out) == (option_name.code, option_name.out)
        # A text; a word, known or not.
        answered = task == "lm-generate" or (task == "embed" and arguments != ["--nope"])
        assert direct.code != 0 or answered
        assert "Traceback" not in direct.err


def test_version_and_unknown_commands() -> None:
    assert run("--version").out.strip() == __version__
    assert run("detekt").code == 2
    missing = run("detect")
    assert missing.code == 2
    assert "missing IMAGES" in missing.err


def test_doctor_verifies_the_bundled_files() -> None:
    result = run("doctor", "-f", "json")
    assert result.code == 0, result.err
    findings = {record["what"]: record["value"] for record in json.loads(result.out)}
    assert findings["torch"] == torch.__version__
    assert findings["auto"].startswith(("cpu in", "cuda in", "mps in"))
    assert findings["bundled detect animals"].startswith("ok")


def test_doctor_names_a_damaged_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "weights"
    monkeypatch.setattr("dlkit.core.store.weights.folder", lambda task: folder)
    path = folder / "bad.safetensors"
    checkpoint.save(path, {"x": torch.ones(9)}, checkpoint.Header("detect", "yolo", {}, []))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    result = run("doctor")
    assert result.code == 1
    assert str(path) in result.err
    assert "checksum" in result.err


def test_models_lists_what_is_bundled_and_what_could_be_downloaded() -> None:
    records = json.loads(run("models", "-f", "json").out)
    names = {record["name"]: record for record in records}
    assert names["animals"]["place"] == "bundled"
    assert names["animals"]["score"]
    assert names["fasterrcnn-coco"]["place"] == "downloaded on first use"
    of_detect = [record for record in records if record["task"] == "detect"]
    assert json.loads(run("models", "detect", "-f", "json").out) == of_detect
    assert run("models", "nothing").code == 2


@dataclass(frozen=True)
class Round:
    """The arguments of a round; `{data}` is the folder of `data`, `{model}` what `train` printed.

    `weights` are the files that a resumed run must have as an undisturbed one.
    """

    train: str
    infer: str
    evaluate: str
    weights: tuple[str, ...] = ("best.safetensors", "last.safetensors")


COMMON = "--epochs 2 --workers 1 --device cpu --precision fp32 --seed 1"
TINY = "--width 16 --layers 1 --batch-size 8"
ON_CPU = "--device cpu --precision fp32"
ROUNDS = {
    "caption": Round(
        f"{{data}}/captions.csv --arch nic --image-size 32 --backbone {{data}}/backbone.safetensors"
        f" {TINY} --vocab-size 60 {COMMON}",
        f"{{data}}/images -m {{model}} {ON_CPU}",
        f"{{data}}/captions.csv --split all -m {{model}} {ON_CPU}",
    ),
    "classify": Round(
        f"{{data}}/labels --arch lenet --image-size 32 --batch-size 8 {COMMON}",
        f"{{data}}/images -m {{model}} {ON_CPU}",
        f"{{data}}/labels --split val -m {{model}} {ON_CPU}",
    ),
    "detect": Round(
        f"{{data}}/shapes --size nano --image-size 64 --batch-size 4 {COMMON}",
        f"{{data}}/shapes/JPEGImages -m {{model}} --threshold 0 {ON_CPU}",
        f"{{data}}/shapes --split val -m {{model}} {ON_CPU}",
    ),
    "embed": Round(
        "{data}/text.txt --dim 8 --min-count 1 --epochs 2 --threads 1 --device cpu --seed 1",
        "w1 -m {model}",
        "{data}/pairs.txt -m {model}",
        ("best.safetensors",),
    ),
    "gan-sample": Round(
        f"{{data}}/images --arch dcgan --image-size 16 --width 4 --latent 4 --batch-size 8"
        f" --steps-per-epoch 2 --eval-samples 20 {COMMON}",
        "-m {model} -n 2 -o {data}/drawn.png --device cpu",
        "{data}/images --split train -m {model} --samples 12 --device cpu",
    ),
    "lm-generate": Round(
        f"{{data}}/text.txt --arch gpt --heads 2 --context 16 {TINY} --sample-tokens 0"
        f" --vocab-size 40 {COMMON}",
        f"w1 -m {{model}} --max-tokens 5 {ON_CPU}",
        f"{{data}}/text.txt --split all -m {{model}} {ON_CPU}",
    ),
    "segment": Round(
        f"{{data}}/masks --arch unet --image-size 32 --width-multiplier 0.1 --depth 2"
        f" --batch-size 4 {COMMON}",
        f"{{data}}/images -m {{model}} {ON_CPU}",
        f"{{data}}/masks --split val -m {{model}} {ON_CPU}",
    ),
    "style-transfer": Round(
        f"{{data}}/images/0.png --images {{data}}/images --arch fast --image-size 32"
        " --style-size 32 --width 4 --batch-size 4 --steps-per-epoch 2 --features random:0"
        f" {COMMON}",
        f"apply {{model}} {{data}}/images/0.png -o {{data}}/painted.png {ON_CPU}",
        "{data}/images/1.png {data}/images/0.png -m {model} --size 32",
    ),
    "tokenize": Round(
        "{data}/text.txt --vocab-size 300",
        "{data}/text.txt -m {model}",
        "{data}/text.txt -m {model}",
        (),
    ),
    "translate": Round(
        f"--source {{data}}/text.txt --target {{data}}/text.txt --arch transformer --heads 2 {TINY}"
        f" --tokenizer whitespace {COMMON}",
        f"{{data}}/text.txt -m {{model}} {ON_CPU}",
        f"--source {{data}}/text.txt --ref {{data}}/text.txt -m {{model}} {ON_CPU}",
    ),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, narrow: Path) -> Path:
    """Images of 32 pixels with labels, masks and captions; shapes with boxes; lines of words."""
    root = tmp_path_factory.mktemp("rounds")
    rng = np.random.default_rng(0)
    for folder in ("images", "masks/images/train", "masks/images/val", "masks/masks/train",
                   "masks/masks/val", "labels/train/dark", "labels/train/light",
                   "labels/val/dark", "labels/val/light"):  # fmt: skip
        (root / folder).mkdir(parents=True)
    captions = ["path,caption"]
    for number in range(16):
        split = "train" if number < 12 else "val"
        light = number % 2
        pixels = rng.integers(100 * light, 100 * light + 150, (32, 32, 3), dtype=np.uint8)
        image = Image.fromarray(pixels)
        image.save(root / "images" / f"{number}.png")
        image.save(root / "labels" / split / ("light" if light else "dark") / f"{number}.png")
        image.save(root / "masks" / "images" / split / f"{number}.png")
        mask = Image.fromarray((pixels[..., 0] > 120).astype(np.uint8))
        mask.save(root / "masks" / "masks" / split / f"{number}.png")
        captions.append(f"images/{number}.png,a {'light' if light else 'dark'} picture")
    (root / "masks" / "classes.txt").write_text("low\nhigh\n")
    (root / "captions.csv").write_text("\n".join(captions) + "\n")
    words = [[f"w{word}" for word in rng.integers(0, 9, 6)] for _ in range(80)]
    (root / "text.txt").write_text("".join(" ".join(line) + "\n" for line in words))
    (root / "pairs.txt").write_text("w1\tw2\t3.0\nw2\tw3\t1.0\nw3\tw4\t2.0\n")
    write_voc(root / "shapes", {"train": [*range(4)] * 2, "val": [4, 5]})
    shutil.copy(narrow, root / "backbone.safetensors")
    return root


def arguments(line: str, data: Path, model: str = "") -> list[str]:
    return [part.format(data=data, model=model) for part in line.split()]


@pytest.fixture(scope="module")
def training(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Result]:
    """The result of `train` by the task; each is trained once."""

    @functools.cache
    def train(task: str) -> Result:
        suffix = ".json" if task == "tokenize" else ""
        out = tmp_path_factory.mktemp(task) / f"run{suffix}"
        done = run(task, "train", *arguments(ROUNDS[task].train, data), "--out", out)
        assert done.code == 0, done.err
        return done

    return train


@pytest.fixture(scope="module")
def trained(training: Callable[[str], Result]) -> Callable[[str], Path]:
    """The path that `train` prints, by the task."""
    return lambda task: Path(training(task).out.strip())


@pytest.mark.parametrize("task", ROUNDS)
def test_train_prints_the_path_of_a_model_of_the_task(
    task: str, trained: Callable[[str], Path]
) -> None:
    header = checkpoint.read_header(trained(task), task)
    assert header.dlkit == __version__
    assert header.config


@pytest.mark.parametrize("task", [task for task in ROUNDS if task != "tokenize"])
def test_a_training_logs_losses_and_metrics_under_their_names(
    task: str, training: Callable[[str], Result], trained: Callable[[str], Path]
) -> None:
    lines = (trained(task).parent / "log.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert [record["epoch"] for record in records] == [1, 2]
    assert all(record["loss"] > 0 and "score" not in record for record in records)
    shown = [line for line in training(task).err.splitlines() if line.startswith("epoch ")]
    assert len(shown) == 2
    for line, record in zip(shown, records, strict=True):
        numbers = re.findall(r"(\w+) (-?[\d.]+)(?: \(best\))?  ", line.partition("  ")[2])
        assert ("loss", f"{record['loss']:.4f}") in numbers
        for name, value in numbers:
            assert float(value) == pytest.approx(record[name], abs=1e-4)
    if task == "embed":  # which has no validation data
        return
    assert "val_loss" in records[0] or task in {"detect", "gan-sample", "segment"}
    (name,) = re.findall(r"(\w+) [-\d.]+ \(best\)", shown[0])
    value, epoch = re.findall(rf"best: {name} (-?[\d.]+) in epoch (\d) of 2", training(task).err)[0]
    assert float(value) == pytest.approx(records[int(epoch) - 1][name], abs=1e-4)
    header = checkpoint.read_header(trained(task))
    assert header.metrics["epoch"] == int(epoch)
    assert header.metrics["loss"] == records[int(epoch) - 1]["loss"]


@pytest.mark.parametrize("task", ROUNDS)
def test_a_training_ends_with_its_files_and_a_command_that_runs(
    task: str,
    data: Path,
    training: Callable[[str], Result],
    trained: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (saved,), following = training(task).saved, training(task).err.splitlines()[-1]
    if task == "tokenize":
        assert saved == str(trained(task))
    else:
        folder, _, names = saved.removeprefix("in ").partition(": ")
        assert Path(folder) == trained(task).parent
        assert {"best.safetensors", "log.jsonl", "curves.png"} <= {*names.split(", ")}
        assert all((trained(task).parent / name).exists() for name in names.split(", "))
    assert following.startswith("next: dlkit ")
    inputs = {"PHOTO.jpg": str(data / "images" / "0.png"), "WORD": "w1"}
    command = shlex.split(following.removeprefix("next: dlkit "))
    monkeypatch.chdir(tmp_path)
    done = run(*[inputs.get(argument, argument) for argument in command])
    assert done.code == 0, done.err


@pytest.mark.parametrize("task", ROUNDS)
def test_infer_takes_the_model_that_train_prints(
    task: str, data: Path, trained: Callable[[str], Path]
) -> None:
    done = run(task, *arguments(ROUNDS[task].infer, data, str(trained(task))))
    assert done.code == 0, done.err
    assert done.out


@pytest.mark.parametrize("task", ROUNDS)
def test_evaluate_takes_the_model_that_train_prints(
    task: str, data: Path, trained: Callable[[str], Path]
) -> None:
    line = arguments(ROUNDS[task].evaluate, data, str(trained(task)))
    done = run(task, "evaluate", *line, "-f", "json")
    assert done.code == 0, done.err
    records = json.loads(done.out)
    assert records
    assert all(record.get("definition", "one") for record in records)


@pytest.mark.parametrize("task", ROUNDS)
def test_ctrl_c_before_the_first_step_is_one_line(task: str, data: Path, tmp_path: Path) -> None:
    command = (task, "train", *arguments(ROUNDS[task].train, data), "--out", tmp_path / "run")
    function = "train_file" if task == "tokenize" else "train"
    name = f"dlkit.{task.replace('-', '_')}.train.{function}"
    with mock.patch(name, side_effect=KeyboardInterrupt):
        done = run(*command)
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "last.state.pt").touch()
        resumed = run(*command)
    typed = shlex.join(["dlkit", *map(str, command)])
    assert (done.code, resumed.code) == (ExitStatus.INTERRUPTED, ExitStatus.INTERRUPTED)
    assert done.err == f"interrupted before a model was saved; start again with {typed}\n"
    assert resumed.err == (
        f"interrupted: {tmp_path / 'run'} is as before; continue with {typed} --resume\n"
    )


@contextlib.contextmanager
def stopped_after_an_epoch() -> Iterator[None]:
    """Runs that a scheduler stops after their first epoch, once it is saved."""
    finish = Run.finish_epoch

    def finish_and_stop(run: Run, **metrics: Any) -> bool:
        better = finish(run, **metrics)
        if run.epoch == 1:
            run.stops.stop(signal.SIGTERM)
        return better

    with mock.patch.object(Run, "finish_epoch", finish_and_stop):
        yield


@pytest.mark.slow
@pytest.mark.parametrize("task", [task for task in ROUNDS if len(ROUNDS[task].weights) == 2])
def test_a_resumed_run_ends_with_the_weights_of_an_undisturbed_one(
    task: str, data: Path, trained: Callable[[str], Path], tmp_path: Path
) -> None:
    whole, out = trained(task).parent, tmp_path / "run"
    command = (task, "train", *arguments(ROUNDS[task].train, data), "--out", out)
    with stopped_after_an_epoch():
        assert run(*command).code == ExitStatus.REQUEUE
    assert "holds a run already" in run(*command).err
    resumed = run(*command, "--resume")
    assert resumed.code == 0, resumed.err
    assert "resuming" in resumed.err
    for name in ROUNDS[task].weights:
        expected, found = (checkpoint.load(folder / name, task)[1] for folder in (whole, out))
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[key], found[key]) for key in expected)


def test_the_round_is_that_of_all_tasks() -> None:
    assert ROUNDS.keys() == TASKS.keys()
