"""Everything that passes between a node and the exchange, recorded by a relay; and what must never be in it.

The relay stands where the node's network is: it sees the bytes that the node's own process wrote, not what the node says of them.
`Forbidden` looks for planted and real records in every common form: as they are, in hexadecimal, in base64, compressed, and one within
another.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import re
import socket
import threading
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from isthmus.sandbox.outlog import LogEntry

PROBE_BYTES = 8
PIECE_BYTES = 1 << 16
DEPTH = 3
NEAR = np.uint64(0xFFFFFF)
"""A place whose first three bytes begin no token is passed over at once."""
BETWEEN = bytes.fromhex("5a19c3e07b42d8f6")
PRINTED = bytes(range(32, 127)) + b"\r\n\t"
HEADERS = frozenset(
    {"host", "accept", "accept-encoding", "connection", "user-agent", "isthmus-signature", "content-type", "content-length"}
)
PLAIN_HEADERS = {
    "accept": r"\*/\*",
    "accept-encoding": r"[a-z, ]{0,40}",
    "connection": r"keep-alive",
    "user-agent": r"python-httpx/[0-9.]+",
    "host": r"127\.0\.0\.1:[0-9]+",
    "content-type": r"application/(json|octet-stream)",
    "content-length": r"[0-9]+",
}
TARGETS = (
    ("GET", r"/v1/nodes/{party}/tasks\?wait_s=[0-9.]+"),
    ("GET", r"/v1/nodes/{party}/terms"),
    ("POST", r"/v1/(parties|assets|agreements|rotations)"),
    ("POST", r"/v1/nodes/{party}/terms"),
    ("POST", r"/v1/tasks/job_[0-9a-f]{{32}}/{party}/(countersign|vector|head|refusal|status)\?job=sha256:[0-9a-f]{{64}}"),
)


@dataclass
class Link:
    """One connection. up: what the node wrote; down: what came to it."""

    up: bytearray = field(default_factory=bytearray)
    down: bytearray = field(default_factory=bytearray)


class Recorder:
    """A relay to a port of this machine that keeps all bytes. links: in the order of connecting."""

    def __init__(self, target_port: int) -> None:
        self.links: list[Link] = []
        self._target = target_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._target))
            link = Link()
            self.links.append(link)
            for source, sink, kept in ((near, far, link.up), (far, near, link.down)):
                source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._relay, args=(source, sink, kept), daemon=True).start()

    @staticmethod
    def _relay(source: socket.socket, sink: socket.socket, kept: bytearray) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(PIECE_BYTES):
                kept += piece
                sink.sendall(piece)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._listener.close()


@dataclass(frozen=True)
class Asked:
    """One request of a node, as it stood on the wire."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


def requests_in(up: bytes) -> Iterator[Asked]:
    """All of one connection. A last one that the connection's end cut short is given as far as it came."""
    rest = bytes(up)
    while rest:
        head, gap, rest = rest.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        method, target, version = [*lines[0].split(" "), "", ""][:3]
        assert gap and version == "HTTP/1.1", head[:200]
        headers = tuple((name.strip().lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines[1:]))
        size = int(dict(headers).get("content-length", "0"))
        yield Asked(method, target, headers, rest[:size])
        rest = rest[size:]


def beyond_the_protocol(asked: Iterable[Asked], party: str) -> list[str]:
    """Requests and headers that a node has no business to send."""
    found = []
    for one in asked:
        if not any(one.method == method and re.fullmatch(form.format(party=party), one.target) for method, form in TARGETS):
            found.append(f"request {one.method} {one.target}")
        for name, value in one.headers:
            signature = rf"{party} [0-9]{{1,12}} [0-9a-f]{{128}}"
            if name not in HEADERS or not re.fullmatch(PLAIN_HEADERS.get(name, signature), value):
                found.append(f"header {name}: {value}")
        if len({name for name, _ in one.headers}) < len(one.headers):
            found.append(f"a header twice in {one.target}")
    return found


def unaccounted(asked: Iterable[Asked], entries: list[LogEntry]) -> list[str]:
    """Bodies that passed and are not in the node's signed log with the same digest and length, or are there fewer times; and lines of the
    log whose message never passed."""
    passed: dict[tuple[str, int], int] = {}
    for one in asked:
        if one.body:
            key = (hashlib.sha256(one.body).hexdigest(), len(one.body))
            passed[key] = passed.get(key, 0) + 1
    for entry in entries:
        key = (entry.sha256, entry.bytes)
        passed[key] = passed.get(key, 0) - 1
    return [f"{count:+d} of {size} bytes, sha256 {digest}" for (digest, size), count in passed.items() if count]


def _unpacked(raw: bytes) -> Iterator[bytes]:
    """Compressed streams that begin anywhere in it: zlib and gzip."""
    for start in re.finditer(rb"\x1f\x8b\x08|\x78[\x01\x5e\x9c\xda]", raw):
        with contextlib.suppress(zlib.error):
            opened = zlib.decompressobj(47).decompress(raw[start.start() :], 1 << 22)
            if len(opened) >= PROBE_BYTES:
                yield opened


def forms(raw: bytes, depth: int = DEPTH) -> Iterator[bytes]:
    """It, and what is written in it in base64, hexadecimal or compressed, also one within another."""
    yield raw
    if not depth:
        return
    for run in re.finditer(rb"[A-Za-z0-9+/_-]{11,}={0,2}", raw):
        text = run.group().rstrip(b"=").replace(b"-", b"+").replace(b"_", b"/")
        for start in range(4):
            part = text[start : start + (len(text) - start) // 4 * 4] if (len(text) - start) % 4 == 1 else text[start:]
            with contextlib.suppress(binascii.Error):
                yield from _deeper(base64.b64decode(part + b"=" * (-len(part) % 4)), depth)
    for run in re.finditer(rb"[0-9a-fA-F]{16,}", raw):
        for start in range(2):
            text = run.group()[start:]
            yield from _deeper(bytes.fromhex(text[: len(text) // 2 * 2].decode()), depth)
    for opened in _unpacked(raw):
        yield from _deeper(opened, depth)


def _deeper(raw: bytes, depth: int) -> Iterator[bytes]:
    """Of what was decoded, only what can hold something more: random bytes are not decoded again and again."""
    if len(raw) >= PROBE_BYTES:
        yield from forms(raw, depth - 1) if depth > 1 and _speaks(raw) else (raw, *_unpacked(raw))


def _speaks(raw: bytes) -> bool:
    """Whether it is text."""
    return len(raw.translate(None, PRINTED)) < 0.05 * len(raw)


class Forbidden:
    """What must not pass. tokens: at least PROBE_BYTES long each -> what it is."""

    def __init__(self, tokens: dict[bytes, str]) -> None:
        assert all(len(token) >= PROBE_BYTES for token in tokens), min(tokens, key=len)
        self._tokens: dict[bytes, list[tuple[bytes, str]]] = {}
        for token, what in tokens.items():
            self._tokens.setdefault(token[:PROBE_BYTES], []).append((token, what))
        probes = np.array([int.from_bytes(probe, "little") for probe in self._tokens], dtype=np.uint64)
        self._near = np.zeros(int(NEAR) + 1, dtype=bool)
        self._near[probes & NEAR] = True

    def found_in(self, raw: bytes) -> list[str]:
        """What of it is there, in any form."""
        return sorted(set(self._plainly(BETWEEN.join(forms(raw)))))

    def _plainly(self, raw: bytes) -> Iterator[str]:
        if len(raw) < PROBE_BYTES:
            return
        flat = np.frombuffer(raw, dtype=np.uint8)
        windows = np.lib.stride_tricks.sliding_window_view(flat, PROBE_BYTES)
        numbers = np.ascontiguousarray(windows).view("<u8")[:, 0]
        for at in np.flatnonzero(self._near[numbers & NEAR]):
            for token, what in self._tokens.get(raw[at : at + PROBE_BYTES], ()):
                if raw.startswith(token, at):
                    yield what


def hash_tokens(raw: bytes, what: str) -> dict[bytes, str]:
    """A record's digest, whole and its first eight bytes, as bytes; hexadecimal and base64 are looked through by `forms`."""
    return {
        hashlib.sha256(raw).digest()[:PROBE_BYTES]: f"sha256 of {what}",
        hashlib.md5(raw, usedforsecurity=False).digest()[:8]: f"md5 of {what}",
    }


def block_tokens(raw: bytes, size: int, what: str) -> dict[bytes, str]:
    """Every aligned block of so many bytes, but for those of one repeated byte or too few different ones."""
    blocks = (raw[at : at + size] for at in range(0, len(raw) - size + 1, size))
    return {block: what for block in blocks if len(set(block)) > size // 6}
