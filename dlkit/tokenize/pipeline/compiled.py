"""A tokenizer.json as plain data for the compiled encoder, where that gives the same ids."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dlkit.tokenize.alphabet import BYTE_TO_CHAR, INSIDE
from dlkit.tokenize.pipeline.added import model_vocab
from dlkit.tokenize.pipeline.fields import Json, parts_of
from dlkit.tokenize.pipeline.models import model_type, read_merges
from dlkit.tokenize.pretokenize import ONIGURUMA
from dlkit.tokenize.wordpiece import LONGEST_WORD

if TYPE_CHECKING:
    from dlkit.tokenize.compiled_encode import PieceRules

FORMS = {"NFC": "nfc", "NFKC": "nfkc", "Lowercase": "lower"}


@dataclass(frozen=True)
class Plan:
    """The rules of the model, the name of the split, and the steps of normalize.py."""

    rules: "PieceRules"
    split: str
    normalization: list[str]


def read_plan(content: Json) -> Plan | None:
    """The plan of a file that the steps of engine.py read; None if it has other parts.

    It is for texts in which special tokens are plain text, and ids without those around a text.
    """
    if not all(token.get("special") for token in content.get("added_tokens") or ()):
        return None
    steps = read_steps(parts_of(content.get("normalizer"), "normalizers"))
    before = parts_of(content.get("pre_tokenizer"), "pretokenizers")
    if steps is None or not before:
        return None
    model = content["model"]
    kind = model_type(model)
    if kind == "WordPiece" and len(before) == 1:
        names = {"BertPreTokenizer": "bert", "WhitespaceSplit": "whitespace"}
        split, rules = names.get(before[0]["type"]), word_rules(model)
    elif kind == "BPE":
        split, rules = byte_split(before), byte_rules(model)
    else:
        return None
    return None if split is None or rules is None else Plan(rules, split, steps)


def read_steps(parts: list[Json]) -> list[str] | None:
    """The normalizers as steps of dlkit."""
    steps: list[str] = []
    for part in parts:
        if part["type"] in FORMS:
            steps.append(FORMS[part["type"]])
            continue
        if part["type"] != "BertNormalizer":
            return None
        lower = part.get("lowercase") is not False
        accents = lower if part.get("strip_accents") is None else part["strip_accents"]
        switches = {
            "clean": part.get("clean_text") is not False,
            "space-cjk": part.get("handle_chinese_chars") is not False,
            "strip-nonspacing": accents,
            "lower": lower,
        }
        steps += [step for step, on in switches.items() if on]
    return steps


def byte_split(before: list[Json]) -> str | None:
    """The split of a pre-tokenizer ByteLevel, alone or after a pattern."""
    level = before[-1]
    if level["type"] != "ByteLevel" or level.get("add_prefix_space") is not False:
        return None
    if len(before) == 1:
        return "gpt2" if level.get("use_regex") is not False else None
    if len(before) != 2 or level.get("use_regex") is not False or before[0]["type"] != "Split":
        return None
    is_gpt4 = before[0]["pattern"] == {"Regex": ONIGURUMA["gpt4"]}
    is_whole = before[0].get("behavior") == "Isolated" and not before[0].get("invert")
    return "gpt4" if is_gpt4 and is_whole else None


def byte_rules(model: Json) -> "PieceRules | None":
    """The rules of a BPE of bytes."""
    from dlkit.tokenize.compiled_encode import BYTES, PieceRules

    vocab = model_vocab(model)
    if any(char not in vocab for char in BYTE_TO_CHAR.values()):
        return None
    for field in ("ignore_merges", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(field):
            return None
    symbols = {byte: vocab[char] for byte, char in BYTE_TO_CHAR.items()}
    ranks = {
        (vocab[left], vocab[right]): (rank, vocab[left + right])
        for rank, (left, right) in enumerate(read_merges(model))
    }
    return PieceRules(BYTES, symbols=symbols, ranks=ranks)


def word_rules(model: Json) -> "PieceRules | None":
    """The rules of a WordPiece as BERT's."""
    from dlkit.tokenize.compiled_encode import LONGEST_MATCH, PieceRules

    vocab = model_vocab(model)
    unknown = vocab.get(model.get("unk_token") or "[UNK]")
    longest = model.get("max_input_chars_per_word") or LONGEST_WORD
    prefix = model.get("continuing_subword_prefix")
    if unknown is None or longest != LONGEST_WORD or prefix not in {None, INSIDE}:
        return None
    whole = {token.encode(): i for token, i in vocab.items()}
    inner = {
        token.removeprefix(INSIDE).encode(): i
        for token, i in vocab.items()
        if token.startswith(INSIDE)
    }
    return PieceRules(LONGEST_MATCH, unknown=unknown, whole=whole, inner=inner)
