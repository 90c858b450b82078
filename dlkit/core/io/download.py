"""Downloads over HTTP, kept in a cache. Loads no torch; urllib is imported when used."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlkit.core.environment import cache
from dlkit.core.errors import DlkitError
from dlkit.core.io.files import whole_file
from dlkit.core.progress import Bar, log

if TYPE_CHECKING:
    from urllib.request import OpenerDirector

TIMEOUT = 30  # seconds without a byte


def download(url: str, target: Path | None = None) -> Path:
    """The file behind `url`, downloaded once; `#sha256=HEX` at its end is verified (as by pip).

    Raises DlkitError as `fetch` does, and for a wrong checksum.
    """
    import hashlib

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
    """Raise DlkitError, and remove the file, if its SHA-256 does not begin with `expected`."""
    import hashlib

    if not expected:
        return
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(expected.lower()):
        path.unlink()
        raise DlkitError(f"its sha256 is {found}, not {expected}; nothing was kept", address)


def fetch(address: str, label: str, token: str = "") -> Iterator[bytes]:
    """Yield the bytes behind an http(s) address, with a progress bar.

    The `token` is sent as the bearer's, and after a redirection only to the same server. Raises
    DlkitError for other addresses, and when the bytes do not arrive completely; its cause is the
    error of urllib.
    """
    import http.client
    import urllib.error
    import urllib.parse
    import urllib.request

    if not address.startswith(("http://", "https://")):
        raise DlkitError("only http:// and https:// can be downloaded", address)
    try:
        quoted = urllib.parse.quote(address, safe="%/:=&?~#+!$,;'@()*[]")
        request = urllib.request.Request(quoted, headers={"User-Agent": "dlkit"})
        if token:
            request.add_unredirected_header("Authorization", f"Bearer {token}")
        with opener().open(request, timeout=TIMEOUT) as response:
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
                    f"the connection ended after {received} of {length} bytes", address
                )
    except urllib.error.HTTPError as error:
        error.close()
        raise DlkitError(f"the server answered {error.code} {error.reason}", address) from error
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
        reason = " ".join(str(getattr(error, "reason", error)).split())
        raise DlkitError(f"cannot be reached ({reason})", address) from error


def opener() -> "OpenerDirector":
    """The opener of addresses; it sends a token again where a server redirects to itself."""
    import urllib.request

    class Redirections(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, req: Any, *arguments: Any) -> Any:
            following = super().redirect_request(req, *arguments)
            if following is not None and (following.type, following.host) == (req.type, req.host):
                following.unredirected_hdrs.update(req.unredirected_hdrs)
            return following

    return urllib.request.build_opener(Redirections)
