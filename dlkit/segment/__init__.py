"""Segmentation: a label for every pixel, or a mask for every object.

>>> from dlkit.segment import segment
>>> found = segment("data/astronaut.jpg", classes="Sky")
>>> found.segments[0].label, found.segments[0].mask.shape
('Sky', (512, 512))

`load` prepares a model that is used many times, `train(Config(...))` trains one, and `evaluate`
scores one on annotated images.
"""

from typing import TYPE_CHECKING

from dlkit.core.lazy import install

if TYPE_CHECKING:
    from dlkit.segment.api import Config, evaluate, load, segment, train
    from dlkit.segment.config import SegmentTrainConfig
    from dlkit.segment.infer import Region, Segmentation
    from dlkit.segment.instances import ImageInstances, Instance

__all__ = [
    "Config",
    "ImageInstances",
    "Instance",
    "Region",
    "SegmentTrainConfig",
    "Segmentation",
    "evaluate",
    "load",
    "segment",
    "train",
]
install(
    __name__,
    __all__,
    config=["SegmentTrainConfig"],
    infer=["Region", "Segmentation"],
    instances=["ImageInstances", "Instance"],
)
