"""Translation of sentences.

>>> from dlkit.translate import translate
>>> found = translate("Two dogs play in the snow.")
>>> found.text
'Zwei Hunde spielen im Schnee.'

`load` prepares a model that is used many times, `align` finds aligned words, `train(Config(...))`
trains a model, and `evaluate` scores one on sentences with references.
"""

from typing import TYPE_CHECKING

from dlkit.core.lazy import install

if TYPE_CHECKING:
    from dlkit.translate.alignment import WordAlignment
    from dlkit.translate.api import Config, align, evaluate, load, train, translate
    from dlkit.translate.config import TranslateTrainConfig
    from dlkit.translate.infer import Hypothesis, Translation

__all__ = [
    "Config",
    "Hypothesis",
    "TranslateTrainConfig",
    "Translation",
    "WordAlignment",
    "align",
    "evaluate",
    "load",
    "train",
    "translate",
]
install(
    __name__,
    __all__,
    alignment=["WordAlignment"],
    config=["TranslateTrainConfig"],
    infer=["Hypothesis", "Translation"],
)
