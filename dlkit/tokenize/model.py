"""Tokenizers: text to ids and back. One class for each way to treat a pre-token.

A tokenizer is a JSON file: `header` (what it is, how it was trained), `special`, `vocab`, `merges`
where there are any, and the `sha256` of all this. Loads no numpy: compiled code comes in when there
is much to do.
"""

import base64
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from itertools import pairwise
from typing import Any

from dlkit.core.errors import DlkitError
from dlkit.core.store.checkpoint import Header
from dlkit.tokenize import bpe, pretokenize
from dlkit.tokenize.normalize import aligned, normalize
from dlkit.tokenize.sealed_json import seal_json, unseal_json
from dlkit.tokenize.wordpiece import longest_match

UNKNOWN = ("<unk>", "[UNK]")  # the special tokens that stand for what is not in the vocabulary
CACHED_PIECES = 1 << 17
MANY = 1 << 18  # characters from which the compiled encoder is worth its start
WORD_END, WORD_START, INSIDE = "</w>", "▁", "##"
Span = tuple[int, int]


def byte_alphabet() -> dict[int, str]:
    """GPT-2's printable character for each byte, so that tokens of bytes can be read and stored."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = {byte: chr(byte) for byte in printable}
    return alphabet | {byte: chr(256 + i) for i, byte in enumerate(others)}


BYTE_TO_CHAR = byte_alphabet()
CHAR_TO_BYTE = {char: byte for byte, char in BYTE_TO_CHAR.items()}
TO_CHARS = str.maketrans({chr(byte): char for byte, char in BYTE_TO_CHAR.items()})


def as_chars(data: bytes) -> str:
    """Bytes in GPT-2's alphabet."""
    return data.decode("latin-1").translate(TO_CHARS)


def as_bytes(token: str) -> bytes:
    try:
        return bytes(CHAR_TO_BYTE[char] for char in token)
    except KeyError as error:
        raise DlkitError(f"token {token!r} is not written in GPT-2's byte alphabet") from error


class Tokenizer:
    """What all tokenizers share; the subclasses say what becomes of one pre-token."""

    def __init__(
        self,
        header: Header,
        vocab: Mapping[str, int],
        special: Mapping[str, int],
        merges: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.header = header
        self.vocab = {**vocab}
        self.special = {**special}
        self.merges = [tuple(merge) for merge in merges]
        self.normalization: list[str] = header.settings.get("normalize", [])
        self.split: str = header.settings.get("split", "none")
        self.unknown = header.settings.get("unk")
        self.cut = pretokenize.splitter(self.split)
        self.cached: dict[str, tuple[int, ...]] = {}

    # What a subclass defines.

    def piece_ids(self, piece: str, dropout: float = 0.0) -> list[int]:
        raise NotImplementedError

    def piece_spans(self, piece: str, ids: Sequence[int]) -> list[Span]:
        """For each token of a pre-token, the characters it stands for."""
        raise NotImplementedError

    def join(self, tokens: Iterable[str]) -> str:
        raise NotImplementedError

    # What users call.

    @property
    def algorithm(self) -> str:
        return self.header.arch

    def encode(
        self, text: str | bytes, parse_special: bool = False, dropout: float = 0.0
    ) -> list[int]:
        """The ids of a text. `bytes` need not be UTF-8 where tokens are bytes.

        Special tokens written in the text are plain text unless `parse_special`.
        """
        if isinstance(text, bytes):
            text = text.decode("utf-8", "surrogateescape")
        if len(text) >= MANY and not parse_special and not dropout:
            compiled = self.encode_compiled([text], self.split)
            if compiled is not None:
                return compiled[0]
        ids: list[int] = []
        for part, special in self.parts(text, parse_special):
            if special is not None:
                ids.append(special)
            else:
                ids += self.encode_plain(normalize(part, self.normalization), dropout)
        return ids

    def encode_plain(self, text: str, dropout: float) -> list[int]:
        ids: list[int] = []
        cached = self.cached
        for piece in self.cut(text):
            known = cached.get(piece)
            if known is None:
                known = tuple(self.piece_ids(piece, dropout))
                if not dropout and len(piece) < 100:
                    if len(cached) >= CACHED_PIECES:
                        cached.clear()
                    cached[piece] = known
            ids += known
            if dropout:
                cached.clear()
        return ids

    def encode_batch(self, texts: Sequence[str], workers: int = 2) -> list[list[int]]:
        """The ids of each text; many texts are encoded by compiled code, in threads."""
        compiled = None
        if sum(map(len, texts)) >= MANY:
            compiled = self.encode_compiled(texts, self.split, workers)
        return [self.encode(text) for text in texts] if compiled is None else compiled

    def encode_compiled(
        self, texts: Sequence[str], split: str, workers: int = 1
    ) -> list[list[int]] | None:
        """The ids by compiled code; None where it does not know the split, or this text."""
        encoder = self.compiled_encoder(split)
        try:
            return None if encoder is None else encoder.encode_texts(texts, workers)
        except UnicodeEncodeError:  # bytes that are not UTF-8
            return None

    def compiled_encoder(self, split: str | None = None) -> Any:
        """The encoder for large inputs; None where the pattern is not compiled."""
        from dlkit.tokenize import compiled_encode

        return compiled_encode.encoder(self, split or self.split)

    def tokens(self, text: str) -> list[str]:
        return [self.names[i] for i in self.encode(text)]

    def encode_spans(self, text: str, parse_special: bool = False) -> list[tuple[int, Span]]:
        """Ids with the characters of `text` they stand for, from start to before end."""
        found: list[tuple[int, Span]] = []
        at = 0
        for part, special in self.parts(text, parse_special):
            if special is not None:
                found.append((special, (at, at + len(part))))
            else:
                plain, sources = aligned(part, self.normalization)
                for i, (start, end) in self.plain_spans(plain):
                    if start == end:  # a mark by itself
                        here = sources[start][0] if start < len(sources) else len(part)
                        found.append((i, (at + here, at + here)))
                    else:
                        found.append((i, (at + sources[start][0], at + sources[end - 1][1])))
            at += len(part)
        return found

    def plain_spans(self, text: str) -> Iterator[tuple[int, Span]]:
        for start, end in pretokenize.bounds(self.split, text):
            ids = self.piece_ids(text[start:end])
            for i, (first, last) in zip(ids, self.piece_spans(text[start:end], ids), strict=True):
                yield i, (start + first, start + last)

    def decode(self, ids: Iterable[int], skip_special: bool = False) -> str:
        """The text that the ids stand for."""
        return self.join(self.known_tokens(ids, skip_special))

    def known_tokens(self, ids: Iterable[int], skip_special: bool) -> Iterator[str]:
        for i in ids:
            try:
                token = self.names[i]
            except KeyError:
                raise DlkitError(
                    f"id {i} is not in the vocabulary (0 to {max(self.names)})"
                ) from None
            if not (skip_special and token in self.special):
                yield token

    def to_json(self) -> str:
        """The tokenizer's file."""
        content: dict[str, Any] = {
            "header": asdict(self.header),
            "special": self.special,
            "vocab": self.vocab,
        }
        if self.merges:
            content["merges"] = self.merges
        return seal_json(content)

    def __reduce__(self) -> Any:
        return from_json, (self.to_json(),)

    # Details.

    @cached_property
    def names(self) -> dict[int, str]:
        """The token of each id."""
        return {i: token for token, i in [*self.vocab.items(), *self.special.items()]}

    @cached_property
    def special_pattern(self) -> re.Pattern[str]:
        longest_first = sorted(self.special, key=len, reverse=True)
        return re.compile("(" + "|".join(map(re.escape, longest_first)) + ")")

    def parts(self, text: str, parse_special: bool) -> Iterator[tuple[str, int | None]]:
        """The text, cut at special tokens: (part, None) or (token, its id)."""
        if not (parse_special and self.special):
            yield text, None
            return
        for number, part in enumerate(self.special_pattern.split(text)):
            if part:
                yield part, self.special[part] if number % 2 else None

    @property
    def unknown_id(self) -> int | None:
        return self.special[self.unknown] if self.unknown is not None else None

    def unknown_ids(self) -> list[int]:
        """What stands for something unknown: one token, or nothing where there is none."""
        return [] if self.unknown_id is None else [self.unknown_id]


class ByteBPE(Tokenizer):
    """Byte-pair encoding of bytes; also bytes alone, where nothing was merged."""

    @cached_property
    def ranks(self) -> Mapping[tuple[int, int], tuple[int, int]]:
        if self.header.settings.get("by_rank"):
            return RankedTokens(self.vocab)
        return pair_ranks(self.vocab, self.merges)

    def piece_ids(self, piece: str, dropout: float = 0.0) -> list[int]:
        if len(piece) >= MANY and not dropout:
            compiled = self.encode_compiled([piece], "none")
            if compiled is not None:
                return compiled[0]
        chars = as_chars(piece.encode("utf-8", "surrogateescape"))
        if self.header.settings.get("by_rank") and chars in self.vocab and not dropout:
            return [self.vocab[chars]]
        try:
            symbols = [self.vocab[char] for char in chars]
        except KeyError as error:
            raise DlkitError(f"the vocabulary has no token for byte {error}") from None
        return bpe.apply_merges(symbols, self.ranks, dropout)

    def piece_spans(self, piece: str, ids: Sequence[int]) -> list[Span]:
        """A token that holds a part of a character spans the whole character."""
        owner = [i for i, char in enumerate(piece) for _ in char.encode("utf-8", "surrogateescape")]
        ends = [0]
        for i in ids:
            ends.append(ends[-1] + len(self.names[i]))
        return [(owner[start], owner[end - 1] + 1) for start, end in pairwise(ends)]

    def decode_bytes(self, ids: Iterable[int], skip_special: bool = False) -> bytes:
        """The bytes that the ids stand for, whatever they are."""
        return b"".join(
            token.encode() if token in self.special else as_bytes(token)
            for token in self.known_tokens(ids, skip_special)
        )

    def decode(self, ids: Iterable[int], skip_special: bool = False) -> str:
        """The text; bytes that are not UTF-8 become U+FFFD."""
        return self.decode_bytes(ids, skip_special).decode("utf-8", "replace")


class CharBPE(Tokenizer):
    """Byte-pair encoding of characters, with a mark where a word ends or starts."""

    def __init__(self, *content: Any) -> None:
        super().__init__(*content)
        self.mark = self.header.settings.get("mark", "none")

    @cached_property
    def ranks(self) -> Mapping[tuple[int, int], tuple[int, int]]:
        return pair_ranks(self.vocab, self.merges)

    def symbols(self, piece: str) -> list[str]:
        return marked_symbols(piece, self.mark)

    def piece_ids(self, piece: str, dropout: float = 0.0) -> list[int]:
        if len(piece) >= MANY and not dropout:
            compiled = self.encode_compiled([piece], "none")
            if compiled is not None:
                return compiled[0]
        ids: list[int] = []
        for symbol in self.symbols(piece):
            known = self.vocab.get(symbol)
            ids += self.unknown_ids() if known is None else [known]
        return bpe.apply_merges(ids, self.ranks, dropout)

    def piece_spans(self, piece: str, ids: Sequence[int]) -> list[Span]:
        spans, at = [], 0
        for i in ids:
            length = 1 if i == self.unknown_id else len(self.unmarked(self.names[i]))
            if at == 0 and self.mark == "word-start" and self.names[i].startswith(WORD_START):
                length -= 1
            spans.append((at, at + length))
            at += length
        return spans

    def unmarked(self, token: str) -> str:
        return token.removesuffix(WORD_END) if self.mark == "end-of-word" else token

    def join(self, tokens: Iterable[str]) -> str:
        if self.mark == "end-of-word":
            return re.sub(f"{WORD_END}$", "", "".join(tokens)).replace(WORD_END, " ")
        if self.mark == "word-start":
            return "".join(tokens).replace(WORD_START, " ").removeprefix(" ")
        return "".join(tokens)


class WordPiece(Tokenizer):
    """Longest match in each word; tokens inside a word begin with ##."""

    @cached_property
    def longest(self) -> int:
        return max(map(len, self.vocab), default=1)

    def piece_ids(self, piece: str, dropout: float = 0.0) -> list[int]:
        if dropout:
            raise DlkitError("--dropout is for bpe and byte-bpe")
        ids = longest_match(piece, self.vocab, INSIDE, self.longest)
        return self.unknown_ids() if ids is None else ids

    def piece_spans(self, piece: str, ids: Sequence[int]) -> list[Span]:
        if list(ids) == self.unknown_ids():
            return [(0, len(piece))] * len(ids)
        spans, at = [], 0
        for i in ids:
            length = len(self.names[i].removeprefix(INSIDE) if at else self.names[i])
            spans.append((at, at + length))
            at += length
        return spans

    def join(self, tokens: Iterable[str]) -> str:
        return " ".join(tokens).replace(f" {INSIDE}", "")


class Lookup(Tokenizer):
    """Each pre-token is a token: characters, words between spaces, or words by rule."""

    def piece_ids(self, piece: str, dropout: float = 0.0) -> list[int]:
        if dropout:
            raise DlkitError("--dropout is for bpe and byte-bpe")
        known = self.vocab.get(piece)
        return self.unknown_ids() if known is None else [known]

    def piece_spans(self, piece: str, ids: Sequence[int]) -> list[Span]:
        return [(0, len(piece))] * len(ids)

    def join(self, tokens: Iterable[str]) -> str:
        return ("" if self.algorithm == "char" else " ").join(tokens)


class SentencePiece(Tokenizer):
    """The sentencepiece library's model, kept in the file as it is (base64)."""

    def __init__(self, header: Header, model: str) -> None:
        import sentencepiece

        self.model = model
        self.processor = sentencepiece.SentencePieceProcessor()
        try:
            self.processor.LoadFromSerializedProto(base64.b64decode(model))
        except (RuntimeError, ValueError) as error:
            raise DlkitError("not a sentencepiece model, or a damaged one") from error
        p = self.processor
        pieces = {p.IdToPiece(i): i for i in range(p.GetPieceSize())}
        special = {t: i for t, i in pieces.items() if p.IsControl(i) or p.IsUnknown(i)}
        vocab = {t: i for t, i in pieces.items() if t not in special}
        header.settings["unk"] = p.IdToPiece(p.unk_id())
        super().__init__(header, vocab, special)

    def encode_plain(self, text: str, dropout: float) -> list[int]:
        # Text with lone surrogates cannot be handed over.
        clean = text.encode("utf-8", "replace").decode()
        if dropout:
            return self.processor.Encode(clean, enable_sampling=True, alpha=dropout, nbest_size=-1)
        return self.processor.Encode(clean)

    def encode_batch(self, texts: Sequence[str], workers: int = 2) -> list[list[int]]:
        plain = [normalize(text, self.normalization) for text in texts]
        return self.processor.Encode(plain, num_threads=workers)

    def plain_spans(self, text: str) -> Iterator[tuple[int, Span]]:
        found = self.processor.EncodeAsOffsetMapping(text)
        yield from zip(found["ids"], found["offsets"], strict=True)

    def decode(self, ids: Iterable[int], skip_special: bool = False) -> str:
        """The text; special tokens have none in sentencepiece."""
        tokens = self.known_tokens(ids, skip_special)
        return self.processor.Decode([self.vocab[t] for t in tokens if t in self.vocab])

    def compiled_encoder(self, split: str | None = None) -> Any:
        return None

    def to_json(self) -> str:
        return seal_json({"header": asdict(self.header), "sentencepiece": self.model})


CLASSES: dict[str, type[Tokenizer]] = {
    "byte-bpe": ByteBPE,
    "byte": ByteBPE,
    "bpe": CharBPE,
    "wordpiece": WordPiece,
    "char": Lookup,
    "whitespace": Lookup,
    "words": Lookup,
}
SENTENCEPIECE = ("unigram", "sentencepiece-bpe")


class RankedTokens(Mapping[tuple[int, int], tuple[int, int]]):
    """tiktoken's rule: two tokens merge if together they are a token, whose id is the rank."""

    def __init__(self, vocab: Mapping[str, int]) -> None:
        self.vocab = vocab
        self.names = {i: token for token, i in vocab.items()}

    def __contains__(self, pair: object) -> bool:
        assert isinstance(pair, tuple)
        return self.names[pair[0]] + self.names[pair[1]] in self.vocab

    def __getitem__(self, pair: tuple[int, int]) -> tuple[int, int]:
        new = self.vocab[self.names[pair[0]] + self.names[pair[1]]]
        return new, new

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Every way to cut a token in two tokens."""
        for token in self.vocab:
            for middle in range(1, len(token)):
                left, right = self.vocab.get(token[:middle]), self.vocab.get(token[middle:])
                if left is not None and right is not None:
                    yield left, right

    def __len__(self) -> int:
        return sum(1 for _ in self)


def pair_ranks(
    vocab: Mapping[str, int], merges: Sequence[tuple[str, ...]]
) -> dict[tuple[int, int], tuple[int, int]]:
    """Rank and result of each pair that can be merged."""
    try:
        return {
            (vocab[left], vocab[right]): (rank, vocab[left + right])
            for rank, (left, right) in enumerate(merges)
        }
    except KeyError as error:
        raise DlkitError(f"the merges use {error}, which is not in the vocabulary") from None


def marked_symbols(word: str, mark: str) -> list[str]:
    """The symbols that a word's merges begin with."""
    if mark == "end-of-word":
        return [*word[:-1], word[-1] + WORD_END]
    if mark == "word-start":
        return [WORD_START, *word]
    if mark == "inside":
        return [word[0], *(INSIDE + char for char in word[1:])]
    return list(word)


def from_json(text: str) -> Tokenizer:
    """The tokenizer that a file describes."""
    content = unseal_json(text)
    if "model" in content and "added_tokens" in content:
        raise DlkitError(
            "a tokenizer of Hugging Face: `dlkit tokenize convert` makes it one of dlkit"
        )
    try:
        header = Header(**content["header"])
        if header.task != "tokenize":
            raise DlkitError(f"a file for `dlkit {header.task}`, not for `dlkit tokenize`")
        if header.arch in SENTENCEPIECE:
            return SentencePiece(header, content["sentencepiece"])
        return CLASSES[header.arch](
            header, content["vocab"], content["special"], content.get("merges", ())
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DlkitError("not a tokenizer of dlkit, or a damaged one") from error
