"""The commands and their errors."""

from pathlib import Path
from unittest import mock

import pytest

from dlkit.core.errors import DlkitError
from dlkit.style_transfer import cli, infer
from dlkit.style_transfer.optimize import ADAM_LR, Objective
from tests.conftest import one_line, run
from tests.style_transfer.helpers import paint


def test_layers_and_their_weights() -> None:
    assert cli.layer_weights("--x", "a, b") == {"a": 0.5, "b": 0.5}
    assert cli.layer_weights("--x", "a=2,b=0.5") == {"a": 2, "b": 0.5}
    for wrong in ("a=x", "", "a=-1"):
        with pytest.raises(DlkitError, match="--x"):
            cli.layer_weights("--x", wrong)


def test_the_commands_defaults_are_the_objectives(folder: Path) -> None:
    with mock.patch.object(infer, "paint", return_value=iter([])) as called:
        assert paint("photos/a.png", "styles/wave.png").code == 0
    _, _, objective, method = called.call_args.args
    assert objective == Objective()
    assert method == infer.PaintOptions(precision="fp32")
    assert str(ADAM_LR) in " ".join(run("style-transfer", "--help-all").out.split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["photos/a.png", "styles/wave.png", "--blend", "1,2"], "2 shares for 1 styles"),
        (["photos/a.png", "styles", "--blend", "a,b"], "not numbers; give numbers"),
        (["photos/a.png", "styles", "--blend", "0,0"], "negative or all 0"),
        (["photos", "styles", "-o", "x.png"], "one file for 4 paintings"),
        (
            ["photos/a.png", "styles/wave.png", "--style-layers", "relu9_1"],
            "unknown layer 'relu9_1'",
        ),
        (["photos/a.png", "styles/wave.png", "--seed", "1"], "--init noise"),
        (["photos/a.png", "styles/wave.png", "--caffe"], "--caffe is for"),
        (
            [
                *("photos/a.png", "styles/wave.png", "--style-weight", "0"),
                *("--content-weight", "0", "--tv-weight", "0"),
            ],
            "nothing to paint",
        ),
    ],
)
def test_what_cannot_be_meant(arguments: list[str], said: str, folder: Path) -> None:
    one_line(paint(*arguments), said)


def test_a_photograph_alone_is_too_few(folder: Path) -> None:
    result = paint("photos/a.png")
    assert result.code == 2
    assert "missing PHOTOS" in result.err
