"""The architectures by name.

Each has `forward`, which the losses call, `predict`, which finds the objects of uint8 images
(B, 3, H, W), and `prepare`, which brings it into its form for inference.
"""

from typing import Any

from torch import nn

from dlkit.core.errors import DlkitError
from dlkit.detect.models.fast_rcnn import FastRCNN
from dlkit.detect.models.fasterrcnn import FasterRCNN
from dlkit.detect.models.rcnn import RCNN
from dlkit.detect.models.yolo import Yolo

ARCHITECTURES: dict[str, type[nn.Module]] = {
    "yolo": Yolo,
    "fasterrcnn": FasterRCNN,
    "rcnn": RCNN,
    "fast-rcnn": FastRCNN,
}


def build(arch: str, **settings: Any) -> Any:
    """The untrained architecture of that name."""
    if arch not in ARCHITECTURES:
        raise DlkitError(f"no architecture {arch!r}: there is {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[arch](**settings)
