"""The one JSON object of `isthmus run --json`. Every key is always there; what was not measured is null."""

from __future__ import annotations

from isthmus.contracts.build import RunView
from isthmus.contracts.ports import Json
from isthmus.contracts.statistic import JOINT
from isthmus.scenarios.facts import RunFacts
from isthmus.scenarios.findings import (
    SITE_MODELS,
    claims_of,
    entries_sum,
    finite,
    parties_of,
    promise_of,
    promises_of,
    receipts_of,
    result_of,
    share,
    split_of,
    visibility_of,
)
from isthmus.scenarios.scored import contribution_figures
from isthmus.scenarios.story_values import value_figures


def figures(facts: RunFacts) -> Json:
    """Shares, rates and AUCs as fractions of 1; amounts in micro-units; times in seconds.

    answered_share, answered_error_bound, error_goal: of the certified promise, or of the easiest one where none was proven
    (`certificate.issued` tells which). split: party -> its part of all receipts' charges.
    """
    given = facts.reference
    return dict(
        finite(
            {
                "scenario": facts.scenario.id,
                "sample": facts.sample,
                "auc": _auc(facts),
                "weights_max_rel_diff_to_pooled": None if given is None else given.weights_max_rel_diff,
                **_proof(facts),
                **(value_figures(facts) if facts.scenario.interface.foretold else {}),
                "calibration": _calibration(result_of(facts.fleet)),
                "bytes_left": {item.owner.party: item.bytes_left for item in parties_of(facts)} or None,
                "images_left": sum(item.images_left for item in parties_of(facts)) if facts.owners else None,
                "visibility": visibility_of(facts.owners, "contribution" in (result_of(facts.fleet) or {})),
                "membership_auc": None if given is None else given.membership_auc,
                "membership": None if given is None else dict(given.membership),
                "trees": (result_of(facts.fleet) or {}).get("trees"),
                "certificate": _certificate(result_of(facts.fleet)),
                "contribution": contribution_figures(result_of(facts.fleet)),
                **_service(facts),
                "site": _site(facts),
                "leave": _leave(facts),
                "runs": {name: None if view is None else view.id for name, view in _views(facts)},
                "wall_s": facts.wall_s,
            }
        )
    )


def _views(facts: RunFacts) -> tuple[tuple[str, RunView | None], ...]:
    return (("fleet", facts.fleet), ("site", facts.site), ("leave", facts.leave))


def _auc(facts: RunFacts) -> Json:
    found = (result_of(facts.fleet) or {}).get("auc", {})
    parties = [item.owner.party for item in facts.owners] or [name for name in found if name != JOINT]
    return {
        "joint": found.get(JOINT),
        "alone": {party: found.get(party) for party in parties},
        "pooled": None if facts.reference is None else facts.reference.auc_pooled,
    }


def _proof(facts: RunFacts) -> Json:
    result = result_of(facts.fleet)
    best = None if result is None else promise_of(result)
    return {
        "answered_share": None if best is None else best.answered_share,
        "answered_error_bound": None if best is None else best.error_bound,
        "error_goal": None if best is None else best.error_goal,
        "promises": None
        if result is None
        else [
            {
                "error_goal": promise.error_goal,
                "answered_share": promise.answered_share,
                "error_share": promise.error_share,
                "error_bound": promise.error_bound,
                "proven": promise.proven,
                "missing": list(promise.missing),
            }
            for promise in promises_of(result)
        ],
    }


def _calibration(result: Json | None) -> Json | None:
    """Of stated probabilities, where the head states any. brier, error: least and most that the bins allow. rounds: that were summed."""
    claims = None if result is None else claims_of(result)
    found = None if claims is None else claims.calibration
    if found is None or result is None:
        return None
    return {
        "brier": [share(found.brier_low_ppm), share(found.brier_high_ppm)],
        "brier_bound": share(found.brier_bound_ppm),
        "brier_base": share(found.brier_base_ppm),
        "error": [share(found.error_low_ppm), share(found.error_high_ppm)],
        "rounds": result["irls"]["rounds"],
    }


def _certificate(result: Json | None) -> Json:
    """digest: of the signed statement. reasons: why there is none."""
    if result is None:
        return {"digest": None, "issued": None, "reasons": None}
    given = result.get("certificate")
    return {
        "digest": None if given is None else given["digest"],
        "issued": given is not None,
        "reasons": list(result["failures"]) if given is None else [],
    }


def _service(facts: RunFacts) -> Json:
    serving = facts.serving
    if serving is None:
        return dict.fromkeys(("requests", "receipts", "charge_micros", "currency", "entries_sum_micros", "split"))
    receipts = receipts_of(facts)
    split: dict[str, int] = {}
    for (_, party), amount in split_of(receipts).items():
        split[party] = split.get(party, 0) + amount
    return {
        "requests": len(serving.served),
        "receipts": len(receipts),
        "charge_micros": sum(receipt.charge_micros for receipt in receipts),
        "currency": facts.scenario.serve.currency,
        "entries_sum_micros": entries_sum(serving.book),
        "split": split,
    }


def _site(facts: RunFacts) -> Json:
    result = result_of(facts.site) or {}
    candidates, found = result.get("candidates", {}), result.get("arithmetic", {})
    return {
        "name": result.get("site") or (None if facts.line is None else facts.line.owner.party),
        "best": result.get("best"),
        "auc": {name: candidates.get(name, {}).get("auc") for name in SITE_MODELS},
        "certificate": _certificate(result or None),
        "labels": {name: result.get(name) for name in ("fit", "proof", "audit")},
        "exchangeability": {name: result.get("exchangeability", {}).get(name) for name in ("statistic", "p", "level", "trusted")},
        "labels_needed": found.get("labels_needed"),
        "provable": found.get("provable"),
        "sentence": found.get("sentence"),
    }


def _leave(facts: RunFacts) -> Json:
    result = result_of(facts.leave)
    best = None if result is None else promise_of(result)
    refusal = facts.leave_refusal
    return {
        "party": facts.leaver,
        "auc": None if result is None else result["auc"].get(JOINT),
        "records": None if result is None else result["moments"]["records"],
        "dimension": None if result is None else result["stage"]["dimension"],
        "answered_share": None if best is None else best.answered_share,
        "error_bound": None if best is None else best.error_bound,
        "error_goal": None if best is None else best.error_goal,
        "refusal": None if refusal is None else dict(zip(("code", "message", "next"), refusal, strict=True)),
    }
