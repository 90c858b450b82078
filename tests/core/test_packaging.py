"""The distribution: its name, its extras, and the hints that name them."""

import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from dlkit.core import environment
from dlkit.core.environment import EXTRAS, install_command

ROOT = Path(__file__).parent.parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "dlkit").rglob("*.md"))]
CODE = sorted((ROOT / "dlkit").rglob("*.py"))


def test_the_name_is_free_on_pypi_and_the_command_is_dlkit() -> None:
    """`dlkit` on PyPI is another project's package."""
    assert PROJECT["name"] == "dlkit-cli"
    assert PROJECT["scripts"] == {"dlkit": "dlkit.cli:main"}


def test_the_metadata_have_homepage_author_and_documentation() -> None:
    """Of the installed distribution, as `pip show` prints them; else of the project's file."""
    assert {"Homepage", "Documentation"} <= PROJECT["urls"].keys()
    (author,) = PROJECT["authors"]
    try:
        found = metadata.metadata("dlkit-cli")
    except metadata.PackageNotFoundError:
        pytest.skip("dlkit is not installed here")
    urls = dict(entry.split(", ", 1) for entry in found.get_all("Project-URL") or ())
    assert urls == PROJECT["urls"]
    assert found["Author"] == author["name"]
    assert found["Summary"] == PROJECT["description"]


def test_extras_are_those_of_the_project() -> None:
    extras = {name: " ".join(r) for name, r in PROJECT["optional-dependencies"].items()}
    assert EXTRAS.items() <= extras.items()
    assert extras.keys() - EXTRAS.keys() == {"dev", "heic"}


@pytest.mark.parametrize("path", [*PAGES, *CODE], ids=lambda path: str(path.relative_to(ROOT)))
def test_no_hint_installs_the_other_projects_package(path: Path) -> None:
    """A hint is `install_command(extra)` in code, and names a checkout on pages."""
    text = path.read_text()
    assert not re.search(r"install\s+(-\S+\s+)*['\"]?dlkit(?!-cli)\b", text)
    for extra in re.findall(r"'\.\[(\w+)\]'", text):
        assert extra in {*EXTRAS, "dev"}


@pytest.mark.parametrize("extra", EXTRAS)
@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("/home/a/.venv", "-m pip install '{}'"),
        ("/home/a/.local/pipx/venvs/dlkit-cli", "pipx inject dlkit-cli '{}'"),
        ("/home/a/.local/share/uv/tools/dlkit-cli", "uv tool install dlkit-cli --with '{}'"),
    ],
)
def test_the_command_that_installs_an_extra_fits_the_installation(
    extra: str, prefix: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "prefix", prefix)
    assert install_command(extra).endswith(expected.format(EXTRAS[extra]))
    assert environment.EXTRAS[extra] in install_command(extra)
