"""Training: count the pre-tokens once, then learn from the counts. Loads no numpy at first."""

import time
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from dlkit.core.config import non_defaults, refuse_unused, settings_of
from dlkit.core.environment import is_main_process, world_size
from dlkit.core.errors import DlkitError
from dlkit.core.io import text as reading
from dlkit.core.io.files import exists, whole_file
from dlkit.core.progress import duration, log
from dlkit.core.store.checkpoint import Header
from dlkit.tokenize import data, pretokenize
from dlkit.tokenize.alphabet import BYTE_TO_CHAR
from dlkit.tokenize.config import Algorithm, Mark, TokenizeTrainConfig
from dlkit.tokenize.model import ALGORITHMS, SentencePiece, Tokenizer, TokenizerSettings
from dlkit.tokenize.normalize import normalize, parse_steps

Choice = TypeVar("Choice", bound=StrEnum)
UNKNOWN = ("<unk>", "[UNK]")  # special tokens that replace unknown text
DEFAULT_SPLITS = {
    Algorithm.byte_bpe: "gpt2",
    Algorithm.byte: "none",
    Algorithm.bpe: "whitespace",
    Algorithm.wordpiece: "bert",
    Algorithm.char: "characters",
    Algorithm.whitespace: "whitespace",
    Algorithm.words: "words",
}
# The algorithms of each option that is not for all.
OWN: dict[str, tuple[str, ...]] = {
    "mark": (Algorithm.bpe,),
    "score": (Algorithm.wordpiece,),
    "limit_alphabet": (Algorithm.bpe, Algorithm.char, Algorithm.wordpiece),
    "split": tuple(sorted(DEFAULT_SPLITS.keys() - {Algorithm.byte, Algorithm.char})),
}


def train(
    corpus: Iterable[str | Path],
    config: TokenizeTrainConfig | None = None,
    distributed: bool = False,
    **settings: Any,
) -> Tokenizer:
    """Train a tokenizer on a corpus: each str is a text, each Path a file or folder of text.

    The settings are the fields of TokenizeTrainConfig: `train(texts, vocab_size=4000)`. With
    `distributed`, the processes that torchrun or srun started share the counting; all must call
    this.
    """
    config = config or TokenizeTrainConfig(corpus=[], **settings)
    config.algorithm = choose(Algorithm, config.algorithm, "algorithm")
    config.mark = choose(Mark, config.mark, "mark")
    refuse_unused(config, OWN, by="algorithm")
    steps = parse_steps(config.normalize)
    if ALGORITHMS[config.algorithm] is SentencePiece:
        return train_sentencepiece(corpus, config, steps)
    split = config.split or DEFAULT_SPLITS[config.algorithm]
    pretokenize.compile_pattern(split)  # so that a bad pattern is an error before a long count
    special, unknown = parse_special(config)
    described: TokenizerSettings = {"normalize": steps, "split": split, "unk": unknown}
    # A tokenizer of bytes restores any text, also where the pattern matches nothing.
    gaps = config.algorithm is Algorithm.byte_bpe and split not in pretokenize.COVERING
    if gaps:
        described["gaps"] = True
    header = Header("tokenize", config.algorithm.value, described, [], changed_settings(config))
    if config.algorithm is Algorithm.byte:
        tokens = [*special, *sorted(BYTE_TO_CHAR.values())]
        merges: list[tuple[str, str]] = []
    else:
        from dlkit.tokenize.counting import count_pre_tokens
        from dlkit.tokenize.learning import LEARNERS

        blocks = data.text_blocks(corpus, config.errors)
        pieces = count_pre_tokens(blocks, split, steps, config.workers, distributed, gaps)
        if not len(pieces.counts):
            raise DlkitError("the corpus is empty; give text to learn from")
        tokens, merges = LEARNERS[config.algorithm](pieces, list(special), config, header)
    ids = assign_ids(tokens, special)
    vocab = {token: ids[token] for token in tokens if token not in special}
    own = {token: ids[token] for token in special}
    tokenizer = ALGORITHMS[config.algorithm](header, vocab, own, merges)
    log_if_short(tokenizer, config)
    return tokenizer


def choose(kind: type[Choice], value: str, name: str) -> Choice:
    """The member of an enumeration. Raises DlkitError for an unknown one."""
    if value not in list(kind):
        raise DlkitError(f"unknown {name} {value!r}; choose from {', '.join(kind)}")
    return kind(value)


def train_file(config: TokenizeTrainConfig) -> Path:
    """Train on the files that `config` names, and write the tokenizer's file."""
    if exists(config.out) and not config.force:
        raise DlkitError("exists already; give another --out, or --force", config.out)
    if "-" in config.corpus and world_size() > 1:
        raise DlkitError("several processes cannot share stdin; give files")
    began = time.monotonic()
    tokenizer = train(map(Path, config.corpus), config, distributed=world_size() > 1)
    log(f"{len(tokenizer.names)} tokens in {duration(time.monotonic() - began)}")
    if is_main_process():  # all processes have learned the same
        with whole_file(config.out) as partial:
            partial.write_text(tokenizer.to_json(), encoding="utf-8")
    return config.out


def changed_settings(config: TokenizeTrainConfig) -> dict[str, Any]:
    """The settings that are not at their defaults, for the header."""
    values = settings_of(config)
    changed = [name for name in non_defaults(config) if name not in {"out", "force", "workers"}]
    return {name: values[name] for name in changed}


def parse_special(config: TokenizeTrainConfig) -> tuple[dict[str, int | None], str | None]:
    """The special tokens with their ids in `--special`, and the one for unknown text."""
    special: dict[str, int | None] = {}
    for entry in config.special:
        name, _, number = entry.rpartition("=")
        if name and number.isdecimal():
            special[name] = int(number)
        else:
            special[entry] = None
    if config.algorithm in {Algorithm.byte_bpe, Algorithm.byte}:
        return special, None
    unknown = next((name for name in UNKNOWN if name in special), None)
    if unknown is None:
        unknown = "[UNK]" if config.algorithm is Algorithm.wordpiece else "<unk>"
        special = {unknown: None, **special}
    return special, unknown


def assign_ids(tokens: list[str], special: dict[str, int | None]) -> dict[str, int]:
    """Give special tokens their ids in `--special`, and all other tokens the free ids in order."""
    fixed = {token: number for token, number in special.items() if number is not None}
    taken = set(fixed.values())
    if len(taken) < len(fixed):
        raise DlkitError("--special: two tokens cannot have the same id")
    if taken and max(taken) >= len(tokens):
        raise DlkitError(
            f"--special: id {max(taken)} is not below the vocabulary's size, {len(tokens)}"
        )
    free = (number for number in range(len(tokens)) if number not in taken)
    return {token: fixed[token] if token in fixed else next(free) for token in tokens}


def train_sentencepiece(
    corpus: Iterable[str | Path], config: TokenizeTrainConfig, steps: list[str]
) -> Tokenizer:
    """Train unigram or sentencepiece-bpe with the sentencepiece library."""
    import base64
    import io

    import sentencepiece

    special, unknown = parse_special(config)
    if any(number is not None for number in special.values()):
        raise DlkitError(
            f"--special: {config.algorithm} assigns ids in order; give tokens without ids"
        )
    seen = 0

    def sentences() -> Iterator[str]:
        nonlocal seen
        for block in data.text_blocks(corpus, config.errors):
            for line in reading.split_lines(block):
                if line.strip():
                    seen += 1
                    yield normalize(line, steps)

    model = io.BytesIO()
    names = list(special)
    options: dict[str, Any] = {
        "model_type": "unigram" if config.algorithm is Algorithm.unigram else "bpe",
        "vocab_size": config.vocab_size,
        "unk_id": names.index(str(unknown)),
        "unk_piece": unknown,
        "bos_id": -1,
        "eos_id": -1,
        "control_symbols": [name for name in names if name != unknown],
        "normalization_rule_name": "identity",
        "character_coverage": 1.0,
        "hard_vocab_limit": False,
        "num_threads": config.workers,
        "minloglevel": 2,
    }
    sentencepiece.set_random_generator_seed(config.seed)
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=sentences(), model_writer=model, **options
        )
    except RuntimeError as error:
        if not seen:
            raise DlkitError("the corpus is empty; give text to learn from") from error
        reason = " ".join(str(error).split())
        if "required_chars" in reason or "too small" in reason:
            raise DlkitError(
                f"--vocab-size {config.vocab_size} is smaller than the alphabet; give more"
            ) from error
        raise DlkitError(f"sentencepiece cannot train on this text: {reason}") from error
    settings: TokenizerSettings = {"normalize": steps, "split": "none"}
    header = Header("tokenize", config.algorithm.value, settings, [], changed_settings(config))
    tokenizer = SentencePiece(header, base64.b64encode(model.getvalue()).decode())
    log_if_short(tokenizer, config)
    return tokenizer


def log_if_short(tokenizer: Tokenizer, config: TokenizeTrainConfig) -> None:
    """Print a notice if the text has too few different words for `--vocab-size`."""
    fixed_by_text = config.algorithm in {Algorithm.byte, Algorithm.char}
    if len(tokenizer.names) < config.vocab_size and not fixed_by_text:
        log(
            f"the text allows no more than {len(tokenizer.names)} tokens of --vocab-size "
            f"{config.vocab_size}"
        )
