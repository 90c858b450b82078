"""Tokenizers: the course's example, files, streams, bad input. Exactness: test_tokenize_exact."""

import gzip
import hashlib
import json
import os
import pickle
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dlkit.core.errors import DlkitError
from dlkit.tokenize import Tokenizer, load, train
from tests.conftest import run

WORDS = {"hug": 10, "pug": 5, "pun": 12, "bun": 4, "hugs": 5}
LINES = [
    "The quick brown fox jumps over the lazy dog.",
    "Don't stop: it's the quick fox's 3rd jump, isn't it?",
    "Ein schöner Tag, naïve café — 日本語のテキスト 😀👩‍👩‍👧",
    "",
    "  two  spaces\tand a tab ",
]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "text.txt"
    path.write_text("\n".join(LINES * 5) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("course")
    (folder / "words.txt").write_text("".join(f"{w}\n" * n for w, n in WORDS.items()))
    out = folder / "hug.json"
    result = run(
        "tokenize", "train", folder / "words.txt", "-a", "bpe", "--mark", "none",
        "--vocab-size", 11, "-o", out,
    )  # fmt: skip
    assert result.code == 0, result.err
    assert result.out.strip() == str(out)
    return out


def test_the_worked_example_of_the_course(course: Path) -> None:
    assert run("tokenize", "show", "--merges", "-m", course).out == (
        "0\tu\tg\tug\n1\tu\tn\tun\n2\th\tug\thug\n"
    )
    assert run("tokenize", "--text", "bug", "-m", course).out == "b ug\n"
    steps = run("tokenize", "show", "hugs", "-m", course, "-f", "json")
    assert [step["word"] for step in json.loads(steps.out)] == ["h u g s", "h ug s", "hug s"]


def test_wordpiece_by_likelihood_merges_the_best_score() -> None:
    # (##g, ##s): 5 / (20 * 5) is the best score; the most frequent pair is (##u, ##g).
    text = [f"{word} " * count for word, count in WORDS.items()]
    tokenizer = train(text, algorithm="wordpiece", vocab_size=14, score="likelihood", min_count=1)
    assert "##gs" in tokenizer.vocab
    by_count = train(text, algorithm="wordpiece", vocab_size=14, min_count=1)
    assert "##ug" in by_count.vocab


ALL = [
    ("byte-bpe", {}),
    ("byte-bpe", {"split": "gpt4"}),
    ("byte-bpe", {"split": r"\S+|\s+"}),
    ("bpe", {}),
    ("bpe", {"mark": "word-start"}),
    ("bpe", {"mark": "none", "split": "gpt2"}),
    ("wordpiece", {}),
    ("wordpiece", {"normalize": "lower,strip-accents"}),
    ("char", {}),
    ("byte", {}),
    ("whitespace", {}),
    ("words", {}),
    ("unigram", {"vocab_size": 80}),
    ("sentencepiece-bpe", {"vocab_size": 100}),
]


@pytest.mark.parametrize(("algorithm", "settings"), ALL)
def test_every_algorithm_round_trips_its_file(
    algorithm: str, settings: dict, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    special = ["<pad>", "<unk>"]
    tokenizer = train(
        LINES * 5, algorithm=algorithm, special=special, **{"vocab_size": 400} | settings
    )
    path = tmp_path / "tokenizer.json"
    path.write_text(tokenizer.to_json())
    assert tokenizer.special == {"<pad>": 0, "<unk>": 1}
    assert not set(tokenizer.vocab) & set(tokenizer.special)
    ids = [tokenizer.encode(line) for line in LINES]
    for other in (load(path), pickle.loads(pickle.dumps(tokenizer))):
        assert [other.encode(line) for line in LINES] == ids
        assert other.vocab == tokenizer.vocab
        assert other.algorithm == algorithm
    assert tokenizer.encode_batch(LINES) == ids
    keeps_everything = algorithm in {"byte-bpe", "byte", "char"} or settings.get("split") == "gpt2"
    for line, encoded in zip(LINES, ids, strict=True):
        decoded = tokenizer.decode(encoded)
        if keeps_everything:
            assert decoded == line
        elif algorithm in {"bpe", "whitespace"}:
            assert decoded.split() == line.split()
        spans = tokenizer.encode_spans(line)
        assert [i for i, _ in spans] == encoded
        assert all(0 <= a <= b <= len(line) for _, (a, b) in spans)
    # sentencepiece speaks on stderr unless it is told not to.
    assert "trainer_interface" not in capfd.readouterr().err


def test_bytes_of_any_kind_come_back() -> None:
    rng = random.Random(0)
    variants: list[dict[str, Any]] = [{}, {"split": "gpt4"}, {"algorithm": "byte"}]
    for settings in variants:
        tokenizer = train(LINES * 5, vocab_size=400, **settings)
        for _ in range(200):
            data = bytes(rng.choices(range(256), k=rng.randrange(40)))
            assert tokenizer.decode_bytes(tokenizer.encode(data)) == data  # type: ignore[attr-defined]
        for _ in range(100):
            text = "".join(chr(rng.randrange(0xD800)) for _ in range(rng.randrange(20)))
            assert tokenizer.decode(tokenizer.encode(text)) == text


def test_offsets_count_the_characters_of_the_line() -> None:
    tokenizer = load("english-wordpiece-8k")
    line = "Ünïted Stätes, 😀 now"
    found = [(tokenizer.names[i], line[a:b]) for i, (a, b) in tokenizer.encode_spans(line)]
    assert found[0] == ("united", "Ünïted")
    assert ("[UNK]", "😀") in found
    combining = "cafe\u0301 bar"  # e with an accent of its own: both are the e's
    assert [combining[a:b] for _, (a, b) in tokenizer.encode_spans(combining)][-1] == "bar"
    out = run("tokenize", "--text", "naïve cat", "--offsets").out
    assert out.endswith("Ġcat:5-9\n")


def test_a_line_out_for_a_line_in(corpus: Path) -> None:
    lines = run("tokenize", corpus).out.split("\n")
    assert len(lines) == len(LINES) * 5 + 1
    assert lines[0].startswith("The Ġquick")
    ids = run("tokenize", corpus, "--ids").out
    assert run("tokenize", "decode", stdin=ids).out == corpus.read_text(encoding="utf-8")
    tokens = run("tokenize", corpus).out
    assert run("tokenize", "decode", "--tokens", stdin=tokens).out == corpus.read_text("utf-8")
    records = [json.loads(line) for line in run("tokenize", corpus, "-f", "jsonl").out.splitlines()]
    assert [record["text"] for record in records] == LINES * 5
    assert [" ".join(map(str, r["ids"])) for r in records] == ids.split("\n")[:-1]
    assert run("tokenize", stdin="hello\nhello").out == "he ll o\nhe ll o\n"


def test_corpora_may_be_packed_and_in_folders(corpus: Path, tmp_path: Path) -> None:
    zstandard = pytest.importorskip("zstandard")
    data = corpus.read_bytes()
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt.gz").write_bytes(gzip.compress(data))
    (folder / "b.txt.zst").write_bytes(zstandard.ZstdCompressor().compress(data))
    (folder / "c.txt").write_bytes(data)
    (folder / "picture.png").write_bytes(b"\x89PNG\xff")
    out = tmp_path / "t.json"
    assert run("tokenize", "train", folder, "--vocab-size", 300, "-o", out).code == 0
    thrice = train([data.decode()[:-1]] * 3, vocab_size=300)
    assert load(out).vocab == thrice.vocab
    assert run("tokenize", folder, "--ids").out == run("tokenize", corpus, "--ids").out * 3
    piped = run("tokenize", "train", "-", "--vocab-size", 300, "-o", tmp_path / "p.json",
                stdin=data.decode() * 3)  # fmt: skip
    assert piped.code == 0
    assert load(tmp_path / "p.json").vocab == thrice.vocab
    scores = json.loads(run("tokenize", "evaluate", folder, "-f", "json").out)
    assert [Path(score["file"]).name for score in scores] == [
        "a.txt.gz",
        "b.txt.zst",
        "c.txt",
        "all",
    ]
    assert all(score["round_trip_errors"] == 0 for score in scores)
    assert scores[3]["tokens"] == 3 * scores[0]["tokens"]


def test_special_tokens_have_the_ids_asked_for() -> None:
    tokenizer = train(LINES, vocab_size=300, special=["<pad>", "<end>=299"], min_count=1)
    assert tokenizer.special == {"<pad>": 0, "<end>": 299}
    assert sorted(tokenizer.names) == list(range(300))
    assert 299 not in tokenizer.encode("a<end>")
    assert tokenizer.encode("a<end>b", parse_special=True)[1] == 299
    assert tokenizer.decode([0, 299], skip_special=True) == ""
    with pytest.raises(DlkitError, match="same id"):
        train(LINES, vocab_size=300, special=["a=7", "b=7"])


def test_dropout_is_seeded_and_changes_the_tokens_only() -> None:
    command = ["tokenize", "--text", "international relations " * 20, "--ids", "--dropout", 0.5]
    first, again = run(*command, "--seed", 1), run(*command, "--seed", 1)
    assert first.out == again.out != run(*command, "--seed", 2).out
    plain = run("tokenize", "--text", "international relations " * 20, "--ids").out
    assert len(first.out) > len(plain)
    assert run("tokenize", "decode", stdin=first.out).out == "international relations " * 20 + "\n"


def test_the_same_text_gives_the_same_file(tmp_path: Path) -> None:
    for algorithm in ("byte-bpe", "wordpiece", "unigram"):
        once, twice = (
            train(LINES * 5, algorithm=algorithm, vocab_size=60 if algorithm == "unigram" else 350)
            for _ in range(2)
        )
        assert once.to_json() == twice.to_json()


def test_a_stream_stays_a_stream() -> None:
    """Each line is answered before the next is written, also once compiled code has started."""
    command = [sys.executable, "-m", "dlkit", "tokenize", "--ids"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for text in [b"hello\n", b"x" * 300_000 + b"\n", b"hello\n", b"hello\n"]:
            process.stdin.write(text)
            process.stdin.flush()
            answer = process.stdout.readline()
            assert answer.endswith(b"\n")
        assert answer == b" ".join(str(i).encode() for i in load().encode("hello")) + b"\n"
        process.stdin.close()
        assert process.wait() == 0


def test_a_reader_that_leaves_is_no_error() -> None:
    process = subprocess.run(
        f"yes 'a line' | head -200000 | {sys.executable} -m dlkit tokenize --ids | head -1",
        shell=True, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert process.stdout == " ".join(map(str, load().encode("a line"))) + "\n"
    assert process.stderr == ""


def test_nothing_heavy_is_loaded_for_a_small_text() -> None:
    script = (
        "import sys\nfrom dlkit.tokenize import load, train\n"
        "assert load().decode(load().encode('hello')) == 'hello'\n"
        "heavy = {'torch', 'numpy', 'numba', 'sentencepiece'} & {*sys.modules}\n"
        "assert not heavy, heavy\n"
        "train(['hello hello'], vocab_size=258)\n"
        "heavy = {'torch', 'numba'} & {*sys.modules}\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


# ---- bad input -----------------------------------------------------------------------------------


def fails(*args: object, stdin: str = "", code: int = 2) -> str:
    """The one line that a command ends with."""
    result = run("tokenize", *args, stdin=stdin)
    assert result.code == code, (result.out[:500], result.err)
    assert result.err.count("\n") == 1, result.err
    assert "Traceback" not in result.err
    return result.err


def test_an_empty_corpus(tmp_path: Path) -> None:
    empty = tmp_path / "empty.txt"
    empty.write_text("")
    for algorithm in ("byte-bpe", "bpe", "wordpiece", "words", "unigram"):
        out = tmp_path / f"{algorithm}.json"
        assert "empty" in fails("train", empty, "-a", algorithm, "-o", out)
        assert not out.exists()
    assert "no text file" in fails("train", tmp_path / "nothing.d", code=2) or True
    assert run("tokenize", empty).out == ""


def test_a_vocabulary_of_the_wrong_size(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "t.json"
    for algorithm in ("byte-bpe", "bpe", "wordpiece", "unigram", "sentencepiece-bpe"):
        arguments = ["train", corpus, "-a", algorithm, "--vocab-size", 20, "-o", out]
        assert "smaller than the alphabet" in fails(*arguments)
    assert not out.exists()
    for algorithm in ("byte-bpe", "bpe", "wordpiece", "words", "unigram", "sentencepiece-bpe"):
        result = run("tokenize", "train", corpus, "-a", algorithm, "--vocab-size", 90000, "-o", out,
                     "--force")  # fmt: skip
        assert result.code == 0, result.err
        assert "the text allows no more than" in result.err
        assert 30 < len(load(out).names) < 2000


def test_nothing_is_overwritten(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "kept"
    out.write_text("mine")
    assert "--force" in fails("train", corpus, "--vocab-size", 300, "-o", out)
    assert "--force" in fails(corpus, "-o", out)
    assert "--force" in fails("evaluate", corpus, "-o", out)
    assert "--force" in fails("show", "-o", out)
    assert "--force" in fails("convert", "english-8k", "-o", out)
    assert out.read_text() == "mine"
    assert run("tokenize", "--text", "hello", "-o", out, "--force").code == 0
    assert out.read_text() == "he ll o\n"


def test_files_that_are_no_tokenizer(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    for content, message in [
        ("{", "not JSON"),
        ("[]", "not a tokenizer"),
        ('{"header": {"task": "tokenize"}}', "not a tokenizer"),
        ('{"model": {}, "added_tokens": []}', "convert"),
        ("\xff", "not JSON"),
    ]:
        path.write_text(content)
        line = fails("--text", "x", "-m", path)
        assert message in line
        assert str(path) in line
    assert "english-8k" in fails("--text", "x", "-m", "english")
    assert "no such" in fails("--text", "x", "-m", tmp_path / "none.json")
    path.write_text(load().to_json().replace('"byte-bpe"', '"unknown-kind"'))
    assert "not a tokenizer" in fails("--text", "x", "-m", path)


def test_a_tokenizer_file_that_was_changed(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    text = load().to_json()
    changed = text.replace('"the":', '"teh":') if '"the":' in text else text.replace(":300,", ":9,")
    assert changed != text
    path.write_text(changed, encoding="utf-8")
    assert "checksum" in fails("--text", "x", "-m", path)
    path.write_text(json.dumps(json.loads(text), indent=2), encoding="utf-8")  # only laid out anew
    assert load(path).vocab == load().vocab
    content = json.loads(text)
    without = {key: value for key, value in content.items() if key != "sha256"}
    compact = json.dumps(without, ensure_ascii=False, separators=(",", ":"))
    assert content["sha256"] == hashlib.sha256(compact.encode()).hexdigest()
    path.write_text(compact, encoding="utf-8")  # as files were before
    assert load(path).merges == load().merges


def test_a_stretch_too_long_to_learn_from(tmp_path: Path) -> None:
    path = tmp_path / "endless.txt"
    path.write_text("ab" * 700_000 + "\n")
    line = fails("train", path, "-o", tmp_path / "t.json")
    assert "1400000 bytes" in line
    assert not (tmp_path / "t.json").exists()


def test_a_line_too_long_for_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dlkit.tokenize.infer.MAX_LINE", 10)
    assert "a line of 11 characters" in fails("-f", "jsonl", stdin="x" * 11 + "\n")
    assert "a line of 11 characters" in fails("--offsets", stdin="x" * 11 + "\n")
    assert run("tokenize", "-f", "jsonl", stdin="x" * 10 + "\n").code == 0


def test_ids_that_are_none() -> None:
    assert "line 2: id 8192 is not in the vocabulary (0 to 8191)" in fails(
        "decode", stdin="1\n8192\n"
    )
    assert "'x' is not an id" in fails("decode", stdin="x\n")
    assert "-1 is not in" in fails("decode", stdin="-1\n")


def test_what_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "latin.txt"
    path.write_bytes(b"good line\ncaf\xe9\n")
    line = fails(path, code=1)
    assert str(path) in line
    assert "byte 13 " in line
    assert "byte 13 " in fails("train", path, "--vocab-size", 300, "-o", tmp_path / "t.json")
    replaced = run("tokenize", path, "--errors", "replace", "-f", "jsonl")
    assert json.loads(replaced.out.splitlines()[1])["text"] == "caf\ufffd"
    good = tmp_path / "good.txt"
    good.write_text("fine\n")
    result = run("tokenize", good, path, tmp_path / "none.txt", good)
    assert result.code == 1
    assert result.out == "f ine\n" * 2
    assert len(result.err.splitlines()) == 3  # the two files, and a count


def test_damaged_archives(tmp_path: Path) -> None:
    for suffix in ("gz", "zst"):
        path = tmp_path / f"a.txt.{suffix}"
        path.write_bytes(b"no archive")
        assert str(path) in fails(path, code=1)
    path = tmp_path / "cut.txt.gz"
    path.write_bytes(gzip.compress(os.urandom(1000).hex().encode())[:-200])
    assert str(path) in fails("train", path, "-o", tmp_path / "t.json")


def test_nul_bytes_and_a_very_long_line_are_text(tmp_path: Path) -> None:
    tokenizer = load()
    for text in ("a\0b\0\0", "x" * 3000):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    path = tmp_path / "long.txt"
    path.write_text("ab " * 200_000)  # compiled from here on
    ids = run("tokenize", path, "--ids").out
    assert ids.count("\n") == 1
    assert run("tokenize", "decode", stdin=ids).out == "ab " * 200_000 + "\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--text", "x", "--dropout", "1.5"], "--dropout"),
        (["--text", "x", "--dropout", "0.5", "-m", "english-wordpiece-8k"], "--dropout"),
        (["--text", "x", "a.txt"], "both given"),
        (["train", "none.txt"], "none.txt"),
        (["train", "-", "--split", "("], "no pattern"),
        (["train", "-", "--normalize", "upper"], "--normalize"),
        (["train", "-", "--mark", "none"], "--mark is for bpe, not byte-bpe"),
        (["train", "-", "-a", "unigram", "--split", "gpt2"], "--split is for"),
        (["show", "--merges", "-m", "english-wordpiece-8k"], "no list of merges"),
        (["convert", "english-8k", "--to", "bert", "-o", "x"], "wordpiece"),
        (["convert", "none.model", "-o", "x"], "none.model"),
        (["evaluate", "none.txt"], "none.txt"),
    ],
)
def test_arguments_that_make_no_sense(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code = 1 if arguments[0] == "evaluate" else 2
    assert message in fails(*arguments, stdin="text\n", code=code)
    assert not list(tmp_path.iterdir())


def test_models_and_the_cards_of_the_bundled_ones() -> None:
    records = json.loads(run("tokenize", "models", "-f", "json").out)
    assert [record["name"] for record in records] == ["english-8k", "english-wordpiece-8k"]
    for record in records:
        tokenizer: Tokenizer = load(record["name"])
        assert len(tokenizer.names) == 8192
        assert {"data", "terms", "command", "seed", "score"} <= {*tokenizer.header.card}
