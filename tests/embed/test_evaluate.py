"""Correlation with human judgments, and analogies."""

import json
from pathlib import Path

import numpy as np
import pytest

from dlkit.embed.evaluate import pearson, ranks, read_file
from dlkit.embed.model import load_embedding
from dlkit.embed.nearest import unit
from tests.conftest import run


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
        (
            ": a\nb c d\n",
            "none of the 1 rows of 'bad.txt' can be used, most often: analogy without 4",
        ),
        (
            "cat dog 1\ncat dog\n",
            "1 of 2 rows of 'bad.txt' cannot be used (50 %), most often: row with",
        ),
        (
            "a,b,1\nc,d\n",
            "1 of 2 rows of 'bad.txt' cannot be used (50 %), most often: row with another",
        ),
        ('a,b,1\nc,"d,2\n', "1 of 2 rows of 'bad.txt' cannot be used (50 %), most often: row with"),
        (
            "a,b,1\nc,,2\n",
            "1 of 2 rows of 'bad.txt' cannot be used (50 %), most often: row that is",
        ),
        ("a\tb\t1\nc\td\tnan\n", "1 of 2 rows of 'bad.txt' cannot be used (50 %)"),
        ("some text\n", "none of the 1 rows"),
        (": section\n", "no rows of 'bad.txt'"),
        ("a b 1\ncaf\xe9 d 1\n", "byte 9 is not UTF-8"),
        ("\x89PNG\r\n\x1a\n" + "\0" * 9, "a PNG image"),
    ],
)
def test_bad_test_files(world: Path, tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "bad.txt"
    path.write_bytes(content.encode("latin-1"))
    result = run("embed", "evaluate", path, "-m", world)
    assert result.code == 1
    assert f"dlkit: {path}: {message}" in result.err


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


def test_rows_that_are_skipped_are_counted_and_allowed_by_their_share(
    world: Path, tmp_path: Path
) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("a,b,score\nparis,france,7\nking,queen\nrome,italy,3\nking,queen,1\n")
    refused = run("embed", "evaluate", path, "-m", world)
    assert refused.code == 1
    assert refused.err.endswith("--allow-skipped 0.25\n")
    assert run("embed", "evaluate", path, "-m", world, "--strict").code == 1
    done = run("embed", "evaluate", path, "-m", world, "--allow-skipped", 0.25, "-f", "jsonl")
    assert done.code == 0
    assert done.err.splitlines()[0] == "pairs.csv: 3 rows"
    assert "pairs.csv: skipped 1 of 4 rows (25 %)" in done.err
    assert "3 of 3 pairs" in done.out


def test_words_with_a_vector_of_zeros_are_not_scored(tmp_path: Path) -> None:
    vectors, pairs = tmp_path / "v.vec", tmp_path / "pairs.txt"
    vectors.write_text("4 2\na 1 0\nb 1 1\nc 0 1\nnull 0 0\n")
    pairs.write_text("a b 3\na c 1\nb c 2\na null 9\n")
    found = json.loads(run("embed", "evaluate", pairs, "-m", vectors, "-f", "json").out)
    assert [record["value"] for record in found if record["metric"] == "coverage"] == [0.75]
    pairs.write_text("a b c a\nnull b c a\n")
    found = json.loads(run("embed", "evaluate", pairs, "-m", vectors, "-f", "json").out)
    assert [record["value"] for record in found if record["metric"] == "coverage"] == [0.5]
