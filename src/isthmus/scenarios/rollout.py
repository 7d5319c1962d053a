"""`isthmus replicate --all`: one certified run carried to many sites, some at a time, each with an outcome of its own.

A site that cannot be read, or whose node goes away in the middle, fails alone; the others go on. Every finished site is kept by the
exchange, so the same command again goes on where it was cut off, also after it was killed.
"""

from __future__ import annotations

import csv
import difflib
import io
import os
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from isthmus.client.http import ExchangeClient
from isthmus.contracts.build import RunView
from isthmus.contracts.errors import DocumentError, ExchangeStateError, InputError, IsthmusError, UnreachableError
from isthmus.contracts.ports import Clock, Json
from isthmus.kit.filelock import held
from isthmus.kit.ids import slug
from isthmus.sandbox.nodehome import LOCK_NAME
from isthmus.scenarios.local import LocalFleet, Tell, agree, wait_for_nodes
from isthmus.scenarios.located import read_yaml
from isthmus.scenarios.package import SiteValues, find_package, load_package, site_values
from isthmus.scenarios.replicate import (
    SiteSettings,
    certified_run,
    drawn,
    open_package,
    package_fields,
    plan_of,
    prepare_site,
    request_site,
    site_terms,
)

COLUMNS = ("site", "samples", "fit", "proof", "values")
NEEDED = 2
COUNTS = ("fit", "proof")
KNOB = "values."
"""A column of this beginning sets one knob of the package: values.price_micros."""
PARALLEL_MAX = 32
SHOWN = 3
SITES_MAX = 10_000
SETTLE_S, SETTLE_POLL_S = 60.0, 0.5


@dataclass(frozen=True, kw_only=True)
class SiteLine:
    """One line of the table. samples: a labelled folder, or a number of labels of the sample's line. fit, proof: as in SiteSettings.
    values: a file of this site's values; knobs: values of single knobs, which count instead of the file's."""

    line: int
    site: str
    samples: Path | int
    fit: int | None
    proof: int | None
    values: Path | None = None
    knobs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one site. result: the site's run, where it ended; error: code, message and next, where it failed. plan: the sample
    arithmetic from before, see replicate.plan_of."""

    site: str
    state: Literal["certified", "refused", "failed"]
    result: Json | None
    error: Json | None
    wall_s: float
    plan: Json | None = None


def read_sites(path: Path) -> tuple[SiteLine, ...]:
    """Reads a CSV with the columns site and samples, and perhaps fit, proof, values and values.KNOB; paths are relative to the file's own.

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
        if not _known(name) or names.count(name) > 1:
            close = difflib.get_close_matches(name, COLUMNS, 1)
            hint = f"did you mean {close[0]!r}?" if close and not _known(name) else f"use {', '.join(COLUMNS)} and {KNOB}NAME, each once"
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


def _known(name: str) -> bool:
    return name in COLUMNS or (name.startswith(KNOB) and len(name) > len(KNOB))


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
    for name in COUNTS:
        text = cells.get(name, "")
        if text and not (text.isascii() and text.isdigit()):
            raise DocumentError(f"{path}, line {number}: {name} is {text!r}", "give a whole number, or nothing")
        counts[name] = int(text) if text else None
    given: Path | int = int(samples) if samples.isascii() and samples.isdigit() else path.parent / samples
    values = path.parent / cells["values"] if cells.get("values") else None
    knobs = {name.removeprefix(KNOB): _value(path, number, name, text) for name, text in cells.items() if name.startswith(KNOB) and text}
    return SiteLine(line=number, site=site, samples=given, fit=counts["fit"], proof=counts["proof"], values=values, knobs=knobs)


def _value(path: Path, number: int, name: str, text: str) -> Any:
    """A cell as YAML reads it: a number, a word, true, or a list in brackets."""
    document, found = read_yaml(str(path), text.encode())
    if document is None or found or isinstance(document.value, dict):
        raise DocumentError(f"{path}, line {number}: {name} is {text!r}", "write one value: a number, a word, or a list in brackets")
    return document.value


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """What is carried where. values: of all sites, under what a site has of its own. parallel: sites at a time; 0 for one a core."""

    scenario: str
    sites: tuple[SiteLine, ...]
    state: Path
    seed: int
    clock: Clock
    values: Path | None = None
    parallel: int = 0


@dataclass
class _Way:
    """What all sites of a roll-out share, and which are under way. run, url, key: the fleet's run, the exchange's address and key."""

    wanted: Rollout
    operator: ExchangeClient
    fleet: LocalFleet
    run: RunView
    url: str
    key: str
    tell: Tell
    ended: int = 0
    at: dict[str, str] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def says(self, site: str, what: str | None) -> None:
        """One site's step; None once it has ended."""
        with self.lock:
            self.at.pop(site, None)
            if what is None:
                self.ended += 1
            else:
                self.at[site] = what
            named = [f"{name}: {step}" for name, step in list(self.at.items())[:SHOWN]]
            more = len(self.at) - len(named)
            self.tell("sites | " + ", ".join([*named, *([f"{more} more"] if more > 0 else [])]), self.ended, len(self.wanted.sites))


def parallel_default() -> int:
    """One site a core: a site's node computes on one."""
    return max(1, min(PARALLEL_MAX, os.cpu_count() or 1))


def rollout(wanted: Rollout, tell: Tell) -> Iterator[Outcome]:
    """Carries the latest certified run to the sites and tells each outcome as it is known.

    Raises IsthmusError for what concerns all sites: no scenario, no certified run, no exchange, too many at a time.
    """
    if not 0 <= wanted.parallel <= PARALLEL_MAX:
        raise InputError(f"{wanted.parallel} sites at a time are too many or too few", f"use 1 to {PARALLEL_MAX}")
    package = open_package(wanted.scenario, wanted.state, wanted.values)
    with LocalFleet(wanted.state / "logs") as fleet:
        url, key = fleet.start_exchange(wanted.state)
        token = (wanted.state / "exchange" / "operator.token").read_text(encoding="ascii").strip()
        with ExchangeClient(url, token) as operator:
            run = certified_run(operator.get("/v1/runs"), package)
            way = _Way(wanted, operator, fleet, run, url, key, tell)
            pool = ThreadPoolExecutor(wanted.parallel or parallel_default(), thread_name_prefix="site")
            try:
                for done in as_completed([pool.submit(_one, way, one) for one in wanted.sites]):
                    yield done.result()
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
                fleet.stop()  # what is still under way then finds no exchange, and ends
                pool.shutdown(wait=True)


def own_values(wanted: Rollout, one: SiteLine) -> SiteValues | None:
    """A site's values: its file's, else those of all, and single knobs over them. None when it has none of its own."""
    base = one.values or wanted.values
    if not one.knobs:
        return base
    return {**(site_values({}, base) if base is not None else {}), **one.knobs}


def _one(way: _Way, one: SiteLine) -> Outcome:
    """One site from its samples to its verdict."""
    began, wanted, plan = time.monotonic(), way.wanted, None
    way.says(one.site, "samples")
    try:
        values = own_values(wanted, one)
        package = load_package(find_package(wanted.scenario, wanted.state), values)
        settings = SiteSettings(
            scenario=wanted.scenario,
            state=wanted.state,
            site=one.site,
            samples=one.samples,
            fit=one.fit,
            proof=one.proof,
            seed=wanted.seed,
            clock=wanted.clock,
            values=values,
        )
        plan = plan_of(drawn(settings, package), package)
        _settled(wanted.state / "nodes" / one.site)
        site = prepare_site(settings, package)
        agree(site, way.key, {site.party: site.public_key}, site_terms(package.purpose, package.recipe.head), wanted.clock)
        way.fleet.start_node(site, way.url)
        try:
            wait_for_nodes(way.operator, way.fleet, {site.party})
            own = None if values is None else package
            told: Tell = lambda what, done, total: way.says(one.site, what.partition(": ")[2] or what)  # noqa: E731
            view = request_site(way.operator, way.fleet, way.run, site, told, own, **package_fields(settings))
        finally:
            way.fleet.end(site.party)
    except (UnreachableError, ExchangeStateError):
        raise
    except IsthmusError as error:
        way.says(one.site, None)
        return Outcome(site=one.site, state="failed", result=None, error=error.as_dict(), wall_s=_since(began), plan=plan)
    way.says(one.site, None)
    state: Literal["certified", "refused"] = "certified" if view.state == "certified" else "refused"
    return Outcome(site=one.site, state=state, result=view.result, error=None, wall_s=_since(began), plan=plan)


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
