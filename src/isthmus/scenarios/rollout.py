"""`isthmus replicate --all`: one certified run carried to many sites, each with an outcome of its own.

A site that cannot be read fails alone; the others go on. Where a site's run cannot end, because its node went away in the middle, the sites
behind it are not begun, and that is said. Every finished site is kept by the exchange, so the same
command again goes on where it was cut off.
"""

from __future__ import annotations

import csv
import difflib
import io
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from isthmus.client.http import ExchangeClient
from isthmus.contracts.build import RunView
from isthmus.contracts.errors import ConflictError, DocumentError, ExchangeStateError, IsthmusError, UnreachableError
from isthmus.contracts.ports import Clock, Json
from isthmus.contracts.scenario import Scenario
from isthmus.kit.filelock import held
from isthmus.kit.ids import slug
from isthmus.sandbox.nodehome import LOCK_NAME
from isthmus.scenarios.local import LocalFleet, Tell, agree, wait_for_nodes
from isthmus.scenarios.replicate import SiteSettings, certified_run, open_package, package_fields, prepare_site, request_site, site_terms

COLUMNS = ("site", "samples", "fit", "proof")
NEEDED = 2
SITES_MAX = 10_000
SETTLE_S, SETTLE_POLL_S = 60.0, 0.5


@dataclass(frozen=True, kw_only=True)
class SiteLine:
    """One line of the table. samples: a labelled folder, or a number of labels of the sample's line. fit, proof: as in SiteSettings."""

    line: int
    site: str
    samples: Path | int
    fit: int | None
    proof: int | None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one site. result: the site's run, where it ended; error: code, message and next, where it failed."""

    site: str
    state: Literal["certified", "refused", "failed"]
    result: Json | None
    error: Json | None
    wall_s: float


def read_sites(path: Path) -> tuple[SiteLine, ...]:
    """Reads a CSV with the columns site and samples, and perhaps fit and proof; folders are relative to the file's own.

    Raises DocumentError naming file and line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DocumentError(
            f"{path} cannot be read: {getattr(error, 'strerror', None) or error}",
            "give a CSV file in UTF-8 with the columns site and samples",
        ) from error
    rows = list(csv.reader(io.StringIO(text)))
    names = [name.strip() for name in rows[0]] if rows else []
    for name in names:
        if name not in COLUMNS or names.count(name) > 1:
            close = difflib.get_close_matches(name, COLUMNS, 1)
            hint = f"did you mean {close[0]!r}?" if close and name not in COLUMNS else f"use {', '.join(COLUMNS)}, each once"
            raise DocumentError(f"{path}, line 1: the column {name!r} is not known, or stands twice", hint)
    if not set(COLUMNS[:NEEDED]) <= set(names):
        raise DocumentError(f"{path}, line 1: there is no column {' or no column '.join(COLUMNS[:NEEDED])}", "begin with: site,samples")
    found: dict[str, SiteLine] = {}
    for number, row in enumerate(rows[1:], start=2):
        if any(cell.strip() for cell in row):
            one = _line(path, number, dict(zip(names, (cell.strip() for cell in row), strict=False)), len(row) - len(names))
            if one.site in found:
                raise DocumentError(
                    f"{path}, line {number}: {one.site} stands in line {found[one.site].line} already", "name each site once"
                )
            found[one.site] = one
    if not 0 < len(found) <= SITES_MAX:
        raise DocumentError(f"{path} names {len(found)} sites", f"name 1 to {SITES_MAX}")
    return tuple(found.values())


def _line(path: Path, number: int, cells: dict[str, str], more: int) -> SiteLine:
    if more > 0:
        raise DocumentError(f"{path}, line {number}: there are more cells than columns", "put a name with a comma into quotes")
    try:
        site = slug(cells.get("site", ""), "site")
    except IsthmusError as error:
        raise DocumentError(f"{path}, line {number}: {error.message}", error.next_step) from error
    samples = cells.get("samples", "")
    if not samples:
        raise DocumentError(f"{path}, line {number}: {site} has no samples", "give its labelled folder")
    counts: dict[str, int | None] = {}
    for name in COLUMNS[NEEDED:]:
        text = cells.get(name, "")
        if text and not (text.isascii() and text.isdigit()):
            raise DocumentError(f"{path}, line {number}: {name} is {text!r}", "give a whole number, or nothing")
        counts[name] = int(text) if text else None
    given: Path | int = int(samples) if samples.isascii() and samples.isdigit() else path.parent / samples
    return SiteLine(line=number, site=site, samples=given, fit=counts["fit"], proof=counts["proof"])


def rollout(
    scenario: str, sites: tuple[SiteLine, ...], state: Path, seed: int, clock: Clock, tell: Tell, values: Path | None = None
) -> Iterator[Outcome]:
    """Carries the latest certified run to each site in turn and tells each outcome as it is known. values: of all these sites.

    Raises IsthmusError for what concerns all sites: no scenario, no certified run, no exchange.
    """
    package = open_package(scenario, state, values)
    with LocalFleet(state / "logs") as fleet:
        url, key = fleet.start_exchange(state)
        token = (state / "exchange" / "operator.token").read_text(encoding="ascii").strip()
        with ExchangeClient(url, token) as operator:
            run = certified_run(operator.get("/v1/runs"), package)
            blocked = ""
            for place, one in enumerate(sites):
                tell(f"site {place + 1} of {len(sites)}: {one.site}", place, len(sites))
                settings = SiteSettings(
                    scenario=scenario,
                    state=state,
                    site=one.site,
                    samples=one.samples,
                    fit=one.fit,
                    proof=one.proof,
                    seed=seed,
                    clock=clock,
                    values=values,
                )
                if blocked:
                    waits = ConflictError(
                        f"not begun: the run of {blocked} is still under way at the exchange", f"mend {blocked}, then run again"
                    )
                    yield Outcome(site=one.site, state="failed", result=None, error=waits.as_dict(), wall_s=0.0)
                    continue
                outcome = _one(settings, package, operator, fleet, (run, url, key))
                if outcome.state == "failed" and any(known["state"] == "running" for known in operator.get("/v1/runs")):
                    blocked = one.site  # the exchange walks one run after the other, and this one waits for its node
                yield outcome


def _one(settings: SiteSettings, package: Scenario, operator: ExchangeClient, fleet: LocalFleet, up: tuple[RunView, str, str]) -> Outcome:
    """One site from its samples to its verdict. up: the fleet's run, the exchange's address and key."""
    (run, url, key), began = up, time.monotonic()
    try:
        _settled(settings.state / "nodes" / settings.site)
        site = prepare_site(settings, package)
        agree(site, key, {site.party: site.public_key}, site_terms(package.purpose), settings.clock)
        fleet.start_node(site, url)
        try:
            wait_for_nodes(operator, fleet, {site.party})
            own = None if settings.values is None else package
            view = request_site(operator, fleet, run, site, lambda what, done, total: None, own, **package_fields(settings))
        finally:
            fleet.end(site.party)
    except (UnreachableError, ExchangeStateError):
        raise
    except IsthmusError as error:
        return Outcome(site=settings.site, state="failed", result=None, error=error.as_dict(), wall_s=_since(began))
    state: Literal["certified", "refused"] = "certified" if view.state == "certified" else "refused"
    return Outcome(site=settings.site, state=state, result=view.result, error=None, wall_s=_since(began))


def _settled(node: Path) -> None:
    """Waits for a node that an earlier command left behind when it was killed: it ends by itself once it has finished its step."""
    deadline_s = time.monotonic() + SETTLE_S
    while node.is_dir() and time.monotonic() < deadline_s:
        with held(node / LOCK_NAME) as free:
            if free:
                return
        time.sleep(SETTLE_POLL_S)


def _since(began: float) -> float:
    return round(time.monotonic() - began, 2)
