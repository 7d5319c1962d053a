"""The owner's page of a node, beside the node or in its process."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click
import uvicorn

from isthmus.cli.listener import bound_socket
from isthmus.console.label_pages import new_token
from isthmus.console.node_pages import node_app
from isthmus.kit.clock import SystemClock
from isthmus.kit.config import read_settings
from isthmus.sandbox.ownerview import OwnerBook

LOOPBACK = "127.0.0.1"
GRACE_S = 3
STOP_WAIT_S = 5.0


@dataclass(frozen=True)
class NodePage:
    """url: with the token behind its `#`."""

    url: str
    server: uvicorn.Server


def node_page(state: Path, port: int, here: bool = False) -> tuple[NodePage, socket.socket]:
    """The page of a node's state folder, ready to run. here: the node works in this process. Raises InputError, ExchangeStateError."""
    token = new_token()
    app = node_app(OwnerBook(state, SystemClock(), here=here), token, read_settings().language)
    listener = bound_socket(LOOPBACK, port)
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=GRACE_S)
    return NodePage(f"http://{LOOPBACK}:{listener.getsockname()[1]}/#{token}", uvicorn.Server(config)), listener


@contextmanager
def shown_page(state: Path, port: int | None) -> Iterator[None]:
    """Serves the page from a thread while the node works; nothing without a port."""
    if port is None:
        yield
        return
    served, listener = node_page(state, port, here=True)
    thread = threading.Thread(target=lambda: served.server.run(sockets=[listener]), name="page", daemon=True)
    thread.start()
    click.echo(f"Your node's page: {served.url}\n(this machine only)")
    sys.stdout.flush()
    try:
        yield
    finally:
        served.server.should_exit = True
        thread.join(STOP_WAIT_S)
