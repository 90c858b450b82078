"""Object detection.

>>> from dlkit.detect import detect
>>> found = detect("data/cat.jpg")
>>> found.objects[0].label
'cat'

`load` prepares a model that is used many times, `train(Config(...))` trains one, and `evaluate`
scores one on annotated images.
"""

from typing import TYPE_CHECKING

from dlkit.core.lazy import install

if TYPE_CHECKING:
    from dlkit.detect.api import Config, detect, evaluate, load, train
    from dlkit.detect.config import DetectTrainConfig
    from dlkit.detect.infer import Detections, Object
    from dlkit.detect.keypoints import Keypoints

__all__ = [
    "Config",
    "DetectTrainConfig",
    "Detections",
    "Keypoints",
    "Object",
    "detect",
    "evaluate",
    "load",
    "train",
]
install(
    __name__,
    __all__,
    config=["DetectTrainConfig"],
    infer=["Detections", "Object"],
    keypoints=["Keypoints"],
)
