"""Files of n-gram models."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from dlkit.core.errors import DlkitError
from dlkit.lm_generate import ngram_files
from dlkit.lm_generate.ngram import Values
from dlkit.lm_generate.ngram_files import load as load_ngrams
from tests.lm_generate.helpers import train_ngrams


def test_quantized_numbers_are_close() -> None:
    rng = np.random.default_rng(0)
    numbers = np.append(rng.normal(size=5000), [0] * 50 + [-np.inf] * 3).astype(np.float32)
    values = Values(*ngram_files.quantize(numbers))
    assert values.stored.dtype == np.uint8
    finite = np.isfinite(numbers)
    assert np.abs(values[:][finite] - numbers[finite]).mean() < 0.01
    assert (values[:][numbers == 0] == 0).all()
    assert np.isneginf(values[:][~finite]).all()
    few = rng.choice(numbers, 200)
    assert np.array_equal(Values(*ngram_files.quantize(few))[:], few)


def test_children_are_packed_as_bits() -> None:
    first = np.array([0, 0, 3, 4, 4, 9], np.uint32)
    bits = ngram_files.pack_children(first)
    assert len(bits) == 2  # of 5 n-grams and 9 children
    assert np.array_equal(ngram_files.unpack_children(bits, 5), first)


@pytest.mark.parametrize("name", ["kneser-ney", "katz", "jelinek-mercer", "add-k"])
@pytest.mark.parametrize("quantize", [False, True])
def test_a_model_is_the_same_from_its_file(tmp_path: Path, name: str, quantize: bool) -> None:
    path = train_ngrams(tmp_path, smoothing=name, quantize=quantize)
    model = load_ngrams(path)
    assert model.order == 3
    encoded = model.codec.encode("to be or not to sleep")
    assert model.codec.begin is not None
    ids = [model.codec.begin, *encoded]
    again = load_ngrams(path)
    assert np.array_equal(model.score(ids), again.score(ids))
    assert math.isclose(np.exp(model.next_logprobs(ids)).sum(), 1, abs_tol=1e-4)
    assert model.header.settings["smoothing"] == name
    record = json.loads((tmp_path / "run" / "log.jsonl").read_text())
    assert record["perplexity"] == model.header.metrics["perplexity"]
    assert record["ngrams"] == [len(words) for words in model.trie.words]
    # The next word is the one that always follows.
    following = model.next_logprobs(model.codec.encode("that is the"))
    assert model.tokenizer.names[int(following.argmax())] == "question"
    assert not (tmp_path / "run" / "counting").exists()


def test_a_damaged_model_is_refused(tmp_path: Path) -> None:
    path = train_ngrams(tmp_path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DlkitError, match="its checksum is wrong"):
        load_ngrams(path)
