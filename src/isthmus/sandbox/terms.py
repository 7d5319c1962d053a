"""The terms of an agreement, and the check of a job against each of them. Pure: no I/O, no clock of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from isthmus.contracts.agreement import AGGREGATE_PARTICIPANTS_MIN, AGGREGATE_RATIO_MIN, ANY_STAGE, ANYWHERE, OUTPUTS, Agreement
from isthmus.contracts.asset import ASSET_TYPE, Asset
from isthmus.contracts.brier import BRIER
from isthmus.contracts.errors import AgreementError, IsthmusError, RefusedError
from isthmus.contracts.job import Job
from isthmus.contracts.question import QuestionParams
from isthmus.contracts.statistic import EvaluateParams, PairParams
from isthmus.contracts.treesums import HistogramsParams
from isthmus.kit.canonical import digest_of
from isthmus.kit.ids import is_slug
from isthmus.kit.signing import Envelope, key_id, unseal
from isthmus.sandbox.declared import PPM, check_declared
from isthmus.sandbox.history import PastJob, check_history
from isthmus.sandbox.overlap import UNPINNED, Roster
from isthmus.sandbox.privacy import check_noise, check_privacy, paid_for
from isthmus.sandbox.refusal import refuse_if
from isthmus.sandbox.statistics.registry import GOOD_SHARE_MIN, STATISTICS, Params, Statistic, parsed_params
from isthmus.sandbox.voices import voices

JOB_SECONDS_MAX = 7 * 24 * 3600
CLOCK_SKEW_S = 300
ROSTER_MAX = 256


def is_public_key(value: str) -> bool:
    """64 lower-case hex digits."""
    return len(value) == 64 and all(c in "0123456789abcdef" for c in value)


def check_agreement(agreement: Agreement) -> None:
    """Raises AgreementError when its terms contradict each other or cannot be kept."""
    single = agreement.visibility == "individual"
    unknown = [name for name in agreement.operations if name not in STATISTICS]
    keys = [agreement.exchange, *agreement.participants.values(), *agreement.issuers.values()]
    rules = (
        (
            agreement.contribution and not single,
            "asks for sums seen in aggregate only and for scoring each owner by its own sums",
            "drop one of the two",
        ),
        (bool(unknown), f"names operations that no node has: {', '.join(unknown)}", f"use {', '.join(STATISTICS)}"),
        (
            not agreement.purposes or not agreement.operations or not agreement.stages,
            "allows no purpose, operation or stage",
            "name at least one of each",
        ),
        (agreement.owner not in agreement.participants, "does not name its owner among the participants", "add the owner and its key"),
        (not all(is_public_key(k) for k in keys), "has a key that is not 64 lower-case hex digits", "use the Ed25519 public key"),
        (
            len(set(agreement.participants.values())) < len(agreement.participants),
            "gives two participants the same key",
            "one key, one party",
        ),
        (agreement.exchange in agreement.participants.values(), "lets the exchange's key be a participant's", "use another key"),
        (agreement.expires_at_s <= agreement.issued_at_s, "expires before it begins", "set a later expiry"),
        (agreement.runs_max < 1 or agreement.least_group_size < 1, "has a limit below 1", "use whole numbers from 1"),
        (
            agreement.dimension_records_min_ratio < 0 or agreement.overlap_owners_min < 1,
            "has a limit below its least value",
            "use its default",
        ),
        (agreement.least_participants < (1 if single else AGGREGATE_PARTICIPANTS_MIN), _FEW, f"use {AGGREGATE_PARTICIPANTS_MIN} or more"),
        (not single and agreement.dimension_records_min_ratio < AGGREGATE_RATIO_MIN, _RATIO, f"use {AGGREGATE_RATIO_MIN} or more"),
        (
            not single and agreement.overlap_owners_min < 2,
            "lets rosters differ by one owner, whose sums the difference would be",
            "use 2 or more",
        ),
    )
    for broken, what, next_step in (*rules, *_result_rules(agreement)):
        if broken:
            raise AgreementError(f"the agreement of {agreement.owner} {what}", next_step)
    check_privacy(agreement)


def _result_rules(agreement: Agreement) -> tuple[tuple[bool, str, str], ...]:
    """(broken, what, next step) of the terms about what becomes of a result."""
    places = (agreement.sums_to, agreement.models_to)
    return (
        (
            any(not named or (ANYWHERE in named and len(named) > 1) for named in places),
            "names no jurisdiction, or anywhere beside others",
            f"name jurisdictions, or {ANYWHERE} alone",
        ),
        (
            any(name != ANYWHERE and not is_slug(name) for named in places for name in named),
            "names a jurisdiction that is no slug",
            "write them as de, eu, us-ca",
        ),
        (not agreement.outputs, "allows no output", f"name at least one of {', '.join(OUTPUTS)}"),
        (
            any(len(set(named)) < len(named) for named in (*places, agreement.outputs, agreement.purposes, agreement.operations)),
            "names something twice",
            "name it once",
        ),
        (
            not all(is_public_key(k) for k in agreement.issuers.values()),
            "names an issuer whose key is not 64 lower-case hex digits",
            "use its Ed25519 public key",
        ),
        (not 0 <= agreement.owners_share_ppm_min <= PPM, "asks for a share beyond the whole", f"use 0 to {PPM} ppm"),
        ((agreement.deletion_days or 0) < 0, "asks for deletion in the past", "use 0 days or more"),
    )


_FEW = "is aggregate-only with so few participants that one could subtract its own share and see another's"
_RATIO = "is aggregate-only with too few records for each feature, so that who is in the sums would be plain"


def roster_digest(job: Job) -> str:
    """Digest of the roster with keys and assets."""
    return digest_of(job.roster)


def roster_assets(job: Job, participants: Mapping[str, str]) -> dict[str, tuple[str, Asset]]:
    """party -> (asset digest, asset), each signed by the key that the agreement pins. Raises RefusedError."""
    found: dict[str, tuple[str, Asset]] = {}
    for member in job.roster:
        pinned = participants[member.party]
        try:
            envelope = msgspec.convert(member.asset, Envelope)
            document = unseal(envelope, ASSET_TYPE, {key_id(pinned): pinned})
            asset = msgspec.convert(document, Asset)
        except (msgspec.ValidationError, IsthmusError) as error:
            raise RefusedError(
                "asset-signature", f"the asset of {member.party} is not signed by its own key", "send assets as they were signed"
            ) from error
        if asset.owner != member.party:
            raise RefusedError(
                "asset-signature", f"the asset given for {member.party} belongs to {asset.owner}", "send each owner's own asset"
            )
        if min(asset.records_train, asset.records_holdout, asset.groups_train, asset.groups_holdout) < 0:
            raise RefusedError("asset-signature", f"the asset of {member.party} has a negative count", "describe the asset anew")
        found[member.party] = (digest_of(document), asset)
    return found


def _check_request(agreement: Agreement, job: Job, now_s: float) -> None:
    """Clauses about what is asked, and when."""
    refuse_if(
        job.purpose not in agreement.purposes,
        "purpose",
        f"the agreement does not allow the purpose {job.purpose!r}",
        "ask the owner for an agreement that does",
    )
    refuse_if(
        job.statistic not in STATISTICS,
        "statistic",
        f"{job.statistic!r} is not a statistic that this node can compute",
        f"use {', '.join(STATISTICS)}",
    )
    refuse_if(
        job.statistic not in agreement.operations,
        "operation",
        f"the agreement does not allow {job.statistic}",
        "ask the owner for an agreement that does",
    )
    refuse_if(now_s >= agreement.expires_at_s, "expiry", "the agreement has expired", "ask the owner for a new one")
    refuse_if(now_s + CLOCK_SKEW_S < agreement.issued_at_s, "expiry", "the agreement has not begun", "wait, or set the clock")
    refuse_if(now_s >= job.expires_at_s, "job-expiry", "the job has expired", "ask for it anew")
    refuse_if(
        job.created_at_s > now_s + CLOCK_SKEW_S or job.expires_at_s - job.created_at_s > JOB_SECONDS_MAX,
        "job-expiry",
        "the job's times cannot be right",
        "set the clock",
    )


def _check_stages(agreement: Agreement, job: Job, params: Params) -> None:
    stages = [job.stage.digest]
    if isinstance(params, EvaluateParams):
        stages += [other.head.stage.digest for other in params.others]
    elif isinstance(params, PairParams):
        stages.append(params.old.stage.digest)
    wrong = [s for s in stages if ANY_STAGE not in agreement.stages and s not in agreement.stages]
    refuse_if(bool(wrong), "stage", f"the agreement does not allow features {', '.join(wrong)}", "use an allowed stage")
    refuse_if(not 1 <= job.stage.dimension <= 65536, "stage", f"a stage of {job.stage.dimension} features cannot be", "use a real one")


def _check_roster(agreement: Agreement, own_key: str, job: Job, now_s: float) -> dict[str, tuple[str, Asset]]:
    """Clauses about who takes part; returns the roster's verified assets."""
    parties = [member.party for member in job.roster]
    refuse_if(
        parties != sorted(set(parties)) or not 1 <= len(parties) <= ROSTER_MAX,
        "roster",
        "the roster is not a sorted list of distinct parties",
        "sort it",
    )
    refuse_if(agreement.owner not in parties, "roster", f"the roster does not name {agreement.owner}", "send the job to its roster only")
    heard = voices(agreement, job, now_s)
    refuse_if(
        agreement.participants.get(agreement.owner) != own_key,
        "participants",
        "the agreement pins another key for this node",
        "sign a new agreement",
    )
    least = agreement.least_participants
    refuse_if(
        len(set(heard.values())) < least,
        "least-participants",
        f"the roster has {len(set(heard.values()))} owners, those of one issuer counted once; the agreement asks for {least}",
        "wait for more owners",
    )
    assets = roster_assets(job, {member.party: member.public_key for member in job.roster})
    refuse_if(
        assets[agreement.owner][0] != agreement.asset, "asset", "the job names another asset than the agreement", "use the agreed asset"
    )
    commitments = [asset.commitment for _, asset in assets.values()]
    refuse_if(
        len(set(commitments)) < len(commitments),
        "participants",
        "two owners of the roster commit to the same data",
        "name each data set once",
    )
    return assets


def visible_records(agreement: Agreement, statistic: Statistic, assets: Mapping[str, tuple[str, Asset]]) -> int:
    """Independent training records behind what somebody can see.

    The owner's own where its result is seen singly. In aggregate the exchange sees the total, and an owner that made common cause with
    it could subtract its own share, so: the roster's total less the largest single owner's, and none when fewer than two others are
    left. Owners whose keys the agreement does not pin count as one: whoever vouches for them may be all of them.
    """
    share = GOOD_SHARE_MIN if statistic.of_good else 1.0
    of_voice: dict[str, int] = {}
    for party, (_, asset) in assets.items():
        voice = party if party in agreement.participants else UNPINNED
        of_voice[voice] = of_voice.get(voice, 0) + int(asset.records_train * share)
    counts = list(of_voice.values())
    if statistic.single or agreement.visibility == "individual":
        return int(assets[agreement.owner][1].records_train * share)
    return sum(counts) - max(counts) if len(counts) >= AGGREGATE_PARTICIPANTS_MIN else 0


def _check_dimension(agreement: Agreement, statistic: Statistic, params: Params, job: Job, assets: Mapping[str, tuple[str, Asset]]) -> None:
    if not statistic.releases_features or paid_for(agreement, job):
        return
    dimension = statistic.dimension(params, job.stage)
    ratio, records = agreement.dimension_records_min_ratio, visible_records(agreement, statistic, assets)
    if statistic.single and not statistic.of_good:  # a few heads are a few times d + 1 numbers, not a matrix of them: the least ratio holds
        ratio = min(ratio, AGGREGATE_RATIO_MIN)
    refuse_if(
        dimension * ratio > records,
        "dimension",
        f"{dimension} features need {dimension * ratio} records behind what becomes visible, there are {records}",
        "use fewer features or more owners",
    )
    if isinstance(params, HistogramsParams):
        cuts, least = params.cuts.shape[0], params.owner_records_min
        refuse_if(
            cuts * ratio > least,
            "dimension",
            f"{cuts} cuts need {cuts * ratio} records in every node of a tree, the largest owner set aside, and {least} are asked for",
            "ask for as many, or for fewer cuts",
        )


def check_effective(agreement: Agreement, statistic: Statistic, params: Params, job: Job, effective: float) -> None:
    """The dimension rule and the least group, counted by the records that a job's own weighting leaves. effective: of this owner's.

    Whoever asks for a round of a logistic fit chooses its weights p (1 - p): coefficients far out would leave a handful of records in it.
    Of losses by parts of the held-out records, the smallest part counts.
    An owner knows its own weights only, and takes the others' to be like them. Raises RefusedError.
    """
    if paid_for(agreement, job):
        return
    assets = roster_assets(job, {member.party: member.public_key for member in job.roster})
    own = assets[agreement.owner][1].records_train
    ratio, share = agreement.dimension_records_min_ratio, effective / max(1, own)
    left = int(visible_records(agreement, statistic, assets) * share + 1e-6)
    wanted = statistic.dimension(params, job.stage) * ratio
    refuse_if(
        wanted > left,
        "dimension",
        f"the weights or parts of this job leave as much as {left} records behind what becomes visible, its features need {wanted}",
        "use larger penalties, fewer features or the head ridge",
    )
    refuse_if(
        effective < agreement.least_group_size,
        "least-group-size",
        f"the weights or parts of this job leave fewer than {agreement.least_group_size} of this owner's records",
        "use larger penalties or the head ridge",
    )


def check_job(agreement: Agreement, own_key: str, job: Job, past: Sequence[PastJob], now_s: float) -> tuple[Statistic, Any, Roster]:
    """Every clause in turn; returns the statistic, its parameters and the roster as members. Raises RefusedError.

    own_key: this node's public key. past: what this node answered under any agreement for the same owner.
    """
    _check_request(agreement, job, now_s)
    statistic, params = parsed_params(job.statistic, job.params, job.stage)
    _check_stages(agreement, job, params)
    check_declared(agreement, statistic, job)
    assets = _check_roster(agreement, own_key, job, now_s)
    refuse_if(
        statistic.single and not agreement.allow_own_head,
        "own-head",
        "the agreement does not let the owner's own head leave",
        "ask the owner",
    )
    refuse_if(
        statistic.name == BRIER and not agreement.contribution,
        "contribution",
        "the agreement does not let owners be scored by their own sums",
        "ask the owner for an agreement with contribution and individual visibility",
    )
    own = assets[agreement.owner][1]
    least = agreement.least_group_size
    refuse_if(
        statistic.releases_features and own.records_train < least,
        "least-group-size",
        f"this owner has fewer than {least} training records",
        "ask owners with more",
    )
    silent = isinstance(params, QuestionParams) and params.noisy != (job.noise is not None)
    refuse_if(silent, "noise", "the question is exact and the job noisy, or the other way round", "ask for one of the two")
    check_noise(agreement, statistic, params, job)
    _check_dimension(agreement, statistic, params, job, assets)
    roster = frozenset((party, digest) for party, (digest, _) in assets.items())
    check_history(agreement, statistic, job, roster, past)
    return statistic, params, roster
