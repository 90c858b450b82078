"""The README's first command prints what the page shows."""

import re
from pathlib import Path

import pytest

from tests.conftest import run

ROOT = Path(__file__).parent.parent


def test_the_first_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to the last digits, which depend on the processor's precision."""
    page = (ROOT / "README.md").read_text()
    command = re.search(r"pip install \. && dlkit (.*)\n", page)
    assert command is not None
    (tmp_path / "data").symlink_to(ROOT / "data")
    monkeypatch.chdir(tmp_path)
    done = run(*command[1].split())
    assert done.code == 0
    (found,) = done.out.splitlines()
    (shown,) = re.findall(r"^data/cat\.jpg\t.*$", page, re.MULTILINE)
    assert found.split("\t")[:2] == shown.split("\t")[:2]
    numbers = [[float(value) for value in line.split("\t")[2:]] for line in (found, shown)]
    assert numbers[0][0] == pytest.approx(numbers[1][0], abs=0.02)
    assert numbers[0][1:] == pytest.approx(numbers[1][1:], abs=4)
    assert (tmp_path / "out" / "cat.jpg").stat().st_size > 10_000
