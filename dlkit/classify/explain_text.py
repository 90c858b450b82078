"""Which words of a text speak for its label: as rows, in colors on a terminal, as a web page."""

import html
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TextIO

from dlkit.classify.infer import TextClassifier, text_probabilities
from dlkit.classify.text import padded
from dlkit.core.environment import is_main_process
from dlkit.core.io.files import whole_file
from dlkit.core.parallel.sharding import Record, Shard, map_shard
from dlkit.core.progress import log

FOR, AGAINST = (40, 160, 70), (215, 60, 50)  # red, green, blue


@dataclass(frozen=True)
class Word:
    word: str
    weight: float


@dataclass(frozen=True)
class WeighedText:
    """A text's label, and how much each of its words counts: above 0 for it, below against it."""

    columns: ClassVar = ["label", "word", "weight"]

    text: str
    label: str
    score: float
    words: list[Word]

    def rows(self) -> list[dict[str, Any]]:
        return [{"label": self.label, **vars(word)} for word in self.words]


def explain_texts(
    texts: Iterable[str], classifier: TextClassifier, shard: Shard | None = None
) -> Iterator[WeighedText]:
    """The label of each text and the weights of its words, in input order.

    What a weight is depends on the network: attention's weights, and for the others how much the
    word adds to the label's logit (see `word_weights` of each). Only the `shard` of the texts is
    explained; without one, the processes under torchrun share them.
    """

    def results(shared: Iterator[str]) -> Iterator[WeighedText]:
        for text in shared:
            scores = text_probabilities([classifier], [text])[0]
            best = int(scores.argmax())
            ids = padded(classifier.vocabulary.encode_batch([text], classifier.max_length))
            weights = classifier.network.word_weights(ids.to(classifier.device))[0].tolist()
            words = classifier.vocabulary.words(text)[: classifier.max_length]
            yield WeighedText(
                text,
                classifier.labels[best],
                round(float(scores[best]), 4),
                [Word(w, round(v, 4)) for w, v in zip(words, weights, strict=False)],
            )

    return map_shard(results, texts, str(classifier.device), shard)


def from_record(record: Record) -> WeighedText:
    """What was written as JSON, again."""
    words = [Word(**word) for word in record["words"]]
    return WeighedText(record["text"], record["label"], record["score"], words)


def shade(weight: float, most: float) -> tuple[int, int, int]:
    """White for a weight of 0, full green or red for the largest."""
    share = abs(weight) / most if most else 0.0
    target = FOR if weight > 0 else AGAINST
    red, green, blue = (round(255 + (color - 255) * share) for color in target)
    return red, green, blue


def shaded(found: WeighedText) -> Iterator[tuple[str, tuple[int, int, int]]]:
    most = max((abs(word.weight) for word in found.words), default=0.0)
    return ((word.word, shade(word.weight, most)) for word in found.words)


def write_colored(results: Iterable[WeighedText], file: TextIO) -> None:
    """The label, and the words on grounds of their colors, for a terminal."""
    for found in results:
        words = " ".join(
            f"\033[30;48;2;{r};{g};{b}m{word}\033[0m" for word, (r, g, b) in shaded(found)
        )
        print(f"{found.label} {found.score:.2f}  {words}", file=file, flush=True)


def paragraph(found: WeighedText) -> str:
    """A text as HTML."""
    words = " ".join(
        f'<span style="background: rgb{color}">{html.escape(word)}</span>'
        for word, color in shaded(found)
    )
    return f"<p><b>{html.escape(found.label)} {found.score:.2f}</b> {words}</p>\n"


def save_page(
    results: Iterable[WeighedText], folder: Path, before: Iterable[WeighedText] = ()
) -> Iterator[WeighedText]:
    """The results unchanged, and in the end FOLDER/words.html with their words in colors.

    It begins with those that were there `before`.
    """
    lines = list(map(paragraph, before))
    for found in results:
        lines.append(paragraph(found))
        yield found
    if is_main_process():
        with whole_file(folder / "words.html") as partial:
            partial.write_text(
                "<!DOCTYPE html>\n<meta charset=utf-8>\n<title>What the words say</title>\n"
                f'<body style="font: 16px/1.8 sans-serif; max-width: 50em">\n{"".join(lines)}',
                encoding="utf-8",
            )
        log(f"saved {folder / 'words.html'}")
