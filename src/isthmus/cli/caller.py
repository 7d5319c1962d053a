"""Where an exchange answers and with which key: the options that callers' commands share."""

from __future__ import annotations

from pathlib import Path

import click

from isthmus.cli.receipt import URL_DEFAULT
from isthmus.client.address import standing
from isthmus.client.http import ExchangeClient
from isthmus.contracts.errors import InputError
from isthmus.kit.config import read_settings

KEY_BYTES_MAX = 4096
URL = click.option(
    "--url", default=None, help=f"Where the exchange answers; default: where the one on the state folder does, or {URL_DEFAULT}."
)
STATE = click.option("--state", type=click.Path(path_type=Path), default=None, help="State folder; default from ISTHMUS_STATE.")
KEY = click.option("--key", required=True, help="The caller's key, or a file that holds it; see isthmus account open.")
AS_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")


def key_text(given: str) -> str:
    """A key, given as such or as the file that holds it. Raises InputError."""
    path = Path(given)
    try:
        if not path.is_file():
            return given
        with path.open(encoding="ascii") as file:
            return file.read(KEY_BYTES_MAX).strip()
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise InputError(
            f"the key in {given[:80]!r} cannot be read", "give the key, or the file that isthmus account open wrote"
        ) from error


def caller(url: str | None, key: str, state: Path | None) -> ExchangeClient:
    """A client with a caller's key. url: None for the exchange that runs on the state folder. Raises InputError."""
    if url is None:
        found = standing(read_settings(state=state).state / "exchange")
        url = URL_DEFAULT if found is None else found[0]
    return ExchangeClient(url, key_text(key))
