"""What has to be done every so often while the exchange is up."""

from __future__ import annotations

import threading
from collections.abc import Callable

from isthmus.contracts.errors import IsthmusError
from isthmus.kit.log import Log

EVERY_S = 60.0
STOP_WAIT_S = 10.0


class Upkeep:
    """Calls `work` every `every_s` seconds in a thread of its own; a failure is logged, and the next turn tries again."""

    def __init__(self, work: Callable[[], None], log: Log, every_s: float = EVERY_S) -> None:
        self._work, self._log, self._every_s = work, log, every_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._turns, name="upkeep", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends after the turn under way."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(STOP_WAIT_S)

    def _turns(self) -> None:
        while not self._stopping.wait(self._every_s):
            self.turn()

    def turn(self) -> None:
        """One turn, now."""
        try:
            self._work()
        except IsthmusError as error:
            self._log.error("upkeep-failed", message=str(error))
