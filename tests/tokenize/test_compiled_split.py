"""Compiled pre-tokenization, compared with the patterns."""

import random

import numpy as np
import pytest

from dlkit.tokenize import pretokenize
from tests.tokenize.helpers import NASTY


@pytest.mark.parametrize(
    "split",
    ["gpt2", "gpt4", "whitespace", "ascii-whitespace", "bert", "characters", "none"],
)
def test_compiled_splits_equal_the_patterns(split: str) -> None:
    """Short texts of odd characters one after the other, so that words go on behind their end."""
    from dlkit.tokenize import compiled_split, compiled_table

    mode = compiled_split.MODES[split]
    rng = random.Random(split)
    texts = []
    for number in range(4000):
        characters = NASTY if number % 3 else "aZé '1x\x1f\x7f\n {`@[/:,"
        texts.append("".join(rng.choices(characters, k=rng.randint(1, 12 + number % 20))))
        if number % 10 == 0:
            texts.append("".join(map(chr, rng.choices(range(0x20, 0xD7FF), k=12))))
    texts.append("Antidisestablishmentarianism's internationalization, 1234567 times ")
    encoded = [text.encode() for text in texts]
    ends = np.cumsum([len(data) for data in encoded])
    starts = ends - [len(data) for data in encoded]
    data = np.frombuffer(b"".join(encoded), np.uint8)
    kinds, table = compiled_split.character_kinds(mode), compiled_table.empty()[0]
    batch = np.empty((compiled_split.BATCH, 4), np.int64)
    found: list[list[str]] = [[]]
    text = at = 0
    while text < len(texts):
        n, text, at = compiled_split.split_batch(
            data, starts, ends, text, at, kinds, mode, table, batch
        )
        for i, j, _, high in batch[:n].tolist():
            if high == 0:
                found.append([])
            else:
                found[-1].append(data[i:j].tobytes().decode())
    assert found[:-1] == [pretokenize.splitter(split)(text) for text in texts]
