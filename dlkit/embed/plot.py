"""Plot words in a plane by principal components or t-SNE (van der Maaten and Hinton 2008).

Shapes: N words, D dimensions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dlkit.core.errors import DlkitError, os_reason
from dlkit.core.io.plots import figure, save_figure
from dlkit.core.ledger import Ledger
from dlkit.embed.nearest import unit
from dlkit.embed.vectors import Vectors

MAX_WORDS = 2000  # t-SNE is exact and computes all pairs
STEPS, EXAGGERATED_STEPS = 1000, 250  # of t-SNE; early exaggeration pulls neighbors together
LABEL_SIDES = ((0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1))

Projection = Literal["pca", "tsne"]


@dataclass(frozen=True)
class WordGroup:
    """A line of a groups file: words of one color or, with --lines, words joined by a line."""

    name: str
    words: list[str]


@dataclass(frozen=True)
class Plot:
    """The file of a projection, with its number of words."""

    path: str
    words: int


def read_groups(path: Path) -> list[WordGroup]:
    """Read lines of `word word ...` or `name: word word ...`; commas separate words with spaces."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DlkitError(os_reason(error), path) from error
    except UnicodeDecodeError as error:
        raise DlkitError(f"not UTF-8 ({error.reason} at byte {error.start})", path) from error
    groups = []
    for line in lines:
        name, colon, rest = line.partition(": ")
        text = rest if colon else line
        cells = text.split(",") if "," in text else text.split()
        if words := [cell.strip() for cell in cells if cell.strip()]:
            groups.append(WordGroup(name.strip() if colon else "", words))
    if not groups:
        raise DlkitError("no words in it", path)
    return groups


def plot(
    vectors: Vectors,
    groups: Sequence[WordGroup],
    path: Path,
    method: Projection = "pca",
    lines: bool = False,
    seed: int = 0,
) -> Plot:
    """Draw the words of all groups; unknown words are reported and skipped."""
    ledger = Ledger()
    words: list[str] = []
    group_numbers: list[int] = []
    directions: list[np.ndarray] = []
    for number, group in enumerate(groups):
        for word in group.words:
            vector = vectors.word_vector(word)
            if vector is None:
                ledger.skip("words", f"not in the vocabulary of {vectors.name}", word)
            else:
                words.append(word)
                group_numbers.append(number)
                directions.append(unit(vector))
    ledger.use("words", len(words))
    if ledger.places:
        ledger.report()
    if not 3 <= len(words) <= MAX_WORDS:
        raise DlkitError(f"a plot needs 3 to {MAX_WORDS} known words; {len(words)} are known")
    matrix = np.stack(directions).astype(np.float64)
    points = pca(matrix) if method == "pca" else tsne(matrix, seed=seed)
    draw(words, points, np.array(group_numbers), groups, lines, path)
    return Plot(str(path), len(words))


def pca(matrix: np.ndarray) -> np.ndarray:
    """Return the first two principal components (N, 2) of the rows, with positive extremes."""
    centered = matrix - matrix.mean(axis=0)
    left, scale, _ = np.linalg.svd(centered, full_matrices=False)
    points = left[:, :2] * scale[:2]
    extremes = points[np.abs(points).argmax(axis=0), range(points.shape[1])]
    points = points * np.where(extremes < 0, -1, 1)
    return np.pad(points, ((0, 0), (0, 2 - points.shape[1])))


def tsne(matrix: np.ndarray, perplexity: float = 30, seed: int = 0) -> np.ndarray:
    """Exact t-SNE (N, 2): gradient descent with momentum and gains, initialized by PCA."""
    count = len(matrix)
    p = affinities(squared_distances(matrix), min(perplexity, max((count - 1) / 3, 1.5)))
    rng = np.random.default_rng(seed)
    points: np.ndarray = pca(matrix)
    points = points / max(points.std(), 1e-12) * 1e-4 + rng.normal(0, 1e-6, (count, 2))
    velocity, gains = np.zeros_like(points), np.ones_like(points)
    rate = max(count / 12, 50)
    for step in range(STEPS):
        near = 1 / (1 + squared_distances(points))
        np.fill_diagonal(near, 0)
        pull = (p * (12 if step < EXAGGERATED_STEPS else 1) - near / near.sum()) * near
        gradient = 4 * (pull.sum(axis=1)[:, None] * points - pull @ points)
        gains = np.where((gradient > 0) == (velocity > 0), gains * 0.8, gains + 0.2)
        gains = np.maximum(gains, 0.01)
        velocity = (0.5 if step < EXAGGERATED_STEPS else 0.8) * velocity - rate * gains * gradient
        points = points + velocity
        points -= points.mean(axis=0)
    return points


def squared_distances(points: np.ndarray) -> np.ndarray:
    """Return the squared distances between all rows (N, N)."""
    squares = (points**2).sum(axis=1)
    distances: np.ndarray = np.maximum(squares[:, None] + squares - 2 * points @ points.T, 0)
    return distances


def affinities(distances: np.ndarray, perplexity: float) -> np.ndarray:
    """Return symmetric probabilities (N, N): a Gaussian per row, its width found by bisection."""
    count = len(distances)
    off_diagonal = ~np.eye(count, dtype=bool)
    low, high = np.zeros((count, 1)), np.full((count, 1), np.inf)
    precision = np.ones((count, 1))
    nearest = np.where(off_diagonal, distances, np.inf).min(axis=1, keepdims=True)
    for _ in range(64):
        p = np.exp(-np.maximum(distances - nearest, 0) * precision) * off_diagonal
        p /= p.sum(axis=1, keepdims=True)
        entropy = -(p * np.log(np.maximum(p, 1e-300))).sum(axis=1, keepdims=True)
        too_wide = entropy > np.log(perplexity)
        low, high = np.where(too_wide, precision, low), np.where(too_wide, high, precision)
        precision = np.where(np.isinf(high), precision * 2, (low + high) / 2)
    symmetric: np.ndarray = (p + p.T) / (2 * count)
    return symmetric


def draw(
    words: Sequence[str],
    points: np.ndarray,
    group_numbers: np.ndarray,
    groups: Sequence[WordGroup],
    lines: bool,
    path: Path,
) -> None:
    """Draw labeled points; with `lines`, join each group's words and color them by position."""
    from matplotlib.colors import TABLEAU_COLORS, to_rgb

    side = float(np.clip(5 + len(words) / 20, 7, 24))
    canvas = figure(side * 1.2, side)
    axes = canvas.add_subplot()
    palette = [to_rgb(color) for color in TABLEAU_COLORS.values()]
    starts = np.searchsorted(group_numbers, group_numbers)
    color = (np.arange(len(words)) - starts if lines else group_numbers) % len(palette)
    inks = [palette[number] for number in color]
    axes.scatter(points[:, 0], points[:, 1], s=14, c=inks, zorder=2)
    for number, group in enumerate(groups):
        members = np.flatnonzero(group_numbers == number)
        if lines:
            xs, ys = points[members].T
            axes.plot(xs, ys, color="0.6", linewidth=0.9, linestyle="--", zorder=1)
        elif group.name:
            axes.scatter([], [], s=14, color=palette[number % len(palette)], label=group.name)
    axes.margins(0.08)
    axes.set(xticks=[], yticks=[])
    if axes.get_legend_handles_labels()[0]:
        for text in axes.legend(fontsize=9).get_texts():
            text.set_parse_math(False)
    add_labels(axes, canvas.canvas, words, points, inks)
    save_figure(canvas, path)


def add_labels(
    axes: Any, canvas: Any, words: Sequence[str], points: np.ndarray, inks: Sequence[Any]
) -> None:
    """Put a label beside each point, where it covers the least of other labels and points."""
    canvas.draw()  # computes the layout, and with it every size in pixels
    renderer, dpi = canvas.get_renderer(), axes.figure.dpi
    pixels = axes.transData.transform(points)
    frame = axes.get_window_extent()
    boxes = [(x - 3, y - 3, x + 3, y + 3) for x, y in pixels]  # left, bottom, right, top
    for word, point, (x, y), ink in zip(words, points, pixels, inks, strict=True):
        text = axes.annotate(
            word.replace("$", r"\$"),
            point,
            (0, 0),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=9,
            color=[0.75 * channel for channel in ink],
            in_layout=False,
        )
        size = text.get_window_extent(renderer)
        width, height = size.width, size.height
        candidates = []
        for far in (0, 1, 2):  # beside the point, or further away in a crowd
            for right, up in LABEL_SIDES:
                dx = right * (width / 2 + 5 + far * 8)
                dy = up * (height / 2 + 4 + far * 8)
                left, bottom = x + dx - width / 2, y + dy - height / 2
                box = (left, bottom, left + width, bottom + height)
                inside = frame.x0 <= left <= frame.x1 - width
                inside = inside and frame.y0 <= bottom <= frame.y1 - height
                cost = covered_area(box, np.array(boxes)) + 40 * far + 1000 * (not inside)
                candidates.append((cost, dx, dy, box))
        _, dx, dy, box = min(candidates, key=itemgetter(0))
        text.set_position((dx * 72 / dpi, dy * 72 / dpi))
        boxes.append(box)


def covered_area(box: tuple[float, float, float, float], boxes: np.ndarray) -> float:
    """Return the area of a box that others cover, in square pixels."""
    wide = np.minimum(box[2], boxes[:, 2]) - np.maximum(box[0], boxes[:, 0])
    high = np.minimum(box[3], boxes[:, 3]) - np.maximum(box[1], boxes[:, 1])
    return float((np.maximum(wide, 0) * np.maximum(high, 0)).sum())
