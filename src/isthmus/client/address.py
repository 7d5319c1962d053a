"""Where the exchange of a state folder answers: written by the one that runs on it, read by commands on the same machine."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from isthmus.client.http import ExchangeClient
from isthmus.contracts.errors import InputError, RemoteError, UnreachableError
from isthmus.kit.filelock import held

ADDRESS = "address.json"
FILE_BYTES_MAX = 4096
LOCK = "exchange.lock"
PROBE_TIMEOUT_S, START_TIMEOUT_S, POLL_S = 5.0, 20.0, 0.1


@contextmanager
def announced(folder: Path, url: str, public_key: str) -> Iterator[None]:
    """While the exchange on `folder` answers at `url`, its address stands in a file there. A folder that takes no file is no fault: then
    commands ask for --url."""
    path = folder / ADDRESS
    with contextlib.suppress(OSError):
        path.write_text(json.dumps({"url": url, "public_key": public_key}) + "\n", encoding="utf-8")
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()


def standing(folder: Path) -> tuple[str, str] | None:
    """(address, public key) of the exchange that runs on `folder` now; None when none does. One that is starting is waited for. A file that
    a killed one left behind counts for nothing: what answers at the address must hold the same key."""
    try:
        with (folder / ADDRESS).open(encoding="utf-8") as file:
            told = json.loads(file.read(FILE_BYTES_MAX))
        url, public_key = str(told["url"]), str(told["public_key"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline_s:
        with contextlib.suppress(RemoteError, InputError, KeyError, TypeError):
            try:
                with ExchangeClient(url, timeout_s=PROBE_TIMEOUT_S) as exchange:
                    found = exchange.get("/v1/log/key")["public_key"]
                return (url, public_key) if found == public_key else None
            except UnreachableError:
                with held(folder / LOCK) as free:
                    if free:
                        return None
                time.sleep(POLL_S)
                continue
        return None
    return None
