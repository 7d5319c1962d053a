"""The report, figures and closing lines of a run whose model foretells numbers."""

from __future__ import annotations

import math

import msgspec

from isthmus.contracts import report as r
from isthmus.contracts.certificate import Claims, ValueClaim, ValueSlice
from isthmus.contracts.ports import Json
from isthmus.kit.texts import Texts
from isthmus.scenarios.facts import RunFacts
from isthmus.scenarios.findings import bars_of, claims_of, result_of, share
from isthmus.scenarios.trial_words import bound_percent, percent

MICROS = 1_000_000
FORECASTS_SHOWN = 400


def values_of_claims(claims: Claims | None) -> tuple[ValueClaim, ...]:
    """What is claimed of numbers; none of a run of verdicts."""
    return () if claims is None or isinstance(claims.values, msgspec.UnsetType) else claims.values


def value_rows(result: Json) -> tuple[r.ValueRow, ...]:
    """A row a number, then one for each of its slices."""
    claims, rows = claims_of(result), []
    goal = share(bars_of(result).error_ppm_max)
    for claim in values_of_claims(claims):
        assert claims is not None
        rows.append(_row(claim, claims, goal))
        rows += [_slice_row(claim, part) for part in claim.slices]
    return tuple(rows)


def _row(claim: ValueClaim, claims: Claims, goal: float) -> r.ValueRow:
    return r.ValueRow(
        name=claim.name,
        unit=claim.unit,
        records=claims.records,
        groups=claims.groups,
        miss_share=share(claim.miss_ppm),
        miss_bound=share(claim.miss_bound_ppm),
        goal=goal,
        naive=claim.naive,
        skill=share(claim.skill_ppm),
        skill_bound=share(claim.skill_bound_ppm),
        efficiency=share(claim.efficiency_ppm),
        rmse=claim.rmse_micros / MICROS,
        naive_rmse=claim.naive_rmse_micros / MICROS,
        width=share(claim.width_ppm),
    )


def _slice_row(claim: ValueClaim, part: ValueSlice) -> r.ValueRow:
    return r.ValueRow(
        name=claim.name,
        slice=part.name,
        unit=claim.unit,
        records=part.records,
        groups=part.groups,
        miss_share=share(part.miss_ppm),
        naive=claim.naive,
        skill=share(part.skill_ppm),
        efficiency=share(part.efficiency_ppm),
    )


def forecasts_shown(facts: RunFacts) -> tuple[r.ForecastShown, ...]:
    """Served forecasts beside their outcomes; only of sample data with a licence note, as no record of an owner is shown otherwise."""
    if facts.serving is None or not (facts.sample and facts.licence_note):
        return ()
    targets = facts.scenario.interface.foretold
    shown = [
        r.ForecastShown(name=target.name, unit=target.unit, record=one.path.name, value=value, low=low, high=high, outcome=outcome)
        for place, target in enumerate(targets)
        for one in facts.serving.served
        for (value, low, high), outcome in zip(one.foretold[place : place + 1], one.outcomes[place : place + 1], strict=False)
    ]
    return tuple(shown[:FORECASTS_SHOWN])


def value_bars(result: Json, say: Texts) -> tuple[r.BarRow, ...]:
    """Each promise's bar for the number that is worst in it, then the other bars of the promise that the figures are about."""
    rows = []
    for row in result.get("promises", ()):
        claims, goal = msgspec.convert(row["claims"], Claims), share(bars_of(row).error_ppm_max)
        bound = share(claims.error_bound_ppm)
        name = say("bar.band", goal=percent(goal))
        rows.append(r.BarRow(name=name, value=bound, goal=goal, compare="<=", holds=bound <= goal))
    bars, claims_found = bars_of(result), claims_of(result)
    if isinstance(bars.values, msgspec.UnsetType) or claims_found is None:
        return tuple(rows)
    least, most = bars.values.skill_ppm_min, bars.values.width_ppm_max
    for claim in values_of_claims(claims_found):
        name = say("bar.skill", name=claim.name, naive=claim.naive)
        holds = claim.skill_bound_ppm > least
        rows.append(r.BarRow(name=name, value=share(claim.skill_bound_ppm), goal=share(least), compare=">=", holds=holds))
        name = say("bar.width", name=claim.name)
        rows.append(r.BarRow(name=name, value=share(claim.width_ppm), goal=share(most), compare="<=", holds=claim.width_ppm <= most))
    groups = claims_found.groups
    return (*rows, r.BarRow(name="groups", value=groups, goal=bars.groups_min, compare=">=", holds=groups >= bars.groups_min))


def value_corruptions(result: Json) -> tuple[r.CorruptionRow, ...]:
    """Severity 0 is the clean record, once in each family; an error is an outcome beyond its band."""
    claims = claims_of(result)
    rows: list[r.CorruptionRow] = []
    for part in () if claims is None else claims.corruptions:
        assert claims is not None
        if part.family not in {row.family for row in rows}:
            rows.append(_corruption(part.family, 0, claims.errors, claims.error_bound_ppm, claims.records))
        rows.append(_corruption(part.family, part.severity, part.errors, part.error_bound_ppm, claims.records))
    return tuple(rows)


def _corruption(family: str, severity: int, misses: int, bound_ppm: int, records: int) -> r.CorruptionRow:
    missed = misses / records if records else None
    return r.CorruptionRow(family=family, severity=severity, answered_share=1.0, error_share=missed, error_bound=share(bound_ppm))


def value_figures(facts: RunFacts) -> Json:
    """For `--json`: promises and, for each number, what is claimed of it."""
    result = result_of(facts.fleet)
    if result is None:
        return {"foretold": None}
    bars = bars_of(result)
    return {
        "foretold": {
            "promised_miss": share(bars.error_ppm_max),
            "confidence": share(bars.confidence_ppm),
            "values": [
                {name: value for name, value in msgspec.to_builtins(row).items() if name not in ("slice", "goal") or value}
                for row in value_rows(result)
            ],
        }
    }


def value_headline(facts: RunFacts, say: Texts) -> str:
    """The one sentence of the run."""
    result = result_of(facts.fleet)
    claims = None if result is None else claims_of(result)
    if result is None or claims is None or not values_of_claims(claims):
        return say("headline.none")
    goal = share(bars_of(result).error_ppm_max)
    words = {
        "held": percent(1.0 - goal),
        "goal": percent(goal),
        "bound": bound_percent(share(claims.error_bound_ppm)),
        "confidence": percent(share(claims.confidence_ppm)),
        "count": len(values_of_claims(claims)),
    }
    return say("headline.band" if result["passed"] else "headline.band.refused", **words)


def value_lines(facts: RunFacts, say: Texts) -> list[tuple[str, ...]]:
    """Rows of the closing table: name and unit, beyond the band, skill, Nash-Sutcliffe, error and the naive one's, width; proven sides in
    brackets."""
    result = result_of(facts.fleet)
    lines: list[tuple[str, ...]] = []
    for row in () if result is None else value_rows(result):
        name = f"  {row.slice}" if row.slice else f"{row.name}, {row.unit}" if row.unit else row.name
        lines.append(
            (
                name,
                _beside(row.miss_share, "" if row.miss_bound is None else f"\u2264 {bound_percent(row.miss_bound)}", say),
                _beside(row.skill, "" if row.skill_bound is None else f"\u2265 {math.floor(100 * row.skill_bound)} %", say),
                say("unknown.short") if row.efficiency is None else f"{row.efficiency:.3f}",
                say("unknown.short") if row.rmse is None else f"{row.rmse:.3g} / {row.naive_rmse:.3g}",
                say("unknown.short") if row.width is None else percent(row.width),
            )
        )
    return lines


def _beside(measured: float | None, proven: str, say: Texts) -> str:
    """A measured share with its proven side."""
    shown = say("unknown.short") if measured is None else percent(measured)
    return f"{shown} ({proven})" if proven else shown
