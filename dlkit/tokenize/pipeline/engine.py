"""The engines that encode a tokenizer.json: dlkit's own, and Hugging Face's library."""

import json
from collections.abc import Sequence
from typing import Any, Protocol

from dlkit.core.environment import install_command
from dlkit.core.errors import DlkitError
from dlkit.tokenize.pipeline import decoders, normalizers, pretokenizers
from dlkit.tokenize.pipeline.added import Finder, model_vocab, read_added_tokens
from dlkit.tokenize.pipeline.fields import Json, NotUnderstood, read_fields
from dlkit.tokenize.pipeline.models import Found, model_type, read_model
from dlkit.tokenize.pipeline.postprocessors import Spanned
from dlkit.tokenize.pipeline.segments import read_segments
from dlkit.tokenize.pipeline.text import Part

CACHED_PIECES = 1 << 17
CACHED_LENGTH = 100  # characters of a pre-token that is cached


class Engine(Protocol):
    """The work of a tokenizer.json, without its post-processor."""

    def encode(self, text: str, parse_special: bool) -> list[int]:
        """The ids of a text."""
        ...

    def encode_spans(self, text: str, parse_special: bool) -> tuple[Spanned, list[str]]:
        """The ids with the characters that each covers, and the texts of these tokens."""
        ...

    def decode(self, tokens: list[str], ids: Sequence[int]) -> str:
        """The text of tokens, which are those of the ids."""
        ...


class OwnEngine:
    """The steps of a file in Python. Raises NotUnderstood for a part that has no such step."""

    def __init__(self, content: Json) -> None:
        read_fields(
            content,
            "the file",
            version=None,
            truncation=None,
            padding=None,
            added_tokens=[],
            normalizer=None,
            pre_tokenizer=None,
            post_processor=None,
            decoder=None,
            model=None,
        )
        added = read_added_tokens(content)
        self.normalizers = normalizers.read_normalizers(content.get("normalizer"))
        self.as_written = Finder([token for token in added if not token.normalized], [])
        self.as_normalized = Finder(
            [token for token in added if token.normalized], self.normalizers
        )
        self.pre_tokenizers = pretokenizers.read_pre_tokenizers(content.get("pre_tokenizer"))
        self.tracks = pretokenizers.needs_spans(content.get("pre_tokenizer"))
        self.model = read_model(content["model"])
        self.names = {i: token for token, i in model_vocab(content["model"]).items()}
        if model_type(content["model"]) == "Unigram":  # its unknown tokens are the text itself
            self.names.pop(content["model"].get("unk_id"), None)
        # The library decodes a token to what it looks for, as newer versions of it do.
        self.written = {token.content: text for text, token in self.as_normalized.tokens.items()}
        self.decoders = decoders.read_decoders(content.get("decoder"))
        self.cache: dict[str, Found] = {}
        self.segments = read_segments(self, content)

    def parts(self, text: str, parse_special: bool, tracks: bool) -> list[Part]:
        """The pre-tokens and the added tokens of a text."""
        spans = [(i, i + 1) for i in range(len(text))] if tracks else None
        parts: list[Part] = []
        for part in self.as_written.cut(Part(text, spans), parse_special) if text else ():
            if part.token is not None:
                parts.append(part)
                continue
            normal = Part(*normalizers.apply(self.normalizers, part.text, part.spans))
            if normal.text:
                parts += self.as_normalized.cut(normal, parse_special)
        for pre_tokenizer in self.pre_tokenizers:
            parts = [
                piece
                for part in parts
                for piece in ((part,) if part.token is not None else pre_tokenizer(part))
            ]
        return parts

    def piece(self, text: str) -> Found:
        """The ids of a pre-token."""
        found = self.cache.get(text)
        if found is None:
            found = self.model(text) if text else []
            if len(text) < CACHED_LENGTH:
                if len(self.cache) >= CACHED_PIECES:
                    self.cache.clear()
                self.cache[text] = found
        return found

    def encode(self, text: str, parse_special: bool) -> list[int]:
        added = self.as_written.pattern
        if self.segments is not None and not (added and added.search(text)):
            found = self.segments.encode(text)
            if found is not None:
                return found
        ids: list[int] = []
        for part in self.parts(text, parse_special, self.tracks):
            if part.token is not None:
                ids.append(part.token)
            else:
                ids += [i for i, _ in self.piece(part.text)]
        return ids

    def encode_spans(self, text: str, parse_special: bool) -> tuple[Spanned, list[str]]:
        found: Spanned = []
        texts: list[str] = []
        for part in self.parts(text, parse_special, True):
            spans = part.spans or []
            if part.token is not None:
                found.append((part.token, (spans[0][0], spans[-1][1])))
                texts.append(part.text)
                continue
            start = 0
            ends = self.piece(part.text)
            for number, (i, end) in enumerate(ends):
                first = start if start < end else max(end - 1, 0)
                found.append((i, (spans[first][0], spans[max(end, 1) - 1][1])))
                name = self.names.get(i)
                texts.append(part.text[first:end] if name is None else name)
                # Several tokens of one character, its bytes, all cover it.
                following = ends[number + 1][1] if number + 1 < len(ends) else end
                start = end if following > end else start
        return found, texts

    def decode(self, tokens: list[str], ids: Sequence[int]) -> str:
        return decoders.decode(self.decoders, [self.written.get(t, t) for t in tokens])


class LibraryEngine:
    """The tokenizers library."""

    def __init__(self, content: Json, because: str) -> None:
        try:
            import tokenizers as library
        except ImportError as error:
            raise DlkitError(
                f"{because} is not known to dlkit, only to the tokenizers library; install it: "
                f"{install_command('hub')}"
            ) from error
        plain = {**content, "truncation": None, "padding": None, "post_processor": None}
        model = plain.get("model")
        if isinstance(model, dict) and model.get("dropout"):
            plain["model"] = {**model, "dropout": None}
        try:
            self.tokenizer = library.Tokenizer.from_str(json.dumps(plain))
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # the library raises nothing narrower, and panics
            raise DlkitError(
                f"{because} is not known to dlkit, and the tokenizers library "
                f"{library.__version__} cannot read the file ({str(error)[:200]})"
            ) from error

    def run(self, text: str, parse_special: bool) -> Any:
        clean = text.encode("utf-8", "replace").decode()
        self.tokenizer.encode_special_tokens = not parse_special
        try:
            return self.tokenizer.encode(clean, add_special_tokens=False)
        except (KeyboardInterrupt, SystemExit):
            raise
        except (
            BaseException
        ) as error:  # the library raises nothing narrower; a panic is no Exception
            raise DlkitError(f"the tokenizers library: {str(error)[:200]}") from error

    def encode(self, text: str, parse_special: bool) -> list[int]:
        ids: list[int] = self.run(text, parse_special).ids
        return ids

    def encode_spans(self, text: str, parse_special: bool) -> tuple[Spanned, list[str]]:
        encoded = self.run(text, parse_special)
        return list(zip(encoded.ids, encoded.offsets, strict=True)), encoded.tokens

    def decode(self, tokens: list[str], ids: Sequence[int]) -> str:
        try:
            text: str = self.tokenizer.decode(list(ids), skip_special_tokens=False)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # as above
            raise DlkitError(f"the tokenizers library: {str(error)[:200]}") from error
        return text


def build_engine(content: Json) -> tuple[Engine, str | None]:
    """dlkit's own engine, or the library and the part of the file that needs it."""
    try:
        return OwnEngine(content), None
    except NotUnderstood as error:
        return LibraryEngine(content, str(error)), str(error)
