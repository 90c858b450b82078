"""The text to train on as memory-mapped files of ids, in the run's folder. Loads no torch."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from dlkit.core.errors import DlkitError
from dlkit.core.io import streams
from dlkit.core.io import text as reading
from dlkit.core.io.files import whole_file
from dlkit.core.progress import Bar, log
from dlkit.lm_generate.config import LEARNED, LmTrainConfig
from dlkit.lm_generate.text_codec import TextCodec

PARTS = ("training", "validation")
ABOUT = "tokens.json"  # what the files of ids hold; written last
LONGEST_LINE = 1 << 16  # bytes that the text is not cut at the end of a line for


@dataclass(frozen=True)
class Corpus:
    """The ids of the text to train and to validate on, mapped from the run's folder."""

    units: TextCodec
    training: np.ndarray
    validation: np.ndarray


def prepare(config: LmTrainConfig, units: TextCodec | None = None) -> None:
    """Make the corpus in the run's folder, unless the run goes on and it is there.

    `units` are those of the model that the training starts from, if it does.
    """
    # What belongs to a run stays, also when another one here is about to be refused.
    made = ("last.state.pt", "best.safetensors")
    goes_on = config.resume or any((config.out / name).exists() for name in made)
    if not (goes_on and (config.out / ABOUT).exists()):
        write_tokens(config, units)


def write_tokens(config: LmTrainConfig, units: TextCodec | None) -> None:
    """Read the text, learn its units if they are to be learned, and write its ids."""
    text = Text.of(config)
    if units is None:
        units = units_of(config, text)
    (config.out / ABOUT).unlink(missing_ok=True)
    dtype = np.uint16 if units.size <= 1 << 16 else np.uint32
    counts, unknown = {}, 0
    for part in PARTS:
        with whole_file(config.out / f"{part}.bin") as partial, partial.open("wb") as file:
            counts[part] = 0
            for ids in text.ids(part, units, config.workers):
                ids.astype(dtype).tofile(file)
                counts[part] += len(ids)
                unknown += int((ids == units.tokenizer.unknown_id).sum())
    log(f"{counts['training']} tokens to train on, {counts['validation']} to validate")
    if unknown:
        log(f"{unknown / sum(counts.values()):.2%} of them are not in the vocabulary")
    about = {"dtype": np.dtype(dtype).name, "tokens": counts, "tokenizer": units.to_settings()}
    with whole_file(config.out / ABOUT) as partial:
        partial.write_text(json.dumps(about))


def corpus_of(folder: Path) -> Corpus:
    """The corpus that `prepare` made in a run's folder."""
    about = json.loads((folder / ABOUT).read_text())
    dtype = np.dtype(about["dtype"])
    mapped = []
    for part in PARTS:
        path, count = folder / f"{part}.bin", about["tokens"][part]
        try:
            # Nothing cannot be mapped.
            mapped.append(
                np.memmap(path, dtype, "r", shape=(count,)) if count else np.zeros(0, dtype)
            )
        except (OSError, ValueError) as error:
            raise DlkitError(f"{path}: missing or damaged; train again in another --out") from error
    return Corpus(TextCodec.from_settings(about["tokenizer"]), *mapped)


def units_of(config: LmTrainConfig, text: "Text") -> TextCodec:
    """The units that `--tokenizer` names, learned from the text to train on if need be."""
    if config.tokenizer not in LEARNED:
        return TextCodec.named(config.tokenizer)
    blocks = (block for _, block in text.blocks("training"))
    return TextCodec.learn(blocks, config.tokenizer, config.vocab_size, config.arch, config.lower)


class Text:
    """The files of a corpus, and those held out to validate on, to be read more than once.

    Without files of its own for that, the last share of all bytes is held out, cut where a
    line ends.
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
            raise DlkitError(f"{', '.join(sources)}: no text in it")
        self.cut = total if held_out else total - int(total * val_share)

    @classmethod
    def of(cls, config: LmTrainConfig) -> "Text":
        """The text of a run; stdin, which is read more than once, is kept in its folder."""
        files = reading.files(config.data)
        sources = [spooled(config.out) if source == "-" else source for source in files]
        return cls(sources, reading.files(config.val), config.val_share, config.errors)

    def blocks(self, part: str) -> Iterator[tuple[bool, str]]:
        """The text of a part in blocks of whole lines, and whether a file begins with it."""
        separate = part == "validation" and self.held_out
        sources = self.held_out if separate else self.sources
        bar = Bar(f"reading {part}", reading.size(sources), unit="bytes")
        start = 0  # of the block in all the text
        try:
            for source in sources:
                begins = True
                for block in reading.blocks(source, self.errors, lambda n: bar.advance(by=n)):
                    at = len(block) if separate else cut_at(block, self.cut - start)
                    start += len(block)
                    mine = block[:at] if part == "training" or separate else block[at:]
                    if mine:
                        yield begins, mine.decode()
                        begins = False
        finally:
            bar.close()

    def ids(self, part: str, units: TextCodec, workers: int) -> Iterator[np.ndarray]:
        """The ids of a part; each file begins with the token for that, if there is one."""
        for begins, block in self.blocks(part):
            if begins and units.begin is not None:
                yield np.array([units.begin])
            yield from units.encode_blocks([block], workers)


def spooled(folder: Path) -> str:
    """All of stdin in a file: it is read once to learn the units, and once to use them."""
    path = folder / "stdin.txt"
    with whole_file(path) as partial, partial.open("wb") as file:
        shutil.copyfileobj(streams.binary(streams.stdin()), file)
    return str(path)


def unpacked_size(source: str, errors: str) -> int:
    if source.endswith(reading.COMPRESSED):
        return sum(map(len, reading.blocks(source, errors)))
    return reading.size([source]) or 0


def cut_at(block: bytes, place: int) -> int:
    """Where a block is cut for a cut at `place`: after that line, or, if it is long, character."""
    if not 0 < place < len(block):
        return min(max(place, 0), len(block))
    line = block.find(b"\n", place - 1, place + LONGEST_LINE) + 1
    if line:
        return line
    while place < len(block) and block[place] & 0xC0 == 0x80:  # inside a character
        place += 1
    return place
