"""Each owner's own sums, where its agreement lets them be seen singly: one job with a roster of one an owner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from isthmus.app.workshop import Workshop, finished_job
from isthmus.contracts.head import Stage
from isthmus.contracts.job import JobRequest
from isthmus.contracts.statistic import MOMENTS, TrainingParams
from isthmus.contracts.sums import Moments, moments_from

OWNER_SUMS = "/owner-sums"


def owner_moments(
    shop: Workshop,
    run_id: str,
    scenario: str,
    purpose: str,
    stage: Stage,
    training: TrainingParams | dict[str, Any],
    owners: Sequence[str],
    left: Sequence[str] = (),
) -> dict[str, Moments]:
    """party -> moments of its training records, as `moments/1` of the run has them for all together.

    run_id: of the run that they belong to; the same again finds the same jobs. scenario: `id@version`, for the owners' logs. training: how
    records enter. owners: all of the run; each is asked alone, and shown the others' agreements, because their sums may be seen singly too.
    left: owners who have left since earlier sums. All jobs are asked for before the first is waited for. Raises JobRefusedError (by clause:
    visibility in aggregate asks for more owners, a small owner has too many features), JobFailedError.
    """
    params = msgspec.to_builtins(training)
    requests = {
        party: JobRequest(
            run_id=run_id + OWNER_SUMS,
            round=1,
            purpose=purpose,
            scenario=scenario,
            statistic=MOMENTS,
            stage=stage,
            params=params,
            roster=(party,),
            ttl_s=shop.job_ttl_s,
            seen_singly=shop.jobs.singly([other for other in (*owners, *left) if other != party], purpose),
        )
        for party in sorted(owners)
    }
    for request in requests.values():
        shop.jobs.create(request)
    found: dict[str, Moments] = {}
    for party, request in requests.items():
        total = finished_job(shop, request).total
        assert total is not None
        found[party] = moments_from(total.array().astype(np.int64), stage.dimension)
    return found
