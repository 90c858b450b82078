"""Which files the sources on a command line name."""

import io
import os
from pathlib import Path
from unittest import mock

import pytest

from dlkit.core.io.image_files import files, missing, why_empty


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.jpg", "a.PNG", "sub/c.webp", "sub/deep/d.tiff", "notes.txt", "sub/e.jpg.txt"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    (tmp_path / "in" / "folder.jpg").mkdir()
    (tmp_path / "empty").mkdir()
    return tmp_path


IN_FOLDER = ["in/a.PNG", "in/b.jpg", "in/sub/c.webp", "in/sub/deep/d.tiff"]


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        (["in"], IN_FOLDER),
        (["in/sub/deep", "in/b.jpg"], ["in/sub/deep/d.tiff", "in/b.jpg"]),
        (["in/b.jpg", "in/b.jpg"], ["in/b.jpg", "in/b.jpg"]),
        (["in/*.jpg.txt", "in/b.*"], ["in/*.jpg.txt", "in/b.jpg"]),
        (["in/**/*.webp"], ["in/sub/c.webp"]),
        (["in/*"], ["in/a.PNG", "in/b.jpg", "in/sub/c.webp", "in/sub/deep/d.tiff"]),
        (["in/*.txt"], ["in/notes.txt"]),
        (["in/s*"], ["in/sub/c.webp", "in/sub/deep/d.tiff"]),
        (["empty", "missing.jpg"], ["empty", "missing.jpg"]),
        (["http://host/x?a=*", "in/notes.txt"], ["http://host/x?a=*", "in/notes.txt"]),
        (["in/b.jpg", "-", "last.jpg"], ["in/b.jpg", *IN_FOLDER, "gone.jpg", "last.jpg"]),
        (["in/" + "x" * 300 + ".jpg"], ["in/" + "x" * 300 + ".jpg"]),
    ],
    ids=[
        "folder",
        "order",
        "twice",
        "globs",
        "recursive glob",
        "glob is folder",
        "glob of a suffix",
    ]
    + ["glob of folders"]
    + ["missing", "URL", "stdin", "long name"],
)
def test_sources(
    sources: list[str], expected: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    with mock.patch("sys.stdin", io.StringIO("in\n\ngone.jpg\r\n")):
        assert list(files(sources)) == expected


def test_a_name_with_glob_characters_is_a_name(folder: Path) -> None:
    path = folder / "in" / "[1].jpg"
    path.write_bytes(b"x")
    assert list(files([str(path)])) == [str(path)]


def test_a_folder_with_glob_characters_is_a_name_in_a_glob(folder: Path) -> None:
    path = folder / "set [1]" / "a.jpg"
    path.parent.mkdir()
    path.write_bytes(b"x")
    assert list(files([str(path.parent / "*.jpg")])) == [str(path)]
    assert missing(str(path.parent / "*.jpg")) is None


def test_files_that_a_folder_or_a_glob_has_besides_are_counted_in_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("._b.jpg", "p.heic", "p.jfif", "q.avif"):
        (folder / "in" / name).touch()
    (folder / "in" / "__MACOSX").mkdir()
    (folder / "in" / "__MACOSX" / "b.jpg").touch()
    (folder / "in" / "loop").symlink_to(".")
    for source in ("in", "in/**"):
        found = [Path(path).name for path in files([str(folder / source)])]
        assert {"p.jfif", "q.avif", "b.jpg", "c.webp"} <= {*found}, source
        assert len(found) == len({*found})
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("ignored 2 hidden files and folders, 3 files of other kinds (.txt, ")
    assert len(lines) == 2


def test_a_closed_folder_fails_among_the_inputs(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir

    def closed(path: str) -> object:
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    deep = str(folder / "in" / "sub" / "deep")
    assert [*files([str(folder / "in")])][-1] == deep
    assert why_empty(deep) == missing(deep) == "a folder that cannot be listed (Permission denied)"
