"""A socket that listens, made before its server, so that a taken port is said in a sentence and a free one can be told."""

from __future__ import annotations

import socket

from isthmus.contracts.errors import ExchangeStateError

BACKLOG = 256


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
