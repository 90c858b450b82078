"""The settings of the tokenizer in a model's folder, beside the vocabulary.

Read are tokenizer_config.json, special_tokens_map.json and added_tokens.json.
"""

from pathlib import Path
from typing import Any

from dlkit.core.errors import DlkitError
from dlkit.core.progress import log
from dlkit.tokenize.pipeline.added import model_vocab
from dlkit.tokenize.pipeline.fields import EMPTY, parts_of
from dlkit.tokenize.readers.text import read_json

Json = dict[str, Any]
ROLES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
# Fields that change no ids of a text: names, sizes, and settings of batches and of chats.
WITHOUT_EFFECT = {
    "additional_special_tokens", "extra_special_tokens", "added_tokens_decoder", "auto_map",
    "backend", "chat_template", "clean_up_tokenization_spaces", "device_map", "errors", "from_slow",
    "full_tokenizer_file", "is_local", "legacy", "local_files_only", "max_length", "max_len",
    "model_input_names", "model_max_length", "model_specific_special_tokens", "name_or_path",
    "pad_to_multiple_of", "pad_token_type_id", "padding_side", "processor_class",
    "return_token_type_ids", "spaces_between_special_tokens", "special_tokens_map_file", "stride",
    "tokenizer_class", "tokenizer_file", "tokenizer_type", "trim_offsets", "truncation",
    "truncation_side", "truncation_strategy", "use_default_system_prompt", "use_fast", "vocab_size",
    "do_basic_tokenize", "max_model_input_sizes", "vocab_file", "merges_file",
}  # fmt: skip
# These have no effect while they have their usual values.
USUAL: Json = {"do_basic_tokenize": True}


class ModelSettings:
    """The settings of a folder; each field that is used is taken, the others are named."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "tokenizer_config.json"
        self.config = read_object(self.path)
        self.map = read_object(folder / "special_tokens_map.json")
        self.added = read_object(folder / "added_tokens.json")
        self.taken: set[str] = set()
        kind = self.config.get("tokenizer_class")
        self.tokenizer_class = kind.removesuffix("Fast") if isinstance(kind, str) else None

    def take(self, name: str, default: Any) -> Any:
        """The value of a field, with this one where it is missing or null."""
        self.taken.add(name)
        value = self.config.get(name)
        return default if value is None else value

    def unused(self) -> list[str]:
        """The fields, with their values, that nothing has looked at."""
        roles = {f"{role}_token" for role in ROLES} | {f"{role}_token_id" for role in ROLES}
        found = []
        for name, value in self.config.items():
            known = name in self.taken or name in roles or name in WITHOUT_EFFECT
            if not (known and value == USUAL.get(name, value)) and value not in EMPTY:
                found.append(f"{name} {str(value)[:60]!r}")
        return found

    def token(self, role: str, default: str) -> str:
        """The token of a role."""
        return text_of(self.config.get(f"{role}_token") or self.map.get(f"{role}_token")) or default

    def special_names(self) -> list[Any]:
        """The special tokens, each a text or an object with its settings."""
        found = []
        for source in (self.config, self.map):
            found += [source.get(f"{role}_token") for role in ROLES]
            for field in ("additional_special_tokens", "extra_special_tokens"):
                more = source.get(field) or []
                found += more.values() if isinstance(more, dict) else more
        return [name for name in found if text_of(name)]

    def added_tokens(self, vocab: dict[str, int], special: dict[str, int]) -> list[Json]:
        """The added tokens, as a tokenizer.json lists them; `special` are the vocabulary's own."""
        found: dict[str, Json] = {
            name: {"content": name, "id": i, "special": True, "normalized": False}
            for name, i in special.items()
        }
        for number, token in (self.config.get("added_tokens_decoder") or {}).items():
            found[token["content"]] = {**flags(token), "id": int(number)}
        names = {text_of(name) for name in self.special_names()}
        for name, i in self.added.items():
            token = {"content": name, "special": name in names, "normalized": name not in names}
            found.setdefault(name, {**token, "id": i})
        for name in self.special_names():
            text = text_of(name)
            known = found.get(text, {}).get("id", vocab.get(text))
            if known is None:
                known = max([*vocab.values(), *(token["id"] for token in found.values())]) + 1
            if text not in found or isinstance(name, dict):
                found[text] = {**flags(name), "special": True, "id": known}
        return sorted(found.values(), key=lambda token: token["id"])


def update_content(content: Json, settings: ModelSettings) -> None:
    """Change a tokenizer.json by the settings beside it, as their library does."""
    changes = {
        "BertNormalizer": {
            "do_lower_case": "lowercase",
            "strip_accents": "strip_accents",
            "tokenize_chinese_chars": "handle_chinese_chars",
        },
        "ByteLevel": {"add_prefix_space": "add_prefix_space"},
    }
    for name in ("normalizer", "pre_tokenizer"):
        for part in parts_of(content.get(name), "normalizers", "pretokenizers"):
            for theirs, field in changes.get(part["type"], {}).items():
                value = settings.take(theirs, part.get(field))
                if value != part.get(field):
                    log(f"{settings.path}: {theirs} {value}, other than in tokenizer.json, is used")
                    part[field] = value
    # The tokens around a text are those of tokenizer.json.
    for name in ("add_bos_token", "add_eos_token"):
        settings.take(name, None)
    known = {token["content"] for token in content.get("added_tokens") or ()}
    ids = {**model_vocab(content["model"])}
    ids |= {token["content"]: token["id"] for token in content.get("added_tokens") or ()}
    more = [t for t in settings.added_tokens(ids, {}) if t["content"] not in known]
    content["added_tokens"] = [*(content.get("added_tokens") or ()), *more]


def flags(token: Any) -> Json:
    """The settings of an added token, without those of Python."""
    if isinstance(token, str):
        return {"content": token, "normalized": False}
    kept = ("content", "lstrip", "rstrip", "single_word", "normalized", "special")
    for name, value in token.items():
        if name not in {*kept, "__type"} and value not in EMPTY:
            raise DlkitError(f"{name} of the token {token.get('content')!r} is not known to dlkit")
    return {name: token[name] for name in kept if name in token}


def text_of(token: Any) -> str:
    """The text of a token that is given as a text or an object."""
    return str(token.get("content") or "") if isinstance(token, dict) else str(token or "")


def read_object(path: Path) -> Json:
    """The JSON object of a file; an empty one if there is none."""
    if not path.exists():
        return {}
    content = read_json(path)
    if not isinstance(content, dict):
        raise DlkitError("not a JSON object", path)
    return content
