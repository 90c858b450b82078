"""The decoders of a tokenizer.json: from the tokens of the ids to the text."""

import re
from collections.abc import Callable

from dlkit.tokenize.alphabet import CHAR_TO_BYTE
from dlkit.tokenize.pipeline.fields import (
    METASPACE_FIELDS,
    Json,
    NotUnderstood,
    parts_of,
    read_fields,
)
from dlkit.tokenize.pipeline.normalizers import read_pattern

Decoder = Callable[[list[str]], list[str]]
CLEANUPS = {
    " .": ".",
    " ?": "?",
    " !": "!",
    " ,": ",",
    " ' ": "'",
    " n't": "n't",
    " 'm": "'m",
    " do not": " don't",
    " 's": "'s",
    " 've": "'ve",
    " 're": "'re",
}


def read_decoders(part: Json | None) -> list[Decoder] | None:
    """The decoders in their order; None where the file has none: tokens between spaces."""
    if part is None:
        return None
    found = []
    for one in parts_of(part, "decoders"):
        kind = one["type"]
        if kind not in DECODERS:
            raise NotUnderstood(f"decoder {kind}")
        found.append(DECODERS[kind](one, f"decoder {kind}"))
    return found


def decode(decoders: list[Decoder] | None, tokens: list[str]) -> str:
    if decoders is None:
        return " ".join(tokens)
    for decoder in decoders:
        tokens = decoder(tokens)
    return "".join(tokens)


def token_bytes(token: str) -> bytes:
    """The bytes of a token in GPT-2's alphabet; of the text itself, if it is not in it."""
    try:
        return bytes(CHAR_TO_BYTE[char] for char in token)
    except KeyError:
        return token.encode("utf-8", "surrogateescape")


def read_byte_level(part: Json, where: str) -> Decoder:
    read_fields(part, where, add_prefix_space=True, trim_offsets=True, use_regex=True)
    return lambda tokens: [b"".join(map(token_bytes, tokens)).decode("utf-8", "replace")]


def read_wordpiece(part: Json, where: str) -> Decoder:
    fields = read_fields(part, where, prefix="##", cleanup=True)
    prefix = fields["prefix"]

    def join(tokens: list[str]) -> list[str]:
        texts = []
        for number, token in enumerate(tokens):
            if number:
                token = token[len(prefix) :] if token.startswith(prefix) else f" {token}"
            if fields["cleanup"]:
                for old, new in CLEANUPS.items():
                    token = token.replace(old, new)
            texts.append(token)
        return texts

    return join


def read_metaspace(part: Json, where: str) -> Decoder:
    fields = read_fields(part, where, **METASPACE_FIELDS)
    scheme = "never" if fields["add_prefix_space"] is False else fields["prepend_scheme"]

    def join(tokens: list[str]) -> list[str]:
        texts = [token.replace(fields["replacement"], " ") for token in tokens]
        if texts and scheme != "never":
            texts[0] = tokens[0].replace(fields["replacement"], "")
        return texts

    return join


def read_bpe(part: Json, where: str) -> Decoder:
    suffix = read_fields(part, where, suffix="</w>")["suffix"]
    return lambda tokens: [
        token.replace(suffix, "" if left == 0 else " ")
        for left, token in zip(range(len(tokens) - 1, -1, -1), tokens, strict=True)
    ]


def read_byte_fallback(part: Json, where: str) -> Decoder:
    read_fields(part, where)

    def join(tokens: list[str]) -> list[str]:
        texts: list[str] = []
        waiting = bytearray()

        def flush() -> None:
            if waiting:
                try:
                    texts.append(waiting.decode())
                except UnicodeDecodeError:
                    texts.extend("\ufffd" * len(waiting))
                waiting.clear()

        for token in tokens:
            if re.fullmatch(r"<0x[0-9a-fA-F]{2}>", token):
                waiting.append(int(token[3:5], 16))
            else:
                flush()
                texts.append(token)
        flush()
        return texts

    return join


def read_fuse(part: Json, where: str) -> Decoder:
    read_fields(part, where)
    return lambda tokens: ["".join(tokens)]


def read_strip(part: Json, where: str) -> Decoder:
    fields = read_fields(part, where, content=" ", start=0, stop=0)
    char, first, last = fields["content"], fields["start"], fields["stop"]

    def strip(token: str) -> str:
        start, end = 0, len(token)
        while start < min(first, len(token)) and token[start] == char:
            start += 1
        while len(token) - end < last and end > start and token[end - 1] == char:
            end -= 1
        return token[start:end]

    return lambda tokens: [strip(token) for token in tokens]


def read_replace(part: Json, where: str) -> Decoder:
    fields = read_fields(part, where, pattern=None, content="")
    pattern, content = read_pattern(fields["pattern"], where), fields["content"]

    def replace(token: str) -> str:
        parts, last = [], 0
        for start, end in pattern.matches(token):
            parts += [token[last:start], content]
            last = end
        return "".join(parts) + token[last:]

    return lambda tokens: [replace(token) for token in tokens]


DECODERS: dict[str, Callable[[Json, str], Decoder]] = {
    "ByteLevel": read_byte_level,
    "WordPiece": read_wordpiece,
    "Metaspace": read_metaspace,
    "BPEDecoder": read_bpe,
    "ByteFallback": read_byte_fallback,
    "Fuse": read_fuse,
    "Strip": read_strip,
    "Replace": read_replace,
}
