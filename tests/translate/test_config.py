"""Options of `dlkit translate train` that have no effect."""

from pathlib import Path

import pytest

from tests.conftest import run
from tests.translate.helpers import options_of


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--arch rnn --heads 2", "--heads is for transformer"),
        ("--arch rnn --score dot", "--score is for attention"),
        ("--reverse", "--reverse is for rnn"),
        ("--cell lstm", "--cell is for rnn, attention"),
        ("--optimizer sgd --beta2 0.9", "--beta2: has no effect on sgd"),
        (
            "--tokenizer english-8k --vocab-size 100",
            "--vocab-size: the tokenizer english-8k is not learned",
        ),
        ("--tokenizer byte --vocab-size 100", "--vocab-size: bytes always have"),
        ("--val-share 0.2", "--val-share: has no effect with a file"),
        ("--val-limit 0", "--best-metric bleu: needs translations"),
        ("--tokenizer nothing", "or learned from the text: bpe, byte-bpe"),
        ("--warmup 0", "--schedule inverse-sqrt falls from the end of --warmup"),
        ("--keys en", "--keys en: not two names; give two"),
        ("--width 10", "--width 10"),
    ],
)
def test_an_option_without_effect_is_refused(
    options: str, message: str, numbers: dict[str, list[str]], tmp_path: Path
) -> None:
    done = run(
        "translate", "train", *options_of(numbers), "--out", tmp_path / "run", *options.split()
    )
    assert done.code == 2
    assert message in done.err.splitlines()[-1]
    assert "Traceback" not in done.err
