"""Settings of `dlkit embed`: the options of word2vec, fastText and GloVe by their names.

Loads no torch.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from dlkit.core.config import argument, non_defaults, option, option_name
from dlkit.core.errors import DlkitError

DEFAULT_MODEL = "english"


class Method(StrEnum):
    skipgram = "skipgram"
    cbow = "cbow"
    fasttext = "fasttext"
    glove = "glove"
    lsa = "lsa"


@dataclass(kw_only=True)
class EmbedTrainConfig:
    """What word vectors are learned from, and how.

    A setting whose default is None has one for each method: `by_method` fills it in.
    """

    corpus: list[str] = argument("Text files (plain, .gz, .zst), folders of them, or - for stdin.")
    out: Path = option(Path("run"), "Folder for the model, checkpoints and log of this run.")
    method: Method = option(Method.skipgram, "How vectors are learned.")
    fasttext_model: Literal["skipgram", "cbow"] = option(
        "skipgram", "fasttext: what is predicted from what."
    )
    dim: int = option(100, "Numbers in a vector.", min=1)
    window: int = option(
        None, "Words to each side that count as context (5; glove and lsa 15).", min=1
    )
    negative: int = option(
        None, "Words drawn at random for each word that is predicted (5).", min=1, max=64
    )
    hs: bool = option(False, "Hierarchical softmax in place of negative sampling.")
    min_count: int = option(5, "Leave out words that occur less often.", min=1)
    max_vocab: int = option(0, "Keep only this many words, the most frequent; 0: all.", min=0)
    sample: float = option(
        None,
        "Frequency above which words are left out at random (1e-3; fasttext 1e-4); 0: none.",
        min=0,
    )
    epochs: int = option(None, "Passes over the corpus (5; glove 25).", min=1)
    lr: float = option(
        None, "Learning rate at the start (0.025; cbow, fasttext and glove 0.05).", min=0
    )
    minn: int = option(3, "fasttext: characters of the shortest n-grams; 0: none.", min=0)
    maxn: int = option(6, "fasttext: characters of the longest n-grams; 0: none.", min=0)
    bucket: int = option(2_000_000, "fasttext: different hashes of n-grams.", min=1)
    x_max: float = option(100.0, "glove: count from which on a pair has full weight.", min=0)
    alpha: float = option(0.75, "glove: power of the weights below --x-max.", min=0)
    memory: float = option(4.0, "glove: gigabytes of memory for counting.", min=0.1)
    weighting: Literal["tfidf", "ppmi"] = option(
        "tfidf", "lsa: words by documents (lines), or words by words of their windows."
    )
    phrases: int = option(0, "Passes that join frequent pairs, as word2phrase does.", min=0)
    threshold: float = option(
        100.0, "phrases: score above which a pair is joined; lower joins more.", min=0
    )
    lower: bool = option(False, "Lower-case the text.")
    words: bool = option(
        False, "Take runs of letters, digits and apostrophes; else what white space separates."
    )
    errors: Literal["strict", "replace"] = option(
        "strict", "Bytes that are not UTF-8: an error, or replaced."
    )
    threads: int = option(None, "Threads that train; by default one for each core.", min=1)
    seed: int = option(0, "Seed of all that is drawn at random.")
    device: str = option("auto", "skipgram, cbow and fasttext: auto, cpu, cuda, cuda:1.")
    half: bool = option(False, "Write the vectors in half precision.")
    resume: bool = option(False, "Go on with the run in --out where it was interrupted.")


WORD2VEC = {"window": 5, "negative": 5, "sample": 1e-3, "epochs": 5, "lr": 0.025}
DEFAULTS: dict[Method, dict[str, Any]] = {
    Method.skipgram: WORD2VEC,
    Method.cbow: {**WORD2VEC, "lr": 0.05},
    Method.fasttext: {**WORD2VEC, "sample": 1e-4, "lr": 0.05},
    Method.glove: {"window": 15, "epochs": 25, "lr": 0.05},
    Method.lsa: {"window": 15},
}
PREDICTING = {Method.skipgram, Method.cbow, Method.fasttext}
OWN: dict[str, set[Method]] = {  # settings that not every method has
    "fasttext_model": {Method.fasttext},
    "minn": {Method.fasttext},
    "maxn": {Method.fasttext},
    "bucket": {Method.fasttext},
    "negative": PREDICTING,
    "sample": PREDICTING,
    "hs": {Method.skipgram, Method.cbow},
    "epochs": {*PREDICTING, Method.glove},
    "lr": {*PREDICTING, Method.glove},
    "device": PREDICTING,
    "x_max": {Method.glove},
    "alpha": {Method.glove},
    "memory": {Method.glove},
    "weighting": {Method.lsa},
}


def by_method(config: EmbedTrainConfig) -> EmbedTrainConfig:
    """The settings, with the method's own for those left at None; those it would ignore refused."""
    config = replace(config, method=Method(config.method))
    changed = set(non_defaults(config))
    for name in sorted(changed):
        methods = OWN.get(name, {config.method})
        if config.method not in methods:
            names = ", ".join(sorted(methods))
            raise DlkitError(f"{option_name(name)} is for {names}, not for {config.method}")
    if config.hs and "negative" in changed:
        raise DlkitError("--negative goes with negative sampling: leave it or --hs out")
    if "threshold" in changed and not config.phrases:
        raise DlkitError("--threshold goes with --phrases")
    if config.method == Method.lsa and config.weighting == "tfidf" and "window" in changed:
        raise DlkitError("--window goes with --weighting ppmi")
    own = DEFAULTS[config.method]
    return replace(config, **{k: v for k, v in own.items() if getattr(config, k) is None})
