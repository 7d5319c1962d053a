"""Flood: daily discharge one to three days ahead, from windows of the past alone; bands, warnings, and what the events can prove.

Owners are the gauges' authorities (simulated: each gauge is one). Ours: a fleet's sums, and at each gauge the average of fleet and own
heads by its own fold-out loss (foundry.site). Test: each gauge's last five years, which choose nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from series_data import Gauge, catchments, event_codes, hydrological_year, lahn, warning_level, windows
from series_peers import peers

from isthmus.assurance.bounds import clopper_pearson_lower, needed_samples
from isthmus.assurance.conformal import Adaptive, ResidualBins, band, blocks_short
from isthmus.contracts.schema import Column, Schema
from isthmus.contracts.sums import Moments
from isthmus.contracts.targets import TARGET_MAX, Target, units_of, values_of
from isthmus.foundry.regression import OwnerRows, added, fit_owners, units
from isthmus.foundry.ridge import Candidate
from isthmus.foundry.seriesfeatures import SeriesExtractor
from isthmus.foundry.site import LocalRows, combine

LEADS = (1, 2, 3)
TEST_YEARS, YEAR = 5, 365
STEPS = 30
RECIPES = (
    ("last/4", "memory/4", "hinges/60"),
    ("last/3", "memory/3", "changes/2", "hinges/40"),
    ("last/3", "summary", "memory/3", "kernels/40"),
)
PEER_PARTS = ("last/7", "memory/5", "levels")
LAMBDAS = (0.0001, 0.001, 0.01, 0.1)
FACTORS = (1.0, 8.0, 64.0)
ALPHA = 0.1
CAUTIOUS_ALPHA = 0.4
EDGES_NATS = (-0.02, 0.1, 0.4)
"""Forecasts are parted by the change they foretell: falling, still, rising, rising fast; each part has a band of its own."""
NEW_GAUGE_DAYS = 365
RECALLS = {"T1": 0.80, "T2": 0.95, "T3": 0.99}
"""Recall of flood events that a tier asks for here, to be proven at 95 %."""
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Rows:
    """Every day of a gauge that has a window and an outcome. newest, outcome: mm a day. w: larger where the river is high, as errors there
    count most. train: outcome before the last five years."""

    gauge: Gauge
    q: dict[tuple[str, ...], NDArray[np.int16]]
    newest: Floats
    outcome: Floats
    w: NDArray[np.int64]
    years: NDArray[np.int64]
    train: Mask


def schema_of(gauges: list[Gauge]) -> Schema:
    """Ranges that any river of a temperate climate keeps to; the gauge's name is for the pooled peers."""
    columns = [
        Column(name="discharge", unit="mm/d", low=0.002, high=80.0, log=True),
        Column(name="discharge_linear", unit="mm/d", low=0.0, high=20.0),
        Column(name="rain", unit="mm", low=0.0, high=80.0),
        Column(name="temperature", unit="°C", low=-30.0, high=30.0, missing=True),
        Column(name="season_sine", low=-1.0, high=1.0),
        Column(name="season_cosine", low=-1.0, high=1.0),
        Column(name="gauge", kind="category", levels=tuple(gauge.name for gauge in gauges)),
    ]
    return Schema(columns=tuple(columns), steps=STEPS)


TARGET = Target(name="discharge_ahead", unit="mm/d", low=0.002, high=80.0, log=True, change_from="discharge")
UNITS_A_NAT = TARGET_MAX / float(np.log(TARGET.high / TARGET.low))
BINS = ResidualBins(limit=3.0 * UNITS_A_NAT, count=3000)


def features(gauges: list[Gauge]) -> list[dict[tuple[str, ...], NDArray[np.int16]]]:
    schema = schema_of(gauges)
    extractors = {parts: SeriesExtractor(schema, parts) for parts in (*RECIPES, PEER_PARTS)}
    found = []
    for place, gauge in enumerate(gauges):
        columns = [gauge.discharge, gauge.discharge, gauge.rain, gauge.temperature, gauge.season(), np.full(gauge.days, float(place))]
        seen = windows(np.column_stack(columns), STEPS)
        found.append({parts: extractor.quantised(seen) for parts, extractor in extractors.items()})
    return found


def rows_of(gauge: Gauge, q: dict[tuple[str, ...], NDArray[np.int16]], lead: int) -> Rows:
    ends = np.arange(STEPS - 1, gauge.days - lead)
    newest, outcome = gauge.discharge[ends], gauge.discharge[ends + lead]
    dates = gauge.dates()
    return Rows(
        gauge,
        {parts: value[: len(ends)] for parts, value in q.items()},
        newest,
        outcome,
        np.clip(np.rint(2.0 * newest), 1, 16).astype(np.int64),
        np.array([hydrological_year(dates[k]) for k in ends]),
        ends + lead < gauge.days - TEST_YEARS * YEAR,
    )


def owner_rows(rows: Rows, parts: tuple[str, ...], chosen: Mask | None = None) -> OwnerRows:
    m = rows.train if chosen is None else chosen
    return OwnerRows(rows.q[parts][m], rows.w[m], units_of(TARGET, rows.outcome[m], rows.newest[m]), rows.years[m])


def site_head(others: Moments, penalty: float, own: OwnerRows) -> tuple[Candidate, Floats]:
    """(the gauge's head, fold-out scores of its own training days)."""
    found = combine(others, LocalRows(own.q, own.w, own.y, own.groups, span=TARGET_MAX), penalty, FACTORS, LAMBDAS)
    return found.combined.candidate, found.combined.scores


def nash_sutcliffe(outcome: Floats, foretold: Floats) -> float:
    """1 less squared error over the outcomes' variance."""
    return float(1.0 - ((outcome - foretold) ** 2).sum() / ((outcome - outcome.mean()) ** 2).sum())


def root_error(outcome: Floats, foretold: Floats) -> float:
    return float(np.sqrt(np.mean((outcome - foretold) ** 2)))


@dataclass(frozen=True)
class Ours:
    """parts: chosen by fold-out loss. fleet: one head for all. heads: each gauge's own, with fold-out scores of its training days."""

    parts: tuple[str, ...]
    fleet: Candidate
    heads: list[tuple[Candidate, Floats]]


def fitted(data: list[Rows]) -> Ours:
    tried = []
    for parts in RECIPES:
        owners = [owner_rows(rows, parts) for rows in data]
        tried.append((fit_owners(owners, LAMBDAS), parts, owners))
    fleet, parts, owners = min(tried, key=lambda one: one[0].loss)
    sums = [own.moments() for own in owners]
    heads = []
    for place, own in enumerate(owners):
        others = added([one for k, one in enumerate(sums) if k != place])
        heads.append(site_head(others.moments, fleet.candidate.lam, own))
    return Ours(parts, fleet.candidate, heads)


def pooled(data: list[Rows], say: Say) -> tuple[str, list[Floats]]:
    """(which model, what it foretells for each gauge's test days). Settings are chosen on the four years before the test."""

    def stack(masks: list[Mask], step: int) -> tuple[Floats, Floats, Floats, Floats]:
        picked = [(rows, np.flatnonzero(mask)[::step]) for rows, mask in zip(data, masks, strict=True)]
        x = np.concatenate([rows.q[PEER_PARTS][k] for rows, k in picked]).astype(np.float64)
        return x, *(
            np.concatenate([getattr(rows, name)[k] for rows, k in picked]).astype(np.float64) for name in ("outcome", "newest", "w")
        )

    valid = [rows.train & (np.cumsum(rows.train) > rows.train.sum() - 4 * YEAR) for rows in data]
    fit_on = [rows.train & ~chosen for rows, chosen in zip(data, valid, strict=True)]
    x, y, now, w = stack(fit_on, 3)
    ways = {"change": (y - now, np.ones_like(w)), "weighted change of the logarithm": (np.log(y / now), w)}
    found = []
    for way, (target, weights) in ways.items():
        for peer in peers(small=False):
            say(f"flood: {peer.name} {peer.setting}, {way}")
            model = peer.fit(x, target, weights)
            scores = [nash_sutcliffe(rows.outcome[m], _undone(way, model, rows, m)) for rows, m in zip(data, valid, strict=True)]
            found.append((float(np.mean(scores)), way, peer))
    _, way, peer = max(found, key=lambda one: one[0])
    x, y, now, w = stack([rows.train for rows in data], 1)
    target, weights = (y - now, np.ones_like(w)) if way == "change" else (np.log(y / now), w)
    say(f"flood: fits {peer.name} {peer.setting}")
    model = peer.fit(x, target, weights)
    return f"{peer.name}, {peer.setting}, on the {way}", [_undone(way, model, rows, ~rows.train) for rows in data]


def _undone(way: str, model: Any, rows: Rows, chosen: Mask) -> Floats:
    foretold = model.predict(rows.q[PEER_PARTS][chosen].astype(np.float64))
    now = rows.newest[chosen]
    return np.asarray(np.maximum(now + foretold, 0.0) if way == "change" else now * np.exp(foretold))


# Bands.


def parted(scores: Floats) -> NDArray[np.int64]:
    """Which part each score belongs to."""
    return np.searchsorted(np.array(EDGES_NATS) * UNITS_A_NAT, scores, side="right")


def part_histograms(residuals: Floats, scores: Floats) -> list[NDArray[np.int64]]:
    """What a gauge would tell: a histogram of fold-out residuals for each part."""
    places = parted(scores)
    return [BINS.counted(residuals[places == part]) for part in range(len(EDGES_NATS) + 1)]


def banded(scores: Floats, histograms: list[NDArray[np.int64]], alpha: float) -> tuple[Floats, Floats]:
    """(low, high) in units, each (n,)."""
    bands = [band(histogram, BINS, alpha) for histogram in histograms]
    places = parted(scores)
    return scores + np.array([one.low for one in bands])[places], scores + np.array([one.high for one in bands])[places]


def adaptive_coverage(residuals: Floats, scores: Floats, histograms: list[NDArray[np.int64]], lead: int) -> float:
    """Share held by adaptive bands, each outcome known `lead` days after its forecast."""
    state, places, waiting, held = Adaptive.begin(ALPHA, 0.02), parted(scores), [], 0
    for residual, part in zip(residuals, places, strict=True):
        if len(waiting) >= lead:
            state = state.after(waiting.pop(0))
        found = state.band(histograms[part], BINS)
        inside = found is not None and bool(found.holds(np.array([residual]))[0])
        held += inside
        waiting.append(inside)
    return held / len(residuals)


# Warnings.


def warned(rows: Rows, high: Floats, level: float) -> dict[str, Any]:
    """Test days at or above the level: hits, misses, false alarms by day; and first days of events, which persistence never warns of."""
    test = ~rows.train
    outcome, newest = rows.outcome[test] >= level, rows.newest[test] >= level
    alarm = high >= level
    onset = outcome & ~newest
    return {
        "hits": int((alarm & outcome).sum()),
        "misses": int((~alarm & outcome).sum()),
        "false_alarms": int((alarm & ~outcome).sum()),
        "onset_hits": int((alarm & onset).sum()),
        "onsets": int(onset.sum()),
    }


def event_recall(floods: list[Mask], alarms: list[Mask]) -> tuple[int, int]:
    """(independent events of a basin, events of which no flooded gauge was warned for its first flooded day). floods, alarms: (days,) a
    gauge, over the same days."""
    codes = event_codes(np.any(floods, axis=0))
    events = [code for code in np.unique(codes) if code >= 0]
    missed = 0
    for code in events:
        firsts = [(k, int(np.argmax(flood & (codes == code)))) for k, flood in enumerate(floods) if bool((flood & (codes == code)).any())]
        missed += not any(alarms[k][day] for k, day in firsts)
    return len(events), missed


def proof(events: int, missed: int) -> dict[str, Any]:
    """What so many independent events prove, and the refusals."""
    bound = clopper_pearson_lower(events - missed, events, 0.95)
    refused = {}
    for tier, recall in RECALLS.items():
        if bound < recall:
            more = needed_samples(1.0 - recall, 0.95, missed) - events
            proven = f"{events} flood events with {missed} missed prove a recall of {bound:.1%}, not {recall:.0%}"
            refused[tier] = f"refused: {proven}; {more} more without a miss would"
    return {
        "events": events,
        "missed": missed,
        "recall_bound": round(bound, 4),
        "granted": next((tier for tier in ("T3", "T2", "T1") if tier not in refused), "none"),
        "refused": refused,
    }


# The measurement.


def gauge_figures(
    rows: Rows, head: tuple[Candidate, Floats], fleet: Candidate, parts: tuple[str, ...], peer: Floats, lead: int
) -> dict[str, Any]:
    """One gauge at one lead, over its last five years."""
    test = ~rows.train
    outcome, newest, q = rows.outcome[test], rows.newest[test], rows.q[parts][test]
    scores = units(head[0], q)
    own = owner_rows(rows, parts)
    histograms = part_histograms(own.y - head[1], head[1])
    low, high = banded(scores, histograms, ALPHA)
    told = units_of(TARGET, outcome, newest)
    foretold = {
        "ours": values_of(TARGET, scores, newest),
        "fleet": values_of(TARGET, units(fleet, q), newest),
        "persistence": newest,
        "pooled": peer,
    }
    inside = (told >= low) & (told <= high)
    rising = parted(scores) >= 2
    cautious, cautious_before = (banded(one, histograms, CAUTIOUS_ALPHA)[1] for one in (scores, head[1]))
    level, before = warning_level(rows.gauge), rows.newest[rows.train]
    return {
        "gauge": rows.gauge.name,
        "nash_sutcliffe": {name: round(nash_sutcliffe(outcome, value), 4) for name, value in foretold.items()},
        "error_mm": {name: round(root_error(outcome, value), 4) for name, value in foretold.items()},
        "error_over_pooled": round(root_error(outcome, foretold["ours"]) / root_error(outcome, peer), 4),
        "band_held": round(float(inside.mean()), 4),
        "band_held_rising": round(float(inside[rising].mean()), 4),
        "band_held_adaptive": round(adaptive_coverage(told - scores, scores, histograms, lead), 4),
        "band_high_over_low": round(float(np.median(np.exp((high - low) / UNITS_A_NAT))), 3),
        "blocks": len(np.unique(own.groups)),
        "blocks_short": blocks_short(len(np.unique(own.groups)), ALPHA),
        "warnings": {
            "likeliest": warned(rows, foretold["ours"], level),
            "cautious": warned(rows, values_of(TARGET, cautious, newest), level),
            "persistence": warned(rows, newest, level),
        },
        "_cautious": values_of(TARGET, cautious, newest) >= level,
        "_likeliest": foretold["ours"] >= level,
        "_cautious_before": values_of(TARGET, cautious_before, before) >= level,
        "_likeliest_before": values_of(TARGET, head[1], before) >= level,
    }


def new_gauge(data: list[Rows], parts: tuple[str, ...]) -> list[dict[str, Any]]:
    """Each gauge as if it joined with its first year: the others' fleet as it is, the year alone, and both."""
    found = []
    for place, rows in enumerate(data):
        others = fit_owners([owner_rows(one, parts) for k, one in enumerate(data) if k != place], LAMBDAS)
        first = np.arange(len(rows.w)) < NEW_GAUGE_DAYS
        own = owner_rows(rows, parts, first)
        own = OwnerRows(own.q, own.w, own.y, np.arange(len(own.w)) // 30)
        alone = fit_owners([own], LAMBDAS).candidate
        both, _ = site_head(others.total.moments, others.candidate.lam, own)
        test = ~rows.train
        value = {
            name: round(nash_sutcliffe(rows.outcome[test], values_of(TARGET, units(head, rows.q[parts][test]), rows.newest[test])), 4)
            for name, head in (("fleet", others.candidate), ("own_year", alone), ("both", both))
        }
        found.append({"gauge": rows.gauge.name, **value})
    return found


REGIONS: dict[str, Callable[[], list[Gauge]]] = {"Lahn": lahn, "Québec and Mississippi": catchments}


def proofs(data: list[Rows], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """By rule: what the independent events prove, in the last five years, and in all years (those before, each day foretold without its
    year; the other gauges' sums hold that year, which is a little kind). Gauges of one basin share events; distant ones add theirs up."""
    basin = len({one.gauge.begin for one in data}) == 1
    groups = [list(range(len(data)))] if basin else [[k] for k in range(len(data))]
    levels = [warning_level(one.gauge) for one in data]
    floods = {
        "last five years": [one.outcome[~one.train] >= level for one, level in zip(data, levels, strict=True)],
        "all years": [one.outcome >= level for one, level in zip(data, levels, strict=True)],
    }
    found = {}
    for rule in ("cautious", "likeliest"):
        later, before = ([row.pop(f"_{rule}{part}") for row in rows] for part in ("", "_before"))
        alarms = {"last five years": later, "all years": [np.concatenate(pair) for pair in zip(before, later, strict=True)]}
        for span, alarm in alarms.items():
            counted = [event_recall([floods[span][k] for k in g], [alarm[k] for k in g]) for g in groups]
            found[f"{rule}, {span}"] = proof(sum(one[0] for one in counted), sum(one[1] for one in counted))
    return found


def flood_lead(region: str, lead: int, say: Say) -> dict[str, Any]:
    """All gauges of a region, which share a roster, at one lead."""
    gauges = REGIONS[region]()
    say(f"flood: {region}, {lead} days ahead, ours")
    data = [rows_of(gauge, one, lead) for gauge, one in zip(gauges, features(gauges), strict=True)]
    ours = fitted(data)
    peer, foretold = pooled(data, say)
    rows = [
        gauge_figures(one, head, ours.fleet, ours.parts, theirs, lead) for one, head, theirs in zip(data, ours.heads, foretold, strict=True)
    ]
    models = ("ours", "fleet", "persistence", "pooled")
    return {
        "region": region,
        "lead_days": lead,
        "parts": list(ours.parts),
        "features": int(data[0].q[ours.parts].shape[1]),
        "pooled_model": peer,
        "nash_sutcliffe": {model: round(float(np.mean([row["nash_sutcliffe"][model] for row in rows])), 4) for model in models},
        "error_over_pooled": round(float(np.exp(np.mean([np.log(row["error_over_pooled"]) for row in rows]))), 4),
        "band_held": round(float(np.mean([row["band_held"] for row in rows])), 4),
        "band_held_adaptive": round(float(np.mean([row["band_held_adaptive"] for row in rows])), 4),
        "proof": proofs(data, rows),
        "gauges": rows,
        "new_gauge": new_gauge(data, ours.parts) if lead == 1 else [],
    }
