"""The commands of `dlkit classify`."""

import csv
import json
import re
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from dlkit.classify.infer import Classifier
from dlkit.core.store.checkpoint import Header, save
from tests.classify.helpers import evaluated
from tests.conftest import on_processes, run
from tests.core.helpers import dlkit as on_rank


def test_answers_have_the_shapes_of_the_formats(stripes: Path, model: Path) -> None:
    folder = stripes / "test" / "blue"
    text = run("classify", folder, "-m", model).out.splitlines()
    assert [line.split("\t")[1] for line in text] == ["blue"] * 4
    records = json.loads(run("classify", folder, "-m", model, "--top", 3, "-f", "json").out)
    assert [len(record["labels"]) for record in records] == [3] * 4
    for record in records:
        assert sum(prediction["score"] for prediction in record["labels"]) == pytest.approx(
            1, abs=1e-3
        )
        values = [prediction["score"] for prediction in record["labels"]]
        assert values == sorted(values, reverse=True)
    rows = list(csv.DictReader(run("classify", folder, "-m", model, "-f", "csv").out.splitlines()))
    assert rows[0].keys() == {"path", "label", "score"}
    few = run("classify", folder, "-m", model, "--top", 3, "--threshold", 0.9, "-f", "json")
    assert all(g["score"] >= 0.9 for r in json.loads(few.out) for g in r["labels"])


def test_nothing_found_names_the_most_probable_label(
    stripes: Path, model: Path, words: Path
) -> None:
    """On a terminal alone; a pipe gets what it got."""
    image = next((stripes / "test" / "blue").iterdir())
    command = ("classify", image, "-m", model)
    assert run(*command, "--threshold", 1).err == ""
    line = run(*command, "--threshold", 1, "--color", "always").err
    assert line.startswith(f"nothing above 1.00 in {image}; highest: blue 0.")
    score = float(run(*command).out.split("\t")[2])
    assert float(line.split()[-1]) == pytest.approx(score, abs=0.006)
    options = ["--threshold", 1, "--color", "always"]
    line = run("classify", "-m", words, "--text", "neither", *options).err
    assert re.match("nothing above 1.00 in 'neither'; highest: (cold|warm) 0.", line)


def test_a_bad_image_does_not_stop_the_rest(stripes: Path, model: Path, tmp_path: Path) -> None:
    good = sorted((stripes / "test" / "cyan").iterdir())[:2]
    bad = tmp_path / "bad.png"
    bad.write_bytes(good[0].read_bytes()[:60])
    result = run(
        "classify", good[0], bad, good[1], tmp_path / "none.png", "-m", model, "-f", "jsonl"
    )
    assert result.code == 1
    records = [json.loads(line) for line in result.out.splitlines()]
    assert [("error" in record) for record in records] == [False, True, False, True]
    assert "2 of 4 inputs failed" in result.err
    assert str(bad) in result.err


def test_texts_are_classified_line_by_line(words: Path, tmp_path: Path) -> None:
    lines = "snow and frost\nheat on the sand\n"
    answer_queries = run("classify", "-m", words, stdin=lines).out.splitlines()
    assert [answer.split("\t")[0] for answer in answer_queries] == ["cold", "warm"]
    (tmp_path / "notes.txt").write_text(lines)
    record = json.loads(run("classify", tmp_path / "notes.txt", "-m", words, "-f", "json").out)[1]
    assert record["text"] == "heat on the sand"
    assert run("classify", "-m", words, "--text", "ice").out.startswith("cold\t")
    found = evaluated(words.parent.parent, "-m", words)
    assert found["top1", "all"] == 1.0


def test_images_and_texts_are_not_mixed_up(model: Path, words: Path) -> None:
    assert "classifies images" in run("classify", "-m", model, "--text", "ice").err
    assert "no images" in run("classify", "-m", model).err
    assert run("classify", "features", "x.png", "-m", words).code == 2
    assert (
        "--text and files are both given"
        in run("classify", "a.txt", "--text", "ice", "-m", words).err
    )


@pytest.fixture
def saved_model(classifier: Classifier, tmp_path: Path) -> Path:
    network = {"num_labels": 4, "image_size": 32, "width_multiplier": 0.1}
    described = {
        "network": network,
        "preprocessing": asdict(classifier.preprocessing),
        "loss": "cross-entropy",
    }
    path = tmp_path / "model.safetensors"
    header = Header("classify", "resnet9", described, classifier.labels)
    save(path, classifier.network.state_dict(), header)
    return path


@pytest.mark.slow
def test_explain_features_and_search_as_commands(
    folder: Path, saved_model: Path, tmp_path: Path
) -> None:
    query, maps = folder / "red" / "0.png", tmp_path / "maps"
    options = ["-m", saved_model, "--device", "cpu", "--precision", "fp32"]
    explained = run(
        "classify", "explain", query, "missing.png", "--boxes", "--save", maps, *options
    )
    assert explained.code == 1
    assert len(explained.out.strip().split("\t")) in {3, 7}
    assert "missing.png: no such file" in explained.err
    assert (maps / "0.png").is_file()
    assert run("classify", "explain", query, *options).code == 2
    assert run("classify", "explain", query, "--save", folder / "red", *options).code == 2

    output = tmp_path / "all.npy"
    stored = run("classify", "features", folder, "--pca", 2, "-o", output, *options)
    assert stored.out == f"{output}\t12\t2\n"
    assert np.load(output).shape == (12, 2)
    assert "head.fc\tLinear\t4\n" in run("classify", "features", "--layer", "list", *options).out
    assert run("classify", "features", *options).code == 2

    described = ["classify", "features", folder, *options, "-o"]
    lines, shards = tmp_path / "all.jsonl", tmp_path / "of.jsonl"
    assert run(*described, lines).code == 0
    for index in (1, 0):
        assert run(*described, shards, "--shard", f"{index}/2").code == 0
    merged = run("merge", *sorted(tmp_path.glob("of.*.jsonl")))
    assert merged.out == lines.read_text()
    assert len(merged.out.splitlines()) == 12
    assert run(*described, shards, "--shard", "0/3", "--pca", 2).code == 2

    found = run("classify", "search", query, "--in", folder, "--top", 3, "-f", "json", *options)
    assert found.code == 0, found.err
    assert len(json.loads(found.out)[0]["hits"]) == 3
    into = run("classify", "search", query, "--in", folder, "--save", folder / "a.png", *options)
    assert into.code == 2


@pytest.mark.slow
def test_shards_explain_and_search_what_one_run_does(
    folder: Path, saved_model: Path, tmp_path: Path
) -> None:
    options = ["-m", saved_model, "--device", "cpu", "--precision", "fp32"]
    one, shards = tmp_path / "one.jsonl", tmp_path / "of.jsonl"

    def merged() -> str:
        return run("merge", *sorted(tmp_path.glob("of.*.jsonl"))).out

    explaining = ["classify", "explain", folder, "--boxes", *options, "--save"]
    assert run(*explaining, tmp_path / "maps", "-o", one).code == 0
    for index in range(2):
        done = run(*explaining, tmp_path / "of", "-o", shards, "--shard", f"{index}/2")
        assert done.code == 0, done.err
    assert merged() == one.read_text()
    assert one.read_text().count("regions") == 12
    drawn = sorted(path.read_bytes() for path in (tmp_path / "maps").iterdir())
    assert sorted(path.read_bytes() for path in (tmp_path / "of").rglob("*.png")) == drawn
    first = tmp_path / "of.00000-of-00002.jsonl"
    lines = first.read_text().splitlines(keepends=True)
    first.with_name(f"{first.name}.partial").write_text("".join(lines[:4]))
    first.unlink()
    last = tmp_path / "of" / "00000-of-00002"
    pictures = {path.name: path.read_bytes() for path in last.iterdir()}
    for path in last.iterdir():
        path.unlink()
    done = run(*explaining, tmp_path / "of", "-o", shards, "--shard", "0/2", "--resume")
    assert "4 inputs are done" in done.err
    assert first.read_text() == "".join(lines)
    drawn_now = {path.name: path.read_bytes() for path in last.iterdir()}
    assert len(drawn_now) == 2
    assert drawn_now.items() <= pictures.items()

    for path in tmp_path.glob("*.jsonl"):
        path.unlink()
    search_in = ["classify", "search", folder / "red", "--in", folder, "--top", 2, *options]
    assert run(*search_in, "-o", one).code == 0
    refused = run(*search_in, "-o", shards, "--shard", "0/2")
    assert refused.code == 2
    assert f"each of 2 parts would index {folder}" in refused.err
    for index in range(2):
        done = run(*search_in, "-o", shards, "--shard", f"{index}/2", "--no-update")
        assert done.code == 0, done.err
    assert merged() == one.read_text()
    assert one.read_text().count("hits") > 2
    sheet = ["--no-update", "--save", tmp_path / "sheet.png"]
    refused = run(*search_in, "-o", shards, "--shard", "0/2", "--force", *sheet)
    assert refused.code == 2
    assert "--save: shows all queries" in refused.err


@pytest.mark.slow
def test_processes_explain_and_search_what_one_does(
    folder: Path, saved_model: Path, tmp_path: Path
) -> None:
    options = ["-m", saved_model, "--device", "cpu", "--precision", "fp32"]
    notices, texts = tmp_path / "notices", tmp_path / "texts"
    texts.write_text("never boring\na dull film\nit was fun <b>\n")
    commands = {
        "explain": ["explain", folder, "--boxes", *options],
        "search": ["search", folder / "red", "--in", folder, "--top", 2, *options],
        "words": ["explain", texts, "-m", "reviews", "--save", tmp_path / "page"],
    }
    pages = []
    for name, command in commands.items():
        found = {}
        for count in (1, 2):
            out = tmp_path / f"{name}-{count}.csv"
            if name == "search":
                command = [*command, "--index", tmp_path / f"{count}.safetensors"]
            more = ["--force"] if name == "words" else []  # both write one page
            codes = on_processes(count, on_rank, notices, "classify", *command, "-o", out, *more)
            assert codes == [0] * count, notices.read_text()
            found[count] = out.read_text()
            if name == "words":
                pages.append((tmp_path / "page" / "words.html").read_text())
        assert found[1] == found[2]
        assert found[1].count("\n") > 8
    assert pages[0] == pages[1]
    assert pages[0].count("<p>") == 3
