"""Image and text classification.

>>> from dlkit.classify import classify
>>> classify("data/cat.jpg").labels[0].label
'cat'
>>> classify("A wonderful film.", model="reviews").labels[0].label
'pos'

`load` prepares a model that is used many times, `train(Config(...))` trains one, and `evaluate`
scores one on annotated images or texts.

Other vision tasks use trained classifiers whole (`infer`, `features`) or as the backbone of their
networks (`backbones`).
"""

from typing import TYPE_CHECKING

from dlkit.core.lazy import install

if TYPE_CHECKING:
    from dlkit.classify import backbones, features, infer
    from dlkit.classify.api import Config, classify, evaluate, load, train
    from dlkit.classify.config import ClassifyTrainConfig
    from dlkit.classify.infer import Classification, ClassMap, Prediction, TextClassification

__all__ = [
    "ClassMap",
    "Classification",
    "ClassifyTrainConfig",
    "Config",
    "Prediction",
    "TextClassification",
    "backbones",
    "classify",
    "evaluate",
    "features",
    "infer",
    "load",
    "train",
]
install(
    __name__,
    __all__,
    modules=["backbones", "features", "infer"],
    config=["ClassifyTrainConfig"],
    infer=["ClassMap", "Classification", "Prediction", "TextClassification"],
)
