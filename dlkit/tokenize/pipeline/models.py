"""The models of a tokenizer.json: from a pre-token to ids, each with the part that it covers."""

from collections.abc import Callable, Mapping
from typing import Any

from dlkit.core.errors import DlkitError
from dlkit.tokenize.bpe import Ranks, merge_symbols
from dlkit.tokenize.pipeline.fields import BPE_FIELDS, Json, NotUnderstood, read_fields
from dlkit.tokenize.wordpiece import LONGEST_WORD

Found = list[tuple[int, int]]  # id, and end in the pre-token
Model = Callable[[str], Found]
UNKNOWN_PENALTY = 10.0


def read_model(part: Json) -> Model:
    """The model of a file; old files do not name its type."""
    kind = model_type(part)
    if kind not in MODELS:
        raise NotUnderstood(f"model {kind}")
    return MODELS[kind](part)


def model_type(part: Json) -> str:
    """The type, or what the fields of an old file are those of."""
    if part.get("type"):
        return str(part["type"])
    if "merges" in part:
        return "BPE"
    if isinstance(part.get("vocab"), list):
        return "Unigram"
    return "WordPiece" if "max_input_chars_per_word" in part else "WordLevel"


def read_merges(part: Json) -> list[tuple[str, str]]:
    """The merges, each a text with a space or a list of two."""
    merges = []
    for number, merge in enumerate(part.get("merges") or ()):
        pair = merge.split(" ") if isinstance(merge, str) else merge
        if len(pair) != 2:
            raise DlkitError(f"merge {number} is not two tokens: {merge!r}")
        merges.append((pair[0], pair[1]))
    return merges


def read_bpe(part: Json) -> Model:
    fields = read_fields(part, "model BPE", **BPE_FIELDS)
    vocab: Mapping[str, int] = fields["vocab"]
    prefix, suffix = fields["continuing_subword_prefix"], fields["end_of_word_suffix"]
    ranks = {}
    for rank, (left, right) in enumerate(read_merges(part)):
        new = left + right[len(prefix) :]
        try:
            ranks[vocab[left], vocab[right]] = rank, vocab[new]
        except KeyError as error:
            raise DlkitError(f"the merges use {error}, which is not in the vocabulary") from None
    unknown = fields["unk_token"]
    fuse, whole = fields["fuse_unk"], fields["ignore_merges"]
    fallback = {}
    if fields["byte_fallback"]:
        fallback = {b: vocab.get(f"<0x{b:02X}>") for b in range(256)}

    def first_symbols(piece: str) -> tuple[list[int], list[int] | None]:
        """The ids before any merge, and the size in bytes of each; None if each is a character."""
        ids: list[int] = []
        sizes: list[int] = []
        if not (prefix or suffix):
            known_ids = [vocab.get(char) for char in piece]
            if None not in known_ids:
                return known_ids, None  # type: ignore[return-value]
        waiting = 0  # bytes of unknown characters that are not yet written

        def write_unknown() -> None:
            if unknown not in vocab:
                raise DlkitError(f"the unknown token {unknown!r} is not in the vocabulary")
            ids.append(vocab[unknown])
            sizes.append(waiting)

        for at, char in enumerate(piece):
            symbol = char if at == 0 or not prefix else prefix + char
            if suffix and at == len(piece) - 1:
                symbol += suffix
            size = len(char.encode("utf-8", "surrogateescape"))
            known = vocab.get(symbol)
            if known is not None:
                if waiting:
                    write_unknown()
                    waiting = 0
                ids.append(known)
                sizes.append(size)
                continue
            if fallback:
                given = [fallback[b] for b in symbol.encode("utf-8", "surrogateescape")]
                if None not in given:
                    ids += given  # type: ignore[arg-type]
                    sizes += [1] * len(given)
                    continue
            if unknown is not None:
                if waiting and not fuse:
                    write_unknown()
                    waiting = 0
                waiting += size
        if waiting:
            write_unknown()
        return ids, sizes

    def encode(piece: str) -> Found:
        if whole and piece in vocab:
            return [(vocab[piece], len(piece))]
        ids, sizes = first_symbols(piece)
        if sizes is None:
            return merge_with_ends(ids, ranks)
        ends = []
        at = 0
        for size in sizes:
            at += size
            ends.append(at)
        owner = [i for i, c in enumerate(piece) for _ in c.encode("utf-8", "surrogateescape")]
        return [
            (i, owner[min(ends[end - 1], len(owner)) - 1] + 1 if end else 0)
            for i, end in merge_with_ends(ids, ranks)
        ]

    return encode


def merge_with_ends(symbols: list[int], ranks: Ranks) -> Found:
    """The merged symbols, each with the number of symbols up to its end."""
    merged, following = merge_symbols(symbols, ranks)
    size = len(symbols)
    return [
        (symbol, following[i] if following[i] >= 0 else size)
        for i, symbol in enumerate(merged)
        if symbol >= 0
    ]


def read_unigram(part: Json) -> Model:
    """The path of the highest sum of scores, as the library finds it."""
    fields = read_fields(part, "model Unigram", vocab=[], unk_id=None, byte_fallback=False)
    scores: dict[str, tuple[int, float]] = {}
    for i, (token, score) in enumerate(fields["vocab"]):
        scores[token] = i, score
    lowest = min((score for _, score in fields["vocab"]), default=0.0) - UNKNOWN_PENALTY
    longest = max(map(len, scores), default=1)
    unknown = fields["unk_id"]
    # The tokens, and None for the beginnings of tokens.
    table: dict[str, tuple[int, float] | None] = {
        token[:end]: None for token in scores for end in range(1, len(token))
    }
    table |= scores
    absent = (-1, 0.0)

    def unknown_id() -> int:
        if unknown is None:
            raise DlkitError("the text has a character without a token, and the model no unk_id")
        return int(unknown)

    def best_path(piece: str) -> Found:
        size = len(piece)
        best, starts, ids = [0.0] * (size + 1), [-1] * (size + 1), [-1] * (size + 1)
        for start in range(size):
            here = best[start]
            single = False
            for end in range(start + 1, min(size, start + longest) + 1):
                known = table.get(piece[start:end], absent)
                if known is None:
                    continue
                if known is absent:
                    break
                score = known[1] + here
                if starts[end] < 0 or score > best[end]:
                    best[end], starts[end], ids[end] = score, start, known[0]
                single = single or end == start + 1
            if not single:
                end, score = start + 1, lowest + here
                if starts[end] < 0 or score > best[end]:
                    best[end], starts[end], ids[end] = score, start, unknown_id()
        pieces: list[tuple[int, int, bool]] = []
        end = size
        while end > 0:
            start, i = starts[end], ids[end]
            if i == unknown and pieces and pieces[-1][2]:
                pieces[-1] = (start, pieces[-1][1], True)
            else:
                pieces.append((start, end, i == unknown))
            end = start
        found: Found = []
        for start, end, _ in reversed(pieces):
            token = piece[start:end]
            known = scores.get(token)
            if known is not None:
                found.append((known[0], end))
                continue
            if fields["byte_fallback"]:
                names = [f"<0x{b:02X}>" for b in token.encode("utf-8", "surrogateescape")]
                if all(name in scores for name in names):
                    found += [(scores[name][0], end) for name in names]
                    continue
            found.append((unknown_id(), end))
        return found

    return best_path


def read_wordpiece(part: Json) -> Model:
    fields = read_fields(
        part,
        "model WordPiece",
        vocab={},
        unk_token="[UNK]",
        continuing_subword_prefix="##",
        max_input_chars_per_word=LONGEST_WORD,
    )
    vocab, prefix = fields["vocab"], fields["continuing_subword_prefix"]
    longest = max(map(len, vocab), default=1)

    def encode(piece: str) -> Found:
        found: Found = []
        start = 0
        if len(piece) > fields["max_input_chars_per_word"]:
            return unknown(piece)
        while start < len(piece):
            before = prefix if start else ""
            for end in range(min(len(piece), start + longest), start, -1):
                token = vocab.get(before + piece[start:end])
                if token is not None:
                    found.append((token, end))
                    start = end
                    break
            else:
                return unknown(piece)
        return found

    def unknown(piece: str) -> Found:
        return [(unknown_token(vocab, fields["unk_token"], piece), len(piece))]

    return encode


def read_word_level(part: Json) -> Model:
    fields = read_fields(part, "model WordLevel", vocab={}, unk_token="<unk>")
    vocab = fields["vocab"]

    def encode(piece: str) -> Found:
        known = vocab.get(piece)
        if known is None:
            known = unknown_token(vocab, fields["unk_token"], piece)
        return [(known, len(piece))]

    return encode


def unknown_token(vocab: Mapping[str, int], token: Any, piece: str) -> int:
    if token not in vocab:
        raise DlkitError(
            f"{piece[:40]!r} is not in the vocabulary, nor is the unknown token {token!r}"
        )
    return vocab[token]


MODELS: dict[str, Callable[[Json], Model]] = {
    "BPE": read_bpe,
    "Unigram": read_unigram,
    "WordPiece": read_wordpiece,
    "WordLevel": read_word_level,
}
