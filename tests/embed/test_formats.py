"""Other tools' files, written here byte by byte or by the tools themselves."""

import gzip
import json
import struct
from pathlib import Path

import numpy as np
import pytest

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
    assert found.words.to_list() == words
    assert np.array_equal(found.vectors, VECTORS[: len(words)])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"\n\n", "no vectors"),
        (b"cat 1 2 3\ndog 1 2\ncow 1 2 3\n", "line 2, 'dog': 2 numbers, not 3"),
        (b"cat 1 2 3\ndog 1 2 3 4\n", "line 2, 'dog': more than 3 numbers"),
        (b"cat 1 2 3\ndog 1 2", "line 2, 'dog': 2 numbers, not 3 (the last line: is the file cut"),
        (b"cat 1 2 3\ndog 1 nan 3\n", "line 2, 'dog': its vector holds something that is no"),
        (b"cat 1 2\ndog 1 2..\n", "line 2, 'dog': its vector holds something that is no"),
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


def test_fasttext_reads_and_writes_the_same(tmp_path: Path) -> None:
    fasttext = pytest.importorskip("fasttext")
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("the cat sat on the naïve mat, 日本 where the cats are\n" * 40)
    options = {"dim": 8, "minCount": 1, "bucket": 500, "epoch": 2, "thread": 1, "verbose": 0}
    theirs = fasttext.train_unsupervised(str(corpus), **options)
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
