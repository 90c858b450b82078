"""How good word vectors are: human judgments of similarity, and analogies.

Shapes: P pairs, Q questions, D dimensions.
"""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dlkit.core.errors import DlkitError
from dlkit.core.failures import Failure
from dlkit.core.io.scores import Score, rounded
from dlkit.embed.infer import Objective, Vocabulary, load, solve
from dlkit.embed.nearest import unit

SUFFIXES = (".txt", ".csv", ".tsv", ".tab")
SEPARATORS = ("\t", ",", ";")  # white space, where a line has none of these
TAGS = ("-n", "-v", "-j", "-a", "-r")  # parts of speech, at each word of MEN's lemma files


@dataclass(frozen=True)
class Pair:
    a: str
    b: str
    score: float


@dataclass(frozen=True)
class Question:
    """`a` is to `b` as `c` is to `d`."""

    section: str
    a: str
    b: str
    c: str
    d: str


def evaluate(
    vocabulary: Vocabulary,
    sources: Sequence[str],
    objective: Objective = "3cosadd",
    restrict: int | None = None,
) -> Iterator[Score | Failure]:
    """The scores on each file, similarity or analogies, or on all files of a folder."""
    for path in files(sources):
        try:
            content = read(path)
        except DlkitError as error:
            yield Failure(str(path), str(error))
            continue
        if isinstance(content[0], Pair):
            yield from similarity(vocabulary, path.stem, content, restrict)
        else:
            yield from analogies(vocabulary, path.stem, content, objective, restrict)


def evaluate_files(
    model: str, sources: Sequence[str], objective: Objective, restrict: int | None
) -> Iterator[Score | Failure]:
    yield from evaluate(load(model), sources, objective, restrict)


def files(sources: Sequence[str]) -> Iterator[Path]:
    for source in sources:
        path = Path(source)
        if not path.is_dir():
            yield path
            continue
        inside = sorted(p for p in path.rglob("*") if p.suffix in SUFFIXES and p.is_file())
        if not inside:
            raise DlkitError(f"{source}: no file of test words in it ({', '.join(SUFFIXES)})")
        yield from inside


def read(path: Path) -> list[Pair] | list[Question]:
    """The pairs or the questions of a file: of questions-words.txt's form, or a table of scores."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise DlkitError(str(error.strerror)) from error
    except UnicodeDecodeError as error:
        raise DlkitError(f"not UTF-8 ({error.reason} at byte {error.start})") from error
    rows = [(n, line) for n, line in enumerate(lines, 1) if line.strip() and line[0] != "#"]
    if not rows:
        raise DlkitError("no test words in it")
    if rows[0][1].startswith(":") or all(is_question(line.split()) for _, line in rows[:2]):
        return questions(rows)
    return pairs(rows)


def is_question(cells: list[str]) -> bool:
    return len(cells) == 4 and not any(map(is_number, cells))


def is_number(cell: str) -> bool:
    try:
        return bool(np.isfinite(float(cell)))
    except ValueError:
        return False


def questions(rows: list[tuple[int, str]]) -> list[Question]:
    section = "all"
    found = []
    for number, line in rows:
        cells = line.split()
        if line.startswith(":"):
            section = line[1:].strip()
        elif len(cells) == 4:
            found.append(Question(section, *cells))
        else:
            raise DlkitError(f"line {number}: {len(cells)} words; an analogy has 4")
    if not found:
        raise DlkitError("no analogies in it")
    return found


def pairs(rows: list[tuple[int, str]]) -> list[Pair]:
    """Rows of two words and more cells, the first number among which is the score."""
    found = []
    for place, (number, line) in enumerate(rows):
        separator = next((s for s in SEPARATORS if s in line), None)
        cells = line.split() if separator is None else next(csv.reader([line], delimiter=separator))
        cells = [cell.strip() for cell in cells]
        score = next((float(cell) for cell in cells[2:] if is_number(cell)), None)
        if score is not None:
            found.append(Pair(cells[0], cells[1], score))
        elif place:  # the first row may be the names of the columns
            raise DlkitError(f"line {number}: not two words and a number ({line.strip()[:60]!r})")
    if not found:
        raise DlkitError("neither pairs with scores nor analogies in it")
    if all(word.endswith(TAGS) for pair in found for word in (pair.a, pair.b)):
        return [Pair(pair.a[:-2], pair.b[:-2], pair.score) for pair in found]
    return found


def similarity(
    vocabulary: Vocabulary, name: str, pairs: Sequence[Pair], restrict: int | None
) -> Iterator[Score]:
    """Correlation of cosines with human scores, over pairs of which both words have a vector."""
    words = {word for pair in pairs for word in (pair.a, pair.b)}
    directions = {}
    for word in words:
        index = vocabulary.index(word)
        if restrict is None or (index is not None and index < restrict):
            vector = vocabulary.vector(word)
            if vector is not None:
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
    """Ranks (P) from 0; equal values share the mean of theirs."""
    order = np.argsort(values, kind="stable")
    _, group, sizes = np.unique(values[order], return_inverse=True, return_counts=True)
    ends = np.cumsum(sizes)
    ranked = np.empty(len(values))
    ranked[order] = ((ends - sizes + ends - 1) / 2)[group]
    return ranked


def pearson(a: np.ndarray, b: np.ndarray) -> float:
    """The correlation coefficient; NaN for fewer than two values, or equal ones."""
    if len(a) < 2:
        return float("nan")
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 0 else float("nan")


def analogies(
    vocabulary: Vocabulary,
    name: str,
    questions: Sequence[Question],
    objective: Objective,
    restrict: int | None,
) -> Iterator[Score]:
    """Accuracy of each section, of semantic and syntactic ones, and of all."""
    right, known = answered(vocabulary, questions, objective, restrict)
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
            f"are among the {search_space(vocabulary, restrict)} searched; its words are "
            "no answers",
        )
        yield Score("coverage", label, rounded(count / total), "share of questions that count")


def search_space(vocabulary: Vocabulary, restrict: int | None) -> int:
    words = len(vocabulary.embedding.words)
    return words if restrict is None else min(restrict, words)


def answered(
    vocabulary: Vocabulary,
    questions: Sequence[Question],
    objective: Objective,
    restrict: int | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Which questions (Q) are answered right, and which have all their words (Q)."""
    limit = search_space(vocabulary, restrict)
    distinct = {word for q in questions for word in (q.a, q.b, q.c, q.d)}
    index = {
        word: place
        for word in distinct
        if (place := vocabulary.index(word)) is not None and place < limit
    }
    asked = [[index.get(word, -1) for word in (q.a, q.b, q.c, q.d)] for q in questions]
    terms = np.array(asked, np.int64)
    known = np.all(terms >= 0, axis=1)
    right = np.zeros(len(questions), bool)
    if known.any():
        embedding = vocabulary.embedding
        # a is to b as c is to d: d is nearest to b - a + c.
        of_question = terms[known][:, [1, 0, 2]]
        directions = unit(embedding.vectors[of_question])
        best, _ = solve(embedding, directions, objective, 1, of_question.tolist(), restrict)
        right[known] = best[:, 0] == terms[known, 3]
    return right, known
