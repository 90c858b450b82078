"""Keypoints as data sets describe them. Loads no torch."""

import re
from collections.abc import Sequence

# A side as a word of a name: left_eye, eyeLeft, LeftEye, eye.L, LEye; not copyright or Lip.
SIDES = re.compile(
    r"(?<![A-Za-z])(?:left|Left|LEFT|right|Right|RIGHT)(?![a-z])"
    r"|(?<![A-Za-z])[lLrR](?=[A-Z][a-z]|[^A-Za-z]|$)"
    r"|(?<=[a-z])(?:Left|Right)(?![a-z])"
)
OTHER_SIDE = {"left": "right", "right": "left", "l": "r", "r": "l"}
SEEN = (0, 1, 2)  # the values of a visibility: not annotated, hidden, visible


def mirrored_names(names: Sequence[str]) -> tuple[int, ...] | None:
    """The keypoint that each is in a mirrored image: right_eye for left_eye, nose for nose.

    None where no name has a side, or one has no counterpart.
    """
    places = {name: number for number, name in enumerate(names)}
    others = [SIDES.sub(other_side, name) for name in names]
    if len(places) < len(names) or others == list(names) or not set(others) <= places.keys():
        return None
    return tuple(places[name] for name in others)


def other_side(side: re.Match[str]) -> str:
    """The word of the other side, in the same case."""
    word = OTHER_SIDE[side[0].lower()]
    return word.title() if side[0].istitle() else word.upper() if side[0].isupper() else word
