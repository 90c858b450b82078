"""Reading and writing of other tools' tokenizer files.

A tokenizer is converted only if it gives the same ids there and here; otherwise the error names the
part that dlkit or the other tool lacks.
"""

import base64
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dlkit.core.errors import DlkitError, os_reason
from dlkit.core.io.files import whole_file
from dlkit.core.store.checkpoint import Header
from dlkit.tokenize.alphabet import INSIDE, WORD_END, WORD_START, bytes_to_chars, chars_to_bytes
from dlkit.tokenize.config import FileFormat
from dlkit.tokenize.infer import load
from dlkit.tokenize.model import (
    ALGORITHMS,
    BPE,
    ByteBPE,
    SentencePiece,
    Tokenizer,
    TokenizerSettings,
)
from dlkit.tokenize.pretokenize import PATTERNS, find_pattern
from dlkit.tokenize.wordpiece import LONGEST_WORD

Json = dict[str, Any]
# Hugging Face's regular expressions (Oniguruma) interpret {1,3}+ and $ differently.
ONIGURUMA = {
    "gpt4": r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s+\z|\s*[\r\n]|\s+(?!\S)|\s"
}


def convert(
    files: Sequence[str], out: Path, to: str, split: str | None = None, force: bool = False
) -> list[Path]:
    """Write the tokenizer in `files` to `out` in another format; returns the paths written."""
    tokenizer = read(files, split)
    targets = [out / "vocab.json", out / "merges.txt"] if to == FileFormat.gpt2 else [out]
    for target in targets:
        if target.is_dir():
            raise DlkitError("is a folder; give a file's name", target)
        if target.exists() and not force:
            raise DlkitError("exists already; give another --out, or --force", target)
    for target, content in zip(targets, WRITERS[to](tokenizer), strict=True):
        with whole_file(target) as partial:
            partial.write_bytes(content)
    return targets


# ---- reading -------------------------------------------------------------------------------------


def read(files: Sequence[str], split: str | None = None) -> Tokenizer:
    """Read the tokenizer in these files, whatever their format."""
    paths = [Path(file) for file in files]
    if len(paths) == 1 and paths[0].is_dir():
        paths = [paths[0] / "vocab.json", paths[0] / "merges.txt"]
    if len(paths) == 2:
        vocab, merges = sorted(paths, key=lambda path: path.suffix != ".json")
        return read_gpt2(vocab, merges, split)
    if len(paths) != 1:
        raise DlkitError("give one file, or vocab.json and merges.txt")
    path, suffix = paths[0], paths[0].suffix
    if suffix != ".json" and suffix not in READERS:
        return load(files[0])
    try:
        if suffix in READERS:
            return READERS[suffix](path, split)
        content = json.loads(read_text(path))
        if isinstance(content, dict) and "model" in content and "added_tokens" in content:
            return read_hugging_face(content)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DlkitError(f"not a tokenizer, or a damaged one ({error})", path) from error
    except DlkitError as error:
        raise error if error.path else DlkitError(error.reason, path) from error
    return load(files[0])


def read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise DlkitError(os_reason(error), path) from error
    except UnicodeDecodeError as error:
        raise DlkitError(f"byte {error.start} is not UTF-8", path) from error


def build_tokenizer(
    algorithm: str,
    settings: TokenizerSettings,
    vocab: dict[str, int],
    special: dict[str, int],
    merges: Any,
    source: str,
) -> Tokenizer:
    """The tokenizer with these tokens, `special` ones among `vocab` or not."""
    header = Header("tokenize", algorithm, settings, [], card={"data": f"converted from {source}"})
    plain = {token: i for token, i in vocab.items() if token not in special}
    tokenizer = ALGORITHMS[algorithm](header, plain, special, merges)
    if isinstance(tokenizer, BPE):
        _ = tokenizer.ranks  # an error now if the merges do not fit the vocabulary
    return tokenizer


def read_gpt2(vocab: Path, merges: Path, split: str | None) -> Tokenizer:
    try:
        tokens = json.loads(read_text(vocab))
        lines = read_text(merges).split("\n")
        pairs = [tuple(line.split(" ")) for line in lines if line and not line.startswith("#ver")]
        if not all(isinstance(i, int) for i in tokens.values()) or {len(p) for p in pairs} - {2}:
            raise ValueError("not a vocabulary with merges")
    except (ValueError, AttributeError) as error:
        raise DlkitError(str(error), f"{vocab}, {merges}") from error
    # Special tokens are those that are no byte and result from no merge.
    merged = {left + right for left, right in pairs}
    special = {t: i for t, i in tokens.items() if len(t) > 1 and t not in merged}
    settings: TokenizerSettings = {"normalize": [], "split": split or "gpt2", "unk": None}
    return build_tokenizer("byte-bpe", settings, tokens, special, pairs, vocab.name)


def read_bert(path: Path, split: str | None) -> Tokenizer:
    tokens = read_text(path).removesuffix("\n").split("\n")
    vocab = {token: i for i, token in enumerate(tokens)}
    special = {t: i for t, i in vocab.items() if t.startswith("[") and t.endswith("]") and t[1:-1]}
    if "[UNK]" not in special:
        raise DlkitError("not a vocabulary of BERT; it has no token [UNK]")
    # A vocabulary without capitals belongs to an uncased model.
    cased = any(token != token.lower() for token in vocab if token not in special)
    settings: TokenizerSettings = {"normalize": [] if cased else ["lower", "strip-accents"]}
    settings |= {"split": split or "bert", "unk": "[UNK]", "mark": "inside"}
    return build_tokenizer("wordpiece", settings, vocab, special, (), path.name)


def read_tiktoken(path: Path, split: str | None) -> Tokenizer:
    vocab = {}
    for number, line in enumerate(read_text(path).splitlines(), 1):
        try:
            token, rank = line.split()
            vocab[bytes_to_chars(base64.b64decode(token, validate=True))] = int(rank)
        except ValueError as error:
            raise DlkitError(f"line {number} is not base64 and a rank") from error
    if len({*vocab} & {*map(chr, range(33, 127))}) < 94:
        raise DlkitError("not a .tiktoken file; it has no token for some bytes")
    known = "gpt4" if len(vocab) > 60_000 else "gpt2"
    settings: TokenizerSettings = {
        "normalize": [],
        "split": split or known,
        "unk": None,
        "by_rank": True,
    }
    return build_tokenizer("byte-bpe", settings, vocab, {}, (), path.name)


def read_sentencepiece(path: Path, split: str | None) -> Tokenizer:
    try:
        model = path.read_bytes()
    except OSError as error:
        raise DlkitError(os_reason(error), path) from error
    settings: TokenizerSettings = {"normalize": [], "split": "none"}
    card = {"data": f"converted from {path.name}"}
    # The library encodes with both kinds; the model itself records its kind.
    header = Header("tokenize", "unigram", settings, [], card=card)
    return SentencePiece(header, base64.b64encode(model).decode())


READERS: dict[str, Callable[[Path, str | None], Tokenizer]] = {
    ".txt": read_bert,
    ".tiktoken": read_tiktoken,
    ".model": read_sentencepiece,
}
NORMALIZERS = {"NFC": "nfc", "NFKC": "nfkc", "Lowercase": "lower", "StripAccents": "strip-accents"}


def convert_normalizer(normalizer: Json | None) -> list[str]:
    """Our normalization steps for Hugging Face's normalizer."""
    if normalizer is None:
        return []
    kind = normalizer["type"]
    if kind == "Sequence":
        parts = normalizer["normalizers"]
        # Our strip-accents includes NFD.
        return [
            step
            for part, after in zip(parts, [*parts[1:], {"type": ""}], strict=True)
            if (part["type"], after["type"]) != ("NFD", "StripAccents")
            for step in convert_normalizer(part)
        ]
    if kind not in NORMALIZERS:
        raise DlkitError(f"the normalizer {kind} has no equivalent in dlkit")
    return [NORMALIZERS[kind]]


def read_hugging_face(content: Json) -> Tokenizer:
    model = content["model"]
    kind = model.get("type")
    special = {token["content"]: token["id"] for token in content["added_tokens"]}
    settings: TokenizerSettings = {
        "normalize": convert_normalizer(content.get("normalizer")),
        "unk": model.get("unk_token"),
    }
    if settings["unk"] is not None:
        special.setdefault(settings["unk"], model["vocab"][settings["unk"]])
    before = list_pre_tokenizers(content.get("pre_tokenizer"))
    names = [part["type"] for part in before]
    merges = [tuple(m.split(" ") if isinstance(m, str) else m) for m in model.get("merges", ())]
    for option in ("byte_fallback", "fuse_unk"):
        if model.get(option):
            raise DlkitError(f"the model's {option} has no equivalent in dlkit")
    if kind == "BPE" and names and names[-1] == "ByteLevel":
        level = before[-1]
        if level["add_prefix_space"]:
            raise DlkitError("ByteLevel's add_prefix_space has no equivalent in dlkit")
        settings["split"] = convert_split(before[:-1]) if len(before) > 1 else "gpt2"
        if len(before) == 1 and not level["use_regex"]:
            settings["split"] = "none"
        settings["unk"] = None
        if model.get("ignore_merges"):
            raise DlkitError("the model's ignore_merges has no equivalent in dlkit")
        algorithm = "byte-bpe"
    elif kind == "BPE":
        suffix = model.get("end_of_word_suffix") or ""
        if model.get("continuing_subword_prefix") or suffix not in {"", WORD_END}:
            raise DlkitError("the model's marks are not </w>, ▁ or none")
        settings["mark"] = "end-of-word" if suffix else "none"
        if names and names[-1] == "Metaspace":
            always = before[-1]["prepend_scheme"] == "always"
            if names != ["WhitespaceSplit", "Metaspace"] or not always:
                raise DlkitError("Metaspace has an equivalent in dlkit only after WhitespaceSplit")
            settings["mark"] = "word-start"
            before = before[:1]
        settings["split"] = convert_split(before)
        algorithm = "bpe"
    elif kind == "WordPiece":
        if model.get("continuing_subword_prefix", INSIDE) != INSIDE:
            raise DlkitError("the model's prefix is not ##")
        if model.get("max_input_chars_per_word", LONGEST_WORD) != LONGEST_WORD:
            raise DlkitError(f"the model's longest word is not {LONGEST_WORD} characters")
        settings |= {"split": convert_split(before), "mark": "inside"}
        algorithm = "wordpiece"
    elif kind == "WordLevel":
        settings["split"] = convert_split(before)
        algorithm = "whitespace"
    else:
        raise DlkitError(f"a {kind} model of Hugging Face has no equivalent in dlkit")
    return build_tokenizer(algorithm, settings, model["vocab"], special, merges, "Hugging Face")


def list_pre_tokenizers(part: Json | None) -> list[Json]:
    """The pre-tokenizers of a sequence, or the only one."""
    if part is None:
        return []
    parts: list[Json] = part["pretokenizers"] if part["type"] == "Sequence" else [part]
    return parts


def convert_split(parts: list[Json]) -> str:
    """Our name, or the pattern, of Hugging Face's pre-tokenizers."""
    kinds = [part["type"] for part in parts]
    if not kinds:
        return "none"
    if kinds == ["WhitespaceSplit"]:
        return "whitespace"
    if kinds == ["BertPreTokenizer"]:
        return "bert"
    if kinds == ["Whitespace"]:
        return r"\w+|[^\w\s]+"
    if kinds == ["Split"] and "Regex" in parts[0]["pattern"]:
        pattern: str = parts[0]["pattern"]["Regex"]
        # Both keep the matches of the pattern as pre-tokens.
        if (parts[0]["behavior"], parts[0]["invert"]) in {("Isolated", False), ("Removed", True)}:
            names = {value: name for name, value in [*PATTERNS.items(), *ONIGURUMA.items()]}
            return names.get(pattern, pattern)
    raise DlkitError(f"the pre-tokenizer {' + '.join(kinds)} has no equivalent in dlkit")


# ---- writing -------------------------------------------------------------------------------------


def write_dlkit(tokenizer: Tokenizer) -> list[bytes]:
    return [tokenizer.to_json().encode()]


def write_gpt2(tokenizer: Tokenizer) -> list[bytes]:
    check_byte_bpe(tokenizer, "gpt2")
    vocab = json.dumps(all_tokens(tokenizer), ensure_ascii=False)
    merges = "".join(f"{left} {right}\n" for left, right in tokenizer.merges)
    return [vocab.encode(), f"#version: 0.2\n{merges}".encode()]


def write_bert(tokenizer: Tokenizer) -> list[bytes]:
    if tokenizer.algorithm != "wordpiece":
        raise DlkitError(
            f"a vocabulary of BERT is wordpiece, and this tokenizer is {tokenizer.algorithm}"
        )
    names = tokenizer.names
    if sorted(names) != list(range(len(names))):
        raise DlkitError("vocab.txt needs ids without gaps")
    return ["".join(f"{names[i]}\n" for i in range(len(names))).encode()]


def write_tiktoken(tokenizer: Tokenizer) -> list[bytes]:
    """Tokens with their ids as ranks, without special tokens."""
    check_byte_bpe(tokenizer, "tiktoken", by_rank=True)
    lines = [
        f"{base64.b64encode(chars_to_bytes(token)).decode()} {i}\n"
        for token, i in sorted(tokenizer.vocab.items(), key=lambda item: item[1])
    ]
    return ["".join(lines).encode()]


def write_sentencepiece(tokenizer: Tokenizer) -> list[bytes]:
    if not isinstance(tokenizer, SentencePiece):
        raise DlkitError(
            f"a sentencepiece model is unigram or sentencepiece-bpe, and this tokenizer is "
            f"{tokenizer.algorithm}"
        )
    return [base64.b64decode(tokenizer.model)]


def check_byte_bpe(tokenizer: Tokenizer, to: str, by_rank: bool = False) -> None:
    """Raise DlkitError unless the format `to` can hold this tokenizer."""
    if not isinstance(tokenizer, ByteBPE):
        raise DlkitError(f"a {to} file holds byte-bpe, and this tokenizer is {tokenizer.algorithm}")
    if tokenizer.normalization:
        raise DlkitError(f"a {to} file cannot hold normalization")
    if not by_rank:
        check_merges(tokenizer, to)


def check_merges(tokenizer: Tokenizer, to: str) -> None:
    """Raise DlkitError if there is no list of merges for the format `to`."""
    if tokenizer.settings.get("by_rank"):
        raise DlkitError(f"this tokenizer came from a .tiktoken file, which has no merges for {to}")


def write_hugging_face(tokenizer: Tokenizer) -> list[bytes]:
    kinds: dict[str, Callable[[Tokenizer], Json]] = {
        "byte-bpe": hugging_face_bytes,
        "byte": hugging_face_bytes,
        "bpe": hugging_face_bpe,
        "wordpiece": hugging_face_wordpiece,
        "whitespace": hugging_face_words,
        "words": hugging_face_words,
    }
    if tokenizer.algorithm not in kinds:
        raise DlkitError(f"{tokenizer.algorithm} cannot be written for Hugging Face")
    normalizers = []
    for step in tokenizer.normalization:
        if step == "strip-accents":
            normalizers.append({"type": "NFD"})
        normalizers += [{"type": k} for k, v in NORMALIZERS.items() if v == step]
    content = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": i,
                "content": token,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for token, i in sorted(tokenizer.special.items(), key=lambda item: item[1])
        ],
        "normalizer": {"type": "Sequence", "normalizers": normalizers} if normalizers else None,
        "post_processor": None,
        **kinds[tokenizer.algorithm](tokenizer),
    }
    return [json.dumps(content, ensure_ascii=False).encode()]


def all_tokens(tokenizer: Tokenizer) -> dict[str, int]:
    return {**tokenizer.special, **tokenizer.vocab}


def hugging_face_split(tokenizer: Tokenizer) -> list[Json]:
    if tokenizer.split == "none":
        return []
    if tokenizer.split == "whitespace":
        return [{"type": "WhitespaceSplit"}]
    if tokenizer.split == "bert":
        return [{"type": "BertPreTokenizer"}]
    pattern = {"Regex": ONIGURUMA.get(tokenizer.split, find_pattern(tokenizer.split))}
    return [{"type": "Split", "pattern": pattern, "behavior": "Removed", "invert": True}]


def sequence(parts: list[Json]) -> Json | None:
    if len(parts) < 2:
        return parts[0] if parts else None
    return {"type": "Sequence", "pretokenizers": parts}


def hugging_face_bpe_model(tokenizer: Tokenizer, suffix: str | None) -> Json:
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": tokenizer.unknown,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": suffix,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": all_tokens(tokenizer),
        "merges": [list(merge) for merge in tokenizer.merges],
    }


def hugging_face_bytes(tokenizer: Tokenizer) -> Json:
    check_merges(tokenizer, "huggingface")
    level = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": tokenizer.split == "gpt2",
    }
    split = [] if tokenizer.split == "gpt2" else hugging_face_split(tokenizer)
    return {
        "pre_tokenizer": sequence([*split, level]),
        "decoder": {**level, "use_regex": True},
        "model": hugging_face_bpe_model(tokenizer, None),
    }


def hugging_face_bpe(tokenizer: Tokenizer) -> Json:
    mark = tokenizer.settings["mark"]
    split = hugging_face_split(tokenizer)
    decoder: Json | None = {"type": "Fuse"}
    if mark == "end-of-word":
        decoder = {"type": "BPEDecoder", "suffix": WORD_END}
    elif mark == "word-start":
        if tokenizer.split != "whitespace":
            raise DlkitError("word-start marks are written for Hugging Face with split whitespace")
        decoder = {
            "type": "Metaspace",
            "replacement": WORD_START,
            "prepend_scheme": "always",
            "split": True,
        }
        split = [*split, decoder]
    return {
        "pre_tokenizer": sequence(split),
        "decoder": decoder,
        "model": hugging_face_bpe_model(tokenizer, WORD_END if mark == "end-of-word" else None),
    }


def hugging_face_wordpiece(tokenizer: Tokenizer) -> Json:
    return {
        "pre_tokenizer": sequence(hugging_face_split(tokenizer)),
        "decoder": {"type": "WordPiece", "prefix": INSIDE, "cleanup": False},
        "model": {
            "type": "WordPiece",
            "unk_token": tokenizer.unknown,
            "continuing_subword_prefix": INSIDE,
            "max_input_chars_per_word": LONGEST_WORD,
            "vocab": all_tokens(tokenizer),
        },
    }


def hugging_face_words(tokenizer: Tokenizer) -> Json:
    return {
        "pre_tokenizer": sequence(hugging_face_split(tokenizer)),
        "decoder": None,
        "model": {
            "type": "WordLevel",
            "vocab": all_tokens(tokenizer),
            "unk_token": tokenizer.unknown,
        },
    }


WRITERS: dict[str, Callable[[Tokenizer], list[bytes]]] = {
    FileFormat.dlkit: write_dlkit,
    FileFormat.huggingface: write_hugging_face,
    FileFormat.gpt2: write_gpt2,
    FileFormat.bert: write_bert,
    FileFormat.tiktoken: write_tiktoken,
    FileFormat.sentencepiece: write_sentencepiece,
}
