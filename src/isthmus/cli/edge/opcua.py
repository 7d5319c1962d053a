"""Takes values from an OPC UA server into a spool folder; needs asyncua. Byte strings are pictures, all else are signals.

A subscription's values are brought to the disk as they come. A subscription does not outlive its connection, so after each (re)start the
values since the newest that was kept are read from the server's history; a server that keeps none leaves a line {"gap": ...} in
signals.jsonl: what may be missing is said, not passed over. While there is no room the subscription is ended, and the history is read once
there is. Status codes that are not good are kept as such.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from asyncua import Client, Node, ua
from spool import Signals, Spool

TURN_S = 0.2
ANSWER_S = 4.0
RETRY_S_MAX = 30.0
QUEUE_MAX = 1_000
LOST = (OSError, asyncio.TimeoutError, ConnectionError, ua.UaError)


def text_of(when: datetime) -> str:
    """ISO 8601, UTC, microseconds: sorts as text."""
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).astimezone(UTC).isoformat(timespec="microseconds")


class Queue:
    """A subscription's values until they are brought to the disk. full: some came when there was no place; the history has them."""

    def __init__(self) -> None:
        self.values: asyncio.Queue[tuple[str, ua.DataValue]] = asyncio.Queue(QUEUE_MAX)
        self.full = False

    def datachange_notification(self, node: Node, value: Any, data: Any) -> None:
        try:
            self.values.put_nowait((node.nodeid.to_string(), data.monitored_item.Value))
        except asyncio.QueueFull:
            self.full = True

    async def taken(self, most: int) -> list[tuple[str, ua.DataValue]]:
        """What has come, after at most TURN_S; no more than there is room for."""
        found = []
        try:
            found.append(await asyncio.wait_for(self.values.get(), TURN_S))
        except TimeoutError:
            return found
        while not self.values.empty() and len(found) < most:
            found.append(self.values.get_nowait())
        return found


class Source:
    """Chosen nodes of one server."""

    def __init__(self, options: argparse.Namespace, clock: Callable[[], float] = time.time) -> None:
        self.options, self.spool, self.clock = options, Spool(options.spool, options.limit), clock
        self.signals = Signals(options.spool, options.lines)

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.clock(), UTC)

    def at(self, value: ua.DataValue) -> str:
        """When a value was so: by its source, else by the server, else now."""
        return text_of(value.SourceTimestamp or value.ServerTimestamp or self.now())

    def room(self) -> int:
        return self.signals.room() if self.spool.room() > 0 else 0

    def kept(self, values: list[tuple[str, ua.DataValue]]) -> int:
        """Brings values to the disk: pictures first, then all lines. Returns how many were new."""
        lines = []
        for source, value in values:
            raw, at = value.Value.Value if value.Value is not None else None, self.at(value)
            if at <= self.signals.newest.get(source, ""):
                continue
            status = value.StatusCode.name if value.StatusCode is not None else "Good"
            said = {"picture": self.spool.put(raw).name} if isinstance(raw, bytes) else {"value": plain(raw)}
            lines.append({"source": source, "at": at, "status": status, **said})
        return int(self.signals.add(lines))

    async def caught_up(self, node: Node) -> None:
        """Reads what the server remembers since the newest value that was kept."""
        source = node.nodeid.to_string()
        while source in self.signals.newest:
            begin = self.signals.newest[source]
            while self.room() < 2:
                await asyncio.sleep(TURN_S)
            start, why = datetime.fromisoformat(begin).replace(tzinfo=None), "it does not reach so far back"
            try:
                found = await node.read_raw_history(start, self.now().replace(tzinfo=None) + timedelta(days=1), self.room())
            except ua.UaStatusCodeError as error:
                found, why = [], str(error)
            new = self.kept([(source, value) for value in found])
            if not any(self.at(value) <= begin for value in found):
                self.signals.add(
                    [{"source": source, "at": begin, "gap": f"after {begin} values may be missing; the server's history: {why}"}]
                )
            if not new:
                return

    async def followed(self, client: Client) -> None:
        """One subscription, as long as none of it was dropped. While there is no room, values wait in the queue."""
        queue, nodes = Queue(), [client.get_node(name) for name in self.options.node]
        subscription = await client.create_subscription(self.options.period_ms, queue)
        await subscription.subscribe_data_change(nodes, queuesize=QUEUE_MAX)
        for node in nodes:
            await self.caught_up(node)
        while not queue.full:
            room = self.room()
            if room > 0:
                self.kept(await queue.taken(room))
            else:
                await asyncio.sleep(TURN_S)
            await client.check_connection()
        await subscription.delete()
        while self.room() < 1:
            await asyncio.sleep(TURN_S)

    async def work(self) -> None:
        """Until stopped; a server that went away is called again."""
        wait_s = 0.5
        while True:
            client = Client(self.options.server, timeout=ANSWER_S)
            if self.options.security:
                await client.set_security_string(self.options.security)
            try:
                async with client:
                    while True:
                        await self.followed(client)
                        wait_s = 0.5
            except LOST as error:
                print(f"{self.options.server}: {error or type(error).__name__}; again in {wait_s:g} s", file=sys.stderr, flush=True)
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, RETRY_S_MAX)


def plain(value: Any) -> Any:
    """A value as JSON has it; what it does not have becomes text."""
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("spool", type=Path, help="folder for pictures and signals")
    parser.add_argument("--server", required=True, help="such as opc.tcp://192.0.2.7:4840")
    parser.add_argument("--node", action="append", required=True, help="a node's id, such as ns=2;s=Camera.Picture; repeat")
    for name, value in {"limit": 200, "lines": 10_000, "period-ms": 100}.items():
        parser.add_argument("--" + name, default=value, type=int)
    parser.add_argument("--security", help="such as Basic256Sha256,SignAndEncrypt,client.der,client.pem")
    try:
        asyncio.run(Source(parser.parse_args()).work())
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    main()
