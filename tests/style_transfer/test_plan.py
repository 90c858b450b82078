"""Plans of paintings and their files."""

from pathlib import Path

import pytest

from dlkit.core.errors import DlkitError
from dlkit.style_transfer.plan import Style, group_styles, plan_paintings


def test_every_photograph_gets_every_style(tmp_path: Path) -> None:
    groups = group_styles(["x/s.png", "t.jpg"], None)
    planned = plan_paintings(["a/p.JPG", "b/p.jpg", "q.tif"], groups, tmp_path)
    assert [job.target.name for job in planned] == [
        "p-s.jpg", "p-t.jpg", "p-s-2.jpg", "p-t-2.jpg", "q-s.png", "q-t.png",
    ]  # fmt: skip
    (blend,) = group_styles(["s", "t"], "1,3")
    assert [style.share for style in blend] == [0.25, 0.75]
    assert plan_paintings(["p.jpg"], [blend], tmp_path)[0].target.name == "p-s-t.jpg"


def test_paintings_never_replace_inputs(tmp_path: Path) -> None:
    photo = tmp_path / "p.png"
    for output in (photo, tmp_path / "s.png"):
        with pytest.raises(DlkitError, match="would overwrite an input"):
            plan_paintings([str(photo)], [(Style(str(tmp_path / "s.png")),)], output)
    with pytest.raises(DlkitError, match="one file for 2 paintings; give a folder"):
        plan_paintings(["p.png", "q.png"], [(Style("s.png"),)], tmp_path / "out.png")
