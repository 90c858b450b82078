"""Files of other tools."""

from pathlib import Path
from typing import Any

from dlkit.tokenize import train
from dlkit.tokenize.convert import convert, read
from tests.tokenize.helpers import generate_lines


def test_files_of_gpt2_bert_and_sentencepiece_round_trip(tmp_path: Path) -> None:
    lines = generate_lines(1, 200)
    own = tmp_path / "own.json"
    kinds: list[tuple[str, dict[str, Any]]] = [
        ("gpt2", {"special": ["<|endoftext|>"]}),
        ("bert", {"algorithm": "wordpiece", "special": ["[PAD]", "[UNK]"]}),
        ("sentencepiece", {"algorithm": "unigram", "vocab_size": 200}),
    ]
    for to, settings in kinds:
        ours = train(lines, **{"vocab_size": 700} | settings)
        own.write_text(ours.to_json(), encoding="utf-8")
        out = tmp_path / {"gpt2": "gpt2", "bert": "vocab.txt", "sentencepiece": "s.model"}[to]
        convert([str(own)], out, to)
        again = read([str(out)], None)
        assert again.special == ours.special
        assert again.vocab == ours.vocab
        if to == "bert":  # a file of lower-case tokens is taken for an uncased model's
            again.normalization = []
        assert [again.encode(line) for line in lines] == [ours.encode(line) for line in lines]
