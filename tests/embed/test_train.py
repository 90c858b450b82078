"""Training runs: resuming, folders, learning rates that are too high."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlkit.core.errors import DlkitError
from dlkit.embed.config import EmbedMethod, EmbedTrainConfig
from dlkit.embed.model import load_embedding
from dlkit.embed.train import EmbedRun, train


def one_thread(out: Path, topics: Path, **changed: Any) -> EmbedTrainConfig:
    defaults = {"dim": 12, "epochs": 3, "threads": 1, "device": "cpu", "seed": 5}
    return EmbedTrainConfig(corpus=[str(topics)], out=out, **{**defaults, **changed})


@pytest.mark.parametrize("method", ["skipgram", "cbow", "fasttext", "glove"])
def test_a_resumed_run_ends_like_one_that_was_never_interrupted(
    tmp_path: Path, topics: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed: dict[str, Any] = {"method": EmbedMethod(method)}
    if method == "glove":
        changed["device"] = "auto"
    whole = train(one_thread(tmp_path / "whole", topics, **changed))
    again = train(one_thread(tmp_path / "again", topics, **changed))
    np.testing.assert_array_equal(load_embedding(whole).vectors, load_embedding(again).vectors)

    save, saves = EmbedRun.save, 0

    def killed(self: EmbedRun, state: Any) -> None:
        nonlocal saves
        save(self, state)
        saves += 1
        if saves == 2:
            raise KeyboardInterrupt

    cut = one_thread(tmp_path / "cut", topics, **changed)
    with monkeypatch.context() as patch:
        patch.setattr(EmbedRun, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            train(cut)
    with pytest.raises(DlkitError, match="holds a run already; add --resume"):
        train(cut)
    with pytest.raises(DlkitError, match="was started with --dim 12; resume it with the same"):
        train(one_thread(tmp_path / "cut", topics, **changed, resume=True, dim=13))
    (tmp_path / "cut" / "corpus-of-a-killed-run").mkdir()
    resumed = train(one_thread(tmp_path / "cut", topics, **changed, resume=True))
    assert not list((tmp_path / "cut").glob("corpus-*"))
    np.testing.assert_array_equal(load_embedding(whole).vectors, load_embedding(resumed).vectors)
    log = (tmp_path / "cut" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in log] == [1, 2, 3]
    assert train(one_thread(tmp_path / "cut", topics, **changed, resume=True)) == resumed


@pytest.mark.slow
def test_a_run_that_compiles_its_loops_gives_the_vectors_of_later_runs(
    tmp_path: Path, topics: Path
) -> None:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "numba")}
    options = ["--threads", "1", "--device", "cpu", "--epochs", "1", "--dim", "16"]
    vectors = []
    for number in range(2):
        out = tmp_path / str(number)
        command = [sys.executable, "-m", "dlkit", "embed", "train", str(topics), *options]
        subprocess.run([*command, "--out", str(out)], check=True, env=environment)
        vectors.append(load_embedding(out / "best.safetensors").vectors)
    assert list((tmp_path / "numba").rglob("*.nbc"))
    np.testing.assert_array_equal(vectors[0], vectors[1])


def test_a_run_resumes_with_its_corpus_only(
    tmp_path: Path, topics: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    save = EmbedRun.save

    def killed(self: EmbedRun, state: Any) -> None:
        save(self, state)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(EmbedRun, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            train(one_thread(out, topics))
    other = tmp_path / "other.txt"
    other.write_text("a b c\n" * 9)
    with pytest.raises(DlkitError, match="was started with another corpus"):
        train(one_thread(out, other, resume=True))
    (out / "last.state").write_bytes(b"PK")
    with pytest.raises(DlkitError, match=r"last\.state: damaged"):
        train(one_thread(out, topics, resume=True))


def test_a_rate_that_is_too_high_is_an_error(tmp_path: Path, topics: Path) -> None:
    with pytest.raises(DlkitError, match="lower --lr"):
        train(one_thread(tmp_path / "run", topics, lr=1e30))


@pytest.mark.parametrize("method", ["skipgram", "fasttext"])
def test_training_starts_from_the_vectors_of_a_model(
    tmp_path: Path, topics: Path, method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without learning, known words keep their vectors, and new ones are as in another start."""
    changed: dict[str, Any] = {"method": EmbedMethod(method), "epochs": 1}
    if method == "fasttext":
        changed["bucket"] = 500
    first = train(one_thread(tmp_path / "first", topics, **changed))
    more = tmp_path / "more.txt"
    more.write_text(topics.read_text().replace("blue9", "green9").replace("red9 ", "red1 "))
    capsys.readouterr()
    changed |= {"lr": 0.0, "init_from": str(first)}
    second = train(one_thread(tmp_path / "second", more, **changed))
    assert f"19 of 20 words start from the vectors of {first}; 1 are new, such as 'green9'; 1" in (
        capsys.readouterr().err
    )
    old, new = (load_embedding(path) for path in (first, second))
    for word in old.words.to_list():
        if word not in {"blue9"}:
            vector = new.vectors[new.words.index[word]]
            np.testing.assert_allclose(vector, old.vectors[old.words.index[word]], atol=1e-5)
    green = new.vectors[new.words.index["green9"]]
    assert 0 < np.abs(green).max() < (1 / 12 if method == "skipgram" else 1)
    if method == "fasttext":
        assert old.subwords is not None
        assert new.subwords is not None
        both = np.intersect1d(old.subwords.buckets, new.subwords.buckets, return_indices=True)
        np.testing.assert_array_equal(old.subwords.vectors[both[1]], new.subwords.vectors[both[2]])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"dim": 13}, "its vectors have 12 numbers; give --dim 12"),
        ({"method": EmbedMethod.fasttext}, "no vectors of n-grams; give a model of fastText"),
        ({"method": EmbedMethod.glove, "device": "auto"}, "--init-from is for skipgram, cbow"),
        ({"corpus": True}, "has none of the 2 words of the corpus"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(
    tmp_path: Path, world: Path, topics: Path, changed: dict[str, Any], message: str
) -> None:
    corpus = topics
    if changed.pop("corpus", False):
        corpus = tmp_path / "other.txt"
        corpus.write_text("zz yy\n" * 20)
    changed["init_from"] = str(world)
    with pytest.raises(DlkitError, match=message):
        train(one_thread(tmp_path / "run", corpus, **changed))
