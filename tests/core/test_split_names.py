"""Names with commas in options."""

import pytest

from dlkit.core.config import split_names
from dlkit.detect.options import parse_thresholds

KNOWN = ["light, red", "light", "red", "cat", "a,b,c"]


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (["light, red"], ["light, red"]),
        (["cat,light, red"], ["cat", "light, red"]),
        (["light", "red"], ["light", "red"]),
        (["red,cat"], ["red", "cat"]),
        (["a,b,c,dog"], ["a,b,c", "dog"]),
        (["a,b"], ["a", "b"]),
    ],
)
def test_known_names_come_first(given: list[str], names: list[str]) -> None:
    assert split_names(given, KNOWN) == names


def test_thresholds_of_names_with_commas() -> None:
    assert parse_thresholds("0.2,light, red=0.1,a=b=0.4") == (
        0.2,
        {"light, red": 0.1, "a=b": 0.4},
    )
