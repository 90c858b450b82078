"""Tokenizers: text to ids and back, one class for each way to encode a pre-token.

A tokenizer is a JSON file: `header` (its kind and how it was trained), `special`, `vocab`, `merges`
if it has any, and the `sha256` of these. Loads no numpy: the compiled code is imported for large
inputs only.
"""

import base64
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Self, TypedDict

from dlkit.core.errors import DlkitError
from dlkit.core.store import schema
from dlkit.core.store.checkpoint import Header, as_header
from dlkit.tokenize import alphabet, bpe, pretokenize
from dlkit.tokenize.alphabet import INSIDE, WORD_END, WORD_START
from dlkit.tokenize.bpe import Ranks
from dlkit.tokenize.normalize import normalize, normalize_aligned
from dlkit.tokenize.pipeline.added import check_types, model_vocab
from dlkit.tokenize.pipeline.compiled import read_plan
from dlkit.tokenize.pipeline.engine import build_engine
from dlkit.tokenize.pipeline.postprocessors import read_post_processor
from dlkit.tokenize.schema import check_content
from dlkit.tokenize.sealed_json import seal_json, unseal_json
from dlkit.tokenize.wordpiece import longest_match

if TYPE_CHECKING:
    from dlkit.tokenize.compiled_encode import Encoder, PieceRules

CACHED_PIECES = 1 << 17
CACHED_LENGTH = 100  # characters of a pre-token that is cached
COMPILED_SIZE = 1 << 18  # characters from which the compiled encoder repays its start
Span = tuple[int, int]


class TokenizerSettings(TypedDict, total=False):
    """The settings in a tokenizer's header."""

    normalize: list[str]  # see normalize.STEPS
    split: str  # a name of pretokenize.PATTERNS, or a pattern
    unk: str | None  # the special token for unknown text
    mark: str  # bpe and wordpiece: see alphabet.mark_symbols
    by_rank: bool  # byte-bpe: merge as tiktoken does, without a list of merges
    gaps: bool  # what the pattern of `split` does not match is a pre-token, too


def tokenizer_settings(header: Header) -> TokenizerSettings:
    """The settings of a tokenizer's header."""
    settings: TokenizerSettings = schema.fit(TokenizerSettings, header.settings)
    return settings


class Tokenizer(ABC):
    """Encoding and decoding, by what a subclass does with one pre-token."""

    def __init__(
        self,
        header: Header,
        vocab: Mapping[str, int],
        special: Mapping[str, int],
        merges: Iterable[Sequence[str]] = (),
        added: Mapping[str, int] | None = None,
    ) -> None:
        self.header = header
        self.settings = tokenizer_settings(header)
        self.vocab = {**vocab}
        self.special = {**special}
        self.added = {**(added or {})}  # found in every text before all else, as written
        self.merges = [(left, right) for left, right in merges]
        self.normalization = self.settings.get("normalize") or []
        self.split = self.settings.get("split") or "none"
        self.unknown = self.settings.get("unk")
        self.gaps = self.settings.get("gaps") or False
        self.pretokenize = pretokenize.splitter(self.split, self.gaps)
        self.cache: dict[str, tuple[int, ...]] = {}
        self.encoders: dict[str, Encoder | None] = {}

    @classmethod
    def from_content(cls, header: Header, content: Mapping[str, Any]) -> Self:
        """Build the tokenizer from the fields of its file."""
        merges, added = content.get("merges", ()), content.get("added")
        return cls(header, content["vocab"], content["special"], merges, added)

    @staticmethod
    def from_json(text: str) -> "Tokenizer":
        """Build the tokenizer from the text of its file."""
        content = unseal_json(text)
        try:
            header = as_header(content.get("header", {}))
            if header.task != "tokenize":
                raise DlkitError(f"a file for `dlkit {header.task}`, not for `dlkit tokenize`")
            check_content(header.settings, content)
            return ALGORITHMS[header.arch].from_content(header, content)
        except DlkitError as error:
            reason = str(error).replace("not a model of", "not a tokenizer of")
            raise DlkitError(reason) from error
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise DlkitError("not a tokenizer of dlkit, or a damaged one") from error

    @staticmethod
    def from_settings(settings: Mapping[str, Any]) -> "Tokenizer":
        """Restore the tokenizer that the header of another task's checkpoint holds."""
        return Tokenizer.from_json(json.dumps(settings))

    # To be defined by a subclass.

    @abstractmethod
    def piece_ids(self, piece: str, dropout: float = 0.0) -> list[int]:
        """Encode a pre-token."""

    @abstractmethod
    def piece_spans(self, piece: str, ids: Sequence[int]) -> list[Span]:
        """The characters of a pre-token that each of its tokens covers."""

    @abstractmethod
    def join(self, tokens: Iterable[str]) -> str:
        """Decode tokens."""

    def piece_rules(self) -> "PieceRules | None":
        """The rules of `piece_ids` for the compiled encoder; None if it does not know them."""
        return None

    # To be called by users.

    @property
    def algorithm(self) -> str:
        return self.header.arch

    def encode(
        self, text: str | bytes, parse_special: bool = False, dropout: float = 0.0
    ) -> list[int]:
        """The ids of a text. `bytes` need not be UTF-8 if the tokens are bytes.

        Special tokens written in the text are plain text unless `parse_special`.
        """
        if isinstance(text, bytes):
            text = text.decode("utf-8", "surrogateescape")
        ids: list[int] = []
        for part, special in self.split_special(text, parse_special):
            if special is not None:
                ids.append(special)
                continue
            compiled = None
            if len(part) >= COMPILED_SIZE and not dropout:
                compiled = self.encode_compiled([part], self.split)
            if compiled is not None:
                ids += compiled[0]
            else:
                ids += self.encode_plain(normalize(part, self.normalization), dropout)
        return ids

    def encode_plain(self, text: str, dropout: float) -> list[int]:
        """The ids of normalized text without special tokens."""
        pieces = self.pretokenize(text)
        if dropout:
            return [i for piece in pieces for i in self.piece_ids(piece, dropout)]
        ids: list[int] = []
        cache = self.cache
        for piece in pieces:
            known = cache.get(piece)
            if known is None:
                known = tuple(self.piece_ids(piece))
                if len(piece) < CACHED_LENGTH:
                    if len(cache) >= CACHED_PIECES:
                        cache.clear()
                    cache[piece] = known
            ids += known
        return ids

    def encode_batch(self, texts: Sequence[str], workers: int = 2) -> list[list[int]]:
        """The ids of each text; many texts are encoded by compiled code, in threads."""
        compiled = None
        if sum(map(len, texts)) >= COMPILED_SIZE:
            parts = [list(self.split_special(text, False)) for text in texts]
            plain = [part for text in parts for part, i in text if i is None]
            compiled = self.encode_compiled(plain, self.split, workers)
        if compiled is None:
            return [self.encode(text) for text in texts]
        encoded = iter(compiled)
        if not self.added:
            return compiled
        return [
            [j for _, i in text for j in (next(encoded) if i is None else [i])] for text in parts
        ]

    def encode_compiled(
        self, texts: Sequence[str], split: str, workers: int = 1
    ) -> list[list[int]] | None:
        """The ids by compiled code; None if it does not know the split, or for invalid UTF-8."""
        encoder = self.compiled_encoder(split)
        try:
            return None if encoder is None else encoder.encode_texts(texts, workers)
        except UnicodeEncodeError:
            return None

    def compiled_encoder(self, split: str | None = None) -> "Encoder | None":
        """The encoder for large inputs; None if the pattern of `split` is not compiled."""
        split = split or self.split
        if split not in self.encoders:
            self.encoders[split] = None
            rules = self.piece_rules()
            if rules is not None:
                from dlkit.tokenize.compiled_encode import Encoder
                from dlkit.tokenize.compiled_split import MODES

                if split in MODES and not (self.gaps and split == self.split):
                    encoder = Encoder(rules, MODES[split], self.names, self.normalization)
                    self.encoders[split] = encoder
        return self.encoders[split]

    def add_special(self, ids: list[int]) -> list[int]:
        """The ids of a text with those that the tokenizer's file puts around each text."""
        return ids

    def add_special_spans(self, found: list[tuple[int, Span]]) -> list[tuple[int, Span]]:
        """`add_special` for ids with spans."""
        return found

    def tokens(self, text: str) -> list[str]:
        """The tokens of a text."""
        return [self.names[i] for i in self.encode(text)]

    def encode_spans(self, text: str, parse_special: bool = False) -> list[tuple[int, Span]]:
        """Ids with the span of `text` that each covers: start, and end (exclusive)."""
        found: list[tuple[int, Span]] = []
        offset = 0
        for part, special in self.split_special(text, parse_special):
            if special is not None:
                found.append((special, (offset, offset + len(part))))
            else:
                plain, sources = normalize_aligned(part, self.normalization)
                for i, (start, end) in self.plain_spans(plain):
                    if start == end:  # a mark by itself
                        here = sources[start][0] if start < len(sources) else len(part)
                        found.append((i, (offset + here, offset + here)))
                    else:
                        span = offset + sources[start][0], offset + sources[end - 1][1]
                        found.append((i, span))
            offset += len(part)
        return found

    def plain_spans(self, text: str) -> Iterator[tuple[int, Span]]:
        """Ids with spans of normalized text without special tokens."""
        for start, end in pretokenize.bounds(self.split, text, self.gaps):
            ids = self.piece_ids(text[start:end])
            for i, (first, last) in zip(ids, self.piece_spans(text[start:end], ids), strict=True):
                yield i, (start + first, start + last)

    def decode(self, ids: Iterable[int], skip_special: bool = False) -> str:
        """The text of the ids."""
        return self.join(self.lookup_tokens(ids, skip_special))

    def lookup_tokens(self, ids: Iterable[int], skip_special: bool) -> Iterator[str]:
        """The tokens of the ids. Raises DlkitError for an id without a token."""
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
        """The text of the tokenizer's file."""
        return seal_json(self.content())

    def to_settings(self) -> dict[str, Any]:
        """The content of the tokenizer's file, for the header of another task's checkpoint."""
        settings: dict[str, Any] = json.loads(self.to_json())
        return settings

    # Details.

    def __reduce__(self) -> Any:
        return Tokenizer.from_json, (self.to_json(),)

    def content(self) -> dict[str, Any]:
        """The fields of the tokenizer's file."""
        content: dict[str, Any] = {"header": asdict(self.header), "special": self.special}
        content["vocab"] = self.vocab
        if self.merges:
            content["merges"] = self.merges
        if self.added:
            content["added"] = self.added
        return content

    @cached_property
    def names(self) -> dict[int, str]:
        """The token of each id."""
        tokens = [self.vocab, self.special, self.added]
        return {i: token for part in tokens for token, i in part.items()}

    @cached_property
    def added_pattern(self) -> re.Pattern[str]:
        return any_of(self.added)

    @cached_property
    def special_pattern(self) -> re.Pattern[str]:
        return any_of({**self.special, **self.added})

    def split_special(self, text: str, parse_special: bool) -> Iterator[tuple[str, int | None]]:
        """Cut the text at added tokens and, with `parse_special`, at special ones.

        Yields (part, None) and (token, id).
        """
        if not (self.added or (parse_special and self.special)):
            yield text, None
            return
        pattern = self.special_pattern if parse_special else self.added_pattern
        for number, part in enumerate(pattern.split(text)):
            if number % 2:
                yield part, self.added[part] if part in self.added else self.special[part]
            elif part:
                yield part, None

    @property
    def unknown_id(self) -> int | None:
        return self.special[self.unknown] if self.unknown is not None else None

    def unknown_ids(self) -> list[int]:
        """The ids of an unknown piece: the unknown token, or nothing without one."""
        return [] if self.unknown_id is None else [self.unknown_id]


class BPE(Tokenizer):
    """Byte-pair encoding, of bytes or of characters."""

    @cached_property
    def ranks(self) -> Ranks:
        return rank_pairs(self.vocab, self.merges)

    @abstractmethod
    def initial_ids(self, piece: str) -> list[int]:
        """The ids of a pre-token's symbols, before the first merge."""

    def piece_ids(self, piece: str, dropout: float = 0.0) -> list[int]:
        if len(piece) >= COMPILED_SIZE and not dropout:
            compiled = self.encode_compiled([piece], "none")
            if compiled is not None:
                return compiled[0]
        return bpe.apply_merges(self.initial_ids(piece), self.ranks, dropout)


class ByteBPE(BPE):
    """Byte-pair encoding of bytes; without merges, bytes alone."""

    @cached_property
    def ranks(self) -> Ranks:
        if self.settings.get("by_rank"):
            return TiktokenRanks(self.vocab)
        return rank_pairs(self.vocab, self.merges)

    def initial_ids(self, piece: str) -> list[int]:
        chars = alphabet.bytes_to_chars(piece.encode("utf-8", "surrogateescape"))
        try:
            return [self.vocab[char] for char in chars]
        except KeyError as error:
            raise DlkitError(f"the vocabulary has no token for byte {error}") from None

    def piece_ids(self, piece: str, dropout: float = 0.0) -> list[int]:
        if self.settings.get("by_rank") and not dropout:
            whole = alphabet.bytes_to_chars(piece.encode("utf-8", "surrogateescape"))
            if whole in self.vocab:
                return [self.vocab[whole]]
        return super().piece_ids(piece, dropout)

    def piece_spans(self, piece: str, ids: Sequence[int]) -> list[Span]:
        """A token that holds a part of a character spans the whole character."""
        owner = [i for i, char in enumerate(piece) for _ in char.encode("utf-8", "surrogateescape")]
        ends = [0]
        for i in ids:
            ends.append(ends[-1] + len(self.names[i]))
        return [(owner[start], owner[end - 1] + 1) for start, end in pairwise(ends)]

    def piece_rules(self) -> "PieceRules | None":
        from dlkit.tokenize.compiled_encode import BYTES, PieceRules

        if len(self.vocab) < 256:
            return None
        symbols = {byte: self.vocab[char] for byte, char in alphabet.BYTE_TO_CHAR.items()}
        whole: dict[bytes, int] = {}
        if self.settings.get("by_rank"):
            whole = {alphabet.chars_to_bytes(token): i for token, i in self.vocab.items()}
        return PieceRules(BYTES, symbols=symbols, ranks=self.ranks, whole=whole)

    def join_bytes(self, tokens: Iterable[str]) -> bytes:
        return b"".join(
            token.encode()
            if token in self.special or token in self.added
            else alphabet.chars_to_bytes(token)
            for token in tokens
        )

    def join(self, tokens: Iterable[str]) -> str:
        """The text of the tokens, with U+FFFD for bytes that are not UTF-8."""
        return self.join_bytes(tokens).decode("utf-8", "replace")

    def decode_bytes(self, ids: Iterable[int], skip_special: bool = False) -> bytes:
        """The bytes of the ids, which need not be UTF-8."""
        return self.join_bytes(self.lookup_tokens(ids, skip_special))


class CharBPE(BPE):
    """Byte-pair encoding of characters, with a mark at the end or the start of a word."""

    @property
    def mark(self) -> str:
        return self.settings.get("mark", "none")

    def initial_ids(self, piece: str) -> list[int]:
        ids: list[int] = []
        for symbol in alphabet.mark_symbols(piece, self.mark):
            known = self.vocab.get(symbol)
            ids += self.unknown_ids() if known is None else [known]
        return ids

    def piece_spans(self, piece: str, ids: Sequence[int]) -> list[Span]:
        spans, at = [], 0
        for i in ids:
            length = 1 if i == self.unknown_id else len(self.strip_word_end(self.names[i]))
            if at == 0 and self.mark == "word-start" and self.names[i].startswith(WORD_START):
                length -= 1
            spans.append((at, at + length))
            at += length
        return spans

    def strip_word_end(self, token: str) -> str:
        return token.removesuffix(WORD_END) if self.mark == "end-of-word" else token

    def piece_rules(self) -> "PieceRules | None":
        from dlkit.tokenize.compiled_encode import (
            CHARS,
            END_MARKED,
            PLAIN,
            START_MARKED,
            PieceRules,
        )

        return PieceRules(
            CHARS,
            unknown=self.unknown_id,
            mark={"end-of-word": END_MARKED, "word-start": START_MARKED}.get(self.mark, PLAIN),
            symbols=self.symbol_ids(),
            last_symbols=self.symbol_ids(WORD_END),
            word_start=self.vocab.get(WORD_START),
            ranks=self.ranks,
        )

    def symbol_ids(self, suffix: str = "") -> dict[int, int]:
        """The ids of the tokens of one character and this suffix, by code point."""
        length = 1 + len(suffix)
        return {
            ord(token[0]): i
            for token, i in self.vocab.items()
            if len(token) == length and token.endswith(suffix)
        }

    def join(self, tokens: Iterable[str]) -> str:
        if self.added and self.mark == "end-of-word":
            tokens = (token + WORD_END if token in self.added else token for token in tokens)
        elif self.added and self.mark == "word-start":
            tokens = (WORD_START + token if token in self.added else token for token in tokens)
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
        refuse_dropout(dropout)
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

    def piece_rules(self) -> "PieceRules | None":
        from dlkit.tokenize.compiled_encode import LONGEST_MATCH, PieceRules

        whole = {token.encode(): i for token, i in self.vocab.items()}
        inner = {
            token.removeprefix(INSIDE).encode(): i
            for token, i in self.vocab.items()
            if token.startswith(INSIDE)
        }
        return PieceRules(LONGEST_MATCH, unknown=self.unknown_id, whole=whole, inner=inner)

    def join(self, tokens: Iterable[str]) -> str:
        return " ".join(tokens).replace(f" {INSIDE}", "")


class WordLevel(Tokenizer):
    """Each pre-token is a token: a character, a word between spaces, or a word by rule."""

    def piece_ids(self, piece: str, dropout: float = 0.0) -> list[int]:
        refuse_dropout(dropout)
        known = self.vocab.get(piece)
        return self.unknown_ids() if known is None else [known]

    def piece_spans(self, piece: str, ids: Sequence[int]) -> list[Span]:
        return [(0, len(piece))] * len(ids)

    def piece_rules(self) -> "PieceRules | None":
        from dlkit.tokenize.compiled_encode import WHOLE, PieceRules

        whole = {token.encode(): i for token, i in self.vocab.items()}
        return PieceRules(WHOLE, unknown=self.unknown_id, whole=whole)

    def join(self, tokens: Iterable[str]) -> str:
        return ("" if self.algorithm == "char" else " ").join(tokens)


class SentencePiece(Tokenizer):
    """A model of the sentencepiece library, kept in the file as it is (base64)."""

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
        tokenizer_settings(header)["unk"] = p.IdToPiece(p.unk_id())
        super().__init__(header, vocab, special)

    @classmethod
    def from_content(cls, header: Header, content: Mapping[str, Any]) -> Self:
        return cls(header, content["sentencepiece"])

    def content(self) -> dict[str, Any]:
        return {"header": asdict(self.header), "sentencepiece": self.model}

    def piece_ids(self, piece: str, dropout: float = 0.0) -> list[int]:
        clean = replace_surrogates(piece)
        if dropout:
            ids = self.processor.Encode(clean, enable_sampling=True, alpha=dropout, nbest_size=-1)
        else:
            ids = self.processor.Encode(clean)
        return list(ids)

    def piece_spans(self, piece: str, ids: Sequence[int]) -> list[Span]:
        clean = replace_surrogates(piece)
        spans: list[Span] = self.processor.EncodeAsOffsetMapping(clean)["offsets"]
        return spans

    def encode_batch(self, texts: Sequence[str], workers: int = 2) -> list[list[int]]:
        plain = [replace_surrogates(normalize(text, self.normalization)) for text in texts]
        ids: list[list[int]] = self.processor.Encode(plain, num_threads=workers)
        return ids

    def join(self, tokens: Iterable[str]) -> str:
        """The text of the tokens; special tokens have none in sentencepiece."""
        ids = [self.vocab[token] for token in tokens if token in self.vocab]
        text: str = self.processor.Decode(ids)
        return text


class HuggingFace(Tokenizer):
    """A tokenizer.json of Hugging Face, kept as it is, and encoded as their library does.

    Its special tokens are looked for with `parse_special`, its other added tokens always.
    """

    def __init__(self, header: Header, content: Mapping[str, Any]) -> None:
        self.file = dict(content)
        check_types(self.file)
        self.engine, self.uses_library = build_engine(self.file)
        self.processor = read_post_processor(self.file.get("post_processor"))
        added = {t["content"]: t for t in self.file.get("added_tokens") or () if t["content"]}
        vocab = model_vocab(self.file["model"])
        ids = {name: vocab.get(name, token["id"]) for name, token in added.items()}
        special = {name: i for name, i in ids.items() if added[name].get("special")}
        plain = {t: i for t, i in {**vocab, **ids}.items() if t not in special}
        super().__init__(header, plain, special)
        for i in self.processor.template:
            if i is not None and (type(i) is not int or i not in self.names):
                raise DlkitError(f"post_processor: the id {i!r} is not in the vocabulary")

    @classmethod
    def from_content(cls, header: Header, content: Mapping[str, Any]) -> Self:
        return cls(header, content["huggingface"])

    def content(self) -> dict[str, Any]:
        return {"header": asdict(self.header), "huggingface": self.file}

    def encode(
        self, text: str | bytes, parse_special: bool = False, dropout: float = 0.0
    ) -> list[int]:
        refuse_dropout(dropout)
        if isinstance(text, bytes):
            text = text.decode("utf-8", "surrogateescape")
        return self.engine.encode(text, parse_special)

    def encode_spans(self, text: str, parse_special: bool = False) -> list[tuple[int, Span]]:
        return self.processor.trim(*self.engine.encode_spans(text, parse_special))

    def compiled_encoder(self, split: str | None = None) -> "Encoder | None":
        """The encoder for large inputs, of the parts of the file; None if it does not know them."""
        if self.split not in self.encoders:
            self.encoders[self.split] = None
            plan = None if self.uses_library else read_plan(self.file)
            if plan is not None:
                from dlkit.tokenize.compiled_encode import Encoder
                from dlkit.tokenize.compiled_split import MODES

                self.encoders[self.split] = Encoder(
                    plan.rules, MODES[plan.split], self.names, plan.normalization
                )
        return self.encoders[self.split]

    def add_special(self, ids: list[int]) -> list[int]:
        return self.processor.add(ids)

    def add_special_spans(self, found: list[tuple[int, Span]]) -> list[tuple[int, Span]]:
        return self.processor.add_spans(found)

    def piece_ids(self, piece: str, dropout: float = 0.0) -> list[int]:
        return self.encode(piece, dropout=dropout)

    def piece_spans(self, piece: str, ids: Sequence[int]) -> list[Span]:
        return [span for _, span in self.encode_spans(piece)]

    def join(self, tokens: Iterable[str]) -> str:
        listed = list(tokens)
        known = {**self.vocab, **self.special}
        return self.engine.decode(listed, [known[token] for token in listed])

    @property
    def unknown_id(self) -> int | None:
        model = self.file["model"]
        unknown = model.get("unk_id")
        if isinstance(unknown, int):
            return unknown
        return model_vocab(model).get(model.get("unk_token") or "")


ALGORITHMS: dict[str, type[Tokenizer]] = {
    "huggingface": HuggingFace,
    "byte-bpe": ByteBPE,
    "byte": ByteBPE,
    "bpe": CharBPE,
    "wordpiece": WordPiece,
    "char": WordLevel,
    "whitespace": WordLevel,
    "words": WordLevel,
    "unigram": SentencePiece,
    "sentencepiece-bpe": SentencePiece,
}


class TiktokenRanks(Mapping[tuple[int, int], tuple[int, int]]):
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
        """Every split of a token into two tokens."""
        for token in self.vocab:
            for middle in range(1, len(token)):
                left, right = self.vocab.get(token[:middle]), self.vocab.get(token[middle:])
                if left is not None and right is not None:
                    yield left, right

    def __len__(self) -> int:
        return sum(1 for _ in self)


def rank_pairs(
    vocab: Mapping[str, int], merges: Sequence[tuple[str, str]]
) -> dict[tuple[int, int], tuple[int, int]]:
    """Rank and result of each pair that can be merged."""
    try:
        return {
            (vocab[left], vocab[right]): (rank, vocab[left + right])
            for rank, (left, right) in enumerate(merges)
        }
    except KeyError as error:
        raise DlkitError(f"the merges use {error}, which is not in the vocabulary") from None


def any_of(tokens: Iterable[str]) -> re.Pattern[str]:
    """A pattern with one group: the longest of the tokens at a place."""
    longest_first = sorted(tokens, key=len, reverse=True)
    return re.compile("(" + "|".join(map(re.escape, longest_first)) + ")")


def refuse_dropout(dropout: float) -> None:
    if dropout:
        raise DlkitError("--dropout is for bpe and byte-bpe")


def replace_surrogates(text: str) -> str:
    """Replace lone surrogates, which have no UTF-8, by question marks."""
    return text.encode("utf-8", "replace").decode()
