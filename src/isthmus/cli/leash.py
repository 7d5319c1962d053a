"""A leash for processes that another program starts: they end when it ends, however it ends."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import click

GRACE_S = 10.0
EXIT_LEFT = 1

OPTION: Callable[[Callable[..., Any]], Callable[..., Any]] = click.option(
    "--leash", is_flag=True, help="End when standard input closes: for a program that starts this one."
)


def hold() -> None:
    """Watches standard input from a thread of its own. Once it closes, this process is asked to end, and ends by force after GRACE_S."""

    def watch() -> None:
        while sys.stdin.buffer.read(1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE_S)
        os._exit(EXIT_LEFT)

    threading.Thread(target=watch, name="leash", daemon=True).start()
