"""Proof by example that a converted tokenizer gives the same ids, before a file is written.

Texts of many kinds are encoded: where the tokenizer loses nothing, decoding must give them back,
and where the library that the file belongs to is installed, the ids must be the library's.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dlkit.core.errors import DlkitError
from dlkit.core.progress import log
from dlkit.tokenize.alphabet import WORD_START, chars_to_bytes
from dlkit.tokenize.model import ByteBPE, HuggingFace, Tokenizer
from dlkit.tokenize.pretokenize import COVERING, find_pattern
from dlkit.tokenize.readers.hugging_face import is_hugging_face

TEXTS = [
    "Don't we'LL I'VE 'S 'ſ ''s they're HelloWorld, it's 12345.67 $5 a_b",
    "  two  spaces\tand tabs\t\t \r\n\r\n  lines \n\n",
    "naïve café cafe\u0301 Ünïcödé ǅ ẞ İstanbul ΣΊΣΥΦΟΣ ﬁne ½ ² Ⅷ ١٢٣",
    "日本語 テキスト 한국어 العربية हिन्दी ไทย 中文，标点。 עברית",
    "😀👩‍👩‍👧🏽 🇩🇪 \u200b\ufeff \x00 \x01\x1b[0m \x1c\x1f \x7f\x85\u00a0\u2003 \ufffd x",
    "def f(x):\n    return {x: [1, 2]}  # a && b || c <= d -> e",
    "[UNK] <unk> ## ##a </w> ▁ Ġ <|endoftext|> <s>",
    "x" * 120 + " " + "ab" * 60 + "!" * 40,
    "\U00010ffff \U0001d11e a\u0323\u0301b \u1e9b\u0323 \ud55c\uae00",
]

Ids = Callable[[str], list[int]]


def prove(tokenizer: Tokenizer, files: Sequence[str], to: str, contents: Sequence[bytes]) -> None:
    """Raise DlkitError if the tokenizer that was read, or the one to be written, differs."""
    prove_round_trip(tokenizer)
    for name, theirs in (
        ("read", library_of(files, tokenizer)),
        ("written", written(to, contents)),
    ):
        if theirs is not None:
            compare(tokenizer, theirs, name)


def prove_round_trip(tokenizer: Tokenizer) -> None:
    keeps = tokenizer.gaps or tokenizer.split in COVERING
    if not isinstance(tokenizer, ByteBPE) or tokenizer.normalization or not keeps:
        return
    for text in TEXTS:
        again = tokenizer.decode(tokenizer.encode(text))
        if again != text:
            at = first_difference(text, again)
            raise DlkitError(
                f"the text {text[at : at + 20]!r} is not the same after encoding and decoding; "
                "nothing is written"
            )


def compare(tokenizer: Tokenizer, theirs: Ids, name: str) -> None:
    marked = tokenizer.settings.get("mark") == "word-start"
    for text in TEXTS:
        if marked and WORD_START in text:
            log(f"a {WORD_START} that is in the text itself gives other ids in the file {name}")
            continue
        try:
            ids = tokenizer.encode(text)
        except DlkitError:  # a word without a token, where there is no token for unknown ones
            continue
        others = theirs(text)
        if ids != others:
            at = first_difference(ids, others)
            raise DlkitError(
                f"the ids of {text[:40]!r} differ from those of the library for the file {name}, "
                f"from token {at} on: {ids[at : at + 3]}, there {others[at : at + 3]}; nothing is "
                "written"
            )


def first_difference(ours: Sequence[Any], theirs: Sequence[Any]) -> int:
    pairs = enumerate(zip(ours, theirs, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(ours), len(theirs)))


def library_of(files: Sequence[str], tokenizer: Tokenizer) -> Ids | None:
    """The encoder of the library that the files belong to, if it is installed."""
    path = Path(files[0])
    if len(files) != 1:
        return None
    if isinstance(tokenizer, ByteBPE) and tokenizer.settings.get("by_rank"):
        return tiktoken_ids(tokenizer)
    if path.is_file() and path.suffix == ".json":
        content = json.loads(path.read_bytes())
        if is_hugging_face(content):
            uses = isinstance(tokenizer, HuggingFace) and tokenizer.uses_library
            return None if uses else tokenizers_ids(content)
    return None


def written(to: str, contents: Sequence[bytes]) -> Ids | None:
    return tokenizers_ids(json.loads(contents[0])) if to == "huggingface" else None


def tokenizers_ids(content: dict[str, Any]) -> Ids | None:
    """The encoder of the tokenizers library, with special tokens as text."""
    try:
        import tokenizers as library
    except ImportError:
        return None
    plain = {**content, "truncation": None, "padding": None}
    plain["model"] = {**content["model"]}
    if plain["model"].get("dropout"):
        plain["model"]["dropout"] = None
    try:
        theirs = library.Tokenizer.from_str(json.dumps(plain))
    except Exception as error:  # the library raises nothing narrower
        raise DlkitError(f"the tokenizers library cannot read it: {str(error)[:200]}") from error
    theirs.encode_special_tokens = True
    return lambda text: list(theirs.encode(text, add_special_tokens=False).ids)


def tiktoken_ids(tokenizer: ByteBPE) -> Ids | None:
    """The encoder of tiktoken, which reads the patterns of its own and of the models' files."""
    try:
        import tiktoken as library
    except ImportError:
        return None
    if tokenizer.split not in COVERING:
        return None
    ranks = {chars_to_bytes(token): i for token, i in tokenizer.vocab.items()}
    pattern = find_pattern(tokenizer.split)
    theirs = library.Encoding("theirs", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    return lambda text: list(theirs.encode_ordinary(text))
