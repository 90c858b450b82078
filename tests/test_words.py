"""The code speaks the field's words: no dialect and American spelling in names and texts."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "dlkit").rglob("*.md"))]
CODE = sorted((ROOT / "dlkit").rglob("*.py"))

DIALECT = re.compile(
    r"\b(foretells?|foretold|foretelling|deals? out|dealt|stands?|said|says?|saying|told|tells?"
    r"|by heart|what is|left out|leaves? out|leaving out|goes on|go on|going on|so many|by turns"
    r"|kin|meetings?|anew|quicker|quickened|heed\w*|spoilt|learnt)\b",
    re.IGNORECASE,
)
BRITISH = re.compile(
    r"\w*(colour|grey|neighbour|behaviour|honour|favour|centre|metre\b|licence|artefact|catalogue"
    r"|labelled|labelling|modelling|cancelled|travell|judgement|normalis|optimis(?!tic|m\b)"
    r"|initialis|minimis|maximis|penalis|quantis|localis|recognis|regularis|generalis|vectoris"
    r"|tokenis|memoris|summaris|organis(?!m)|serialis|synchronis|factoris|visualis|randomis"
    r"|parallelis|standardis|equalis|utilis|analyse|whilst)\w*",
    re.IGNORECASE,
)
# Words that are data: names in other tools' files, and examples of text.
ALLOWED: dict[str, set[str]] = {
    "dlkit/core/store/renamed.py": {
        "recolour",
        "preserve_colour",
        "colour",
        "neighbours",
        "grey",
        "learnt",
    },
    "dlkit/segment/masks.py": {"unlabelled"},
    # The method of files.
    "dlkit/core/io/text.py": {"tell"},
    "dlkit/core/vision/images.py": {"tell"},
}


def words_of(path: Path) -> Iterator[tuple[int, str]]:
    """Line number and text of each name, comment and string of a file of Python."""
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        if token.type == tokenize.NAME:
            yield token.start[0], token.string.replace("_", " ")
        elif token.type in (tokenize.COMMENT, tokenize.STRING):
            yield token.start[0], " ".join(token.string.split())


def found_in(path: Path, pattern: re.Pattern[str]) -> list[str]:
    """Each match as `path:line: word`."""
    name = str(path.relative_to(ROOT))
    lines = (
        words_of(path)
        if path.suffix == ".py"
        else enumerate(re.sub(r"```.*?```", "", path.read_text(), flags=re.S).splitlines(), 1)
    )
    return [
        f"{name}:{number}: {match.group()}"
        for number, text in lines
        for match in pattern.finditer(text)
        if match.group().lower() not in ALLOWED.get(name, set())
    ]


@pytest.mark.parametrize("path", [*CODE, *PAGES], ids=lambda path: str(path.relative_to(ROOT)))
def test_no_dialect(path: Path) -> None:
    assert not found_in(path, DIALECT)


@pytest.mark.parametrize("path", [*CODE, *PAGES], ids=lambda path: str(path.relative_to(ROOT)))
def test_american_spelling(path: Path) -> None:
    assert not found_in(path, BRITISH)


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_docstring_begins_with_what_a_thing_is_or_does(path: Path) -> None:
    """No relative clause such as "What becomes of boxes that overlap"."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            text = ast.get_docstring(node) or "."
            assert not re.match(r"(What|How|Which|Where|Those|So)\b", text), text.splitlines()[0]
