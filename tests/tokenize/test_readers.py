"""Files and folders of other tools: read, assumed and refused."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from dlkit.core.errors import DlkitError
from dlkit.tokenize import load
from dlkit.tokenize.alphabet import chars_to_bytes
from dlkit.tokenize.config import ReadOptions
from dlkit.tokenize.convert import convert, read
from dlkit.tokenize.model import ByteBPE, HuggingFace
from dlkit.tokenize.pretokenize import PATTERNS
from dlkit.tokenize.readers.files import read_paths
from tests.conftest import run
from tests.tokenize import families
from tests.tokenize.families import Json, strings
from tests.tokenize.helpers import error_line

library: Any = pytest.importorskip("tokenizers")


def write(path: Path, content: Json) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return path


def write_vocabulary(folder: Path, content: Json, **settings: Any) -> Path:
    """The vocab.json and merges.txt of a tokenizer.json, with a tokenizer_config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    model = content["model"]
    write(folder / "vocab.json", model["vocab"])
    lines = ["#version: 0.2", *(" ".join(merge) for merge in model["merges"])]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    if settings:
        write(folder / "tokenizer_config.json", settings)
    return folder


def test_a_tokenizer_json_works_without_convert(tmp_path: Path) -> None:
    path = write(tmp_path / "any.name", families.bert())
    result = run("tokenize", "-m", path, "--text", "The cat")
    assert result.code == 0, result.err
    assert result.out.startswith("[CLS] ")
    plain = run("tokenize", "-m", path, "--text", "The cat", "--no-special")
    assert plain.out.split() == result.out.split()[1:-1]


def test_a_part_that_only_the_library_knows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = families.bert()
    content["pre_tokenizer"] = {"type": "UnicodeScripts"}
    path = write(tmp_path / "t.json", content)
    ours, theirs = load(path), library.Tokenizer.from_str(json.dumps(content))
    assert "t.json: uses the tokenizers library: pre_tokenizer UnicodeScripts" in (
        capsys.readouterr().err
    )
    for text in strings(30):
        expected = theirs.encode(text)
        assert ours.add_special(ours.encode(text, parse_special=True)) == expected.ids
        assert ours.decode(expected.ids) == theirs.decode(expected.ids, skip_special_tokens=False)
    monkeypatch.setitem(__import__("sys").modules, "tokenizers", None)
    with pytest.raises(DlkitError, match=r"pre_tokenizer UnicodeScripts .* pip install"):
        load(path)


@pytest.mark.parametrize(
    ("part", "field"),
    [
        (("model", "new_rule"), "model BPE: new_rule"),
        (("pre_tokenizer", "new_rule"), "pre_tokenizer ByteLevel: new_rule"),
        (("added_tokens", 0, "new_rule"), "added_tokens: new_rule"),
        (("decoder", "new_rule"), "decoder ByteLevel: new_rule"),
        (("new_rule",), "the file: new_rule"),
    ],
)
def test_unknown_fields_are_named(
    part: tuple[Any, ...], field: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    content = families.gpt2()
    inner = content
    for name in part[:-1]:
        inner = inner[name]
    inner[part[-1]] = "x"
    monkeypatch.setitem(__import__("sys").modules, "tokenizers", None)
    with pytest.raises(DlkitError, match=field):
        load(write(tmp_path / "t.json", content))
    inner[part[-1]] = None
    load(write(tmp_path / "t.json", content))


def test_truncation_padding_and_dropout_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = library.Tokenizer.from_str(json.dumps(families.bert()))
    theirs.enable_truncation(5)
    theirs.enable_padding(length=8)
    path = write(tmp_path / "t.json", json.loads(theirs.to_str()))
    assert len(load(path).encode("a b c d e f g h i j k")) > 5
    message = capsys.readouterr().err
    assert "t.json: not applied: truncation to 5 tokens, padding to 8 tokens" in message


@pytest.mark.parametrize("split", ["gpt2", "gpt4", "o200k", "llama3", "qwen"])
def test_ranks_as_tiktoken_reads_them(split: str, tmp_path: Path) -> None:
    tiktoken = pytest.importorskip("tiktoken")
    trained = ByteBPE.from_json(load_trained(split))
    ranks = {chars_to_bytes(token): i for token, i in trained.vocab.items()}
    path = tmp_path / "ranks.tiktoken"
    lines = [f"{base64.b64encode(t).decode()} {i}\n" for t, i in ranks.items()]
    path.write_text("\n" + "\n".join(lines) + "\n", encoding="utf-8")  # with blank lines
    with pytest.raises(DlkitError, match="--split"):
        load(path)
    ours = read([str(path)], split)
    theirs = tiktoken.Encoding(
        "t", pat_str=PATTERNS[split], mergeable_ranks=ranks, special_tokens={}
    )
    for text in strings(200):
        assert ours.encode(text) == theirs.encode_ordinary(text), text
        assert ours.decode(ours.encode(text)) == text


def load_trained(split: str) -> str:
    from dlkit.tokenize import train

    return train(families.corpus(), vocab_size=500, split=split).to_json()


SWITCHES = [
    {"lowercase": lower, "strip_accents": accents, "handle_chinese_chars": chinese}
    for lower in (True, False)
    for accents in (True, False)
    for chinese in (True, False)
]


@pytest.mark.parametrize("switches", SWITCHES)
def test_vocab_txt_with_the_switches_of_its_folder(switches: Json, tmp_path: Path) -> None:
    content = families.bert(**switches)
    content["post_processor"] = None
    vocab = content["model"]["vocab"]
    (tmp_path / "vocab.txt").write_text("\n".join(vocab) + "\n", encoding="utf-8")
    names = {"lowercase": "do_lower_case", "handle_chinese_chars": "tokenize_chinese_chars"}
    config = {names.get(name, name): value for name, value in switches.items()}
    write(tmp_path / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer", **config})
    ours, theirs = load(tmp_path), library.Tokenizer.from_str(json.dumps(content))
    theirs.encode_special_tokens = True
    texts = strings(150)
    assert [ours.encode(text) for text in texts] == [theirs.encode(text).ids for text in texts]
    assert ours.encode_compiled(texts, "bert") == [theirs.encode(text).ids for text in texts]


def test_vocab_txt_by_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "vocab.txt"
    path.write_text("\ufeff[UNK]\r\nCOVID\r\nthe\r\ncat\r\n##s\r\ncafe\r\nthe\r\n", newline="")
    assert load(path).tokens("The cats, Café COVID") == [
        "the",
        "cat",
        "##s",
        "[UNK]",
        "cafe",
        "[UNK]",
    ]
    assert "taken for a lower-case vocabulary" in capsys.readouterr().err
    cased = read_paths([path], ReadOptions(normalize="clean,space-cjk"))
    assert cased.tokens("the COVID The") == ["the", "COVID", "[UNK]"]
    assert capsys.readouterr().err == ""
    assert load(path).vocab["the"] == 6  # the last of two lines


def test_a_folder_of_gpt2(tmp_path: Path) -> None:
    content = families.gpt2()
    config = {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": True, "pad_token": "[PAD]"}
    folder = write_vocabulary(tmp_path / "model", content, **config)
    write(folder / "added_tokens.json", {"<|user|>": 600, "[PAD]": 601})
    tokenizer = load(folder)
    assert tokenizer.special == {"<|endoftext|>": 0, "[PAD]": 601}
    assert [tokenizer.names[i] for i in tokenizer.encode("hello<|user|>")][-1] == "<|user|>"
    assert tokenizer.tokens("x") == ["Ġx"]
    write(folder / "tokenizer_config.json", {**config, "new_rule": 3})
    with pytest.raises(DlkitError, match="new_rule '3'"):
        load(folder)
    write(folder / "tokenizer_config.json", {"tokenizer_class": "OtherTokenizer"})
    with pytest.raises(DlkitError, match="OtherTokenizer is not known to dlkit; give --split"):
        load(folder)


def test_a_folder_of_roberta(tmp_path: Path) -> None:
    content = families.roberta()
    mask = {"content": "<mask>", "lstrip": True, "special": True}
    config = {"tokenizer_class": "RobertaTokenizerFast", "mask_token": mask}
    ours = load(write_vocabulary(tmp_path / "model", content, **config))
    theirs = library.Tokenizer.from_str(json.dumps(content))
    for text in strings(60):
        assert ours.add_special(ours.encode(text, parse_special=True)) == theirs.encode(text).ids


def test_settings_beside_a_tokenizer_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "tokenizer.json", families.bert())
    write(tmp_path / "tokenizer_config.json", {"do_lower_case": False, "new_rule": 1})
    tokenizer = load(tmp_path)
    assert isinstance(tokenizer, HuggingFace)
    assert tokenizer.file["normalizer"]["lowercase"] is False
    message = capsys.readouterr().err
    assert "do_lower_case False" in message
    assert "not used beside tokenizer.json: new_rule '1'" in message


def test_merges_that_look_like_comments(tmp_path: Path) -> None:
    content = families.gpt2()
    vocab = content["model"]["vocab"]
    pairs = [("#", "v"), ("#v", "e"), ("#ve", "r")]
    for left, right in pairs:
        vocab[left + right] = len(vocab)
    content["model"]["merges"][:0] = [list(pair) for pair in pairs]
    folder = write_vocabulary(tmp_path / "model", content)
    files = [str(folder / name) for name in ("vocab.json", "merges.txt")]
    assert read(files, "gpt4").tokens("#ver") == ["#ver"]


def test_a_conversion_that_differs_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "t.json", families.gpt2())
    convert([str(path)], tmp_path / "good.json", "dlkit")
    real = ByteBPE.encode
    monkeypatch.setattr(ByteBPE, "encode", lambda self, *a: real(self, *a)[:-1])
    with pytest.raises(DlkitError, match="nothing is written"):
        convert([str(path)], tmp_path / "bad.json", "dlkit")
    assert not (tmp_path / "bad.json").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "an empty file"),
        (b"\xff\xfev\x00", "UTF-16"),
        (b"[UNK]\ncaf\xe9\n", "byte 9 is not UTF-8"),
        (b'{"a": 0, "b": 1}', "a vocabulary without its merges.txt"),
        (b'{"model": {"vocab": 3}}', "not a tokenizer, or a damaged one"),
        (b'{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a"]}}', "merge 0 is not two"),
        (b'{"model": {"type": "BPE", "vocab": {}, "merges": ["a b"]}}', "'ab'"),
        (b"QQ== 0\nQg== x\n", "line 2 is not base64"),
        (b"QQ== 0\nQg== 0\n", "the same rank"),
    ],
)
def test_damaged_files(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_bytes(content)
    assert message in error_line("--text", "x", "-m", path)
