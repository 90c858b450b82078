"""The architectures by name.

Each has `forward`, which the losses call, `predict`, which finds the objects of uint8 images
(B, 3, H, W), and `prepare`, which brings it into its form for inference; `keypoints`, which is
`--arch localize --keypoints K`, finds no objects and so has no `predict`.
"""

from typing import Any

from torch import nn

from dlkit.core.errors import DlkitError
from dlkit.detect.models.fast_rcnn import FastRCNN
from dlkit.detect.models.fasterrcnn import FasterRCNN
from dlkit.detect.models.fcos import FCOS
from dlkit.detect.models.localize import KeypointLocalizer, Localizer
from dlkit.detect.models.rcnn import RCNN
from dlkit.detect.models.retinanet import RetinaNet
from dlkit.detect.models.sliding_window import SlidingWindow
from dlkit.detect.models.ssd import SSD
from dlkit.detect.models.yolo import Yolo
from dlkit.detect.models.yolo_v1 import YoloV1

ARCHITECTURES: dict[str, type[nn.Module]] = {
    "yolo": Yolo,
    "yolo-v1": YoloV1,
    "ssd": SSD,
    "retinanet": RetinaNet,
    "fcos": FCOS,
    "fasterrcnn": FasterRCNN,
    "fast-rcnn": FastRCNN,
    "rcnn": RCNN,
    "sliding-window": SlidingWindow,
    "localize": Localizer,
    "keypoints": KeypointLocalizer,
}


def build(arch: str, **settings: Any) -> Any:
    """The untrained architecture of that name."""
    if arch not in ARCHITECTURES:
        raise DlkitError(f"no architecture {arch!r}: there is {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[arch](**settings)
