"""What `--model` means: a name, a file or a URL. The registry is the folder of weights.

Loads no torch, and urllib only to download.
"""

import difflib
import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from dlkit.core.errors import DlkitError
from dlkit.core.output import whole_file
from dlkit.core.progress import Bar, log

PACKAGE = Path(__file__).parent.parent
TIMEOUT = 30  # seconds without a byte
SUFFIXES = (".safetensors", ".json")  # networks; tokenizers


def folder(task: str) -> Path:
    """The task's folder in the package: `style-transfer` is `style_transfer`."""
    return PACKAGE / task.replace("-", "_") / "weights"


def cache() -> Path:
    """Where downloaded models are kept; made when something is downloaded."""
    return Path(os.environ.get("DLKIT_CACHE") or Path.home() / ".cache" / "dlkit")


def bundled(task: str) -> list[Path]:
    """The models that came with dlkit for this task."""
    return models_in(folder(task))


def cached(task: str) -> list[Path]:
    """The models downloaded by name for this task."""
    return models_in(cache() / task)


def models_in(place: Path) -> list[Path]:
    """The model files of a folder, which need not exist."""
    return sorted(path for path in place.glob("*") if path.suffix in SUFFIXES)


def find(task: str, model: str, published: Iterable[str] = ()) -> Path:
    """The file of a model: downloaded if it is a URL, never if it is a name or a file.

    `published` are further names, which the task itself can fetch, for the error's suggestions.
    """
    if "://" in model:
        return download(model)
    if model.endswith(SUFFIXES):
        path = Path(model)
        if not path.is_file():
            raise DlkitError(f"{model}: no such model file")
        return path
    known = {path.stem: path for path in [*cached(task), *bundled(task)]}
    if model not in known:
        raise unknown(task, model, [*known, *published])
    return known[model]


def unknown(task: str, model: str, known: list[str]) -> DlkitError:
    """The error for a name that no model has, with the closest names."""
    close = difflib.get_close_matches(model, known, n=3, cutoff=0.4) or sorted(known)
    there = f"there is {', '.join(close)}" if close else "there is none yet"
    return DlkitError(
        f"no model named {model!r} for {task}: {there} (a file ends in {' or '.join(SUFFIXES)})"
    )


def download(url: str, target: Path | None = None) -> Path:
    """The file behind `url`, fetched once; `#sha256=HEX` at its end is verified (pip's form)."""
    address, _, fragment = url.partition("#")
    expected = fragment.removeprefix("sha256=") if fragment.startswith("sha256=") else ""
    name = Path(address.partition("?")[0]).name or "model"
    key = hashlib.sha256(address.encode()).hexdigest()[:12]
    target = target or cache() / "downloads" / f"{key}-{name}"
    if not target.exists():
        log(f"downloading {address} to {target}")
        with whole_file(target) as partial, partial.open("wb") as file:
            for block in fetch(address, f"downloading {name}"):
                file.write(block)
            file.flush()
            verify(partial, expected, address)
    verify(target, expected, address)
    return target


def verify(path: Path, expected: str, address: str) -> None:
    if not expected:
        return
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(expected.lower()):
        path.unlink()
        raise DlkitError(f"{address}: its sha256 is {found}, not {expected}; nothing was kept")


def fetch(address: str, label: str) -> Iterator[bytes]:
    """The bytes behind an http(s) address, with progress; a DlkitError when they do not come."""
    import http.client
    import urllib.error
    import urllib.parse
    import urllib.request

    if not address.startswith(("http://", "https://")):
        raise DlkitError(f"{address}: only http:// and https:// can be downloaded")
    try:
        quoted = urllib.parse.quote(address, safe="%/:=&?~#+!$,;'@()*[]")
        request = urllib.request.Request(quoted, headers={"User-Agent": "dlkit"})
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            length = int(response.headers.get("Content-Length") or 0)
            bar = Bar(label, length >> 16 or None)
            received = 0
            try:
                while block := response.read(1 << 16):
                    received += len(block)
                    yield block
                    bar.advance()
            finally:
                bar.close()
            if length and received != length:
                raise DlkitError(
                    f"{address}: the connection ended after {received} of {length} bytes"
                )
    except urllib.error.HTTPError as error:
        error.close()
        raise DlkitError(f"{address}: the server answered {error.code} {error.reason}") from error
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
        reason = " ".join(str(getattr(error, "reason", error)).split())
        raise DlkitError(f"{address}: cannot be reached ({reason})") from error
