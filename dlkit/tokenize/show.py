"""Looking inside a tokenizer: its vocabulary, its merges, and how it builds one word."""

from collections.abc import Iterator
from dataclasses import dataclass

from dlkit.core.errors import DlkitError
from dlkit.tokenize import bpe
from dlkit.tokenize.infer import shown
from dlkit.tokenize.model import ByteBPE, CharBPE, Tokenizer, as_chars
from dlkit.tokenize.normalize import normalize


@dataclass(frozen=True)
class Entry:
    id: int
    token: str
    kind: str  # special, or what it is made of


@dataclass(frozen=True)
class MergeRow:
    rank: int
    left: str
    right: str
    token: str


@dataclass(frozen=True)
class Step:
    """The word after a merge; `rank` is the merge's place among those learned."""

    merge: str
    rank: int | None
    word: str


def vocabulary(tokenizer: Tokenizer) -> Iterator[Entry]:
    """All tokens by id."""
    for i, token in sorted(tokenizer.names.items()):
        yield Entry(i, shown(token), "special" if token in tokenizer.special else "token")


def merges(tokenizer: Tokenizer) -> Iterator[MergeRow]:
    """The merges, in the order in which they were learned."""
    if not tokenizer.merges:
        raise DlkitError(f"a tokenizer of kind {tokenizer.algorithm} has no list of merges")
    for rank, (left, right) in enumerate(tokenizer.merges):
        yield MergeRow(rank, shown(left), shown(right), shown(left + right))


def steps(tokenizer: Tokenizer, word: str) -> Iterator[Step]:
    """How each pre-token of `word` is built, merge by merge; other kinds show the result only."""
    for piece in tokenizer.cut(normalize(word, tokenizer.normalization)):
        if not isinstance(tokenizer, ByteBPE | CharBPE):
            names = [tokenizer.names[i] for i in tokenizer.piece_ids(piece)]
            yield Step("", None, " ".join(map(shown, names)))
            continue
        symbols = (
            list(as_chars(piece.encode("utf-8", "surrogateescape")))
            if isinstance(tokenizer, ByteBPE)
            else tokenizer.symbols(piece)
        )
        ids = [tokenizer.vocab.get(symbol, tokenizer.unknown_id) for symbol in symbols]
        before: list[int] = []
        for word_ids in bpe.merge_steps([i for i in ids if i is not None], tokenizer.ranks):
            merge, rank = "", None
            if before:
                at = next(
                    k for k, i in enumerate(word_ids) if i != before[k] or k + 1 == len(word_ids)
                )
                pair = before[at], before[at + 1]
                rank = tokenizer.ranks[pair][0]
                merge = " + ".join(shown(tokenizer.names[i]) for i in pair)
            yield Step(merge, rank, " ".join(shown(tokenizer.names[i]) for i in word_ids))
            before = word_ids
