"""Photographs painted in the style of a picture.

>>> from dlkit.style_transfer import style_transfer
>>> painted = style_transfer("data/cat.jpg", "data/great-wave.jpg")
>>> painted.picture().size, painted.save("cat-wave.jpg").name
((451, 300), 'cat-wave.jpg')

`load` prepares a painter that is used many times, `train(Config(...))` trains one, and `evaluate`
measures one.
"""

from typing import TYPE_CHECKING

from dlkit.core.lazy import install

if TYPE_CHECKING:
    from dlkit.style_transfer.api import Config, evaluate, load, style_transfer, train
    from dlkit.style_transfer.config import StyleTrainConfig
    from dlkit.style_transfer.results import OptimizedPicture, StyledPicture

__all__ = [
    "Config",
    "OptimizedPicture",
    "StyleTrainConfig",
    "StyledPicture",
    "evaluate",
    "load",
    "style_transfer",
    "train",
]
install(
    __name__,
    __all__,
    config=["StyleTrainConfig"],
    results=["OptimizedPicture", "StyledPicture"],
)
