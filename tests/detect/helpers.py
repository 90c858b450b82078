"""What several tests of `dlkit detect` share."""

from typing import Any

from dlkit.detect import model


def build(arch: str, **settings: Any) -> Any:
    """An untrained network, whose own attributes may be used."""
    return model.build(arch, **settings)
