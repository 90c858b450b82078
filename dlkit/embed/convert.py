"""`dlkit embed convert`: other tools' vectors made dlkit's, and dlkit's theirs."""

from enum import StrEnum
from pathlib import Path

from dlkit.core.errors import DlkitError
from dlkit.embed import formats, model
from dlkit.embed.infer import load


class Kind(StrEnum):
    """The files that `convert` writes."""

    dlkit = "dlkit"
    word2vec = "word2vec"
    word2vec_binary = "word2vec-binary"
    glove = "glove"
    fasttext = "fasttext"
    numpy = "numpy"


BY_SUFFIX = {".safetensors": Kind.dlkit, ".vec": Kind.word2vec, ".npy": Kind.numpy}
ENDS_IN = {Kind.dlkit: ".safetensors", Kind.numpy: ".npy"}


def convert(source: str, out: Path, to: Kind | None, half: bool, force: bool) -> Path:
    """Write the vectors of `source` (a model's name or a file) to `out`."""
    kind = to or BY_SUFFIX.get(out.suffix)
    if kind is None:
        raise DlkitError(f"{out}: its name does not say the format: add --to {', '.join(Kind)}")
    suffix = ENDS_IN.get(kind, out.suffix)
    if out.suffix != suffix:
        raise DlkitError(f"{out}: the name of a {kind} file ends in {suffix}")
    if half and kind != Kind.dlkit:
        raise DlkitError(f"--half is for dlkit's own files, not for {kind}")
    written = [out, out.with_suffix(".txt")] if kind == Kind.numpy else [out]
    for path in written:
        if path.exists() and not force:
            raise DlkitError(f"{path} exists: give another --out, or --force")
    embedding = load(source).embedding
    if kind == Kind.dlkit:
        model.save(out, embedding, half)
    elif kind == Kind.word2vec_binary:
        formats.write_binary(out, embedding)
    elif kind == Kind.fasttext:
        formats.write_fasttext(out, embedding)
    elif kind == Kind.numpy:
        formats.write_numpy(out, embedding)
    else:
        formats.write_text(out, embedding, header=kind == Kind.word2vec)
    return out
