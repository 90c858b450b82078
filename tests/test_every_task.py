"""What every task promises: the same files, help, and a round from training to evaluation."""

import json
from dataclasses import fields
from pathlib import Path

import pytest
import torch

from dlkit import __version__
from dlkit.caption.config import CaptionTrainConfig
from dlkit.cli import TASKS
from dlkit.core.config import TrainConfig
from dlkit.core.store import checkpoint
from dlkit.detect.config import DetectTrainConfig
from dlkit.gan_sample.config import GanTrainConfig
from dlkit.segment.config import SegmentTrainConfig
from dlkit.style_transfer.config import StyleTrainConfig
from tests.conftest import run

ROOT = Path(__file__).parent.parent
ROLES = ["config", "model", "infer", "evaluate", "train", "cli"]


@pytest.mark.parametrize("task", TASKS)
def test_the_same_files(task: str) -> None:
    folder = ROOT / "dlkit" / task.replace("-", "_")
    assert {path.stem for path in folder.glob("*.py")} >= set(ROLES)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("command", [[], ["infer"], ["train"], ["evaluate"], ["models"]])
def test_every_command_has_help_and_is_in_the_readme(task: str, command: list[str]) -> None:
    result = run(task, *command, "--help")
    assert result.code == 0
    assert "Usage: dlkit" in result.out
    spoken = " ".join(["dlkit", task, *(c for c in command if c != "infer")])
    assert spoken in (ROOT / "README.md").read_text()


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
    out = run(task, "train", "--help").out
    for field in fields(config):
        name = field.name.replace("_", "-")
        assert f"--{name}" in out or field.name == "data"
    assert f"[default: {arch}]" in " ".join(out.split())


@pytest.mark.parametrize("task", TASKS)
def test_arguments_without_a_command_go_to_infer(task: str) -> None:
    for arguments in (["no-such-file"], ["--nope"], ["./train"], ["--", "train"]):
        direct, option_name = run(task, *arguments), run(task, "infer", *arguments)
        assert (direct.code, direct.out) == (option_name.code, option_name.out)
        # A word; a text.
        answered = (task, arguments[-1]) == ("embed", "train") or task == "lm-generate"
        assert direct.code != 0 or answered
        assert "Traceback" not in direct.err


def test_version_and_unknown_commands() -> None:
    assert run("--version").out.strip() == __version__
    assert run("detekt").code == 2
    missing = run("detect")
    assert missing.code == 2
    assert "Missing argument 'images" in missing.err


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


def test_train_prints_a_model_that_infer_and_evaluate_take(shapes: Path, model: Path) -> None:
    header = checkpoint.read_header(model)
    assert header.task == "detect"
    assert header.labels == ["disc", "square"]
    scores = json.loads(run("detect", "evaluate", shapes, "-m", model, "-f", "json").out)
    assert {record["label"] for record in scores} == {"all", "disc", "square"}
    assert all(record["definition"] for record in scores)
    found = json.loads(
        run("detect", shapes / "JPEGImages", "-m", model, "-f", "json", "--threshold", 0).out
    )
    assert len(found) == 16
