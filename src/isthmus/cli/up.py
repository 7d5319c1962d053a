"""`isthmus up`: starts the exchange."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path

import click
import uvicorn

from isthmus.app.exchange import opened
from isthmus.cli import leash as leashes
from isthmus.client.address import announced
from isthmus.contracts.errors import ExchangeStateError
from isthmus.kit.clock import SystemClock
from isthmus.kit.config import read_settings
from isthmus.kit.ids import slug
from isthmus.kit.log import open_log
from isthmus.sandbox.service import Promises

BACKLOG = 256
GRACE_S = 20


def bound_socket(host: str, port: int) -> socket.socket:
    """A listening socket. Raises ExchangeStateError when the port is taken or the address is not this machine's."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except (OSError, OverflowError) as error:
        listener.close()
        why = getattr(error, "strerror", None) or str(error)
        raise ExchangeStateError(
            f"{host}:{port} cannot be listened on: {why}", "stop what uses it, or give --port (0: any free one)"
        ) from error
    return listener


@click.command()
@click.option("--state", type=click.Path(path_type=Path), default=None, help="State folder; default from ISTHMUS_STATE.")
@click.option("--host", default=None, help="Address to listen on; the default answers this machine only.")
@click.option("--port", type=click.IntRange(0, 65535), default=None, help="Port to listen on; 0 takes any free one.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object with address and key, once it listens.")
@leashes.OPTION
def up(state: Path | None, host: str | None, port: int | None, as_json: bool, leash: bool) -> None:
    """Starts the exchange and serves until stopped.

    State is one folder: books, keys, models, logs. The operator's token lies in operator.token inside it. The console is at
    the address that is printed.
    """
    if leash:
        leashes.hold()
    settings = read_settings(state=state)
    clock = SystemClock()
    log = open_log(settings.log_file, sys.stderr, clock, settings.log_level)
    address = host or settings.host
    promises = Promises(settings.jurisdiction and slug(settings.jurisdiction, "the setting jurisdiction"), settings.deletion_days)
    with opened(settings.state / "exchange", clock, log, settings.job_ttl_s, settings.engines_awake_max, promises) as exchange:
        listener = bound_socket(address, settings.port if port is None else port)
        url = f"http://{f'[{address}]' if ':' in address else address}:{listener.getsockname()[1]}"
        told = {"url": url, "public_key": exchange.key.public_hex, "state": str(settings.state)}
        config = uvicorn.Config(exchange.app, log_config=None, access_log=False, lifespan="on", timeout_graceful_shutdown=GRACE_S)
        server = uvicorn.Server(config)
        with announced(settings.state / "exchange", url, exchange.key.public_hex):
            plain = f"Isthmus is up at {url}  (console: {url}/ · state: {settings.state} · stop: Ctrl-C)"
            click.echo(json.dumps(told) if as_json else plain)
            sys.stdout.flush()
            server.run(sockets=[listener])
        if not server.started:
            raise ExchangeStateError("the exchange did not start", "see the log lines above")
