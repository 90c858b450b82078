"""The Python functions of embed against the command line."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.embed import (
    Config,
    analogy,
    embed,
    evaluate,
    load,
    nearest,
    odd_one_out,
    similarity,
    train,
)
from dlkit.embed.model import Subwords, save_embedding
from dlkit.embed.subwords import fnv1a
from tests.conftest import records, run
from tests.embed.helpers import COUNTRIES, embedding


def test_vectors_are_those_of_the_command(world: Path) -> None:
    texts = ["paris", "Rome", "king the queen", "new york", ""]
    found = embed(texts, world)
    assert found.dtype == np.float32
    assert found.shape == (5, 12)
    command = run("embed", "vector", "-m", world, "-f", "jsonl", stdin="\n".join(texts) + "\n")
    assert np.array_equal(found, np.array([r["vector"] for r in records(command)], np.float32))
    assert np.array_equal(embed("paris", world), found[0])
    assert embed([], world).shape == (0, 12)
    assert np.array_equal(load(world)(iter(texts)), found)


def test_nearest_and_analogy_are_those_of_the_commands(world: Path) -> None:
    command = run("embed", "paris", "Rome", "-m", world, "--top", 3, "-f", "jsonl")
    assert [asdict(found) for found in nearest(["paris", "Rome"], world, top=3)] == records(command)
    assert asdict(nearest("paris", world, top=3)) == records(command)[0]
    for objective, arguments in (("3cosadd", []), ("3cosmul", ["--3cosmul"])):
        asked = ["embed", "analogy", "paris", "france", "italy", "-m", world, *arguments]
        options: dict[str, Any] = {"objective": objective}
        found = analogy("paris", "france", "italy", world, **options)
        assert [asdict(found)] == records(run(*asked, "-f", "jsonl"))
        assert found.answers[0].word == "rome"
    vectors = load(world)
    assert vectors.nearest("paris", 3) == nearest("paris", vectors, top=3)
    assert vectors.analogy("paris", "france", "italy") == analogy(
        "paris", "france", "italy", vectors
    )
    words = [*COUNTRIES[:3], "king"]
    (record,) = records(run("embed", "odd-one-out", *words, "-m", world, "-f", "jsonl"))
    assert asdict(odd_one_out(words, world)) == record


def test_similarity_by_hand(world: Path) -> None:
    a, b = embed(["paris", "rome"], world).astype(float)
    expected = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    assert similarity("paris", "Rome", world) == pytest.approx(expected, abs=1e-4)
    assert similarity("paris", "paris", world) == pytest.approx(1)
    with pytest.raises(DlkitError, match="^kingg: not in the vocabulary"):
        similarity("paris", "kingg", world)


def test_an_unknown_word_is_named_with_similar_ones(world: Path) -> None:
    message = f"kingg: not in the vocabulary of {world}; did you mean king, kings?"
    assert run("embed", "vector", "kingg", "-m", world).err == f"dlkit: {message}\n"
    for ask in (embed, nearest):
        for given in ("kingg", ["paris", "kingg"]):
            with pytest.raises(DlkitError) as caught:
                ask(given, world)
            assert str(caught.value) == message
    with pytest.raises(DlkitError) as caught:
        analogy("kingg", "paris", "rome", world)
    assert str(caught.value) == message
    vectors = embed(["paris", "kingg"], world, errors="return")
    assert not isinstance(vectors[0], Failure)
    assert np.array_equal(vectors[0], embed("paris", world))
    assert isinstance(vectors[1], Failure)
    first, second = nearest(["kingg", "paris"], world, errors="return")
    assert isinstance(first, Failure)
    assert first.path == "kingg"
    assert not isinstance(second, Failure)
    for wrong in ({"top": 0}, {"restrict": 0}):
        options: dict[str, Any] = wrong
        with pytest.raises(DlkitError, match="not in the range"):
            nearest("paris", world, **options)


def test_all_unknown_words_are_named(world: Path) -> None:
    for ask in (embed, nearest):
        with pytest.raises(DlkitError, match=r"^kingg: .*king, kings\?; also foo, bar$"):
            ask(["kingg", "paris", "foo", "bar"], world)
    with pytest.raises(DlkitError, match=r"; also w0, .*, w9 and 3 more$"):
        embed(["kingg", *(f"w{number}" for number in range(13))], world)


def test_fasttext_has_vectors_for_unknown_words(tmp_path: Path) -> None:
    ngrams = np.arange(20, dtype=np.float32).reshape(10, 2)
    subwords = Subwords(3, 3, 10, np.arange(10), ngrams)
    path = tmp_path / "f.safetensors"
    save_embedding(path, embedding(["known"], [[1, 2]], subwords=subwords))
    expected = (ngrams[fnv1a("<zu") % 10] + ngrams[fnv1a("zu>") % 10]) / 2
    assert np.allclose(embed("zu", path), expected)
    assert embed(["zu", "known"], path).shape == (2, 2)


def test_a_string_is_one_text(world: Path) -> None:
    assert embed("king queen", world).shape == (12,)
    with pytest.raises(DlkitError, match="not a text"):
        embed([1, 2], world)  # type: ignore[list-item]


def test_evaluate_as_the_command_does(world: Path, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("paris,rome,9\nparis,king,1\nrome,italy,5\n")
    found = evaluate(pairs, world)
    command = run("embed", "evaluate", pairs, "-m", world, "-f", "jsonl")
    assert [asdict(score) for score in found] == records(command)
    assert found["spearman", "pairs"] == records(command)[0]["value"]
    with pytest.raises(DlkitError, match="no such file"):
        evaluate(tmp_path / "none.csv", world)


@pytest.mark.slow
def test_train_from_python(topics: Path, tmp_path: Path) -> None:
    small: dict[str, Any] = {"method": "lsa", "dim": 8, "min_count": 1}
    best = train(Config(corpus=[str(topics)], out=tmp_path / "run", **small))
    assert best == tmp_path / "run" / "best.safetensors"
    assert all(n.word.startswith("red") for n in nearest("red1", best, top=5).neighbors)
    small["method"] = "none"
    with pytest.raises(DlkitError, match="choose from skipgram"):
        train(Config(corpus=[str(topics)], out=tmp_path / "run", **small))


def test_results_are_shown_and_saved(world: Path, tmp_path: Path) -> None:
    found = nearest("paris", world, top=3)
    shown = found._repr_html_()
    assert shown.count("<tr>") == 4
    assert found.neighbors[0].word in shown
    found.save(tmp_path / "a.csv")
    command = run("embed", "paris", "-m", world, "--top", 3, "-f", "csv")
    assert (tmp_path / "a.csv").read_text() == command.out
    analogy("paris", "france", "italy", world).save(tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text())[0]["a"] == "paris"


def test_no_torch(world: Path) -> None:
    script = (
        "import sys\nfrom dlkit.embed import embed, nearest\n"
        "assert not {'torch', 'numpy'} & {*sys.modules}\n"
        f"embed('paris', {str(world)!r}), nearest('paris', {str(world)!r})\n"
        "assert not {'torch', 'numba'} & {*sys.modules}\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
