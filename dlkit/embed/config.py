"""Settings of `dlkit embed`, under the names of the options of word2vec, fastText and GloVe.

Loads no torch.
"""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from dlkit.core.config import argument, non_defaults, option, refuse_unused, with_defaults
from dlkit.core.errors import DlkitError

DEFAULT_MODEL = "english"


class EmbedMethod(StrEnum):
    """The methods that train word vectors."""

    skipgram = "skipgram"
    cbow = "cbow"
    fasttext = "fasttext"
    glove = "glove"
    lsa = "lsa"


class VectorFormat(StrEnum):
    """Formats of word vectors that `convert` writes."""

    dlkit = "dlkit"
    word2vec = "word2vec"
    word2vec_binary = "word2vec-binary"
    glove = "glove"
    fasttext = "fasttext"
    numpy = "numpy"


@dataclass(kw_only=True)
class EmbedTrainConfig:
    """Settings of a training run.

    A setting whose default is None has a default for each method (see `resolve_config`).
    """

    corpus: list[str] = argument(
        "Text files (plain or compressed), folders of them, or - for stdin.", group="Data"
    )
    out: Path = option(
        Path("run"),
        "Folder for the model, checkpoints and log of this run.",
        group="Run and cluster",
    )
    method: EmbedMethod = option(EmbedMethod.skipgram, "Training method.", group="Architecture")
    fasttext_model: Literal["skipgram", "cbow"] = option(
        "skipgram", "fasttext: predict words as skipgram or as cbow does.", group="Architecture"
    )
    init_from: str | None = option(
        None,
        "skipgram, cbow, fasttext: start from the vectors of this model (name, file or URL); words"
        " that it lacks start at random.",
        group="Architecture",
    )
    dim: int = option(100, "Dimension of the vectors.", min=1, group="Architecture")
    window: int | None = option(
        None,
        "Words to each side that count as context (5; glove and lsa 15).",
        min=1,
        group="Architecture",
    )
    negative: int | None = option(
        None, "Negative samples for each predicted word (5).", min=1, max=64, group="Loss"
    )
    hs: bool = option(False, "Hierarchical softmax instead of negative sampling.", group="Loss")
    min_count: int = option(5, "Ignore words that occur less often.", min=1, group="Data")
    max_vocab: int = option(
        0, "Vocabulary limit: keep the most frequent words; 0: all.", min=0, group="Data"
    )
    sample: float | None = option(
        None,
        "Frequency above which words are randomly dropped (1e-3; fasttext 1e-4); 0: none.",
        min=0,
        group="Data",
    )
    epochs: int | None = option(
        None, "Passes over the corpus (5; glove 25).", min=1, group="Optimization"
    )
    lr: float | None = option(
        None,
        "Initial learning rate (0.025; cbow, fasttext and glove 0.05).",
        min=0,
        group="Optimization",
    )
    minn: int = option(
        3, "fasttext: characters of the shortest n-grams; 0: none.", min=0, group="Architecture"
    )
    maxn: int = option(
        6, "fasttext: characters of the longest n-grams; 0: none.", min=0, group="Architecture"
    )
    bucket: int = option(
        2_000_000, "fasttext: hash buckets of n-grams.", min=1, group="Architecture"
    )
    x_max: float = option(
        100.0, "glove: count above which a pair has full weight.", min=0, group="Loss"
    )
    alpha: float = option(
        0.75, "glove: exponent of the weights below --x-max.", min=0, group="Loss"
    )
    memory: float = option(
        4.0, "glove: gigabytes of memory for counting.", min=0.1, group="Run and cluster"
    )
    weighting: Literal["tfidf", "ppmi"] = option(
        "tfidf",
        "lsa: words by documents (lines), or words by words in their windows.",
        group="Architecture",
    )
    phrases: int = option(
        0, "Passes of word2phrase, which join frequent pairs.", min=0, group="Data"
    )
    threshold: float = option(
        100.0, "phrases: score above which a pair is joined; lower joins more.", min=0, group="Data"
    )
    lower: bool = option(False, "Lower-case the text.", group="Data")
    words: bool = option(
        False,
        "Words are runs of letters, digits and apostrophes, not split by white space.",
        group="Data",
    )
    errors: Literal["strict", "replace"] = option(
        "strict", "Bytes that are not UTF-8: raise an error, or replace them.", group="Data"
    )
    threads: int | None = option(
        None, "Training threads; by default one per core.", min=1, group="Run and cluster"
    )
    seed: int = option(0, "Seed of the random numbers.", group="Run and cluster")
    device: str = option(
        "auto", "skipgram, cbow and fasttext: auto, cpu, cuda, cuda:1.", group="Run and cluster"
    )
    half: bool = option(False, "Write the vectors in half precision.", group="Run and cluster")
    resume: bool = option(
        False, "Continue the run in --out where it was interrupted.", group="Run and cluster"
    )


WORD2VEC = {"window": 5, "negative": 5, "sample": 1e-3, "epochs": 5, "lr": 0.025}
DEFAULTS: dict[EmbedMethod, dict[str, Any]] = {
    EmbedMethod.skipgram: WORD2VEC,
    EmbedMethod.cbow: {**WORD2VEC, "lr": 0.05},
    EmbedMethod.fasttext: {**WORD2VEC, "sample": 1e-4, "lr": 0.05},
    EmbedMethod.glove: {"window": 15, "epochs": 25, "lr": 0.05},
    EmbedMethod.lsa: {"window": 15},
}
PREDICTING = (EmbedMethod.skipgram, EmbedMethod.cbow, EmbedMethod.fasttext)
OWN: dict[str, tuple[str, ...]] = {  # settings that not every method has
    "fasttext_model": (EmbedMethod.fasttext,),
    "minn": (EmbedMethod.fasttext,),
    "maxn": (EmbedMethod.fasttext,),
    "bucket": (EmbedMethod.fasttext,),
    "negative": PREDICTING,
    "sample": PREDICTING,
    "hs": (EmbedMethod.skipgram, EmbedMethod.cbow),
    "epochs": (*PREDICTING, EmbedMethod.glove),
    "lr": (*PREDICTING, EmbedMethod.glove),
    "device": PREDICTING,
    "init_from": PREDICTING,
    "x_max": (EmbedMethod.glove,),
    "alpha": (EmbedMethod.glove,),
    "memory": (EmbedMethod.glove,),
    "weighting": (EmbedMethod.lsa,),
}


class ResolvedConfig(EmbedTrainConfig):
    """Settings with a value for each one that the method uses; those it lacks may be None."""

    window: int
    negative: int
    sample: float
    epochs: int
    lr: float


def resolve_config(config: EmbedTrainConfig) -> ResolvedConfig:
    """Fill in the method's defaults; DlkitError for settings that the method would ignore."""
    resolved = ResolvedConfig(**{**vars(config), "method": EmbedMethod(config.method)})
    refuse_unused(resolved, OWN, by="method")
    changed = non_defaults(resolved)
    if config.hs and "negative" in changed:
        raise DlkitError("--negative has no effect with --hs; give only one of them")
    if "threshold" in changed and not config.phrases:
        raise DlkitError("--threshold has no effect without --phrases; add --phrases 1")
    if resolved.method == EmbedMethod.lsa and config.weighting == "tfidf" and "window" in changed:
        raise DlkitError("--window has no effect with --weighting tfidf; add --weighting ppmi")
    return with_defaults(resolved, DEFAULTS[resolved.method])
