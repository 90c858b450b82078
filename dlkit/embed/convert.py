"""`dlkit embed convert`: other tools' vectors made dlkit's, and dlkit's theirs."""

from pathlib import Path

from dlkit.core.errors import DlkitError
from dlkit.embed import formats, model
from dlkit.embed.infer import load

KINDS = ("dlkit", "word2vec", "word2vec-binary", "glove", "fasttext", "numpy")
BY_SUFFIX = {".safetensors": "dlkit", ".vec": "word2vec", ".npy": "numpy"}
ENDS_IN = {"dlkit": ".safetensors", "numpy": ".npy"}


def convert(source: str, out: Path, to: str | None, half: bool, force: bool) -> Path:
    """Write the vectors of `source` (a model's name or a file) to `out`."""
    kind = to or BY_SUFFIX.get(out.suffix)
    if kind is None:
        raise DlkitError(f"{out}: its name does not say the format: add --to {', '.join(KINDS)}")
    suffix = ENDS_IN.get(kind, out.suffix)
    if out.suffix != suffix:
        raise DlkitError(f"{out}: the name of a {kind} file ends in {suffix}")
    if half and kind != "dlkit":
        raise DlkitError(f"--half is for dlkit's own files, not for {kind}")
    written = [out, out.with_suffix(".txt")] if kind == "numpy" else [out]
    for path in written:
        if path.exists() and not force:
            raise DlkitError(f"{path} exists: give another --out, or --force")
    embedding = load(source).embedding
    if kind == "dlkit":
        model.save(out, embedding, half)
    elif kind == "word2vec-binary":
        formats.write_binary(out, embedding)
    elif kind == "fasttext":
        formats.write_fasttext(out, embedding)
    elif kind == "numpy":
        formats.write_numpy(out, embedding)
    else:
        formats.write_text(out, embedding, header=kind == "word2vec")
    return out
