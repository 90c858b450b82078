"""Reading and writing of other tools' tokenizer files.

A tokenizer is converted only if it gives the same ids there and here; otherwise the error names the
part that dlkit or the other tool lacks.
"""

import base64
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dlkit.core.errors import DlkitError
from dlkit.core.io.files import exists, is_dir, whole_file
from dlkit.core.store.hub import PREFIX, fetch_tokenizer
from dlkit.tokenize.alphabet import INSIDE, WORD_END, WORD_START, chars_to_bytes
from dlkit.tokenize.config import FileFormat, ReadOptions
from dlkit.tokenize.infer import load
from dlkit.tokenize.model import ByteBPE, HuggingFace, SentencePiece, Tokenizer
from dlkit.tokenize.pipeline.fields import NotUnderstood
from dlkit.tokenize.pipeline.oniguruma import translate
from dlkit.tokenize.pretokenize import ONIGURUMA, find_pattern
from dlkit.tokenize.proof import prove
from dlkit.tokenize.readers.files import read_paths
from dlkit.tokenize.wordpiece import LONGEST_WORD

Json = dict[str, Any]


def convert(
    files: Sequence[str],
    out: Path,
    to: str,
    split: str | None = None,
    force: bool = False,
    normalize: str | None = None,
) -> list[Path]:
    """Write the tokenizer in `files` to `out` in another format; returns the paths written."""
    tokenizer = read(files, split, normalize)
    targets = [out / "vocab.json", out / "merges.txt"] if to == FileFormat.gpt2 else [out]
    for target in targets:
        if is_dir(target):
            raise DlkitError("is a folder; give a file's name", target)
        if exists(target) and not force:
            raise DlkitError("exists already; give another --out, or --force", target)
    contents = WRITERS[to](tokenizer)
    prove(tokenizer, files, to, contents)
    for target, content in zip(targets, contents, strict=True):
        with whole_file(target) as partial:
            partial.write_bytes(content)
    return targets


# ---- reading -------------------------------------------------------------------------------------


def read(files: Sequence[str], split: str | None = None, normalize: str | None = None) -> Tokenizer:
    """Read the tokenizer in these files: dlkit's, Hugging Face's, tiktoken's or sentencepiece's.

    It may be `hf:OWNER/NAME` of Hugging Face's hub, or a folder with such files.
    `split` and `normalize`: how text is cut and normalized, where the files do not contain it.

    >>> from dlkit.tokenize import read
    >>> read(["vocab.txt"]).tokens("Tokenizers read texts")  # of BERT
    ['token', '##izers', 'read', 'texts']
    """
    if len(files) == 1 and split is None and normalize is None:
        return load(files[0])
    paths = [fetch_tokenizer(file) if file.startswith(PREFIX) else Path(file) for file in files]
    return read_paths(paths, ReadOptions(split, normalize))


# ---- writing -------------------------------------------------------------------------------------


def write_dlkit(tokenizer: Tokenizer) -> list[bytes]:
    return [tokenizer.to_json().encode()]


def write_gpt2(tokenizer: Tokenizer) -> list[bytes]:
    check_byte_bpe(tokenizer, "gpt2")
    refuse_added(tokenizer, "vocab.json and merges.txt")
    vocab = json.dumps(all_tokens(tokenizer), ensure_ascii=False)
    merges = "".join(f"{left} {right}\n" for left, right in tokenizer.merges)
    return [vocab.encode(), f"#version: 0.2\n{merges}".encode()]


def write_bert(tokenizer: Tokenizer) -> list[bytes]:
    if tokenizer.algorithm != "wordpiece":
        raise DlkitError(
            f"a vocabulary of BERT is wordpiece, and this tokenizer is {tokenizer.algorithm}"
        )
    refuse_added(tokenizer, "vocab.txt")
    names = tokenizer.names
    if sorted(names) != list(range(len(names))):
        raise DlkitError("vocab.txt needs ids without gaps")
    return ["".join(f"{names[i]}\n" for i in range(len(names))).encode()]


def write_tiktoken(tokenizer: Tokenizer) -> list[bytes]:
    """Tokens with their ids as ranks, without special tokens."""
    check_byte_bpe(tokenizer, "tiktoken", by_rank=True)
    refuse_added(tokenizer, "a file of ranks")
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


def refuse_added(tokenizer: Tokenizer, kind: str) -> None:
    """Raise DlkitError for a tokenizer with added tokens."""
    if tokenizer.added:
        raise DlkitError(f"{kind} cannot hold added tokens, as {next(iter(tokenizer.added))!r}")


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
    if isinstance(tokenizer, HuggingFace):
        return [json.dumps(tokenizer.file, ensure_ascii=False).encode()]
    if tokenizer.algorithm not in kinds:
        raise DlkitError(f"{tokenizer.algorithm} cannot be written for Hugging Face")
    normalizers = hugging_face_normalizers(tokenizer.normalization)
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
                "special": token in tokenizer.special,
            }
            for token, i in sorted(
                {**tokenizer.special, **tokenizer.added}.items(), key=lambda item: item[1]
            )
        ],
        "normalizer": {"type": "Sequence", "normalizers": normalizers} if normalizers else None,
        "post_processor": None,
        **kinds[tokenizer.algorithm](tokenizer),
    }
    return [json.dumps(content, ensure_ascii=False).encode()]


def hugging_face_normalizers(steps: Sequence[str]) -> list[Json]:
    """Hugging Face's normalizers for our steps; BERT's steps are switches of one."""
    bert = {"clean": "clean_text", "space-cjk": "handle_chinese_chars"}
    bert |= {"strip-nonspacing": "strip_accents"}
    names = {"nfc": "NFC", "nfkc": "NFKC", "lower": "Lowercase", "strip-accents": "StripAccents"}
    found: list[Json] = []
    for step in steps:
        if step in bert:
            switches = dict.fromkeys([*bert.values(), "lowercase"], False)
            found.append({"type": "BertNormalizer", **switches, bert[step]: True})
            continue
        if step == "strip-accents":
            found.append({"type": "NFD"})
        found.append({"type": names[step]})
    return found


def all_tokens(tokenizer: Tokenizer) -> dict[str, int]:
    return {**tokenizer.special, **tokenizer.added, **tokenizer.vocab}


def hugging_face_split(tokenizer: Tokenizer) -> list[Json]:
    if tokenizer.split == "none":
        return []
    if tokenizer.split == "whitespace":
        return [{"type": "WhitespaceSplit"}]
    if tokenizer.split == "bert":
        return [{"type": "BertPreTokenizer"}]
    pattern = ONIGURUMA.get(tokenizer.split, find_pattern(tokenizer.split))
    try:
        translate(pattern)
    except NotUnderstood as error:
        raise DlkitError(f"--split: Hugging Face's library reads {error} differently") from error
    way = ("Isolated", False) if tokenizer.gaps else ("Removed", True)
    return [{"type": "Split", "pattern": {"Regex": pattern}, "behavior": way[0], "invert": way[1]}]


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
    if tokenizer.added and mark != "none":
        raise DlkitError(
            "Hugging Face's library prints no space beside an added token where others have marks "
            f"of words, as {next(iter(tokenizer.added))!r}"
        )
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
