"""Other tools' files, written here byte by byte or by the tools themselves."""

import bz2
import gzip
import json
import lzma
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import zstandard

from dlkit.core.errors import DlkitError
from dlkit.embed import formats
from dlkit.embed.subwords import fnv1a, ngrams
from dlkit.embed.vectors import load
from tests.conftest import run
from tests.embed.helpers import RNG

TEXT = "cat 1 -0.5 2e-1\n日本 0 3.25 -1E2 \n. . . 7 8 9\n"
VECTORS = np.array([[1, -0.5, 0.2], [0, 3.25, -100], [7, 8, 9]], np.float32)
NAMES = ["cat", "日本", ". . ."]


def word2vec_binary(end: bytes) -> bytes:
    rows = (
        word.encode() + b" " + struct.pack("<3f", *vector) + end
        for word, vector in zip(NAMES[:2], VECTORS.tolist(), strict=False)
    )
    return b"2 3\n" + b"".join(rows)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.txt", TEXT.encode(), NAMES),
        ("a.vec", b"3 3\n" + TEXT.encode(), NAMES),
        ("a.txt", b"3 3\r\n" + TEXT.replace("\n", "\r\n").encode(), NAMES),
        ("a.txt", TEXT.encode() + b"\n\n", NAMES),
        ("a.txt", TEXT.replace(" ", "\t", 1)[:-1].encode(), NAMES),
        ("a.txt.gz", gzip.compress(TEXT.encode(), mtime=0), NAMES),
        ("a.vec.bz2", bz2.compress(TEXT.encode()), NAMES),
        ("a.vec.xz", lzma.compress(TEXT.encode()), NAMES),
        ("a.zst", zstandard.compress(b"3 3\n" + TEXT.encode()), NAMES),
        ("a", gzip.compress(TEXT.encode(), mtime=0), NAMES),
        ("a.w2v", TEXT.encode(), NAMES),
        ("a.txt", b"\xef\xbb\xbf" + TEXT.encode(), NAMES),
        ("a.txt", b"\xef\xbb\xbf3 3\n" + TEXT.encode(), NAMES),
        ("a.txt", b"a b c 1 -0.5 .2\n1 2 0.0 3.25 -1e2\nd 7 8 9\ne 7 8 9\n", ["a b c", "1 2"]),
        ("a.txt", b"1 3\nnew york 1 -0.5 .2", ["new york"]),
        ("a.bin", word2vec_binary(b"\n"), NAMES[:2]),
        ("a.bin", word2vec_binary(b""), NAMES[:2]),
        ("a.bin.gz", gzip.compress(word2vec_binary(b""), mtime=0), NAMES[:2]),
    ],
)
def test_reading(tmp_path: Path, name: str, content: bytes, words: list[str]) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    found = load(path).embedding
    assert found.words.to_list()[: len(words)] == words
    assert np.array_equal(found.vectors[: len(words)], VECTORS[: len(words)])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"\n\n", "no vectors"),
        (b"cat 1 2 3\ndog 1 2\ncow 1 2 3\n", "line 2, 'dog': 2 numbers, not 3"),
        (b"cat 1 2 3\ndog 1 2 3 4\n", "line 2, 'dog': more than 3 numbers"),
        (b"cat 1 2 3\ndog 1 2", "line 2, 'dog': 2 numbers, not 3 (the last line: is the file cut"),
        (b"cat 1 2 3\ndog 1 nan 3\n", "line 2, 'dog': 'nan' is no finite number"),
        (b"cat 1 2\ndog 1 2..\n", "line 2, 'dog': '2..' is no finite number"),
        (b"cat 1 2\ndog 1,5 2\n", "line 2, 'dog': '1,5' is no finite number"),
        (b"cat 1 2\ndog 1e39 2\n", "line 2, 'dog': '1e39' is no finite number"),
        (b"cat 1.5 2.5\ndog 1.5 2.5 3.5\n", "line 2, 'dog': more than 2 numbers"),
        (b"\x89PNG\r\n\x1a\n" + bytes(9), "a PNG image; a model file is read, or vectors of"),
        (b"PK\x03\x04" + bytes(9), "a zip archive; a model file is read, or vectors of"),
        (gzip.compress(b"cat 1 2\n", mtime=0)[:-9], "a damaged file"),
        (b"3 2\ncat 1 2\ndog 1 2\n", "its first line announces 3 words, but 2 follow"),
        (b"1 2\ncat 1 2\ndog 1 2\n", "its first line announces 1 words, but 2 follow"),
        (b"2 3\ncat 1 2\ndog 1 2\n", "line 2, 'cat': 2 numbers, not 3"),
        (b"hello\n", "line 1"),
        (word2vec_binary(b"\n")[:-3], "the file is cut short"),
        (word2vec_binary(b"\n").replace(b"2 3", b"3 3"), "the file is cut short"),
        (word2vec_binary(b"\n").replace(b"2 3", b"1 3"), "more than the 1 words"),
        (b"1 1\na " + struct.pack("<f", float("nan")), "the vector of 'a' holds NaN"),
        (b"\x93NUMPY\x01\x00junk", "cannot be read"),
        (struct.pack("<iii", 793712314, 12, 5), "the file is cut short"),
        (struct.pack("<ii", 793712314, 99) + bytes(80), "version 99"),
    ],
)
def test_bad_files_are_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.bin"
    path.with_suffix(".txt").write_bytes(b"word\n")
    path.write_bytes(content)
    result = run("embed", "cat", "-m", path)
    assert result.code == 2
    assert result.err.startswith(f"dlkit: {path}: {message}")
    assert result.err.count("\n") == 1


def test_duplicates_and_invalid_utf8_are_reported_and_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"cat 1 2\ncat 3 4\n\xff\xfe 5 6\n")
    result = run("embed", "vector", "cat", "-m", path)
    assert result.out == "cat\t1.0\t2.0\n"
    assert "skipped 1 duplicate words, such as 'cat'" in result.err
    assert "1 words are not UTF-8" in result.err
    out = tmp_path / "b.txt"
    assert run("embed", "convert", path, "-o", out, "--to", "glove").code == 0
    assert out.read_bytes() == b"cat 1 2\n\xff\xfe 5 6\n"


def fasttext_file(
    words: list[str], matrix: np.ndarray, bucket: int, quantized: bool = False
) -> bytes:
    """A .bin of version 12, field by field."""
    dim = matrix.shape[1]
    arguments = struct.pack("<12id", dim, 5, 5, 1, 5, 1, 2, 2, bucket, 3, 4, 100, 1e-4)
    entries = [word.encode() + b"\0" + struct.pack("<qb", 9, 0) for word in words]
    dictionary = struct.pack("<iiiqq", len(words), len(words), 0, 99, -1) + b"".join(entries)
    inputs = struct.pack("<?qq", quantized, *matrix.shape) + matrix.astype("<f4").tobytes()
    outputs = struct.pack("<?qq", False, len(words), dim) + bytes(4 * dim * len(words))
    return struct.pack("<ii", 793712314, 12) + arguments + dictionary + inputs + outputs


@pytest.mark.slow
def test_fasttext_bin_by_hand(tmp_path: Path) -> None:
    words, bucket = ["cat", "naïve", "</s>"], 11
    matrix = RNG.normal(size=(3 + bucket, 4)).astype(np.float32)
    path = tmp_path / "m.bin"
    path.write_bytes(fasttext_file(words, matrix, bucket))
    found = load(path)

    def mean(word: str, own: list[int]) -> np.ndarray:
        rows = own + [3 + fnv1a(ngram) % bucket for ngram in ngrams(word, 3, 4)]
        return matrix[rows].mean(axis=0)

    for index, word in enumerate(words):
        assert np.allclose(found.embedding.vectors[index], mean(word, [index]), atol=1e-6)
    unknown = found.word_vector("dogs")
    assert unknown is not None
    assert np.allclose(unknown, mean("dogs", []), atol=1e-6)
    assert found.embedding.counts is not None
    assert found.embedding.counts.tolist() == [9, 9, 9]
    back = tmp_path / "back.bin"
    formats.write_fasttext(back, found.embedding)
    again = load(back).embedding
    assert np.allclose(again.vectors, found.embedding.vectors, atol=1e-6)
    assert again.subwords is not None
    assert np.array_equal(again.subwords.vectors, matrix[3:])
    path.write_bytes(fasttext_file(words, matrix, bucket, quantized=True))
    assert "quantized" in run("embed", "cat", "-m", path).err
    path.write_bytes(fasttext_file(words, matrix, bucket)[:300])
    assert "the file is cut short" in run("embed", "cat", "-m", path).err


@pytest.mark.parametrize("kind", ["<f2", ">f2", "<f4", ">f4", "<f8", ">f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_kinds_of_arrays(tmp_path: Path, kind: str, order: Literal["C", "F"]) -> None:
    vectors = np.round(VECTORS * 8) / 8
    np.save(tmp_path / "a.npy", np.asarray(vectors, kind, order=order))
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfcat\r\ndog\r\ncow")
    found = load(tmp_path / "a.npy").embedding
    assert found.words.to_list() == ["cat", "dog", "cow"]
    assert np.array_equal(found.vectors, vectors)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones((2, 3), int), "not a matrix of vectors, but int64 (2, 3)"),
        (np.ones((2, 3), complex), "not a matrix of vectors, but complex128 (2, 3)"),
        (np.array([["a", 1]], object), "not a matrix of vectors, but object (1, 2)"),
        (np.ones(3), "not a matrix of vectors, but float64 (3,)"),
        (np.full((2, 3), 1e39), "the vector of 'a' holds NaN or an infinite number"),
        (np.ones((3, 3)), "3 vectors, but 2 words"),
    ],
)
def test_other_arrays_are_refused(tmp_path: Path, array: np.ndarray, message: str) -> None:
    np.save(tmp_path / "a.npy", array)
    (tmp_path / "a.txt").write_text("a\nb\n")
    with pytest.raises(DlkitError, match=re.escape(message)):
        load(tmp_path / "a.npy")


def test_zeros_have_no_direction(tmp_path: Path) -> None:
    path = tmp_path / "a.vec"
    path.write_text("4 2\nnull 0 0\ncat 1 0\ndog 1 0.2\ncow -1 0.1\n")
    result = run("embed", "similar", "null", "cat", "-m", path)
    assert result.code == 1
    assert result.err.startswith("dlkit: null: its vector is zeros")
    assert [line.split("\t")[1] for line in result.out.splitlines()] == ["dog", "cow"]
    result = run("embed", "odd-one-out", "null", "cat", "dog", "cow", "-m", path)
    assert "null: its vector is zeros" in result.err
    assert result.out.startswith("cow\t")


def test_gensim_reads_and_writes_the_same(tmp_path: Path) -> None:
    models = pytest.importorskip("gensim.models")
    theirs = models.KeyedVectors(6)
    vectors = RNG.normal(size=(50, 6)).astype(np.float32)
    theirs.add_vectors([f"w{i}" for i in range(50)], vectors)
    for binary, name, kind in ((True, "a.bin", "word2vec-binary"), (False, "a.txt", "word2vec")):
        path, back = tmp_path / name, tmp_path / f"back-{name}"
        theirs.save_word2vec_format(str(path), binary=binary)
        assert np.array_equal(load(path).embedding.vectors, vectors)
        assert run("embed", "convert", path, "-o", back, "--to", kind).code == 0
        again = models.KeyedVectors.load_word2vec_format(str(back), binary=binary)
        assert np.array_equal(again.vectors, vectors)
        assert again.index_to_key == theirs.index_to_key
    mine = json.loads(run("embed", "w3", "-m", tmp_path / "a.bin", "-f", "json").out)
    expected = theirs.most_similar("w3", topn=10)
    assert [n["word"] for n in mine[0]["neighbors"]] == [word for word, _ in expected]
    odd = ["w1", "w2", "w3", "w4"]
    found = run("embed", "odd-one-out", *odd, "-m", tmp_path / "a.bin").out.split("\t")[0]
    assert found == theirs.doesnt_match(odd)


def trained(function: Callable[..., Any], corpus: Path, **options: Any) -> Any:
    """A model that fastText trained; some of its builds stop with NaN now and then."""
    for _ in range(20):
        try:
            return function(str(corpus), bucket=500, thread=1, verbose=0, **options)
        except RuntimeError as error:
            if "NaN" not in str(error):
                raise
    pytest.skip("this build of fastText cannot train")


def test_fasttext_reads_and_writes_the_same(tmp_path: Path) -> None:
    fasttext = pytest.importorskip("fasttext")
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("the cat sat on the naïve mat, 日本 where the cats are\n" * 40)
    theirs = trained(fasttext.train_unsupervised, corpus, dim=8, minCount=1, epoch=2)
    path, back = tmp_path / "m.bin", tmp_path / "back.bin"
    theirs.save_model(str(path))
    assert run("embed", "convert", path, "-o", tmp_path / "m.safetensors").code == 0
    assert (
        run("embed", "convert", tmp_path / "m.safetensors", "-o", back, "--to", "fasttext").code
        == 0
    )
    again = fasttext.load_model(str(back))
    for source in (path, tmp_path / "m.safetensors", back):
        mine = load(source)
        assert mine.embedding.words.to_list() == theirs.words
        for word in [*theirs.words, "unseen", "日本語", "a"]:
            expected = theirs.get_word_vector(word)
            found = mine.word_vector(word)
            assert found is not None
            assert np.allclose(found, expected, atol=1e-5), word
            assert np.allclose(again.get_word_vector(word), expected, atol=1e-5), word
        sentence = "the unseen cat sat"
        expected = theirs.get_sentence_vector(sentence)
        assert np.allclose(mine.text_vector(sentence), expected, atol=1e-5)


@pytest.mark.parametrize(
    "options", [{}, {"minn": 2, "maxn": 3}, {"wordNgrams": 3}, {"wordNgrams": 2, "maxn": 2}]
)
def test_supervised_models_of_fasttext(tmp_path: Path, options: dict[str, int]) -> None:
    fasttext = pytest.importorskip("fasttext")
    corpus = tmp_path / "corpus.txt"
    corpus.write_text(
        "__label__good a good naïve film\n__label__bad a bad film , 日本 was worse\n" * 40
    )
    theirs = trained(fasttext.train_supervised, corpus, dim=8, epoch=5, **options)
    path, back = tmp_path / "m.bin", tmp_path / "back.bin"
    theirs.save_model(str(path))
    assert run("embed", "convert", path, "-o", tmp_path / "m.safetensors").code == 0
    code = run("embed", "convert", tmp_path / "m.safetensors", "-o", back, "--to", "fasttext").code
    assert code == 0
    again = fasttext.load_model(str(back))
    for source in (path, tmp_path / "m.safetensors", back):
        mine = load(source)
        for word in theirs.words:
            found = mine.word_vector(word)
            assert found is not None
            assert np.allclose(found, theirs.get_word_vector(word), atol=1e-5)
        for text in (
            "a good film",
            "unseen 日本語 film a",
            "__label__bad film __label__no , </s> a",
        ):
            expected = theirs.get_sentence_vector(text)
            assert np.allclose(mine.text_vector(text), expected, atol=1e-5), text
            assert np.allclose(again.get_sentence_vector(text), expected, atol=1e-5), text


def test_names_of_models_that_are_paths(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("cat 1 0\ndog 1 1\n")
    assert run("embed", "convert", tmp_path / "a.txt", "-o", tmp_path / "b.safetensors").code == 0
    for name in ("plain", "b.vec"):
        (tmp_path / name).write_bytes((tmp_path / "b.safetensors").read_bytes())
        assert run("embed", "cat", "-m", tmp_path / name).out == "cat\tdog\t0.7071\n"
    assert "word2vec (text, binary), fastText" in run("embed", "cat", "-m", "no-such").err
    assert "no such file" in run("embed", "cat", "-m", tmp_path / "no.vec").err
    assert "unknown model" in run("embed", "cat", "-m", tmp_path).err


def test_old_supervised_models_have_no_ngrams(tmp_path: Path) -> None:
    words = ["good", "film", "</s>"]
    matrix = RNG.normal(size=(3, 4)).astype(np.float32)
    content = bytearray(fasttext_file(words, matrix, 2_000_000))
    content[4:8] = struct.pack("<i", 11)
    content[36:40] = struct.pack("<i", 3)  # supervised
    path = tmp_path / "m.bin"
    path.write_bytes(content)
    found = load(path)
    assert np.array_equal(found.embedding.vectors, matrix)
    assert np.allclose(found.text_vector("good film"), matrix.mean(axis=0))
    content[36:40] = struct.pack("<i", 7)
    path.write_bytes(content)
    assert "its field model is 7" in run("embed", "good", "-m", path).err
