"""The corpus of a run."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import zstandard

from dlkit.lm_generate import corpus
from dlkit.lm_generate.config import LmTrainConfig, by_arch
from tests.lm_generate.helpers import random_text, tiny_config


def make_corpus(config: LmTrainConfig) -> corpus.Corpus:
    corpus.prepare(by_arch(config))
    return corpus.open_corpus(config.out)


def test_the_end_of_the_text_is_held_out_where_a_line_ends(text: Path, tmp_path: Path) -> None:
    found = make_corpus(tiny_config(text, tmp_path))
    whole = text.read_text()
    training, held_out = (
        found.codec.decode(p.tolist()) for p in (found.training, found.validation)
    )
    assert training + held_out == whole
    assert training.endswith("\n")
    assert 0 <= len(training) - 0.9 * len(whole) < 40
    assert found.training.dtype == np.uint16
    assert isinstance(found.training, np.memmap)


def test_files_of_all_kinds_make_one_corpus(tmp_path: Path) -> None:
    parts = [random_text(20, seed) for seed in range(4)]
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt").write_text(parts[0])
    (folder / "b.txt.gz").write_bytes(gzip.compress(parts[1].encode()))
    (folder / "c.txt.zst").write_bytes(zstandard.compress(parts[2].encode()))
    (tmp_path / "d").write_text(parts[3])
    config = tiny_config(folder, tmp_path / "run", val_share=0.0)
    config.data.append(str(tmp_path / "d"))
    found = make_corpus(config)
    assert found.codec.decode(found.training.tolist()) == "".join(parts)
    assert len(found.validation) == 0
    config = tiny_config(folder, tmp_path / "words", tokenizer="words", val=[str(tmp_path / "d")])
    found = make_corpus(config)
    # Each file begins with the token that also ends its lines.
    assert found.codec.decode(found.training.tolist()) == "\n" + "\n".join(parts[:3])
    assert found.codec.decode(found.validation.tolist()) == "\n" + parts[3]


def test_a_text_of_one_line_is_cut_between_characters(tmp_path: Path) -> None:
    path = tmp_path / "line.txt"
    path.write_text("ä€" * 50_000)
    found = make_corpus(tiny_config(path, tmp_path / "run", val_share=0.5))
    assert len(found.training) in {50_000, 50_001}
    assert len(found.training) + len(found.validation) == 100_000


def test_words_are_learned_from_the_text_to_train_on_only(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("a b\n" * 90 + "c b\n" * 10)
    found = make_corpus(tiny_config(path, tmp_path / "run", tokenizer="words"))
    assert set(found.codec.tokenizer.vocab) == {"a", "b"}
    assert found.codec.tokenizer.unknown_id in found.validation


@pytest.mark.slow
def test_more_ids_than_two_bytes_hold_take_four(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("".join(f"w{number} " * 2 + "\n" for number in range(66_000)))
    config = tiny_config(path, tmp_path / "run", tokenizer="whitespace", vocab_size=70_000)
    config.val_share = 0.0
    found = make_corpus(config)
    assert found.training.dtype == np.uint32
    assert found.codec.decode(found.training[:5].tolist()) == "\nw0 w0\nw1"
