"""The pieces of a sentencepiece model's file: adding some, and keeping some of them.

The file is a ModelProto of sentencepiece_model.proto: its field 1 is a piece (1: text, 2: score as
float, 3: type), its field 2 the TrainerSpec (3: the kind of the model).
"""

import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from dlkit.core.errors import DlkitError

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)  # types of pieces
UNIGRAM, BPE = 1, 2  # kinds of models
PIECE, TRAINER = 1, 2  # fields of the file
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # kinds of fields


@dataclass(frozen=True)
class Piece:
    """A piece of the vocabulary; its place in the file is its id."""

    text: str
    score: float
    type: int


def fields(data: bytes) -> Iterator[tuple[int, bytes | int, bytes]]:
    """The fields of a message: number, value, and the bytes of the whole field."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    try:
        while at < len(data):
            start = at
            key = varint()
            value: bytes | int
            if key & 7 == VARINT:
                value = varint()
            else:
                size = {FIXED64: 8, FIXED32: 4}.get(key & 7)
                size = varint() if size is None and key & 7 == BYTES else size
                if size is None or at + size > len(data):
                    raise IndexError
                value, at = data[at : at + size], at + size
            yield key >> 3, value, data[start:at]
    except IndexError:
        raise DlkitError("not a sentencepiece model, or a damaged one") from None


def pieces(model: bytes) -> list[Piece]:
    """All pieces, in the order of their ids."""
    found = []
    for number, value, _ in fields(model):
        if number == PIECE and isinstance(value, bytes):
            parts = {name: content for name, content, _ in fields(value)}
            text, score, kind = parts.get(1, b""), parts.get(2, b"\0" * 4), parts.get(3, NORMAL)
            if not (isinstance(text, bytes) and isinstance(score, bytes) and isinstance(kind, int)):
                raise DlkitError("not a sentencepiece model, or a damaged one")
            found.append(Piece(text.decode(), struct.unpack("<f", score)[0], kind))
    return found


def model_kind(model: bytes) -> int:
    """UNIGRAM, BPE, or the number of another kind."""
    kind = UNIGRAM
    for number, value, _ in fields(model):
        if number == TRAINER and isinstance(value, bytes):
            kind = next((v for n, v, _ in fields(value) if n == 3 and isinstance(v, int)), kind)
    return kind


def add_pieces(model: bytes, added: Collection[Piece]) -> bytes:
    """The model with more pieces, whose ids follow those of the others."""
    for piece in added:
        text = piece.text.encode()
        content = field(1, text) + b"\x15" + struct.pack("<f", piece.score)
        model += field(PIECE, content + b"\x18" + bytes([piece.type]))
    return model


def field(number: int, content: bytes) -> bytes:
    """A field of bytes."""
    size, length = len(content), b""
    while size > 127:
        length += bytes([size & 127 | 128])
        size >>= 7
    return bytes([number << 3 | BYTES]) + length + bytes([size]) + content


def keep_pieces(model: bytes, kept: Collection[int]) -> bytes:
    """The model with the pieces of these ids alone."""
    parts, i = [], -1
    for number, _, whole in fields(model):
        i += number == PIECE
        if number != PIECE or i in kept:
            parts.append(whole)
    return b"".join(parts)
