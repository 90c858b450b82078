"""n-gram models: the trie, probabilities, texts and scores."""

import math
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from dlkit.core.generation.sampling import Sampling
from dlkit.core.store.weights import find
from dlkit.lm_generate import ngram
from dlkit.lm_generate.counting import count
from dlkit.lm_generate.infer import load, score
from dlkit.lm_generate.ngram import NGram
from dlkit.lm_generate.ngram_files import load as load_ngrams
from tests.conftest import loaded_by, run
from tests.lm_generate.helpers import (
    END,
    TOKENS,
    all_contexts,
    generate_all,
    ngram_model,
    random_ids,
)


def test_an_ngram_model_generates_and_scores(ngrams: Path) -> None:
    model = load(ngrams)
    assert isinstance(model, NGram)
    results = generate_all(["the", "", "a cat"], model, samples=4, max_tokens=12)
    again = generate_all(["the", "", "a cat"], model, samples=4, max_tokens=12, batch_size=1)
    assert results == again
    assert any("\n" in r.text for r in results)  # the next line begins
    assert not any("<unk>" in r.text or "</s>" in r.text for r in results)
    for result in results:
        ids = model.prompt_ids(result.prompt)
        for token in result.tokens:
            logprob = float(model.next_logprobs(ids)[token.id])
            assert token.logprob == pytest.approx(logprob, abs=1e-5)
            ids.append(token.id)
    [whole] = score(["the cat sat"], model)
    codec = model.codec
    assert codec.line_end is not None
    ids = [codec.line_end, *codec.encode("the cat sat"), codec.line_end]
    total = sum(float(model.next_logprobs(ids[:place])[ids[place]]) for place in range(1, len(ids)))
    assert whole.logprob == pytest.approx(total, abs=1e-3)
    [beam] = generate_all(["the"], model, beam=4, max_tokens=5)
    [greedy] = generate_all(["the"], model, sampling=Sampling(greedy=True), max_tokens=5)
    assert (beam.logprob or 0) >= (greedy.logprob or 0)
    assert "needs no --device" in run("lm-generate", "a", "-m", ngrams, "--device", "cuda").err


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [("the cat",), ("score", "LINES"), ("evaluate", "LINES"), ("chat",), ("the", "--beam", "2")],
)
def test_ngram_commands_load_no_torch(
    ngrams: Path, tmp_path: Path, command: tuple[str, ...]
) -> None:
    lines = tmp_path / "lines.txt"
    lines.write_text("the cat sat\n")
    arguments = [str(lines) if word == "LINES" else word for word in command]
    loaded = loaded_by("lm-generate", *arguments, "-m", str(ngrams))
    assert "dlkit.lm_generate.ngram" in loaded
    assert not loaded & {"torch", "numba", "matplotlib"}


def test_an_impossible_text_has_no_logprob(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("the cat sat\nthe cat ran\n" * 2)
    done = run(
        "lm-generate", "train", corpus, "--arch", "ngram", "--order", 2, "--tokenizer", "words",
        "--smoothing", "add-k", "--add-k", 0, "--val-share", 0, "--out", tmp_path / "run",
    )  # fmt: skip
    assert done.code == 0, done.err
    model = load(done.out.strip())
    possible, impossible = score(["the cat sat", "sat the cat"], model)
    assert possible.logprob == pytest.approx(np.log(0.5), abs=1e-4)
    assert (impossible.logprob, impossible.perplexity) == (None, None)
    for result in generate_all(["the", "zebra"], model, samples=5, max_tokens=6):
        assert len(result.tokens) == 6


SMOOTHINGS = ["kneser-ney", "katz", "jelinek-mercer", "add-k", "likelihood"]


def test_a_trie_is_sorted_and_finds_continuations(tmp_path: Path) -> None:
    ids = random_ids(3)
    trie = count(ids, TOKENS, 3, END, tmp_path).trie
    for level in range(3):
        grams = trie.ngrams(level, 0, len(trie.words[level])).tolist()
        assert grams == sorted(grams)
        assert [trie.walk(gram) for gram in grams] == list(range(len(grams)))
    assert trie.walk([11]) == 11  # which does not occur
    assert trie.walk([11, 1]) == ngram.ABSENT
    places = trie.locate(ids)
    for level, at in product(range(3), range(len(ids))):
        gram = ids[at - level : at + 1].tolist() if at >= level else []
        inside = len(gram) == level + 1 and END not in gram[1:-1]
        assert places[level][at] == (trie.walk(gram) if inside else ngram.ABSENT)


@pytest.mark.parametrize("name", SMOOTHINGS)
@pytest.mark.parametrize("order", [1, 2, 3, 5])
@pytest.mark.parametrize("line_end", [END, None])
def test_probabilities_sum_to_1(
    tmp_path: Path, name: str, order: int, line_end: int | None
) -> None:
    model = ngram_model(random_ids(order), order, name, tmp_path, line_end)
    for context in all_contexts(2) + [random_ids(7)[:at].tolist() for at in range(50)]:
        assert math.isclose(np.exp(model.next_logprobs(context)).sum(), 1, abs_tol=1e-5)


@pytest.mark.parametrize("name", SMOOTHINGS)
@pytest.mark.parametrize("at_once", [7, 1 << 18])
def test_scores_are_the_log_probabilities(
    tmp_path: Path, name: str, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ngram, "CHUNK", at_once)
    model = ngram_model(random_ids(1), 4, name, tmp_path)
    ids = random_ids(2).tolist()
    one_by_one = [model.next_logprobs(ids[:at])[token] for at, token in enumerate(ids)]
    np.testing.assert_allclose(model.score(ids), one_by_one, rtol=1e-5)
    assert len(model.score([])) == 0


def test_the_bundled_model_knows_english() -> None:
    path = find("lm-generate", "english-ngram")
    assert path.stat().st_size < 8_000_000
    model = load_ngrams(path)
    begin = model.codec.begin
    assert begin is not None

    def likely(sentence: str) -> float:
        return float(model.score([begin, *model.codec.encode(sentence)])[1:].sum())

    assert likely("The city was founded in the 19th century.") > likely(
        "Century 19th the in founded was city the."
    )
    start = [begin, *model.codec.encode("the United States of")]
    assert model.tokenizer.names[int(model.next_logprobs(start).argmax())] == "ĠAmerica"
    assert math.isclose(
        np.exp(model.next_logprobs(start)).sum(), 1, abs_tol=0.01
    )  # numbers are rough
