"""The normalizers of a tokenizer.json: each a function of a text and its spans."""

import base64
import struct
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from dlkit.tokenize import unicode_tables as tables
from dlkit.tokenize.alphabet import BYTE_TO_CHAR
from dlkit.tokenize.pipeline import text as editing
from dlkit.tokenize.pipeline.fields import Json, NotUnderstood, parts_of, read_fields
from dlkit.tokenize.pipeline.oniguruma import Pattern
from dlkit.tokenize.pipeline.text import Spans

Normalizer = Callable[[str, Spans], tuple[str, Spans]]
PROBES = ("", "a", " a  b\n", "a-1.b", "1234567 12", "É é日本 ½²_A")


def read_normalizers(part: Json | None) -> list[Normalizer]:
    """The normalizers of a file, in their order."""
    found = []
    for one in parts_of(part, "normalizers"):
        kind = one["type"]
        if kind not in NORMALIZERS:
            raise NotUnderstood(f"normalizer {kind}")
        found.append(NORMALIZERS[kind](one, f"normalizer {kind}"))
    return found


def apply(normalizers: list[Normalizer], text: str, spans: Spans) -> tuple[str, Spans]:
    for normalizer in normalizers:
        text, spans = normalizer(text, spans)
    return text, spans


def read_form(form: str) -> Callable[[Json, str], Normalizer]:
    """A Unicode form, as of the Unicode version that the library knows."""

    def normalize(text: str, spans: Spans) -> tuple[str, Spans]:
        if text.isascii():
            return text, spans
        whole = tables.normalize_form(form, text)
        if spans is None or whole == text:
            return whole, spans
        return editing.change(text, spans, form_changes(form, text))

    def read(part: Json, where: str) -> Normalizer:
        read_fields(part, where)
        return normalize

    return read


def form_changes(form: str, text: str) -> Iterator[tuple[str, int]]:
    """The characters of the form with the numbers of `editing.change`."""
    decompose = "NFKD" if "K" in form else "NFD"
    ordered: list[tuple[str, int]] = []
    marks: list[tuple[int, str, int]] = []

    def flush() -> None:
        marks.sort(key=lambda mark: mark[0])
        ordered.extend((char, number) for _, char, number in marks)
        marks.clear()

    for char in text:
        for place, new in enumerate(tables.normalize_form(decompose, char)):
            order = tables.combining_class(new)
            if order == 0:
                flush()
                ordered.append((new, min(place, 1)))
            else:
                marks.append((order, new, min(place, 1)))
    flush()
    return compose(ordered) if form.endswith("C") else iter(ordered)


def compose(ordered: list[tuple[str, int]]) -> Iterator[tuple[str, int]]:
    """Unicode's canonical composition."""
    base: tuple[str, int] | None = None
    waiting: list[tuple[str, int]] = []
    last = 0  # the class of the last mark that waits
    for char, number in ordered:
        order = tables.combining_class(char)
        if base is None:
            if order:
                yield char, number
            else:
                base = char, number
            continue
        if not waiting or last < order:
            one = tables.normalize_form("NFC", base[0] + char)
            if len(one) == 1:
                base = one, base[1] + number - 1
                continue
        if order == 0:
            yield base
            yield from waiting
            base, waiting = (char, number), []
        else:
            waiting.append((char, number))
            last = order
    if base is not None:
        yield base
    yield from waiting


def lower_changes(text: str) -> Iterator[tuple[str, int]]:
    for char in text:
        for place, new in enumerate(tables.lower(char)):
            yield new, min(place, 1)


def lower(text: str, spans: Spans) -> tuple[str, Spans]:
    if spans is None or text.isascii():
        return tables.lower(text), spans
    return editing.change(text, spans, lower_changes(text))


def read_lowercase(part: Json, where: str) -> Normalizer:
    read_fields(part, where)
    return lower


def read_strip(part: Json, where: str) -> Normalizer:
    fields = read_fields(part, where, strip_left=True, strip_right=True)

    def strip(text: str, spans: Spans) -> tuple[str, Spans]:
        start, end = 0, len(text)
        if fields["strip_left"]:
            start = end - len(text.lstrip(tables.SPACES))
        if fields["strip_right"]:
            end = max(start, len(text.rstrip(tables.SPACES)))
        return text[start:end], spans and spans[start:end]

    return strip


def keep_others(pattern: str) -> Normalizer:
    """Remove the characters of a class."""

    def remove(text: str, spans: Spans) -> tuple[str, Spans]:
        unwanted = tables.class_for(pattern, text)
        if spans is None:
            return unwanted.sub("", text), None
        return editing.keep(text, spans, (not unwanted.match(char) for char in text))

    return remove


def read_strip_accents(part: Json, where: str) -> Normalizer:
    read_fields(part, where)
    return keep_others(tables.MARKS)


def read_replace(part: Json, where: str) -> Normalizer:
    fields = read_fields(part, where, pattern=None, content="")
    pattern, content = read_pattern(fields["pattern"], where), fields["content"]
    for text in PROBES:
        if any(start == end for start, end in pattern.matches(text)):
            raise NotUnderstood(f"{where}: {fields['pattern']}, which matches no characters")

    def replace(text: str, spans: Spans) -> tuple[str, Spans]:
        return editing.replace(text, spans, pattern.matches(text), content)

    literal = fields["pattern"].get("String")
    if not literal:
        return replace
    return lambda text, spans: (
        (text.replace(literal, content), None) if spans is None else replace(text, spans)
    )


def read_pattern(pattern: Any, where: str) -> Pattern:
    """A pattern of a Split or Replace: a literal text, or a regular expression."""
    if not isinstance(pattern, dict) or len(pattern) != 1:
        raise NotUnderstood(f"{where}: pattern")
    ((kind, value),) = pattern.items()
    if kind not in {"String", "Regex"} or not value:
        raise NotUnderstood(f"{where}: pattern {kind} {value!r}")
    return Pattern(value, kind == "String")


def read_prepend(part: Json, where: str) -> Normalizer:
    before = read_fields(part, where, prepend="")["prepend"]
    return lambda text, spans: editing.prepend(text, spans, before)


def read_byte_level(part: Json, where: str) -> Normalizer:
    read_fields(part, where)
    return to_byte_chars


def to_byte_chars(text: str, spans: Spans) -> tuple[str, Spans]:
    """GPT-2's character for each byte."""
    encoded = text.encode("utf-8", "surrogateescape")
    chars = "".join(map(BYTE_TO_CHAR.__getitem__, encoded))
    if spans is None or text.isascii():
        return chars, spans
    new = []
    for char, span in zip(text, spans, strict=True):
        new += [span] * len(char.encode("utf-8", "surrogateescape"))
    return chars, new


def read_bert(part: Json, where: str) -> Normalizer:
    """BERT's four switches; accents go with case unless the file sets them."""
    fields = read_fields(
        part, where, clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=True
    )
    steps: list[Normalizer] = []
    if fields["clean_text"]:
        steps += [keep_others(tables.CONTROL), blank_spaces]
    if fields["handle_chinese_chars"]:
        steps.append(space_chinese)
    accents = fields["strip_accents"]
    if fields["lowercase"] if accents is None else accents:
        steps += [read_form("NFD")({}, where), keep_others(tables.NONSPACING)]
    if fields["lowercase"]:
        steps.append(lower)
    return lambda text, spans: apply(steps, text, spans)


def blank_spaces(text: str, spans: Spans) -> tuple[str, Spans]:
    return text.translate(tables.TO_BLANK), spans


def space_chinese(text: str, spans: Spans) -> tuple[str, Spans]:
    pattern = tables.class_for(tables.CHINESE, text)
    if text.isascii() or not pattern.search(text):
        return text, spans
    if spans is None:
        return pattern.sub(r" \g<0> ", text), None
    new = [s for c, s in zip(text, spans, strict=True) for _ in range(3 if pattern.match(c) else 1)]
    return pattern.sub(r" \g<0> ", text), new


NMT_REMOVED = tables.class_of("1-8 b e-1f 7f 8f 9f")
NMT_BLANK = (
    "[\t\n\x0c\r\u1680\u200b-\u200f\u2028\u2029\u2581\ufeff\ufffd]"  # one space for each of them
)


def read_nmt(part: Json, where: str) -> Normalizer:
    read_fields(part, where)
    remove = keep_others(NMT_REMOVED)
    blank = tables.compile_class(NMT_BLANK)

    def clean(text: str, spans: Spans) -> tuple[str, Spans]:
        text, spans = remove(text, spans)
        return blank.sub(" ", text), spans

    return clean


def read_precompiled(part: Json, where: str) -> Normalizer:
    """sentencepiece's table of replacements: a double-array trie and texts that end in NUL."""
    packed = base64.b64decode(
        read_fields(part, where, precompiled_charsmap="")["precompiled_charsmap"]
    )
    if len(packed) < 4:
        raise NotUnderstood(f"{where}: an empty precompiled_charsmap")
    (size,) = struct.unpack("<I", packed[:4])
    trie = struct.unpack(f"<{size // 4}I", packed[4 : 4 + size])
    texts = packed[4 + size :]

    @cache
    def find(chunk: str) -> str | None:
        """The replacement of the shortest beginning of the chunk that has one."""
        at = offset(trie[0])
        for byte in chunk.encode("utf-8", "replace"):
            if byte == 0:
                return None
            at ^= byte
            if at >= len(trie) or trie[at] & 0x800000FF != byte:
                return None
            leaf = trie[at] >> 8 & 1
            at ^= offset(trie[at])
            if leaf:
                start = trie[at] & 0x7FFFFFFF
                return texts[start : texts.index(b"\0", start)].decode()
        return None

    def has_replacement(char: str) -> bool:
        return find(char) is not None

    def changes(text: str) -> Iterator[tuple[str, int]]:
        for cluster in tables.graphemes(text):
            chunks = [cluster]
            if len(cluster.encode("utf-8", "replace")) >= 6 or find(cluster) is None:
                chunks = list(cluster)
            for chunk in chunks:
                new = find(chunk)
                if new is None:
                    yield chunk, 0
                    continue
                more = len(new) - len(chunk)
                numbers = [0] * (len(new) - max(more, 0)) + [1] * max(more, 0)
                if more < 0 and numbers:
                    numbers[-1] += more
                yield from zip(new, numbers, strict=True)

    def replace(text: str, spans: Spans) -> tuple[str, Spans]:
        if text.isascii() and "\r\n" not in text and not any(map(has_replacement, set(text))):
            return text, spans
        if spans is None:
            return "".join(char for char, _ in changes(text)), None
        return editing.change(text, spans, changes(text))

    return replace


def offset(unit: int) -> int:
    """The place where a unit of the double array continues."""
    return unit >> 10 << ((unit & 0x200) >> 6)


NORMALIZERS: dict[str, Callable[[Json, str], Normalizer]] = {
    **{form: read_form(form) for form in ("NFC", "NFD", "NFKC", "NFKD")},
    "Lowercase": read_lowercase,
    "Strip": read_strip,
    "StripAccents": read_strip_accents,
    "Replace": read_replace,
    "Prepend": read_prepend,
    "ByteLevel": read_byte_level,
    "BertNormalizer": read_bert,
    "Nmt": read_nmt,
    "Precompiled": read_precompiled,
}
