"""Scores the owners of a certified run: own sums -> a head a coalition -> losses on all owners' held-out records -> a signed split."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from isthmus.app.build import Build
from isthmus.app.ownersums import owner_moments
from isthmus.app.workshop import Workshop, finished_job
from isthmus.contracts.agreement import Agreement
from isthmus.contracts.bars import PPM
from isthmus.contracts.brier import BRIER, BUCKETS_MAX, HEAD_NUMBERS_MAX, HEADS_MAX, BrierParams, BrierSums, brier_dimension, brier_from
from isthmus.contracts.build import RunRequest
from isthmus.contracts.contribution import BOOTSTRAPS, CONTRIBUTION_FORMAT, CONTRIBUTION_TYPE, Contribution, ScoredOwner
from isthmus.contracts.errors import ConflictError, InputError
from isthmus.contracts.head import Array, Stage
from isthmus.contracts.job import JobRequest, JobStatus
from isthmus.contracts.ports import Json
from isthmus.contracts.scenario import Scenario
from isthmus.contracts.statistic import MOMENTS
from isthmus.contracts.sums import Moments
from isthmus.foundry.coalitions import CoalitionHeads, coalition_heads, summed
from isthmus.kit.canonical import sha256_hex
from isthmus.kit.signing import seal
from isthmus.sandbox.contribution import Game, game_of, seed_of, shares_of, split_of
from isthmus.sandbox.shapley import share_intervals, value_matrix

SCORED = "/contribution"
PARTS_MIN = 4
"""Parts of held-out records below which no interval is told."""
SEED_CHARS = 15
WAY_OUT = "use a head that is fitted on moments of features: ridge, logistic or trees"


def check_scorable(scenario: Scenario) -> None:
    """Raises InputError for a model whose owners cannot be scored: it has no ridge head on the same sums."""
    if scenario.recipe.head == "gaussian" or scenario.interface.output == "value" or scenario.interface.foretold:
        raise InputError(f"owners of {scenario.id} cannot be scored: its model has no head that gives probabilities", WAY_OUT)


class ContributionRound:
    """One run's scoring. terms: each owner's agreement. result: of the certified run."""

    def __init__(self, shop: Workshop, run_id: str, request: RunRequest, terms: Mapping[str, Agreement], result: Json) -> None:
        self._shop, self._run_id, self._request, self._terms, self._result = shop, run_id, request, terms, result
        self._scenario, self._purpose = request.scenario, Build.purpose_of(request)
        self._stage: Stage = msgspec.convert(result["stage"], Stage)
        self._name = f"{self._scenario.id}@{self._scenario.version}"

    def walk(self) -> Json:
        """{envelope, document, weights: party -> its weight}. Raises JobRefusedError when an owner refuses; ConflictError when the owners'
        own sums do not add up to what the run was fitted on."""
        roster = self._request.roster
        sums = owner_moments(
            self._shop, self._run_id, self._name, self._purpose, self._stage, self._scenario.recipe.training, roster, self._request.left
        )
        self._check_total(sums)
        owners = tuple(self._owner(party) for party in roster)
        room = min(HEADS_MAX, HEAD_NUMBERS_MAX // (self._stage.dimension + 1)) - 1
        game = game_of(len(roster), seed_of(self._run_id, owners), room)
        heads = coalition_heads([sums[party] for party in roster], game.masks, float(self._result["penalty"]))
        status, params = self._scored(heads, summed([sums[party] for party in roster]))
        assert status.total is not None
        found = brier_from(status.total.array().astype(np.int64), params)
        document = self._document(owners, game, heads, found, status.digest, params)
        envelope = seal(self._shop.key, CONTRIBUTION_TYPE, document)
        weights = {share.party: share.weight_ppm for share in document.shares}
        return {"envelope": msgspec.to_builtins(envelope), "document": msgspec.to_builtins(document), "weights": weights}

    def _check_total(self, sums: Mapping[str, Moments]) -> None:
        total = summed([sums[party] for party in sorted(sums)]).packed()
        digest = "sha256:" + sha256_hex(np.ascontiguousarray(total.astype("<i8")).tobytes())
        if digest not in self._result["sums"][MOMENTS]:
            raise ConflictError("the owners' own sums do not add up to those that the model was fitted on", "run the scenario again")

    def _owner(self, party: str) -> ScoredOwner:
        asset = self._shop.jobs.owner(party, self._purpose)
        return ScoredOwner(
            party=party,
            agreement=self._shop.jobs.agreement_digest(party, self._purpose),
            asset=self._terms[party].asset,
            commitment=asset.commitment,
            records_train=asset.records_train,
            records_holdout=asset.records_holdout,
        )

    def _scored(self, heads: CoalitionHeads, total: Moments) -> tuple[JobStatus, BrierParams]:
        """The losses of all heads on all owners' held-out records; the prior, as a head of its own, comes first."""
        prior = np.zeros((1, self._stage.dimension + 1))
        prior[0, 0] = total.sum_wy / total.sum_w
        rows = np.concatenate([prior, heads.rows])
        least = self._part_records(len(rows))
        params = BrierParams(heads=Array.of(rows), buckets=self._parts(least), bucket_records_min=least)
        request = JobRequest(
            run_id=self._run_id + SCORED,
            round=1,
            purpose=self._purpose,
            scenario=self._name,
            statistic=BRIER,
            stage=self._stage,
            params=msgspec.to_builtins(params),
            roster=self._request.roster,
            ttl_s=self._shop.job_ttl_s,
            seen_singly=self._shop.jobs.singly(self._request.left, self._purpose),
        )
        return finished_job(self._shop, request), params

    def _part_records(self, heads: int) -> int:
        """The fewest records of an owner in a part that every owner's terms allow."""
        dimension = brier_dimension(heads, self._stage.counted)
        return max(max(one.least_group_size, dimension * one.dimension_records_min_ratio) for one in self._terms.values())

    def _parts(self, least: int) -> int:
        """As many as half of the owners can fill, so that no owner is in many parts alone."""
        held_out = (self._shop.jobs.owner(party, self._purpose).records_holdout for party in self._request.roster)
        return max(PARTS_MIN, min(BUCKETS_MAX, sorted(count // least for count in held_out)[len(self._request.roster) // 2]))

    def _document(
        self, owners: tuple[ScoredOwner, ...], game: Game, heads: CoalitionHeads, found: BrierSums, job: str, params: BrierParams
    ) -> Contribution:
        confidence = self._scenario.certify.confidence_ppm / PPM
        known = np.concatenate([[True], heads.known])
        by_part = np.where(known, found.losses, found.losses[:, :1])  # a coalition of one class scores as the prior
        losses, records = by_part.sum(axis=0), int(found.records.sum())
        scored = dict(zip((0, *game.masks), (int(v) for v in losses), strict=True))
        split = split_of(game, scored, records, [one.records_train for one in owners], confidence)
        return Contribution(
            format=CONTRIBUTION_FORMAT,
            run=self._run_id,
            scenario=self._name,
            purpose=self._purpose,
            stage=self._stage.digest,
            penalty=float(self._result["penalty"]),
            owners=owners,
            method="exact" if game.orders is None else "drawn",
            permutations=0 if game.orders is None else len(game.orders),
            seed=game.seed,
            confidence_ppm=self._scenario.certify.confidence_ppm,
            records=records,
            parts=int((found.records > 0).sum()),
            prior_loss=int(losses[0]),
            masks=Array.of(np.array(game.masks, dtype=np.int64)),
            losses=Array.of(losses[1:]),
            heads_digest="sha256:" + sha256_hex(params.heads.data.encode()),
            job=job,
            shares=shares_of([one.party for one in owners], split, records, self._intervals(game, by_part, found.records, confidence)),
            by_rows=split.by_rows,
            at_s=int(self._shop.clock.now_s()),
        )

    def _intervals(self, game: Game, by_part: Any, records: Any, confidence: float) -> list[tuple[float, float]] | None:
        filled = by_part[records > 0]
        if len(filled) < PARTS_MIN:
            return None
        matrix = value_matrix(game.masks, game.owners, game.orders)
        return share_intervals(matrix, filled.astype(np.float64), BOOTSTRAPS, confidence, int(game.seed[-SEED_CHARS:], 16))


def site_weights(fleet: Json, records: Mapping[str, int], site: str, fit: int) -> dict[str, int]:
    """Weights of a site's model: the fleet's as scored, and the site's own labels by rows beside the fleet's rows. fleet: the result of
    the fleet's run, which may have no contribution; records: its training rows by owner."""
    scored = fleet.get("contribution")
    if scored is None:
        return {**records, site: fit}
    weights: dict[str, int] = scored["weights"]
    return {**weights, site: math.ceil(sum(weights.values()) * fit / max(1, sum(records.values())))}
