"""Shadow runs of deployments: begun by an order, resumed after a restart, ended by number or when another version serves."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from isthmus.app.lives import Lives
from isthmus.contracts.deployment import Deployment
from isthmus.contracts.errors import ConflictError, InputError, IsthmusError, NotFoundError
from isthmus.contracts.inference import VERDICTS
from isthmus.contracts.life import ShadowOrder, ShadowView
from isthmus.contracts.ports import Json
from isthmus.gateway.registry import Registry
from isthmus.gateway.shadow import Images, Shadow, ShadowCounts
from isthmus.kit.database import Database, named_sql

SQL = named_sql(Path(__file__).parent / "sql" / "shadows.sql")

SHADOW_REQUESTS_MAX = 1_000_000
"""Requests that a shadow may be asked to compare."""


def _counts(view: ShadowView) -> ShadowCounts:
    return ShadowCounts(view.requests, view.failed, view.skipped, [list(row) for row in view.table])


class Shadows:
    """At most one shadow a deployment. Implements what the data path calls after each answer (`see`)."""

    def __init__(self, folder: Path, lives: Lives, registry: Registry, artefact_path: Callable[[str], Path]) -> None:
        self._db = Database(folder / "shadows.sqlite", [SQL["schema_1"]])
        self._lives, self._registry, self._artefact_path = lives, registry, artefact_path
        self._lock = threading.Lock()
        self._running: dict[str, tuple[str, Shadow]] = {}

    def close(self) -> None:
        self._db.close()

    def see(self, deployment: Deployment, images: Images, verdicts: Sequence[str]) -> None:
        """One request that was answered by a deployment. Never waits and never raises."""
        running = self._running.get(deployment.name)
        if running is not None and running[0] == deployment.version:
            running[1].offer(images, verdicts)

    def begin(self, name: str, order: ShadowOrder) -> ShadowView:
        """Puts a certified version beside the one that serves. The same pair again goes on counting, up to the number now asked for.

        Raises ConflictError when nothing serves or nothing is proposed, and what forbids the version to serve.
        """
        if not 1 <= order.requests <= SHADOW_REQUESTS_MAX:
            raise InputError(f"{order.requests} requests cannot be compared", f"ask for 1 to {SHADOW_REQUESTS_MAX}")
        life = self._lives.life(name)
        if life.current is None:
            raise ConflictError(f"nothing serves as {name}, so there is nothing to stand beside", "upgrade without a shadow")
        new = self._lives.upgrade_target(name, life, order.to)
        if life.versions[new].deployment.targets:
            raise ConflictError(f"{name} foretells numbers, and a shadow counts verdicts", "upgrade without a shadow")
        left = life.left_in(new)
        if left:
            raise ConflictError(f"version {new} was fitted on the data of {', '.join(left)}, who left since", "name another version")
        with self._lock:
            running = self._running.pop(name, None)
            if running is not None:
                running[1].stop()
            known = self._kept(name)
            counts = ShadowCounts()
            if known is not None and (known.old, known.new) == (life.current, new):
                counts = _counts(known)
            self._start(name, life.current, new, order.requests, counts)
        return self.view(name)

    def _start(self, name: str, old: int, new: int, wanted: int, counts: ShadowCounts) -> None:
        versions = self._lives.life(name).versions

        def saved(found: ShadowCounts, done: bool) -> None:
            self._keep(name, old, new, wanted, found, "done" if done else "running")

        saved(counts, counts.requests >= wanted)
        if counts.requests >= wanted:
            return
        deployment = versions[new].deployment
        engine = self._registry.engine_of(deployment, self._artefact_path(deployment.artefact_digest))
        self._running[name] = (versions[old].deployment.version, Shadow(engine, counts, wanted, saved))

    def _keep(self, name: str, old: int, new: int, wanted: int, counts: ShadowCounts, state: str) -> None:
        fields = {"requests": counts.requests, "failed": counts.failed, "skipped": counts.skipped, "table": counts.table}
        view = msgspec.convert(
            {"deployment": name, "old": old, "new": new, "wanted": wanted, "state": state, "verdicts": VERDICTS, **fields}, ShadowView
        )
        with self._db.transaction() as db:
            db.execute(SQL["shadow_put"], {"name": name, "document": msgspec.json.encode(view)})

    def _kept(self, name: str) -> ShadowView | None:
        row = self._db.row(SQL["shadow_get"], {"name": name})
        return None if row is None else msgspec.json.decode(row["document"], type=ShadowView)

    def view(self, name: str) -> ShadowView:
        """The latest shadow run of a deployment, its counts as they are now. Raises NotFoundError."""
        found = self._kept(name)
        if found is None:
            raise NotFoundError(f"{name[:64]} has no shadow", f"begin one: isthmus deployment shadow {name[:64]}")
        running = self._running.get(name)
        if running is not None and found.state == "running":
            counts = running[1].counts
            table = tuple(tuple(row) for row in counts.table)
            found = msgspec.structs.replace(found, requests=counts.requests, failed=counts.failed, skipped=counts.skipped, table=table)
        return found

    def of_pair(self, name: str, compared: Json | None) -> Json | None:
        """What was counted of the two versions that a comparison is of; None when there is no such shadow."""
        found = None if self._kept(name) is None or compared is None else self.view(name)
        if found is None or compared is None or (found.old, found.new) != (compared.get("old"), compared.get("new")):
            return None
        plain: Json = msgspec.json.decode(msgspec.json.encode(found))
        return plain

    def settle(self, name: str) -> None:
        """Ends the shadow of a deployment whose version is another now."""
        with self._lock:
            found = self._kept(name)
            if found is None or found.state != "running" or self._lives.life(name).current == found.old:
                return
            running = self._running.pop(name, None)
            if running is not None:
                running[1].stop()
                found = self._kept(name) or found
            if found.state == "running":
                self._keep(name, found.old, found.new, found.wanted, _counts(found), "ended")

    def resume(self) -> None:
        """Goes on with shadows that were under way when the process ended; one that may not run any more is left as it is."""
        for row in self._db.rows(SQL["shadow_names"]):
            name = row["name"]
            try:
                self.settle(name)
                found = self._kept(name)
                if found is not None and found.state == "running":
                    self.begin(name, ShadowOrder(to=found.new, requests=found.wanted))
            except IsthmusError:
                continue

    def stop(self) -> None:
        """Ends all; they go on at the next start."""
        with self._lock:
            for _, shadow in self._running.values():
                shadow.stop()
            self._running.clear()
