"""Linear models of n-grams: by hand, and against scikit-learn."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dlkit.classify import ngrams
from dlkit.classify.infer import load_text_classifier, text_probabilities
from dlkit.classify.models.ngrams import NaiveBayesNgrams, TfIdfNgrams, Vote, ngram_keys
from dlkit.classify.ngrams import NgramCounts, log_count_ratios
from dlkit.classify.text import TextDataset, WordVocabulary, pad_ids
from dlkit.core.store import checkpoint
from dlkit.core.store.checkpoint import Header
from tests.classify.helpers import evaluated, text_network, write_lines
from tests.conftest import run


def as_ids(*texts: list[int]) -> list[torch.Tensor]:
    return [torch.tensor(text) for text in texts]


def fitted(arch: str, texts: list[str], labels: list[int], **settings: Any) -> Any:
    """A model and the probability of each label for any text."""
    vocabulary = WordVocabulary.learn([text for text in texts for _ in range(2)], 1000)
    data = TextDataset(list(zip(texts, labels, strict=True)), vocabulary, 400)
    arguments = {"num_labels": max(labels) + 1, "vocab_size": len(vocabulary), "ngrams": 2}
    model, _ = ngrams.fit(arch, arguments, data, **settings)

    def probabilities(tested: list[str]) -> np.ndarray:
        logits = model(pad_ids(vocabulary.encode_batch(tested, 400)))
        return np.asarray(logits.softmax(dim=1).numpy())

    return model, probabilities


def test_ngrams_are_counted_in_each_text() -> None:
    counts = NgramCounts.of(as_ids([2, 3, 2, 3], [], [3]), 10, 3)
    assert counts.keys.tolist() == [2, 3, 23, 32, 232, 323]
    assert counts.counts.tolist() == [2, 2, 2, 1, 1, 1, 1]
    assert counts.texts.tolist() == [0, 0, 0, 0, 0, 0, 2]
    assert counts.texts_with(np.array([True, True, True])).tolist() == [1, 2, 1, 1, 1, 1]
    alone = counts.only(np.array([False, True, True]))
    assert (alone.size, alone.texts.tolist(), alone.columns.tolist()) == (2, [1], [1])


def test_padding_is_in_no_ngram() -> None:
    words, pairs = ngram_keys(torch.tensor([[4, 5, 0], [6, 7, 8]]), 10, 2)
    assert words.tolist() == [[4, 5, 0], [6, 7, 8]]
    assert pairs.tolist() == [[45, 0], [67, 78]]


def test_log_count_ratios_by_hand() -> None:
    """Of three texts the first is on the side: 1 + counts of 2, 2, 1 and 1, 3, 2 of 5 and 6."""
    counts = NgramCounts.of(as_ids([2, 3, 3], [3, 4], [3]), 10, 1)
    ratios = log_count_ratios(counts, np.array([True, False, False]))
    expected = [math.log(2 / 5 / (1 / 6)), math.log(2 / 5 / (3 / 6)), math.log(1 / 5 / (2 / 6))]
    assert ratios == pytest.approx(expected)
    # Two more texts, one of each side, with a weight of 0.3; the word 9 is in none of the first.
    more = NgramCounts.of(as_ids([4, 9], [2, 9]), 10, 1)
    ratios = log_count_ratios(counts, np.array([True, False, False]), more, np.array([True, False]))
    shares = np.array([2, 2, 1.3]) / 5.3, np.array([1.3, 3, 2]) / 6.3
    assert ratios == pytest.approx(np.log(shares[0] / shares[1]))


def test_a_naive_bayes_of_two_words_by_hand() -> None:
    """Without interpolation it is the ratios times one weight, the mean absolute one."""
    counts = NgramCounts.of(as_ids([2], [3]), 10, 1)
    side = np.array([True, False])
    weights, bias = ngrams.interpolated(counts, side, 1.0, 0.0, None, None)
    ratio = math.log(2)
    assert log_count_ratios(counts, side) == pytest.approx([ratio, -ratio])
    # Both weights w are equal by symmetry: w = r / (1 + exp(r w)), the gradient's zero.
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        too_low = middle < ratio / (1 + math.exp(ratio * middle))
        low, high = (middle, high) if too_low else (low, middle)
    assert weights == pytest.approx([ratio * low, -ratio * low], abs=1e-6)
    assert bias == pytest.approx(0, abs=1e-6)
    # Weights of unequal size: a quarter of each, and three quarters of their mean.
    three = NgramCounts.of(as_ids([2, 3], [2], [4]), 10, 1)
    side = np.array([True, True, False])
    plain, _ = ngrams.interpolated(three, side, 1.0, 1.0, None, None)
    mixed, _ = ngrams.interpolated(three, side, 1.0, 0.25, None, None)
    ratios = log_count_ratios(three, side)
    own = plain / ratios
    assert mixed / ratios == pytest.approx(0.25 * own + 0.75 * np.abs(own).mean())


def test_values_of_occurrences_by_hand() -> None:
    """The word 2 twice, 3 once and 4, which is not known: binary, and TF-IDF of norm 1."""
    ids = torch.tensor([[2, 3, 2, 4, 0]])
    binary = NaiveBayesNgrams(2, 10, 1, 2)
    binary.keys, binary.weights = torch.tensor([2, 3]), torch.tensor([[0.5, -2.0]])
    binary.bias = torch.tensor([0.25])
    assert binary(ids).tolist() == [[0.625, -0.625]]  # half of 0.5 - 2 + 0.25, and against it
    # 2 is for the second label, and so against the first, which is the best.
    assert binary.word_weights(ids).tolist() == [[-0.125, 1.0, -0.125, 0.0, 0.0]]
    assert binary.word_weights(ids, torch.tensor([1])).tolist() == [[0.125, -1, 0.125, 0, 0]]

    weighed = TfIdfNgrams(3, 10, 1, 2)
    weighed.keys, weighed.idf = torch.tensor([2, 3]), torch.tensor([1.5, 4.0])
    weighed.weights = torch.tensor([[1.0, 0], [0, 1], [0, 0]])
    weighed.bias = torch.tensor([0.0, 0, 0.5])
    expected = torch.tensor([[3 / 5, 4 / 5, 0.5]])  # the norm of 2 x 1.5 and 4 is 5
    torch.testing.assert_close(weighed(ids), expected)
    assert weighed(torch.tensor([[4, 0]])).tolist() == [[0, 0, 0.5]]


@pytest.mark.parametrize("num_labels", [2, 3])
@pytest.mark.parametrize("arch", ["nbsvm", "tfidf"])
def test_word_weights_and_the_bias_are_the_logit(arch: str, num_labels: int) -> None:
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(list("abcdefg"), 8)) for _ in range(30)]
    model, _ = fitted(arch, texts, [number % num_labels for number in range(30)])
    ids = pad_ids(as_ids([2, 3, 2, 2, 3], [4], [5, 6, 2]))
    logits = model(ids)
    best, place = logits.max(dim=1)
    bias = torch.cat([-model.bias, model.bias]) / 2 if num_labels == 2 else model.bias
    torch.testing.assert_close(model.word_weights(ids).sum(dim=1) + bias[place], best)
    # Neither the order of texts, nor padding, nor the batch has an effect.
    torch.testing.assert_close(
        model(torch.nn.functional.pad(ids[[2, 0, 1]], (0, 4))), logits[[2, 0, 1]]
    )


@pytest.mark.parametrize("labels", [2, 3])
def test_tf_idf_is_that_of_scikit_learn(labels: int) -> None:
    text = pytest.importorskip("sklearn.feature_extraction.text")
    linear = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(labels)
    words = [f"w{number}" for number in range(40)]
    texts = [" ".join(rng.choice(words, rng.integers(1, 12))) for _ in range(120)]
    given = rng.integers(0, labels, 120).tolist()
    for cost in (1.0, 10.0):
        _, probabilities = fitted("tfidf", texts, given, cost=cost)
        vectorizer = text.TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"\S+")
        regression = linear.LogisticRegression(C=cost, tol=1e-10, max_iter=10_000)
        regression.fit(vectorizer.fit_transform(texts), given)
        unseen = [" ".join(rng.choice([*words, "new"], 9)) for _ in range(20)]
        expected = regression.predict_proba(vectorizer.transform(unseen))
        assert probabilities(unseen) == pytest.approx(expected, abs=1e-4)


def test_naive_bayes_finds_the_words_and_is_calibrated() -> None:
    """Of 400 texts each third word is the label's with probability 0.9: so sure it may be."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 400)
    shown = np.where(rng.random(400) < 0.9, labels, 1 - labels)
    words = np.array(["bad", "good"])
    texts = [f"a {words[own]} film {rng.integers(100)}" for own in shown]
    model, probabilities = fitted("nbsvm", texts, labels.tolist())
    good, bad = probabilities(["a good film", "a bad film"])[:, 1]
    assert 0.8 < good < 0.97
    assert 0.03 < bad < 0.2


def test_more_than_two_labels_have_a_model_each() -> None:
    texts = ["red fire", "red rose", "blue sky", "blue sea", "green leaf", "green tree"] * 4
    _, probabilities = fitted("nbsvm", texts, [0, 0, 1, 1, 2, 2] * 4)
    found = probabilities(["a red sky with red", "blue", "green fire green"])
    assert found.argmax(axis=1).tolist()[1:] == [1, 2]
    assert found.sum(axis=1) == pytest.approx([1, 1, 1])


def test_a_vote_is_the_mean_of_probabilities() -> None:
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(list("abcdefg"), 8)) for _ in range(30)]
    model, _ = fitted("tfidf", texts, [number % 3 for number in range(30)])
    network = text_network("bilstm")
    vote = Vote(network, model).eval()
    ids = torch.tensor([[2, 3, 4, 0], [5, 5, 6, 7]])
    mean = (network(ids).softmax(dim=1) + model(ids).softmax(dim=1)) / 2
    torch.testing.assert_close(vote(ids).softmax(dim=1), mean)
    best = mean.argmax(dim=1)
    both = network.word_weights(ids, best) + model.word_weights(ids, best)
    torch.testing.assert_close(vote.word_weights(ids), both / 2)
    torch.manual_seed(3)
    expected = vote.train().network(ids)
    torch.manual_seed(3)
    torch.testing.assert_close(vote(ids), expected)


def test_two_fits_are_equal() -> None:
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(list("abcdefg"), 8)) for _ in range(30)]
    first, second = (fitted("nbsvm", texts, [n % 2 for n in range(30)])[0] for _ in range(2))
    assert first.weights.equal(second.weights)


@pytest.mark.parametrize("arch", ["nbsvm", "tfidf"])
def test_a_model_of_ngrams_is_trained_evaluated_and_explained(arch: str, tmp_path: Path) -> None:
    data = write_lines(tmp_path / "films")
    command = ["classify", "train", data, "--arch", arch, "--out", tmp_path / "run"]
    done = run(*command)
    assert done.code == 0, done.err
    best = Path(done.out.strip())
    assert run("classify", "-m", best, "--text", "a dull film").out.startswith("neg")
    assert evaluated(data, "-m", best)["top1", "all"] == 1.0
    assert evaluated(data, "-m", best, "--folds", 2)["top1", "mean"] == 1.0
    rows = run("classify", "explain", "-m", best, "--text", "a lovely film").out.splitlines()
    weights = {row.split("\t")[1]: float(row.split("\t")[2]) for row in rows}
    assert max(weights, key=lambda word: weights[word]) == "lovely"
    first = best.read_bytes()
    resumed = run(*command, "--resume")
    assert resumed.code == 0, resumed.err
    assert best.read_bytes() == first


def test_a_network_that_votes_with_ngrams(tmp_path: Path) -> None:
    data = write_lines(tmp_path / "films")
    options = "--arch bilstm --layers 1 --embedding-size 8 --epochs 2 --device cpu --swa-epochs 2"
    command = ["classify", "train", data, *options.split(), "--out", tmp_path / "run"]
    done = run(*command, "--vote", "nbsvm", "--ratios-from", data)
    assert done.code == 0, done.err
    best = Path(done.out.strip())
    assert evaluated(data, "-m", best)["top1", "all"] == 1.0
    classifier = load_text_classifier(str(best), "cpu", "fp32")
    assert isinstance(classifier.network, Vote)
    voted = text_probabilities([classifier], ["a dull film"])[0]
    ids = pad_ids(classifier.vocabulary.encode_batch(["a dull film"], 400))
    parts = [classifier.network.network, classifier.network.ngrams]
    mean = torch.stack([part(ids)[0].softmax(dim=0) for part in parts]).mean(dim=0)
    torch.testing.assert_close(voted, mean)
    rows = run("classify", "explain", "-m", best, "--text", "a lovely film").out.splitlines()
    assert [row.split("\t")[1] for row in rows] == ["a", "lovely", "film"]

    # Its network starts another one, with a vote or without.
    start = ["--init-from", best, "--out", tmp_path / "two"]
    alone = run("classify", "train", data, *options.split(), *start)
    assert alone.code == 2
    assert "none of its weights fits" in alone.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--arch nbsvm --lr 0.1", "--lr is for gradient descent, not nbsvm"),
        ("--arch tfidf --epochs 3", "--epochs is for gradient descent, not tfidf"),
        ("--arch tfidf --interpolation 0.5", "--interpolation is for nbsvm; choose that with"),
        ("--arch bilstm --cost 3", "--cost is for nbsvm, tfidf; choose that with --arch or --vote"),
        ("--arch bilstm --vote tfidf --ratios-from x", "--ratios-from is for nbsvm"),
        ("--arch nbsvm --vote tfidf", "--vote is for fasttext, bilstm"),
        ("--arch nbsvm --embedding-size 8", "--embedding-size is for fasttext, bilstm"),
        ("--arch resnet9 --cost 3", "--cost is for fasttext"),
        ("--arch nbsvm --ratios-from gone", "gone: no such folder or file"),
    ],
)
def test_options_that_have_no_effect_are_refused(
    options: str, message: str, tmp_path: Path
) -> None:
    data = write_lines(tmp_path / "films", 4)
    done = run("classify", "train", data, *options.split(), "--out", tmp_path / "run")
    assert done.code == 2
    assert message in done.err
    assert done.err.count("dlkit: ") == 1


def test_a_damaged_vote_is_refused(tmp_path: Path) -> None:
    vocabulary = WordVocabulary.learn(["a b a b"], 10)
    network = {"num_labels": 2, "vocab_size": 4, "embedding_size": 8, "layers": 1}
    vote: dict[str, Any] = {
        "arch": "nbsvm",
        "num_labels": 2,
        "vocab_size": 4,
        "ngrams": 2,
        "features": 3,
    }
    for changed, message in (
        ({"vocab_size": 5}, "its two models have different vocab_size"),
        ({"arch": "gpt"}, "vote.arch is 'gpt'; it must be one of nbsvm, tfidf"),
        ({"features": 0}, "features is 0"),
        ({"more": 1}, "unknown setting"),
    ):
        settings = {
            "network": network | {"vote": vote | changed},
            "vocabulary": vocabulary.to_settings(),
            "max_length": 10,
            "loss": "cross-entropy",
        }
        path = tmp_path / "model.safetensors"
        checkpoint.save(
            path, {"bias": torch.zeros(1)}, Header("classify", "bilstm", settings, ["a", "b"])
        )
        done = run("classify", "-m", path, "--text", "a")
        assert done.code == 2
        assert message in done.err
