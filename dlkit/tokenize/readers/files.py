"""The format of a file or folder, by its content, and its tokenizer."""

import base64
from collections.abc import Callable, Sequence
from pathlib import Path

from dlkit.core.errors import DlkitError
from dlkit.core.progress import log
from dlkit.core.store.checkpoint import Header, read_header
from dlkit.tokenize.config import ReadOptions
from dlkit.tokenize.model import SentencePiece, Tokenizer, TokenizerSettings
from dlkit.tokenize.pipeline.fields import NotUnderstood
from dlkit.tokenize.readers.bert import read_bert
from dlkit.tokenize.readers.gpt2 import read_gpt2
from dlkit.tokenize.readers.hugging_face import is_hugging_face, read_hugging_face
from dlkit.tokenize.readers.ranks import is_ranks, read_ranks
from dlkit.tokenize.readers.settings import ModelSettings, update_content
from dlkit.tokenize.readers.text import decode, parse_json, read_bytes, read_text

FORMATS = (
    "a file of dlkit, tokenizer.json of Hugging Face, vocab.json and merges.txt, vocab.txt of BERT,"
    " ranks of tiktoken, or sentencepiece's .model"
)


def read_paths(paths: Sequence[Path], options: ReadOptions | None = None) -> Tokenizer:
    """The tokenizer of a file, of a folder, or of vocab.json and merges.txt."""
    options = options or ReadOptions()
    if len(paths) == 2:
        vocab, merges = sorted(paths, key=lambda path: path.suffix != ".json")
        return checked(paths, lambda: read_gpt2(vocab, merges, options))
    if len(paths) != 1:
        raise DlkitError("give one file, or vocab.json and merges.txt")
    path = paths[0]
    if path.is_dir():
        return checked(paths, lambda: read_folder(path, options))
    return checked(paths, lambda: read_file(path, options))


def checked(paths: Sequence[Path], read: Callable[[], Tokenizer]) -> Tokenizer:
    """The result of `read`; its errors name the files."""
    name = ", ".join(map(str, paths))
    try:
        return read()
    except NotUnderstood as error:
        raise DlkitError(f"{error} is not known to dlkit", name) from error
    except DlkitError as error:
        raise error if error.path else DlkitError(error.reason, name) from error
    except RecursionError as error:
        raise DlkitError("its parts are nested too deeply", name) from error
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        missing = f"no {error}" if isinstance(error, KeyError) else "a part of another type"
        raise DlkitError(f"not a tokenizer, or a damaged one ({missing})", name) from error


def read_file(path: Path, options: ReadOptions) -> Tokenizer:
    """The tokenizer of a file, whatever its name; of a network, the one in its header."""
    if path.suffix == ".safetensors":
        refuse_options(options, "a network of dlkit")
        return read_checkpoint(path)
    data = read_bytes(path)
    if not data:
        raise DlkitError(f"an empty file; a tokenizer is {FORMATS}", path)
    if is_ranks(data):
        return read_ranks(decode(data, path), path, options)
    if data[:1] == b"\n" and b"\0" in data[:65536]:
        return read_sentencepiece(data, path, options)
    text = decode(data, path)
    if text.lstrip()[:1] == "{":
        content = parse_json(text, path)
        if is_hugging_face(content):
            refuse_options(options, "a tokenizer.json")
            return read_hugging_face(content, path.name)
        if "header" not in content and content and {*map(type, content.values())} == {int}:
            merges = path.with_name(path.name.replace("vocab.json", "merges.txt"))
            if merges == path or not merges.exists():
                raise DlkitError("a vocabulary without its merges.txt; give both files", path)
            return read_gpt2(path, merges, options)
        refuse_options(options, "a file of dlkit")
        return Tokenizer.from_json(text)
    return read_bert(text, path, options)


def read_checkpoint(path: Path) -> Tokenizer:
    """The tokenizer that a network carries."""
    header = read_header(path)
    if not isinstance(content := header.settings.get("tokenizer"), dict):
        raise DlkitError(f"a {header.arch} of `dlkit {header.task}` carries no tokenizer", path)
    return Tokenizer.from_settings(content)


def refuse_options(options: ReadOptions, kind: str) -> None:
    for name in ("split", "normalize"):
        if getattr(options, name) is not None:
            raise DlkitError(f"--{name}: {kind} contains how text is read; omit the option")


def read_sentencepiece(data: bytes, path: Path, options: ReadOptions) -> Tokenizer:
    """A model of sentencepiece, whose library encodes: everything in the file is understood."""
    refuse_options(options, "a model of sentencepiece")
    settings: TokenizerSettings = {"normalize": [], "split": "none"}
    card = {"data": f"converted from {path.name}"}
    # The library encodes with both kinds; the model itself records its kind.
    header = Header("tokenize", "unigram", settings, [], card=card)
    return SentencePiece(header, base64.b64encode(data).decode())


def read_folder(folder: Path, options: ReadOptions) -> Tokenizer:
    """The tokenizer of a model's folder: its tokenizer.json, else the files of its vocabulary."""
    settings = ModelSettings(folder)
    path = folder / "tokenizer.json"
    if path.exists() and options == ReadOptions():
        content = parse_json(read_text(path), path)
        if not is_hugging_face(content):
            return read_file(path, options)
        update_content(content, settings)
        if unused := settings.unused():
            log(f"{settings.path}: not used beside tokenizer.json: {', '.join(unused)}")
        return read_hugging_face(content, path.name)
    model = folder / "tokenizer.model"
    pair = (folder / "vocab.json", folder / "merges.txt")
    if not model.exists() and all(file.exists() for file in pair):
        tokenizer = read_gpt2(*pair, options, settings)
    elif not model.exists() and (folder / "vocab.txt").exists():
        path = folder / "vocab.txt"
        tokenizer = read_bert(read_text(path), path, options, settings)
    else:
        files = [model, *sorted(folder.glob("*.tiktoken")), folder / "tiktoken.model"]
        found = [file for file in files if file.exists()]
        if not found:
            if path.exists():
                refuse_options(options, "a tokenizer.json")
            raise DlkitError(
                "no tokenizer in this folder: no tokenizer.json, tokenizer.model, vocab.json "
                "with merges.txt, vocab.txt or .tiktoken",
                folder,
            )
        if settings.config or settings.added:
            log(f"{folder}: only {found[0].name} is read, not the tokens and settings beside it")
        return read_file(found[0], options)
    if unused := settings.unused():
        raise DlkitError(
            f"not known to dlkit: {', '.join(unused)}; give the files of the tokenizer themselves, "
            "without this one",
            settings.path,
        )
    return tokenizer
