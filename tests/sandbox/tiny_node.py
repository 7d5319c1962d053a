"""A node process with the tiny extractor: python -m tests.sandbox.tiny_node STATE URL [DELAY_S]."""

from __future__ import annotations

import dataclasses
import sys
import threading
import time
from pathlib import Path

from isthmus.kit.clock import SystemClock
from isthmus.sandbox.node import Identity, Node
from isthmus.sandbox.nodehome import only_one, open_home
from isthmus.sandbox.outlog import OutLog
from isthmus.sandbox.uplink import HttpUplink
from tests.sandbox.world import TinyExtractor, tiny_tools


class SlowExtractor(TinyExtractor):
    delay_s = 0.0

    def rows(self, images):
        time.sleep(self.delay_s)
        return super().rows(images)


def main(state: Path, url: str, delay_s: float) -> None:
    SlowExtractor.delay_s = delay_s
    clock = SystemClock()
    with only_one(state):
        home = open_home(state)
        tools = dataclasses.replace(tiny_tools(), extractor=lambda stage: SlowExtractor(stage.parts))
        identity = Identity(home.settings.id, home.key, home.party_envelope, home.asset_envelope)
        uplink = HttpUplink(url, home.settings.id, home.key, clock)
        node = Node(identity, home.owner_data(tools), home.store, OutLog(home.log_path, home.key, clock), uplink, clock)
        node.run(threading.Event(), wait_s=1.0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]) if len(sys.argv) > 3 else 0.0)
