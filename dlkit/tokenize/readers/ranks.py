"""Ranks of tiktoken: a token in base64 and its rank in each line.

The file does not contain how text is cut. Known files have a known checksum of all their ranks:
OpenAI's are those in tiktoken itself, the others were published with the models.
"""

import base64
import hashlib
import re
from pathlib import Path

from dlkit.core.errors import DlkitError
from dlkit.core.progress import log
from dlkit.tokenize.alphabet import BYTE_TO_CHAR, bytes_to_chars
from dlkit.tokenize.config import ReadOptions
from dlkit.tokenize.model import Tokenizer, TokenizerSettings
from dlkit.tokenize.pretokenize import COVERING, PATTERNS
from dlkit.tokenize.readers.hugging_face import build_tokenizer

KNOWN = {
    "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930": "gpt2",  # r50k_base
    "94b5ca7dff4d00767bc256fdd1b27e5b17361d7b8a5f968547f9f23eb70d2069": "gpt2",  # p50k_base
    "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7": "gpt4",  # cl100k_base
    "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d": "o200k",  # o200k_base
    "82e9d31979e92ab929cd544440f129d9ecd797b69e327f80f17e1c50d5551b55": "llama3",
    "b2b1b8dfb5cc5f024bafc373121c6aba3f66f9a5a0269e243470a1de16a33186": "qwen",
    "b6c497a7469b33ced9c38afb1ad6e47f03f5e5dc05f15930799210ec050c5103": "kimi",
}
# Other files with as many ranks as a known one.
SIZES = {
    50256: "gpt2",
    50280: "gpt2",
    100256: "gpt4",
    128000: "llama3",
    151643: "qwen",
    163584: "kimi",
    199998: "o200k",
}
LINE = re.compile(rb"[A-Za-z0-9+/]+={0,2} \d+\s*$")


def is_ranks(data: bytes) -> bool:
    """Whether the first line that is not blank is a token in base64 and a rank."""
    start = data[:4096].removeprefix(b"\xef\xbb\xbf").lstrip()
    return LINE.match(start.split(b"\n")[0]) is not None


def read_ranks(text: str, path: Path, options: ReadOptions) -> Tokenizer:
    """The tokenizer of a file of ranks."""
    vocab: dict[str, int] = {}
    lines = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            token, rank = line.split()
            chars = bytes_to_chars(base64.b64decode(token, validate=True))
            known = vocab.setdefault(chars, int(rank))
        except ValueError as error:
            raise DlkitError(f"line {number} is not base64 and a rank", path) from error
        if known != int(rank):
            raise DlkitError(f"line {number} has a token that has the rank {known} already", path)
        lines.append((int(rank), f"{token} {rank}\n"))
    if len({rank for rank, _ in lines}) < len(lines):
        raise DlkitError("two tokens have the same rank", path)
    missing = [byte for byte, char in BYTE_TO_CHAR.items() if char not in vocab]
    if missing:
        raise DlkitError(f"no token for {len(missing)} bytes, as 0x{missing[0]:02X}", path)
    if options.normalize is not None:
        raise DlkitError("--normalize is for vocab.txt; ranks are of bytes as they are")
    split = options.split or known_split(lines, path)
    settings: TokenizerSettings = {"normalize": [], "split": split, "unk": None, "by_rank": True}
    if split not in COVERING:
        settings["gaps"] = True
    card = {"data": f"converted from {path.name}"}
    return build_tokenizer("byte-bpe", settings, vocab, {}, (), card)


def known_split(lines: list[tuple[int, str]], path: Path) -> str:
    """The split of these ranks. Raises DlkitError for ranks of no known tokenizer."""
    content = "".join(line for _, line in sorted(lines))
    split = KNOWN.get(hashlib.sha256(content.encode()).hexdigest())
    if split is not None:
        return split
    split = SIZES.get(len(lines))
    if split is None:
        raise DlkitError(
            f"{len(lines)} ranks of no tokenizer that dlkit knows, and the file has no split; "
            f"convert it with --split: {', '.join(PATTERNS)}, or a pattern",
            path,
        )
    log(
        f"{path}: taken for a tokenizer with the split {split}, by its {len(lines)} ranks "
        "(another: convert --split)"
    )
    return split
