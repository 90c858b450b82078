"""Training: count the pre-tokens once, then learn from the counts. Loads no numpy by itself."""

from collections.abc import Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from dlkit.core.config import option_name, settings_of
from dlkit.core.environment import is_main_process, world_size
from dlkit.core.errors import DlkitError
from dlkit.core.io import text as reading
from dlkit.core.io.files import whole_file
from dlkit.core.progress import log
from dlkit.core.store.checkpoint import Header
from dlkit.tokenize import data, pretokenize
from dlkit.tokenize.config import Algorithm, Mark, TokenizeTrainConfig
from dlkit.tokenize.model import (
    BYTE_TO_CHAR,
    CLASSES,
    SENTENCEPIECE,
    UNKNOWN,
    SentencePiece,
    Tokenizer,
)
from dlkit.tokenize.normalize import normalize, steps_of

SPLITS = {
    Algorithm.byte_bpe: "gpt2",
    Algorithm.byte: "none",
    Algorithm.bpe: "whitespace",
    Algorithm.wordpiece: "bert",
    Algorithm.char: "characters",
    Algorithm.whitespace: "whitespace",
    Algorithm.words: "words",
}


def train(
    corpus: Iterable[str | Path],
    config: TokenizeTrainConfig | None = None,
    together: bool = False,
    **settings: Any,
) -> Tokenizer:
    """A tokenizer for a corpus: each str is a text, each Path a file or folder of text.

    The settings are the fields of TokenizeTrainConfig: `train(texts, vocab_size=4000)`. With
    `together`, the processes that torchrun or srun started share the counting; all must call this.
    """
    config = config or TokenizeTrainConfig(corpus=[], **settings)
    try:
        config.algorithm = Algorithm(config.algorithm)
        config.mark = Mark(config.mark)
    except ValueError as error:
        raise DlkitError(str(error)) from error
    refuse_what_has_no_effect(config)
    steps = steps_of(config.normalize)
    if config.algorithm in SENTENCEPIECE:
        return train_sentencepiece(corpus, config, steps)
    split = config.split or SPLITS[config.algorithm]
    pretokenize.compiled(split)  # a bad pattern is said before a long count
    header = Header("tokenize", config.algorithm.value, {"normalize": steps, "split": split}, [])
    header.config.update(changed_settings(config))
    special, unknown = special_tokens(config)
    header.settings["unk"] = unknown
    if config.algorithm is Algorithm.byte:
        tokens = [*special, *sorted(BYTE_TO_CHAR.values())]
        merges: list[tuple[str, str]] = []
    else:
        from dlkit.tokenize.counting import count
        from dlkit.tokenize.learning import LEARNERS

        blocks = data.text_blocks(corpus, config.errors)
        pieces = count(blocks, split, steps, config.workers, together)
        if not len(pieces.counts):
            raise DlkitError("the corpus is empty: there is nothing to learn from")
        tokens, merges = LEARNERS[config.algorithm](pieces, list(special), config, header)
    ids = placed(tokens, special)
    vocab = {token: ids[token] for token in tokens if token not in special}
    own = {token: ids[token] for token in special}
    tokenizer = CLASSES[config.algorithm](header, vocab, own, merges)
    say_if_short(tokenizer, config)
    return tokenizer


def refuse_what_has_no_effect(config: TokenizeTrainConfig) -> None:
    """An option that the algorithm has no use for is a mistake."""
    has_effect = {
        "mark": {Algorithm.bpe},
        "score": {Algorithm.wordpiece},
        "limit_alphabet": {Algorithm.bpe, Algorithm.wordpiece, Algorithm.char},
        "split": {*SPLITS} - {Algorithm.char, Algorithm.byte},
    }
    for field in fields(config):
        algorithms = has_effect.get(field.name, {config.algorithm})
        was_set = getattr(config, field.name) != field.default
        if was_set and config.algorithm not in algorithms:
            names = ", ".join(sorted(algorithms))
            raise DlkitError(f"{option_name(field.name)} is for {names} only")


def train_file(config: TokenizeTrainConfig) -> Path:
    """Train on the files that `config` names, and write the tokenizer's file."""
    if config.out.exists() and not config.force:
        raise DlkitError(f"{config.out} exists: give another --out, or --force")
    paths = [source if source == "-" else Path(source) for source in config.corpus]
    if "-" in config.corpus and world_size() > 1:
        raise DlkitError("several processes cannot share stdin: give files")
    tokenizer = train([Path(path) for path in paths], config, together=world_size() > 1)
    if is_main_process():  # all have learned the same
        with whole_file(config.out) as partial:
            partial.write_text(tokenizer.to_json(), encoding="utf-8")
    return config.out


def changed_settings(config: TokenizeTrainConfig) -> dict[str, Any]:
    """What was set otherwise than by default, for the header."""
    values = settings_of(config)
    return {
        field.name: values[field.name]
        for field in fields(config)
        if field.name not in {"out", "force", "workers"}
        and getattr(config, field.name) != field.default
    }


def special_tokens(config: TokenizeTrainConfig) -> tuple[dict[str, int | None], str | None]:
    """The special tokens, with the ids that were asked for, and the one for what is unknown."""
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


def placed(tokens: list[str], special: dict[str, int | None]) -> dict[str, int]:
    """Ids: the special tokens' own where they have one, and the free ones in order."""
    fixed = {token: number for token, number in special.items() if number is not None}
    taken = set(fixed.values())
    if len(taken) < len(fixed):
        raise DlkitError("two special tokens cannot have the same id")
    if taken and max(taken) >= len(tokens):
        raise DlkitError(
            f"--special id {max(taken)} is not below the vocabulary's size, {len(tokens)}"
        )
    free = (number for number in range(len(tokens)) if number not in taken)
    return {token: fixed[token] if token in fixed else next(free) for token in tokens}


def train_sentencepiece(
    corpus: Iterable[str | Path], config: TokenizeTrainConfig, steps: list[str]
) -> Tokenizer:
    """unigram and sentencepiece-bpe, by the sentencepiece library."""
    import base64
    import io

    import sentencepiece

    special, unknown = special_tokens(config)
    if any(number is not None for number in special.values()):
        raise DlkitError(f"{config.algorithm} gives special tokens their ids in order")
    seen = 0

    def sentences() -> Iterator[str]:
        nonlocal seen
        for block in data.text_blocks(corpus, config.errors):
            for line in reading.split_lines(block):
                if line.strip():
                    seen += 1
                    yield normalize(line, steps)

    written = io.BytesIO()
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
            sentence_iterator=sentences(), model_writer=written, **options
        )
    except RuntimeError as error:
        if not seen:
            raise DlkitError("the corpus is empty: there is nothing to learn from") from error
        reason = " ".join(str(error).split())
        if "required_chars" in reason or "too small" in reason:
            raise DlkitError(
                f"--vocab-size {config.vocab_size} is smaller than the alphabet: give more"
            ) from error
        raise DlkitError(f"sentencepiece cannot train on this: {reason}") from error
    settings = {"normalize": steps, "split": "none"}
    header = Header("tokenize", config.algorithm.value, settings, [])
    header.config.update(changed_settings(config))
    tokenizer = SentencePiece(header, base64.b64encode(written.getvalue()).decode())
    say_if_short(tokenizer, config)
    return tokenizer


def say_if_short(tokenizer: Tokenizer, config: TokenizeTrainConfig) -> None:
    given_by_text = config.algorithm in {Algorithm.byte, Algorithm.char}
    if len(tokenizer.names) < config.vocab_size and not given_by_text:
        log(
            f"the text allows no more than {len(tokenizer.names)} of {config.vocab_size} tokens; "
            "these are kept"
        )
