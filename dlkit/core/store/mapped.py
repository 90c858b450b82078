"""Models of NumPy arrays: safetensors files that are memory-mapped, without torch.

A query reads only the pages it needs.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from dlkit.core.errors import DlkitError
from dlkit.core.io.files import whole_file
from dlkit.core.store.checkpoint import Header, digest, metadata, raw, read_header

DTYPES = {
    "I8": "int8",
    "U8": "uint8",
    "U16": "uint16",
    "U32": "uint32",
    "I64": "int64",
    "F16": "float16",
    "F32": "float32",
}
CODES = {dtype: code for code, dtype in DTYPES.items()}
MAX_VERIFIED = 32_000_000  # bytes: the checksum of a larger file is not verified on loading


def write_arrays(path: Path, arrays: dict[str, np.ndarray], header: Header) -> None:
    """Write a safetensors file, the widest types first, so that each array is aligned."""
    described = json.dumps(vars(header))  # asdict would copy the vocabulary in it, word by word
    about = {"dlkit": described, "sha256": digest(described, arrays)}
    ordered = sorted(arrays.items(), key=lambda item: (-item[1].itemsize, item[0]))
    table: dict[str, object] = {"__metadata__": about}
    end = 0
    for name, array in ordered:
        begin, end = end, end + array.nbytes
        dtype = CODES[str(array.dtype)]
        table[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": [begin, end]}
    text = json.dumps(table).encode()
    text += b" " * (-len(text) % 8)
    with whole_file(path) as partial, partial.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, array in ordered:
            file.write(raw(array))


def map_arrays(path: Path, task: str) -> tuple[Header, dict[str, np.ndarray]]:
    """Header and arrays of a file for `task`, memory-mapped; small files are verified."""
    about, table = metadata(path)
    header = read_header(path, task)
    mapped = np.memmap(path, np.uint8, "r")
    start = 8 + int.from_bytes(mapped[:8].tobytes(), "little")
    try:
        arrays = {
            name: np.asarray(mapped[start + begin : start + end])
            .view(DTYPES[entry["dtype"]])
            .reshape(entry["shape"])
            for name, entry in table.items()
            for begin, end in [entry["data_offsets"]]
        }
    except (LookupError, TypeError, ValueError) as error:
        raise damaged(path, "its table of arrays does not fit its data") from error
    verified = len(mapped) > MAX_VERIFIED or digest(about["dlkit"], arrays) == about.get("sha256")
    if not verified:
        raise damaged(path, "its checksum is wrong")
    return header, arrays


def damaged(path: Path, reason: str) -> DlkitError:
    """The error for a damaged model file."""
    return DlkitError(f"a damaged model file ({reason}); get it again", path)


def array(
    path: Path, arrays: Mapping[str, np.ndarray], name: str, kinds: str, dimensions: int
) -> np.ndarray:
    """The array of that name. Raises DlkitError if it is missing, or of another kind.

    `kinds` are those of its dtype: "f" for floats, "ui" for integers.
    """
    found = arrays.get(name)
    if found is None or found.dtype.kind not in kinds or found.ndim != dimensions:
        raise damaged(path, f"its array {name!r} is missing, or of another type or shape")
    return found
