"""A hundred-site roll-out by the product's own functions: who gets a promise, and whose promise is broken. Part of bench/replicate.py.

At each site of bench/rollout_sites.py FIT labels are fitted on and PROOF are kept for proof; thresholds come from the site's left-out
scores, with the fleet's where the exchangeability test trusts them; the promises are tried in sequence by `judge`. Then the truth: the
errors among answered of all cells of that site that nobody has used.

What counts as broken. The rest is finite: 70 to 350 cells, of which 30 to 180 are answered, so its error rate has a spread of its own, 2
to 4 points. The raw count compares it as it is with the promised rate, and counts a promise as broken also where only that spread is to
blame; it is the one that the bar is about. Beside it: over the whole stock (proof and rest), which is what was drawn from; those whose rest
proves the break at 95 % by itself; and the same for the bound that the certificate states, which is sharper than the rate promised.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from elpv import bars_for
from numpy.typing import NDArray
from rollout_sites import FIT, PROOF, SITES, SiteCells, half_of, image_s
from solar_cells import VIEWS, Cells, area, bar, fit, stacked

from isthmus.assurance.bars import judge
from isthmus.assurance.bounds import clopper_pearson_lower, korn_graubard_bounds
from isthmus.assurance.evidence import Evidence
from isthmus.assurance.exchangeability import exchangeability
from isthmus.contracts.bars import PPM, Bars
from isthmus.contracts.scenario import Scenario
from isthmus.contracts.sums import Moments
from isthmus.foundry.foldout import ThresholdPlan, choose_thresholds, moments_of, smoothed
from isthmus.foundry.site import LocalRows, SiteFits, combine
from isthmus.kit.hatmatrix import design
from isthmus.sandbox.statistics.evaluation import evaluation, linear_scores
from isthmus.sandbox.statistics.foldout import score_histogram, verdicts
from isthmus.sandbox.statistics.records import Records

PROMISED_MIN, BROKEN_MAX = 60, 9
SECONDS = 900.0
CORES = 2
Ints = NDArray[np.int64]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Fleet:
    """What a fleet hands on. histogram: its fold-out scores."""

    total: Moments
    penalty: float
    histogram: Ints


@dataclass(frozen=True)
class Carried:
    """One site, ended. promise: the strictest rate that was proven, in ppm; 0 without. bound: as certified. proof, rest: (answered,
    errors). auc: of the fleet's head and of the site's, on the rest. why: the first bar that failed at the easiest promise."""

    promise: int
    bound: float
    proof: tuple[int, int]
    rest: tuple[int, int]
    rest_records: int
    trusted: bool
    auc: tuple[float, float]
    why: str


@dataclass(frozen=True)
class Way:
    """One way to do it. labels: to fit on and to prove with. basis of thresholds: `test`, as the product does; `site`, `raw` (not
    smoothed), `fleet` or `both`, whatever the test says. power: planned with; 0, the scenario's."""

    labels: tuple[int, int] = (FIT, PROOF)
    basis: str = "test"
    power: float = 0.0


SHIPPED = "as shipped"
WAYS: Mapping[str, Way] = {
    SHIPPED: Way(),
    "the site's scores, not smoothed": Way(basis="raw"),
    "the fleet's scores": Way(basis="fleet"),
    "site and fleet, test ignored": Way(basis="both"),
    "surest thresholds (power 0.999)": Way(power=0.999),
    "200 labels to prove": Way((FIT, 200)),
    "100 labels to prove": Way((FIT, 100)),
    "80 labels to fit": Way((80, PROOF)),
    "40 labels to fit": Way((40, PROOF)),
    "40 to fit, 60 to prove": Way((40, 60)),
}


def fleets(data: Cells, scenario: Scenario) -> list[Fleet]:
    """For each half of the modules, the fleet that learned from the other."""
    recipe, found = scenario.recipe, []
    for half in (0, 1):
        mask = half_of(data) != half
        rows, count = np.flatnonzero(mask), len(data.views)
        w, y, g = (np.tile(part[rows], count) for part in (data.w, data.y, data.groups))
        total = moments_of(stacked(data, rows, recipe.parts), w, y, g, records=len(rows))
        own = fit(data, mask, recipe.parts, data.groups, recipe.lambdas)
        found.append(Fleet(total, own.candidate.lam, own.histogram))
    return found


def planned(power: float, bars: Bars, records: int) -> ThresholdPlan:
    """As app/site.py plans."""
    confidence = bars.confidence_ppm / PPM
    return ThresholdPlan(
        bar=bars.error_ppm_max / PPM,
        records=records,
        groups=records,
        design_effect=1.0,
        bound=lambda errors, n, effect, groups: korn_graubard_bounds(errors, n, effect, groups, confidence),
        power=power,
        recall_min=bars.recall_ppm_min / PPM,
        specificity_min=bars.specificity_ppm_min / PPM,
    )


def site_fits(data: Cells, scenario: Scenario, fleet: Fleet, site: SiteCells, count: int) -> SiteFits:
    """The site's heads from its first `count` labels."""
    y, w, views = data.y[site.rows[:count]], data.w[site.rows[:count]], 1 + len(site.flips)
    q = np.concatenate([site.identity[:count], *(flip[:count] for flip in site.flips)])
    rows = LocalRows(q, np.tile(w, views), np.tile(y, views), np.tile(np.arange(count), views))
    return combine(fleet.total, rows, fleet.penalty, scenario.replicate.weightings, scenario.recipe.lambdas)


def carried(data: Cells, scenario: Scenario, fleet: Fleet, site: SiteCells, found: SiteFits, way: Way) -> Carried:
    """One site to its verdict, and then the truth."""
    (count, proof), y = way.labels, data.y[site.rows]
    own = score_histogram(found.combined.scores[:count], y[:count])
    test = exchangeability(fleet.histogram, score_histogram(found.fleet.scores[:count], y[:count]))
    few = smoothed(own)
    joined = {"raw": own, "site": few, "fleet": fleet.histogram, "both": few + fleet.histogram}
    histogram = joined[way.basis if way.basis != "test" else "both" if test.trusted else "site"]
    raw = found.combined.candidate.raw()
    score = linear_scores(site.identity, raw[1:], float(raw[0]))
    kept, rest = slice(FIT, FIT + proof), slice(FIT + PROOF, None)
    records = Records(y[kept], np.arange(proof), ())
    best, why = None, ""
    for ppm in scenario.certify.promises_ppm:
        bars = bars_for(scenario, ppm)
        cut = choose_thresholds(histogram, planned(way.power or scenario.certify.planning_power, bars, proof))
        clean = evaluation(records, score[kept], cut.lo, cut.hi, np.ones(proof, dtype=bool))
        verdict = judge(bars, Evidence(clean=clean, design_effect=1.0))
        if not verdict.passed:
            why = why or ("" if best else verdict.failures[0].split(" bound")[0].split(" share")[0])
            break
        best = (bars, cut, clean.counts, verdict.claims)
    z = design(site.identity[rest], found.fleet.candidate.mean, found.fleet.candidate.scale)
    auc = (area(y[rest], z @ found.fleet.candidate.coefficients), area(y[rest], score[rest]))
    if best is None:
        return Carried(0, 1.0, (0, 0), (0, 0), int(y[rest].size), test.trusted, auc, why)
    bars, cut, counts, claims = best
    said = verdicts(score[rest], cut.lo, cut.hi)
    truth = (int((said != 0).sum()), int(((said != 0) & (said != y[rest])).sum()))
    shown = (counts["answered"], counts["errors"])
    return Carried(bars.error_ppm_max, claims.error_bound_ppm / PPM, shown, truth, int(y[rest].size), test.trusted, auc, "")


def _rate(pair: tuple[int, int]) -> float:
    return pair[1] / pair[0] if pair[0] else 0.0


def summary(sites: Sequence[Carried], confidence: float) -> dict[str, Any]:
    """Counts over the sites of one way."""
    kept = [one for one in sites if one.promise]
    rate = {id(one): one.promise / PPM for one in kept}
    both = {id(one): (one.proof[0] + one.rest[0], one.proof[1] + one.rest[1]) for one in kept}
    proven = [one for one in kept if clopper_pearson_lower(one.rest[1], one.rest[0], confidence) > rate[id(one)]]
    return {
        "sites": len(sites),
        "promised": len(kept),
        "promised_at": {f"{ppm / 10_000:g} %": count for ppm, count in sorted(Counter(one.promise for one in kept).items())},
        "broken": sum(_rate(one.rest) > rate[id(one)] for one in kept),
        "broken_in_stock": sum(_rate(both[id(one)]) > rate[id(one)] for one in kept),
        "broken_for_sure": len(proven),
        "above_certified_bound": sum(_rate(one.rest) > one.bound for one in kept),
        "mean_rest_error": round(float(np.mean([_rate(one.rest) for one in kept])), 4) if kept else None,
        "mean_answered": round(float(np.mean([one.rest[0] / one.rest_records for one in kept])), 3) if kept else None,
        "trusted": sum(one.trusted for one in sites),
        "auc_fleet": round(float(np.mean([one.auc[0] for one in sites])), 4),
        "auc_site": round(float(np.mean([one.auc[1] for one in sites])), 4),
        "refused_by": dict(Counter(one.why for one in sites if not one.promise).most_common()),
    }


def rolled_out(data: Cells, scenario: Scenario, sites: Sequence[SiteCells], say: Say) -> dict[str, Any]:
    """The section `rollout` of the bench."""
    known, confidence = fleets(data, scenario), scenario.certify.confidence_ppm / PPM
    fitted: dict[tuple[int, int], SiteFits] = {}
    tried: dict[str, Any] = {}
    core_s: dict[str, float] = {}
    for name, way in WAYS.items():
        say(f"roll-out of {len(sites)} sites: {name}")
        began, found = time.process_time(), []
        for site in sites:
            fleet, key = known[site.spec.half], (site.spec.number, way.labels[0])
            if key not in fitted:
                fitted[key] = site_fits(data, scenario, fleet, site, way.labels[0])
            found.append(carried(data, scenario, fleet, site, fitted[key], way))
        core_s[name] = time.process_time() - began
        tried[name] = {"fit": way.labels[0], "proof": way.labels[1], **summary(found, confidence)}
    one_s = image_s(data, scenario.recipe.parts)
    pictures = len(sites) * (FIT * len(VIEWS) + PROOF)
    return {
        "ways": tried,
        "pictures": pictures,
        "picture_core_ms": round(one_s * 1000, 2),
        "decide_core_s": round(core_s[SHIPPED], 1),
        "wall_s_on_2_cores": round((pictures * one_s + core_s[SHIPPED]) / CORES, 1),
        "cells_of_a_site": [min(len(site.rows) for site in sites), max(len(site.rows) for site in sites)],
        "shared": "sites of one half share its 22 modules and their cells; each has a camera of its own",
    }


def rollout_bars(figures: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Of a hundred sites; of another number, in proportion."""
    shipped = figures["ways"][SHIPPED]
    scale = SITES / shipped["sites"]
    name = f"roll-out, {FIT} + {PROOF} labels a site"
    return [
        bar(f"{name}: sites with a promise, of 100", shipped["promised"] * scale, PROMISED_MIN, "sites"),
        bar(f"{name}: promises broken on the rest, of 100 sites", shipped["broken"] * scale, BROKEN_MAX, "sites", at_most=True),
        bar(f"{name}: 100 sites on 2 cores, features anew", figures["wall_s_on_2_cores"] * scale, SECONDS, "s", at_most=True),
    ]


def rollout_table(figures: Mapping[str, Any]) -> list[str]:
    """For people."""
    names = f"{'promised':>10}{'broken':>8}{'stock':>7}{'sure':>6}{'answered':>10}{'error':>8}"
    lines = [f"{'roll-out':34}{'fit':>5}{'proof':>7}{names}  refused by"]
    for name, row in figures["ways"].items():
        error = "–" if row["mean_rest_error"] is None else f"{row['mean_rest_error']:.1%}"
        answered = "–" if row["mean_answered"] is None else f"{row['mean_answered']:.0%}"
        counts = f"{row['promised']:>10}{row['broken']:>8}{row['broken_in_stock']:>7}{row['broken_for_sure']:>6}"
        why = ", ".join(f"{cause} {count}" for cause, count in row["refused_by"].items())
        lines.append(f"{name:34}{row['fit']:>5}{row['proof']:>7}{counts}{answered:>10}{error:>8}  {why}")
    return lines
