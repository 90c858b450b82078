"""More tokens for a tokenizer that exists: its other tokens keep their ids."""

import base64
import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace

from dlkit.core.errors import DlkitError
from dlkit.tokenize import sentencepiece_model as proto
from dlkit.tokenize.alphabet import WORD_START
from dlkit.tokenize.model import ALGORITHMS, HuggingFace, SentencePiece, Tokenizer, WordLevel
from dlkit.tokenize.normalize import normalize
from dlkit.tokenize.proof import TEXTS


@dataclass(frozen=True)
class Change:
    """A changed tokenizer; `origins` are for each of its ids those that it replaces before."""

    tokenizer: Tokenizer
    origins: list[list[int]]  # one id: the same token; several: a new token of these pieces
    known: list[str]  # texts that are one token already


def extend(tokenizer: Tokenizer, tokens: Sequence[str], special: Sequence[str] = ()) -> Change:
    """Add tokens to a tokenizer: `tokens` are found in every text, `special` ones if asked for.

    Added tokens are found in a text as they are written, before it is normalized and split, the
    longest one first; a whole word of a tokenizer of words is found as its other words are. A
    text that is one token already stays that token. Raises DlkitError for a
    token without text, or one that cannot be added, and where nothing is left to add.
    """
    new, known = choose_new(tokenizer, tokens, special)
    if not new:
        raise DlkitError("nothing to add: each of these is one token already")
    origins = [[i] for i in range(max(tokenizer.names) + 1)]
    for name in new:
        origins.append(tokenizer.encode(name))
    extended = add_tokens(tokenizer, {n: n in special for n in new}, len(origins) - len(new))
    check(tokenizer, extended, new)
    return Change(extended, origins, known)


def choose_new(
    tokenizer: Tokenizer, tokens: Sequence[str], special: Sequence[str]
) -> tuple[list[str], list[str]]:
    """The texts that are no token yet, and those that are one, each once."""
    new, known = [], []
    for name in dict.fromkeys([*tokens, *special]):
        if not name:
            raise DlkitError("an empty token cannot be added")
        if name in tokens and name in special:
            raise DlkitError(f"{name!r} is given as a token and as a special token; choose one")
        ids = tokenizer.encode(name, parse_special=True)
        one = len(ids) == 1 and ids[0] != tokenizer.unknown_id
        listed = isinstance(tokenizer, HuggingFace | SentencePiece) and name in tokenizer.vocab
        if (one or listed) and (name in tokenizer.special) == (name in special):
            known.append(name)
        elif name in {*tokenizer.vocab, *tokenizer.special, *tokenizer.added}:
            raise DlkitError(f"{name!r} is the name of another token in this vocabulary")
        else:
            new.append(name)
    return new, known


def add_tokens(tokenizer: Tokenizer, new: dict[str, bool], first: int) -> Tokenizer:
    """The tokenizer with these tokens, each special or not, with ids from `first` on."""
    header = replace(tokenizer.header, settings={**tokenizer.header.settings}, metrics={})
    ids = {name: first + n for n, name in enumerate(new)}
    if isinstance(tokenizer, HuggingFace):
        file = copy.deepcopy(tokenizer.file)
        flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        listed = [
            {"id": ids[name], "content": name, **flags, "special": special}
            for name, special in new.items()
        ]
        file["added_tokens"] = [*(file.get("added_tokens") or ()), *listed]
        return HuggingFace(header, file)
    if isinstance(tokenizer, SentencePiece):
        kinds = {True: proto.CONTROL, False: proto.USER_DEFINED}
        pieces = [
            proto.Piece(name if special else name.replace(" ", WORD_START), 0.0, kinds[special])
            for name, special in new.items()
        ]
        model = proto.add_pieces(base64.b64decode(tokenizer.model), pieces)
        return SentencePiece(header, base64.b64encode(model).decode())
    special = {**tokenizer.special, **{n: i for n, i in ids.items() if new[n]}}
    plain = {name: i for name, i in ids.items() if not new[name]}
    words = {name: i for name, i in plain.items() if is_word(tokenizer, name)}
    added = {**tokenizer.added, **{n: i for n, i in plain.items() if n not in words}}
    vocab = {**tokenizer.vocab, **words}
    return ALGORITHMS[tokenizer.algorithm](header, vocab, special, tokenizer.merges, added)


def is_word(tokenizer: Tokenizer, name: str) -> bool:
    """Whether a tokenizer of words or characters has this text as one pre-token."""
    plain = normalize(name, tokenizer.normalization)
    return (
        isinstance(tokenizer, WordLevel) and plain == name and tokenizer.pretokenize(name) == [name]
    )


def check(before: Tokenizer, after: Tokenizer, new: Sequence[str]) -> None:
    """Raise DlkitError unless each new token is found, and other texts keep their ids."""
    for name in new:
        ids = after.encode(name, parse_special=True)
        if ids[-1:] != [max(before.names) + 1 + new.index(name)]:
            raise DlkitError(f"{name!r} cannot be added: its text is encoded as {ids[:5]}")
    for text in TEXTS:
        if not any(name in text for name in new):
            try:
                expected = before.encode(text)
            except DlkitError:  # a character without a token
                continue
            if after.encode(text) != expected:
                raise DlkitError(f"with these tokens the text {text[:40]!r} has other ids")


def same_tokenizer(one: Tokenizer, other: Tokenizer) -> bool:
    """Whether two tokenizers are equal but for their cards."""
    contents = [tokenizer.content() for tokenizer in (one, other)]
    for content in contents:
        header = content.pop("header")
        content["settings"] = header["arch"], header["settings"]
    return contents[0] == contents[1]
