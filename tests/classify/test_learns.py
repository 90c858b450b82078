"""Trainings that must reach a score."""

import json
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from dlkit.classify.models.text import TEXT_ARCHITECTURES
from dlkit.classify.text import TextDataset, WordVocabulary, pad_ids, read_texts
from dlkit.core.store import checkpoint
from tests.classify.helpers import (
    SIDE,
    TEXT_NETWORKS,
    TINY,
    WORDS,
    evaluated,
    striped,
    text_network,
    train,
    trained,
    write_lines,
)
from tests.conftest import run


def test_a_tiny_model_learns_stripes(stripes: Path, model: Path, tmp_path: Path) -> None:
    header = checkpoint.read_header(model)
    assert header.labels == ["amber", "blue", "cyan"]
    assert header.settings["preprocessing"]["image_size"] == SIDE
    found = evaluated(stripes, "-m", model, "--save", tmp_path)
    assert found["top1", "all"] == 1.0
    assert found["samples", "blue"] == 4
    assert (tmp_path / "confusion.png").exists()
    log = (model.parent / "log.jsonl").read_text().splitlines()
    assert len(log) == 6


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["perceptron", "adaline", "linear", "mlp", "knn"])
def test_the_earliest_architectures_learn_colors(stripes: Path, tmp_path: Path, arch: str) -> None:
    result = run(
        "classify", "train", stripes, "--arch", arch, "--epochs", 4, "--out", tmp_path / arch,
        "--workers", 0, "--device", "cpu",
    )  # fmt: skip
    assert result.code == 0, result.err
    assert evaluated(stripes, "-m", result.out.strip())["top1", "all"] >= 0.9


@pytest.mark.slow
def test_images_with_several_labels(tmp_path: Path) -> None:
    """Label `wide` for lying stripes, `warm` for amber; an image may have none or both."""
    rows = []
    (tmp_path / "images").mkdir()
    for seed in range(60):
        color = ["amber", "cyan"][seed % 2]
        picture = striped(color, seed)
        wide = seed % 4 < 2
        if wide:
            picture = picture.rotate(90)
        path = f"images/{seed}.png"
        picture.save(tmp_path / path)
        labels = ["warm"] * (color == "amber") + ["wide"] * wide
        split = "test" if seed >= 48 else "train"
        rows.append(f"{path},{';'.join(labels)},{split}")
    data = tmp_path / "all.csv"
    data.write_text("path,label,split\n" + "\n".join(rows) + "\n")
    best = trained(data, tmp_path / "run", *TINY, "--epochs", 8)
    last = best.with_name("last.safetensors")
    found = evaluated(data, "-m", last)
    assert found["map", "all"] > 0.95
    records = json.loads(run("classify", tmp_path / "images", "-m", last, "-f", "json").out)
    given = {Path(r["path"]).stem: {g["label"] for g in r["labels"]} for r in records}
    assert len({frozenset(labels) for labels in given.values()}) == 4
    assert "several labels" in train(data, tmp_path / "no", "--loss", "cross-entropy").err


@pytest.mark.slow
def test_metric_learning_describes_images(stripes: Path, tmp_path: Path) -> None:
    options = ["--loss", "triplet", "--embedding", 8, "--epochs", 8, "--batch-size", 24]
    best = trained(stripes, tmp_path / "run", *TINY, *options)
    assert checkpoint.load(best)[1]["head.fc.weight"].shape[0] == 8
    assert evaluated(stripes, "-m", best)["recall_at_1", "all"] == 1.0
    refused = run("classify", stripes / "test", "-m", best)
    assert refused.code == 2
    assert "search" in refused.err


@pytest.mark.slow
@pytest.mark.parametrize("arch", [*TEXT_ARCHITECTURES, "hierarchical"])
def test_every_text_architecture_trains_and_answers(words: Path, tmp_path: Path, arch: str) -> None:
    options = ["--arch", "attention", "--sentences"] if arch == "hierarchical" else ["--arch", arch]
    data = words.parent.parent
    options += ["--epochs", "10", "--batch-size", "8", "--embedding-size", "16", "--lr", "0.02"]
    done = run("classify", "train", data, "--out", tmp_path / "run", "--device", "cpu", *options)
    assert done.code == 0, done.err
    last = tmp_path / "run" / "last.safetensors"
    assert run("classify", "-m", last, "--text", "snow").out.startswith("cold")
    assert evaluated(data, "-m", last)["top1", "all"] == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("name", TEXT_NETWORKS)
def test_a_small_set_is_learned(name: str, tmp_path: Path) -> None:
    data = write_lines(tmp_path / "films", 60)
    texts = read_texts(data)
    labels, samples = texts.split("train")
    assert labels == ["neg", "pos"]
    vocabulary = WordVocabulary.learn([text for text, _ in samples], WORDS)
    dataset = TextDataset(samples, vocabulary, 20, word_dropout=0.1)
    model = text_network(name, 2).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
    torch.manual_seed(0)
    for _ in range(15):
        for batch in torch.randperm(len(dataset)).split(16):
            ids, targets = dataset.__getitems__(batch.tolist())
            optimizer.zero_grad()
            F.cross_entropy(model(ids), targets).backward()
            optimizer.step()
    model.eval()
    _, held_out = texts.split("test", labels)
    (ids, targets), *_ = TextDataset(held_out, vocabulary, 20).batches(100, range(len(held_out)))
    assert (model(ids).argmax(dim=1) == targets).all()
    if name == "fasttext":
        weights = model.word_weights(pad_ids([torch.tensor(vocabulary.encode("a dull film", 9))]))
        assert weights[0].argmax() == 1
