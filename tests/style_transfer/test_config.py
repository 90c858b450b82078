"""Options of the architectures."""

from pathlib import Path

import pytest

from dlkit.core.errors import DlkitError
from dlkit.style_transfer.config import by_arch
from tests.style_transfer.helpers import settings


def test_options_of_the_other_architecture_are_refused(examples: Path, tmp_path: Path) -> None:
    with pytest.raises(DlkitError, match="--width is for fast, not adain"):
        by_arch(settings(examples, tmp_path, "adain", width=8))
    chosen = by_arch(settings(examples, tmp_path, "adain", style_weight=3.0))
    assert (chosen.style_weight, chosen.tv_weight) == (3.0, 20.0)
