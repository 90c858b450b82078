"""The pre-tokenizers of a tokenizer.json: each cuts the parts of a text further."""

from collections.abc import Callable
from typing import Any

from dlkit.tokenize import unicode_tables as tables
from dlkit.tokenize.pipeline import text as editing
from dlkit.tokenize.pipeline.fields import (
    METASPACE_FIELDS,
    Json,
    NotUnderstood,
    parts_of,
    read_fields,
)
from dlkit.tokenize.pipeline.normalizers import read_pattern, to_byte_chars
from dlkit.tokenize.pipeline.text import Part, Span

PreTokenizer = Callable[[Part], list[Part]]
Finder = Callable[[str], list[Span]]
BEHAVIORS = ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous")
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def read_pre_tokenizers(part: Json | None) -> list[PreTokenizer]:
    """The pre-tokenizers of a file, in their order."""
    found = []
    for one in parts_of(part, "pretokenizers"):
        kind = one["type"]
        if kind not in PRE_TOKENIZERS:
            raise NotUnderstood(f"pre_tokenizer {kind}")
        found.append(PRE_TOKENIZERS[kind](one, f"pre_tokenizer {kind}"))
    return found


def needs_spans(part: Json | None) -> bool:
    """Whether the pre-tokens depend on where in the source they are from."""
    return any(
        one["type"] == "Metaspace" and one.get("prepend_scheme") == "first"
        for one in parts_of(part, "pretokenizers")
    )


def cut_matches(text: str, matches: list[Span], behavior: str, invert: bool = False) -> list[Span]:
    """The cuts of a text at matches, and their treatment."""
    pieces: list[tuple[int, int, bool]] = []  # start, end, whether it is a match
    last = 0
    for start, end in matches:
        if last < start:
            pieces.append((last, start, invert))
        pieces.append((start, end, not invert))
        last = end
    if last < len(text) or not pieces:
        pieces.append((last, len(text), invert))
    if behavior == "Removed":
        return [(start, end) for start, end, match in pieces if not match]
    if behavior == "Isolated":
        return [(start, end) for start, end, _ in pieces]
    cuts: list[list[int]] = []
    before = False
    backward = behavior == "MergedWithNext"
    for start, end, match in reversed(pieces) if backward else pieces:
        joins = match == before if behavior == "Contiguous" else match and not before
        before = match
        if joins and cuts:
            cuts[-1][0 if backward else 1] = start if backward else end
        else:
            cuts.append([start, end])
    return [(start, end) for start, end in (reversed(cuts) if backward else cuts)]


def splitter(find: Finder, behavior: str, invert: bool = False) -> PreTokenizer:
    def split(part: Part) -> list[Part]:
        matches = find(part.text)
        if not matches and part.text:
            return [] if behavior == "Removed" and invert else [part]
        cuts = cut_matches(part.text, matches, behavior, invert)
        return [part.cut(start, end) for start, end in cuts if start < end]

    return split


def class_finder(pattern: str) -> Finder:
    return lambda text: [match.span() for match in tables.class_for(pattern, text).finditer(text)]


def read_behavior(value: Any, where: str) -> str:
    for name in BEHAVIORS:
        if str(value).replace("_", "").lower() == name.lower():
            return name
    raise NotUnderstood(f"{where}: behavior {value!r}")


def read_split(part: Json, where: str) -> PreTokenizer:
    fields = read_fields(part, where, pattern=None, behavior="Isolated", invert=False)
    pattern = read_pattern(fields["pattern"], where)
    return splitter(pattern.matches, read_behavior(fields["behavior"], where), fields["invert"])


def read_byte_level(part: Json, where: str) -> PreTokenizer:
    fields = read_fields(part, where, add_prefix_space=True, trim_offsets=True, use_regex=True)
    pattern = read_pattern({"Regex": GPT2}, where)
    split = splitter(pattern.matches, "Isolated")

    def cut(part: Part) -> list[Part]:
        text, spans = part.text, part.spans
        if fields["add_prefix_space"] and not text.startswith(" "):
            text, spans = editing.prepend(text, spans, " ")
        whole = Part(text, spans)
        pieces = split(whole) if fields["use_regex"] else [whole]
        return [Part(*to_byte_chars(piece.text, piece.spans)) for piece in pieces]

    return cut


def split_words(part: Part) -> list[Part]:
    """The words between white space."""
    pattern = tables.compile_class(f"[^{tables.SPACES}]+")
    if part.spans is None:
        return [Part(word, None) for word in pattern.findall(part.text)]
    return [part.cut(*match.span()) for match in pattern.finditer(part.text)]


def read_whitespace_split(part: Json, where: str) -> PreTokenizer:
    read_fields(part, where)
    return split_words


def read_whitespace(part: Json, where: str) -> PreTokenizer:
    read_fields(part, where)
    pattern = read_pattern({"Regex": "x"}, where)
    pattern.compiled = tables.compile_regex(r"\w+|[^\w\s]+")
    return splitter(pattern.matches, "Removed", invert=True)


def read_bert(part: Json, where: str) -> PreTokenizer:
    read_fields(part, where)
    marks = splitter(class_finder(tables.PUNCTUATION), "Isolated")
    return lambda part: [piece for word in split_words(part) for piece in marks(word)]


def read_punctuation(part: Json, where: str) -> PreTokenizer:
    fields = read_fields(part, where, behavior="Isolated")
    return splitter(class_finder(tables.PUNCTUATION), read_behavior(fields["behavior"], where))


def read_digits(part: Json, where: str) -> PreTokenizer:
    single = read_fields(part, where, individual_digits=False)["individual_digits"]
    return splitter(class_finder(tables.NUMBERS), "Isolated" if single else "Contiguous")


def read_char_delimiter(part: Json, where: str) -> PreTokenizer:
    delimiter = read_fields(part, where, delimiter="")["delimiter"]
    return splitter(read_pattern({"String": delimiter}, where).matches, "Removed")


def read_metaspace(part: Json, where: str) -> PreTokenizer:
    """Spaces become ▁, with one in front; old files have `add_prefix_space`."""
    fields = read_fields(part, where, **METASPACE_FIELDS)
    mark, scheme = fields["replacement"], fields["prepend_scheme"]
    if fields["add_prefix_space"] is False:
        if scheme not in {None, "never"}:
            raise NotUnderstood(f"{where}: add_prefix_space false with {scheme}")
        scheme = "never"
    scheme = scheme or "always"
    if scheme not in {"always", "never", "first"} or fields["str_rep"] not in {None, mark}:
        raise NotUnderstood(f"{where}: prepend_scheme {scheme!r}")
    split = splitter(read_pattern({"String": mark}, where).matches, "MergedWithNext")

    def cut(part: Part) -> list[Part]:
        text, spans = part.text.replace(" ", mark), part.spans
        if not text.startswith(mark) and (
            scheme == "always" or (scheme == "first" and spans and spans[0][0] == 0)
        ):
            text, spans = editing.prepend(text, spans, mark)
        whole = Part(text, spans)
        # Most words have one mark, in front.
        return split(whole) if fields["split"] and mark in text[1:] else [whole]

    return cut


PRE_TOKENIZERS: dict[str, Callable[[Json, str], PreTokenizer]] = {
    "Split": read_split,
    "ByteLevel": read_byte_level,
    "WhitespaceSplit": read_whitespace_split,
    "Whitespace": read_whitespace,
    "BertPreTokenizer": read_bert,
    "Punctuation": read_punctuation,
    "Digits": read_digits,
    "CharDelimiterSplit": read_char_delimiter,
    "Metaspace": read_metaspace,
}
