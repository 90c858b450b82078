"""The architectures by name, and settings that are refused."""

import inspect
from typing import Any

import pytest

from dlkit.core.errors import DlkitError
from dlkit.translate.model import ARCHITECTURES, SETTINGS, build
from tests.translate.helpers import SPECIAL


@pytest.mark.parametrize("arch", SETTINGS)
def test_settings_name_the_arguments_of_the_class(arch: str) -> None:
    own = list(inspect.signature(ARCHITECTURES[arch]).parameters)
    assert (*SETTINGS[arch], "translator") == tuple(own)
    assert set(SETTINGS) == set(ARCHITECTURES)


def test_an_unknown_architecture_is_refused() -> None:
    with pytest.raises(DlkitError, match="choose from rnn, attention, transformer"):
        build("lstm", **SPECIAL)


def test_a_width_that_the_heads_cannot_share_is_refused() -> None:
    with pytest.raises(DlkitError, match="width"):
        build("transformer", **SPECIAL, width=10, heads=4)


@pytest.mark.parametrize(
    ("arch", "settings"),
    [
        ("rnn", {"cell": "elman"}),
        ("attention", {"score": "cosine"}),
        ("attention", {"width": 7}),
    ],
)
def test_unknown_settings_are_refused(arch: str, settings: dict[str, Any]) -> None:
    with pytest.raises(DlkitError, match="there is|choose from|odd"):
        build(arch, **SPECIAL, **settings)
