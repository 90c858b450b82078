"""Image captioning.

>>> from dlkit.caption import caption
>>> caption("data/astronaut.jpg").captions[0].caption
'a man in a ...'

`load` prepares a model that is used many times, `train(Config(...))` trains one, and `evaluate`
scores one on images with captions.
"""

from typing import TYPE_CHECKING

from dlkit.core.lazy import install

if TYPE_CHECKING:
    from dlkit.caption.api import Config, caption, evaluate, load, train
    from dlkit.caption.config import CaptionTrainConfig
    from dlkit.caption.infer import ImageCaptions, ScoredCaption

__all__ = [
    "CaptionTrainConfig",
    "Config",
    "ImageCaptions",
    "ScoredCaption",
    "caption",
    "evaluate",
    "load",
    "train",
]
install(
    __name__,
    __all__,
    config=["CaptionTrainConfig"],
    infer=["ImageCaptions", "ScoredCaption"],
)
