"""`dlkit models`: the table on a terminal, the lines in a pipe, and the card of a model."""

import json
import re
from pathlib import Path

import pytest

from dlkit.core.store import checkpoint
from dlkit.core.store.weights import bundled
from dlkit.tasks import TASKS, task_module
from tests.conftest import one_line, records, run, save_stub

SHIPPED = [path for task in TASKS for path in bundled(task)]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parts[-3]}-{path.stem}")
def test_the_card_of_a_bundled_model_is_complete(path: Path) -> None:
    card = checkpoint.read_header(path).card
    assert len(card["knows"]) <= 50
    assert re.match("good at .*(not for|poor at) ", card["limits"])
    assert len(card["license"]) <= 16
    for name in ("score", "definition", "measure", "data", "terms", "command"):
        assert card[name]


def test_a_pipe_gets_the_lines_of_before() -> None:
    lines = [line.split("\t") for line in run("models").out.splitlines()]
    assert {len(line) for line in lines} == {9}
    assert {line[0] for line in lines} == {*TASKS}
    assert [*json.loads(run("models", "-f", "json").out)[0]] == [
        "task", "name", "place", "arch", "labels", "score", "data", "megabytes", "path",
    ]  # fmt: skip


@pytest.mark.parametrize("width", [40, 80, 120])
def test_a_terminal_gets_a_table(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    out = re.sub(r"\x1b\[[\d;]*m", "", run("models", "--color", "always").out)
    lines = out.splitlines()
    assert max(map(len, lines)) <= width
    assert [line.split()[0] for line in lines if line[:1].isalpha()] == [*TASKS]
    words = " ".join(out.split())
    for task in TASKS:
        assert f"{task_module(task).TASK.default_model} *" in words
    for fact in ("ap50_coco101 0.632", "research", "6.7", "bundled", "can be fetched (objects of"):
        assert fact in words
    (header,) = (line for line in lines if line.startswith("detect"))
    assert header.split()[1:] == (["knows", "score", "license", "MB"] if width > 40 else [])


def test_a_task_lists_its_models_only() -> None:
    assert run("models", "detect") == run("detect", "models")
    assert {record["task"] for record in records(run("models", "detect", "-f", "jsonl"))} == {
        "detect"
    }


def test_a_name_shows_the_card() -> None:
    lines = dict(line.split(": ", 1) for line in run("models", "animals").out.splitlines())
    header = checkpoint.read_header(bundled("detect")[0])
    assert lines["task"] == "detect"
    assert lines["default"] == "True"
    assert lines["labels"] == ", ".join(header.labels)
    assert {k: v for k, v in lines.items() if k in header.card} == header.card
    assert "\x1b" not in run("models", "animals").out


def test_a_name_of_several_tasks_shows_all_cards() -> None:
    cards = json.loads(run("models", "cifar10", "-f", "json").out)
    assert [card["task"] for card in cards] == ["classify", "gan-sample"]
    assert [card["default"] for card in cards] == [True, False]
    (own,) = json.loads(run("gan-sample", "models", "cifar10", "-f", "json").out)
    assert own == cards[1]
    assert own["metrics"]["fid"] == 6.68087


def test_a_file_shows_its_card(tmp_path: Path) -> None:
    path = save_stub(tmp_path / "own.safetensors")
    (card,) = json.loads(run("models", path, "-f", "json").out)
    assert (card["task"], card["name"], card["place"]) == ("classify", "own", "file")
    assert card["labels"] == ["a", "b", "c"]
    one_line(run("detect", "models", path), "own.safetensors: a model for `dlkit classify`")
    one_line(run("models", tmp_path / "none.safetensors"), "no such model file")
    path.write_bytes(b"x" * 30)
    assert run("models", path).code == 1


def test_a_model_to_fetch_has_a_card_with_its_address() -> None:
    (card,) = json.loads(run("models", "fcos-coco", "-f", "json").out)
    assert card["place"] == "downloaded on first use"
    assert card["path"].startswith("https://")


def test_an_unknown_name_gets_the_nearest() -> None:
    one_line(run("models", "anmals"), "no model 'anmals'; did you mean animals?")
    one_line(run("models", "detct"), "no model 'detct'; did you mean detect?")
    one_line(run("models", "qqqq"), "no model 'qqqq'; `dlkit models` lists all")


def test_a_card_on_a_terminal_is_wrapped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    out = re.sub(r"\x1b\[[\d;]*m", "", run("models", "cells", "--color", "always").out)
    assert max(map(len, out.splitlines())) <= 80
    assert "limits      good at red and white cells and platelets" in out
