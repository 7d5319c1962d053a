"""What a node is given from other rooms: extractors, the builder of artefacts, corruptions and the fit of a site's own head."""

from __future__ import annotations

from functools import cache

import msgspec
import numpy as np

from isthmus.assurance.corruptions import corrupt
from isthmus.assurance.record_corruptions import corrupt_rows
from isthmus.contracts.errors import InputError
from isthmus.contracts.head import Head, Stage
from isthmus.contracts.logistic import LogisticSums, logistic_sums_from, logistic_units
from isthmus.contracts.ports import SharedExtractor
from isthmus.contracts.statistic import SITE_HEADS, FleetCurve, SiteHeadParams, SiteHeads
from isthmus.contracts.sums import SCORE_BINS, Moments
from isthmus.foundry.engine import Forecaster, Scorer
from isthmus.foundry.export import artefact_digest, build_artefact
from isthmus.foundry.logisticsite import combine_logistic
from isthmus.foundry.ridge import head_from
from isthmus.foundry.site import LocalRows, combine, corrected
from isthmus.foundry.stages import checked_extractor
from isthmus.foundry.surfaces import spoilt
from isthmus.kit.canonical import canonical_bytes
from isthmus.sandbox.ports import Artefact, SiteRows, Tools
from isthmus.sandbox.statistics.foldout import score_histogram


def node_tools(threads: int = 1) -> Tools:
    """The real extractor, artefact builder and corruptions; each is made once a process."""

    @cache
    def extractor(digest: str, raw: bytes) -> SharedExtractor:
        return checked_extractor(msgspec.json.decode(raw, type=Stage), threads)

    def artefact(head: Head) -> Artefact:
        raw = build_artefact(head)
        if head.outputs:
            found = Forecaster(raw, threads)
            return Artefact(found.digest, lambda given: found.outputs(given)[:, 0, 0], found.outputs)
        return Artefact(artefact_digest(raw), Scorer(raw, threads).scores)

    return Tools(lambda stage: extractor(stage.digest, canonical_bytes(stage)), artefact, corrupt, site_heads, spoilt, corrupt_rows)


def site_heads(fleet: Moments, rows: SiteRows, stage: Stage, params: SiteHeadParams) -> SiteHeads:
    """foundry.site's three heads in the layout of site-head/1."""
    local = LocalRows(rows.q, rows.w, rows.y, rows.groups)
    grids = (params.fleet_penalty, params.factors, params.penalties)
    if params.head is not None:
        fits = corrected(fleet, local, params.head, *grids)
    elif params.logistic is not None:
        round_ = _fleet_round(params.logistic, fleet)
        fits = combine_logistic(fleet, round_, params.logistic.coefficients.array(), local, *grids)
    else:
        fits = combine(fleet, local, *grids)
    known = {"fleet": fits.fleet, "combined": fits.combined, "local": fits.local}
    d = stage.dimension
    heads, histograms = np.zeros((3, d + 1)), np.zeros((3, 2, SCORE_BINS), dtype=np.int64)
    factors, penalties, losses = np.zeros(3), np.zeros(3), np.zeros(3)
    for index, name in enumerate(SITE_HEADS):
        found = known[name]
        if found is None:
            continue
        head = head_from(found.candidate, stage, 0.0, 0.0)
        heads[index] = np.concatenate([[head.bias], head.coefficients.array()])
        factors[index] = found.factor if np.isfinite(found.factor) else -1.0
        penalties[index], losses[index] = found.candidate.lam, found.loss
        histograms[index] = score_histogram(found.scores[: rows.records], rows.y[: rows.records])
    exists = np.array([known[name] is not None for name in SITE_HEADS])
    return SiteHeads(SITE_HEADS.index("combined"), exists, factors, penalties, losses, heads, histograms)


def _fleet_round(curve: FleetCurve, fleet: Moments) -> LogisticSums:
    """Raises InputError when it is no round of that fleet."""
    try:
        return logistic_sums_from(curve.sums.array().astype(np.int64), fleet.dimension, logistic_units(fleet.sum_w))
    except ValueError as error:
        raise InputError(f"the fleet's round does not fit its moments: {error}", "send both of one run") from error
