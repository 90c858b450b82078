"""The same merges, vocabularies and ids as Hugging Face tokenizers and tiktoken; compiled = Python.

Ties: of pairs that are equally frequent, Hugging Face merges the one whose left, then right symbol
has the smaller id. Ids of symbols marked by their place (##a, a</w>) follow the order of a hash
map there, by chance in each run, so those vocabularies are compared from their first symbols on.
"""

import json
import random
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlkit.tokenize import Tokenizer, bpe, pretokenize, train
from dlkit.tokenize.alphabet import mark_symbols
from dlkit.tokenize.convert import convert, read
from dlkit.tokenize.normalize import normalize

DATA = Path(__file__).parent.parent.parent / "shared" / "data"
ODD = [
    "Don't we'LL I'VE 'S 'ſ ''s they're",
    "naïve café cafe\u0301 Ünïcödé ǅ ẞ İstanbul ΣΊΣΥΦΟΣ",
    "日本語 テキスト 한국어 العربية हिन्दी 中文，标点。",
    "😀👩‍👩‍👧🏽 ½ ² Ⅷ ١٢٣ 1234567 3.14 $5 a_b",
    "\x00 \x01\x1b[0m \x1c\x1f \x7f\x85\u00a0\u2003\u200b\ufeff x",
    "   leading  and   trailing   \t ",
    "a\r",
    "[UNK] <unk> ## ##a </w> ▁ Ġ",
    "x" * 300,
    "",
]
NASTY = "abcdeé 'stSTlLvVrRdDmMſ019½\t\r\n \u00a0\u2003.,;!_-$日本ーй😀\u0301\x00\x1c\x85"


def generated(seed: int, lines: int) -> list[str]:
    """Text of invented words, the frequent ones short, with some odd lines among it."""
    rng = random.Random(seed)
    syllables = ["ba", "ko", "ti", "é", "sch", "ing", "th", "e", "an", "日", "й"]
    words = ["".join(rng.choices(syllables, k=rng.randint(1, 4))) for _ in range(300)]
    weights = [1 / (i + 1) for i in range(300)]
    text = [
        rng.choice(["", " ", "\t"])
        + rng.choice([" ", "  ", ", ", "-"]).join(rng.choices(words, weights, k=rng.randint(1, 12)))
        + rng.choice(["", ".", "!", " 42", "'s"])
        for _ in range(lines)
    ]
    return text + ODD


def texts() -> list[tuple[str, list[str]]]:
    """Generated text always; real text where the data packs are."""
    found = [("generated", generated(0, 400))]
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


CORPORA = texts()
corpora = pytest.mark.parametrize("lines", [c for _, c in CORPORA], ids=[n for n, _ in CORPORA])


def in_hugging_face(tokenizer: Tokenizer, tmp_path: Path) -> Any:
    """The converted tokenizer, loaded by Hugging Face's library."""
    library = pytest.importorskip("tokenizers")
    (tmp_path / "own.json").write_text(tokenizer.to_json(), encoding="utf-8")
    convert([str(tmp_path / "own.json")], tmp_path / "theirs.json", "huggingface", force=True)
    return library.Tokenizer.from_file(str(tmp_path / "theirs.json"))


def trained_there(tokenizer: Any, trainer: Any, lines: list[str], tmp_path: Path) -> Any:
    """Hugging Face's result on the same file; the library reads it line by line, as we do."""
    path = tmp_path / "corpus.txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="")
    tokenizer.train([str(path)], trainer)
    return json.loads(tokenizer.to_str())["model"]


def assert_same_ids(tokenizer: Tokenizer, theirs: Any, lines: list[str]) -> None:
    """Ours in Python, ours compiled and theirs."""
    expected = [e.ids for e in theirs.encode_batch(lines, add_special_tokens=False)]
    assert [tokenizer.encode(line) for line in lines] == expected
    split = tokenizer.split
    assert tokenizer.encode_compiled(lines, split, workers=2) == expected
    assert tokenizer.encode_compiled(lines[::-1], split, workers=1) == expected[::-1]


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
    model = trained_there(theirs, trainer, lines, tmp_path)
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
    model = trained_there(theirs, trainer, lines, tmp_path)
    assert [tuple(merge) for merge in model["merges"]] == ours.merges
    assert model["vocab"] == {**ours.special, **ours.vocab}
    assert_same_ids(ours, theirs, lines)


def from_their_symbols(
    theirs: dict[str, int], lines: list[str], split: str, mark: str, prefix: str
) -> list[str]:
    """The vocabulary we learn if the first symbols stand in their order."""
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
    model = trained_there(theirs, trainer, clean, tmp_path)
    order = sorted(model["vocab"], key=model["vocab"].__getitem__)
    assert from_their_symbols(model["vocab"], clean, "bert", "inside", "##") == order


@corpora
def test_bpe_with_ends_of_words(lines: list[str], tmp_path: Path) -> None:
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
    model = trained_there(theirs, trainer, clean, tmp_path)
    order = sorted(model["vocab"], key=model["vocab"].__getitem__)
    assert from_their_symbols(model["vocab"], clean, "whitespace", "end-of-word", "") == order


@corpora
@pytest.mark.parametrize("split", ["gpt2", "gpt4"])
def test_ids_of_tiktoken_for_the_same_ranks(split: str, lines: list[str], tmp_path: Path) -> None:
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


def test_files_of_gpt2_bert_and_sentencepiece_come_back(tmp_path: Path) -> None:
    lines = generated(1, 200)
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


# ---- compiled code against Python ----------------------------------------------------------------


@pytest.mark.parametrize("split", ["gpt2", "gpt4", "whitespace", "bert", "characters", "none"])
def test_compiled_splits_are_the_patterns(split: str) -> None:
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


def test_keys_tell_all_strings_apart() -> None:
    """Strings that differ in any one byte or in their length, at the end of the data and not."""
    from dlkit.tokenize import compiled_table

    base = bytes(range(1, 31))
    strings = {base[:n] for n in range(1, 31)} | {bytes(n) for n in range(1, 31)}
    strings |= {base[:k] + b"\xff" + base[k + 1 : n] for n in (7, 8, 15, 16, 30) for k in range(n)}
    keys = set()
    for string in strings:
        alone = compiled_table.key_of(np.frombuffer(string, np.uint8), 0, len(string))
        inside = np.frombuffer(b"x" + string + b"y" * 20, np.uint8)
        assert compiled_table.key_of(inside, 1, 1 + len(string)) == alone
        keys.add(alone)
    assert len(keys) == len(strings)


@pytest.mark.parametrize("likelihood", [False, True])
def test_compiled_merges_are_those_of_python(likelihood: bool) -> None:
    """Few different letters make many ties, runs of one letter, and tokens made in two ways."""
    from dlkit.tokenize import compiled_learn

    rng = random.Random(likelihood)
    for _ in range(60):
        letters = "ab" if rng.random() < 0.3 else "abcd"
        tokens = [*letters, *("##" + c for c in letters)] if rng.random() < 0.5 else [*letters]
        prefix = "##" if len(tokens) > len(letters) else ""
        number = {token: i for i, token in enumerate(tokens)}
        words = [
            [number[c] for c in mark_symbols("".join(word), "inside" if prefix else "none")]
            for word in (rng.choices(letters, k=rng.randint(1, 9)) for _ in range(40))
        ]
        counts = [rng.randint(1, 5) for _ in words]
        encoded = [token.encode() for token in tokens]
        found = compiled_learn.learn_merges(
            np.frombuffer(b"".join(encoded), np.uint8).copy(),
            np.cumsum([0, *map(len, encoded)]).astype(np.int64),
            np.array([s for word in words for s in word], np.int32),
            np.cumsum([0, *map(len, words)]).astype(np.int64),
            np.array(counts, np.int64),
            60,
            1,
            np.frombuffer(prefix.encode(), np.uint8),
            likelihood,
        )
        expected = bpe.learn_merges(tokens, words, counts, 60, 1, prefix, likelihood)
        assert [tuple(merge) for merge in found.tolist()] == expected


@pytest.mark.parametrize("mark", ["end-of-word", "word-start", "none", "bytes"])
def test_long_words_are_merged_in_windows(mark: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than two windows without a space, of few letters, against the merges in Python."""
    lines = ["banana bandana nabob ab ba abba aa aaaa "] * 3
    settings: dict[str, Any] = {"vocab_size": 280, "algorithm": "byte-bpe"}
    if mark != "bytes":
        settings = {"vocab_size": 30, "algorithm": "bpe", "mark": mark}
    tokenizer = train(lines, min_count=1, **settings)
    monkeypatch.setattr("dlkit.tokenize.model.COMPILED_SIZE", 1 << 30)
    rng = random.Random(mark)
    for letters in ("a", "ab", "abn", "abxé"):
        word = "".join(rng.choices(letters, k=150_000))
        assert tokenizer.encode_compiled([word], "none") == [tokenizer.piece_ids(word)]


def test_ties_and_tokens_made_in_two_ways_as_in_hugging_face(tmp_path: Path) -> None:
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
        model = trained_there(theirs, trainer, lines, tmp_path)
        ours = train(lines, algorithm="bpe", mark="none", vocab_size=90, min_count=1)
        assert ours.merges == [tuple(merge) for merge in model["merges"]]


def test_large_corpora_are_counted_as_small_ones_are(monkeypatch: pytest.MonkeyPatch) -> None:
    from dlkit.tokenize import counting, learning

    lines = generated(3, 300)
    variants: list[dict[str, Any]] = [
        {},
        {"split": r"\w+|\W+"},  # no compiled pattern: in processes
        {"algorithm": "wordpiece", "normalize": "nfkc,lower,strip-accents", "limit_alphabet": 20},
        {"algorithm": "words"},
    ]
    for settings in variants:
        small = train(lines, vocab_size=600, **settings)
        with monkeypatch.context() as patch:
            patch.setattr(counting, "SMALL", 1)
            patch.setattr(learning, "SMALL", 1)
            patch.setattr("dlkit.core.io.text.BLOCK", 2000)
            large = train(lines, vocab_size=600, **settings)
        assert large.to_json() == small.to_json()


def test_normalization_is_that_of_hugging_face() -> None:
    normalizers = pytest.importorskip("tokenizers").normalizers
    steps: dict[str, list[Any]] = {
        "nfc": [normalizers.NFC()],
        "nfkc": [normalizers.NFKC()],
        "lower": [normalizers.Lowercase()],
        "strip-accents": [normalizers.NFD(), normalizers.StripAccents()],
    }
    for name, parts in steps.items():
        theirs = normalizers.Sequence(parts)
        for line in generated(4, 20):
            assert normalize(line, [name]) == theirs.normalize_str(line), name
