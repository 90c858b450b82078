"""Vocabularies and files of vectors."""

from pathlib import Path

import numpy as np
import pytest

from dlkit.core.errors import DlkitError
from dlkit.core.store import checkpoint
from dlkit.embed.model import Subwords, WordList, load_embedding, row_norms, save_embedding
from tests.conftest import run
from tests.embed.helpers import RNG, embedding


def test_words_are_found_whole() -> None:
    words = WordList.from_strings(["the", "king", "a b", "naïve", "ing", "\udcff"])
    for _ in range(20):  # first by searching, then by an index
        for index, word in enumerate(words.to_list()):
            assert words.find(word) == index
            assert words[index] == word
        assert words.find("kin") is None
        assert words.find("") is None
    with pytest.raises(DlkitError, match="line break"):
        WordList.from_strings(["a\nb"])


@pytest.mark.parametrize("bits", [None, 16])
def test_a_file_comes_back_and_is_a_model_like_others(tmp_path: Path, bits: int | None) -> None:
    vectors = RNG.normal(size=(4, 3)).astype(np.float32)
    subwords = Subwords(3, 6, 100, np.array([2, 7]), vectors[:2])
    path = tmp_path / "a.safetensors"
    words = ["b", "a", "é", "x y"]
    save_embedding(path, embedding(words, vectors, counts=np.arange(4), subwords=subwords), bits)
    found = load_embedding(path)
    exact = vectors.astype(np.float16) if bits else vectors
    assert found.words.to_list() == words
    assert np.array_equal(found.vectors, exact)
    assert found.vectors.dtype == exact.dtype
    assert np.array_equal(found.norms, row_norms(exact))
    assert found.subwords is not None
    assert (found.subwords.minn, found.subwords.maxn, found.subwords.bucket) == (3, 6, 100)
    assert np.array_equal(found.subwords.vectors, exact[:2])
    header, tensors = checkpoint.load(path, "embed")
    assert header == found.header
    assert tensors["vectors"].shape == (4, 3)


def test_a_damaged_file_is_one_line(world: Path, tmp_path: Path) -> None:
    content = bytearray(world.read_bytes())
    content[-1] ^= 1
    damaged = [bytes(content), bytes(content[:-5]), bytes(content[:40]), b""]
    for number, data in enumerate(damaged):
        path = tmp_path / f"{number}.safetensors"
        path.write_bytes(data)
        result = run("embed", "king", "-m", path)
        assert result.code == 2
        assert result.err.startswith(f"dlkit: {path}: ")
        assert result.err.count("\n") == 1
    other = tmp_path / "other.safetensors"
    import torch

    checkpoint.save(other, {"x": torch.ones(2)}, checkpoint.Header("detect", "yolo", {}, []))
    assert "a model for `dlkit detect`" in run("embed", "king", "-m", other).err
