"""Takes pictures from an MQTT broker into a spool folder; needs paho-mqtt. No POSIX-only calls.

A message is acknowledged once its picture is on the disk, in a session that the broker keeps: what comes while this is stopped or killed is
delivered afterwards, and a second delivery is the same file. While the spool has no room nothing is acknowledged, so the broker
waits; what it had sent by then is held in memory, and beyond --held-mb nothing more is read from the line. The publisher must use quality
of service 1 or 2, and the broker must keep sessions (some do so for named users only).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from spool import UNKNOWN, Spool

TURN_S = 0.1
MEGABYTE = 1 << 20
KEEPALIVE_S = 30
RETRY_S_MAX = 30.0


class Source:
    """One session at one broker."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.spool, self.held = options, Spool(options.spool, options.limit), deque[tuple[int, paho.MQTTMessage]]()
        self.generation, self.held_bytes = 0, 0
        version = paho.CallbackAPIVersion.VERSION2
        self.client = paho.Client(version, client_id=options.client_id, clean_session=False, manual_ack=True)
        self.client.on_connect, self.client.on_message = self._connected, self._received
        self.client.on_subscribe = self._subscribed
        if options.username:
            self.client.username_pw_set(options.username, options.password_file.read_text().strip() if options.password_file else None)
        if options.tls:
            self.client.tls_set(ca_certs=options.ca and str(options.ca))

    def _connected(self, client: paho.Client, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            sys.exit(f"refused: the broker said {reason}")
        client.subscribe(self.options.topic, qos=1)

    def _subscribed(self, client: paho.Client, data: Any, mid: int, reasons: list[Any], properties: Any) -> None:
        if any(reason.is_failure for reason in reasons):
            sys.exit(f"refused: the broker does not let {self.options.client_id} read {self.options.topic}")
        print(f"{self.options.host}:{self.options.port}: takes what comes under {self.options.topic}", file=sys.stderr, flush=True)

    def _received(self, client: paho.Client, data: Any, message: paho.MQTTMessage) -> None:
        self.held.append((self.generation, message))
        self.held_bytes += len(message.payload)

    def drained(self) -> None:
        """Brings to the disk, then acknowledges, as many held messages as there is room for."""
        room = self.spool.room() if self.held else 0
        while self.held and room > 0:
            generation, message = self.held.popleft()
            self.held_bytes -= len(message.payload)
            path = self.spool.put(bytes(message.payload))
            if message.qos and generation == self.generation:  # in another connection this number may stand for another message
                self.client.ack(message.mid, message.qos)
            if path.suffix == UNKNOWN:
                print(f"{message.topic}: {path.name} is no picture that is known here; kept, not judged", file=sys.stderr, flush=True)
            else:
                room -= 1

    def connected(self) -> None:
        """Connects, however long it takes; what was not acknowledged comes again."""
        wait_s = 0.5
        while True:
            try:
                self.generation += 1
                self.client.connect(self.options.host, self.options.port, KEEPALIVE_S)
                return
            except OSError as error:
                print(f"{self.options.host}:{self.options.port}: {error}; again in {wait_s:g} s", file=sys.stderr, flush=True)
                time.sleep(wait_s)
                wait_s = min(2 * wait_s, RETRY_S_MAX)

    def work(self) -> None:
        """Until stopped."""
        self.connected()
        while True:
            if self.held_bytes > self.options.held_mb * MEGABYTE:
                time.sleep(TURN_S)
            elif self.client.loop(TURN_S) != paho.MQTT_ERR_SUCCESS:
                self.connected()
            self.drained()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("spool", type=Path, help="folder for the pictures")
    parser.add_argument("--topic", required=True, help="topic, or filter such as line/+/camera")
    parser.add_argument("--client-id", required=True, help="the session's name: the same after a restart, another for each box")
    for name, value in {"host": "127.0.0.1", "port": 1883, "limit": 200, "held-mb": 128, "username": ""}.items():
        parser.add_argument("--" + name, default=value, type=type(value))
    parser.add_argument("--password-file", type=Path)
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--ca", type=Path, help="certificates that vouch for the broker; default those of the system")
    try:
        Source(parser.parse_args()).work()
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    main()
