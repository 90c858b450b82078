"""Models of Hugging Face's hub: `hf:OWNER/NAME`, or `hf:OWNER/NAME@REVISION`. Loads no torch.

The files are kept in the cache, in a folder for each revision, and downloaded once: delete the
folder to have newer ones. The environment variable HF_ENDPOINT is the address of another hub,
HF_TOKEN the token of an account that may read gated or private models.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dlkit.core.environment import cache
from dlkit.core.errors import DlkitError
from dlkit.core.io.download import fetch
from dlkit.core.io.files import whole_file
from dlkit.core.progress import log

HUB = "https://huggingface.co"
PREFIX = "hf:"
NAME = re.compile(r"([\w-][\w.-]*/[\w-][\w.-]*)(?:@([\w-][\w./-]*))?", re.ASCII)
MAIN = "main"
ABSENT = "not-on-the-hub.txt"  # the files that the hub was asked for and does not have
# The files that hold a tokenizer, the first that there are, and the settings beside them.
TOKENIZERS = (
    ("tokenizer.json",),
    ("tokenizer.model",),
    ("vocab.json", "merges.txt"),
    ("vocab.txt",),
    ("tiktoken.model",),
)
BESIDE = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
PAGES = (b"<!doctype", b"<html")  # the beginnings of a web page


class Repository:
    """The files of a model on the hub; those that were asked for are in `folder`."""

    def __init__(self, model: str) -> None:
        match = NAME.fullmatch(model.removeprefix(PREFIX))
        if match is None or ".." in model:
            raise DlkitError(
                f"{model}: not a name of the hub; give {PREFIX}owner/name, or"
                f" {PREFIX}owner/name@revision"
            )
        self.model = model
        self.name, self.revision = match[1], match[2] or MAIN
        self.hub = (os.environ.get("HF_ENDPOINT") or HUB).rstrip("/")
        revision = self.revision.replace("/", "%2F")
        suffix = "" if self.revision == MAIN else f"@{revision}"
        self.folder = cache() / "huggingface" / f"{self.name}{suffix}"
        self.address = f"{self.hub}/{self.name}/resolve/{revision}"
        listed = self.folder / ABSENT
        self.absent = set(listed.read_text(encoding="utf-8").split()) if listed.exists() else set()

    def has(self, file: str) -> bool:
        """Whether the hub has the file; it is then in the folder."""
        if (self.folder / file).exists():
            return True
        if file not in self.absent:
            self.download(file)
        return file not in self.absent

    def need(self, file: str) -> None:
        """Download a file unless it is in the folder. Raises DlkitError if the hub lacks it."""
        if not self.has(file):
            raise DlkitError(f"no {file} at {self.address} (404); check the name", self.model)

    def need_tokenizer(self) -> None:
        """Download the files of the tokenizer. Raises DlkitError if the hub has none."""
        for files in TOKENIZERS:
            if all(map(self.has, files)):
                break
        else:
            known = ", ".join(" and ".join(files) for files in TOKENIZERS)
            raise DlkitError(
                f"no tokenizer at {self.address} (404): no {known}; check the name", self.model
            )
        for file in BESIDE:
            self.has(file)

    def download(self, file: str) -> None:
        """Download a file, or note that it is absent. Raises DlkitError for any other answer."""
        import urllib.error

        target, address = self.folder / file, f"{self.address}/{file}"
        token = os.environ.get("HF_TOKEN", "")
        try:
            with whole_file(target) as partial:
                with partial.open("wb") as output:
                    for block in fetch(address, f"downloading {file}", token):
                        output.write(block)
                with partial.open("rb") as written:
                    if written.read(64).lstrip().lower().startswith(PAGES):
                        raise DlkitError("the server answered a web page, not the file", address)
        except DlkitError as error:
            cause = error.__cause__
            if isinstance(cause, urllib.error.HTTPError):
                kind = cause.headers.get("X-Error-Code") or ""
                if cause.code == 404 and kind not in {"RepoNotFound", "RevisionNotFound"}:
                    self.absent.add(file)
                    return
                raise DlkitError(self.reason(cause.code, kind), self.model) from error
            raise DlkitError(f"not all of it is in the cache; {error}", self.model) from error
        log(f"downloaded {address} to {target}")

    def reason(self, code: int, kind: str) -> str:
        """The reason for which the hub refuses the model, and what to do."""
        answer = f"the server answered {code}"
        if kind == "RevisionNotFound":
            return f"no revision {self.revision!r} ({answer})"
        if kind == "GatedRepo" or code == 403:
            return (
                f"a gated model ({answer}); accept its terms at {self.hub}/{self.name}, and set"
                " HF_TOKEN to a token of the account; or give the folder of its files"
            )
        if code in {401, 404}:
            return (
                f"not on {self.hub}, or not open to all ({answer}); check the name, or set HF_TOKEN"
                " to a token of an account that may read it"
            )
        return f"cannot be downloaded from {self.hub} ({answer}); try again later"

    def keep_absent(self) -> None:
        """Note the files that the hub lacks, so that they are not asked for again."""
        listed = self.folder / ABSENT
        text = "".join(f"{file}\n" for file in sorted(self.absent))
        if text and not (listed.exists() and listed.read_text(encoding="utf-8") == text):
            with whole_file(listed) as partial:
                partial.write_text(text, encoding="utf-8")


@contextmanager
def repository(model: str) -> Iterator[Repository]:
    """The files of `hf:OWNER/NAME`; what the hub lacks is noted when all was found."""
    found = Repository(model)
    yield found
    found.keep_absent()


def fetch_tokenizer(model: str) -> Path:
    """The folder in the cache with the tokenizer of `hf:OWNER/NAME`.

    Raises DlkitError if there is no such model or tokenizer, or it cannot be downloaded.
    """
    with repository(model) as found:
        found.need_tokenizer()
    return found.folder
