"""The post-processors of a tokenizer.json: tokens around a text, and offsets without spaces."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from dlkit.tokenize import unicode_tables as tables
from dlkit.tokenize.alphabet import BYTE_TO_CHAR
from dlkit.tokenize.pipeline.fields import Json, NotUnderstood, parts_of, read_fields
from dlkit.tokenize.pipeline.text import Span

Spanned = list[tuple[int, Span]]  # ids with their offsets
BLANKS = tables.SPACES + BYTE_TO_CHAR[32]


@dataclass
class PostProcessor:
    """The treatment of the ids of a text: `template` holds ids, and None for those of the text."""

    template: list[int | None] = field(default_factory=lambda: [None])
    trims: list[bool] = field(default_factory=list)  # for each trim: a space was added in front

    def add(self, ids: list[int]) -> list[int]:
        """The ids with the tokens that the file puts around a text."""
        if self.template == [None]:
            return ids
        return [i for slot in self.template for i in (ids if slot is None else [slot])]

    def add_spans(self, found: Spanned) -> Spanned:
        """`add` for ids with offsets; added tokens cover nothing."""
        return [
            pair for slot in self.template for pair in (found if slot is None else [(slot, (0, 0))])
        ]

    def trim(self, found: Spanned, texts: Sequence[str]) -> Spanned:
        """The offsets without the spaces at both ends of a token, if the file sets it."""
        for added_space in self.trims:
            found = [
                (i, trim_span(text, span, added_space, number == 0))
                for number, ((i, span), text) in enumerate(zip(found, texts, strict=True))
            ]
        return found


def trim_span(token: str, span: Span, added_space: bool, first: bool) -> Span:
    leading = len(token) - len(token.lstrip(BLANKS))
    trailing = len(token) - len(token.rstrip(BLANKS))
    start, end = span
    if leading:
        if leading == 1 and added_space and (first or start == 0):
            leading = 0  # the space that was added in front
        start = min(start + leading, end)
    if trailing and end >= trailing:
        end = max(end - trailing, start)
    return start, end


def read_post_processor(part: Json | None) -> PostProcessor:
    """The post-processors of a file, together."""
    all_parts = PostProcessor()
    for one in parts_of(part, "processors"):
        kind = one["type"]
        where = f"post_processor {kind}"
        if kind == "ByteLevel":
            fields = read_fields(
                one, where, add_prefix_space=True, trim_offsets=True, use_regex=True
            )
            if fields["trim_offsets"]:
                all_parts.trims.append(fields["add_prefix_space"])
            continue
        if kind in {"BertProcessing", "RobertaProcessing"}:
            fields = read_fields(
                one, where, sep=None, cls=None, trim_offsets=True, add_prefix_space=True
            )
            if kind == "RobertaProcessing" and fields["trim_offsets"]:
                all_parts.trims.append(fields["add_prefix_space"])
            template = [fields["cls"][1], None, fields["sep"][1]]
        elif kind == "TemplateProcessing":
            template = read_template(one, where)
        else:
            raise NotUnderstood(where)
        before = all_parts.template
        all_parts.template = [i for slot in template for i in (before if slot is None else [slot])]
    return all_parts


def read_template(part: Json, where: str) -> list[int | None]:
    """The template of one text."""
    fields = read_fields(part, where, single=[], pair=[], special_tokens={})
    template: list[int | None] = []
    for piece in fields["single"]:
        if "SpecialToken" in piece:
            template += fields["special_tokens"][piece["SpecialToken"]["id"]]["ids"]
        elif piece.get("Sequence", {}).get("id") == "A":
            template.append(None)
        else:
            raise NotUnderstood(f"{where}: single")
    return template
