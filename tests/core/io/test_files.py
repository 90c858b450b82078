"""Files that exist are kept, and what is saved is reported."""

import os
from pathlib import Path

import pytest

from dlkit.core.errors import DlkitError
from dlkit.core.io import files
from dlkit.core.io.files import (
    FileNames,
    check_free,
    check_free_in,
    keep_existing,
    note_saved,
    report_saved,
    safe_name,
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


@pytest.mark.parametrize(
    "text",
    ["../../x", "/etc/passwd", "..", ".", "", "a/b", "a\\b", "C:x", "con", "NUL.txt", "x" * 300,
     "é" * 150, "\x1b[31m", "a\nb", "\0", "\ud800", " a", "a.", "a\u202eb", "COM7"],
)  # fmt: skip
def test_any_text_becomes_one_safe_name(text: str, tmp_path: Path) -> None:
    name = safe_name(text)
    assert name != text
    assert safe_name(name) == name
    assert name not in {".", ".."}
    assert "/" not in name
    assert name.isprintable()
    assert len(os.fsencode(name)) <= 200
    (tmp_path / name).touch()
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_names_that_are_safe_stay_and_others_never_collide() -> None:
    for text in ("cat", "Faces_easy", "日本", "photo 1:2", "a.b-c", os.fsdecode(b"caf\xe9")):
        assert safe_name(text) == text
    changed = ["a/b", "a\\b", "a_b", "x" * 300, "x" * 301, "", ".", "..", "con", "_con"]
    assert len({safe_name(text) for text in changed}) == len(changed)


def test_paths_that_cannot_be_are_nothing(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for path in ("a\0b", "x" * 5000, "y/" * 3000, str(loop), str(loop / "z"), "\ud800"):
        assert not files.exists(path)
        assert not files.is_file(path)
        assert not files.is_dir(path)
        assert files.entries(path) == []
        assert isinstance(files.resolved(path), Path)
        with pytest.raises(DlkitError):
            files.read_whole(Path(path), 10)
        with pytest.raises(DlkitError), files.whole_file(Path(path) / "f"):
            pass


def test_what_never_ends_is_not_read(tmp_path: Path) -> None:
    for device in ("/dev/zero", "/dev/urandom"):
        with pytest.raises(DlkitError, match="a device that never ends"):
            files.read_whole(Path(device), 10)
    (tmp_path / "large").write_bytes(b"x" * 11)
    with pytest.raises(DlkitError, match="has more than"):
        files.read_whole(tmp_path / "large", 10)


def test_a_pipe_that_nobody_reads_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "WAIT", 0.1)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    unread = pytest.raises(DlkitError, match="a pipe that no program reads")
    with unread, files.whole_file(pipe):
        pass
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with files.whole_file(pipe) as path:
        path.write_text("x")
    assert os.read(reader, 10) == b"x"
    os.close(reader)
