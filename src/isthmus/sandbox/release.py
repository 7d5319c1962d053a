"""A noisy share on its way out: paid for in the owner's ledger, durably, before it exists anywhere else."""

from __future__ import annotations

from isthmus.contracts.agreement import Agreement
from isthmus.contracts.job import Job
from isthmus.kit.canonical import sha256_hex
from isthmus.sandbox.agreements import agreement_digest
from isthmus.sandbox.budget import PrivacyLedger, Release
from isthmus.sandbox.folder import DataFolder
from isthmus.sandbox.history import job_content
from isthmus.sandbox.privacy import Ints, check_noise, check_units, cost_nanos, noise_of, told_only
from isthmus.sandbox.statistics.registry import Params, Statistic
from isthmus.sandbox.statistics.sensitivity import Block, split_of
from isthmus.sandbox.voices import voices


def _release(agreement: Agreement, params: Params, job: Job, blocks: tuple[Block, ...], payload: str, now_s: float) -> Release:
    assert job.noise is not None
    heard = len(set(voices(agreement, job, now_s).values()))
    return Release(
        content=job_content(job),
        rho_nanos=cost_nanos(blocks, job.noise, heard),
        statistic=job.statistic,
        purpose=job.purpose,
        run_id=job.run_id,
        exchange=agreement.exchange,
        agreement=agreement_digest(agreement),
        asset=agreement.asset,
        at_s=int(now_s),
        payload=payload,
        part=split_of(params),
    )


def check_budget(
    agreement: Agreement, statistic: Statistic, params: Params, job: Job, ledger: PrivacyLedger, folder: DataFolder, now_s: float
) -> None:
    """Whether the job could be paid for now, before anything is computed. Raises RefusedError: `privacy-budget`, `privacy-unit`."""
    if agreement.privacy is None or job.noise is None:
        return
    check_units(agreement.privacy, folder)
    blocks = check_noise(agreement, statistic, params, job)
    ledger.check(agreement.owner, _release(agreement, params, job, blocks, "", now_s), agreement.privacy)


def noisy_share(
    agreement: Agreement, statistic: Statistic, params: Params, job: Job, share: Ints, ledger: PrivacyLedger, now_s: float
) -> Ints:
    """The share with this node's own noise: a new one that is now paid for, or the one that the same question was given before.

    The ledger's lineage is the owner: changed data is about the same people and machines. Raises RefusedError; see PrivacyLedger.paid.
    """
    assert job.noise is not None
    noise = job.noise
    blocks = check_noise(agreement, statistic, params, job)
    told = told_only(share, blocks, noise)
    payload = "sha256:" + sha256_hex(told.astype("<i8").tobytes())
    release = _release(agreement, params, job, blocks, payload, now_s)
    heard = len(set(voices(agreement, job, now_s).values()))
    return ledger.paid(agreement.owner, release, agreement.privacy, lambda: told + noise_of(blocks, noise, heard))
