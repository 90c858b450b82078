"""Lists of classes and colors in the spellings of several tools."""

from pathlib import Path

import pytest

from dlkit.core.datasets.classes import read_classes
from dlkit.core.datasets.samples import Classes
from dlkit.core.errors import DlkitError

NAMES, COLORS = ("background", "wild cat"), ((0, 0, 0), (128, 0, 64))


@pytest.mark.parametrize(
    ("file", "text", "colors"),
    [
        ("classes.txt", "\ufeffbackground\r\n\nwild cat\n", ()),
        ("classes.txt", "background 0 0 0\nwild cat 128 0 64\n", COLORS),
        ("classes.txt", "background,0,0,0\nwild cat,128,0,64\n", COLORS),
        ("label_colors.txt", "0 0 0\tbackground\n128 0 64\twild cat\n", COLORS),
        (
            "labelmap.txt",
            "# label:color_rgb:parts:actions\nbackground:0,0,0::\nwild cat:128,0,64::\n",
            COLORS,
        ),
        ("labelmap.txt", "background:::\nwild cat:::\n", ()),
    ],
)
def test_lists(file: str, text: str, colors: tuple[object, ...], tmp_path: Path) -> None:
    (tmp_path / file).write_bytes(text.encode())
    assert read_classes(tmp_path) == Classes(NAMES, colors)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\nb\na\n", "the class a is listed twice"),
        ("a 0 0 256\n", "classes.txt:1: a color needs"),
        ("a 0 0 0\nb\n", "the class b has no color"),
        ("1 2 3 4 5 6\n", "classes.txt:1: is the color before or behind"),
    ],
)
def test_lists_that_are_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text(text)
    with pytest.raises(DlkitError, match=message):
        read_classes(tmp_path)


def test_two_lists_must_agree_and_the_one_with_colors_is_used(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("cat\n")
    (tmp_path / "labelmap.txt").write_text("cat:1,2,3::\n")
    assert read_classes(tmp_path) == Classes(("cat",), ((1, 2, 3),))
    (tmp_path / "labelmap.txt").write_text("dog:1,2,3::\n")
    with pytest.raises(DlkitError, match="classes.txt and labelmap.txt list different classes"):
        read_classes(tmp_path)


def test_the_first_of_columns_between_tabs_is_the_name(tmp_path: Path) -> None:
    file = tmp_path / "classes.txt"
    file.write_text("tabby_cat\tn02123045\ttabby, tabby cat\nbarrel\tn02795169\tbarrel, cask\n")
    assert read_classes(tmp_path) == Classes(("tabby_cat", "barrel"))
    file.write_text("cat\t1\t2\t3\ndog\t4\t5\t6\n")
    assert read_classes(tmp_path) == Classes(("cat", "dog"), ((1, 2, 3), (4, 5, 6)))
    file.write_text("0\tcat\n1\tdog\n")
    with pytest.raises(DlkitError, match="classes.txt:1: columns between tabs"):
        read_classes(tmp_path)
