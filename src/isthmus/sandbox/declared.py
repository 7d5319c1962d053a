"""The clauses about what becomes of a result: what the exchange signs in a job's `terms`, held against the owner's agreement.

A node cannot see what an exchange does with a sum. It can refuse to answer one that does not put its name to keeping the terms; what was
signed then stands in the owner's log of jobs as evidence. Pure: no I/O.
"""

from __future__ import annotations

from isthmus.contracts.agreement import ANYWHERE, OUTPUTS, Agreement
from isthmus.contracts.job import Job
from isthmus.sandbox.refusal import refuse_if
from isthmus.sandbox.statistics.registry import Statistic

PPM = 1_000_000


def check_declared(agreement: Agreement, statistic: Statistic, job: Job) -> None:
    """Jurisdictions, outputs, the owners' share and deletion, in turn. Where the agreement restricts, silence is refused too.
    Raises RefusedError."""
    terms = job.terms
    places = ", ".join(agreement.sums_to)
    refuse_if(
        ANYWHERE not in agreement.sums_to and terms.jurisdiction not in agreement.sums_to,
        "jurisdiction",
        f"sums may go to {places} only, and the exchange {_said(terms.jurisdiction, 'stands in')}",
        "use an exchange there, and set its `jurisdiction`",
    )
    outside = sorted(set(terms.models_to) - set(agreement.models_to))
    refuse_if(
        ANYWHERE not in agreement.models_to and (bool(outside) or not terms.models_to),
        "models",
        f"models may serve in {', '.join(agreement.models_to)} only, and the job {_said(', '.join(outside), 'names')}",
        "name where they serve: serve.residency in scenario.yaml, or the exchange's `jurisdiction`",
    )
    _check_output(agreement, statistic, job)
    least, share = agreement.owners_share_ppm_min, terms.owners_share_ppm
    refuse_if(
        least > 0 and (share is None or not least <= share <= PPM),
        "owners-share",
        f"the owners' share must be at least {least} ppm of each charge, and the job {_said('' if share is None else str(share), 'names')}",
        "raise serve.owners_ppm in scenario.yaml",
    )
    days, said = agreement.deletion_days, terms.deletion_days
    refuse_if(
        days is not None and (said is None or not 0 <= said <= days),
        "deletion",
        f"sums must be deleted within {days} days of the agreement's end, and the job {_said('' if said is None else str(said), 'names')}",
        "lower the exchange's `deletion_days`",
    )


def _check_output(agreement: Agreement, statistic: Statistic, job: Job) -> None:
    wanted = job.terms.output
    refuse_if(
        wanted is not None and wanted != statistic.output,
        "output",
        f"the job says that {statistic.name} is for {wanted}, and it is for {statistic.output}",
        "say what it is for",
    )
    refuse_if(
        set(agreement.outputs) != set(OUTPUTS) and wanted not in agreement.outputs,
        "output",
        f"the agreement allows {', '.join(agreement.outputs)} to be made, and the job {_said(wanted or '', 'is for')}",
        "ask the owner for an agreement that does",
    )


def _said(value: str, verb: str) -> str:
    return f"{verb} {value}" if value else "does not say"
