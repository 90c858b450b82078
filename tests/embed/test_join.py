"""Joining models: the geometry of the vectors, n-grams by least squares, files and refusals."""

from pathlib import Path

import numpy as np
import pytest

from dlkit.embed import join
from dlkit.embed.model import WordList, load_embedding, save_embedding
from dlkit.embed.subwords import vector_of_unknown
from tests.conftest import run
from tests.embed.helpers import RNG, embedding

WORDS = [f"{a}{b}{c}" for a in ("re", "un", "pre") for b in ("view", "do", "load", "make") for c in
         ("", "s", "ing", "er")]  # fmt: skip


def model(path: Path, words: list[str], dim: int) -> np.ndarray:
    vectors = (RNG.normal(size=(len(words), dim)) + 3).astype(np.float32)
    save_embedding(path, embedding(words, vectors, counts=np.arange(len(words))[::-1]))
    return vectors


def test_cosines_are_the_weighted_means_of_the_models(tmp_path: Path) -> None:
    """With all dimensions and no components removed, nothing but the centering changes angles."""
    first, second, out = (tmp_path / f"{name}.safetensors" for name in "abc")
    a = model(first, WORDS, 6)
    b = model(second, ["other", *reversed(WORDS)], 4)[:0:-1]
    done = run("embed", "join", first, second, "-o", out, "--dim", 10, "--components", 0,
               "--weights", "1,2")  # fmt: skip
    assert (done.code, done.out) == (0, f"{out}\n"), done.err
    assert f"{second}: 48 of 49 words are taken" in done.err
    found = load_embedding(out)
    assert found.words.to_list() == WORDS
    assert found.counts is not None
    assert found.counts.tolist() == list(range(48))[::-1]

    def unit(vectors: np.ndarray) -> np.ndarray:
        scaled: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return scaled

    def cosines(vectors: np.ndarray) -> np.ndarray:
        centered = unit(unit(vectors) - unit(vectors).mean(axis=0))
        product: np.ndarray = centered @ centered.T
        return product

    joined = unit(found.vectors) @ unit(found.vectors).T
    assert joined == pytest.approx((cosines(a) + 4 * cosines(b)) / 5, abs=1e-5)


def test_principal_components_are_those_of_a_singular_value_decomposition() -> None:
    vectors = RNG.normal(size=(50, 8)).astype(np.float32) * np.arange(1, 9, dtype=np.float32)
    centered = vectors - vectors.mean(axis=0)
    left, lengths, _ = np.linalg.svd(centered, full_matrices=False)
    rest = left[:, 2:] * lengths[2:] @ (left[:, 2:] * lengths[2:]).T
    found = join.without_top(vectors, 2)
    assert found @ found.T == pytest.approx(rest, rel=1e-3, abs=1e-2)
    kept = join.principal(centered, 3)
    assert np.abs(kept) == pytest.approx(np.abs(left[:, :3] * lengths[:3]), rel=1e-3, abs=1e-2)


def test_ngrams_are_the_solution_of_ridge_regression(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(join, "STEPS", 200)
    words = WordList.from_strings(WORDS)
    vectors = RNG.normal(size=(len(WORDS), 3)).astype(np.float32)
    found = join.fit_subwords(words, vectors, 3, 4, 1000)
    units = np.eye(len(found.buckets), dtype=np.float32)
    matrix = np.array(
        [vector_of_unknown(word, type(found)(3, 4, 1000, found.buckets, units)) for word in WORDS]
    )
    exact = np.linalg.solve(matrix.T @ matrix + join.RIDGE * np.eye(len(units)), matrix.T @ vectors)
    assert found.vectors == pytest.approx(exact, abs=1e-3)


def test_unknown_words_and_bits(tmp_path: Path) -> None:
    first, out = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    model(first, WORDS, 12)
    options = ("--dim", 5, "--bucket", 500)
    assert run("embed", "join", first, first, "-o", out, *options).code == 0
    exact = load_embedding(out).vectors
    few = tmp_path / "few.safetensors"
    assert run("embed", "join", first, "-o", few, "--dim", 5, "--max-vocab", 9).code == 0
    assert load_embedding(few).words.to_list() == WORDS[:9]
    assert run("embed", "join", first, first, "-o", out, *options).code == 2  # exists
    assert run("embed", "join", first, first, "-o", out, *options, "--bits", 8, "--force").code == 0
    found = load_embedding(out)
    largest = np.abs(exact).max(axis=1, keepdims=True)
    assert np.abs(found.vectors - exact) == pytest.approx(0, abs=float(largest.max()) / 253)
    assert found.norms == pytest.approx(np.linalg.norm(found.vectors, axis=1))
    near = run("embed", "unloader", "-m", out, "--top", 1)  # known
    unknown = run("embed", "unloaders", "-m", out, "--top", 1)
    assert (near.code, unknown.code) == (0, 0)
    assert unknown.out.split("\t")[1] in WORDS


def test_refusals(tmp_path: Path) -> None:
    first, second, out = (tmp_path / f"{name}.safetensors" for name in "abc")
    model(first, WORDS, 4)
    model(second, ["x", "y"], 4)
    for options, reason in [
        ((first, second, "-o", out, "--dim", 3), "only 0 words are in all models"),
        ((first, first, "-o", out, "--dim", 9), "--dim 9: the models have 8 dimensions together"),
        ((first, "-o", out, "--weights", "1,2"), "--weights: 2 numbers for 1 models"),
        ((first, "-o", out, "--weights", "1,x"), "not numbers above 0"),
        ((first, "-o", out, "--dim", 3, "--bits", 4), "choose from 32, 16, 8"),
        ((first, "-o", tmp_path / "x.vec"), ".safetensors"),
    ]:
        done = run("embed", "join", *options)
        assert done.code == 2
        assert reason in done.err
        assert done.err.count("\n") == 1
    assert not out.exists()
