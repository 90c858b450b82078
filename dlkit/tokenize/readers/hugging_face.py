"""tokenizer.json of Hugging Face: as a tokenizer of dlkit where that is the same, or as it is."""

from typing import Any

from dlkit.core.progress import log
from dlkit.core.store.checkpoint import Header
from dlkit.tokenize.alphabet import BYTE_TO_CHAR, INSIDE, WORD_END
from dlkit.tokenize.model import (
    ALGORITHMS,
    BPE,
    HuggingFace,
    Tokenizer,
    TokenizerSettings,
)
from dlkit.tokenize.pipeline.added import check_types, read_added_tokens
from dlkit.tokenize.pipeline.decoders import read_decoders
from dlkit.tokenize.pipeline.fields import BPE_FIELDS, NotUnderstood, parts_of, read_fields
from dlkit.tokenize.pipeline.models import model_type, read_merges
from dlkit.tokenize.pipeline.oniguruma import translate
from dlkit.tokenize.pipeline.postprocessors import read_post_processor
from dlkit.tokenize.pipeline.pretokenizers import read_pre_tokenizers
from dlkit.tokenize.pretokenize import COVERING, ONIGURUMA, PATTERNS, splitter
from dlkit.tokenize.wordpiece import LONGEST_WORD

Json = dict[str, Any]


def is_hugging_face(content: Any) -> bool:
    """Whether this JSON is a tokenizer.json."""
    model = content.get("model") if isinstance(content, dict) else None
    return isinstance(model, dict) and "vocab" in model


def read_hugging_face(content: Json, name: str) -> Tokenizer:
    """The tokenizer of a tokenizer.json."""
    check_types(content)
    log_unused(content, name)
    card = {"data": f"converted from {name}"}
    try:
        return read_classic(content, card)
    except NotUnderstood:
        pass
    header = Header("tokenize", "huggingface", {"normalize": [], "split": "none"}, [], card=card)
    tokenizer = HuggingFace(header, content)
    if tokenizer.uses_library:
        log(f"{name}: uses the tokenizers library: {tokenizer.uses_library}")
    return tokenizer


def log_unused(content: Json, name: str) -> None:
    """Print what the file sets for training or batches, and dlkit does not do to a text."""
    unused = []
    if truncation := content.get("truncation"):
        unused.append(f"truncation to {truncation.get('max_length')} tokens")
    if padding := content.get("padding"):
        strategy = padding.get("strategy")
        fixed = strategy.get("Fixed") if isinstance(strategy, dict) else None
        unused.append(f"padding to {fixed} tokens" if fixed else "padding")
    if content["model"].get("dropout"):
        unused.append(f"dropout {content['model']['dropout']}")
    if unused:
        log(f"{name}: not applied: {', '.join(unused)}")


def build_tokenizer(
    algorithm: str,
    settings: TokenizerSettings,
    vocab: dict[str, int],
    special: dict[str, int],
    merges: Any,
    card: dict[str, str],
) -> Tokenizer:
    """The tokenizer with these tokens, `special` ones among `vocab` or not."""
    header = Header("tokenize", algorithm, settings, [], card=card)
    plain = {token: i for token, i in vocab.items() if token not in special}
    tokenizer = ALGORITHMS[algorithm](header, plain, special, merges)
    if isinstance(tokenizer, BPE):
        _ = tokenizer.ranks  # an error now if the merges do not fit the vocabulary
    return tokenizer


# ---- equal tokenizers of dlkit -------------------------------------------------------------------


def read_classic(content: Json, card: dict[str, str]) -> Tokenizer:
    """A tokenizer of dlkit with the same ids, offsets and texts. Raises NotUnderstood for none."""
    read_fields(
        content,
        "the file",
        **dict.fromkeys(
            ("version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer")
        ),
        **dict.fromkeys(("post_processor", "decoder", "model")),
    )
    # Every field of these is looked at there.
    read_pre_tokenizers(content.get("pre_tokenizer"))
    read_decoders(content.get("decoder"))
    processor = read_post_processor(content.get("post_processor"))
    if processor.trims or processor.template != [None]:
        raise NotUnderstood("post_processor")
    added = read_added_tokens(content)
    if parts_of(content.get("normalizer"), "normalizers"):
        raise NotUnderstood("normalizer")  # offsets of normalized text are other ones in dlkit
    if any(t.lstrip or t.rstrip or t.single_word or not t.special for t in added):
        raise NotUnderstood("added_tokens")
    special = {token.content: token.id for token in added}
    model = content["model"]
    before = parts_of(content.get("pre_tokenizer"), "pretokenizers")
    after = parts_of(content.get("decoder"), "decoders")
    read = {"BPE": read_bpe, "WordPiece": read_wordpiece, "WordLevel": read_word_level}
    kind = model_type(model)
    if kind not in read:
        raise NotUnderstood(f"model {kind}")
    algorithm, settings = read[kind](model, before, after, special)
    merges = read_merges(model)
    results = {left + right for left, right in merges}
    split = splitter(settings["split"], settings.get("gaps", False))
    for name in special:
        # As plain text it must have no id of its own.
        if name in results or (split(name) == [name] and algorithm != "byte-bpe"):
            raise NotUnderstood(f"the special token {name}")
    unknown = settings["unk"]
    if unknown is not None:
        special.setdefault(unknown, model["vocab"][unknown])
    settings = {"normalize": [], **settings}
    return build_tokenizer(algorithm, settings, model["vocab"], special, merges, card)


def read_unknown(model: Json) -> str | None:
    """The token for unknown text, if the vocabulary has it."""
    unknown: str | None = model.get("unk_token")
    if unknown is None or unknown not in model["vocab"]:
        raise NotUnderstood("unk_token")
    return unknown


def read_bpe(
    model: Json, before: list[Json], after: list[Json], special: dict[str, int]
) -> tuple[str, TokenizerSettings]:
    fields = read_fields(model, "model BPE", **BPE_FIELDS)
    suffix, level = fields["end_of_word_suffix"], before[-1:] or [{"type": ""}]
    for field in ("byte_fallback", "ignore_merges", "continuing_subword_prefix"):
        if fields[field]:
            raise NotUnderstood(field)
    if level[0]["type"] == "ByteLevel":
        kinds = [part["type"] for part in after]
        alphabet = all(char in fields["vocab"] for char in BYTE_TO_CHAR.values())
        regex = level[0].get("use_regex", True)
        if suffix or kinds != ["ByteLevel"] or not alphabet:
            raise NotUnderstood("ByteLevel")
        if level[0].get("add_prefix_space", True) or (regex and len(before) > 1):
            raise NotUnderstood("ByteLevel")
        if len(before) == 1:
            return "byte-bpe", {"split": "gpt2" if regex else "none", "unk": None}
        return "byte-bpe", {**read_split(before[:-1]), "unk": None}
    unknown = None if fields["unk_token"] is None else read_unknown(model)
    settings: TokenizerSettings = {"unk": unknown, "mark": "end-of-word" if suffix else "none"}
    decoder = after[0] if len(after) == 1 else {}
    if fields["fuse_unk"] or suffix not in {"", WORD_END}:
        raise NotUnderstood("fuse_unk")
    if level[0]["type"] == "Metaspace":
        plain = {"replacement": "▁", "prepend_scheme": "always", "split": True, "type": "Metaspace"}
        if level[0] != plain or decoder != plain or suffix:
            raise NotUnderstood("Metaspace")
        if [part["type"] for part in before] != ["WhitespaceSplit", "Metaspace"]:
            raise NotUnderstood("Metaspace")
        return "bpe", {**settings, "split": "whitespace", "mark": "word-start"}
    expected = {"type": "BPEDecoder", "suffix": WORD_END} if suffix else {"type": "Fuse"}
    if decoder != expected:
        raise NotUnderstood("decoder")
    return "bpe", {**settings, **read_split(before)}


def read_wordpiece(
    model: Json, before: list[Json], after: list[Json], special: dict[str, int]
) -> tuple[str, TokenizerSettings]:
    fields = read_fields(
        model,
        "model WordPiece",
        vocab={},
        unk_token="[UNK]",
        continuing_subword_prefix=INSIDE,
        max_input_chars_per_word=LONGEST_WORD,
    )
    plain = {"type": "WordPiece", "prefix": INSIDE, "cleanup": False}
    if after != [plain] or fields["continuing_subword_prefix"] != INSIDE:
        raise NotUnderstood("decoder")
    if fields["max_input_chars_per_word"] != LONGEST_WORD:
        raise NotUnderstood("max_input_chars_per_word")
    return "wordpiece", {**read_split(before), "unk": read_unknown(model), "mark": "inside"}


def read_word_level(
    model: Json, before: list[Json], after: list[Json], special: dict[str, int]
) -> tuple[str, TokenizerSettings]:
    read_fields(model, "model WordLevel", vocab={}, unk_token="<unk>")
    if after:
        raise NotUnderstood("decoder")
    return "whitespace", {**read_split(before), "unk": read_unknown(model)}


def read_split(parts: list[Json]) -> TokenizerSettings:
    """Our split, by name or as a pattern, for Hugging Face's pre-tokenizers."""
    kinds = [part["type"] for part in parts]
    named = {"": "none", "WhitespaceSplit": "whitespace", "BertPreTokenizer": "bert"}
    if "+".join(kinds) in named:
        return {"split": named["+".join(kinds)]}
    if kinds == ["Whitespace"]:
        return {"split": r"\w+|[^\w\s]+"}
    if kinds != ["Split"] or "Regex" not in parts[0]["pattern"]:
        raise NotUnderstood("+".join(kinds))
    pattern: str = parts[0]["pattern"]["Regex"]
    way = (parts[0]["behavior"], parts[0]["invert"])
    names = {value: name for name, value in [*PATTERNS.items(), *ONIGURUMA.items()]}
    split = names.get(pattern) or translate(pattern)
    if way == ("Removed", True):
        return {"split": split}
    if way == ("Isolated", False):
        return {"split": split} if split in COVERING else {"split": split, "gaps": True}
    raise NotUnderstood("Split")
