"""A vocabulary cut to a corpus: the tokens that it uses, and all that is needed to encode.

A token is kept with its parents: for BPE the tokens that are merged to it one after another, down
to bytes or characters. So a text whose tokens are all kept is encoded as before: the same merges
apply, the longest match and the best path are the same.
"""

import base64
import copy
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from dlkit.core.errors import DlkitError
from dlkit.core.io import text as reading
from dlkit.core.progress import Bar
from dlkit.tokenize import sentencepiece_model as proto
from dlkit.tokenize.alphabet import INSIDE, WORD_END
from dlkit.tokenize.bpe import Ranks, merge_steps
from dlkit.tokenize.extend import Change
from dlkit.tokenize.model import (
    ALGORITHMS,
    BPE,
    ByteBPE,
    CharBPE,
    HuggingFace,
    SentencePiece,
    TiktokenRanks,
    Tokenizer,
    WordLevel,
    WordPiece,
)
from dlkit.tokenize.pipeline.added import model_vocab
from dlkit.tokenize.pipeline.fields import BPE_FIELDS, parts_of, read_fields
from dlkit.tokenize.pipeline.models import model_type, read_merges

MOST_CHECKED = 1000  # lines of the corpus that are encoded again

Parents = Callable[[int], Iterable[int]]


@dataclass
class Usage:
    """The tokens of a corpus, with how often it has each, and its first lines."""

    counts: Counter[int] = field(default_factory=Counter)
    lines: int = 0
    first: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Needs:
    """The tokens that must stay, and those that each token needs beside it.

    `always` stay; a used token needs its `parents` to be built, and its `letters`, so that its
    text can be encoded without it; None: it cannot be dropped.
    """

    always: set[int]
    parents: Parents
    letters: Callable[[int], Iterable[int] | None]


def count_usage(
    sources: Sequence[str], tokenizer: Tokenizer, errors: str = "strict", workers: int = 2
) -> Usage:
    """The tokens of text files. Raises DlkitError for one that cannot be read."""
    paths = reading.files(sources)
    bar = Bar("counting", reading.size(paths), unit="bytes")
    usage = Usage()
    try:
        for path in paths:
            for block in reading.blocks(path, errors, lambda read: bar.advance(by=read)):
                lines = reading.split_lines(block)
                for ids in tokenizer.encode_batch(lines, workers):
                    usage.counts.update(ids)
                usage.lines += len(lines)
                usage.first += lines[: MOST_CHECKED - len(usage.first)]
    finally:
        bar.close()
    if not usage.counts:
        raise DlkitError("these texts have no tokens", ", ".join(map(str, sources)))
    return usage


def prune(tokenizer: Tokenizer, usage: Usage, size: int | None = None) -> Change:
    """Keep the `size` most used tokens; without a size all that are used, and no others.

    Bytes, special and added tokens are always kept, and where there is no token for unknown text
    all characters. The ids are numbered from 0 again, in the same order. Where a corpus has
    fewer tokens than `size`, the first of the others are kept as well.

    Raises DlkitError for a size that is too small or not smaller than the vocabulary, and for a
    tokenizer that cannot be cut.
    """
    total = len(tokenizer.names)
    if size is not None and size >= total:
        raise DlkitError(f"--size {size}: the vocabulary has {total} tokens already")
    needs = needs_of(tokenizer)
    kept = choose(needs, usage.counts, sorted(tokenizer.names), size)
    order = sorted(kept)
    ids = {old: new for new, old in enumerate(order)}
    pruned = keep_tokens(tokenizer, ids)
    check(tokenizer, pruned, ids, usage.first)
    return Change(pruned, [[i] for i in order], [])


def choose(
    needs: Needs, counts: Mapping[int, int], known: Sequence[int], size: int | None
) -> set[int]:
    """The ids to keep."""

    def family(i: int) -> set[int]:
        found, waiting = set(), [i]
        while waiting:
            one = waiting.pop()
            if one not in found and one not in kept:
                found.add(one)
                waiting += needs.parents(one)
        return found

    kept: set[int] = set()
    used = sorted(counts, key=lambda i: (-counts[i], i))
    for i in needs.always:
        kept |= family(i)
    for i in used:
        if i not in kept:
            letters = needs.letters(i)
            for letter in [i] if letters is None else letters:
                kept |= family(letter)
    if size is not None and len(kept) > size:
        raise DlkitError(
            f"--size {size} is too small: at least {len(kept)} tokens are needed (bytes, characters"
            " and special tokens)"
        )
    rest = [] if size is None else [i for i in known if i not in counts]
    for i in [*used, *rest]:
        more = family(i)
        if size is None or len(kept) + len(more) <= size:
            kept |= more
    return kept


# ---- what a token needs --------------------------------------------------------------------------


def needs_of(tokenizer: Tokenizer) -> Needs:
    """The needs of the tokens of a tokenizer. Raises DlkitError for one that cannot be cut."""
    always = {*tokenizer.special.values(), *tokenizer.added.values()}
    if isinstance(tokenizer, HuggingFace):
        return file_needs(tokenizer)
    if isinstance(tokenizer, SentencePiece):
        return piece_needs(tokenizer)
    vocab, unknown = tokenizer.vocab, tokenizer.unknown is not None
    if isinstance(tokenizer, BPE):
        suffix = (
            WORD_END if isinstance(tokenizer, CharBPE) and tokenizer.mark == "end-of-word" else ""
        )
        names = {i: token for token, i in vocab.items()}

        def symbols(i: int) -> list[str]:
            return split_symbols(names.get(i, ""), "", suffix)

        return merge_needs(
            vocab, symbols, tokenizer.ranks, always, unknown and not isinstance(tokenizer, ByteBPE)
        )
    if isinstance(tokenizer, WordPiece):
        return Needs(always, no_parents, letters_of(vocab, INSIDE))
    # Words and characters: without a token for unknown text none can be dropped.
    return Needs(always, no_parents, (lambda i: ()) if unknown else (lambda i: None))


def no_parents(i: int) -> tuple[int, ...]:
    return ()


def split_symbols(token: str, prefix: str, suffix: str) -> list[str]:
    """The symbols that a token of BPE is merged from."""
    end = suffix if suffix and token.endswith(suffix) else ""
    begins = bool(prefix) and token.startswith(prefix)
    chars = [*token.removeprefix(prefix if begins else "").removesuffix(end)]
    marked = [char if n == 0 and not begins else prefix + char for n, char in enumerate(chars)]
    if marked and end:
        marked[-1] += end
    return marked


def merge_needs(
    vocab: Mapping[str, int],
    symbols: Callable[[int], Sequence[str]],
    ranks: Ranks,
    always: set[int],
    drops_letters: bool,
) -> Needs:
    """The needs of tokens that are merged: all that are on the way to them.

    The merges inside of a token do not depend on the word around it.
    """

    @cache
    def parents(i: int) -> set[int]:
        start = [vocab[symbol] for symbol in symbols(i) if symbol in vocab]
        last: list[int] = []
        seen: set[int] = set()
        for last in merge_steps(start, ranks):
            seen.update(last)
        # A token that no merges build is one that a whole pre-token is compared with.
        return seen - {i} if last == [i] else set()

    def letters(i: int) -> list[int] | None:
        ids = [vocab.get(symbol) for symbol in symbols(i)]
        return None if None in ids else ids  # type: ignore[return-value]

    if not drops_letters:
        always = always | {i for i in vocab.values() if len(symbols(i)) == 1}
    return Needs(always, parents, letters)


def letters_of(
    vocab: Mapping[str, int], prefix: str, exists: bool = False
) -> Callable[[int], list[int] | None]:
    """The tokens of the single characters of a token; none are needed if bytes exist."""
    names = {i: token for token, i in vocab.items()}

    def letters(i: int) -> list[int] | None:
        ids = [vocab.get(symbol) for symbol in split_symbols(names.get(i, ""), prefix, "")]
        return None if None in ids else ids  # type: ignore[return-value]

    return (lambda i: []) if exists else letters


def file_needs(tokenizer: HuggingFace) -> Needs:
    """The needs of the tokens of a tokenizer.json."""
    if tokenizer.uses_library:
        raise DlkitError(f"{tokenizer.uses_library} is not known to dlkit, so it cannot be cut")
    file, model = tokenizer.file, tokenizer.file["model"]
    kind, vocab = model_type(model), model_vocab(model)
    always = {
        *tokenizer.special.values(),
        *(i for i in tokenizer.processor.template if i is not None),
    }
    always |= {vocab.get(token["content"], token["id"]) for token in file.get("added_tokens") or ()}
    if tokenizer.unknown_id is not None:
        always.add(tokenizer.unknown_id)
    if (file.get("padding") or {}).get("pad_id") in tokenizer.names:
        always.add(file["padding"]["pad_id"])
    fallback = bool(model.get("byte_fallback"))
    if fallback:
        always |= {vocab[name] for b in range(256) if (name := f"<0x{b:02X}>") in vocab}
    if kind == "Unigram":
        return Needs(always | lowest(model["vocab"]), no_parents, letters_of(vocab, "", fallback))
    if kind == "WordPiece":
        prefix = model.get("continuing_subword_prefix", INSIDE)
        return Needs(always, no_parents, letters_of(vocab, prefix))
    if kind == "WordLevel":
        return Needs(always, no_parents, letters_of(vocab, "", exists=True))
    fields = read_fields(model, "model BPE", **BPE_FIELDS)
    prefix, suffix = fields["continuing_subword_prefix"], fields["end_of_word_suffix"]
    names = {i: token for token, i in vocab.items()}
    ranks = {}
    for rank, (left, right) in enumerate(read_merges(model)):
        ranks[vocab[left], vocab[right]] = rank, vocab[left + right[len(prefix) :]]
    parts = [
        *parts_of(file.get("normalizer"), "normalizers"),
        *parts_of(file.get("pre_tokenizer"), "pretokenizers"),
    ]
    bytes_alone = any(part["type"] == "ByteLevel" for part in parts)
    known = fields["unk_token"] in vocab and not bytes_alone

    def symbols(i: int) -> list[str]:
        return split_symbols(names.get(i, ""), prefix, suffix)

    needs = merge_needs(vocab, symbols, ranks, always, known or fallback)
    return replace(needs, letters=lambda i: []) if fallback else needs


def lowest(vocab: Sequence[tuple[str, float]]) -> set[int]:
    """The id of the piece of lowest score, which the score of an unknown character depends on."""
    return {min(range(len(vocab)), key=lambda i: vocab[i][1])} if vocab else set()


def piece_needs(tokenizer: SentencePiece) -> Needs:
    """The needs of the pieces of a sentencepiece model."""
    model = base64.b64decode(tokenizer.model)
    found, kind = proto.pieces(model), proto.model_kind(model)
    if any(piece.type == proto.UNUSED for piece in found):
        raise DlkitError("a sentencepiece model with unused pieces cannot be cut")
    always = {i for i, piece in enumerate(found) if piece.type != proto.NORMAL}
    vocab = {piece.text: i for i, piece in enumerate(found) if i not in always}
    letters = letters_of(vocab, "", any(piece.type == proto.BYTE for piece in found))
    if kind == proto.UNIGRAM:
        least = min(vocab.values(), key=lambda i: found[i].score, default=None)
        return Needs(always | ({least} if least is not None else set()), no_parents, letters)
    if kind != proto.BPE:
        return Needs(always, no_parents, letters_of(vocab, "", exists=True))
    names = {i: token for token, i in vocab.items()}
    ranks = ScoreRanks(vocab, [piece.score for piece in found])
    needs = merge_needs(vocab, lambda i: [*names.get(i, "")], ranks, always, True)
    return replace(needs, letters=letters)


class ScoreRanks(TiktokenRanks):
    """sentencepiece's rule: two pieces merge if together they are a piece, the best score first."""

    def __init__(self, vocab: Mapping[str, int], scores: Sequence[float]) -> None:
        super().__init__(vocab)
        self.scores = scores

    def __getitem__(self, pair: tuple[int, int]) -> tuple[Any, int]:
        _, new = super().__getitem__(pair)
        return -self.scores[new], new


# ---- the tokenizer that is left ------------------------------------------------------------------


def keep_tokens(tokenizer: Tokenizer, ids: Mapping[int, int]) -> Tokenizer:
    """The tokenizer with the tokens in `ids`, which are their new numbers by their old ones."""
    header = replace(tokenizer.header, settings={**tokenizer.header.settings}, metrics={})
    if isinstance(tokenizer, HuggingFace):
        return HuggingFace(header, keep_in_file(tokenizer, ids))
    if isinstance(tokenizer, SentencePiece):
        model = proto.keep_pieces(base64.b64decode(tokenizer.model), ids)
        return SentencePiece(header, base64.b64encode(model).decode())
    vocab, special, added = (
        {token: ids[i] for token, i in part.items() if i in ids}
        for part in (tokenizer.vocab, tokenizer.special, tokenizer.added)
    )
    merges = [
        (left, right)
        for left, right in tokenizer.merges
        if left in vocab and right in vocab and left + right in vocab
    ]
    return ALGORITHMS[tokenizer.algorithm](header, vocab, special, merges, added)


def keep_in_file(tokenizer: HuggingFace, ids: Mapping[int, int]) -> dict[str, Any]:
    """The tokenizer.json with the tokens in `ids`."""
    file = copy.deepcopy(tokenizer.file)
    model, before = file["model"], model_vocab(tokenizer.file["model"])
    if isinstance(model["vocab"], list):
        model["vocab"] = [pair for i, pair in enumerate(model["vocab"]) if i in ids]
        if model.get("unk_id") is not None:
            model["unk_id"] = ids[model["unk_id"]]
    else:
        model["vocab"] = {token: ids[i] for token, i in before.items() if i in ids}
    if "merges" in model:
        prefix, vocab = model.get("continuing_subword_prefix") or "", model["vocab"]
        model["merges"] = [
            [left, right]
            for left, right in read_merges(model)
            if left in vocab and right in vocab and left + right[len(prefix) :] in vocab
        ]
    for token in file.get("added_tokens") or ():
        token["id"] = ids[before.get(token["content"], token["id"])]
    for part in parts_of(file.get("post_processor"), "processors"):
        for name in ("sep", "cls"):
            if name in part:
                part[name] = [part[name][0], ids[part[name][1]]]
        for special in (part.get("special_tokens") or {}).values():
            special["ids"] = [ids.get(i, i) for i in special["ids"]]
    padding = file.get("padding") or {}
    if padding.get("pad_id") in ids:
        padding["pad_id"] = ids[padding["pad_id"]]
    return file


def check(
    before: Tokenizer, after: Tokenizer, ids: Mapping[int, int], lines: Iterable[str]
) -> None:
    """Raise DlkitError unless lines of kept tokens are as before, and no others become unknown."""
    words = isinstance(before, WordLevel) or (
        isinstance(before, HuggingFace) and model_type(before.file["model"]) == "WordLevel"
    )
    for line in lines:
        try:
            old = before.encode(line)
        except DlkitError:  # a character without a token
            continue
        new = after.encode(line)
        unknown = new.count(-1 if after.unknown_id is None else after.unknown_id)
        if all(i in ids for i in old):
            good = new == [ids[i] for i in old]
        else:
            good = words or unknown <= old.count(
                -1 if before.unknown_id is None else before.unknown_id
            )
        if not good:
            raise DlkitError(f"cut so, it encodes {line[:40]!r} otherwise; nothing is written")
