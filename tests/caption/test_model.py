"""The architectures by name."""

import inspect

import pytest

from dlkit.caption.model import ARCHITECTURES, SETTINGS, build
from dlkit.core.errors import DlkitError
from tests.caption.helpers import NETWORKS, small


@pytest.mark.parametrize("arch", SETTINGS)
def test_settings_name_the_arguments_of_the_class(arch: str) -> None:
    name = next(n for n, (a, _) in NETWORKS.items() if a == arch)
    own = list(inspect.signature(type(small(name))).parameters)
    assert (*SETTINGS[arch], "captioner") == tuple(own)
    assert set(SETTINGS) == set(ARCHITECTURES)


def test_an_unknown_architecture_is_refused() -> None:
    with pytest.raises(DlkitError, match="unknown architecture 'lstm'; choose from nic, attend"):
        build("lstm")
