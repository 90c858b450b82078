"""Queries: nearest words, analogies, vectors, the odd one out."""

import json
from pathlib import Path

import numpy as np
import pytest

from dlkit.embed.model import load_embedding, save_embedding
from dlkit.embed.nearest import solve_analogies, unit
from dlkit.embed.vectors import Vectors
from tests.conftest import run
from tests.embed.helpers import COUNTRIES, RNG, embedding


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
    assert run("embed", "vector", "paris", "kingg", "-m", world, "-o", out, "--force").code == 1
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
