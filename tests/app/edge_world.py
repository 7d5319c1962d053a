"""A certified deployment over one state folder, made of synthetic sums and a real graph, with an exchange that can listen on loopback."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import PIL
import uvicorn
from numpy.typing import NDArray

from isthmus.app.build import Build
from isthmus.app.deploy import Made
from isthmus.app.exchange import Exchange
from isthmus.cli.export import write_box
from isthmus.cli.listener import bound_socket
from isthmus.contracts.deployment import Deployment
from isthmus.contracts.edge import EdgeBatch, EdgeBox, EdgeOrder, EdgeRecord
from isthmus.kit.canonical import digest_of, sha256_hex
from isthmus.kit.clock import SetClock
from isthmus.kit.log import Log
from isthmus.kit.pictures import encode_png
from tests.app.test_deploy import RECORDS
from tests.app.world import House, house, request, scenario

PARTY = "line-7"


class EdgeWorld:
    """clock: the exchange's, at the real time of the start, because a box reads its machine's."""

    def __init__(self, root: Path) -> None:
        self.root = root
        made: House = house(root)
        made.clock.at_s = float(int(time.time()) - 60)
        self.clock: SetClock = made.clock
        (root / "exchange.key").write_bytes(b"k" * 32)
        made.begun("run_1", request())
        _, self.result = Build(made.shop, "run_1", request()).walk()
        made.catalogue.close()
        self.exchange = self.opened()
        digests = (self.result["artefact_digest"], self.result["certificate"]["digest"])
        head = self.exchange.catalogue.head(digests[0])
        now_s = int(self.clock.now_s())
        self.deployment: Deployment = self.exchange.deployer.deploy(scenario(), "fleet", head, digests, RECORDS, now_s, Made("run_1"))

    def opened(self) -> Exchange:
        return Exchange(self.root, self.clock, Log(io.StringIO(), self.clock))

    def box(self, allowance: int = 100, credit: bool = True) -> EdgeBox:
        return self.exchange.edge.enrol(EdgeOrder(deployment=self.deployment.name, party=PARTY, allowance=allowance, credit=credit))

    def folder(self, path: Path, allowance: int = 100, url: str = "") -> tuple[EdgeBox, Path]:
        """A box's folder as `isthmus export` writes it."""
        box = self.box(allowance)
        write_box(path, box, self.exchange.catalogue.artefact(box.artefact_digest), url)
        return box, path

    @contextmanager
    def listening(self) -> Iterator[str]:
        """The exchange on loopback."""
        listener = bound_socket("127.0.0.1", 0)
        server = uvicorn.Server(uvicorn.Config(self.exchange.app, log_config=None, access_log=False, lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(20)
            listener.close()

    def close(self) -> None:
        self.exchange.registry.close()
        self.exchange.close()


def journal(box: str, count: int, verdicts: Sequence[str] = ("good", "defect", "person")) -> tuple[EdgeRecord, ...]:
    """A box's first records, chained as the runner chains them."""
    found: list[EdgeRecord] = []
    head = "sha256:" + sha256_hex(box.encode())
    for seq in range(1, count + 1):
        image = "sha256:" + sha256_hex(b"%d" % seq)
        verdict: Any = verdicts[seq % len(verdicts)]
        found.append(EdgeRecord(seq=seq, prev=head, at_s=1_800_000_000 + seq, image=image, score=f"{seq / 7!r}", verdict=verdict))
        head = digest_of(found[-1])
    return tuple(found)


def batch(records: Sequence[EdgeRecord]) -> EdgeBatch:
    return EdgeBatch(records=tuple(records))


def picture(seed: int, side: int = 48) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    return np.kron(rng.integers(0, 256, (side // 8, side // 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)


def pictures_in(folder: Path, count: int, first: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(first, first + count):
        (folder / f"p{seed:04d}.png").write_bytes(encode_png(picture(seed)))
    return folder


def runner_words(box: Path, *words: object) -> list[str]:
    """The runner, alone: -I hides this project from it, -S the packages that were installed; guard.py lets in what it may use."""
    places = sorted({str(Path(str(package.__file__)).parents[1]) for package in (np, onnxruntime, PIL)})
    return [sys.executable, "-I", "-S", str(Path(__file__).with_name("edge_guard.py")), os.pathsep.join(places), str(box), *map(str, words)]


def run_box(box: Path, *words: object, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(runner_words(box, *words), capture_output=True, text=True, timeout=timeout_s, env=environment, check=False)
