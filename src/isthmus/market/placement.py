"""Where a request goes: a hard policy filter, then the cheapest. Pure: the same offers, request and time, the same answer."""

from __future__ import annotations

from collections.abc import Iterable

from isthmus.contracts.errors import AmountError
from isthmus.contracts.offer import TIERS, Candidate, NoPlacement, OfferRefusal, Placement, PlacementRequest, Rule


def refusal(candidate: Candidate, request: PlacementRequest, now_s: float) -> OfferRefusal | None:
    """The first rule that rules this offer out, in the order certificate, tier, residency, capability, price, health, capacity."""
    found = _certificate_rule(candidate, request, now_s) or _offer_rule(candidate, request) or _price_rule(candidate, request, now_s)
    if found is None and not candidate.healthy:
        found = "health", "it does not answer its health check"
    if found is None and candidate.requests_open >= candidate.offer.requests_max:
        found = "capacity", f"it serves {candidate.requests_open} requests, its most"
    return None if found is None else OfferRefusal(offer=candidate.offer.id, rule=found[0], reason=found[1])


def _certificate_rule(candidate: Candidate, request: PlacementRequest, now_s: float) -> tuple[Rule, str] | None:
    fact = candidate.certificate
    if fact is None:
        return "certificate", "the model version has no certificate"
    if fact.artefact_digest != request.artefact_digest:
        return "certificate", "the certificate names another artefact"
    if fact.revoked:
        return "certificate", "the certificate was revoked"
    if fact.expires_at_s <= now_s:
        return "certificate", "the certificate has expired"
    if TIERS[fact.tier] < TIERS[request.tier]:
        return "tier", f"it is certified for {fact.tier}, and the request needs {request.tier}"
    return None


def _offer_rule(candidate: Candidate, request: PlacementRequest) -> tuple[Rule, str] | None:
    outside = sorted(set(request.residency) - set(candidate.offer.residency))
    if outside:
        return "residency", f"it does not keep data in {', '.join(outside)}"
    if request.artefact_digest not in candidate.offer.artefacts:
        return "capability", "it has not loaded this model version"
    lacking = sorted(set(request.capabilities) - set(candidate.offer.capabilities))
    if lacking:
        return "capability", f"it lacks {', '.join(lacking)}"
    return None


def _price_rule(candidate: Candidate, request: PlacementRequest, now_s: float) -> tuple[Rule, str] | None:
    price = candidate.price
    if price is None or price.id != candidate.offer.price_id:
        return "price", f"its price {candidate.offer.price_id} is unknown"
    if price.effective_at_s > now_s:
        return "price", f"its price {price.id} is not in effect yet"
    if price.currency != request.currency:
        return "price", f"it charges {price.currency}, and the request pays {request.currency}"
    try:
        charge = price.charge_micros(request.worst_case)
    except AmountError as error:
        return "price", error.message
    if request.charge_micros_max is not None and charge > request.charge_micros_max:
        return "price", f"it costs up to {charge} micro-{price.currency}, more than {request.charge_micros_max}"
    return None


def place(candidates: Iterable[Candidate], request: PlacementRequest, now_s: float) -> Placement | NoPlacement:
    """The cheapest offer that every rule allows; equal charges go to less carbon, then fewer open requests for its size,
    then the smaller id. The order in which candidates are given does not matter."""
    refused: list[OfferRefusal] = []
    allowed: list[tuple[tuple[int, int, int, str], Candidate]] = []
    for candidate in candidates:
        why = refusal(candidate, request, now_s)
        if why is not None:
            refused.append(why)
        elif candidate.price is not None:
            offer = candidate.offer
            load_ppm = candidate.requests_open * 1_000_000 // offer.requests_max
            charge = candidate.price.charge_micros(request.worst_case)
            allowed.append(((charge, offer.carbon_kwh_grams, load_ppm, offer.id), candidate))
    why_not = tuple(sorted(refused, key=lambda each: each.offer))
    if not allowed:
        return NoPlacement(refused=why_not)
    ranked = sorted(allowed, key=lambda pair: pair[0])
    rank, best = ranked[0]
    return Placement(
        offer=best.offer.id,
        party=best.offer.party,
        price_id=best.offer.price_id,
        charge_micros=rank[0],
        certificate_digest=best.certificate.digest if best.certificate else "",
        refused=why_not,
        dearer=tuple(pair[1].offer.id for pair in ranked[1:]),
    )
