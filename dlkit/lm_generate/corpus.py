"""The training text as memory-mapped files of ids, in the run's folder. Loads no torch."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict

import numpy as np

from dlkit.core.errors import DlkitError
from dlkit.core.io import text as reading
from dlkit.core.io.files import exists, read_whole, whole_file
from dlkit.core.progress import Bar, log
from dlkit.core.store import schema
from dlkit.lm_generate.config import LEARNED, LmTrainConfig
from dlkit.lm_generate.text_codec import TextCodec

PARTS = ("training", "validation")
INDEX = "tokens.json"  # describes the files of ids; written last
MAX_INDEX = 1_000_000_000  # bytes of the description, with its tokenizer
MAX_LINE = 1 << 16  # bytes: within a longer line, the text is cut between characters


@dataclass(frozen=True)
class Corpus:
    """Ids of the training and validation texts, mapped from the run's folder."""

    codec: TextCodec
    training: np.ndarray
    validation: np.ndarray


def prepare(config: LmTrainConfig, codec: TextCodec | None = None) -> None:
    """Write the corpus to the run's folder, unless a run that continues has one.

    `codec` is that of the model that training starts from, if any.
    """
    # The files of a run stay, even when a new run in this folder is about to be refused.
    outputs = ("last.state.pt", "best.safetensors")
    continues = config.resume or any(exists(config.out / name) for name in outputs)
    if not (continues and exists(config.out / INDEX)):
        write_tokens(config, codec)


def write_tokens(config: LmTrainConfig, codec: TextCodec | None) -> None:
    """Read the text, learn a tokenizer if there is none, and write the ids."""
    text = TextFiles.from_config(config)
    if codec is None:
        codec = make_codec(config, text)
    (config.out / INDEX).unlink(missing_ok=True)
    dtype = np.uint16 if codec.size <= 1 << 16 else np.uint32
    counts, unknown = {}, 0
    try:
        for part in PARTS:
            with whole_file(config.out / f"{part}.bin") as partial, partial.open("wb") as file:
                counts[part] = 0
                for ids in text.ids(part, codec, config.workers):
                    ids.astype(dtype).tofile(file)
                    counts[part] += len(ids)
                    unknown += int((ids == codec.tokenizer.unknown_id).sum())
    except DlkitError:  # a part without text, or one that cannot be read: the other is of no use
        for part in PARTS:
            (config.out / f"{part}.bin").unlink(missing_ok=True)
        raise
    log(f"{counts['training']} training tokens, {counts['validation']} validation tokens")
    if unknown:
        log(f"{unknown / sum(counts.values()):.2%} of them are not in the vocabulary")
    index = {"dtype": np.dtype(dtype).name, "tokens": counts, "tokenizer": codec.to_settings()}
    with whole_file(config.out / INDEX) as partial:
        partial.write_text(json.dumps(index))


class IndexFields(TypedDict):
    """The description of a prepared corpus."""

    dtype: Literal["uint16", "uint32"]
    tokens: dict[str, int]  # of each part
    tokenizer: dict[str, Any]  # the content of its file


def open_corpus(folder: Path) -> Corpus:
    """Map the corpus that `prepare` wrote to a run's folder."""
    place = folder / INDEX
    index = schema.read_json(read_whole(place, MAX_INDEX), place)
    schema.check(index, IndexFields, "it")
    dtype = np.dtype(index["dtype"])
    mapped = []
    for part in PARTS:
        path, count = folder / f"{part}.bin", index["tokens"][part]
        try:
            # An empty file cannot be mapped.
            mapped.append(
                np.memmap(path, dtype, "r", shape=(count,)) if count else np.zeros(0, dtype)
            )
        except (OSError, ValueError) as error:
            raise DlkitError("missing or damaged; train again in another --out", path) from error
    return Corpus(TextCodec.from_settings(index["tokenizer"]), *mapped)


def make_codec(config: LmTrainConfig, text: "TextFiles") -> TextCodec:
    """The codec that `--tokenizer` names, or one learned from the training text."""
    if config.tokenizer not in LEARNED:
        return TextCodec.named(config.tokenizer)
    blocks = (block for _, block in text.blocks("training"))
    return TextCodec.learn(blocks, config.tokenizer, config.vocab_size, config.arch, config.lower)


class TextFiles:
    """The files of a corpus and of its validation text, to be read more than once.

    Without validation files, the last share of all bytes is held out, cut where a line ends.
    """

    def __init__(
        self,
        sources: list[str],
        held_out: list[str],
        val_share: float,
        errors: Literal["strict", "replace"] = "strict",
    ) -> None:
        self.sources, self.held_out, self.errors = sources, held_out, errors
        total = sum(unpacked_size(source, errors) for source in sources)
        if total == 0:
            raise DlkitError(f"{', '.join(sources)}: no text in it; give another file or folder")
        self.cut = total if held_out else total - int(total * val_share)

    @classmethod
    def from_config(cls, config: LmTrainConfig) -> "TextFiles":
        """The text of a run; stdin, which is read more than once, is saved in its folder."""
        files = reading.files(config.data)
        sources = [reading.spool(source, config.out) for source in files]
        return cls(sources, reading.files(config.val), config.val_share, config.errors)

    def blocks(self, part: str) -> Iterator[tuple[bool, str]]:
        """Blocks of whole lines of a part, each with whether a file begins with it."""
        separate = part == "validation" and self.held_out
        sources = self.held_out if separate else self.sources
        bar = Bar(f"reading {part}", reading.size(sources), unit="bytes")
        start = 0  # of the block in all the text
        try:
            for source in sources:
                begins = True
                for block in reading.blocks(source, self.errors, lambda n: bar.advance(by=n)):
                    at = len(block) if separate else cut_place(block, self.cut - start)
                    start += len(block)
                    mine = block[:at] if part == "training" or separate else block[at:]
                    if mine:
                        yield begins, mine.decode()
                        begins = False
        finally:
            bar.close()

    def ids(self, part: str, codec: TextCodec, workers: int) -> Iterator[np.ndarray]:
        """Ids of a part; each file begins with the codec's token for that, if it has one."""
        for begins, block in self.blocks(part):
            if begins and codec.begin is not None:
                yield np.array([codec.begin])
            yield from codec.encode_blocks([block], workers)


def unpacked_size(source: str, errors: str) -> int:
    """Bytes of a file's text."""
    if reading.is_compressed(source):
        return sum(map(len, reading.blocks(source, errors)))
    return reading.size([source]) or 0


def cut_place(block: bytes, place: int) -> int:
    """Move a cut at `place` to the end of its line, or of its character within a long line."""
    if not 0 < place < len(block):
        return min(max(place, 0), len(block))
    line = block.find(b"\n", place - 1, place + MAX_LINE) + 1
    if line:
        return line
    while place < len(block) and block[place] & 0xC0 == 0x80:  # inside a character
        place += 1
    return place
