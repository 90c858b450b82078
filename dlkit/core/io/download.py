"""Downloads over HTTP, kept in a cache. Loads no torch; urllib is imported when used."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlkit.core.environment import cache, environment_int
from dlkit.core.errors import DlkitError
from dlkit.core.io.files import exists, safe_name, whole_file
from dlkit.core.progress import Bar, log

if TYPE_CHECKING:
    from urllib.request import OpenerDirector, Request

PATIENCE = 30  # seconds without an answer or a byte, and those over which the speed is measured
LEAST_SPEED = 1000  # bytes a second
BLOCK = 1 << 16  # bytes
LARGEST = 20_000_000_000  # bytes of a model
LARGEST_IMAGE = 100_000_000
LIMIT = "DLKIT_MAX_DOWNLOAD"  # environment variable: megabytes


def download(url: str, target: Path | None = None) -> Path:
    """The file behind `url`, downloaded once; `#sha256=HEX` at its end is verified (as by pip).

    Raises DlkitError as `fetch` does, and for a wrong checksum.
    """
    import hashlib

    address, _, fragment = url.partition("#")
    expected = fragment.removeprefix("sha256=") if fragment.startswith("sha256=") else ""
    name = safe_name(Path(address.partition("?")[0]).name or "model")
    key = hashlib.sha256(address.encode("utf-8", "surrogateescape")).hexdigest()[:12]
    target = target or cache() / "downloads" / f"{key}-{name}"
    if not exists(target):
        log(f"downloading {address} to {target}")
        with whole_file(target) as partial, partial.open("wb") as file:
            for block in fetch(address, f"downloading {name}", most=largest(LARGEST)):
                file.write(block)
            file.flush()
            verify(partial, expected, address)
    verify(target, expected, address)
    return target


def verify(path: Path, expected: str, address: str) -> None:
    """Raise DlkitError, and remove the file, if its SHA-256 does not begin with `expected`."""
    import hashlib

    if not expected:
        return
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(expected.lower()):
        path.unlink()
        raise DlkitError(f"its sha256 is {found}, not {expected}; nothing was kept", address)


def fetch(
    address: str, label: str, token: str = "", most: int = LARGEST, patience: float = PATIENCE
) -> Iterator[bytes]:
    """Yield the bytes behind an http(s) address, with a progress bar.

    The `token` is sent as the bearer's, and after a redirection only to the same server. Raises
    DlkitError for other addresses, and when the bytes do not arrive completely: when the server
    does not answer within `patience` seconds, sends less than LEAST_SPEED in them, or more than
    `most` bytes. Its cause is the error of urllib.
    """
    import http.client
    import urllib.error
    import urllib.parse
    import urllib.request

    if not address.startswith(("http://", "https://")):
        raise DlkitError("only http:// and https:// can be downloaded", address)
    try:
        quoted = urllib.parse.quote(address, safe="%/:=&?~#+!$,;'@()*[]", errors="surrogateescape")
        request = urllib.request.Request(quoted, headers={"User-Agent": "dlkit"})
        if token:
            request.add_unredirected_header("Authorization", f"Bearer {token}")
        with answer(request, address, patience) as response:
            announced = response.headers.get("Content-Length") or ""
            length = int(announced) if announced.isdecimal() and len(announced) < 16 else 0
            if length > most:
                raise too_large(address, most)
            bar = Bar(label, length >> 16 or None)
            received, block_bytes, began = 0, 0, time.monotonic()
            try:
                while block := response.read1(BLOCK):
                    received += len(block)
                    if received > most:
                        raise too_large(address, most)
                    now, block_bytes = time.monotonic(), block_bytes + len(block)
                    if now - began > patience:
                        if block_bytes < LEAST_SPEED * (now - began):
                            raise DlkitError(f"sends less than {LEAST_SPEED} bytes/s", address)
                        block_bytes, began = 0, now
                    yield block
                    bar.advance(by=0 if received >> 16 == received - len(block) >> 16 else 1)
            finally:
                bar.close()
            if length and received != length:
                raise DlkitError(
                    f"the connection ended after {received} of {length} bytes", address
                )
    except urllib.error.HTTPError as error:
        error.close()
        raise DlkitError(f"the server answered {error.code} {error.reason}", address) from error
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
        raise DlkitError(f"cannot be reached ({network_reason(error)})", address) from error


def too_large(address: str, most: int) -> DlkitError:
    """The error for an answer of more than `most` bytes."""
    return DlkitError(
        f"has more than {most / 1e6:.0f} MB; download it yourself, or set {LIMIT} to more MB",
        address,
    )


def largest(default: int) -> int:
    """The most bytes of a download: those of the environment variable LIMIT, or the default."""
    megabytes = environment_int(LIMIT)
    return default if megabytes is None else megabytes * 1_000_000


def answer(request: "Request", address: str, patience: float) -> Any:
    """The server's answer. Raises DlkitError if its head is not there after `patience` seconds.

    A thread waits for it: a server that sends a byte now and then resets every timeout of a socket.
    """
    found: Future[Any] = Future()

    def wait() -> None:
        try:
            found.set_result(opener().open(request, timeout=patience))
        except BaseException as error:
            found.set_exception(error)

    threading.Thread(target=wait, daemon=True).start()
    try:
        return found.result(2 * patience)
    except FutureTimeout as error:
        if found.done():
            raise
        found.add_done_callback(close_late)
        raise DlkitError(f"no answer within {2 * patience:g} s", address) from error


def close_late(found: "Future[Any]") -> None:
    """Close an answer that came too late."""
    with suppress(Exception):
        found.result().close()


def network_reason(error: Exception) -> str:
    """Why a server cannot be reached, in a few words."""
    import http.client
    import socket
    import ssl

    cause: Any = getattr(error, "reason", error)
    if isinstance(cause, TimeoutError) or "timed out" in str(cause):
        return "no answer in time"
    if isinstance(cause, socket.gaierror):
        return "no such host, or no network"
    if isinstance(cause, ssl.SSLError):
        return "its certificate or its encryption is not accepted"
    if isinstance(cause, http.client.InvalidURL) or isinstance(error, ValueError):
        return "not a valid address"
    if isinstance(cause, http.client.HTTPException):
        return "its answer is not HTTP"
    return getattr(cause, "strerror", None) or "the connection broke"


def opener() -> "OpenerDirector":
    """The opener of addresses; it sends a token again where a server redirects to itself.

    A redirection from https to http, or to another scheme, raises DlkitError.
    """
    import urllib.request

    class Redirections(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, req: Any, *arguments: Any) -> Any:
            following = super().redirect_request(req, *arguments)
            if following is not None:
                if following.type not in {req.type, "https"}:
                    arguments[0].close()
                    raise DlkitError(
                        f"the server redirects to {following.full_url}, which is not {req.type}://",
                        req.full_url,
                    )
                if (following.type, following.host) == (req.type, req.host):
                    following.unredirected_hdrs.update(req.unredirected_hdrs)
            return following

    return urllib.request.build_opener(Redirections)
