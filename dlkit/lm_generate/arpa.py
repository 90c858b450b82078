"""n-gram models as ARPA files, the format of SRILM, KenLM and others.

Logarithms in the files are to base 10. The token that ends a line is `<s>` where it begins an
n-gram and `</s>` where it ends one. White space inside a token is written as \\u and its number.

Shapes: R n-grams of a block.
"""

import gzip
import math
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import IO

import numpy as np

from dlkit.core.errors import DlkitError
from dlkit.core.io.files import whole_file
from dlkit.core.store.checkpoint import Header
from dlkit.lm_generate.ngram import ABSENT, NGram, NGramSettings, Trie, Values
from dlkit.lm_generate.text_codec import TextCodec
from dlkit.tokenize import Tokenizer

BLOCK = 1 << 16  # n-grams
TO_BASE_10 = math.log10(math.e)
NEVER = -99.0  # the logarithm of 0
LONGEST_NUMBER = 12  # bytes
BEGIN, END, UNKNOWN = "<s>", "</s>", "<unk>"


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
                file.write(f"{NEVER:g}\t{BEGIN}\t{max(weight, NEVER):.7g}\n".encode())
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
    own = {model.tokenizer.unknown_id: UNKNOWN, model.trie.line_end: END}
    names = []
    for number in range(len(model.trie.words[0])):
        name = own.get(number)
        if name is None:
            name = escape(tokens.get(number, f"<id-{number}>"))
            if name in {BEGIN, END, UNKNOWN}:
                name = f"\\{name}"
        names.append(name.encode())
    names.append(BEGIN.encode())
    starts = np.cumsum([0, *map(len, names)]).astype(np.int64)
    return np.frombuffer(b"".join(names), np.uint8), starts


def escape(token: str) -> str:
    """Escape the white space of a token."""
    if token.isprintable() and " " not in token:
        return token
    return "".join(c if c.isprintable() and c != " " else f"\\u{ord(c):04x}" for c in token)


def read_arpa(path: Path) -> NGram:
    """Read an ARPA file (also .gz); its tokens are words separated by white space."""
    try:
        with open_file(path) as file:
            return Reader(path, file).model()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DlkitError(f"cannot be read ({error})", path) from error


def open_file(path: Path) -> IO[bytes]:
    """Open a file that may be compressed."""
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


class Reader:
    """Reads an ARPA file line by line; `number` counts the lines for messages.

    Words are bytes, separated by ASCII white space only.
    """

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self.path, self.file = path, file
        self.number = 0

    def model(self) -> NGram:
        """Read the whole file."""
        sizes = self.sizes()
        words, logprobs, backoffs = self.tokens(sizes[0])
        numbers = {word.encode(): number for number, word in enumerate(words)}
        line_end = numbers.get(END.encode())
        if line_end is not None:
            numbers[BEGIN.encode()] = line_end
        trie = Trie([np.arange(len(words))], [], line_end)
        all_logprobs, all_backoffs = [logprobs], [backoffs]
        for level, size in enumerate(sizes[1:], 1):
            grams, logprobs, backoffs = self.ngrams(level + 1, size, numbers)
            order = self.add(trie, grams)
            all_logprobs.append(logprobs[order])
            all_backoffs.append(backoffs[order])
        line = self.line()
        if line != "\\end\\":
            raise self.error(f"{line!r}, not \\end\\")
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
        while (line := self.line()) != "\\data\\":
            if self.number > 1000:
                raise self.error("no \\data\\ so far: this is no ARPA file")
        sizes: list[int] = []
        while (line := self.line()).startswith("ngram "):
            order, _, size = line.removeprefix("ngram ").partition("=")
            if order.strip() != str(len(sizes) + 1) or not size.strip().isdecimal():
                raise self.error(f"{line!r}, not ngram {len(sizes) + 1}=...")
            sizes.append(int(size))
        if not sizes:
            raise self.error("no line with a number of n-grams")
        self.section(line, 1)
        return sizes

    def section(self, line: str, order: int) -> None:
        """Raise DlkitError unless the line begins the n-grams of this order."""
        if line != f"\\{order}-grams:":
            raise self.error(f"{line!r}, not \\{order}-grams:")

    def tokens(self, size: int) -> tuple[list[str], np.ndarray, np.ndarray]:
        """Read the words, with <unk> and without <s>, their probabilities and back-off weights."""
        logprobs: dict[str, float] = {}
        backoffs: dict[str, float] = {}
        for block, *numbers in self.rows(1, size):
            names = [word.decode() for word in block]
            logprobs |= zip(names, numbers[0].tolist(), strict=True)
            backoffs |= zip(names, numbers[1].tolist(), strict=True)
        if len(logprobs) < size:
            raise self.error("the 1-grams have a word twice")
        if END in logprobs and BEGIN in backoffs:
            backoffs[END] = backoffs.pop(BEGIN)
            del logprobs[BEGIN]
        logprobs.setdefault(UNKNOWN, NEVER)
        words = [UNKNOWN, *(word for word in logprobs if word != UNKNOWN)]
        return (
            words,
            to_natural(np.array([logprobs[word] for word in words])),
            to_natural(np.array([backoffs.get(word, 0.0) for word in words])),
        )

    def ngrams(
        self, order: int, size: int, numbers: dict[bytes, int]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Read the n-grams (M, N) of an order, their probabilities and back-off weights."""
        self.section(self.line(), order)
        grams = np.empty((size, order), np.int64)
        logprobs, backoffs = np.empty((2, size), np.float32)
        at = 0
        for words, block_logprobs, block_backoffs in self.rows(order, size):
            end = at + len(block_logprobs)
            try:
                flat = np.fromiter(map(numbers.__getitem__, words), np.int64, len(words))
            except KeyError as error:
                name = error.args[0].decode(errors="replace")
                raise self.error(f"{name!r}, up to this line, is none of the 1-grams") from None
            grams[at:end] = flat.reshape(-1, order)
            logprobs[at:end] = to_natural(block_logprobs)
            backoffs[at:end] = to_natural(block_backoffs)
            at = end
        return grams, logprobs, backoffs

    def rows(self, order: int, size: int) -> Iterator[tuple[list[bytes], np.ndarray, np.ndarray]]:
        """Read n-grams in blocks: their concatenated words, and two numbers for each."""
        for start in range(0, size, BLOCK):
            lines = list(islice(self.file, min(BLOCK, size - start)))
            rows = [line.split() for line in lines]
            try:
                if not {len(row) for row in rows} <= {order + 1, order + 2}:
                    raise ValueError
                logprobs = parse_numbers([row[0] for row in rows])
                weights = [row[-1] if len(row) > order + 1 else b"0" for row in rows]
                backoffs = parse_numbers(weights)
            except ValueError:
                bad = next(place for place, row in enumerate(rows) if not is_row(row, order))
                self.number += bad + 1
                found = lines[bad].strip().decode(errors="replace")
                raise self.error(f"{found!r} is no {order}-gram") from None
            self.number += len(rows)
            if len(rows) < min(BLOCK, size - start):
                raise self.error(f"ends within the {order}-grams")
            yield [word for row in rows for word in row[1 : order + 1]], logprobs, backoffs

    def add(self, trie: Trie, grams: np.ndarray) -> np.ndarray:
        """Add n-grams (M, N) as a level, sorted; returns their order (M) in it."""
        parents = grams[:, 0]
        for level in range(1, trie.order):
            parents = trie.find(level, parents, grams[:, level])
        if (parents == ABSENT).any():
            missing = int(np.flatnonzero(parents == ABSENT)[0])
            raise self.error(
                f"{grams.shape[1]}-gram {missing + 1} begins with an n-gram that is missing"
            )
        order = np.lexsort((grams[:, -1], parents))
        sizes = np.bincount(parents, minlength=len(trie.words[-1]))
        trie.first.append(np.append(0, np.cumsum(sizes)).astype(np.uint32))
        trie.words.append(grams[order, -1].astype(np.uint32))
        return order

    def codec(self, words: list[str]) -> TextCodec:
        """The codec of a tokenizer whose tokens are these words."""
        special = {word: number for number, word in enumerate(words) if word in {UNKNOWN, END}}
        content = {
            "header": {
                "task": "tokenize",
                "arch": "whitespace",
                "settings": {"normalize": [], "split": "whitespace", "unk": UNKNOWN},
                "labels": [],
            },
            "special": special,
            "vocab": {word: n for n, word in enumerate(words) if word not in special},
        }
        return TextCodec(Tokenizer.from_settings(content))

    def line(self) -> str:
        """The next line that is not empty."""
        for line in self.file:
            self.number += 1
            if line.strip():
                return line.strip().decode()
        raise self.error("ends too early")

    def error(self, what: str) -> DlkitError:
        """The error for the current line."""
        return DlkitError(f"line {self.number}: {what}", self.path)


def is_row(row: list[bytes], order: int) -> bool:
    """Whether a line has the parts of an n-gram: a number, words, and an optional number."""
    try:
        parse_numbers(row[:1] + row[order + 1 :])
    except ValueError:
        return False
    return order < len(row) < order + 3


def parse_numbers(fields: list[bytes]) -> np.ndarray:
    """Numbers (float64) of fields of a line."""
    return np.array(fields, bytes).astype(np.float64)


def to_natural(logarithms: np.ndarray) -> np.ndarray:
    """Convert logarithms to base 10 to natural ones (float32); NEVER or less becomes -inf."""
    return np.where(logarithms <= NEVER, -np.inf, logarithms / TO_BASE_10).astype(np.float32)
