"""`dlkit embed convert`: word vectors from one file format to another."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dlkit.core.errors import DlkitError
from dlkit.core.io.files import exists
from dlkit.embed import formats
from dlkit.embed.config import VectorFormat
from dlkit.embed.model import Embedding, save_embedding
from dlkit.embed.vectors import load


@dataclass(frozen=True)
class FileWriter:
    """A writer of one format; `suffix` is the one that its file names must have, if any."""

    write: Callable[[Path, Embedding], None]
    suffix: str | None = None


WRITERS: dict[VectorFormat, FileWriter] = {
    VectorFormat.dlkit: FileWriter(save_embedding, ".safetensors"),
    VectorFormat.word2vec: FileWriter(partial(formats.write_text, header=True)),
    VectorFormat.word2vec_binary: FileWriter(formats.write_binary),
    VectorFormat.glove: FileWriter(partial(formats.write_text, header=False)),
    VectorFormat.fasttext: FileWriter(formats.write_fasttext),
    VectorFormat.numpy: FileWriter(formats.write_numpy, ".npy"),
}
BY_SUFFIX = {writer.suffix: format for format, writer in WRITERS.items() if writer.suffix} | {
    ".vec": VectorFormat.word2vec
}


def convert(source: str, out: Path, to: VectorFormat | None, half: bool, force: bool) -> Path:
    """Write the vectors of `source` (a model's name or a file) to `out`."""
    format = to or BY_SUFFIX.get(out.suffix)
    if format is None:
        raise DlkitError(f"no format has this suffix; add --to {', '.join(WRITERS)}", out)
    writer = WRITERS[format]
    if writer.suffix not in (None, out.suffix):
        raise DlkitError(f"the name of a {format} file ends in {writer.suffix}; rename it", out)
    if half and format != VectorFormat.dlkit:
        raise DlkitError(f"--half is for dlkit's own files, not for {format}")
    outputs = [out, out.with_suffix(".txt")] if format == VectorFormat.numpy else [out]
    for path in outputs:
        if exists(path) and not force:
            raise DlkitError("exists; give another --out, or --force", path)
    write = partial(save_embedding, bits=16) if half else writer.write
    write(out, load(source).embedding)
    return out
