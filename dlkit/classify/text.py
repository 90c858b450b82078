"""Labeled texts: vocabulary, reading of data folders, batches of token ids.

Shapes: B texts of a batch, T words of the longest of them.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import torch
from torch import Tensor
from torch.utils.data import Dataset

from dlkit.classify.config import NGRAMS, ClassifyTrainConfig
from dlkit.classify.formats import FASTTEXT_LABEL, read_fasttext
from dlkit.core.errors import DlkitError
from dlkit.core.io.files import is_dir
from dlkit.core.io.rows import ROWS, Column, finish_rows, first_line, read_rows
from dlkit.core.io.splits import SPLITS, find_splits, hold_out, split_of
from dlkit.core.io.text import COMPRESSED, MARK, open_decompressed, reading_errors
from dlkit.core.ledger import Ledger
from dlkit.core.nn.padding import padded_tensors
from dlkit.core.progress import log
from dlkit.core.store import schema
from dlkit.core.store.checkpoint import Header
from dlkit.tokenize import Tokenizer, load, train

COLUMNS = {
    "text": Column(("text", "sentence", "review", "document", "content"), free_text=True),
    "label": Column(("label", "labels", "class"), number=True),
    "split": Column(("split",), optional=True),
}
ROW_FILES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json")
SENTENCE_ENDS = {".", "!", "?", "...", "…", "。", "！", "？"}
PADDING, UNKNOWN = "<pad>", "<unk>"

# A text, the name of its label, and its place in the data.
ListedText = tuple[str, str, str]


class TextClassifierSettings(TypedDict):
    """The settings in the header of a text classifier."""

    network: NotRequired[dict[str, Any]]  # the keyword arguments; none for vectors to start from
    vocabulary: dict[str, Any]  # the content of the tokenizer's file
    max_length: schema.Count  # tokens of a text that are read
    loss: NotRequired[str]


def text_classifier_settings(header: Header) -> TextClassifierSettings:
    """The settings of a text classifier's header."""
    settings: TextClassifierSettings = schema.fit(TextClassifierSettings, header.settings)
    return settings


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
    settings: dict[str, Any] = {"vocab_size": len(vocabulary)}
    if config.arch in NGRAMS:
        return {**settings, "ngrams": config.ngrams}
    settings["embedding_size"] = config.embedding_size
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


@dataclass(frozen=True)
class LabeledTexts:
    """The texts of a data set, read once: those of each split, or of `all` if it has no splits.

    Without a split `val`, a share of each label's training texts is held out, the same for the same
    seed; without any splits, `test` is another such share, drawn first. Equal texts stay in one
    split. `ledgers` account for the files, and for the splits that were taken.
    """

    data: Path
    splits: dict[str, list[ListedText]]
    ledgers: list[Ledger]
    allowed: float

    def split(
        self, split: str, labels: list[str] | None = None, share: float = 0.1, seed: int = 0
    ) -> tuple[list[str], list[tuple[str, int]]]:
        """The labels, and the texts of a split with the indices of their labels.

        `labels` fixes the labels and their order; texts of others are skipped. The split `all`
        contains all texts. Raises DlkitError where it has no text, or more than the allowed share
        is skipped.
        """
        found = self.select(split, share, seed)
        if labels is None:
            labels = sorted({label for _, label, _ in found})
            if len(labels) == 1:
                raise DlkitError(
                    f"only one label ({labels[0]}); at least two are needed", self.data
                )
        index = {label: number for number, label in enumerate(labels)}
        ledger = Ledger(split)
        samples = []
        for text, label, where in found:
            if label in index:
                samples.append((text, index[label]))
            else:
                ledger.skip("texts", f"unknown label {label!r}", where)
        ledger.use("texts", len(samples))
        self.ledgers.append(ledger)
        if found:
            ledger.require("texts", self.data)
            ledger.check(self.allowed, self.data)
            ledger.report({"texts": f"of {len({label for _, label in samples})} labels"})
        return labels, samples

    def select(self, split: str, share: float, seed: int) -> list[ListedText]:
        """The texts of a split, from the data or held out from its training texts."""
        splits = dict(self.splits)
        if split == "all":
            return [found for texts in splits.values() for found in texts]
        if split not in SPLITS:
            raise DlkitError(f"unknown split {split!r}; choose from {', '.join(SPLITS)}, all")
        if set(splits) == {"all"}:
            splits["test"], splits["train"] = hold_out_texts(splits.pop("all"), share, seed)
        if "val" not in splits and "train" in splits:
            splits["val"], splits["train"] = hold_out_texts(splits["train"], share, seed + 1)
        if not splits.get(split) and not (split == "val" and share == 0):
            available = ", ".join(name for name, texts in splits.items() if texts) or "none"
            raise DlkitError(f"no texts in the split {split!r}; available: {available}", self.data)
        return splits.get(split, [])


def hold_out_texts(
    listed: list[ListedText], share: float, seed: int
) -> tuple[list[ListedText], list[ListedText]]:
    """Hold out a share of the distinct texts of each label; return it and the rest."""
    return hold_out(listed, share, seed, key=lambda entry: entry[0], stratum=lambda entry: entry[1])


def read_texts(data: Path, allowed: float = 0.0) -> LabeledTexts:
    """Read the texts of a folder or file; print the counts of texts used and skipped.

    Raises DlkitError where more than the allowed share of a file is skipped.
    """
    if not data.exists():
        raise DlkitError("no such folder or file", data)
    texts = LabeledTexts(data, {}, [], allowed)
    if not data.is_dir():
        texts.splits.update(read_file(data, texts))
        return texts
    parts = list_parts(data)
    found = find_splits(parts, data)
    for split, name in found.items():
        if parts[name].is_dir():
            texts.splits[split] = read_folder(parts[name], texts)
        else:
            texts.splits[split] = read_file(parts[name], texts, split)[split]
    if not found:
        texts.splits["all"] = read_folder(data, texts)
    elif rest := [parts[name].name for name in parts if name not in found.values()]:
        log(f"{data}: not read, because their names are not those of splits: {', '.join(rest)}")
    return texts


def list_parts(data: Path) -> dict[str, Path]:
    """The folders and files of rows in a folder of data, by their names without suffixes."""
    parts: dict[str, Path] = {}
    for path in sorted(data.iterdir()):
        if path.name.startswith(".") or not (path.is_dir() or is_rows(path)):
            continue
        name = path.name if path.is_dir() else path.name.partition(".")[0]
        if name in parts:
            raise DlkitError(f"both {parts[name].name} and {path.name} are {name}; give one", data)
        parts[name] = path
    return parts


def is_rows(path: Path) -> bool:
    """Whether a file in a folder of data is one of rows, or of fastText's lines."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    if suffixes[-1:] != [".txt"]:
        return bool(suffixes) and suffixes[-1] in ROW_FILES
    with reading_errors(str(path)), open_decompressed(str(path)) as (file, _):
        return (
            file.read(len(MARK) + len(FASTTEXT_LABEL))
            .removeprefix(MARK)
            .startswith(FASTTEXT_LABEL.encode())
        )


def read_folder(folder: Path, texts: LabeledTexts) -> list[ListedText]:
    """List the texts of LABEL/*.txt, one per file; or of LABEL.txt, one per line."""
    ledger = Ledger(folder.name)
    texts.ledgers.append(ledger)
    found: list[ListedText] = []
    documents = {
        path: sorted(path.rglob("*.txt")) for path in sorted(folder.iterdir()) if is_dir(path)
    }
    if any(documents.values()):
        for label, files in documents.items():
            listed = [
                (text, label.name, str(file))
                for file in files
                if (text := decode_text(file.read_bytes(), str(file), ledger))
            ]
            found += require_texts(listed, label)
    else:
        files = sorted(folder.glob("*.txt"))
        if files and all(split_of(file.stem) for file in files):
            raise DlkitError(
                f"{files[0].name} has the name of a split, and its lines no labels; begin them with"
                f" {FASTTEXT_LABEL}NAME, or give CSV files",
                folder,
            )
        for file in files:
            found_lines = file.read_bytes().split(b"\n")
            listed = [
                (text, file.stem, f"{file}:{number}")
                for number, line in enumerate(found_lines, start=1)
                if line.strip() and (text := decode_text(line, f"{file}:{number}", ledger))
            ]
            found += require_texts(listed, file)
    if not found:
        raise DlkitError(
            f"{folder}: no texts; give LABEL/*.txt, LABEL.txt with a text in each line, or a CSV"
            " of texts and labels (see `dlkit docs classify`)"
        )
    ledger.use("texts", len(found))
    ledger.check(texts.allowed, folder)
    ledger.report()
    return found


def require_texts(texts: list[ListedText], source: Path) -> list[ListedText]:
    """The texts of a label. Raises DlkitError if there are none."""
    if not texts:
        raise DlkitError("a label without any text; remove it or add texts", source)
    return texts


def decode_text(content: bytes, where: str, ledger: Ledger) -> str:
    """Decode and strip a text; skip it and return "" if it is empty or not UTF-8."""
    try:
        text = content.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        ledger.skip("texts", "not UTF-8", where)
        return ""
    if not text:
        ledger.skip("texts", "empty text", where)
    return text


def read_file(
    file: Path, texts: LabeledTexts, split: str | None = None
) -> dict[str, list[ListedText]]:
    """List the texts of a CSV, JSON lines or fastText's lines by their split.

    It is that of their column `split`, or the given one, or `all`.
    """
    ledger = Ledger(file.name)
    texts.ledgers.append(ledger)
    skip = partial(ledger.skip, ROWS)
    found: dict[str, list[ListedText]] = {}
    begun = first_line(file)
    if begun[0].lstrip().startswith(FASTTEXT_LABEL):
        rows = read_fasttext(begun[1], file, skip)
    else:
        rows = read_rows(file, COLUMNS, skip, begun)
    for where, row in rows:
        text, label = row["text"].strip(), row["label"].strip()
        named = split_of(row["split"]) if "split" in row else split or "all"
        if not text or not label:
            skip("row without text or label", where)
        elif named is None:
            skip(f"row of the unknown split {row['split'].strip()!r}", where)
        elif split is not None and named != split:
            skip(f"row of the split {named!r} in a file of {split!r}", where)
        else:
            ledger.use(ROWS)
            found.setdefault(named, []).append((text, label, where))
    finish_rows(ledger, file, texts.allowed)
    return found
