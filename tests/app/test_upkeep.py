"""What is done every so often goes on after a failure."""

from __future__ import annotations

import io
import threading

from isthmus.app.upkeep import Upkeep
from isthmus.contracts.errors import StorageError
from isthmus.kit.clock import SetClock
from isthmus.kit.log import Log


def test_it_goes_on_after_a_failure_and_stops() -> None:
    turns, third = [0], threading.Event()

    def work() -> None:
        turns[0] += 1
        if turns[0] == 3:
            third.set()
        raise StorageError("the database cannot be used now", "check the disk")

    written = io.StringIO()
    upkeep = Upkeep(work, Log(written, SetClock()), every_s=0.005)
    upkeep.start()
    assert third.wait(5)
    upkeep.stop()
    stood = turns[0]
    assert written.getvalue().count("upkeep-failed") == stood


def test_stopping_before_starting_is_harmless() -> None:
    Upkeep(lambda: None, Log(io.StringIO(), SetClock())).stop()
