"""Wrong command lines: one line with the nearest name, the task of a model, or an example."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import one_line, run, save_stub


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("detct photo.jpg", "no task or command 'detct'; did you mean detect?"),
        ("generate", "no task or command 'generate'; did you mean lm-generate?"),
        ("photo.jpg", "no task or command 'photo.jpg'; for example: dlkit detect photo.jpg"),
        ("align x", "align is a command of translate; for example: dlkit translate align"),
        ("train DATA", "train is a command of caption, classify, detect, embed, "),
        ("help detct", "no task or command 'detct'; did you mean detect?"),
        ("detect", "missing IMAGES; for example: dlkit detect photo.jpg"),
        ("detect infer", "missing IMAGES; for example: dlkit detect photo.jpg"),
        ("detect train", "missing DATA; for example: dlkit detect train DATA"),
        ("style-transfer a.jpg", "missing PHOTOS; for example: dlkit style-transfer photo.jpg"),
        ("classify search a.jpg", "missing --in; for example: dlkit classify search photo.jpg"),
        ("merge", "missing FILES; for example: dlkit merge"),
        ("detect trian", "no command 'trian' in `dlkit detect`, and no such file; did you mean"),
        ("gan-sample trian", "did you mean train?"),
        ("gan-sample a b", "unexpected a b in `dlkit gan-sample`; for example: dlkit gan-sample"),
        ("detect a.jpg --treshold 0.5", "no option --treshold in `dlkit detect`; did you mean"),
        ("detect a.jpg --treshold 0.5", "did you mean --threshold?"),
        ("detect a.jpg -threshold 0.5", "no option -threshold in `dlkit detect`; did you mean --"),
        ("detect a.jpg -model cells", "no option -model in `dlkit detect`; did you mean --model?"),
        ("detect a.jpg --epochs 3", "`dlkit detect train` has it"),
        ("detect a.jpg --xyz", "no option --xyz in `dlkit detect`; `dlkit detect --help-all` "),
        ("--versoin", "no option --versoin in `dlkit`; did you mean --version?"),
        ("detect a.jpg -f jsn", "--format: 'jsn' is not one of text, json, jsonl, csv, coco"),
        ("detect a.jpg -f jsn", "did you mean json or jsonl?"),
        ("detect a.jpg --iou 3", "--iou: 3.0 must be from 0 to 1"),
        ("detect train . --epochs 0", "--epochs: 0 must be at least 1"),
        ("detect train . --epochs many", "--epochs: 'many' is not a whole number"),
        ("detect train . --lr fast", "--lr: 'fast' is not a number"),
        ("detect train . --epochs", "--epochs: requires a value"),
        ("detect a.jpg --count=3", "--count: does not take a value"),
        ("detect a.jpg -m cifar10", "cifar10 is a model of classify and gan-sample; detect has"),
        ("detect a.jpg -m cifar10", "detect has animals, cells"),
        ("detect a.jpg -m animal", "unknown model 'animal' for detect; did you mean animals?"),
        ("detect a.jpg -m qqq", "unknown model 'qqq' for detect; it has animals, cells"),
        ("classify a.jpg -m fcos-coco", "fcos-coco is a model of detect; classify has caltech101"),
        ("classify a.jpg -m fcos-coco", "and 16 more (`dlkit models` lists all)"),
        ("embed king -m english-ngram", "english-ngram is a model of lm-generate; embed has"),
    ],
)  # fmt: skip
def test_a_slip_is_one_line_that_helps(
    line: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    one_line(run(*line.split()), message)


def test_a_runs_folder_or_file_without_suffix_is_recognized(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    save_stub(tmp_path / "run" / "best.safetensors")
    one_line(run("classify", "a.jpg", "-m", "run"), "run is a folder; give its model, run/best.saf")
    one_line(run("classify", "a.jpg", "-m", "run/best"), "did you mean run/best.safetensors?")


def test_a_word_of_a_text_is_not_taken_for_a_command() -> None:
    assert run("embed", "trains", "--top", "1").out.startswith("trains\t")


def test_a_file_that_is_called_like_a_command_is_an_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("trian").write_bytes(b"")
    assert "no command" not in run("detect", "trian").err


def test_no_arguments_show_the_help() -> None:
    done = run()
    assert done.code == 2
    assert done.err.startswith("Usage: dlkit TASK")


@pytest.mark.parametrize("line", ["detct", "detect --hlp", "detect", "detect a -m cifar10"])
def test_slips_load_nothing_heavy(line: str) -> None:
    script = (
        "import atexit, sys\n"
        "heavy = {'torch', 'numpy', 'rich', 'PIL'}\n"
        "atexit.register(lambda: print(heavy & set(sys.modules), file=sys.stderr))\n"
        f"from dlkit.cli import main\nmain({line.split()!r})"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.endswith("set()\n")


def test_options_of_the_first_version_are_read_under_todays_names(tmp_path: Path) -> None:
    for line, notice in {
        "detect train {} --plain-epochs 0": "--plain-epochs is now --close-mosaic",
        "segment train {} --width=0.5": "--width is now --width-multiplier",
        "segment train {} --from-scratch": "--from-scratch is now --no-pretrained-backbone",
    }.items():
        refused = run(*line.format(tmp_path).split())
        assert refused.err.splitlines()[0] == notice
        assert "known layout" in refused.err  # the folder is empty
    assert "is now" not in run("detect", "a.jpg", "--plain-epochs", "0").err
