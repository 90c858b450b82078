"""The same merges, vocabularies and ids as Hugging Face tokenizers.

Ties: of pairs that are equally frequent, Hugging Face merges the one whose left, then right symbol
has the smaller id. Ids of symbols marked by their place (##a, a</w>) follow the order of a hash map
there, which is random, so those vocabularies are compared from their first symbols on.
"""

import random
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from dlkit.tokenize import Tokenizer, bpe, pretokenize, train
from dlkit.tokenize.alphabet import mark_symbols
from dlkit.tokenize.convert import convert, read
from tests.tokenize.helpers import (
    ODD,
    WORDS,
    generate_lines,
    in_hugging_face,
    train_in_hugging_face,
)

DATA = Path(__file__).parents[3] / "shared" / "data"


def load_corpora() -> list[tuple[str, list[str]]]:
    """Generated text always; real text where the data packs are."""
    found = [("generated", generate_lines(0, 400))]
    for pack, member, lines in [
        ("text.zip", "tiny_shakespeare/input.txt", 4000),
        ("wikipedia.zip", "wiki.valid.txt", 300),
        ("multi30k.zip", "val.de.txt", 600),
    ]:
        if (DATA / pack).exists():
            with zipfile.ZipFile(DATA / pack) as archive:
                text = archive.read(member).decode()
            found.append((member, text.split("\n")[:lines] + ODD))
    return found


CORPORA = load_corpora()
corpora = pytest.mark.parametrize("lines", [c for _, c in CORPORA], ids=[n for n, _ in CORPORA])


def assert_same_ids(tokenizer: Tokenizer, theirs: Any, lines: list[str]) -> None:
    """Ours in Python, ours compiled and theirs."""
    expected = [e.ids for e in theirs.encode_batch(lines, add_special_tokens=False)]
    assert [tokenizer.encode(line) for line in lines] == expected
    split = tokenizer.split
    assert tokenizer.encode_compiled(lines, split, workers=2) == expected
    assert tokenizer.encode_compiled(lines[::-1], split, workers=1) == expected[::-1]


def test_wordpiece_by_likelihood_merges_the_best_score() -> None:
    # (##g, ##s): 5 / (20 * 5) is the best score; the most frequent pair is (##u, ##g).
    text = [f"{word} " * count for word, count in WORDS.items()]
    tokenizer = train(text, algorithm="wordpiece", vocab_size=14, score="likelihood", min_count=1)
    assert "##gs" in tokenizer.vocab
    by_count = train(text, algorithm="wordpiece", vocab_size=14, min_count=1)
    assert "##ug" in by_count.vocab


@corpora
@pytest.mark.parametrize("split", ["gpt2", "gpt4"])
def test_byte_bpe(split: str, lines: list[str], tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    from tokenizers import pre_tokenizers, trainers

    ours = train(lines, vocab_size=1500, split=split, special=["<pad>"])
    theirs = in_hugging_face(ours, tmp_path)
    trainer = trainers.BpeTrainer(
        vocab_size=1500,
        min_frequency=2,
        special_tokens=["<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    model = train_in_hugging_face(theirs, trainer, lines, tmp_path)
    assert [tuple(merge) for merge in model["merges"]] == ours.merges
    assert model["vocab"] == {**ours.special, **ours.vocab}
    # Special tokens written in a text are text for us, and not for them.
    assert_same_ids(ours, theirs, [line for line in lines if "<pad>" not in line])
    again = read([str(tmp_path / "theirs.json")], None)
    assert (again.special, again.vocab) == (ours.special, ours.vocab)
    assert again.merges == ours.merges
    assert again.split == split


@corpora
@pytest.mark.parametrize(("mark", "split"), [("word-start", "whitespace"), ("none", "bert")])
def test_bpe(mark: str, split: str, lines: list[str], tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    from tokenizers import trainers

    settings: dict[str, Any] = {"mark": mark, "split": split, "vocab_size": 1200}
    # Hugging Face takes special tokens out of the text it trains on.
    lines = [line for line in lines if "<unk>" not in line]
    ours = train(lines, algorithm="bpe", normalize="nfkc,lower", **settings)
    theirs = in_hugging_face(ours, tmp_path)
    trainer = trainers.BpeTrainer(
        vocab_size=1200, min_frequency=2, special_tokens=["<unk>"], show_progress=False
    )
    model = train_in_hugging_face(theirs, trainer, lines, tmp_path)
    assert [tuple(merge) for merge in model["merges"]] == ours.merges
    assert model["vocab"] == {**ours.special, **ours.vocab}
    assert_same_ids(ours, theirs, lines)


def from_their_symbols(
    theirs: dict[str, int], lines: list[str], split: str, mark: str, prefix: str
) -> list[str]:
    """Our vocabulary if the first symbols have the order of theirs."""
    counts: Counter[str] = Counter()
    for line in lines:
        counts.update(pretokenize.splitter(split)(line))
    words = [mark_symbols(word, mark) for word in counts]
    first = {char for word in counts for char in word} | {s for word in words for s in word}
    order = sorted(theirs, key=theirs.__getitem__)
    symbols = order[: 1 + len(first)]
    assert set(symbols) == first | {order[0]}
    number = {symbol: i for i, symbol in enumerate(symbols)}
    numbers = [[number[symbol] for symbol in word] for word in words]
    merges = bpe.learn_merges(symbols, numbers, [*counts.values()], len(theirs), 2, prefix)
    for left, right, new in merges:
        if new == len(symbols):
            symbols.append(symbols[left] + symbols[right].removeprefix(prefix))
    return symbols


@corpora
def test_wordpiece(lines: list[str], tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    from tokenizers import trainers

    ours = train(lines, algorithm="wordpiece", vocab_size=1200)
    theirs = in_hugging_face(ours, tmp_path)
    clean = [line for line in lines if "[UNK]" not in line]
    assert_same_ids(ours, theirs, clean)
    trainer = trainers.WordPieceTrainer(
        vocab_size=1200, min_frequency=2, special_tokens=["[UNK]"], show_progress=False
    )
    model = train_in_hugging_face(theirs, trainer, clean, tmp_path)
    order = sorted(model["vocab"], key=model["vocab"].__getitem__)
    assert from_their_symbols(model["vocab"], clean, "bert", "inside", "##") == order


@corpora
def test_bpe_with_end_of_word_marks(lines: list[str], tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    from tokenizers import trainers

    ours = train(lines, algorithm="bpe", vocab_size=1200)
    theirs = in_hugging_face(ours, tmp_path)
    clean = [line for line in lines if "<unk>" not in line]
    assert_same_ids(ours, theirs, clean)
    trainer = trainers.BpeTrainer(
        vocab_size=1200,
        min_frequency=2,
        special_tokens=["<unk>"],
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    model = train_in_hugging_face(theirs, trainer, clean, tmp_path)
    order = sorted(model["vocab"], key=model["vocab"].__getitem__)
    assert from_their_symbols(model["vocab"], clean, "whitespace", "end-of-word", "") == order


@corpora
@pytest.mark.parametrize("split", ["gpt2", "gpt4"])
def test_ids_equal_those_of_tiktoken(split: str, lines: list[str], tmp_path: Path) -> None:
    tiktoken = pytest.importorskip("tiktoken")
    from tiktoken.load import load_tiktoken_bpe

    trained = train(lines, vocab_size=1500, split=split)
    (tmp_path / "own.json").write_text(trained.to_json(), encoding="utf-8")
    path = tmp_path / "own.tiktoken"
    convert([str(tmp_path / "own.json")], path, "tiktoken")
    theirs = tiktoken.Encoding(
        "own",
        pat_str=pretokenize.PATTERNS[split],
        mergeable_ranks=load_tiktoken_bpe(str(path)),
        special_tokens={},
    )
    expected = theirs.encode_ordinary_batch(lines)
    ours = read([str(path)], split)
    assert [ours.encode(line) for line in lines] == expected
    assert ours.encode_compiled(lines, split, workers=2) == expected
    assert trained.encode_compiled(lines, split, workers=2) == expected


def test_ties_and_tokens_with_two_merges_equal_hugging_face(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    from tokenizers import Tokenizer as Theirs
    from tokenizers import models, pre_tokenizers, trainers

    rng = random.Random(7)
    for _ in range(40):
        lines = [
            " ".join("".join(rng.choices("abc", k=rng.randint(1, 8))) for _ in range(20))
            for _ in range(5)
        ]
        theirs = Theirs(models.BPE())
        theirs.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        trainer = trainers.BpeTrainer(vocab_size=90, min_frequency=1, show_progress=False,
                                      special_tokens=["<unk>"])  # fmt: skip
        model = train_in_hugging_face(theirs, trainer, lines, tmp_path)
        ours = train(lines, algorithm="bpe", mark="none", vocab_size=90, min_count=1)
        assert ours.merges == [tuple(merge) for merge in model["merges"]]
