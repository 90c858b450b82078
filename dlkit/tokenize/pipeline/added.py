"""Added tokens of a tokenizer.json: found in the text before anything else is done to it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from dlkit.core.errors import DlkitError
from dlkit.tokenize import unicode_tables as tables
from dlkit.tokenize.pipeline.fields import Json, NotUnderstood, read_fields
from dlkit.tokenize.pipeline.normalizers import Normalizer, apply
from dlkit.tokenize.pipeline.text import Part
from dlkit.tokenize.schema import LARGEST_ID


@dataclass(frozen=True)
class AddedToken:
    """A token that the text is cut at."""

    id: int
    content: str
    special: bool
    lstrip: bool
    rstrip: bool
    single_word: bool
    normalized: bool


def read_added_tokens(content: Json) -> list[AddedToken]:
    """The added tokens of a file. A token that has an id in the model keeps it."""
    found: dict[str, AddedToken] = {}
    vocab = model_vocab(content["model"])
    following = len(vocab)
    for token in content.get("added_tokens") or ():
        fields = read_fields(
            token,
            "added_tokens",
            id=None,
            content="",
            special=False,
            lstrip=False,
            rstrip=False,
            single_word=False,
            normalized=not token.get("special", False),
        )
        name, number = fields["content"], fields["id"]
        if not name:
            continue
        if number != vocab.get(name, found[name].id if name in found else following):
            raise NotUnderstood(f"added_tokens: the id {number} of {name!r}, not the next one")
        following = max(following, number + 1)
        found[name] = AddedToken(**fields)
    return list(found.values())


def check_types(content: Json) -> None:
    """Raise DlkitError for tokens that are no texts, and ids that are no numbers."""
    vocab = content["model"].get("vocab") or {}
    pairs = vocab.items() if isinstance(vocab, dict) else vocab
    kinds = (int,) if isinstance(vocab, dict) else (int, float)
    listed = [(token["content"], token["id"]) for token in content.get("added_tokens") or ()]
    for token, number in [*pairs, *listed]:
        good = isinstance(token, str) and type(number) in kinds and number == number
        if not good or (kinds == (int,) and not 0 <= number < LARGEST_ID):
            raise DlkitError(f"the token {str(token)[:40]!r} has the id or score {number!r}")
    for name, i in listed:
        if type(i) is not int or not 0 <= i < LARGEST_ID:
            raise DlkitError(f"the token {name[:40]!r} has the id {i!r}")


def model_vocab(model: Json) -> dict[str, int]:
    """The tokens of the model with their ids."""
    vocab = model.get("vocab") or {}
    if isinstance(vocab, dict):
        return vocab
    return {token: i for i, (token, _) in enumerate(vocab)}


class Finder:
    """The added tokens that are looked for in the text as it is, or as it is normalized."""

    def __init__(self, tokens: list[AddedToken], normalizers: list[Normalizer]) -> None:
        self.tokens: dict[str, AddedToken] = {}
        for token in tokens:
            text = apply(normalizers, token.content, None)[0] if normalizers else token.content
            if not text:  # the library finds it between any two characters
                raise NotUnderstood(f"added_tokens: {token.content!r}, nothing once normalized")
            other = self.tokens.setdefault(text, token)
            if other.content != token.content:  # the library takes any of them
                raise NotUnderstood(
                    f"added_tokens: {other.content!r} and {token.content!r}, equal once normalized"
                )
        longest_first = sorted(self.tokens, key=len, reverse=True)
        self.pattern = (
            re.compile("|".join(map(re.escape, longest_first))) if longest_first else None
        )

    def cut(self, part: Part, parse_special: bool) -> Iterator[Part]:
        """The part, cut at the tokens in it; special ones only with `parse_special`."""
        if self.pattern is None or not self.pattern.search(part.text):
            yield part
            return
        text, last = part.text, 0
        for match in self.pattern.finditer(text):
            token = self.tokens[match[0]]
            start, end = match.span()
            if token.special and not parse_special:
                continue
            if token.single_word and not is_word(text, start, end):
                continue
            if token.lstrip:
                while start > last and text[start - 1] in tables.SPACES:
                    start -= 1
                start = max(start, last)
            if token.rstrip:
                while end < len(text) and text[end] in tables.SPACES:
                    end += 1
            if last < start:
                yield part.cut(last, start)
            if start < end:
                found = part.cut(start, end)
                found.token = token.id
                yield found
            last = end
        if last < len(text):
            yield part.cut(last, len(text))


def is_word(text: str, start: int, end: int) -> bool:
    """Whether no letter or digit touches this stretch."""
    word = tables.compile_regex(r"\w")
    return not (
        (start > 0 and word.match(tables.hide_new_characters(text[start - 1])))
        or (end < len(text) and word.match(tables.hide_new_characters(text[end])))
    )
