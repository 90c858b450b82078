"""Files that exist are kept, and what is saved is reported."""

import os
from pathlib import Path

import pytest

from dlkit.core.errors import DlkitError
from dlkit.core.io.files import (
    FileNames,
    check_free,
    check_free_in,
    keep_existing,
    note_saved,
    report_saved,
)


def test_files_are_kept_in_a_command_without_force_alone(tmp_path: Path) -> None:
    mine = tmp_path / "mine.png"
    mine.write_text("mine")
    check_free(mine)
    with keep_existing(False):
        check_free(mine)
    with keep_existing(True):
        check_free(tmp_path / "new.png")
        check_free(Path(os.devnull))
        check_free(tmp_path)
        with pytest.raises(DlkitError, match="exists already; add --force"):
            check_free(mine)
        with pytest.raises(DlkitError, match="mine.png"):
            check_free_in(tmp_path, "new.png", "mine.png")
        check_free_in(None, "mine.png")
    check_free(mine)


def test_names_that_exist_are_found_before_any_is_used(tmp_path: Path) -> None:
    (tmp_path / "a-2.png").write_text("mine")
    names = FileNames(tmp_path)
    with keep_existing(True):
        names.check(["x/a.jpg", "x/b.jpg"], lambda _: ".png")
        with pytest.raises(DlkitError, match="a-2.png: exists"):
            names.check(["x/a.jpg", "y/a.jpg"], lambda _: ".png")
    assert names.path_for("x/a.jpg", ".png").name == "a.png"


def test_saved_files_have_a_line_or_their_folders(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report_saved()
    capsys.readouterr()
    for name in ("one/a.png", "two/a.png", "two/b.png", *(f"all/{k}/{k}.png" for k in range(4))):
        note_saved(Path(name))
    report_saved()
    assert capsys.readouterr().err.splitlines() == [
        "saved one/a.png",
        "saved 2 files in two",
        "saved 4 files in 4 folders of all",
    ]
    report_saved()
    assert capsys.readouterr().err == ""
