"""Explanation of text classifiers: word weights as rows, terminal colors, or a web page."""

import html
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TextIO

from dlkit.classify.infer import TextClassifier, text_probabilities
from dlkit.classify.text import pad_ids
from dlkit.core.environment import is_main_process
from dlkit.core.io.files import check_free_in, note_saved, whole_file
from dlkit.core.io.streams import drawable
from dlkit.core.io.text import Line
from dlkit.core.parallel.sharding import Record, Shard, map_shard
from dlkit.core.progress import printable

PAGE = "words.html"  # file of --save
POSITIVE, NEGATIVE = (40, 160, 70), (215, 60, 50)  # red, green, blue


@dataclass(frozen=True)
class Word:
    """A word of a text, with its weight in the decision."""

    word: str
    weight: float


@dataclass(frozen=True)
class TextExplanation:
    """The label of a text and the weights of its words: positive for it, negative against."""

    columns: ClassVar = ["label", "word", "weight"]

    text: str
    label: str
    score: float
    words: list[Word]

    def rows(self) -> list[dict[str, Any]]:
        return [{"label": self.label, **vars(word)} for word in self.words]


def explain_texts(
    texts: Iterable[Line], classifier: TextClassifier, shard: Shard | None = None
) -> Iterator[TextExplanation]:
    """Yield the label of each text and the weights of its words, in input order.

    Weights are attention weights, or for other networks the word's contribution to the label's
    logit (see their `word_weights`). Only the texts of `shard` are explained; without one, the
    processes under torchrun share them.
    """

    def results(shared: Iterator[str]) -> Iterator[TextExplanation]:
        for text in shared:
            scores = text_probabilities([classifier], [text])[0]
            best = int(scores.argmax())
            ids = pad_ids(classifier.vocabulary.encode_batch([text], classifier.max_length))
            weights = classifier.network.word_weights(ids.to(classifier.device))[0].tolist()
            words = classifier.vocabulary.words(text)[: classifier.max_length]
            yield TextExplanation(
                text,
                classifier.labels[best],
                round(float(scores[best]), 4),
                [Word(w, round(v, 4)) for w, v in zip(words, weights, strict=False)],
            )

    return map_shard(results, texts, str(classifier.device), shard)


def from_record(record: Record) -> TextExplanation:
    """Rebuild an explanation from its JSON record."""
    words = [Word(**word) for word in record["words"]]
    return TextExplanation(record["text"], record["label"], record["score"], words)


def shade(weight: float, most: float) -> tuple[int, int, int]:
    """Return the color of a weight: white for 0, full green or red for the largest."""
    share = abs(weight) / most if most else 0.0
    target = POSITIVE if weight > 0 else NEGATIVE
    red, green, blue = (round(255 + (color - 255) * share) for color in target)
    return red, green, blue


def shade_words(found: TextExplanation) -> Iterator[tuple[str, tuple[int, int, int]]]:
    """Yield the words with their colors."""
    most = max((abs(word.weight) for word in found.words), default=0.0)
    return ((word.word, shade(word.weight, most)) for word in found.words)


def write_colored(results: Iterable[TextExplanation], file: TextIO) -> None:
    """Write labels, and words on a background of their colors, to a terminal."""
    for found in results:
        words = " ".join(
            f"\033[30;48;2;{r};{g};{b}m{printable(word)}\033[0m"
            for word, (r, g, b) in shade_words(found)
        )
        line = f"{printable(found.label)} {found.score:.2f}  {words}"
        print(line, file=drawable(file), flush=True)


def to_html(found: TextExplanation) -> str:
    """Render an explanation as an HTML paragraph."""
    words = " ".join(
        f'<span style="background: rgb{color}">{html.escape(word)}</span>'
        for word, color in shade_words(found)
    )
    return f"<p><b>{html.escape(found.label)} {found.score:.2f}</b> {words}</p>\n"


def save_page(
    results: Iterable[TextExplanation], folder: Path, before: Iterable[TextExplanation] = ()
) -> Iterator[TextExplanation]:
    """Yield the results, then save FOLDER/words.html with their words in colors.

    The page begins with the results `before`, of the interrupted run that is resumed.
    """
    check_free_in(folder, PAGE)
    lines = list(map(to_html, before))
    for found in results:
        lines.append(to_html(found))
        yield found
    if is_main_process():
        with whole_file(folder / PAGE) as partial:
            partial.write_text(
                "<!DOCTYPE html>\n<meta charset=utf-8>\n<title>Word weights</title>\n"
                f'<body style="font: 16px/1.8 sans-serif; max-width: 50em">\n{"".join(lines)}',
                encoding="utf-8",
            )
        note_saved(folder / PAGE)
