"""Fixtures of the tests of tokenize."""

from pathlib import Path

import pytest

from tests.tokenize.helpers import LINES


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "text.txt"
    path.write_text("\n".join(LINES * 5) + "\n", encoding="utf-8")
    return path
