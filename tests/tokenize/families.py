"""Tokenizers as the known families make them, trained with Hugging Face's library."""

import base64
import json
import random
import struct
from functools import cache
from typing import Any

from tests.tokenize.helpers import LINES, ODD, generate_lines

Json = dict[str, Any]
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
DEEPSEEK = [
    r"\p{N}{1,3}",
    "[一-龥぀-ゟ゠-ヿ]+",
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
    "| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+",
]
O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+"
    r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
MASKS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
BYTES = [f"<0x{b:02X}>" for b in range(256)]


@cache
def corpus() -> list[str]:
    odd = [line for line in ODD if len(line) < 200]
    code = ["def f(x):", "    return {x: [1, 2]}", "日本語のテキスト 中文", "Ünïcödé ﬁne"]
    return [*generate_lines(3, 400), *(LINES + odd + code) * 5]


def regex_split(pattern: str, behavior: str = "isolated", invert: bool = False) -> Any:
    from tokenizers import Regex, pre_tokenizers

    return pre_tokenizers.Split(Regex(pattern), behavior, invert)


def content_of(tokenizer: Any) -> Json:
    found: Json = json.loads(tokenizer.to_str())
    return found


def byte_level(*splits: Any, special: Any = (), prefix_space: bool = False, **bpe: Any) -> Any:
    """A BPE of bytes; without splits by the pattern of GPT-2."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(**bpe))
    level = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space, use_regex=not splits)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*splits, level]) if splits else level
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    return tokenizer


def gpt2() -> Json:
    from tokenizers import processors

    tokenizer = byte_level(special=["<|endoftext|>"])
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return content_of(tokenizer)


def gpt_neox() -> Json:
    from tokenizers import AddedToken, normalizers, processors

    tokenizer = byte_level(special=["<|endoftext|>", "<|padding|>"])
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    tokenizer.add_tokens([AddedToken(" " * n, normalized=False) for n in range(24, 1, -1)])
    return content_of(tokenizer)


def roberta() -> Json:
    from tokenizers import AddedToken, processors

    mask = AddedToken("<mask>", lstrip=True, special=True)
    tokenizer = byte_level(special=[*MASKS[:4], mask])
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return content_of(tokenizer)


def phi() -> Json:
    from tokenizers import AddedToken

    tokenizer = byte_level(special=["<|endoftext|>"])
    tokenizer.add_tokens(
        [AddedToken("\t" * n, normalized=False, rstrip=n == 3) for n in range(9, 1, -1)]
    )
    return content_of(tokenizer)


def llama3() -> Json:
    from tokenizers import processors

    special = ["<|begin_of_text|>", "<|eot_id|>"]
    tokenizer = byte_level(regex_split(LLAMA3), special=special, ignore_merges=True)
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=True),
            processors.TemplateProcessing(
                single="<|begin_of_text|> $A",
                pair="<|begin_of_text|> $A $B",
                special_tokens=[("<|begin_of_text|>", 0)],
            ),
        ]
    )
    return content_of(tokenizer)


def qwen() -> Json:
    from tokenizers import normalizers

    split = regex_split(LLAMA3.replace("{1,3}", ""))
    tokenizer = byte_level(split, special=["<|im_start|>", "<|im_end|>"])
    tokenizer.normalizer = normalizers.NFC()
    return content_of(tokenizer)


def o200k() -> Json:
    return content_of(byte_level(regex_split(O200K), special=["<|endoftext|>"]))


def deepseek() -> Json:
    return content_of(byte_level(*map(regex_split, DEEPSEEK), special=["<｜begin▁of▁sentence｜>"]))


def digits() -> Json:
    from tokenizers import pre_tokenizers

    split = pre_tokenizers.Digits(individual_digits=True)
    return content_of(byte_level(split, regex_split(GPT2), special=["<s>"], prefix_space=True))


def fallback_bpe(normalizer: Any, pre_tokenizer: Any, decoder: Any, special: list[str]) -> Any:
    """A BPE of characters with bytes for unknown ones, as sentencepiece's is converted."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=[*special, *BYTES],
        limit_alphabet=60,
        show_progress=False,
    )
    trained.train_from_iterator([line for line in corpus() if line], trainer)
    model = content_of(trained)["model"]
    merges = [tuple(merge) for merge in model["merges"]]
    tokenizer = Tokenizer(
        models.BPE(model["vocab"], merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    if pre_tokenizer is not None:
        tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoder
    tokenizer.add_special_tokens(special)
    return tokenizer


def sentencepiece_decoder(strip: bool) -> Any:
    from tokenizers import decoders

    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    return decoders.Sequence([*parts, *([decoders.Strip(" ", 1, 0)] if strip else [])])


def llama2() -> Json:
    from tokenizers import normalizers, processors

    before = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer = fallback_bpe(before, None, sentencepiece_decoder(True), ["<unk>", "<s>", "</s>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    return content_of(tokenizer)


def mistral() -> Json:
    from tokenizers import pre_tokenizers

    metaspace = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    special = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]"]
    return content_of(fallback_bpe(None, metaspace, sentencepiece_decoder(True), special))


def gemma() -> Json:
    from tokenizers import normalizers, pre_tokenizers

    special = ["<pad>", "<eos>", "<bos>", "<unk>"]
    split = pre_tokenizers.Split(" ", "merged_with_previous")
    replace = normalizers.Replace(" ", "▁")
    return content_of(fallback_bpe(replace, split, sentencepiece_decoder(False), special))


def bert(lowercase: bool = True, **switches: Any) -> Json:
    from tokenizers import (
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        processors,
        trainers,
    )

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase, **switches)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(
        corpus(),
        trainers.WordPieceTrainer(vocab_size=500, special_tokens=special, show_progress=False),
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return content_of(tokenizer)


def charsmap(replacements: dict[str, str]) -> str:
    """A precompiled_charsmap: sentencepiece's double-array trie of these replacements."""
    texts, starts = b"", {}
    for new in sorted(set(replacements.values())):
        starts[new] = len(texts)
        texts += new.encode() + b"\0"
    keys = sorted((old.encode(), starts[new]) for old, new in replacements.items())
    units: dict[int, int] = {0: 0}
    taken = {0}

    def build(at: int, depth: int, group: list[tuple[bytes, int]]) -> None:
        labels = sorted({key[depth] if depth < len(key) else 0 for key, _ in group})
        base = next(
            b for b in range(1, 1 << 20) if all((b ^ label) not in taken for label in labels)
        )
        taken.update(base ^ label for label in labels)
        shift = at ^ base
        units[at] |= shift << 10
        for label in labels:
            inner = [pair for pair in group if (pair[0][depth : depth + 1] or b"\0")[0] == label]
            place = base ^ label
            if label == 0:
                units[at] |= 1 << 8
                units[place] = inner[0][1] | 1 << 31
            else:
                units[place] = label
                build(place, depth + 1, inner)

    build(0, 0, keys)
    size = max(units) + 257
    array = [units.get(i, 0) for i in range(size)]
    return base64.b64encode(struct.pack(f"<I{size}I", 4 * size, *array) + texts).decode()


MAP = {"ﬁ": "fi", "ｆ": "f", "½": "1/2", "\u00a0": " ", "\x00": "", "é": "e", "ﷺ": "صلى", "\t": " "}


def unigram(normalizer: Any, pre_tokenizer: Any, special: list[str], **model: Any) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    trained = Tokenizer(models.Unigram())
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=300, special_tokens=special, unk_token="<unk>", show_progress=False
    )
    trained.train_from_iterator([line for line in corpus() if len(line) < 150], trainer)
    content = content_of(trained)["model"]
    vocab = [tuple(pair) for pair in content["vocab"]]
    if model.get("byte_fallback"):
        vocab += [(name, -20.0) for name in BYTES]
    tokenizer = Tokenizer(models.Unigram(vocab, special.index("<unk>"), **model))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens(special)
    return tokenizer


def precompiled(replacements: dict[str, str] = MAP) -> Any:
    from tokenizers import normalizers

    return normalizers.Precompiled(base64.b64decode(charsmap(replacements)))


def t5() -> Json:
    from tokenizers import pre_tokenizers, processors

    before = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    tokenizer = unigram(precompiled(), before, ["<pad>", "</s>", "<unk>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    return content_of(tokenizer)


def xlm_r() -> Json:
    from tokenizers import Regex, normalizers, pre_tokenizers, processors

    spaces = normalizers.Replace(Regex(" {2,}"), " ")
    cleaned = normalizers.Sequence([precompiled(), spaces])
    tokenizer = unigram(cleaned, pre_tokenizers.Metaspace(), MASKS)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    return content_of(tokenizer)


def marian() -> Json:
    from tokenizers import normalizers, pre_tokenizers

    forms = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC(), normalizers.Strip()])
    content = content_of(unigram(forms, pre_tokenizers.Metaspace(), ["</s>", "<unk>"]))
    old = {"type": "Metaspace", "replacement": "▁", "add_prefix_space": True, "str_rep": "▁"}
    return {**content, "pre_tokenizer": old, "decoder": old}


def nllb() -> Json:
    from tokenizers import normalizers, pre_tokenizers

    before = pre_tokenizers.Metaspace(prepend_scheme="always")
    forms = normalizers.Sequence([normalizers.NFKD(), normalizers.StripAccents()])
    tokenizer = unigram(forms, before, MASKS[:4], byte_fallback=True)
    tokenizer.add_special_tokens(["eng_Latn", "deu_Latn"])
    return content_of(tokenizer)


def clip() -> Json:
    """Words with </w>, in lower case."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="<|endoftext|>", end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    words = r"<\|startoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([regex_split(words, "removed", True), level])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        corpus(),
        trainers.BpeTrainer(
            vocab_size=700,
            special_tokens=["<|startoftext|>", "<|endoftext|>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            end_of_word_suffix="</w>",
            show_progress=False,
        ),
    )
    return content_of(tokenizer)


FAMILIES = {
    family.__name__: family
    for family in (
        gpt2, gpt_neox, roberta, phi, llama3, qwen, o200k, deepseek, digits, llama2, mistral, gemma,
        bert, t5, xlm_r, marian, nllb, clip,
    )
}  # fmt: skip


# ---- strings -------------------------------------------------------------------------------------

ALPHABETS = [
    "abcdef ABC '", "  \t\n\r\u00a0\u2003\u200b\ufeff", "0123456789½²Ⅷ١", "日本語中文한국어",
    "العربيةहिन्दीไทย", "😀👩‍👩‍👧🏽", "é\u0301\u0323ñÅﬁﬀⅣ", "\x00\x1b\x7f\x85\ufffd",
    ".,;:!?-_(){}[]<>=+*/\\'\"`~@#$%^&|", "ΣΊΣΥΦΟΣİıßſǅ", "Ελληνικά кириллица עברית",
]  # fmt: skip
WORDS = [
    "don't", "I'LL", "<s>", "</s>", "<unk>", "[MASK]", "<|endoftext|>", "hello", "def f(x):",
    "    return x", "https://a.b/c?d=1", "1234567", "naïve café", "ｆｕｌｌ", "\n\n", "   ", "▁",
    "Ġ", "##s", "<0x0A>", " <mask> ", "ﷺ", "a" * 120, "[INST]", "<|eot_id|>", "\t\t\t", "eng_Latn",
]  # fmt: skip


def strings(number: int, seed: int = 0) -> list[str]:
    """Text of all scripts, emoji, controls, spaces, code and random characters."""
    rng = random.Random(seed)
    found = [""]
    while len(found) < number:
        text = ""
        for _ in range(rng.randint(1, 8)):
            kind = rng.random()
            if kind < 0.35:
                text += rng.choice(WORDS)
            elif kind < 0.85:
                text += "".join(rng.choices(rng.choice(ALPHABETS), k=rng.randint(1, 5)))
            else:
                planes = [(0x20, 0x3000), (0x3000, 0xD800), (0xE000, 0x20000), (0x20000, 0x110000)]
                text += "".join(chr(rng.randrange(*rng.choice(planes))) for _ in range(3))
            text += rng.choice(["", " "])
        found.append(text)
    return found
