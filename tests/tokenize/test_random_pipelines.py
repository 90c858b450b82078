"""tokenizer.json files of random parts, against Hugging Face's library."""

import json
import random
from functools import cache
from typing import Any

import pytest

from dlkit.tokenize.model import HuggingFace
from dlkit.tokenize.pipeline.fields import NotUnderstood
from dlkit.tokenize.readers.hugging_face import read_hugging_face
from tests.tokenize import families
from tests.tokenize.families import Json, strings
from tests.tokenize.test_families import SEED, check_equal

library: Any = pytest.importorskip("tokenizers")

PATTERNS = [
    families.GPT2, families.LLAMA3, families.O200K, r"\s+", r"\w+|[^\w\s]+", r"[[a-z]&&[^aeiou]]+",
    r"\d{2}", r"\h+", r"[^\S\n]+|\n", r"(?i:the|a)|\d", r"^.|.$", r"\p{Lu}\p{Ll}*", r"x*", r"\R",
    r"[\p{L}\p{M}]{1,4}+", r"\b", r"(?<=\d)(?=(?:\d{3})+(?!\d))", r"[\u4e00-\u9fa5]", r"\P{L}+",
    r"\X", r"[[:alpha:]]+", r"(?m:a.b)", r"\Aa|b\z",
]  # fmt: skip
LEVEL = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
BEHAVIORS = ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]


def pattern(rng: random.Random, empty: bool = True) -> Json:
    if rng.random() < 0.3:
        return {"String": rng.choice([" ", "▁", "a", "\n", ".", "  ", "é"])}
    return {"Regex": rng.choice([p for p in PATTERNS if empty or p not in {"x*", r"\b"}])}


def normalizer(rng: random.Random, depth: int = 0) -> Json | None:
    flag = lambda: rng.random() < 0.5  # noqa: E731
    makers: list[Any] = [
        lambda: {"type": rng.choice(["NFC", "NFD", "NFKC", "NFKD"])},
        lambda: {"type": "Lowercase"},
        lambda: {"type": "StripAccents"},
        lambda: {"type": "Strip", "strip_left": flag(), "strip_right": flag()},
        lambda: {
            "type": "Replace",
            "pattern": pattern(rng),
            "content": rng.choice(["", "▁", "xy"]),
        },
        lambda: {"type": "Prepend", "prepend": rng.choice(["▁", "ab"])},
        lambda: {"type": "Nmt"},
        lambda: {"type": "Precompiled", "precompiled_charsmap": charsmap()},
        lambda: {
            "type": "BertNormalizer",
            "clean_text": flag(),
            "handle_chinese_chars": flag(),
            "strip_accents": rng.choice([None, True, False]),
            "lowercase": flag(),
        },
    ]
    if depth == 0 and rng.random() < 0.3:
        return None
    if depth == 0 and rng.random() < 0.4:
        parts = [normalizer(rng, 1) for _ in range(rng.randint(0, 3))]
        return {"type": "Sequence", "normalizers": parts}
    found: Json = rng.choice(makers)()
    return found


@cache
def charsmap() -> str:
    return families.charsmap(families.MAP)


def pre_tokenizer(rng: random.Random, byte_level: bool, depth: int = 0) -> Json | None:
    flag = lambda: rng.random() < 0.5  # noqa: E731
    makers: list[Any] = [
        lambda: {
            "type": "Split",
            "pattern": pattern(rng),
            "behavior": rng.choice(BEHAVIORS),
            "invert": flag(),
        },
        lambda: {"type": "Whitespace"},
        lambda: {"type": "WhitespaceSplit"},
        lambda: {"type": "BertPreTokenizer"},
        lambda: {"type": "Digits", "individual_digits": flag()},
        lambda: {"type": "Punctuation", "behavior": rng.choice(BEHAVIORS)},
        lambda: {"type": "CharDelimiterSplit", "delimiter": rng.choice(" a-")},
        lambda: {
            "type": "Metaspace",
            "replacement": "▁",
            "prepend_scheme": rng.choice(["always", "never", "first"]),
            "split": flag(),
        },
        lambda: {"type": "Metaspace", "replacement": "▁", "add_prefix_space": True},
    ]
    level = {
        "type": "ByteLevel",
        "add_prefix_space": flag(),
        "trim_offsets": flag(),
        "use_regex": flag(),
    }
    if depth == 0 and byte_level:
        parts = [pre_tokenizer(rng, False, 1) for _ in range(rng.randint(0, 2))]
        return {"type": "Sequence", "pretokenizers": [*parts, level]} if parts else level
    if depth == 0 and rng.random() < 0.2:
        return None
    if depth == 0 and rng.random() < 0.4:
        parts = [pre_tokenizer(rng, False, 1) for _ in range(rng.randint(0, 3))]
        return {"type": "Sequence", "pretokenizers": parts}
    found: Json = rng.choice(makers)()
    return found


@cache
def models() -> dict[str, Json]:
    names = ("gpt2", "llama2", "bert", "t5", "nllb", "clip")
    return {name: families.FAMILIES[name]()["model"] for name in names}


def added_tokens(rng: random.Random, model: Json) -> list[Json]:
    vocab = model["vocab"]
    ids = vocab if isinstance(vocab, dict) else {token: i for i, (token, _) in enumerate(vocab)}
    found: list[Json] = []
    texts = [
        "<mask>",
        "<s>",
        "[MASK]",
        "hello",
        " x",
        "é",
        "a",
        "Δ",
        "<|endoftext|>",
        "▁",
        "  ",
        "AB",
    ]
    following = len(ids)
    for content in rng.sample(texts, rng.randint(0, 5)):
        number = ids.get(content, following)
        following = max(following, number + 1)
        flags = ("special", "lstrip", "rstrip", "single_word", "normalized")
        token = {"id": number, "content": content, **{f: rng.random() < 0.4 for f in flags}}
        found.append(token)
    return sorted(found, key=lambda token: token["id"])


def decoder(rng: random.Random) -> Json | None:
    flag = lambda: rng.random() < 0.5  # noqa: E731
    makers: list[Any] = [
        lambda: None,
        lambda: {**LEVEL},
        lambda: {"type": "WordPiece", "prefix": "##", "cleanup": flag()},
        lambda: {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"},
        lambda: {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never"},
        lambda: {"type": "BPEDecoder", "suffix": "</w>"},
        lambda: {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": rng.randint(0, 2), "stop": 0},
            ],
        },
    ]
    found: Json | None = rng.choice(makers)()
    return found


def post_processor(rng: random.Random) -> Json | None:
    flag = lambda: rng.random() < 0.5  # noqa: E731
    template = {
        "type": "TemplateProcessing",
        "single": [
            {"SpecialToken": {"id": "[A]", "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}},
        ],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {"[A]": {"id": "[A]", "ids": [1, 0], "tokens": ["x", "y"]}},
    }
    level = {"type": "ByteLevel", "add_prefix_space": flag(), "trim_offsets": flag()}
    roberta = {
        "type": "RobertaProcessing",
        "sep": ["</s>", 2],
        "cls": ["<s>", 0],
        "trim_offsets": flag(),
        "add_prefix_space": flag(),
    }
    both = {"type": "Sequence", "processors": [level, template]}
    bert = {"type": "BertProcessing", "sep": ["[SEP]", 1], "cls": ["[CLS]", 2]}
    return rng.choice([None, None, template, level, roberta, both, bert])


def random_content(seed: int) -> Json:
    rng = random.Random(seed)
    name = rng.choice(list(models()))
    model = dict(models()[name])
    if model["type"] == "BPE" and rng.random() < 0.5:
        model["fuse_unk"] = rng.random() < 0.5
        model["ignore_merges"] = rng.random() < 0.5
        if name == "llama2":
            model["byte_fallback"] = rng.random() < 0.5
    if model["type"] == "WordPiece":
        model["max_input_chars_per_word"] = rng.choice([5, 100])
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added_tokens(rng, model),
        "normalizer": normalizer(rng),
        "pre_tokenizer": pre_tokenizer(rng, name in {"gpt2", "clip"}),
        "post_processor": post_processor(rng),
        "decoder": decoder(rng),
        "model": model,
    }


def check_random(seed: int, texts: list[str]) -> None:
    content = random_content(seed)
    try:
        library.Tokenizer.from_str(json.dumps(content))
    except Exception:  # parts that do not fit together
        return
    try:
        ours = read_hugging_face(content, "tokenizer.json")
    except NotUnderstood:
        return
    if isinstance(ours, HuggingFace) and "equal once normalized" in str(ours.uses_library):
        return  # the library takes one of several added tokens at random
    for text in texts:
        try:
            check_equal(ours, content, [text])
        except AssertionError:
            raise
        except BaseException as error:
            if type(error).__name__ != "PanicException":  # of the library
                raise


@pytest.mark.parametrize("seed", range(SEED, SEED + 40))
def test_random_parts(seed: int) -> None:
    check_random(seed, strings(25, seed))


def test_an_added_token_that_is_empty_once_normalized_is_left_to_the_library() -> None:
    flags = dict.fromkeys(("special", "lstrip", "rstrip", "single_word"), False)
    token = {"id": len(models()["gpt2"]["vocab"]), "content": "Δ", "normalized": True, **flags}
    content = random_content(0) | {
        "added_tokens": [token],
        "normalizer": {"type": "Replace", "pattern": {"String": "Δ"}, "content": ""},
        "pre_tokenizer": None,
        "model": models()["gpt2"],
    }
    ours = read_hugging_face(content, "tokenizer.json")
    assert isinstance(ours, HuggingFace)
    assert ours.uses_library == "added_tokens: 'Δ', nothing once normalized"
    check_equal(ours, content, ["def f(x):", "Δ", ""])
