"""Training n-gram models."""

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlkit.core.errors import DlkitError
from dlkit.lm_generate.config import LmTrainConfig, by_arch
from dlkit.lm_generate.ngram_files import load as load_ngrams
from tests.lm_generate.helpers import PLAY, train_ngrams


def test_the_perplexity_of_digits_by_chance_is_10(tmp_path: Path) -> None:
    digits = "".join(map(str, np.random.default_rng(0).integers(10, size=30_000)))
    model = load_ngrams(train_ngrams(tmp_path, digits, tokenizer="char", order=1))
    assert model.header.metrics["perplexity"] == pytest.approx(10, rel=0.005)


def test_a_run_is_not_overwritten_but_its_model_is_there(tmp_path: Path) -> None:
    path = train_ngrams(tmp_path)
    with pytest.raises(DlkitError, match="holds a run already"):
        train_ngrams(tmp_path)
    assert train_ngrams(tmp_path, resume=True) == path


def test_a_killed_run_starts_again(tmp_path: Path) -> None:
    content = train_ngrams(tmp_path).read_bytes()
    run = tmp_path / "run"
    (run / "best.safetensors").unlink()
    (run / "counting").mkdir()
    (run / "counting" / "words-0").write_bytes(b"half")
    again = train_ngrams(tmp_path, resume=True)
    assert not (run / "counting").exists()
    model = load_ngrams(again)
    assert len(content) - 100 < again.stat().st_size < len(content) + 100
    assert math.isclose(np.exp(model.next_logprobs([])).sum(), 1, abs_tol=1e-5)


def test_new_words_are_impossible_for_maximum_likelihood(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = PLAY * 20 + "question the question\n" * 5
    model = load_ngrams(train_ngrams(tmp_path, content, smoothing="add-k", add_k=0.0))
    assert "perplexity inf" in capsys.readouterr().err
    assert model.header.metrics == {}


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_a_text_without_tokens_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(DlkitError, match="text|corpus"):
        train_ngrams(tmp_path, content)


@pytest.mark.parametrize("name", ["kneser-ney", "katz", "jelinek-mercer", "add-k"])
@pytest.mark.parametrize("content", ["a " * 50, "a b c\n" * 9, "a\n\n\n\n\n\n\n\n\n\n\n\nb"])
@pytest.mark.parametrize("tokenizer", ["whitespace", "char"])
def test_a_tiny_text_gives_a_model(tmp_path: Path, name: str, content: str, tokenizer: str) -> None:
    path = train_ngrams(
        tmp_path, content, tokenizer=tokenizer, smoothing=name, order=3, val_share=0.4
    )
    model = load_ngrams(path)
    for context in ([], [0], [1], [0, 1], [1, 1, 1]):
        assert math.isclose(np.exp(model.next_logprobs(context)).sum(), 1, abs_tol=1e-5)


def test_options_without_effect_are_refused(tmp_path: Path) -> None:
    refused: list[tuple[dict[str, Any], str]] = [
        ({"add_k": 0.5}, "--add-k is for --smoothing add-k"),
        ({"smoothing": "add-k", "prune": "0 1"}, "--prune and --max-ngrams need"),
        ({"smoothing": "add-k", "arpa": True}, "--arpa needs a model that backs off"),
        ({"width": 64}, "--width is for"),
        ({"smoothing": "jelinek-mercer", "val_share": 0.0}, "--val-share"),
    ]
    for settings, message in refused:
        with pytest.raises(DlkitError, match=message):
            train_ngrams(tmp_path, **settings)
    with pytest.raises(DlkitError, match="--order is for ngram"):
        by_arch(LmTrainConfig(data=[], order=3))


@pytest.mark.slow
def test_n_gram_models_load_no_torch(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.txt"
    corpus.write_text(PLAY * 20)
    script = (
        "import sys\nfrom pathlib import Path\n"
        "from dlkit.lm_generate.config import LmTrainConfig\n"
        "from dlkit.lm_generate.train import train\n"
        "from dlkit.lm_generate.ngram_files import load\n"
        f"config = LmTrainConfig(data=[{str(corpus)!r}], out=Path({str(tmp_path / 'run')!r}),"
        " arch='ngram', order=2, arpa=True)\n"
        "path = train(config)\nassert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    query = (
        "import sys\nfrom pathlib import Path\nfrom dlkit.lm_generate.ngram_files import load\n"
        f"load(Path({str(tmp_path / 'run' / 'best.safetensors')!r})).score([1, 2])\n"
        "assert not {'torch', 'numba'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", query], check=True, capture_output=True)
