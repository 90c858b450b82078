"""The inside of a tokenizer: its vocabulary, its merges, and the merges of one word."""

from collections.abc import Iterator
from dataclasses import dataclass

from dlkit.core.errors import DlkitError
from dlkit.tokenize import bpe
from dlkit.tokenize.infer import format_token
from dlkit.tokenize.model import BPE, Tokenizer
from dlkit.tokenize.normalize import normalize

LONGEST_SHOWN = 1000  # characters of a pre-token


@dataclass(frozen=True)
class Entry:
    """A token of the vocabulary."""

    id: int
    token: str
    kind: str  # special, added or token


@dataclass(frozen=True)
class MergeRow:
    """A merge, and its rank in the order of learning."""

    rank: int
    left: str
    right: str
    token: str


@dataclass(frozen=True)
class Step:
    """The word after a merge; `rank` is that of the merge."""

    merge: str
    rank: int | None
    word: str


def vocabulary(tokenizer: Tokenizer) -> Iterator[Entry]:
    """All tokens by id."""
    for i, token in sorted(tokenizer.names.items()):
        kind = "special" if token in tokenizer.special else "token"
        yield Entry(i, format_token(token), "added" if token in tokenizer.added else kind)


def merges(tokenizer: Tokenizer) -> Iterator[MergeRow]:
    """The merges, in the order in which they were learned."""
    if not tokenizer.merges:
        raise DlkitError(f"a tokenizer of kind {tokenizer.algorithm} has no list of merges")
    for rank, (left, right) in enumerate(tokenizer.merges):
        yield MergeRow(rank, *map(format_token, (left, right, left + right)))


def steps(tokenizer: Tokenizer, word: str) -> Iterator[Step]:
    """The merges that build each pre-token of `word`; only the result if there are none.

    Raises DlkitError for a pre-token of more than LONGEST_SHOWN characters, since the word is
    repeated after each merge.
    """

    def join(ids: list[int]) -> str:
        return " ".join(format_token(tokenizer.names[i]) for i in ids)

    pieces = tokenizer.pretokenize(normalize(word, tokenizer.normalization))
    if (longest := max(map(len, pieces), default=0)) > LONGEST_SHOWN:
        raise DlkitError(f"a word of {longest} characters; at most {LONGEST_SHOWN} are shown")
    for piece in pieces:
        if not isinstance(tokenizer, BPE):
            yield Step("", None, join(tokenizer.piece_ids(piece)))
            continue
        before: list[int] = []
        for ids in bpe.merge_steps(tokenizer.initial_ids(piece), tokenizer.ranks):
            if before:
                at = next(k for k, i in enumerate(ids) if i != before[k] or k + 1 == len(ids))
                left, right = pair = before[at], before[at + 1]
                names = format_token(tokenizer.names[left]), format_token(tokenizer.names[right])
                yield Step(" + ".join(names), tokenizer.ranks[pair][0], join(ids))
            else:
                yield Step("", None, join(ids))
            before = ids
