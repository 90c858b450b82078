"""Evaluation of word vectors: human judgments of similarity, and analogies.

Shapes: P pairs, Q questions, D dimensions.
"""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from dlkit.core.config import ALLOW_SKIPPED_ROWS, allowed_share
from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.core.io.csv_files import Skip
from dlkit.core.io.files import is_dir, is_file
from dlkit.core.io.rows import ROWS, finish_rows
from dlkit.core.io.scores import Score, rounded
from dlkit.core.io.text import lines
from dlkit.core.ledger import Ledger
from dlkit.embed.config import DEFAULT_MODEL
from dlkit.embed.nearest import Objective, solve_analogies, unit
from dlkit.embed.vectors import Vectors, load

SUFFIXES = (".txt", ".csv", ".tsv", ".tab")
SEPARATORS = ("\t", ",", ";")  # white space, where a line has none of these
TAGS = ("-n", "-v", "-j", "-a", "-r")  # parts of speech, on every word of MEN's lemma files


@dataclass(frozen=True)
class RatedPair:
    """Two words and their similarity as people judged it."""

    a: str
    b: str
    score: float


@dataclass(frozen=True)
class Question:
    """An analogy: `a` is to `b` as `c` is to `d`."""

    section: str
    a: str
    b: str
    c: str
    d: str


def evaluate_checkpoint(
    data: Sequence[str],
    split: str = "",
    model: str = DEFAULT_MODEL,
    save: Path | None = None,
    workers: int = 2,
    device: str = "auto",
    precision: str = "auto",
    *,
    objective: Objective = "3cosadd",
    restrict: int | None = None,
    allow_skipped: float | None = None,
) -> Iterator[Score | Failure]:
    """Score a model on each file of word pairs or analogies, or on all files in a folder.

    A file of which more than the share `allow_skipped` of the rows cannot be used is a Failure.
    `split`, `save`, `workers`, `device` and `precision` have no effect.
    """
    yield from score_files(data, load(model), objective, restrict, allow_skipped)


def score_files(
    data: Sequence[str],
    vectors: Vectors,
    objective: Objective,
    restrict: int | None,
    allow_skipped: float | None = None,
) -> Iterator[Score | Failure]:
    """Score vectors on each file; a Failure for a file that cannot be used."""
    allowed = allowed_share(allow_skipped, default=ALLOW_SKIPPED_ROWS)
    for path in list_files(data):
        try:
            content = read_file(path, allowed)
        except DlkitError as error:
            yield Failure(str(path), error.reason_for(path))
            continue
        if isinstance(content[0], RatedPair):
            yield from score_similarity(vectors, path.stem, content, restrict)
        else:
            yield from score_analogies(vectors, path.stem, content, objective, restrict)


def list_files(sources: Sequence[str]) -> Iterator[Path]:
    for source in sources:
        path = Path(source)
        if not is_dir(path):
            yield path
            continue
        inside = sorted(p for p in path.rglob("*") if p.suffix in SUFFIXES and is_file(p))
        if not inside:
            raise DlkitError(f"no file of test words in it ({', '.join(SUFFIXES)})", source)
        yield from inside


def read_file(path: Path, allowed: float = 0.0) -> list[RatedPair] | list[Question]:
    """Read a table of pairs with scores, or questions in the form of questions-words.txt.

    Raises DlkitError where more than the share `allowed` of its rows cannot be used.
    """
    rows = [
        (number, line)
        for number, line in enumerate(lines(str(path)), 1)
        if line.strip() and line[0] != "#"
    ]
    if not rows:
        raise DlkitError("no test words in it", path)
    ledger = Ledger(path.name)
    skip = partial(ledger.skip, ROWS)
    of_questions = rows[0][1].startswith(":") or all(
        is_question(line.split()) for _, line in rows[:2]
    )
    found = (parse_questions if of_questions else parse_pairs)(rows, path, skip)
    ledger.use(ROWS, len(found))
    finish_rows(ledger, path, allowed)
    return found


def is_question(cells: list[str]) -> bool:
    return len(cells) == 4 and not any(map(is_number, cells))


def is_number(cell: str) -> bool:
    try:
        return bool(np.isfinite(float(cell)))
    except ValueError:
        return False


def parse_questions(rows: list[tuple[int, str]], path: Path, skip: Skip) -> list[Question]:
    """Parse lines of four words, in sections that begin with a line `: NAME`."""
    section = "all"
    questions = []
    for number, line in rows:
        cells = line.split()
        if line.startswith(":"):
            section = line[1:].strip()
        elif len(cells) == 4:
            questions.append(Question(section, *cells))
        else:
            skip("analogy without 4 words", f"{path}:{number}")
    return questions


def parse_pairs(rows: list[tuple[int, str]], path: Path, skip: Skip) -> list[RatedPair]:
    """Parse rows of two words and further cells, of which the first number is the score.

    The first row may be the names of the columns. Its separator is that of all rows.
    """
    separator = next((s for s in SEPARATORS if s in rows[0][1]), None)
    width = len(cells_of(rows[0][1], separator))
    pairs = []
    for place, (number, line) in enumerate(rows):
        cells = cells_of(line, separator)
        score = next((float(cell) for cell in cells[2:] if is_number(cell)), None)
        where = f"{path}:{number}"
        if score is None and place == 0 and len(rows) > 1:
            continue
        if len(cells) != width:
            skip(f"row with another number of columns than the first ({width})", where)
        elif score is None or not cells[0] or not cells[1]:
            skip("row that is not two words and a number", where)
        else:
            pairs.append(RatedPair(cells[0], cells[1], score))
    if pairs and all(word.endswith(TAGS) for pair in pairs for word in (pair.a, pair.b)):
        return [RatedPair(pair.a[:-2], pair.b[:-2], pair.score) for pair in pairs]
    return pairs


def cells_of(line: str, separator: str | None) -> list[str]:
    """The cells of a row; none if its quotes are not closed."""
    if separator is None:
        return line.split()
    try:
        (cells,) = csv.reader([line], delimiter=separator, strict=True)
    except csv.Error:
        return []
    return [cell.strip() for cell in cells]


def score_similarity(
    vectors: Vectors, name: str, pairs: Sequence[RatedPair], restrict: int | None
) -> Iterator[Score]:
    """Correlate cosines with human scores, over the pairs whose words both have a vector."""
    words = {word for pair in pairs for word in (pair.a, pair.b)}
    directions = {}
    for word in words:
        index = vectors.index(word)
        if restrict is None or (index is not None and index < restrict):
            vector = vectors.word_vector(word)
            if vector is not None and vector.any():  # zeros have no direction
                directions[word] = unit(vector)
    known = [pair for pair in pairs if pair.a in directions and pair.b in directions]
    human = np.array([pair.score for pair in known])
    cosines = np.array([float(directions[pair.a] @ directions[pair.b]) for pair in known])
    over = f"over the {len(known)} of {len(pairs)} pairs whose words both have a vector"
    yield Score(
        "spearman",
        name,
        rounded(pearson(ranks(human), ranks(cosines))),
        f"rank correlation of cosine and human score {over}; ties share their mean rank",
    )
    yield Score(
        "pearson",
        name,
        rounded(pearson(human, cosines)),
        f"linear correlation of cosine and human score {over}",
    )
    yield Score("coverage", name, rounded(len(known) / len(pairs)), "share of pairs that count")


def ranks(values: np.ndarray) -> np.ndarray:
    """Return ranks (P) from 0; equal values get the mean of their ranks."""
    order = np.argsort(values, kind="stable")
    _, group, sizes = np.unique(values[order], return_inverse=True, return_counts=True)
    ends = np.cumsum(sizes)
    ranked = np.empty(len(values))
    ranked[order] = ((ends - sizes + ends - 1) / 2)[group]
    return ranked


def pearson(a: np.ndarray, b: np.ndarray) -> float:
    """Return the correlation coefficient; NaN for less than two values, or constant ones."""
    if len(a) < 2:
        return float("nan")
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 0 else float("nan")


def score_analogies(
    vectors: Vectors,
    name: str,
    questions: Sequence[Question],
    objective: Objective,
    restrict: int | None,
) -> Iterator[Score]:
    """Compute the accuracy on each section, on semantic and syntactic sections, and on all."""
    right, known = answer_questions(vectors, questions, objective, restrict)
    sections = np.array([question.section for question in questions])
    named = list(dict.fromkeys(sections.tolist()))
    groups = {section: sections == section for section in named if len(named) > 1}
    syntactic = np.char.startswith(sections, "gram")
    if syntactic.any() and not syntactic.all():
        groups |= {"semantic": ~syntactic, "syntactic": syntactic}
    groups["total"] = np.ones(len(questions), bool)
    for group, members in groups.items():
        total, count = int(members.sum()), int((members & known).sum())
        correct = int((members & right).sum())
        label = f"{name} {group}"
        yield Score(
            "accuracy",
            label,
            rounded(correct / count) if count else None,
            f"share answered right by {objective} of the {count} of {total} questions whose words "
            f"are among the {num_searched(vectors, restrict)} searched; the question's own words "
            "are no answers",
        )
        yield Score("coverage", label, rounded(count / total), "share of questions that count")


def num_searched(vectors: Vectors, restrict: int | None) -> int:
    words = len(vectors.embedding.words)
    return words if restrict is None else min(restrict, words)


def answer_questions(
    vectors: Vectors,
    questions: Sequence[Question],
    objective: Objective,
    restrict: int | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return which questions (Q) are answered right, and which have only known words (Q)."""
    limit = num_searched(vectors, restrict)
    distinct = {word for q in questions for word in (q.a, q.b, q.c, q.d)}
    index = {
        word: place
        for word in distinct
        if (place := vectors.index(word)) is not None
        and place < limit
        and vectors.embedding.vectors[place].any()  # zeros have no direction
    }
    asked = [[index.get(word, -1) for word in (q.a, q.b, q.c, q.d)] for q in questions]
    words = np.array(asked, np.int64)
    known = np.all(words >= 0, axis=1)
    right = np.zeros(len(questions), bool)
    if known.any():
        # a is to b as c is to d: d is nearest to b - a + c.
        terms = words[known][:, [1, 0, 2]]
        directions = unit(vectors.embedding.vectors[terms])
        best, _ = solve_analogies(
            vectors.embedding, directions, objective, 1, terms.tolist(), restrict
        )
        right[known] = best[:, 0] == words[known, 3]
    return right, known
