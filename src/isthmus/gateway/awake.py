"""Which engines run. A hundred deployments need not have a hundred processes: the least recently used sleep until a request wakes them."""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol

from isthmus.contracts.deployment import Engine


class Sleeper(Protocol):
    """What may have an engine. users: requests that hold it; it does not sleep while there are any."""

    engine: Engine | None
    users: int


class Awake:
    """Those with an engine, in the order of their last use. Not safe from several threads: its owner holds a lock.

    most: engines that may run beside those that are in use; at least one.
    """

    def __init__(self, most: int) -> None:
        self.most = max(1, most)
        self._order: OrderedDict[int, Sleeper] = OrderedDict()

    @property
    def full(self) -> bool:
        """Whether one more would send another to sleep."""
        return len(self._running()) >= self.most

    def _running(self) -> list[Sleeper]:
        for key in [key for key, one in self._order.items() if one.engine is None]:
            del self._order[key]
        return list(self._order.values())

    def used(self, one: Sleeper) -> None:
        """It is the most recently used now."""
        self._order[id(one)] = one
        self._order.move_to_end(id(one))

    def surplus(self) -> list[Engine]:
        """Engines beyond the number that may run, taken from those that were not used for longest; their owner closes them."""
        running = self._running()
        idle = [one for one in running if not one.users][: max(0, len(running) - self.most)]
        taken = [one.engine for one in idle if one.engine is not None]
        for one in idle:
            one.engine = None
        return taken
