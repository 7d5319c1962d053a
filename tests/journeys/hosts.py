"""Hosts on one machine: network namespaces, each with its own address, joined by a bridge that lies in a namespace too.

Nothing outside these namespaces is touched. Needs root and iproute2.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tests.journeys.inspection import Ended, arguments_of, environment

NETWORK = "10.213.77"
COMMAND_S = 120
CALL = """
import ssl, sys, urllib.error, urllib.request
method, url, token, certificate = sys.argv[1:5]
body = sys.stdin.buffer.read()
headers = {"authorization": "Bearer " + token, "content-type": "application/json"}
asked = urllib.request.Request(url, data=body or None, headers=headers, method=method)
try:
    trusted = urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=certificate))
    sys.stdout.buffer.write(urllib.request.build_opener(urllib.request.ProxyHandler({}), trusted).open(asked, timeout=30).read())
except urllib.error.HTTPError as error:
    sys.exit(error.read().decode())
"""


def why_not() -> str:
    """Why hosts cannot be made here; empty when they can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "network namespaces need the command ip (iproute2)"
    tried = subprocess.run(["ip", "netns", "add", f"try-{os.getpid()}"], capture_output=True, text=True, check=False)
    if tried.returncode:
        return f"this machine does not let namespaces be made: {tried.stderr.strip()}"
    _ip("netns", "del", f"try-{os.getpid()}")
    return ""


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (words, done.stderr)


@dataclass
class Host:
    """One namespace. plug: its cable's name at the switch."""

    name: str
    space: str
    switch: str
    plug: str
    address: str
    children: list[subprocess.Popen[str]] = field(default_factory=list)

    def words(self, *given: object) -> list[str]:
        return ["ip", "netns", "exec", self.space, *(str(word) for word in given)]

    def run(self, *given: object) -> Ended:
        """A command of Isthmus on this host, to its end."""
        words = self.words(*arguments_of(*given))
        done = subprocess.run(words, capture_output=True, text=True, timeout=COMMAND_S, env=environment(), check=False)
        return Ended(done.returncode, done.stdout, done.stderr)

    def start(self, log: IO[str], *given: object, **extra: str) -> subprocess.Popen[str]:
        """A command of Isthmus that goes on."""
        words = self.words(*arguments_of(*given))
        child = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=log, stdin=subprocess.DEVNULL, text=True, env=environment(**extra))
        self.children.append(child)
        return child

    def call(self, method: str, url: str, token: str, certificate: Path, body: Any = None) -> Any:
        """An HTTPS request from this host, by a client that is not ours and trusts this certificate; the JSON that was answered."""
        raw = b"" if body is None else json.dumps(body).encode()
        words = self.words(sys.executable, "-I", "-c", CALL, method, url, token, certificate)
        done = subprocess.run(words, input=raw, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return json.loads(done.stdout)

    def link(self, state: str) -> None:
        """Plugs the cable in (up) or pulls it out (down)."""
        _ip("-n", self.switch, "link", "set", self.plug, state)

    def stop(self) -> None:
        for child in self.children:
            child.terminate()
        for child in self.children:
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            if child.stdout is not None:
                child.stdout.close()
        self.children.clear()


@contextmanager
def hosts(*names: str) -> Iterator[dict[str, Host]]:
    """Hosts by name, on one network; all is removed at the end."""
    mark = f"i{os.getpid() % 100_000}"
    switch = f"{mark}-switch"
    made = [switch]
    _ip("netns", "add", switch)
    found: dict[str, Host] = {}
    try:
        _ip("-n", switch, "link", "add", "bridge", "type", "bridge")
        _ip("-n", switch, "link", "set", "bridge", "up")
        for place, name in enumerate(names, start=1):
            host = Host(name, f"{mark}-{name}", switch, f"{mark}p{place}", f"{NETWORK}.{place}")
            _ip("netns", "add", host.space)
            made.append(host.space)
            _ip("-n", switch, "link", "add", host.plug, "type", "veth", "peer", "name", "cable", "netns", host.space)
            _ip("-n", switch, "link", "set", host.plug, "master", "bridge")
            _ip("-n", switch, "link", "set", host.plug, "up")
            _ip("-n", host.space, "addr", "add", f"{host.address}/24", "dev", "cable")
            for device in ("lo", "cable"):
                _ip("-n", host.space, "link", "set", device, "up")
            found[name] = host
        yield found
    finally:
        for host in found.values():
            host.stop()
        for space in reversed(made):
            subprocess.run(["ip", "netns", "del", space], capture_output=True, check=False)
