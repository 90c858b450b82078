"""Detections as VOC, COCO and YOLO."""

from dlkit.detect.formats import voc_xml
from dlkit.detect.infer import Detections, Object
from tests.conftest import LABELS


def test_a_thin_box_is_a_box_in_voc_too() -> None:
    thin = Object("disc", 0.9, 10.6, 20.0, 10.9, 30.0)
    text = voc_xml(Detections("a.jpg", 50, 50, [thin]), LABELS)
    x1, x2 = (int(text.partition(f"<{k}>")[2].partition("<")[0]) for k in ("xmin", "xmax"))
    assert x1 <= x2
