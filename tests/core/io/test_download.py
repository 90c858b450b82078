"""Downloads from servers that misbehave: slow, endless, lying, redirecting elsewhere."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from dlkit.core.errors import DlkitError
from dlkit.core.io.download import download, fetch, largest

OK = b"HTTP/1.1 200 OK\r\n"


@contextmanager
def server(*answers: Callable[[socket.socket], None]) -> Iterator[str]:
    """The address of a server that answers its connections one after another."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            for answer in answers:
                with suppress(OSError):
                    connection, _ = listening.accept()
                    with connection:
                        connection.recv(1 << 16)
                        answer(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/x.bin"


def sends(*parts: bytes, pause: float = 0.0) -> Callable[[socket.socket], None]:
    """An answer of these parts, with pauses between them."""

    def answer(connection: socket.socket) -> None:
        for part in parts:
            connection.sendall(part)
            time.sleep(pause)

    return answer


def read(address: str, most: int = 1000, patience: float = 0.2) -> bytes:
    return b"".join(fetch(address, "downloading", most=most, patience=patience))


def test_a_whole_answer_is_read() -> None:
    with server(sends(OK + b"Content-Length: 5\r\n\r\n", b"he", b"llo", pause=0.05)) as address:
        assert read(address) == b"hello"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (sends(OK + b"Content-Length: 5\r\n\r\nhel"), "ended after 3 of 5 bytes"),
        (sends(OK + b"Content-Length: 2000\r\n\r\n"), "has more than 0 MB"),
        (sends(OK + b"\r\n" + b"x" * 2000), "has more than 0 MB"),
        (sends(OK + b"Content-Length: -7\r\n\r\n" + b"x" * 2000), "has more than 0 MB"),
        (sends(OK + b"\r\n", *[b"x"] * 50, pause=0.02), "sends less than 1000 bytes/s"),
        (sends(*[b"HTTP"] * 50, pause=0.02), "no answer within 0.4 s"),
        (sends(OK, *[b"X: y\r\n"] * 50, pause=0.02), "no answer within 0.4 s"),
        (sends(OK + b"\r\n", b"", pause=0.5), "no answer in time"),
        (sends(b"hello\r\n\r\n"), "its answer is not HTTP"),
        (sends(b""), "cannot be reached"),
        (sends(b"HTTP/1.1 404 \x1b[2J" + b"y" * 900 + b"\r\n\r\n"), "the server answered 404"),
    ],
)
def test_a_server_that_misbehaves_is_left(
    answer: Callable[[socket.socket], None], reason: str
) -> None:
    with server(answer) as address, pytest.raises(DlkitError, match=reason):
        read(address)


@pytest.mark.parametrize("to", ["ftp://127.0.0.1/x", "file:///etc/passwd", "gopher://x/"])
def test_a_redirection_to_another_scheme_is_refused(to: str) -> None:
    found = sends(f"HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n".encode())
    with server(found) as address, pytest.raises(DlkitError, match="redirect|Redirect"):
        read(address)


def test_a_download_that_ends_early_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DLKIT_CACHE", str(tmp_path))
    early = sends(OK + b"Content-Length: 5\r\n\r\nhel")
    with server(early) as address, pytest.raises(DlkitError, match="ended after 3"):
        download(address)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_the_name_in_an_address_is_one_safe_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DLKIT_CACHE", str(tmp_path))
    with server(sends(OK + b"Content-Length: 2\r\n\r\nok")) as address:
        target = download(f"{address[:-5]}{'y' * 400}\x1b.bin")
    assert target.parent == tmp_path / "downloads"
    assert len(target.name) < 230
    assert "\x1b" not in target.name


def test_the_limit_is_an_environment_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    assert largest(5) == 5
    monkeypatch.setenv("DLKIT_MAX_DOWNLOAD", "3")
    assert largest(5) == 3_000_000
