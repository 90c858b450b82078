"""Texts as batches of ids: how labeled texts are read, and which words a network knows.

Shapes: B texts of a batch, T words of the longest of them.
"""

import csv
import json
import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from dlkit.classify.config import ClassifyTrainConfig
from dlkit.classify.layouts import LABELS, SPLITS
from dlkit.core.errors import DlkitError
from dlkit.core.failures import Skipped
from dlkit.core.io.csv_files import csv_rows, value
from dlkit.core.nn.padding import padded_tensors
from dlkit.tokenize import Tokenizer, from_json, load, train

TEXTS = ["text", "sentence", "review", "document", "content"]  # names of a CSV's column
LONGEST_FIELD = 1 << 30  # bytes of a CSV's text; Python's own limit is 131072
SENTENCE_ENDS = {".", "!", "?", "...", "…", "。", "！", "？"}
PADDING, UNKNOWN = "<pad>", "<unk>"

# A text, the name of its label, and where it stands.
Found = tuple[str, str, str]


class Vocabulary:
    """The words that a network knows; id 0 is padding.

    The ids are those of the tokenizer, and one more where its own 0 is not padding.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.shift = 0 if tokenizer.special.get(PADDING) == 0 else 1

    @classmethod
    def learn(cls, texts: Iterable[str], size: int, tokenizer: str = "words") -> "Vocabulary":
        """The `size` most frequent words in lower case, or the tokenizer of a name or file."""
        if tokenizer != "words":
            return cls(load(tokenizer))
        special = [PADDING, UNKNOWN]
        learned = train(
            texts, algorithm="words", vocab_size=size, normalize="lower", special=special
        )
        return cls(learned)

    @classmethod
    def from_settings(cls, settings: dict[str, Any]) -> "Vocabulary":
        return cls(from_json(json.dumps(settings)))

    def to_settings(self) -> dict[str, Any]:
        """The content of the tokenizer's file, for a checkpoint's header."""
        settings: dict[str, Any] = json.loads(self.tokenizer.to_json())
        return settings

    def __len__(self) -> int:
        return max(self.tokenizer.names) + 1 + self.shift

    def encode(self, text: str, max_length: int) -> list[int]:
        """The ids of the first words of a text."""
        return [i + self.shift for i in self.tokenizer.encode(text)[:max_length]]

    def encode_batch(self, texts: Sequence[str], max_length: int) -> list[Tensor]:
        """The same for many texts; ids are int32 to save memory."""
        return [
            torch.tensor(ids[:max_length], dtype=torch.int32) + self.shift
            for ids in self.tokenizer.encode_batch(texts)
        ]

    def words(self, text: str) -> list[str]:
        """What the ids of `encode` stand for, as written in the text."""
        return [text[start:end] for _, (start, end) in self.tokenizer.encode_spans(text)]

    def sentence_ends(self) -> list[int]:
        """The ids after which a new sentence begins."""
        names = self.tokenizer.names.items()
        return sorted(i + self.shift for i, token in names if token.strip("Ġ▁ ") in SENTENCE_ENDS)


def network_settings(config: ClassifyTrainConfig, vocabulary: Vocabulary) -> dict[str, Any]:
    """The keyword arguments, besides `num_labels`, of the architecture that `config` names."""
    settings: dict[str, Any] = {
        "vocab_size": len(vocabulary),
        "embedding_size": config.embedding_size,
    }
    if config.arch == "fasttext":
        settings["ngrams"] = config.ngrams
    if config.arch in {"bilstm", "transformer"}:
        settings["layers"] = config.layers
    if config.arch == "attention" and config.sentences:
        settings["sentence_ends"] = vocabulary.sentence_ends()
    if config.dropout is not None:
        settings["dropout"] = config.dropout
    return settings


def padded(ids: Sequence[Tensor]) -> Tensor:
    """The ids of several texts (B, T), 0 after the shorter ones; T is 1 or more."""
    return padded_tensors(ids, 0).long()


class Texts(Dataset[list[Tensor]]):
    """Labeled texts, encoded once. A share `word_dropout` of the words is left out at random."""

    def __init__(
        self,
        samples: Sequence[tuple[str, int]],
        vocabulary: Vocabulary,
        max_length: int,
        word_dropout: float = 0.0,
    ) -> None:
        self.word_dropout = word_dropout
        self.targets = torch.tensor([label for _, label in samples])
        self.ids = vocabulary.encode_batch([text for text, _ in samples], max_length)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitems__(self, indices: list[int]) -> list[Tensor]:
        """A whole batch at once, ids (B, T) and targets (B,); the loader asks for this."""
        chosen = [self.ids[index] for index in indices]
        if self.word_dropout:
            chosen = [ids[torch.rand(len(ids)) >= self.word_dropout] for ids in chosen]
        return [padded(chosen), self.targets[indices]]

    def batches(self, size: int, indices: Sequence[int]) -> Iterator[list[Tensor]]:
        """The texts of these indices, in their order."""
        for start in range(0, len(indices), size):
            yield self.__getitems__(list(indices[start : start + size]))


def read_texts(
    data: Path, split: str, labels: list[str] | None = None, val_share: float = 0.1, seed: int = 0
) -> tuple[list[str], list[tuple[str, int]], Skipped]:
    """The labels, and the texts of one split with the index of theirs; `labels` fixes the order.

    Without a split `val`, it is a share of each label's training texts, the same for one seed;
    without any splits, `test` is another such share, taken first. Equal texts stay together.
    `all` means everything there is. What cannot be used is skipped, counted and named.
    """
    if not data.exists():
        raise DlkitError(f"{data}: no such folder or file")
    skipped = Skipped()
    found = of_split(data, split, val_share, seed, skipped)
    if labels is None:
        labels = sorted({label for _, label, _ in found})
        if len(labels) == 1:
            raise DlkitError(
                f"{data}: one label only ({labels[0]}): there is nothing to tell apart"
            )
    index = {label: number for number, label in enumerate(labels)}
    samples = []
    for text, label, where in found:
        if label in index:
            samples.append((text, index[label]))
        else:
            skipped.add("unknown label", f"{where} ({label})")
    skipped.report()
    return labels, samples, skipped


def of_split(data: Path, split: str, share: float, seed: int, skipped: Skipped) -> list[Found]:
    """The texts of a split, as the data has it or as a share is set apart for it."""
    splits = listed_splits(data, skipped)
    if split == "all":
        return [found for texts in splits.values() for found in texts]
    if split not in SPLITS:
        raise DlkitError(f"no split is called {split!r}: there is train, val, test and all")
    if set(splits) == {"all"}:
        splits["test"], splits["train"] = val_split(splits.pop("all"), share, seed)
    if "val" not in splits and "train" in splits:
        splits["val"], splits["train"] = val_split(splits["train"], share, seed + 1)
    if not splits.get(split) and not (split == "val" and share == 0):
        there = ", ".join(name for name, texts in splits.items() if texts)
        raise DlkitError(f"{data}: no texts for the split {split!r}; there is {there or 'none'}")
    return splits.get(split, [])


def val_split(found: list[Found], share: float, seed: int) -> tuple[list[Found], list[Found]]:
    """A share of the different texts of each label, and the rest, each in the order given."""
    of_label: dict[str, dict[str, None]] = {}
    for text, label, _ in found:
        of_label.setdefault(label, {})[text] = None
    draw = random.Random(seed)
    held_out: set[str] = set()
    for texts in of_label.values():
        least = 1 if share and len(texts) > 1 else 0
        held_out.update(draw.sample(list(texts), max(least, round(share * len(texts)))))
    chosen = [entry for entry in found if entry[0] in held_out]
    return chosen, [entry for entry in found if entry[0] not in held_out]


def listed_splits(data: Path, skipped: Skipped) -> dict[str, list[Found]]:
    """The splits that the data has; `all` alone where it has none."""
    if data.is_file():
        return from_csv(data, skipped)
    found: dict[str, list[Found]] = {}
    for split, spellings in SPLITS.items():
        for name in spellings:
            if (data / f"{name}.csv").is_file():
                listed = from_csv(data / f"{name}.csv", skipped)
                found[split] = [entry for texts in listed.values() for entry in texts]
            elif (data / name).is_dir():
                found[split] = from_folder(data / name, skipped)
    return found or {"all": from_folder(data, skipped)}


def from_folder(folder: Path, skipped: Skipped) -> list[Found]:
    """LABEL/*.txt, a text each; or LABEL.txt, with a text in each line."""
    found: list[Found] = []
    documents = {
        path: sorted(path.rglob("*.txt")) for path in sorted(folder.iterdir()) if path.is_dir()
    }
    if any(documents.values()):
        for label, files in documents.items():
            texts = [
                (decoded(file.read_bytes(), str(file), skipped), label.name, str(file))
                for file in files
            ]
            found += usable(texts, label)
        return found
    for file in sorted(folder.glob("*.txt")):
        lines = file.read_bytes().splitlines()
        texts = [
            (decoded(line, f"{file}:{number}", skipped), file.stem, f"{file}:{number}")
            for number, line in enumerate(lines, start=1)
        ]
        found += usable(texts, file)
    if not found:
        raise DlkitError(
            f"{folder}: no texts: there may be LABEL/*.txt, LABEL.txt with a text in each line,"
            " or a CSV of texts and labels (see the README)"
        )
    return found


def usable(texts: list[Found], source: Path) -> list[Found]:
    """Those with text in them, of which a label must have some."""
    kept = [entry for entry in texts if entry[0]]
    if not kept:
        raise DlkitError(f"{source}: a label without any text; remove it, or add texts")
    return kept


def decoded(content: bytes, where: str, skipped: Skipped) -> str:
    """The text of these bytes without space around it; empty, and counted, where it is unusable."""
    try:
        text = content.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        skipped.add("not UTF-8", where)
        return ""
    if not text:
        skipped.add("empty text", where)
    return text


def from_csv(file: Path, skipped: Skipped) -> dict[str, list[Found]]:
    """The texts of a CSV, by its column `split`, if it has one."""
    csv.field_size_limit(LONGEST_FIELD)
    found: dict[str, list[Found]] = {}
    for number, row in csv_rows(file):
        text, label = value(row, TEXTS, file).strip(), value(row, LABELS, file).strip()
        where = f"{file}:{number}"
        if not text or not label:
            skipped.add("row without text or label", where)
            continue
        split = next((s for s, n in SPLITS.items() if row.get("split") in n), row.get("split"))
        found.setdefault(split or "all", []).append((text, label, where))
    if not found:
        raise DlkitError(f"{file}: no row has both text and label")
    return found
