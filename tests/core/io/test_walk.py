"""Files below a folder: links, loops, hidden files, closed folders."""

import os
from pathlib import Path

import pytest

from dlkit.core.io.walk import Ignored, walk


def names(folder: Path, ignored: Ignored | None = None) -> list[str]:
    found = walk(str(folder), lambda name: name.endswith(".png"), ignored)
    return [os.path.relpath(path, folder) for path in found]


def put(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_links_to_folders_are_followed_once_and_loops_end(tmp_path: Path) -> None:
    data, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    put(data / "b" / "1.png", elsewhere / "2.png")
    (data / "a").symlink_to(elsewhere)
    (data / "b" / "loop").symlink_to(data)
    (data / "c").symlink_to(elsewhere)
    (data / "self").symlink_to(data / "self")
    assert names(data) == ["a/2.png", "b/1.png"]


def test_hidden_files_and_other_kinds_are_ignored_and_counted(tmp_path: Path) -> None:
    put(tmp_path / "a.png", tmp_path / "._a.png", tmp_path / "b.txt", tmp_path / "README")
    put(tmp_path / ".ipynb_checkpoints" / "a.png", tmp_path / "__MACOSX" / "a.png")
    ignored = Ignored()
    assert names(tmp_path, ignored) == ["a.png"]
    assert ignored.lines() == [
        "ignored 3 hidden files and folders, 2 files of other kinds (no suffix, .txt)",
    ]


@pytest.mark.skipif(os.getuid() == 0, reason="root may list every folder")
def test_a_closed_folder_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    put(tmp_path / "a" / "1.png", tmp_path / "b" / "2.png")
    (tmp_path / "a").chmod(0)
    ignored = Ignored()
    assert names(tmp_path, ignored) == ["b/2.png"]
    assert ignored.lines() == [f"ignored {tmp_path / 'a'}: Permission denied"]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    ignored = Ignored()
    assert names(tmp_path / "none", ignored) == []
    assert ignored.lines() == [f"ignored {tmp_path / 'none'}: no such file"]


def test_a_folder_inside_goes_by_its_own_name_not_by_that_of_a_link(tmp_path: Path) -> None:
    put(tmp_path / "cat" / "1.png", tmp_path / ".store" / "2.png")
    (tmp_path / "a").symlink_to("cat")
    (tmp_path / "b").symlink_to(".store")
    assert names(tmp_path) == ["b/2.png", "cat/1.png"]


def test_links_to_nothing_and_pipes_are_named(tmp_path: Path) -> None:
    put(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("gone.png")
    os.mkfifo(tmp_path / "c.png")
    ignored = Ignored()
    assert names(tmp_path, ignored) == ["a.png"]
    assert ignored.lines() == [f"ignored 2 broken links or devices ({tmp_path / 'b.png'})"]


def test_paths_are_as_the_folder_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "in" / "a.png")
    monkeypatch.chdir(tmp_path)
    for folder, path in (("in/", "in/a.png"), ("./in", "in/a.png"), (".", "in/a.png")):
        assert list(walk(folder, lambda name: True)) == [path]
    monkeypatch.chdir("in")
    assert list(walk(".", lambda name: True)) == ["a.png"]
