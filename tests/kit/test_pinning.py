"""Addresses with pins: what can be read, which connections are made, and that another key is told nothing."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from isthmus.contracts.errors import InputError
from isthmus.kit.pinning import (
    NOT_PINNED,
    Address,
    address_of,
    check_private,
    is_loopback,
    kept_certificate,
    pin_of_file,
    verification,
)

PIN = "sha256:" + "0a" * 32
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok"


class Server:
    """Answers every request over TLS, and keeps what it was told after the handshake."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self.heard: list[bytes] = []
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate, key)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            try:
                with self._context.wrap_socket(plain, server_side=True) as connection:
                    self.heard.append(connection.recv(65536))
                    connection.sendall(ANSWER)
            except OSError:
                self.heard.append(b"")

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Server, str]]:
    files = kept_certificate(tmp_path, "10.0.0.1", 1.8e9)
    found = Server(*files)
    yield found, pin_of_file(files[0])
    found.close()


def test_an_address_is_read_as_it_was_printed() -> None:
    text = f"https://10.0.0.1:8470#{PIN}"
    assert address_of(text) == Address("https://10.0.0.1:8470", PIN) and str(address_of(text)) == text
    assert address_of("http://127.0.0.1:8470/") == Address("http://127.0.0.1:8470") and address_of("http://[::1]:8").host == "::1"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "10.0.0.1:8470",
        "ftp://x",
        "http://",
        "http://x:99999",
        "http://x:0",
        "http://x?a=b",
        f"http://x#{PIN}",
        "https://x#",
        "https://x#sha256:12",
        f"https://x#{PIN.upper()}",
        f"https://x#{PIN}0",
    ],
)
def test_what_is_no_address_is_said(text: str) -> None:
    with pytest.raises(InputError) as caught:
        address_of(text)
    assert caught.value.message and caught.value.next_step


def test_plain_http_goes_to_this_machine_only() -> None:
    for host in ("127.0.0.1", "[::1]", "localhost", "127.9.9.9"):
        check_private(address_of(f"http://{host}:1"), False)
    for host in ("10.0.0.1", "exchange.example", "127.0.0.1.evil.example", "0.0.0.0"):
        with pytest.raises(InputError, match="plain HTTP"):
            check_private(address_of(f"http://{host}:1"), False)
        check_private(address_of(f"http://{host}:1"), True)
        check_private(address_of(f"https://{host}:1"), False)
    assert not is_loopback("localhost.evil.example")


def test_the_pinned_key_is_answered(server: tuple[Server, str]) -> None:
    found, pin = server
    address = address_of(f"https://127.0.0.1:{found.port}#{pin}")
    with httpx.Client(verify=verification(address), trust_env=False) as client:
        assert client.get(f"{address.base_url}/secret").text == "ok"
    assert b"/secret" in found.heard[0]


def test_another_key_is_told_nothing(server: tuple[Server, str]) -> None:
    found, _ = server
    for text in (f"https://127.0.0.1:{found.port}#{PIN}", f"https://127.0.0.1:{found.port}"):
        address = address_of(text)
        with httpx.Client(verify=verification(address), trust_env=False) as client, pytest.raises(httpx.ConnectError) as caught:
            client.get(f"{address.base_url}/secret")
        assert (NOT_PINNED in str(caught.value)) == (address.pin is not None)
    assert b"".join(found.heard) == b""


def test_the_certificate_stays_and_its_key_is_private(tmp_path: Path) -> None:
    certificate, key = kept_certificate(tmp_path, "exchange.example", 1.8e9)
    pin = pin_of_file(certificate)
    assert (key.stat().st_mode & 0o777) == 0o600
    assert pin_of_file(kept_certificate(tmp_path, "other", 1.9e9)[0]) == pin
    key.unlink()
    assert pin_of_file(kept_certificate(tmp_path, "other", 1.9e9)[0]) != pin
    (tmp_path / "none.crt").write_text("no certificate")
    with pytest.raises(InputError):
        pin_of_file(tmp_path / "none.crt")
