"""Language models.

>>> from dlkit.lm_generate import lm_generate
>>> found = lm_generate("ROMEO:", max_tokens=20, seed=1)
>>> len(found.tokens)
20

`score` gives the log-probability and perplexity of texts, `fill` the tokens of gaps, `features`
vectors of tokens; `load` prepares a model that is used many times, `train(Config(...))` trains one,
and `evaluate` measures its perplexity on text files.
"""

from typing import TYPE_CHECKING

from dlkit.core.lazy import install

if TYPE_CHECKING:
    from dlkit.lm_generate.api import (
        Config,
        evaluate,
        features,
        fill,
        lm_generate,
        load,
        score,
        train,
    )
    from dlkit.lm_generate.config import LmTrainConfig
    from dlkit.lm_generate.results import (
        Candidate,
        Continuation,
        Features,
        FilledText,
        Gap,
        TextScore,
        Token,
    )

__all__ = [
    "Candidate",
    "Config",
    "Continuation",
    "Features",
    "FilledText",
    "Gap",
    "LmTrainConfig",
    "TextScore",
    "Token",
    "evaluate",
    "features",
    "fill",
    "lm_generate",
    "load",
    "score",
    "train",
]
install(
    __name__,
    __all__,
    config=["LmTrainConfig"],
    results=["Candidate", "Continuation", "Features", "FilledText", "Gap", "TextScore", "Token"],
)
