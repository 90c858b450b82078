"""Plots of words: principal components, t-SNE, the PNG file."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dlkit.embed.plot import affinities, pca, squared_distances, tsne
from tests.conftest import run
from tests.embed.helpers import CAPITALS, COUNTRIES, RNG


def test_pca_has_the_variances_of_the_covariance() -> None:
    matrix = RNG.normal(size=(30, 5)) * [5, 3, 1, 1, 1]
    points = pca(matrix)
    values = np.linalg.eigvalsh(np.cov(matrix.T))[::-1][:2]
    assert np.allclose(points.var(axis=0, ddof=1), values)


def test_tsne_keeps_neighbors_and_has_the_given_perplexity() -> None:
    matrix = np.repeat(np.eye(3) * 20, 12, axis=0) + RNG.normal(size=(36, 3))
    p = affinities(squared_distances(matrix), 5)
    assert p.sum() == pytest.approx(1)
    assert np.allclose(p, p.T)
    points = tsne(matrix, perplexity=5)
    assert np.array_equal(points, tsne(matrix, perplexity=5))
    distances = squared_distances(points)
    np.fill_diagonal(distances, np.inf)
    assert np.array_equal(distances.argmin(axis=1) // 12, np.arange(36) // 12)


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_a_plot(world: Path, tmp_path: Path, method: str) -> None:
    groups, out = tmp_path / "groups.txt", tmp_path / "out.png"
    pairs = zip(COUNTRIES, CAPITALS, strict=True)
    groups.write_text("\n".join(f"{a} {b}" for a, b in pairs) + "\nnames: new york, zz\n")
    options = ["-m", world, "--method", method, "-o", out]
    result = run("embed", "plot", "--groups", groups, "--lines", *options)
    assert (result.code, result.out) == (0, f"{out}\t11\n")
    assert "1 not in the vocabulary of " in result.err
    with Image.open(out) as image:
        assert min(image.size) > 500
    options.append("--force")
    assert run("embed", "plot", "--words", "paris rome king", *options).code == 0
    assert run("embed", "plot", "--words", "paris rome zz", *options).code == 2
    assert run("embed", "plot", *options).code == 2
    assert run("embed", "plot", "--words", "paris rome king", "--lines", *options).code == 2
