"""Word vectors in use: their files and other tools', queries, evaluation, pictures."""

import gzip
import json
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dlkit.core.errors import DlkitError
from dlkit.core.store import checkpoint
from dlkit.embed import formats
from dlkit.embed.compiled_subwords import hash_ngrams
from dlkit.embed.evaluate import pearson, ranks, read_file
from dlkit.embed.infer import solve_analogies
from dlkit.embed.model import (
    Embedding,
    Subwords,
    WordList,
    load_embedding,
    row_norms,
    save_embedding,
)
from dlkit.embed.nearest import half_to_single, top_k, unit
from dlkit.embed.plot import affinities, pca, squared_distances, tsne
from dlkit.embed.subwords import fnv1a, ngrams, vector_of_unknown
from dlkit.embed.vectors import Vectors, load
from tests.conftest import run
from tests.test_layers import loaded_by

COUNTRIES = ["france", "italy", "japan", "germany", "spain"]
CAPITALS = ["paris", "rome", "tokyo", "berlin", "madrid"]
OTHERS = ["king", "kings", "queen", "new york", "naïve", "日本"]
RNG = np.random.default_rng(0)


def embedding(words: list[str], vectors: Any, **parts: Any) -> Embedding:
    matrix = np.asarray(vectors, np.float32)
    header = checkpoint.Header("embed", "skipgram", {"dim": matrix.shape[1]}, [])
    return Embedding(header, WordList.from_strings(words), matrix, **parts)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model in which a capital is its country plus one direction."""
    rng = np.random.default_rng(1)
    countries = rng.normal(size=(5, 12))
    capitals = countries + rng.normal(size=12) + rng.normal(size=(5, 12)) * 0.02
    others = rng.normal(size=(6, 12)) * 0.5
    path = tmp_path_factory.mktemp("embed") / "world.safetensors"
    vectors = np.concatenate([countries, capitals, others])
    counts = np.arange(16, 0, -1)
    save_embedding(path, embedding(COUNTRIES + CAPITALS + OTHERS, vectors, counts=counts))
    return path


# The file


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


@pytest.mark.parametrize("half", [False, True])
def test_a_file_comes_back_and_is_a_model_like_others(tmp_path: Path, half: bool) -> None:
    vectors = RNG.normal(size=(4, 3)).astype(np.float32)
    subwords = Subwords(3, 6, 100, np.array([2, 7]), vectors[:2])
    path = tmp_path / "a.safetensors"
    words = ["b", "a", "é", "x y"]
    save_embedding(path, embedding(words, vectors, counts=np.arange(4), subwords=subwords), half)
    found = load_embedding(path)
    exact = vectors.astype(np.float16) if half else vectors
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


# Subwords


def test_the_ngrams_of_where() -> None:
    assert ngrams("where", 3, 3) == ["<wh", "whe", "her", "ere", "re>"]
    assert ngrams("日本", 2, 3) == ["<日", "<日本", "日本", "日本>", "本>"]
    assert ngrams("a", 1, 2) == ["<a", "a", "a>"]
    assert ngrams("</s>", 3, 6) == []


def test_the_hash_is_fnv_1a_with_signed_bytes() -> None:
    assert fnv1a("") == 0x811C9DC5
    assert fnv1a("a") == 0xE40C292C
    assert fnv1a("foobar") == 0xBF9CF968
    # By hand: 0xc3 is taken as 0xffffffc3, then 0xa9 as 0xffffffa9.
    value = (0x811C9DC5 ^ 0xFFFFFFC3) * 0x01000193 % 2**32
    assert fnv1a("é") == (value ^ 0xFFFFFFA9) * 0x01000193 % 2**32


@pytest.mark.parametrize(("minn", "maxn"), [(3, 6), (1, 3), (2, 2), (0, 0)])
def test_compiled_and_plain_hashes_agree(minn: int, maxn: int) -> None:
    words = ["where", "naïve", "a", "</s>", "日本語", "x" * 50, "\udcff\udc80q", ""]
    buckets, starts = hash_ngrams(WordList.from_strings(words), minn, maxn, 1000)
    for index, word in enumerate(words):
        plain = [fnv1a(ngram) % 1000 for ngram in ngrams(word, minn, maxn)]
        assert buckets[starts[index] : starts[index + 1]].tolist() == plain


def test_the_vector_of_an_unknown_word_is_the_mean_of_its_ngrams() -> None:
    numbers = sorted({fnv1a(ngram) % 50 for ngram in ngrams("cat", 3, 4)[:2]})
    subwords = Subwords(3, 4, 50, np.array(numbers), np.eye(len(numbers), 4, dtype=np.float32))
    expected = np.zeros(4)
    for ngram in ngrams("cat", 3, 4):
        if fnv1a(ngram) % 50 in numbers:
            expected[numbers.index(fnv1a(ngram) % 50)] += 1
    found = vector_of_unknown("cat", subwords)
    assert found is not None
    assert np.allclose(found, expected / len(ngrams("cat", 3, 4)))
    assert vector_of_unknown("", subwords) is None


# Nearest neighbors


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize(("words", "dim", "queries", "k"), [(9000, 8, 40, 3), (70, 5, 3, 100)])
def test_top_k_is_exact(dtype: Any, words: int, dim: int, queries: int, k: int) -> None:
    rng = np.random.default_rng(words)
    vectors = rng.normal(size=(words, dim)).astype(dtype)
    vectors[words // 2] = vectors[0]
    vectors[3], vectors[7] = 0, np.nan
    asked = unit(rng.normal(size=(queries, dim)))
    asked[0] = unit(vectors[0])
    without = [[q, 2 * q + 1] for q in range(queries)]
    of = Embedding(
        checkpoint.Header("embed", "x", {}, []), WordList.from_strings(["w"] * words), vectors
    )
    found, scores = top_k(of, asked, k, without)
    truth = asked @ unit(vectors).T
    for query, left_out in enumerate(without):
        truth[query, left_out] = -np.inf
    truth[np.isnan(truth)] = -np.inf
    order = np.argsort(-truth, axis=1, kind="stable")[:, :k]
    best = np.take_along_axis(truth, order, axis=1)
    assert np.allclose(scores, best, atol=1e-5)
    shown = np.where(np.isfinite(best), best, -9)
    clear = (np.diff(shown, append=-99) < -1e-5) & (np.diff(shown, prepend=99) < -1e-5)
    clear &= np.isfinite(best)
    assert np.array_equal(found[clear], order[clear])
    assert not np.isnan(scores).any()


def test_ties_go_to_the_first_word() -> None:
    same = embedding([f"w{i}" for i in range(6000)], np.ones((6000, 2)))
    found, _ = top_k(same, unit(np.ones((2, 2))), 3, [[1], []])
    assert found.tolist() == [[0, 2, 3], [0, 1, 2]]


def test_half_precision_is_widened_exactly() -> None:
    every = np.arange(65536, dtype=np.uint16).view(np.float16)
    finite = every[np.isfinite(every)]
    assert np.array_equal(half_to_single(finite), finite.astype(np.float32))


@pytest.mark.slow
def test_a_million_words_are_searched_quickly() -> None:
    vectors = np.ones((1_000_000, 300), np.float32)
    vectors[:, 0] = np.arange(len(vectors)) % 1000
    of = Embedding(
        checkpoint.Header("embed", "x", {}, []),
        WordList(np.empty(0, np.uint8), np.zeros(len(vectors) + 1)),
        vectors,
        stored_norms=row_norms(vectors),
    )
    query = unit(np.ones((1, 300)))
    top_k(of, query, 10)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        top_k(of, query, 10)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 1  # 0.3 s on a quiet machine


# Queries


def test_similar_words_and_no_word_itself(world: Path) -> None:
    records = json.loads(run("embed", "paris", "Rome", "-m", world, "--top", 3, "-f", "json").out)
    assert [record["query"] for record in records] == ["paris", "Rome"]
    for record in records:
        words = [neighbor["word"] for neighbor in record["neighbors"]]
        assert len(words) == 3
        assert record["query"].lower() not in words
        cosines = [neighbor["cosine"] for neighbor in record["neighbors"]]
        assert cosines == sorted(cosines, reverse=True)
    default, named = (
        run("embed", "paris", "-m", world),
        run("embed", "similar", "paris", "-m", world),
    )
    assert default.out == named.out
    assert default.out.splitlines()[0].split("\t")[0] == "paris"
    assert len(default.out.splitlines()) == 10
    few = run("embed", "paris", "-m", world, "--restrict", 3).out.splitlines()
    assert {line.split("\t")[1] for line in few} == set(COUNTRIES[:3])


def test_the_bundled_vectors_know_capitals_and_families() -> None:
    questions = {
        "paris france italy": "rome",
        "tokyo japan russia": "moscow",
        "queen woman man": "king",
    }
    for question, answer in questions.items():
        found = run("embed", "analogy", *question.split(), "--top", 3).out.splitlines()
        assert answer in [line.split("\t")[0] for line in found]
    odd = run("embed", "odd-one-out", "breakfast", "cereal", "dinner", "lunch")
    assert odd.out.startswith("cereal\t")


def test_vectors_stay_in_step_with_the_lines(world: Path) -> None:
    rows = run("embed", "vector", "-m", world, stdin="paris\n\nrome paris\n").out.splitlines()
    assert len(rows) == 3
    assert set(rows[1].split("\t")[1:]) == {"0.0"}


def test_an_unknown_word_is_one_line_and_the_others_are_answered(world: Path) -> None:
    result = run("embed", "kingg", "paris", "-m", world, "--top", 1)
    assert result.code == 1
    assert result.out.startswith("paris\t")
    assert result.err.splitlines()[0] == (
        f"dlkit: kingg: not in the vocabulary of {world}; did you mean king, kings?"
    )
    assert "did you mean" not in run("embed", "zzzzzz", "-m", world).err
    assert "did you mean" not in run("embed", "z" * 100_000, "-m", world).err
    assert run("embed", "", "-m", world).code == 1


def test_lines_of_stdin_and_sentences(world: Path) -> None:
    result = run(
        "embed", "vector", "-m", world, "-f", "jsonl", stdin="paris\nking the queen\nxx yy\n"
    )
    assert result.code == 1
    assert "xx yy: none of its words is in the vocabulary" in result.err
    word, sentence, failed = map(json.loads, result.out.splitlines())
    of = load_embedding(world)
    by_name = dict(zip(of.words.to_list(), of.vectors, strict=True))
    assert np.allclose(word["vector"], by_name["paris"], atol=1e-6)
    mean = (unit(by_name["king"]) + unit(by_name["queen"])) / 2
    assert np.allclose(sentence["vector"], mean, atol=1e-6)
    assert "error" in failed
    phrase = json.loads(run("embed", "vector", "new york", "-m", world, "-f", "json").out)
    assert np.allclose(phrase[0]["vector"], by_name["new york"], atol=1e-6)


def test_vectors_as_an_array(world: Path, tmp_path: Path) -> None:
    out = tmp_path / "v.npy"
    assert run("embed", "vector", "paris", "rome", "-m", world, "-o", out).code == 0
    of = load_embedding(world)
    assert np.array_equal(np.load(out), of.vectors[5:7])
    assert run("embed", "vector", "paris", "kingg", "-m", world, "-o", out).code == 1
    assert not np.load(out)[1].any()


@pytest.mark.parametrize("option", [[], ["--3cosmul"]])
def test_analogies(world: Path, option: list[str]) -> None:
    asked = ["embed", "analogy", "paris", "France", "italy", "-m", world, *option]
    result = run(*asked, "-f", "json")
    answers = [answer["word"] for answer in json.loads(result.out)[0]["answers"]]
    assert answers[0] == "rome"
    assert not {"paris", "france", "italy"} & set(answers)
    assert run(*asked).out.startswith("rome\t")
    unknown = run("embed", "analogy", "pariss", "france", "italy", "-m", world)
    assert unknown.code == 1
    assert "did you mean paris?" in unknown.err


def test_3cosmul_by_hand() -> None:
    vectors = unit(RNG.normal(size=(8, 4)))
    of = Vectors("x", embedding([f"w{i}" for i in range(8)], vectors))
    words, scores = solve_analogies(
        of.embedding, vectors[None, [0, 1, 2]], "3cosmul", 1, [[0, 1, 2]]
    )
    cosines = (vectors @ vectors[:3].T + 1) / 2
    truth = cosines[:, 0] * cosines[:, 2] / (cosines[:, 1] + 1e-3)
    truth[:3] = -1
    assert words[0, 0] == truth.argmax()
    assert scores[0, 0] == pytest.approx(truth.max(), rel=1e-5)


def test_odd_one_out(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_embedding(path, embedding(["a", "b", "c", "odd"], [[1, 0.1], [1, 0], [1, -0.1], [-1, 1]]))
    assert run("embed", "odd-one-out", "a", "odd", "b", "-m", path).out.split("\t")[0] == "odd"
    partly = run("embed", "odd-one-out", "a", "odd", "b", "zz", "-m", path)
    assert (partly.code, partly.out.split("\t")[0]) == (1, "odd")
    assert run("embed", "odd-one-out", "a", "odd", "-m", path).code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["similar", "king"],
        ["kingg"],
        ["analogy", "paris", "france", "italy"],
        ["vector", "king queen"],
        ["odd-one-out", "king", "queen", "rome"],
    ],
)
def test_queries_load_numpy_and_nothing_heavier(world: Path, arguments: list[str]) -> None:
    loaded = loaded_by("embed", *arguments, "-m", str(world))
    assert "numpy" in loaded
    assert not loaded & {"torch", "numba", "matplotlib", "scipy", "rich", "safetensors"}


def test_help_loads_nothing_heavy() -> None:
    for command in (["embed"], ["embed", "train"], ["embed", "convert"]):
        assert not loaded_by(*command, "--help") & {"torch", "numpy", "numba", "rich"}


# Other tools' files: written here byte by byte


TEXT = "cat 1 -0.5 2e-1\n日本 0 3.25 -1E2 \n. . . 7 8 9\n"
VECTORS = np.array([[1, -0.5, 0.2], [0, 3.25, -100], [7, 8, 9]], np.float32)
NAMES = ["cat", "日本", ". . ."]


def word2vec_binary(end: bytes) -> bytes:
    rows = (
        word.encode() + b" " + struct.pack("<3f", *vector) + end
        for word, vector in zip(NAMES[:2], VECTORS.tolist(), strict=False)
    )
    return b"2 3\n" + b"".join(rows)


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


# Evaluation


def test_ranks_and_correlations_by_hand() -> None:
    assert ranks(np.array([10.0, 20, 20, 5])).tolist() == [1, 2.5, 2.5, 0]
    assert pearson(np.array([1.0, 2, 3]), np.array([2.0, 4, 7])) == pytest.approx(0.9933993)
    # d = (0, 1, -1): 1 - 6 * 2 / (3 * 8)
    spearman = pearson(ranks(np.array([1.0, 2, 3])), ranks(np.array([1.0, 3, 2])))
    assert spearman == pytest.approx(0.5)
    assert np.isnan(pearson(np.ones(3), np.arange(3.0)))


@pytest.mark.parametrize(
    "content",
    [
        "Word 1\tWord 2\tHuman (mean)\ncat\tdog\t7.5\nKing\tqueen\t3\n",
        "Word 1,Word 2,Human (mean)\ncat,dog,7.5\nKing,queen,3\n",
        "word1\tword2\tPOS\tSimLex999\tconc(w1)\ncat\tdog\tN\t7.5\t2\nKing\tqueen\tN\t3\t1\n",
        "cat-n dog-n 7.500\nKing-n queen-n 3.0\n",
        "# comment\ncat\tdog\t7.5\t8\t7\nKing\tqueen\t3\t3\t3\n",
        "\ufeffcat dog 7.5\r\n\r\nKing queen 3\r\n",
    ],
)
def test_forms_of_similarity_files(tmp_path: Path, content: str) -> None:
    path = tmp_path / "pairs.txt"
    path.write_text(content, encoding="utf-8")
    found = [(pair.a, pair.b, pair.score) for pair in read_file(path)]  # type: ignore[union-attr]
    assert found == [("cat", "dog", 7.5), ("King", "queen", 3.0)]


def test_evaluation_of_both_kinds(world: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tests"
    folder.mkdir()
    of = load_embedding(world)
    directions = dict(zip(of.words.to_list(), unit(of.vectors), strict=True))
    pairs = [("paris", "france"), ("king", "rome"), ("queen", "japan"), ("Tokyo", "berlin")]
    cosines = [float(directions[a.lower()] @ directions[b]) for a, b in pairs]
    lines = [f"{a}\t{b}\t{score}" for (a, b), score in zip(pairs, cosines, strict=True)]
    (folder / "sim.txt").write_text("\n".join([*lines, "zz\tking\t1"]))
    (folder / "words.txt").write_text(
        ": capitals\nParis France Rome Italy\ntokyo japan berlin germany\nzz a b c\n"
        ": gram1-plural\nking kings queen zzz\n: gram2\nfrance paris italy rome\n"
    )
    scores = {
        (record["metric"], record["label"]): record
        for record in json.loads(run("embed", "evaluate", folder, "-m", world, "-f", "json").out)
    }
    assert scores["spearman", "sim"]["value"] == 1
    assert scores["pearson", "sim"]["value"] == 1
    assert scores["coverage", "sim"]["value"] == 0.8
    assert "4 of 5 pairs" in scores["spearman", "sim"]["definition"]
    assert scores["accuracy", "words capitals"]["value"] == 1
    assert scores["coverage", "words capitals"]["value"] == round(2 / 3, 5)
    assert scores["accuracy", "words gram1-plural"]["value"] is None
    assert scores["accuracy", "words semantic"]["value"] == 1
    assert scores["coverage", "words syntactic"]["value"] == 0.5
    assert scores["accuracy", "words total"]["value"] == 1
    assert "3 of 5 questions" in scores["accuracy", "words total"]["definition"]
    few = run(
        "embed", "evaluate", folder / "words.txt", "-m", world, "--restrict", 2, "-f", "json"
    ).out
    assert {record["value"] for record in json.loads(few)} == {None, 0}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no test words"),
        (": a\nb c d\n", "line 2: 3 words"),
        ("cat dog 1\ncat dog\n", "line 2: not two words and a number"),
        ("some text\n", "neither pairs"),
        (": section\n", "no analogies"),
    ],
)
def test_bad_test_files(world: Path, tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "bad.txt"
    path.write_text(content)
    result = run("embed", "evaluate", path, "-m", world)
    assert result.code == 1
    assert f"dlkit: {path}: {message}" in result.err


# Pictures


def test_pca_is_that_of_the_covariance() -> None:
    matrix = RNG.normal(size=(30, 5)) * [5, 3, 1, 1, 1]
    points = pca(matrix)
    values = np.linalg.eigvalsh(np.cov(matrix.T))[::-1][:2]
    assert np.allclose(points.var(axis=0, ddof=1), values)


def test_tsne_keeps_neighbors_and_has_the_asked_perplexity() -> None:
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
def test_a_picture(world: Path, tmp_path: Path, method: str) -> None:
    groups, out = tmp_path / "groups.txt", tmp_path / "out.png"
    pairs = zip(COUNTRIES, CAPITALS, strict=True)
    groups.write_text("\n".join(f"{a} {b}" for a, b in pairs) + "\nnames: new york, zz\n")
    options = ["-m", world, "--method", method, "-o", out]
    result = run("embed", "plot", "--groups", groups, "--lines", *options)
    assert (result.code, result.out) == (0, f"{out}\t11\n")
    assert "skipped 1 x not in the vocabulary" in result.err
    with Image.open(out) as image:
        assert min(image.size) > 500
    assert run("embed", "plot", "--words", "paris rome king", *options).code == 0
    assert run("embed", "plot", "--words", "paris rome zz", *options).code == 2
    assert run("embed", "plot", *options).code == 2
    assert run("embed", "plot", "--words", "paris rome king", "--lines", *options).code == 2


# Phrases


def test_phrases_are_joined(tmp_path: Path) -> None:
    corpus, out = tmp_path / "corpus.txt", tmp_path / "joined.txt"
    rng = np.random.default_rng(0)
    words = [f"word{i}" for i in range(200)]
    lines = [[*rng.permutation(words), "new", "york", *rng.permutation(words)] for _ in range(6)]
    corpus.write_text("".join(" ".join(line) + "\n" for line in lines))
    options = ["--min-count", 1, "--threshold", 100]
    result = run("embed", "phrases", corpus, *options)
    assert result.code == 0, result.err
    assert run("embed", "phrases", corpus, *options, "-o", out).code == 0
    assert out.read_text() == result.out
    assert [line.split()[200] for line in result.out.splitlines()] == ["new_york"] * 6


# Against the tools themselves


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


def test_gensim_measures_the_same(tmp_path: Path) -> None:
    models = pytest.importorskip("gensim.models")
    rng = np.random.default_rng(5)
    names = [f"w{i}" for i in range(60)]
    theirs = models.KeyedVectors(3)
    theirs.add_vectors(names, rng.normal(size=(60, 3)).astype(np.float32))
    theirs.save_word2vec_format(str(tmp_path / "a.bin"), binary=True)
    pairs, questions = tmp_path / "pairs.tsv", tmp_path / "questions.txt"
    drawn = [rng.choice(names, 2, replace=False) for _ in range(40)]
    pairs.write_text("".join(f"{a}\t{b}\t{rng.integers(9)}\n" for a, b in drawn))
    drawn = [rng.choice([*names, "zz"], 4, replace=False) for _ in range(400)]
    questions.write_text(": gram\n" + "".join(" ".join(four) + "\n" for four in drawn))
    output = run("embed", "evaluate", pairs, questions, "-m", tmp_path / "a.bin", "-f", "json").out
    mine = {(r["metric"], r["label"]): r["value"] for r in json.loads(output)}
    pearson_r, spearman_r, _ = theirs.evaluate_word_pairs(str(pairs))
    assert mine["spearman", "pairs"] == pytest.approx(spearman_r[0], abs=1e-5)
    assert mine["pearson", "pairs"] == pytest.approx(pearson_r[0], abs=1e-5)
    accuracy, _ = theirs.evaluate_word_analogies(str(questions), case_insensitive=False)
    assert mine["accuracy", "questions total"] == pytest.approx(accuracy, abs=1e-5)


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
