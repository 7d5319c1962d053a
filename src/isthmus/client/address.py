"""Where the exchange of a state folder answers: written by the one that runs on it, read by commands on the same machine."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from isthmus.client.http import ExchangeClient
from isthmus.contracts.errors import IsthmusError

ADDRESS = "address.json"
FILE_BYTES_MAX = 4096
PROBE_TIMEOUT_S = 5.0


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
    """(address, public key) of the exchange that runs on `folder` now; None when none does. A file that a killed one left behind counts
    for nothing: what answers at the address must hold the same key."""
    try:
        with (folder / ADDRESS).open(encoding="utf-8") as file:
            told = json.loads(file.read(FILE_BYTES_MAX))
        url, public_key = str(told["url"]), str(told["public_key"])
        with ExchangeClient(url, timeout_s=PROBE_TIMEOUT_S) as exchange:
            found = exchange.get("/v1/log/key")["public_key"]
    except (OSError, ValueError, KeyError, TypeError, IsthmusError):
        return None
    return (url, public_key) if found == public_key else None
