"""Requests that wait for a change: woken from any thread, at once, and not before."""

from __future__ import annotations

import asyncio
import threading
import time

from isthmus.app.sandbox_routes import Waiters


def test_a_change_in_another_thread_wakes_all_who_wait() -> None:
    waiters, seen = Waiters(), [0]

    async def waited() -> tuple[list[bool], float]:
        began = time.monotonic()
        waiting = [asyncio.create_task(waiters.changed(lambda: seen[0] == 1, began + 10)) for _ in range(5)]
        await asyncio.sleep(0.02)

        def change() -> None:
            waiters.wake()  # nothing changed: they go on waiting
            seen[0] = 1
            waiters.wake()

        threading.Thread(target=change).start()
        return await asyncio.gather(*waiting), time.monotonic() - began

    found, took_s = asyncio.run(waited())
    assert found == [True] * 5 and took_s < 5


def test_a_change_before_the_wait_is_not_missed_and_time_runs_out() -> None:
    waiters = Waiters()
    assert asyncio.run(waiters.changed(lambda: True, time.monotonic() + 10))
    assert not asyncio.run(waiters.changed(lambda: False, time.monotonic() + 0.02))
    assert not asyncio.run(waiters.changed(lambda: False, time.monotonic() - 1))
    waiters.wake()  # loops that have closed are no trouble
