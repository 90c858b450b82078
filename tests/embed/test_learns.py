"""Training reaches a score: every method separates two topics."""

import json
from pathlib import Path

import numpy as np
import pytest

from dlkit.embed.config import EmbedMethod, EmbedTrainConfig
from dlkit.embed.model import load_embedding
from dlkit.embed.subwords import vector_of_unknown
from dlkit.embed.train import train
from tests.conftest import run


def separation(path: Path) -> float:
    """The mean cosine within a topic less the one between the two topics."""
    embedding = load_embedding(path)
    units = embedding.vectors / np.linalg.norm(embedding.vectors, axis=1, keepdims=True)
    cosines = units @ units.T
    is_red = np.array([word.startswith("red") for word in embedding.words.to_list()])
    same = is_red[:, None] == is_red
    return float(cosines[same & ~np.eye(20, dtype=bool)].mean() - cosines[~same].mean())


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        "--method skipgram",
        "--method cbow",
        "--method skipgram --hs",
        "--method cbow --hs",
        "--method fasttext --minn 2 --maxn 3 --bucket 1000",
        "--method fasttext --fasttext-model cbow",
        "--method fasttext --maxn 0",
        "--method glove --x-max 10",
        "--method lsa --dim 2",
        "--method lsa --weighting ppmi --dim 2",
    ],
)
def test_every_method_separates_topics(tmp_path: Path, topics: Path, options: str) -> None:
    words = options.split()
    more = [] if "--dim" in words else ["--dim", "12"]
    if "lsa" not in words:
        more += ["--epochs", "8"]
    if "lsa" not in words and "glove" not in words:
        more += ["--sample", "0", "--device", "cpu", "--lr", "0.1"]
    out = tmp_path / "run"
    result = run("embed", "train", topics, *words, *more, "--out", out, "--threads", "2")
    assert result.code == 0, result.err
    assert result.out.strip() == str(out / "best.safetensors")
    assert separation(out / "best.safetensors") > 0.5
    kept = {path.name for path in out.iterdir()}
    assert kept <= {"best.safetensors", "log.jsonl", "curves.png"}
    if "lsa" not in words:
        records = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
        assert [record["epoch"] for record in records] == [*range(1, 9)]
        assert records[-1]["loss"] < records[0]["loss"]


def test_fasttext_knows_unseen_words(tmp_path: Path, topics: Path) -> None:
    config = EmbedTrainConfig(
        corpus=[str(topics)], out=tmp_path / "run", method=EmbedMethod.fasttext, dim=12, epochs=2,
        sample=0.0, device="cpu",
    )  # fmt: skip
    embedding = load_embedding(train(config))
    assert embedding.subwords is not None
    unseen = vector_of_unknown("redred", embedding.subwords)
    assert unseen is not None
    names = embedding.words.to_list()
    cosines = embedding.vectors @ unseen / embedding.norms
    assert names[int(np.argmax(cosines))].startswith("red")
