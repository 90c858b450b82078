"""n-gram models as ARPA files, the format of SRILM, KenLM and others.

Logarithms in the files are to base 10. The token that ends a line is `<s>` where it begins an
n-gram and `</s>` where it ends one. White space inside a token is written as \\u and its number.

Shapes: R n-grams of a block.
"""

import math
import re
import stat
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np

from dlkit.core.errors import DlkitError
from dlkit.core.io.files import whole_file
from dlkit.core.io.kinds import HEAD
from dlkit.core.io.text import MARK, check_kind, open_decompressed, reading_errors
from dlkit.core.progress import log
from dlkit.core.store.checkpoint import Header
from dlkit.lm_generate.ngram import ABSENT, NGram, NGramSettings, Trie, Values
from dlkit.lm_generate.text_codec import TextCodec
from dlkit.tokenize import Tokenizer

BLOCK = 1 << 16  # n-grams
TO_BASE_10 = math.log10(math.e)
NEVER = -99.0  # the logarithm of 0
LONGEST_NUMBER = 12  # bytes
NO_UNKNOWN = -100.0  # the logarithm of unknown words without <unk>
BEGIN, END, UNKNOWN, UNKNOWN_CAPITALS = b"<s>", b"</s>", b"<unk>", b"<UNK>"
MARKS = ("<unk>", "<s>", "</s>")
SPACES = re.compile(rb"[\t\n\r ]+")  # between the words of the file
DIGITS = re.compile(r"[0-9]+")
KENLM = b"mmap lm http://kheafield.com/code"
MOST_BEFORE = 1000  # lines before \\data\\
SNIFFED = 1 << 16  # bytes in which a file of any name has it
LEAST_BYTES = 4  # of the line of an n-gram
MOST_COMPRESSED = 1000  # bytes of text in one of a file
SHOWN = 80  # characters of a line in a message


def write_arpa(path: Path, model: NGram) -> None:
    """Write a back-off model, whole or not at all."""
    if model.floors:
        raise DlkitError(
            "an ARPA file cannot hold an add-k model, which does not back off; give --add-k 0 or"
            " another --smoothing"
        )
    from dlkit.lm_generate.compiled_ngram import write_lines

    trie = model.trie
    names, starts = encode_names(model)
    sizes = [len(words) for words in trie.words]
    begin = len(starts) - 2  # the index of the name <s>
    with whole_file(path) as partial, partial.open("wb") as file:
        file.write(b"\\data\\\n")
        for number, size in enumerate(sizes, 1):
            extra = number == 1 and trie.line_end is not None
            file.write(f"ngram {number}={size + extra}\n".encode())
        for level, size in enumerate(sizes):
            file.write(f"\n\\{level + 1}-grams:\n".encode())
            if level == 0 and trie.line_end is not None:
                weight = model.backoffs[0][trie.line_end] * TO_BASE_10 if trie.order > 1 else 0.0
                file.write(f"{NEVER:g}\t<s>\t{max(weight, NEVER):.7g}\n".encode())
            for start in range(0, size, BLOCK):
                stop = min(start + BLOCK, size)
                grams = trie.ngrams(level, start, stop)
                logprobs = model.logprobs[level][start:stop].astype(np.float64) * TO_BASE_10
                weights = np.empty(0)
                if level + 1 < trie.order:
                    weights = model.backoffs[level][start:stop].astype(np.float64) * TO_BASE_10
                if trie.line_end is not None:
                    ends = grams[:, -1] == trie.line_end
                    if len(weights):
                        weights[ends] = 0  # nothing follows
                    if level:
                        grams[grams[:, 0] == trie.line_end, 0] = begin
                lengths = starts[grams + 1] - starts[grams] + 1
                out = np.empty(int(lengths.sum()) + 2 * (LONGEST_NUMBER + 1) * len(grams), np.uint8)
                end = write_lines(grams, logprobs, weights, names, starts, out)
                file.write(out[:end].data)
        file.write(b"\n\\end\\\n")


def encode_names(model: NGram) -> tuple[np.ndarray, np.ndarray]:
    """Concatenated bytes of the names of all tokens and of <s>, and where each begins."""
    tokens = model.tokenizer.names
    own = {model.tokenizer.unknown_id: UNKNOWN.decode(), model.trie.line_end: END.decode()}
    names = []
    for number in range(len(model.trie.words[0])):
        name = own.get(number)
        if name is None:
            name = escape(tokens.get(number, f"<id-{number}>"))
            if name in MARKS:
                name = f"\\{name}"
        names.append(name.encode())
    names.append(BEGIN)
    starts = np.cumsum([0, *map(len, names)]).astype(np.int64)
    return np.frombuffer(b"".join(names), np.uint8), starts


def escape(token: str) -> str:
    """Escape the white space of a token."""
    if token.isprintable() and " " not in token:
        return token
    return "".join(c if c.isprintable() and c != " " else f"\\u{ord(c):04x}" for c in token)


def read_arpa(path: Path) -> NGram:
    """Read an ARPA file, plain or compressed, as KenLM reads it; its tokens are words.

    What KenLM refuses is refused with its line, but for text before the model, missing blank lines,
    a missing `<s>` or `</s>`, and a space after the first number.
    """
    with reading_errors(str(path)), open_decompressed(str(path)) as (file, _):
        return Reader(path, file).model()


def is_arpa(path: Path) -> bool:
    """Whether a file is one for `read_arpa`, by its beginning, plain or compressed."""
    try:
        with open_decompressed(str(path)) as (file, _):
            head = file.read(SNIFFED)
    except Exception:  # a damaged file: reading it as what it may be fails with the reason
        return False
    return (
        head.startswith(KENLM)
        or re.search(rb"^(?:\xef\xbb\xbf)?\\data\\\s*$", head, re.MULTILINE) is not None
    )


class Reader:
    """Reads an ARPA file line by line; `number` counts the lines for messages.

    Words are bytes, separated by tabs, spaces and carriage returns only.
    """

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path, self.file = path, file
        self.number = 0
        self.before = 0  # lines before the first n-gram of this order
        self.blanks: list[int] = []  # the n-grams of this order before which a blank line is
        self.repeated: list[str] = []  # n-grams that were there before

    def model(self) -> NGram:
        """Read the whole file."""
        sizes = self.sizes()
        words, logprobs, backoffs = self.tokens(sizes)
        numbers = {word: number for number, word in enumerate(words)}
        numbers[UNKNOWN_CAPITALS] = numbers[UNKNOWN]
        trie = Trie([np.arange(len(words))], [], numbers.get(END), numbers.get(BEGIN))
        all_logprobs, all_backoffs = [logprobs], [backoffs]
        for order in range(2, len(sizes) + 1):
            self.section(f"\\{order}-grams:", sizes[: order - 1])
            grams, logprobs, backoffs = self.ngrams(order, sizes, numbers)
            kept = self.add(trie, grams, words)
            all_logprobs.append(logprobs[kept])
            all_backoffs.append(backoffs[kept])
        self.section("\\end\\", sizes)
        for line in self.file:
            self.number += 1
            if not line.isspace():
                raise self.error(f"{shown(line)} after \\end\\; remove what follows the model")
        self.report_repeated()
        tokenizer = self.codec(words).to_settings()
        settings: NGramSettings = {"tokenizer": tokenizer, "smoothing": "arpa"}
        header = Header("lm-generate", "ngram", settings, [], card={"data": str(self.path)})
        return NGram(
            header,
            trie,
            [Values(numbers) for numbers in all_logprobs],
            [Values(numbers) for numbers in all_backoffs[:-1]],
        )

    def sizes(self) -> list[int]:
        """Read the number of n-grams of each order."""
        for line in self.file:
            if not self.number:
                check_kind(line[:HEAD], str(self.path))
                line = line.removeprefix(MARK)
            self.number += 1
            if line.startswith(KENLM):
                raise DlkitError(
                    "a binary model of KenLM; give the ARPA file that it was made of", self.path
                )
            if line.strip() == b"\\data\\":
                break
            if self.number > MOST_BEFORE:
                raise self.error("no \\data\\ so far: this is no ARPA file")
        else:
            raise DlkitError("no line \\data\\: this is no ARPA file", self.path)
        sizes: list[int] = []
        while (found := self.line()).startswith("ngram "):
            order, _, size = found.removeprefix("ngram ").partition("=")
            if order.strip() != str(len(sizes) + 1) or not DIGITS.fullmatch(size.strip()):
                raise self.error(f"{found[:SHOWN]!r}, not ngram {len(sizes) + 1}=...")
            sizes.append(int(size))
        if not sizes:
            raise self.error("no line with a number of n-grams")
        if found != "\\1-grams:":
            raise self.error(f"{found[:SHOWN]!r}, not \\1-grams:")
        own = self.path.stat()
        if stat.S_ISREG(own.st_mode) and sum(sizes) * LEAST_BYTES > own.st_size * MOST_COMPRESSED:
            raise DlkitError(
                f"it announces {sum(sizes)} n-grams, but has {own.st_size} bytes", self.path
            )
        return sizes

    def section(self, expected: str, sizes: list[int]) -> None:
        """Read the line that follows the n-grams of the last of these orders."""
        if (line := self.line()) == expected:
            return
        order, size = len(sizes), sizes[-1]
        if not line.startswith("\\"):
            raise self.error(f"{line[:SHOWN]!r} is one more {order}-gram than ngram {order}={size}")
        raise self.error(f"{line[:SHOWN]!r}, not {expected}")

    def tokens(self, sizes: list[int]) -> tuple[list[bytes], np.ndarray, np.ndarray]:
        """Read the words, <unk> first, their probabilities and back-off weights."""
        blocks = list(self.rows(1, sizes))
        found = [word for block, _, _ in blocks for word in block]
        logprobs = np.concatenate([block[1] for block in blocks] or [np.empty(0)])
        backoffs = np.concatenate([block[2] for block in blocks] or [np.empty(0)])
        places = dict(zip(reversed(found), range(len(found) - 1, -1, -1), strict=True))
        self.check_utf8(places)
        for place, word in enumerate(found):
            if places[word] != place:
                self.repeated.append(word.decode())
        unknown = [n for n, word in enumerate(found) if word in {UNKNOWN, UNKNOWN_CAPITALS}]
        for name in (UNKNOWN, UNKNOWN_CAPITALS):
            places.pop(name, None)
        words, kept = [UNKNOWN, *places], list(places.values())
        # As in KenLM: the last <unk> counts, and without one unknown words are almost impossible.
        first = (logprobs[unknown[-1]], backoffs[unknown[-1]]) if unknown else (NO_UNKNOWN, 0.0)
        notes = [] if unknown else [f"no <unk>: the logarithm of unknown words is {NO_UNKNOWN:g}"]
        if END not in places:
            notes.append("no </s>: the ends of lines are not scored")
        if BEGIN not in places:
            notes.append("no <s>: nothing is known of how lines begin")
        for note in notes:
            log(f"{self.path}: {note}")
        own = [(-np.inf, 0.0)] if END in places and BEGIN not in places else []
        words += [BEGIN] * len(own)
        return (
            words,
            to_natural(np.array([first[0], *logprobs[kept], *(pair[0] for pair in own)])),
            to_natural(np.array([first[1], *backoffs[kept], *(pair[1] for pair in own)])),
        )

    def check_utf8(self, words: Iterable[bytes]) -> None:
        """Raise DlkitError for a word that is not UTF-8."""
        for word in words:
            try:
                word.decode()
            except UnicodeDecodeError:
                raise DlkitError(
                    f"the word {shown(word)} is not UTF-8; convert the file with iconv -t UTF-8",
                    self.path,
                ) from None

    def ngrams(
        self, order: int, sizes: list[int], numbers: dict[bytes, int]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Read the n-grams (M, N) of an order, their probabilities and back-off weights."""
        grams = [np.empty((0, order), np.int64)]
        logprobs, backoffs = [np.empty(0, np.float32)], [np.empty(0, np.float32)]
        at = 0
        for words, block_logprobs, block_backoffs in self.rows(order, sizes):
            try:
                flat = np.fromiter(map(numbers.__getitem__, words), np.int64, len(words))
            except KeyError as error:
                self.number = self.line_of(at + words.index(error.args[0]) // order)
                raise self.error(f"{shown(error.args[0])} is none of the 1-grams") from None
            grams.append(flat.reshape(-1, order))
            logprobs.append(to_natural(block_logprobs))
            backoffs.append(to_natural(block_backoffs))
            at += len(block_logprobs)
        return np.concatenate(grams), np.concatenate(logprobs), np.concatenate(backoffs)

    def rows(
        self, order: int, sizes: list[int]
    ) -> Iterator[tuple[list[bytes], np.ndarray, np.ndarray]]:
        """Read n-grams in blocks: their concatenated words, and two numbers for each."""
        size, weighted = sizes[order - 1], order < len(sizes)
        self.before, self.blanks = self.number, []
        start = 0
        while start < size:
            lines = self.block(start, size)
            if not lines:
                raise self.error(f"ends after {start} of {size} {order}-grams")
            rows = split_rows(lines)
            try:
                if not {len(row) for row in rows} <= {order + 1, order + 2}:
                    raise ValueError
                logprobs = parse_numbers([row[0] for row in rows])
                weights = [row[-1] if len(row) > order + 1 else b"0" for row in rows]
                backoffs = parse_numbers(weights)
            except ValueError:
                bad = next(n for n, row in enumerate(rows) if not is_row(row, order))
                self.number = self.line_of(start + bad)
                if lines[bad].startswith(b"\\"):
                    raise self.error(
                        f"{shown(lines[bad])} after {start + bad} of {size} {order}-grams"
                    ) from None
                raise self.error(f"{shown(lines[bad])} is no {order}-gram") from None
            self.check_numbers(lines, start, ~np.isnan(logprobs), "not a number")
            self.check_numbers(lines, start, logprobs <= 0, "a logarithm above 0")
            self.check_numbers(lines, start, np.isfinite(backoffs), "no finite back-off weight")
            tabs = [
                len(row) < order + 2 or line.count(b"\t") > 1
                for line, row in zip(lines, rows, strict=True)
            ]
            self.check_numbers(lines, start, np.array(tabs), "no tab before the back-off weight")
            if not weighted:
                self.check_numbers(
                    lines, start, backoffs == 0, "a back-off weight in the highest order"
                )
            start += len(rows)
            yield [word for row in rows for word in row[1 : order + 1]], logprobs, backoffs

    def block(self, start: int, size: int) -> list[bytes]:
        """The lines of the n-grams from `start` on, without blank ones; none at the end."""
        lines: list[bytes] = []
        while not lines and (raw := list(islice(self.file, min(BLOCK, size - start)))):
            self.number += len(raw)
            for line in raw:
                if line.isspace():
                    self.blanks.append(start + len(lines))
                else:
                    lines.append(line)
        return lines

    def line_of(self, row: int) -> int:
        """The line of an n-gram of this order."""
        return self.before + row + 1 + bisect_right(self.blanks, row)

    def check_numbers(self, lines: list[bytes], start: int, right: np.ndarray, what: str) -> None:
        """Raise DlkitError for the first of the n-grams from `start` on that is not right."""
        if not right.all():
            bad = int(np.flatnonzero(~right)[0])
            self.number = self.line_of(start + bad)
            raise self.error(f"{shown(lines[bad])}: {what}, which KenLM refuses as well")

    def add(self, trie: Trie, grams: np.ndarray, words: list[bytes]) -> np.ndarray:
        """Add n-grams (M, N) as a level, sorted; returns those that were added, in their order.

        Of equal ones the first is.
        """

        def name(row: int, size: int) -> str:
            return b" ".join(words[token] for token in grams[row, :size]).decode()

        order = grams.shape[1]
        parents = grams[:, 0]
        for level in range(1, trie.order):
            parents = trie.find(level, parents, grams[:, level])
        if (parents == ABSENT).any():
            row = int(np.flatnonzero(parents == ABSENT)[0])
            self.number = self.line_of(row)
            raise self.error(
                f"{name(row, order)!r} begins with {name(row, order - 1)!r}, which is none of the"
                f" {order - 1}-grams; KenLM refuses this as well"
            )
        places = np.lexsort((grams[:, -1], parents))
        after, last = parents[places], grams[places, -1]
        same = np.zeros(len(places), bool)
        same[1:] = (after[1:] == after[:-1]) & (last[1:] == last[:-1])
        self.repeated += [name(row, order) for row in places[same]]
        kept = places[~same]
        sizes = np.bincount(parents[kept], minlength=len(trie.words[-1]))
        trie.first.append(np.append(0, np.cumsum(sizes)).astype(np.uint32))
        trie.words.append(grams[kept, -1].astype(np.uint32))
        return kept

    def report_repeated(self) -> None:
        """Print the first n-gram that is there twice, and how many are."""
        if self.repeated:
            more = f" (and {len(self.repeated) - 1} more)" if self.repeated[1:] else ""
            log(
                f"{self.path}: the n-gram {self.repeated[0][:SHOWN]!r}{more} is there twice;"
                " the first one is used"
            )

    def codec(self, words: list[bytes]) -> TextCodec:
        """The codec of a tokenizer whose tokens are these words."""
        names = {word.decode(): number for number, word in enumerate(words)}
        special = {name: names[name] for name in MARKS if name in names}
        content = {
            "header": {
                "task": "tokenize",
                "arch": "whitespace",
                "settings": {"normalize": [], "split": "ascii-whitespace", "unk": UNKNOWN.decode()},
                "labels": [],
            },
            "special": special,
            "vocab": {name: n for name, n in names.items() if name not in special},
        }
        return TextCodec(Tokenizer.from_settings(content))

    def line(self) -> str:
        """The next line that is not empty."""
        for line in self.file:
            self.number += 1
            if not line.isspace():
                return line.strip().decode(errors="replace")
        raise self.error("ends too early")

    def error(self, what: str) -> DlkitError:
        """The error for the current line."""
        return DlkitError(f"line {self.number}: {what}", self.path)


def shown(line: bytes) -> str:
    """A line or word for a message."""
    return repr(line.strip().decode(errors="replace")[:SHOWN])


def split_rows(lines: list[bytes]) -> list[list[bytes]]:
    """The fields of lines."""
    whole = b"".join(lines)
    if b"\v" in whole or b"\f" in whole:  # parts of words, which `split` takes for spaces
        return [[field for field in SPACES.split(line) if field] for line in lines]
    return [line.split() for line in lines]


def is_row(row: list[bytes], order: int) -> bool:
    """Whether a line has the parts of an n-gram: a number, words, and an optional number."""
    try:
        parse_numbers(row[:1] + row[order + 1 :])
    except ValueError:
        return False
    return order < len(row) < order + 3


def parse_numbers(fields: list[bytes]) -> np.ndarray:
    """Numbers (float64) of fields of a line; raises ValueError for other fields."""
    if b"_" in b"".join(fields):
        raise ValueError
    return np.array(fields, bytes).astype(np.float64)


def to_natural(logarithms: np.ndarray) -> np.ndarray:
    """Convert logarithms to base 10 to natural ones (float32)."""
    return (logarithms / TO_BASE_10).astype(np.float32)
