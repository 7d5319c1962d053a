"""The ladder of promises that a site is judged by: the scenario's own, at the conditions that are measured at a site."""

from __future__ import annotations

import msgspec

from isthmus.assurance.bars import checked_bars
from isthmus.contracts.bars import Bars, bar_fields
from isthmus.contracts.scenario import Scenario


def site_ladder(scenario: Scenario) -> list[Bars]:
    """One set of bars a promise, the easiest first. Families and severities are those of `replicate`, where it names any.

    Raises InputError when they could not be judged, as when robustness is asked for a condition that is not measured.
    """
    certify, at_site = scenario.certify, scenario.replicate
    fields = bar_fields(certify)
    fields |= {
        "scenario": scenario.id,
        "tier": scenario.tier,
        "families": certify.families if at_site.families is None else at_site.families,
        "severities": certify.severities if at_site.severities is None else at_site.severities,
    }
    return [checked_bars(msgspec.convert({**fields, "error_ppm_max": ppm}, Bars)) for ppm in certify.promises_ppm]


def conditions_note(scenario: Scenario, bars: Bars) -> str:
    """What the certificate says of conditions that were measured for the fleet and not at the site; empty when all were."""
    fleet = len(scenario.certify.families) * len(scenario.certify.severities)
    here = len(bars.families) * len(bars.severities)
    if here >= fleet:
        return ""
    names = ", ".join(f"{family} {severity}" for family in bars.families for severity in bars.severities) or "none"
    return f"measured at the site under {here} of the fleet's {fleet} conditions: {names}; what holds under the others is not known here"
