"""Offers of compute, what a request needs, and where it was placed or why not."""

from __future__ import annotations

from typing import Literal

import msgspec

from isthmus.contracts.price import Price, Usage

Tier = Literal["T1", "T2", "T3"]
Rule = Literal["certificate", "tier", "residency", "capability", "price", "health", "capacity"]
TIERS: dict[str, int] = {"T1": 1, "T2": 2, "T3": 3}


class Offer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Compute on sale.

    engine: onnxruntime, llama.cpp, ... accelerator: cpu, or the chip's name. region: where it stands (`de-fra`).
    residency: jurisdictions that data does not leave when it is served here (`de`, `eu`). capabilities: what it speaks
    (`oip-v2`, `openai-chat`, `binary-tensors`). artefacts: digests of the model versions that it has loaded.
    requests_max: how many at once. energy price in micro-units of the price's currency, carbon in grams.
    """

    id: str
    party: str
    engine: str
    accelerator: str
    region: str
    residency: tuple[str, ...]
    capabilities: tuple[str, ...]
    artefacts: tuple[str, ...]
    price_id: str
    requests_max: int
    energy_kwh_micros: int = 0
    carbon_kwh_grams: int = 0


class CertificateFact(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What placement needs to know of a certificate: whose artefact, up to which tier, until when, and if it still counts."""

    digest: str
    artefact_digest: str
    tier: Tier
    expires_at_s: int
    revoked: bool = False


class Candidate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An offer with its standing now. price: the version in effect, None when unknown. requests_open: being served."""

    offer: Offer
    price: Price | None
    certificate: CertificateFact | None
    healthy: bool
    requests_open: int = 0


class PlacementRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a request needs. residency: jurisdictions, each of which an offer must keep; empty: any.

    worst_case: what it may use at most. charge_micros_max: dearest allowed worst case in `currency`; None: any.
    """

    artefact_digest: str
    tier: Tier
    currency: str
    worst_case: Usage
    residency: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    charge_micros_max: int | None = None


class OfferRefusal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The first rule that ruled an offer out, and why."""

    offer: str
    rule: Rule
    reason: str


class Placement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The chosen offer, what the request costs there at worst, and why the others were not taken."""

    offer: str
    party: str
    price_id: str
    charge_micros: int
    certificate_digest: str
    refused: tuple[OfferRefusal, ...]
    dearer: tuple[str, ...]


class NoPlacement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """No offer may serve the request; for each, the rule that refused it."""

    refused: tuple[OfferRefusal, ...]
