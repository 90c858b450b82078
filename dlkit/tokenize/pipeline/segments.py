"""Encoding of a text in segments: it is cut before spaces, and the ids of each segment are kept.

Natural text has few different words, so most segments are known. The ids are those of the whole
text, because a file is read in this way only if none of its parts looks across such a cut, from a
character that is no white space to a space. A normalizer changes characters one by one, composes
what no space takes part in, replaces runs of spaces, or works at the ends of the text. A
pre-tokenizer cuts there itself; or the model is a BPE that has no token with a ▁ after another
character, so that no merge crosses the cut. Such a model cuts a segment further, between any two
characters that are beside each other in no token. What depends on the text of a segment is checked
for each: one whose normalized text ends with white space is joined with the next one, and one
that does not begin with a space, or has an added token in it, sends the whole text another way.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from dlkit.tokenize import unicode_tables as tables
from dlkit.tokenize.pipeline.added import model_vocab
from dlkit.tokenize.pipeline.fields import Json, parts_of
from dlkit.tokenize.pipeline.models import model_type, read_merges
from dlkit.tokenize.pipeline.pretokenizers import GPT2
from dlkit.tokenize.pipeline.text import Part, Spans
from dlkit.tokenize.pretokenize import ONIGURUMA, PATTERNS

if TYPE_CHECKING:
    from dlkit.tokenize.pipeline.engine import OwnEngine

MARK = "▁"
SEGMENT = re.compile(" +[^ ]*|[^ ]+")
CUT = re.compile(f"[^ {MARK}][ {MARK}]")  # what no token may have in it
OPEN = frozenset(tables.SPACES + MARK)  # characters that a segment cannot end with
KEPT = 1 << 17  # segments
KEPT_LENGTH = 100  # characters of a segment that is kept
ONE_BY_ONE = {
    *("NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "BertNormalizer", "Nmt"),
    "Precompiled",
}
SPACES_ALONE = re.compile(r"(?: |\\s)(?:\+|\{\d+(?:,\d*)?\})?")  # patterns of runs of spaces
# Patterns that begin a new match at every space after a character that is no white space, and look
# at nothing behind it; and patterns that match no white space.
CUTTING = {GPT2, *(PATTERNS[name] for name in ("gpt2", "o200k", "llama3", "qwen", "kimi"))}
CUTTING |= {
    ONIGURUMA["gpt4"],
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
    "| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+",  # of DeepSeek
}
WITHOUT_SPACES = {r"\p{N}", r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+"}
WORDS = ("WhitespaceSplit", "Whitespace", "BertPreTokenizer")  # remove the space at the cut
# Characters that are one with the next one, also a space, for Precompiled.
PREPENDED = "[\u0600-\u0605\u06dd\u070f\u0890\u0891\u08e2\u0d4e\U000110bd\U000110cd\U000111c2"
PREPENDED += "\U000111c3\U000113d1\U0001193f\U00011941\U00011a3a\U00011a84-\U00011a89\U00011d46"
PREPENDED += "\U00011f02]"


class Uncut(Exception):
    """The text cannot be encoded in segments."""


@dataclass(frozen=True)
class Step:
    """A normalizer; `part` is its description in the file."""

    part: Json
    run: Callable[[str, Spans], tuple[str, Spans]]

    def on(self, text: str, spans: Spans, first: bool, last: bool) -> tuple[str, Spans]:
        """The normalized segment, the first or the last of its text or neither."""
        kind = self.part["type"]
        if kind == "Prepend" and not first:
            return text, spans
        if kind == "Strip":
            start, end = 0, len(text)
            if first and self.part.get("strip_left") is not False:
                start = end - len(text.lstrip(tables.SPACES))
            if last and self.part.get("strip_right") is not False:
                end = max(start, len(text.rstrip(tables.SPACES)))
            return text[start:end], spans and spans[start:end]
        return self.run(text, spans)


class Segments:
    """The segments of texts with their ids, for the parts of one file."""

    def __init__(
        self,
        engine: "OwnEngine",
        steps: list[Step],
        mark: str,
        literals: list[str],
        merges: "Merges | None",
    ) -> None:
        self.engine, self.steps, self.mark, self.literals = engine, steps, mark, literals
        self.merges = merges
        self.prepended = re.compile(PREPENDED)
        self.joins_next = any(step.part["type"] == "Precompiled" for step in steps)
        self.kept: dict[tuple[bool, bool], dict[str, list[int]]] = {
            (first, last): {} for first in (False, True) for last in (False, True)
        }

    def encode(self, text: str) -> list[int] | None:
        """The ids of a text without added tokens; None if it cannot be cut."""
        segments = SEGMENT.findall(text)
        if len(segments) < 2:
            return None
        kept = self.kept[False, False]
        ids: list[int] = []
        waiting, first = "", True
        try:
            for segment in segments[:-1]:
                if not waiting and not first:
                    found = kept.get(segment)
                    if found is not None:
                        ids += found
                        continue
                waiting += segment
                found = self.find(waiting, first, False)
                if found is not None:
                    ids += found
                    waiting, first = "", False
            if first:
                return None
            ids += self.find(waiting + segments[-1], False, True) or ()
        except Uncut:
            return None
        return ids

    def find(self, segment: str, first: bool, last: bool) -> list[int] | None:
        """The ids of a segment; None if it must be joined with the next one."""
        kept = self.kept[first, last]
        found = kept.get(segment)
        if found is not None:
            return found
        text = self.normalize(segment, first, last)
        if text is None:
            return None
        found = self.ids(*text)
        if len(segment) < KEPT_LENGTH:
            if len(kept) >= KEPT:
                kept.clear()
            kept[segment] = found
        return found

    def normalize(self, segment: str, first: bool, last: bool) -> tuple[str, Spans] | None:
        """The normalized segment; None if it must be joined with the next one."""
        text = segment
        spans: Spans = None
        if self.engine.tracks:  # only whether it begins at 0 matters
            spans = [(i, i + 1) for i in range(not first, len(text) + (not first))]
        for step in self.steps:
            if not last and self.is_open(text):
                return None
            text, spans = step.on(text, spans, first, last)
            if not first and text and text[0] not in {" ", MARK}:
                raise Uncut
        if not last and self.is_open(text):
            return None
        if not first and text and text[0] != self.mark:
            raise Uncut
        return text, spans

    def is_open(self, text: str) -> bool:
        """Whether a text that a space follows could not be normalized by itself."""
        if not text or text[-1] in OPEN:
            return True
        return self.joins_next and self.prepended.match(text[-1]) is not None

    def ids(self, text: str, spans: Spans) -> list[int]:
        """The ids of a normalized segment."""
        engine = self.engine
        added = engine.as_normalized.pattern
        if (added and added.search(text)) or any(literal in text for literal in self.literals):
            raise Uncut
        parts = [Part(text, spans)] if text else []
        for pre_tokenizer in engine.pre_tokenizers:
            parts = [piece for part in parts for piece in pre_tokenizer(part)]
        if self.merges is None:
            return [i for part in parts for i, _ in engine.piece(part.text)]
        return [
            i
            for part in parts
            for text in self.merges.cut(part.text)
            for i, _ in engine.piece(text)
        ]


class Merges:
    """The pairs of characters inside the tokens of a BPE, which no merge joins otherwise."""

    def __init__(self, model: Json) -> None:
        vocab = model_vocab(model)
        self.vocab = vocab
        self.tokens = [left + right for left, right in read_merges(model)]
        self.has_marks = any(map(CUT.search, self.tokens))

    @cached_property
    def pairs(self) -> set[str]:
        return {token[i : i + 2] for token in self.tokens for i in range(len(token) - 1)}

    def cut(self, text: str) -> list[str]:
        """The stretches of a text that are merged by themselves; unknown characters are not cut."""
        pairs, vocab = self.pairs, self.vocab
        found, start = [], 0
        for i in range(1, len(text)):
            if text[i - 1 : i + 1] not in pairs and text[i] in vocab and text[i - 1] in vocab:
                found.append(text[start:i])
                start = i
        found.append(text[start:])
        return found


def read_segments(engine: "OwnEngine", content: Json) -> Segments | None:
    """The segments of a file; None where its parts, or its added tokens, may look across a cut."""
    found = parts_of(content.get("normalizer"), "normalizers")
    steps = [Step(part, run) for part, run in zip(found, engine.normalizers, strict=True)]
    if not all(map(is_local, found)):
        return None
    text, spans = " x", None
    for step in steps:
        text, spans = step.on(text, spans, False, False)
    mark, literals = text[:1], leading_literals(content)
    if mark not in {" ", MARK} or any(map(CUT.search, [*engine.as_normalized.tokens, *literals])):
        return None
    before = parts_of(content.get("pre_tokenizer"), "pretokenizers")[len(literals) :]
    by_model = cut_by(before, mark)
    merges = read_bpe(content["model"]) if by_model else None
    if by_model is None or (by_model and merges is None):
        return None
    return Segments(engine, steps, mark, literals, merges)


def is_local(part: Json) -> bool:
    """Whether a normalizer does not look across a cut."""
    kind = part["type"]
    if kind != "Replace":
        return kind in ONE_BY_ONE or kind in {"Prepend", "Strip"}
    pattern = part["pattern"]
    if "String" in pattern:
        return not pattern["String"].strip(" ")
    return SPACES_ALONE.fullmatch(pattern["Regex"]) is not None


def leading_literals(content: Json) -> list[str]:
    """The texts at which the first pre-tokenizers split; a segment that has one is not taken."""
    found: list[str] = []
    for part in parts_of(content.get("pre_tokenizer"), "pretokenizers"):
        if part["type"] != "Split" or "String" not in part["pattern"] or part.get("invert"):
            break
        found.append(part["pattern"]["String"])
    return found


def cut_by(parts: list[Json], mark: str) -> bool | None:
    """Whether the model, not a pre-tokenizer, must cut at a mark; None if nothing is known to."""
    cuts = False
    for part in parts:
        kind = part["type"]
        pattern = part.get("pattern", {}).get("Regex")
        if cuts:
            continue  # what follows sees each pre-token alone
        if kind in WORDS or (kind == "CharDelimiterSplit" and part.get("delimiter") == " "):
            cuts = mark == " "
        elif kind == "Metaspace" and part.get("replacement", MARK) == MARK:
            cuts, mark = part.get("split") is not False, MARK
        elif kind == "ByteLevel":
            cuts = mark == " " and part.get("use_regex") is not False
        elif kind == "Split" and part.get("behavior") == "Isolated" and not part.get("invert"):
            cuts = mark == " " and pattern in CUTTING
            if not cuts and pattern not in WITHOUT_SPACES:
                return None
            continue
        elif kind == "Digits":
            continue
        else:
            return None
        if not cuts and kind != "Metaspace":
            return None
    if cuts:
        return False
    return True if mark == MARK else None


def read_bpe(model: Json) -> Merges | None:
    """The merges of a BPE without a token that has a mark after another character; else None."""
    if model_type(model) != "BPE" or MARK not in model_vocab(model):
        return None
    if model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
        return None
    if model.get("ignore_merges"):  # a segment could be a token that the whole text is not
        return None
    merges = Merges(model)
    return None if merges.has_marks else merges
