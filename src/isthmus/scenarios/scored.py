"""What owners' records added, as a run tells it: in the closing table, in `--json` and in the report."""

from __future__ import annotations

import msgspec

from isthmus.contracts.contribution import Contribution
from isthmus.contracts.ports import Json
from isthmus.kit.texts import Texts
from isthmus.scenarios.trial_words import percent

MILLION = 1_000_000


def contribution_of(result: Json | None) -> Contribution | None:
    """The document of a run whose owners were scored."""
    told = (result or {}).get("contribution")
    return None if told is None else msgspec.convert(told["document"], Contribution)


def contribution_figures(result: Json | None) -> Json | None:
    """value: by how much the Brier score fell. share: of the owners' part of each charge. interval: of the share, null where unknown."""
    found = contribution_of(result)
    if found is None:
        return None
    shares = {
        one.party: {
            "value": one.value_micros / MILLION,
            "error": one.error_micros / MILLION,
            "share": one.weight_ppm / MILLION,
            "interval": None if one.low_ppm is None or one.high_ppm is None else [one.low_ppm / MILLION, one.high_ppm / MILLION],
        }
        for one in found.shares
    }
    prior = found.prior_loss / found.records / 2**24
    return {
        "method": found.method,
        "coalitions": int(found.masks.shape[0]),
        "records": found.records,
        "brier_base": prior,
        "by_rows": found.by_rows,
        "owners": shares,
    }


def contribution_words(result: Json | None, names: dict[str, str], say: Texts) -> str:
    """One sentence; empty where owners were not scored."""
    found = contribution_of(result)
    if found is None:
        return ""
    parts = []
    for one in found.shares:
        words = {"party": names.get(one.party, one.party), "share": percent(one.weight_ppm / MILLION)}
        if one.low_ppm is None or one.high_ppm is None:
            parts.append(say("contribution.part", **words))
        else:
            ends = {"low": percent(one.low_ppm / MILLION), "high": percent(one.high_ppm / MILLION)}
            parts.append(say("contribution.between", **words, **ends))
    confidence = percent(found.confidence_ppm / MILLION)
    kind = "contribution.rows" if found.by_rows else "contribution"
    return say(kind, list=" · ".join(parts), coalitions=f"{found.masks.shape[0]:,}", confidence=confidence)
