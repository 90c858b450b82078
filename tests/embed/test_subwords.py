"""N-grams of fastText, their hashes, and vectors of unknown words."""

import numpy as np
import pytest

from dlkit.embed.compiled_subwords import hash_ngrams
from dlkit.embed.model import Subwords, WordList
from dlkit.embed.subwords import fnv1a, ngrams, vector_of_unknown


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
