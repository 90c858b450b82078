"""Options of inference. Loads no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from dlkit.core.errors import DlkitError
from dlkit.detect.config import Nms


class Suppression(NamedTuple):
    """Non-maximum suppression per label, or across labels if `agnostic`.

    hard: a box that overlaps a better one by more than `iou` is removed. weighted: the same, but
    the kept box becomes the mean of itself and of the removed ones, weighted by score (Ning et al.
    2017). soft-linear: the score of the worse box is multiplied by 1 - IoU if they overlap by at
    least `iou` (Bodla et al. 2017, eq. 2); soft-gaussian: by exp(-IoU^2 / sigma), at any overlap
    (eq. 3).
    """

    kind: Nms = "hard"
    iou: float = 0.5
    sigma: float = 0.5
    agnostic: bool = False


DEFAULT_THRESHOLD = 0.3  # of labels without a threshold of their own


@dataclass(frozen=True)
class DetectOptions:
    """Options of inference.

    `threshold` is the least score of an object, unless `thresholds` has one for its label; None:
    the score that the training chose for its label, or `DEFAULT_THRESHOLD` if it chose none.
    `labels` restricts the labels: names, or several with commas between them. `image_size` is the
    longest side of the network's input; None: as trained. `tile` is the side of tiles that are
    processed besides the whole image; None: no tiles. `tta` fuses the predictions of several views.
    """

    threshold: float | None = None
    thresholds: Mapping[str, float] = field(default_factory=dict)
    suppression: Suppression = Suppression()
    labels: Sequence[str] | None = None
    max_detections: int = 100
    image_size: int | None = None
    tile: int | None = None
    tta: bool = False
    batch_size: int = 16
    workers: int = 2


DEFAULT_OPTIONS = DetectOptions()


def parse_thresholds(text: str | None) -> tuple[float | None, dict[str, float]]:
    """Parse `0.4`, `cat=0.5` or both: the threshold of all labels and those of single labels.

    Raises DlkitError for anything but a score, and for two scores of one label.
    """
    if text is None:
        return None, {}
    own: dict[str, float] = {}
    name = ""  # the parts so far of a label with commas
    parts = text.split(",")
    for place, part in enumerate(parts, 1):
        part = f"{name},{part}" if name else part
        if place < len(parts) and not is_score(part.rpartition("=")[2]):
            name = part
            continue
        name = ""
        label, equals, number = (piece.strip() for piece in part.rpartition("="))
        try:
            score = float(number)
        except ValueError:
            score = -1.0
        if not 0 <= score <= 1 or label in own or (equals and not label):
            raise DlkitError(
                f"--threshold {text}: not a score; give a number from 0 to 1, or scores of labels,"
                " each once, such as cat=0.5,dog=0.3"
            )
        own[label] = score
    return own.pop("", None), own


def is_score(text: str) -> bool:
    """Whether the text is a number, in or out of the range of scores."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def parse_suppression(
    kind: Nms, iou: float | None, sigma: float | None, agnostic: bool
) -> Suppression:
    """The suppression of these options; None takes the default.

    Raises DlkitError for an option that has no effect on this kind.
    """
    if iou is not None and kind == "soft-gaussian":
        raise DlkitError(
            "--iou: not used by --nms soft-gaussian; choose hard, soft-linear or weighted"
        )
    if sigma is not None and kind != "soft-gaussian":
        raise DlkitError(f"--sigma: not used by --nms {kind}; choose soft-gaussian")
    default = Suppression()
    return Suppression(
        kind,
        default.iou if iou is None else iou,
        default.sigma if sigma is None else sigma,
        agnostic,
    )
