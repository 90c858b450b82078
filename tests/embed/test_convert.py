"""Conversion to every format and back."""

from pathlib import Path

import numpy as np
import pytest

from dlkit.embed.model import save_embedding
from dlkit.embed.vectors import load
from tests.conftest import run
from tests.embed.helpers import RNG, embedding


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("x.safetensors", "dlkit"),
        ("x.txt", "word2vec"),
        ("x.vec", "word2vec"),
        ("x.bin", "word2vec-binary"),
        ("x.txt", "glove"),
        ("x.bin", "fasttext"),
        ("x.npy", "numpy"),
    ],
)
def test_every_format_comes_back(world: Path, tmp_path: Path, name: str, kind: str) -> None:
    words = ["cat", "日本", "naïve"]
    vectors = RNG.normal(size=(3, 5)).astype(np.float32)
    source, out = tmp_path / "source.safetensors", tmp_path / name
    save_embedding(source, embedding(words, vectors))
    result = run("embed", "convert", source, "-o", out, "--to", kind)
    assert (result.code, result.out) == (0, f"{out}\n")
    found = load(out).embedding
    assert found.words.to_list() == words
    assert np.array_equal(found.vectors, vectors)
    assert "exists" in run("embed", "convert", source, "-o", out, "--to", kind).err
    assert run("embed", "convert", source, "-o", out, "--to", kind, "--force").code == 0
    refused = run("embed", "convert", world, "-o", tmp_path / "y.bin", "--to", "word2vec-binary")
    assert "'new york', holds a space" in refused.err


def test_convert_reports_errors(world: Path, tmp_path: Path) -> None:
    assert "add --to" in run("embed", "convert", world, "-o", tmp_path / "x.bin").err
    wrong = run("embed", "convert", world, "-o", tmp_path / "x.txt", "--to", "numpy")
    assert "ends in .npy" in wrong.err
    assert "--half" in run("embed", "convert", world, "-o", tmp_path / "x.vec", "--half").err
    assert "no such file" in run("embed", "convert", "no.bin", "-o", tmp_path / "x.vec").err
    lonely = tmp_path / "lonely.npy"
    np.save(lonely, np.ones((2, 2), np.float32))
    assert "lonely.txt, one word per line, is missing" in run("embed", "x", "-m", lonely).err
    lonely.with_suffix(".txt").write_text("a\nb\nc\n")
    assert "2 vectors, but 3 words" in run("embed", "x", "-m", lonely).err
