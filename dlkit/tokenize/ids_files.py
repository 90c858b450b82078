"""Files of ids for training a network: NAME.bin or NAME.npy, with NAME.bin.json or NAME.npy.json.

A file has the ids of all texts one after another, little-endian: uint16 if the largest id of the
vocabulary is below 65,536, else uint32. NAME.bin has nothing else, and is read by
`np.fromfile(name, dtype)`; NAME.npy is a one-dimensional array, read by
`np.load(name, mmap_mode="r")`. Between the texts there is nothing, or the id `end`. The JSON file
has `dtype`, the numbers of `ids` and `texts`, `end`, the `model`, and `vocabulary`, a checksum of
its ids and tokens.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dlkit.core.environment import is_main_process
from dlkit.core.errors import DlkitError, os_reason
from dlkit.core.failures import Failure
from dlkit.core.io.files import check_free, note_saved, whole_file
from dlkit.core.io.writers import CountedResults
from dlkit.core.progress import log
from dlkit.tokenize.model import Tokenizer

HEADER = 128  # bytes before the ids of a .npy file
CHUNK = 1 << 20  # ids that are read at once
MOST_TOKENS = 8  # names in an error


@dataclass(frozen=True)
class IdBlock:
    """The ids of some texts, as in the file."""

    data: bytes
    texts: int


@dataclass(frozen=True)
class Layout:
    """The content of a file of ids."""

    dtype: str
    ids: int
    texts: int
    end: int | None
    model: str
    vocabulary: str


def layout_path(path: Path) -> Path:
    """The file with the layout of a file of ids."""
    return path.with_name(f"{path.name}.json")


def id_type(tokenizer: Tokenizer) -> np.dtype[Any]:
    """The smaller of uint16 and uint32 that holds every id of a tokenizer."""
    return np.dtype("<u2" if max(tokenizer.names) < 1 << 16 else "<u4")


def find_end(tokenizer: Tokenizer, token: str | None) -> int | None:
    """The id of the token after each text. Raises DlkitError for one that does not exist."""
    if token is None:
        return None
    known = {**tokenizer.vocab, **tokenizer.special}
    if token not in known:
        some = ", ".join([*tokenizer.special][:MOST_TOKENS]) or "none"
        raise DlkitError(f"--end-token {token}: not in the vocabulary; special tokens: {some}")
    return known[token]


def vocabulary_checksum(tokenizer: Tokenizer) -> str:
    """SHA-256 of all ids with their tokens: the same if texts are decoded in the same way."""
    listed = json.dumps(sorted(tokenizer.names.items()), ensure_ascii=False)
    return hashlib.sha256(listed.encode("utf-8", "surrogatepass")).hexdigest()


def write_ids(
    blocks: Iterable[IdBlock | Failure],
    path: Path,
    tokenizer: Tokenizer,
    model: str,
    end: int | None,
) -> None:
    """Write the ids and their layout; exit with 1 at the end if any block is a Failure."""
    results = CountedResults(blocks)
    if is_main_process():
        beside = layout_path(path)
        check_free(path)
        check_free(beside)
        dtype = id_type(tokenizer)
        with whole_file(path) as partial, partial.open("wb") as file:
            ids = texts = 0
            if path.suffix == ".npy":
                file.write(npy_header(dtype, 0))
            for block in results:
                if isinstance(block, IdBlock):
                    file.write(block.data)
                    ids += len(block.data) // dtype.itemsize
                    texts += block.texts
            if path.suffix == ".npy":
                file.seek(0)
                file.write(npy_header(dtype, ids))
            layout = Layout(dtype.name, ids, texts, end, model, vocabulary_checksum(tokenizer))
            with whole_file(beside) as partial_layout:
                partial_layout.write_text(json.dumps(asdict(layout)) + "\n", encoding="utf-8")
        note_saved(path)
        log(f"{path}: {ids} ids ({dtype.name}) of {texts} texts, {between(tokenizer, end)}")
    else:
        for _ in results:
            pass
    results.end()


def between(tokenizer: Tokenizer, end: int | None) -> str:
    """The words for what follows each text."""
    if end is not None:
        return f"each followed by {tokenizer.names[end]} ({end})"
    return "with nothing between them; --end-token TOKEN puts a token after each"


def npy_header(dtype: np.dtype[Any], size: int) -> bytes:
    """The header of a one-dimensional array, HEADER bytes for any size (version 1.0 of NumPy)."""
    about = f"{{'descr': '{dtype.str}', 'fortran_order': False, 'shape': ({size},), }}"
    return b"\x93NUMPY\x01\x00" + bytes([HEADER - 10, 0]) + f"{about:<{HEADER - 11}}\n".encode()


# ---- reading -------------------------------------------------------------------------------------


def read_lines(path: Path, tokenizer: Tokenizer, longest: int) -> Iterator[bytes]:
    """The ids of a file as text, in blocks of lines: a line for each text.

    Raises DlkitError for a file that cannot be read, ids of another vocabulary, and a text of more
    than `longest` ids.
    """
    layout = read_layout(path)
    if layout is not None and layout.vocabulary != vocabulary_checksum(tokenizer):
        raise DlkitError(f"ids of another tokenizer; give -m {layout.model}", path)
    ids = read_array(path, layout)
    end = None if layout is None else layout.end
    rest = ids[:0]
    for start in range(0, len(ids), CHUNK):
        part = np.concatenate([rest, ids[start : start + CHUNK]])
        lines, at = [], 0
        for cut in np.flatnonzero(part == end).tolist() if end is not None else ():
            lines.append(" ".join(map(str, part[at:cut].tolist())))
            at = cut + 1
        rest = part[at:]
        if len(rest) > longest:
            raise DlkitError(
                f"a text of more than {longest} ids; files with an --end-token have one for each"
                " text",
                path,
            )
        if lines:
            yield ("\n".join(lines) + "\n").encode()
    if len(rest):
        yield (" ".join(map(str, rest.tolist())) + "\n").encode()


def read_layout(path: Path) -> Layout | None:
    """The layout beside a file of ids; None for an .npy file without one."""
    beside = layout_path(path)
    try:
        layout = Layout(**json.loads(beside.read_text(encoding="utf-8")))
        np.dtype(layout.dtype)
    except FileNotFoundError as error:
        if path.suffix == ".npy":
            return None
        raise DlkitError(
            f"no {beside.name} beside it, which has the type of its ids; write it with dlkit, or"
            " save the ids as .npy",
            path,
        ) from error
    except OSError as error:
        raise DlkitError(os_reason(error), beside) from error
    except (ValueError, TypeError) as error:
        raise DlkitError("not a layout of a file of ids, or a damaged one", beside) from error
    return layout


def read_array(path: Path, layout: Layout | None) -> npt.NDArray[Any]:
    """The ids, mapped into memory."""
    ids: npt.NDArray[Any]
    try:
        if path.suffix == ".npy":
            ids = np.load(path, mmap_mode="r", allow_pickle=False)
        else:
            assert layout is not None
            empty = path.stat().st_size == 0  # which cannot be mapped
            ids = np.zeros(0, np.uint8) if empty else np.memmap(path, layout.dtype, "r")
    except OSError as error:
        raise DlkitError(os_reason(error), path) from error
    except (ValueError, EOFError) as error:
        raise DlkitError(f"not a file of ids, or a damaged one ({error})", path) from error
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise DlkitError(f"an array {ids.shape} of {ids.dtype}, not a row of whole numbers", path)
    if layout is not None and len(ids) != layout.ids:
        raise DlkitError(
            f"{len(ids)} ids, but {layout_path(path).name} is of {layout.ids}; one of the two is"
            " of another time, or damaged",
            path,
        )
    return ids
