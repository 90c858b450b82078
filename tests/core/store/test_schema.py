"""The check of values from a file against declared types."""

import json
from collections.abc import Sequence
from typing import Any, Literal, NotRequired, TypedDict

import pytest

from dlkit.core.errors import DlkitError
from dlkit.core.store import schema


class Inner(TypedDict):
    std: list[schema.Deviation]


class Settings(TypedDict):
    side: schema.Side
    fit: Literal["crop", "squash"]
    inner: NotRequired[Inner]
    share: NotRequired[schema.Share | None]
    size: NotRequired[str | Inner]


GOOD = {"side": 8, "fit": "crop"}


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"side": 0}, "side is 0; it must be an integer from 1 to 16384"),
        ({"side": True}, "side is true; it must be an integer"),
        ({"side": 8.0}, "side is 8.0; it must be an integer"),
        ({"side": 10**40}, "side is a number of many digits; it must be an integer from 1"),
        ({"fit": "x"}, "fit is 'x'; it must be one of crop, squash"),
        ({"fit": ["crop"]}, "fit is a list of 1; it must be one of crop, squash"),
        ({"more": 1}, "unknown setting 'more'"),
        ({"inner": {"std": [0.5, float("nan")]}}, r"inner.std\[1\] is nan; it must be a number"),
        ({"inner": {"std": [0]}}, r"inner.std\[0\] is 0; it must be a number from 1e-06"),
        ({"inner": {}}, "inner has no setting 'std'"),
        ({"inner": 3}, "inner is 3; it must be an object"),
        ({"share": 2}, "share is 2; it must be a number from 0 to 1"),
        ({"size": {"std": "x"}}, "size.std is 'x'; it must be a list"),
    ],
)
def test_what_is_wrong_is_named(changed: dict[str, Any], reason: str) -> None:
    with pytest.raises(DlkitError, match=f"^{reason}"):
        schema.check({**GOOD, **changed}, Settings, "")


def test_what_is_missing_is_named_and_what_fits_is_taken() -> None:
    with pytest.raises(DlkitError, match="^it has no setting 'side'"):
        schema.check({"fit": "crop"}, Settings, "")
    whole = {**GOOD, "inner": {"std": [1, 0.5]}, "share": None, "size": "small"}
    assert schema.fit(Settings, whole) is whole
    schema.check({**whole, "foreign": 1}, Settings, "", foreign=True)


class Base:
    def __init__(self, width: int, rates: Sequence[float] = ()) -> None:
        self.width, self.rates = width, rates


class Derived(Base):
    def __init__(self, depth: int = 1, **base: Any) -> None:
        super().__init__(**base)
        self.depth = depth


def test_arguments_of_a_class_are_those_of_its_bases() -> None:
    assert schema.call(Derived, {"width": 3, "rates": [0.5]}).width == 3
    cases: list[tuple[dict[str, Any], str | None]] = [
        ({}, "no setting 'width'"),
        ({"width": "3"}, "width is '3'; it must be an integer"),
        ({"width": -1}, "width is -1; it must be an integer from 0"),
        ({"width": 3, "depth": None}, None),
        ({"width": 3, "more": 1}, "unknown setting 'more'"),
        ({"width": 3, "rates": [1, None]}, r"rates\[1\] is null; it must be a number"),
    ]
    for settings, reason in cases:
        if reason is None:
            schema.check_arguments(Derived, settings, 0)
            continue
        with pytest.raises(DlkitError, match=reason):
            schema.call(Derived, settings)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "not JSON .line 1, column 2"),
        (b"\xff{}", "byte 0 is not UTF-8"),
        (b'{"a": "\xed\xa0\x80"}', "is not UTF-8"),
        ('{"a": "\\ud800"}', "a lone surrogate"),
        ("[" * 100_000, "nested too deeply"),
        ("[" * 80 + "]" * 80, "nested too deeply"),
        ("1" * 5000, "a number of thousands of digits"),
    ],
)
def test_text_that_is_no_json_is_refused(text: str | bytes, reason: str) -> None:
    with pytest.raises(DlkitError, match=reason):
        schema.read_json(text)


def test_characters_beyond_the_first_plane_are_read() -> None:
    assert schema.read_json(json.dumps({"a": "😀"})) == {"a": "😀"}
