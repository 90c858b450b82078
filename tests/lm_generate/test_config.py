"""Options."""

from pathlib import Path

import pytest

from tests.conftest import run


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--arch lstm --heads 2", "--heads is for"),
        ("--arch gpt --order 3", "--order is for ngram"),
        ("--arch ngram --lr 0.1", "--lr is for"),
        ("--arch ngram --lookahead 5", "--lookahead is for"),
        ("--arch gpt --parallel fsdp --lookahead 5", "--lookahead does not work with"),
        ("--arch bengio --layers 2", "--layers is for"),
        ("--optimizer sgd --beta2 0.9", "--beta2 is for adam"),
        ("--tokenizer english-8k --vocab-size 100", "--vocab-size is for a tokenizer"),
        ("--tokenizer byte --vocab-size 100", "--vocab-size has no use"),
        ("--val other.txt --val-share 0.2", "--val-share is for training without --val"),
        ("--tokenizer nothing", "or learned from the text: char"),
    ],
)
def test_an_option_without_effect_is_refused(
    options: str, message: str, text: Path, tmp_path: Path
) -> None:
    done = run("lm-generate", "train", text, "--out", tmp_path / "run", *options.split())
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert message in done.err
