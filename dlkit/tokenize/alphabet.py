"""The symbols that tokens are made of: GPT-2's characters for bytes, and marks in words."""

from dlkit.core.errors import DlkitError

WORD_END, WORD_START, INSIDE = "</w>", "▁", "##"


def byte_alphabet() -> dict[int, str]:
    """GPT-2's printable character for each byte, so that tokens of bytes can be read and stored."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = {byte: chr(byte) for byte in printable}
    return alphabet | {byte: chr(256 + i) for i, byte in enumerate(others)}


BYTE_TO_CHAR = byte_alphabet()
CHAR_TO_BYTE = {char: byte for byte, char in BYTE_TO_CHAR.items()}
LATIN_1_TO_CHAR = str.maketrans({chr(byte): char for byte, char in BYTE_TO_CHAR.items()})


def bytes_to_chars(data: bytes) -> str:
    """Write bytes in GPT-2's alphabet."""
    return data.decode("latin-1").translate(LATIN_1_TO_CHAR)


def chars_to_bytes(token: str) -> bytes:
    """The bytes of a token in GPT-2's alphabet."""
    try:
        return bytes(CHAR_TO_BYTE[char] for char in token)
    except KeyError as error:
        raise DlkitError(f"token {token!r} is not written in GPT-2's byte alphabet") from error


def mark_symbols(word: str, mark: str) -> list[str]:
    """Split a word into characters with a mark at its end, at its start, or inside it."""
    if mark == "end-of-word":
        return [*word[:-1], word[-1] + WORD_END]
    if mark == "word-start":
        return [WORD_START, *word]
    if mark == "inside":
        return [word[0], *(INSIDE + char for char in word[1:])]
    return list(word)
