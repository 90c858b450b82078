"""Commands import no more than they need."""

from pathlib import Path

import pytest

from tests.conftest import loaded_by


@pytest.mark.parametrize(
    "arguments",
    [
        ["similar", "king"],
        ["kingg"],
        ["analogy", "paris", "france", "italy"],
        ["vector", "king queen"],
        ["odd-one-out", "king", "queen", "rome"],
    ],
)
def test_queries_load_numpy_and_nothing_heavier(world: Path, arguments: list[str]) -> None:
    loaded = loaded_by("embed", *arguments, "-m", str(world))
    assert "numpy" in loaded
    assert not loaded & {"torch", "numba", "matplotlib", "scipy", "rich", "safetensors"}


def test_help_loads_nothing_heavy() -> None:
    for command in (["embed"], ["embed", "train"], ["embed", "convert"]):
        assert not loaded_by(*command, "--help") & {"torch", "numpy", "numba", "rich"}
