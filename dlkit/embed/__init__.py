"""Word vectors.

>>> from dlkit.embed import nearest
>>> found = nearest("violin", top=3)
>>> [neighbor.word for neighbor in found.neighbors]
['piano', 'cello', 'harpsichord']

`embed` gives the vectors of words and sentences as arrays, `analogy`, `similarity` and
`odd_one_out` compare words, `load` prepares vectors that are used many times, `train(Config(...))`
trains some, and `evaluate` scores them on word pairs and analogies.
"""

from typing import TYPE_CHECKING

from dlkit.core.lazy import install

if TYPE_CHECKING:
    from dlkit.embed.api import (
        Config,
        analogy,
        embed,
        evaluate,
        load,
        nearest,
        odd_one_out,
        similarity,
        train,
    )
    from dlkit.embed.config import EmbedTrainConfig
    from dlkit.embed.results import Analogy, Answer, Neighbor, OddOneOut, Similar
    from dlkit.embed.vectors import Vectors

__all__ = [
    "Analogy",
    "Answer",
    "Config",
    "EmbedTrainConfig",
    "Neighbor",
    "OddOneOut",
    "Similar",
    "Vectors",
    "analogy",
    "embed",
    "evaluate",
    "load",
    "nearest",
    "odd_one_out",
    "similarity",
    "train",
]
install(
    __name__,
    __all__,
    config=["EmbedTrainConfig"],
    results=["Analogy", "Answer", "Neighbor", "OddOneOut", "Similar"],
    vectors=["Vectors"],
)
