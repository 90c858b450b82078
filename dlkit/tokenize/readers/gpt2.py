"""vocab.json and merges.txt of GPT-2, and what lies beside them in a model's folder."""

from pathlib import Path

from dlkit.core.errors import DlkitError
from dlkit.tokenize.config import ReadOptions
from dlkit.tokenize.model import Tokenizer, TokenizerSettings
from dlkit.tokenize.pretokenize import COVERING, PATTERNS
from dlkit.tokenize.readers.hugging_face import Json, build_tokenizer, read_hugging_face
from dlkit.tokenize.readers.settings import ModelSettings
from dlkit.tokenize.readers.text import read_json, read_text

# The pattern and the form of the text, by the name of the tokenizer in tokenizer_config.json.
CLASSES = {
    "GPT2Tokenizer": "gpt2",
    "CodeGenTokenizer": "gpt2",
    "GPTNeoXTokenizer": "gpt2",
    "RobertaTokenizer": "gpt2",
    "BartTokenizer": "gpt2",
    "LongformerTokenizer": "gpt2",
    "Qwen2Tokenizer": "qwen",
}
WRAPPED = ("RobertaTokenizer", "BartTokenizer", "LongformerTokenizer")  # in <s> and </s>


def read_gpt2(
    vocab: Path, merges: Path, options: ReadOptions, settings: ModelSettings | None = None
) -> Tokenizer:
    """The tokenizer of a pair of files."""
    tokens, pairs = read_vocabulary(vocab), read_merges(merges)
    if not set(map(type, tokens.values())) <= {int} or not tokens:
        raise DlkitError("not a vocabulary: a JSON object of tokens and their ids", vocab)
    if options.normalize is not None:
        raise DlkitError("--normalize is for vocab.txt; a vocab.json is of bytes as they are")
    # Special tokens are those that are no byte and result from no merge.
    results = {left + right for left, right in pairs}
    special = {t: i for t, i in tokens.items() if len(t) > 1 and t not in results}
    name = f"{vocab.name}, {merges.name}"
    if settings is None:
        split = options.split or "gpt2"
        plain: TokenizerSettings = {"normalize": [], "split": split, "unk": None}
        if split not in COVERING:
            plain["gaps"] = True
        card = {"data": f"converted from {name}"}
        return build_tokenizer("byte-bpe", plain, tokens, special, pairs, card)
    return read_hugging_face(folder_content(tokens, pairs, special, settings, options), name)


def read_vocabulary(path: Path) -> dict[str, int]:
    tokens = read_json(path)
    if not isinstance(tokens, dict):
        raise DlkitError("not a vocabulary: a JSON object of tokens and their ids", path)
    return tokens


def read_merges(path: Path) -> list[tuple[str, str]]:
    """The merges; `#version` is a line only at the top of the file."""
    pairs = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        line = line.removesuffix("\r")
        if not line or (number == 1 and line.startswith("#version")):
            continue
        pair = line.split(" ")
        if len(pair) != 2:
            raise DlkitError(f"line {number} is not two tokens and a space: {line[:60]!r}", path)
        pairs.append((pair[0], pair[1]))
    return pairs


def folder_content(
    tokens: dict[str, int],
    pairs: list[tuple[str, str]],
    special: dict[str, int],
    settings: ModelSettings,
    options: ReadOptions,
) -> Json:
    """The tokenizer.json that is equal to the files of a folder."""
    kind = settings.tokenizer_class or "GPT2Tokenizer"
    split = options.split or CLASSES.get(kind)
    if split is None:
        raise DlkitError(
            f"the tokenizer_class {kind} is not known to dlkit; give --split, the way in which it "
            "cuts text, or its tokenizer.json",
            settings.path,
        )
    level = {
        "type": "ByteLevel",
        "add_prefix_space": settings.take("add_prefix_space", False),
        "trim_offsets": True,
        "use_regex": split == "gpt2",
    }
    before: Json = level
    if split != "gpt2":
        pattern = {"Regex": PATTERNS.get(split, split)}
        cut = {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}
        before = {"type": "Sequence", "pretokenizers": [cut, level]}
    added = settings.added_tokens(tokens, special)
    ids = {**tokens, **{token["content"]: token["id"] for token in added}}
    return {
        "added_tokens": added,
        "normalizer": {"type": "NFC"} if split == "qwen" else None,
        "pre_tokenizer": before,
        "post_processor": wrap(kind, ids, settings),
        "decoder": {**level, "add_prefix_space": True, "use_regex": True},
        "model": {"type": "BPE", "vocab": tokens, "merges": [list(pair) for pair in pairs]},
    }


def wrap(kind: str, ids: dict[str, int], settings: ModelSettings) -> Json | None:
    """The tokens around a text that the class of the tokenizer adds."""
    before, after = [], []
    if kind in WRAPPED:
        before, after = [settings.token("cls", "<s>")], [settings.token("sep", "</s>")]
    if settings.take("add_bos_token", False):
        before = [settings.token("bos", "<|endoftext|>")]
    if settings.take("add_eos_token", False):
        after = [settings.token("eos", "<|endoftext|>")]
    if not before and not after:
        return None
    for name in (*before, *after):
        if name not in ids:
            raise DlkitError(f"the token {name!r}, put around a text, has no id", settings.path)

    def slot(name: str) -> Json:
        return {"SpecialToken": {"id": name, "type_id": 0}}

    return {
        "type": "TemplateProcessing",
        "single": [*map(slot, before), {"Sequence": {"id": "A", "type_id": 0}}, *map(slot, after)],
        "pair": [],
        "special_tokens": {
            name: {"id": name, "ids": [ids[name]], "tokens": [name]} for name in (*before, *after)
        },
    }
