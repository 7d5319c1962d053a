"""`isthmus up`: starts the exchange."""

from __future__ import annotations

import json
import ssl
import sys
from pathlib import Path

import click
import uvicorn
from starlette.applications import Starlette

from isthmus.app.exchange import House, opened
from isthmus.cli import leash as leashes
from isthmus.cli.listener import bound_socket
from isthmus.client.address import announced
from isthmus.contracts.errors import ExchangeStateError, InputError
from isthmus.contracts.ports import Clock
from isthmus.kit.clock import SystemClock
from isthmus.kit.config import read_settings
from isthmus.kit.ids import slug
from isthmus.kit.log import open_log
from isthmus.kit.pinning import Address, kept_certificate, pin_of_file
from isthmus.sandbox.service import Promises

GRACE_S = 20


def shown_certificate(
    folder: Path, host: str, tls: bool, certificate: Path | None, key: Path | None, clock: Clock
) -> tuple[Path, Path] | None:
    """(certificate, key) that the exchange shows; None without TLS. Raises InputError when one of the two is missing or unfit."""
    if (certificate is None) != (key is None):
        raise InputError("a certificate needs its key, and a key its certificate", "give both --tls-cert and --tls-key, or --tls alone")
    if certificate is None or key is None:
        return kept_certificate(folder, host, clock.now_s()) if tls else None
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key)
    except (ssl.SSLError, OSError) as error:
        raise InputError(f"{certificate} and {key} cannot be used: {error}", "give a certificate and its private key in PEM") from error
    return certificate, key


def _config(app: Starlette, shown: tuple[Path, Path] | None) -> uvicorn.Config:
    files = {} if shown is None else {"ssl_certfile": str(shown[0]), "ssl_keyfile": str(shown[1])}
    return uvicorn.Config(app, log_config=None, access_log=False, lifespan="on", timeout_graceful_shutdown=GRACE_S, **files)  # type: ignore[arg-type]


@click.command()
@click.option("--state", type=click.Path(path_type=Path), default=None, help="State folder; default from ISTHMUS_STATE.")
@click.option("--host", default=None, help="Address to listen on; the default answers this machine only.")
@click.option("--port", type=click.IntRange(0, 65535), default=None, help="Port to listen on; 0 takes any free one.")
@click.option("--tls", is_flag=True, help="Answer over TLS by a certificate of its own; the address that is printed pins its key.")
@click.option("--tls-cert", type=click.Path(path_type=Path), default=None, help="A certificate to show instead (PEM), with --tls-key.")
@click.option("--tls-key", type=click.Path(path_type=Path), default=None, help="Its private key (PEM).")
@click.option("--json", "as_json", is_flag=True, help="One JSON object with address and key, once it listens.")
@leashes.OPTION
def up(
    state: Path | None,
    host: str | None,
    port: int | None,
    tls: bool,
    tls_cert: Path | None,
    tls_key: Path | None,
    as_json: bool,
    leash: bool,
) -> None:
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
    house = House(settings.job_ttl_s, settings.engines_awake_max, settings.registration == "invited", settings.silence_s, promises)
    with opened(settings.state / "exchange", clock, log, house) as exchange:
        shown = shown_certificate(settings.state / "exchange", address, tls, tls_cert, tls_key, clock)
        listener = bound_socket(address, settings.port if port is None else port)
        place = f"{f'[{address}]' if ':' in address else address}:{listener.getsockname()[1]}"
        url = f"http://{place}" if shown is None else str(Address(f"https://{place}", pin_of_file(shown[0])))
        told = {"url": url, "public_key": exchange.key.public_hex, "state": str(settings.state)}
        server = uvicorn.Server(_config(exchange.app, shown))
        with announced(settings.state / "exchange", url, exchange.key.public_hex):
            plain = f"Isthmus is up at {url}  (console: {url}/ · state: {settings.state} · stop: Ctrl-C)"
            click.echo(json.dumps(told) if as_json else plain)
            sys.stdout.flush()
            server.run(sockets=[listener])
        if not server.started:
            raise ExchangeStateError("the exchange did not start", "see the log lines above")
