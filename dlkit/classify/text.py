"""Labeled texts: vocabulary, reading of data folders, batches of token ids.

Shapes: B texts of a batch, T words of the longest of them.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, NotRequired, TypedDict, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset

from dlkit.classify.config import ClassifyTrainConfig
from dlkit.classify.layouts import LABELS, SPLITS
from dlkit.core.errors import DlkitError
from dlkit.core.failures import Skipped
from dlkit.core.io.csv_files import column, csv_rows
from dlkit.core.io.splits import hold_out
from dlkit.core.io.text import lines
from dlkit.core.nn.padding import padded_tensors
from dlkit.core.store.checkpoint import Header
from dlkit.tokenize import Tokenizer, load, train

TEXTS = ["text", "sentence", "review", "document", "content"]  # names of a CSV's column
FASTTEXT_LABEL = "__label__"
SENTENCE_ENDS = {".", "!", "?", "...", "…", "。", "！", "？"}
PADDING, UNKNOWN = "<pad>", "<unk>"

# A text, the name of its label, and its place in the data.
ListedText = tuple[str, str, str]


class TextClassifierSettings(TypedDict):
    """The settings in the header of a text classifier."""

    network: NotRequired[dict[str, Any]]  # the keyword arguments; none for vectors to start from
    vocabulary: dict[str, Any]  # the content of the tokenizer's file
    max_length: int  # tokens of a text that are read
    loss: NotRequired[str]


def text_classifier_settings(header: Header) -> TextClassifierSettings:
    """The settings of a text classifier's header."""
    return cast(TextClassifierSettings, header.settings)


class WordVocabulary:
    """The vocabulary of a network; id 0 is padding.

    Ids are the tokenizer's, shifted by one if its own id 0 is not padding.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.shift = 0 if tokenizer.special.get(PADDING) == 0 else 1

    @classmethod
    def learn(cls, texts: Iterable[str], size: int, tokenizer: str = "words") -> "WordVocabulary":
        """Learn the `size` most frequent lower-case words, or load a tokenizer by name or file."""
        if tokenizer != "words":
            return cls(load(tokenizer))
        special = [PADDING, UNKNOWN]
        learned = train(
            texts, algorithm="words", vocab_size=size, normalize="lower", special=special
        )
        return cls(learned)

    @classmethod
    def from_settings(cls, settings: dict[str, Any]) -> "WordVocabulary":
        """Rebuild the vocabulary from a checkpoint's header."""
        return cls(Tokenizer.from_settings(settings))

    def to_settings(self) -> dict[str, Any]:
        """Return the content of the tokenizer's file, for a checkpoint's header."""
        return self.tokenizer.to_settings()

    def __len__(self) -> int:
        return max(self.tokenizer.names) + 1 + self.shift

    def encode(self, text: str, max_length: int) -> list[int]:
        """Return the ids of the first `max_length` tokens of a text."""
        return [i + self.shift for i in self.tokenizer.encode(text)[:max_length]]

    def encode_batch(self, texts: Sequence[str], max_length: int) -> list[Tensor]:
        """Encode many texts; ids are int32 to save memory."""
        return [
            torch.tensor(ids[:max_length], dtype=torch.int32) + self.shift
            for ids in self.tokenizer.encode_batch(texts)
        ]

    def words(self, text: str) -> list[str]:
        """Return the substrings of the text that the ids of `encode` represent."""
        return [text[start:end] for _, (start, end) in self.tokenizer.encode_spans(text)]

    def sentence_ends(self) -> list[int]:
        """Return the ids of tokens that end a sentence."""
        names = self.tokenizer.names.items()
        return sorted(i + self.shift for i, token in names if token.strip("Ġ▁ ") in SENTENCE_ENDS)


def network_settings(config: ClassifyTrainConfig, vocabulary: WordVocabulary) -> dict[str, Any]:
    """Return the keyword arguments of the architecture, without `num_labels`."""
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


def pad_ids(ids: Sequence[Tensor]) -> Tensor:
    """Pad the ids of texts with 0 to one tensor (B, T); T is at least 1."""
    return padded_tensors(ids, 0).long()


class TextDataset(Dataset[list[Tensor]]):
    """Labeled texts, encoded once. A share `word_dropout` of the words is dropped at random."""

    def __init__(
        self,
        samples: Sequence[tuple[str, int]],
        vocabulary: WordVocabulary,
        max_length: int,
        word_dropout: float = 0.0,
    ) -> None:
        self.word_dropout = word_dropout
        self.targets = torch.tensor([label for _, label in samples])
        self.ids = vocabulary.encode_batch([text for text, _ in samples], max_length)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitems__(self, indices: list[int]) -> list[Tensor]:
        """Return a batch of ids (B, T) and targets (B,); torch's DataLoader calls this."""
        chosen = [self.ids[index] for index in indices]
        if self.word_dropout:
            chosen = [ids[torch.rand(len(ids)) >= self.word_dropout] for ids in chosen]
        return [pad_ids(chosen), self.targets[indices]]

    def batches(self, size: int, indices: Sequence[int]) -> Iterator[list[Tensor]]:
        """Yield the texts with these indices, in order."""
        for start in range(0, len(indices), size):
            yield self.__getitems__(list(indices[start : start + size]))


def read_texts(
    data: Path, split: str, labels: list[str] | None = None, share: float = 0.1, seed: int = 0
) -> tuple[list[str], list[tuple[str, int]], Skipped]:
    """Read the labels, the texts of one split with their label indices, and the skipped samples.

    `labels` fixes the labels and their order. Without a split `val`, a share of each label's
    training texts is held out, the same for the same seed; without any splits, `test` is another
    such share, drawn first. Equal texts stay in one split. The split `all` contains all texts.
    Unusable samples are skipped; the caller reports them.
    """
    if not data.exists():
        raise DlkitError("no such folder or file", data)
    skipped = Skipped()
    found = select_split(data, split, share, seed, skipped)
    if labels is None:
        labels = sorted({label for _, label, _ in found})
        if len(labels) == 1:
            raise DlkitError(f"only one label ({labels[0]}); at least two are needed", data)
    index = {label: number for number, label in enumerate(labels)}
    samples = []
    for text, label, where in found:
        if label in index:
            samples.append((text, index[label]))
        else:
            skipped.add("unknown label", f"{where} ({label})")
    return labels, samples, skipped


def select_split(
    data: Path, split: str, share: float, seed: int, skipped: Skipped
) -> list[ListedText]:
    """Return the texts of a split, from the data or held out from its training texts."""
    splits = list_splits(data, skipped)
    if split == "all":
        return [found for texts in splits.values() for found in texts]
    if split not in SPLITS:
        raise DlkitError(f"unknown split {split!r}; choose from train, val, test, all")
    if set(splits) == {"all"}:
        splits["test"], splits["train"] = hold_out_texts(splits.pop("all"), share, seed)
    if "val" not in splits and "train" in splits:
        splits["val"], splits["train"] = hold_out_texts(splits["train"], share, seed + 1)
    if not splits.get(split) and not (split == "val" and share == 0):
        available = ", ".join(name for name, texts in splits.items() if texts) or "none"
        raise DlkitError(f"no texts in the split {split!r}; available: {available}", data)
    return splits.get(split, [])


def hold_out_texts(
    listed: list[ListedText], share: float, seed: int
) -> tuple[list[ListedText], list[ListedText]]:
    """Hold out a share of the distinct texts of each label; return it and the rest."""
    return hold_out(listed, share, seed, key=lambda entry: entry[0], stratum=lambda entry: entry[1])


def list_splits(data: Path, skipped: Skipped) -> dict[str, list[ListedText]]:
    """List the texts of each split that the data has; of `all` if it has no splits."""
    if data.is_file():
        return read_csv(data, skipped)
    found: dict[str, list[ListedText]] = {}
    for split, spellings in SPLITS.items():
        for name in spellings:
            if (data / f"{name}.csv").is_file():
                listed = read_csv(data / f"{name}.csv", skipped)
                found[split] = [entry for texts in listed.values() for entry in texts]
            elif (data / name).is_dir():
                found[split] = read_folder(data / name, skipped)
    return found or {"all": read_folder(data, skipped)}


def read_folder(folder: Path, skipped: Skipped) -> list[ListedText]:
    """List the texts of LABEL/*.txt, one per file; or of LABEL.txt, one per line."""
    found: list[ListedText] = []
    documents = {
        path: sorted(path.rglob("*.txt")) for path in sorted(folder.iterdir()) if path.is_dir()
    }
    if any(documents.values()):
        for label, files in documents.items():
            texts = [
                (decode_text(file.read_bytes(), str(file), skipped), label.name, str(file))
                for file in files
            ]
            found += require_texts(texts, label)
        return found
    for file in sorted(folder.glob("*.txt")):
        found_lines = file.read_bytes().removesuffix(b"\n").split(b"\n")
        texts = [
            (decode_text(line, f"{file}:{number}", skipped), file.stem, f"{file}:{number}")
            for number, line in enumerate(found_lines, start=1)
        ]
        found += require_texts(texts, file)
    if not found:
        raise DlkitError(
            f"{folder}: no texts; give LABEL/*.txt, LABEL.txt with a text in each line, or a CSV"
            " of texts and labels (see `dlkit docs classify`)"
        )
    return found


def require_texts(texts: list[ListedText], source: Path) -> list[ListedText]:
    """Return the non-empty texts of a label. Raises DlkitError if there are none."""
    kept = [entry for entry in texts if entry[0]]
    if not kept:
        raise DlkitError("a label without any text; remove it or add texts", source)
    return kept


def decode_text(content: bytes, where: str, skipped: Skipped) -> str:
    """Decode and strip a text; skip it and return "" if it is empty or not UTF-8."""
    try:
        text = content.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        skipped.add("not UTF-8", where)
        return ""
    if not text:
        skipped.add("empty text", where)
    return text


def is_fasttext(file: Path) -> bool:
    """Whether the first line with text begins with a label of fastText."""
    first = next((line for line in lines(str(file)) if line.strip()), "")
    return first.startswith(FASTTEXT_LABEL)


def read_fasttext(file: Path, skipped: Skipped) -> list[ListedText]:
    """List the texts of fastText's lines, `__label__NAME text`; one label each."""
    found: list[ListedText] = []
    for number, line in enumerate(lines(str(file)), start=1):
        words = line.split()
        labels = list(takewhile(lambda word: word.startswith(FASTTEXT_LABEL), words))
        text = " ".join(words[len(labels) :])
        where = f"{file}:{number}"
        if len(labels) > 1:
            skipped.add("line with several labels", where)
        elif not labels or not text:
            skipped.add("line without a label or text", where)
        else:
            found.append((text, labels[0].removeprefix(FASTTEXT_LABEL), where))
    if not found:
        raise DlkitError("no line has one label and a text", file)
    return found


def read_csv(file: Path, skipped: Skipped) -> dict[str, list[ListedText]]:
    """List the texts of a CSV by its column `split`, or as `all`."""
    if is_fasttext(file):
        return {"all": read_fasttext(file, skipped)}
    found: dict[str, list[ListedText]] = {}
    for number, row in csv_rows(file, skipped, TEXTS):
        text, label = column(row, TEXTS, file).strip(), column(row, LABELS, file).strip()
        where = f"{file}:{number}"
        if not text or not label:
            skipped.add("row without text or label", where)
            continue
        split = next((s for s, n in SPLITS.items() if row.get("split") in n), row.get("split"))
        found.setdefault(split or "all", []).append((text, label, where))
    if not found:
        raise DlkitError("no row has both a text and a label", file)
    return found
