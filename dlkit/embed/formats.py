"""Other tools' files of word vectors: word2vec, GloVe, fastText, numpy, detected by their content.

    word2vec   a line `N D`, then lines of a word and D numbers (text), or a word, a space and D
               floats (binary), each optionally followed by a line break
    GloVe      word2vec's text without the first line
    fastText   .vec is word2vec's text; .bin is the model with its n-gram vectors
    numpy      NAME.npy (N, D) beside NAME.txt, one word per line

Shapes: N words, D dimensions.
"""

import io
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.lib import format as npy

from dlkit.core.errors import DlkitError
from dlkit.core.io.files import check_ends, exists, is_file, whole_file
from dlkit.core.io.kinds import HEAD, kind_of
from dlkit.core.io.text import COMPRESSED, MARK, decompress, reading_errors
from dlkit.core.progress import log
from dlkit.core.store.checkpoint import Header
from dlkit.embed.model import (
    BLOCK,
    Embedding,
    EmbeddingSettings,
    Subwords,
    WordList,
    embedding_settings,
    quote_word,
)

INVALID = re.compile("[\udc80-\udcff]")  # bytes that are not UTF-8, after surrogateescape
SUFFIXES = (".txt", ".vec", ".bin", ".npy", ".ftz", *COMPRESSED)
READ = "vectors of word2vec (text, binary), fastText (.bin, .vec), GloVe or numpy (.npy with .txt)"
HEADER = re.compile(rb"(\d+)[ \t]+(\d+)[ \t]*\r?\n")
NUMBER = re.compile(rb"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?|[-+]?(nan|inf)", re.IGNORECASE)
ENDS_IN_DIGITS = re.compile(rb"[ \t][-+]?\d+$")
FASTTEXT = 793712314  # the magic number of a .bin file
VERSION = 12
NEGATIVE_SAMPLING, LOSSES = 2, 4  # the values of its enums
MODELS: tuple[Literal["cbow", "skipgram", "supervised"], ...] = ("cbow", "skipgram", "supervised")
MAX_STREAM = 1 << 34  # bytes of a compressed file or a pipe, which are kept in memory
SAMPLED_LINES = 4096  # by which the number of columns of a file without a header is found
SETTINGS = (
    *("dim", "ws", "epoch", "minCount", "neg", "wordNgrams", "loss", "model", "bucket"),
    *("minn", "maxn", "lrUpdateRate"),
)


def read_vectors(path: Path) -> Embedding:
    """Read the embedding from a file in any of the formats, plain or compressed."""
    if not exists(path):
        raise DlkitError("no such file", path)
    content = read_bytes(path)
    if len(content) == 0:
        raise DlkitError("the file is empty", path)
    start = content[:4096].tobytes()
    try:
        if start.startswith(b"\x93NUMPY"):
            return read_numpy(path, content)
        if start.startswith(struct.pack("<i", FASTTEXT)):
            return read_fasttext(content)
        if start.startswith(MARK):
            content, start = content[len(MARK) :], start[len(MARK) :]
        if (header := HEADER.match(start)) and is_binary(start, header):
            return read_binary(content, header)
        if header is None and (kind := kind_of(start[:HEAD])) is not None:
            raise DlkitError(f"{kind}; a model file is read, or {READ}")
        return read_text(content, header)
    except (DlkitError, UnicodeDecodeError) as error:
        raise DlkitError(str(error), path) from error


def read_bytes(path: Path) -> np.ndarray:
    """Return the bytes of a file: mapped, or decompressed; of a pipe, read."""
    check_ends(path)
    with reading_errors(str(path)), path.open("rb") as file:
        stream = decompress(file)
        if stream is not file or not is_file(path):
            return np.frombuffer(read_all(stream), np.uint8)
        if path.stat().st_size == 0:
            return np.empty(0, np.uint8)
        return np.asarray(np.memmap(path, np.uint8, "r"))


def read_all(stream: Any) -> bytes:
    """All bytes of a compressed file or a pipe. Raises DlkitError for more than MAX_STREAM."""
    data: bytes = stream.read(MAX_STREAM + 1)
    if len(data) > MAX_STREAM:
        raise DlkitError(f"more than {MAX_STREAM >> 30} GiB; give an uncompressed file")
    return data


def is_binary(start: bytes, header: re.Match[bytes]) -> bool:
    """Whether the bytes after the first word are not mostly numbers in text."""
    cells = start[header.end() :].split(b"\n")[0].split()[1:]
    numbers = sum(NUMBER.fullmatch(cell) is not None for cell in cells)
    return 2 * numbers <= len(cells)


def build_embedding(
    words: Sequence[bytes],
    vectors: np.ndarray,
    arch: str = "converted",
    settings: EmbeddingSettings | None = None,
    **parts: Any,
) -> Embedding:
    """Build an embedding of finite vectors; of duplicate words, keep the first."""
    for start in range(0, len(vectors), BLOCK):
        finite = np.isfinite(vectors[start : start + BLOCK]).all(axis=1)
        if not finite.all():
            bad = quote_word(words[start + int(np.argmin(finite))])
            raise DlkitError(f"the vector of {bad} holds NaN or an infinite number")
    first: dict[bytes, int] = {}
    for index, word in enumerate(words):
        first.setdefault(word, index)
    if len(first) < len(words):
        repeated = next(word for index, word in enumerate(words) if first[word] != index)
        log(
            f"skipped {len(words) - len(first)} duplicate words, such as {quote_word(repeated)}: "
            "the first vector of each is kept"
        )
        kept = np.fromiter(first.values(), np.int64, len(first))
        vectors = vectors[kept]
        parts = {name: part[kept] if name == "counts" else part for name, part in parts.items()}
    vocabulary = WordList.from_bytes(list(first))
    warn_invalid_utf8(vocabulary)
    header = Header("embed", arch, settings or {"dim": vectors.shape[1]}, [])
    return Embedding(header, vocabulary, vectors, **parts)


def warn_invalid_utf8(words: WordList) -> None:
    """Log which words are not UTF-8; they stay unchanged."""
    try:
        words.content.decode()
    except UnicodeDecodeError:
        invalid = [word for word in words.to_list() if INVALID.search(word)]
        log(f"{len(invalid)} words are not UTF-8, such as {invalid[0]!r}: kept byte for byte")


def read_text(content: np.ndarray, header: re.Match[bytes] | None) -> Embedding:
    """Read word2vec's text or .vec, or GloVe's text, which has no header."""
    from dlkit.core.numba_tools import compile_notice
    from dlkit.embed import compiled_text

    with compile_notice("the reader of text", 5):
        starts = compiled_text.find_line_starts(content)
    first = 1 if header else 0
    lines = len(starts) - 1 - first

    def line(number: int) -> bytes:
        return content[starts[number] : starts[number + 1] - 1].tobytes()

    while lines and not line(first + lines - 1).strip():
        lines -= 1
    if not lines:
        raise DlkitError("no vectors in it")
    dim = int(header[2]) if header else common_width(content, starts, first, lines)
    if dim < 1:
        raise DlkitError(f"line 1: not a word and its vector, nor a header ({line(0)[:40]!r})")
    if lines * dim * 2 > len(content):
        raise DlkitError(f"{lines} words of {dim} numbers need more than its {len(content)} bytes")
    vectors = np.empty((lines, dim), np.float32)
    ends = np.empty(lines, np.int64)
    with compile_notice("the reader of numbers", 5):
        stopped, status = compiled_text.parse_lines(content, starts, first, vectors, ends)
    if status != compiled_text.VALID:
        row = line(stopped)
        cells = row.split()[-dim:]
        wrong = next((cell for cell in cells if not is_finite(cell)), b"")
        reasons = {
            compiled_text.TOO_SHORT: f"{max(len(row.split()) - 1, 0)} numbers, not {dim}",
            compiled_text.TOO_LONG: f"more than {dim} numbers",
            compiled_text.NOT_A_NUMBER: f"{quote_word(wrong)} is no finite number",
            compiled_text.NO_WORD: f"{dim} numbers, and no word before them",
        }
        last = " (the last line: is the file cut short?)" if stopped == first + lines - 1 else ""
        word = quote_word(row.split(b" ")[0])
        raise DlkitError(f"line {stopped + 1}, {word}: {reasons[status]}{last}")
    if header and int(header[1]) != lines:
        raise DlkitError(
            f"its first line announces {int(header[1])} words, but {lines} follow; the file is cut "
            "short, or its header is wrong"
        )
    begins = starts[first : first + lines]
    words = [
        content[begin:end].tobytes().strip(b" \t")
        for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)
    ]
    if numbered := [word for word in words if ENDS_IN_DIGITS.search(word)]:
        log(
            f"{len(numbered)} words end in a space and digits, such as {quote_word(numbered[0])}: "
            f"taken as words, because {dim} numbers with a decimal point follow"
        )
    return build_embedding(words, vectors)


def common_width(content: np.ndarray, starts: np.ndarray, first: int, lines: int) -> int:
    """Return how many numbers most lines hold after the word; words may hold spaces.

    Of equally frequent numbers, it is that of the first line if it has a word and numbers alone,
    or else the smallest.
    """
    from dlkit.embed.compiled_text import count_cells

    sample = np.unique(np.linspace(0, lines - 1, min(lines, SAMPLED_LINES)).astype(np.int64))
    lengths = np.bincount(count_cells(content, starts, sample + first))
    most = np.flatnonzero(lengths == lengths.max())
    cells = content[starts[first] : starts[first + 1] - 1].tobytes().split()
    if len(cells) in most and all(NUMBER.fullmatch(cell) for cell in cells[1:]):
        return len(cells) - 1
    return int(most[0]) - 1


def is_finite(cell: bytes) -> bool:
    """Whether the cell is a number, finite in single precision."""
    with np.errstate(over="ignore"):
        return NUMBER.fullmatch(cell) is not None and bool(np.isfinite(np.float32(float(cell))))


def read_binary(content: np.ndarray, header: re.Match[bytes]) -> Embedding:
    """Read word2vec's binary file, with or without a line break after each vector."""
    count, dim = int(header[1]), int(header[2])
    if dim < 1 or count < 1:
        raise DlkitError(f"its first line announces {count} words of {dim} numbers")
    if len(content) < count * (4 * dim + 1):
        raise DlkitError(
            f"the file is cut short, or its header is wrong: {count} words of {dim} numbers need "
            f"more than its {len(content)} bytes"
        )
    window = content.data
    vectors = np.empty((count, dim), np.float32)
    words = []
    place = header.end()
    for row in range(count):
        end = find_byte(window, place, b" ")
        if end + 1 + 4 * dim > len(window):
            raise DlkitError(f"the file is cut short: it ends in word {row + 1} of {count}")
        words.append(bytes(window[place:end]).lstrip(b"\n"))
        vectors[row] = np.frombuffer(window, "<f4", dim, end + 1)
        place = end + 1 + 4 * dim
    if bytes(window[place : place + 100]).strip(b"\n"):
        raise DlkitError(f"more than the {count} words that its first line announces")
    return build_embedding(words, vectors)


def read_numpy(path: Path, content: np.ndarray) -> Embedding:
    """Read NAME.npy (N, D) and NAME.txt beside it; either may be compressed."""
    name = path.with_suffix("") if path.suffix in COMPRESSED else path
    plain = name.with_suffix(".txt")
    places = [plain, *(plain.with_name(plain.name + suffix) for suffix in COMPRESSED)]
    vocabulary = next((place for place in places if is_file(place)), None)
    if vocabulary is None:
        raise DlkitError(f"its vocabulary {plain}, one word per line, is missing")
    vectors = matrix_of(content)
    words = read_bytes(vocabulary).tobytes().removeprefix(MARK).split(b"\n")
    if words[-1] == b"":
        words.pop()
    words = [word.removesuffix(b"\r") for word in words]
    if b"" in words:
        raise DlkitError(f"line {words.index(b'') + 1} of {vocabulary} is empty, and no word")
    if len(words) != len(vectors):
        raise DlkitError(f"{len(vectors)} vectors, but {len(words)} words in {vocabulary}")
    return build_embedding(words, vectors)


def matrix_of(content: np.ndarray) -> np.ndarray:
    """Return the matrix in the bytes of a .npy file, in half or single precision, mapped as they.

    Half, single and double precision in any byte and memory order are read.
    """
    start = io.BytesIO(content[:65536].tobytes())
    try:
        version = npy.read_magic(start)
        if version not in {(1, 0), (2, 0)}:
            raise DlkitError(
                f"version {version[0]}.{version[1]} of numpy's format; give 1.0 or 2.0"
            )
        read_header = npy.read_array_header_1_0 if version[0] == 1 else npy.read_array_header_2_0
        shape, by_columns, kind = read_header(start)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
        raise DlkitError("cannot be read: its header is not that of a matrix of numbers") from error
    if len(shape) != 2 or kind.kind != "f" or 0 in shape:
        raise DlkitError(
            f"not a matrix of vectors, but {kind} {shape}; save it as float32, (words, numbers)"
        )
    size = shape[0] * shape[1] * kind.itemsize
    numbers = content[len(start.getvalue()) - len(start.read()) :]
    if len(numbers) != size:
        raise DlkitError(
            f"the file is cut short or damaged: {shape[0]} x {shape[1]} numbers of {kind} are "
            f"{size} bytes, not {len(numbers)}"
        )
    matrix = numbers.view(kind).reshape(shape, order="F" if by_columns else "C")
    if kind not in (np.float16, np.float32):
        with np.errstate(over="ignore"):
            matrix = matrix.astype(np.float32)
    return np.ascontiguousarray(matrix)


@dataclass
class FieldReader:
    """Reads fields one after another from the bytes of a file."""

    content: np.ndarray
    place: int = 0

    def take(self, format: str) -> tuple[Any, ...]:
        size = struct.calcsize(f"<{format}")
        return struct.unpack(f"<{format}", self.bytes(size))

    def bytes(self, size: int) -> bytes:
        if self.place + size > len(self.content):
            raise DlkitError("the file is cut short: a fastText model continues here")
        self.place += size
        return self.content[self.place - size : self.place].tobytes()

    def matrix(self) -> np.ndarray:
        rows, columns = self.take("qq")
        size = 4 * rows * columns
        if rows < 0 or columns < 1 or self.place + size > len(self.content):
            raise DlkitError(
                f"the file is cut short: its matrix of {rows} x {columns} is incomplete"
            )
        self.place += size
        flat = self.content[self.place - size : self.place].view("<f4")
        return flat.reshape(rows, columns)


def read_fasttext(content: np.ndarray) -> Embedding:
    """Read fastText's model: words, and n-gram vectors for all buckets.

    A word's vector is the mean of its own row and those of its n-grams.
    """
    from dlkit.embed.compiled_subwords import sum_ngram_vectors

    fields = FieldReader(content)
    _, version = fields.take("ii")
    if version not in (11, VERSION):
        raise DlkitError(f"version {version} of fastText's format is unknown; use 11 or 12")
    settings = dict(zip(SETTINGS, fields.take("12i"), strict=True))
    fields.take("d")
    check_settings(settings)
    model = MODELS[settings["model"] - 1]
    supervised = model == "supervised"
    if version < VERSION and supervised:
        settings["maxn"] = 0  # these models have no n-grams of characters, whatever the field is
    size, word_count, label_count, _, pruned = fields.take("iiiqq")
    words: list[bytes] = []
    counts: list[int] = []
    window = content.data
    for _ in range(size):
        end = find_byte(window, fields.place, b"\0")
        word = fields.bytes(end - fields.place + 1)[:-1]
        count, kind = fields.take("qb")
        if kind == 0:
            words.append(word)
            counts.append(count)
        elif kind != 1:
            raise DlkitError(f"a damaged fastText model: {quote_word(word)} is of kind {kind}")
    fields.bytes(8 * max(pruned, 0))
    (quantized,) = fields.take("?")
    if quantized or pruned >= 0:
        raise DlkitError("quantized fastText models (.ftz) cannot be read; give the .bin file")
    matrix = fields.matrix()
    if (len(words), size - len(words)) != (word_count, label_count) or len(matrix) < word_count:
        raise DlkitError("a damaged fastText model: its counts of words differ")
    if matrix.shape[1] != settings["dim"]:
        raise DlkitError(
            f"a damaged fastText model: vectors of {matrix.shape[1]} numbers, but dim is "
            f"{settings['dim']}"
        )
    vectors = np.array(matrix[:word_count])
    subwords = None
    of_words = supervised and settings["wordNgrams"] > 1
    if (settings["maxn"] > 0 or of_words) and settings["bucket"] > 0:
        if len(matrix) != word_count + settings["bucket"]:
            raise DlkitError("a damaged fastText model: its matrix does not fit its buckets")
        buckets = np.arange(settings["bucket"])
        ngrams = matrix[word_count:]
        minn, maxn = settings["minn"], settings["maxn"]
        subwords = Subwords(minn, maxn, settings["bucket"], buckets, ngrams)
        sums, numbers = sum_ngram_vectors(WordList.from_bytes(words), subwords)
        vectors += sums
        vectors /= (numbers + 1)[:, None]
    (quantized,) = fields.take("?")
    fields.matrix()  # the outputs, which only predictions need
    if quantized or fields.place != len(content):
        raise DlkitError("a damaged fastText model: something else follows its matrices")
    if label_count:
        log(f"the {label_count} labels of the model are skipped; {word_count} words are read")
    kept: EmbeddingSettings = {"dim": settings["dim"], "fasttext_model": model}
    if of_words:
        kept["word_ngrams"] = settings["wordNgrams"]
    return build_embedding(
        words, vectors, "fasttext", kept, counts=np.array(counts, np.int64), subwords=subwords
    )


def check_settings(settings: dict[str, int]) -> None:
    """Raise DlkitError for a setting of a fastText model that no fastText writes."""
    ranges = {"model": (1, len(MODELS)), "loss": (1, LOSSES), "dim": (1, None)}
    for name in ("minn", "maxn", "bucket", "wordNgrams"):
        ranges[name] = (0, None)
    for name, (least, most) in ranges.items():
        value = settings[name]
        if value < least or (most is not None and value > most):
            raise DlkitError(f"its field {name} is {value}, which is unknown; a damaged file?")


def find_byte(window: memoryview, start: int, byte: bytes) -> int:
    """Return the next position of the byte; past the end if it does not occur."""
    for size in (64, 1024, len(window)):
        place = bytes(window[start : start + size]).find(byte)
        if place >= 0:
            return start + place
    return len(window)


def iterate_rows(embedding: Embedding) -> Iterator[tuple[bytes, np.ndarray]]:
    """Yield each word with its vector, float32."""
    words = embedding.words.content.split(b"\n")
    for start in range(0, len(embedding.words), BLOCK):
        block = embedding.vectors[start : start + BLOCK].astype("<f4")
        yield from zip(words[start : start + BLOCK], block, strict=False)


def write_text(path: Path, embedding: Embedding, header: bool) -> None:
    """Write word2vec's or GloVe's text with nine digits, which is exact for single precision."""
    dim = embedding.vectors.shape[1]
    numbers = b" ".join([b"%.9g"] * dim)
    with whole_file(path) as partial, partial.open("wb") as file:
        if header:
            file.write(b"%d %d\n" % (len(embedding.words), dim))
        for word, vector in iterate_rows(embedding):
            file.write(word + b" " + numbers % tuple(vector.tolist()) + b"\n")


def write_binary(path: Path, embedding: Embedding) -> None:
    """Write word2vec's binary format, like word2vec.c with a line break after each vector."""
    for place, word in enumerate(embedding.words.content.split(b"\n")[:-1]):
        if b" " in word:
            raise DlkitError(
                f"word {place + 1}, {quote_word(word)}, holds a space, which word2vec's binary "
                "format cannot; choose another format"
            )
    with whole_file(path) as partial, partial.open("wb") as file:
        file.write(b"%d %d\n" % (len(embedding.words), embedding.vectors.shape[1]))
        for word, vector in iterate_rows(embedding):
            file.write(word + b" " + vector.tobytes() + b"\n")


def write_numpy(path: Path, embedding: Embedding) -> None:
    """Write NAME.npy, and NAME.txt beside it."""
    with whole_file(path) as partial, partial.open("wb") as file:
        np.save(file, embedding.vectors)
    with whole_file(path.with_suffix(".txt")) as partial:
        partial.write_bytes(embedding.words.content)


def write_fasttext(path: Path, embedding: Embedding) -> None:
    """Write fastText's .bin for queries; the outputs, which only further training needs, are zeros.

    A word's own row is its vector times (n-grams + 1), minus the vectors of its n-grams.
    """
    from dlkit.embed.compiled_subwords import sum_ngram_vectors

    count, dim = embedding.vectors.shape
    own = np.array(embedding.vectors, "<f4")
    subwords = embedding.subwords
    minn = maxn = bucket = 0
    if subwords is not None:
        minn, maxn, bucket = subwords.minn, subwords.maxn, subwords.bucket
        sums, numbers = sum_ngram_vectors(embedding.words, subwords)
        own *= (numbers + 1)[:, None]
        own -= sums
    counts = np.ones(count, np.int64) if embedding.counts is None else embedding.counts
    stored = embedding_settings(embedding.header)
    model = 1 + MODELS.index(stored.get("fasttext_model", "skipgram"))
    longest = stored.get("word_ngrams", 1)
    settings = (dim, 5, 5, 1, 5, longest, NEGATIVE_SAMPLING, model, bucket, minn, maxn, 100)
    with whole_file(path) as partial, partial.open("wb") as file:
        file.write(struct.pack("<ii12id", FASTTEXT, VERSION, *settings, 1e-4))
        file.write(struct.pack("<iiiqq", count, count, 0, int(np.sum(counts)), -1))
        words = embedding.words.content.split(b"\n")
        for word, occurrences in zip(words, np.asarray(counts).tolist(), strict=False):
            file.write(word + b"\0" + struct.pack("<qb", occurrences, 0))
        file.write(struct.pack("<?qq", False, count + bucket, dim))
        file.write(own.tobytes())
        if subwords is not None:
            write_buckets(file, subwords, dim)
        file.write(struct.pack("<?qq", False, count, dim))
        for start in range(0, count, BLOCK):
            file.write(bytes(4 * dim * min(BLOCK, count - start)))


def write_buckets(file: BinaryIO | io.BufferedWriter, subwords: Subwords, dim: int) -> None:
    """Write the vectors of all buckets; zeros for those that did not occur in training."""
    for start in range(0, subwords.bucket, BLOCK):
        end = min(start + BLOCK, subwords.bucket)
        block = np.zeros((end - start, dim), "<f4")
        kept = slice(*np.searchsorted(subwords.buckets, (start, end)))
        block[subwords.buckets[kept] - start] = subwords.vectors[kept]
        file.write(block.tobytes())
