"""The terms of an agreement, and the check of a job against each of them. Pure: no I/O, no clock of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from isthmus.contracts.agreement import AGGREGATE_PARTICIPANTS_MIN, AGGREGATE_RATIO_MIN, ANY_STAGE, Agreement
from isthmus.contracts.asset import ASSET_TYPE, Asset
from isthmus.contracts.brier import BRIER
from isthmus.contracts.errors import AgreementError, IsthmusError, RefusedError
from isthmus.contracts.job import Job
from isthmus.contracts.parts import sources_of
from isthmus.contracts.statistic import (
    CLUSTERS,
    EVALUATE,
    FOLD_OUT,
    GAUSSIAN,
    GAUSSIAN_CLUSTERS,
    GAUSSIAN_FOLD_OUT,
    IRLS,
    MOMENTS,
    OWN_HEAD,
    PAIR,
    SITE_GAUSSIAN,
    SITE_HEAD,
    EvaluateParams,
    PairParams,
)
from isthmus.contracts.textparts import text_sources
from isthmus.contracts.treesums import ASIDE_CLUSTERS, ASIDE_SCORES, HISTOGRAMS, ROUNDS_MAX, HistogramsParams
from isthmus.contracts.valuesums import VALUE_CLUSTERS, VALUE_EVALUATE, VALUE_FOLD_OUT, VALUE_MOMENTS
from isthmus.kit.canonical import digest_of
from isthmus.kit.signing import Envelope, key_id, unseal
from isthmus.sandbox.overlap import Roster, reveals
from isthmus.sandbox.singly import hidden, seen_singly
from isthmus.sandbox.statistics.registry import GOOD_SHARE_MIN, STATISTICS, Params, Statistic, parsed_params

JOB_SECONDS_MAX = 7 * 24 * 3600
CLOCK_SKEW_S = 300
JOBS_PER_RUN_MAX = {MOMENTS: 1, FOLD_OUT: 2, CLUSTERS: 4, OWN_HEAD: 2, SITE_HEAD: 4, EVALUATE: 8, PAIR: 1}
JOBS_PER_RUN_MAX |= {HISTOGRAMS: ROUNDS_MAX, ASIDE_SCORES: 2, ASIDE_CLUSTERS: 4}
JOBS_PER_RUN_MAX |= {IRLS: 8}
JOBS_PER_RUN_MAX |= {GAUSSIAN: 1, GAUSSIAN_FOLD_OUT: 2, GAUSSIAN_CLUSTERS: 6, SITE_GAUSSIAN: 4}
JOBS_PER_RUN_MAX |= {BRIER: 1}
JOBS_PER_RUN_MAX |= {VALUE_MOMENTS: 1, VALUE_FOLD_OUT: 2, VALUE_CLUSTERS: 4, VALUE_EVALUATE: 8}
"""Different jobs of each statistic in one run: every further answer about the same records is one more equation on them."""
NOT_ASKED = ("id", "attempt", "created_at_s", "expires_at_s", "seen_singly")
"""Fields of a job that change nothing about what is computed."""
ROSTER_MAX = 256
GRAM_STATISTICS = (MOMENTS, IRLS, FOLD_OUT, HISTOGRAMS, ASIDE_SCORES, GAUSSIAN, GAUSSIAN_FOLD_OUT, VALUE_MOMENTS, VALUE_FOLD_OUT)
SITE_STATISTICS = (SITE_HEAD, SITE_GAUSSIAN)
WEIGHTINGS_MAX = 32
"""Different rounds of logistic fits over shared features, over all runs: each is another weighting of the same records."""
SINGLE_HEADS_MAX = 6
"""Different heads of one owner's records over shared features, over all runs."""


@dataclass(frozen=True)
class PastJob:
    """A job that this node answered before. agreement: digest. content: digest of what was asked, without attempt and times.
    blocks: the parts of the backbone whose features were in it; sums over shared features can be subtracted from each other."""

    agreement: str
    run_id: str
    round: int
    statistic: str
    stage: str
    content: str
    roster: Roster
    blocks: frozenset[str] = frozenset()

    def shares_features(self, job: Job) -> bool:
        """Whether some of its features are also asked for by the job."""
        return self.stage == job.stage.digest or bool(self.blocks & stage_blocks(job))


def stage_blocks(job: Job) -> frozenset[str]:
    """Names of what the job's features come from. The backbones of pictures that are known differ only in how pictures enter, which is
    no protection, so parts count as shared across them. All features of a record are functions of its columns, so a column counts; of a
    text a family of directions, none of which is made of another family's."""
    if job.stage.schema is not None and job.stage.schema.written:
        return text_sources(job.stage.parts)
    if job.stage.schema is not None:
        return frozenset(f"column {column.name}" for column in job.stage.schema.columns)
    return sources_of(job.stage.parts)


def is_public_key(value: str) -> bool:
    """64 lower-case hex digits."""
    return len(value) == 64 and all(c in "0123456789abcdef" for c in value)


def check_agreement(agreement: Agreement) -> None:
    """Raises AgreementError when its terms contradict each other or cannot be kept."""
    single = agreement.visibility == "individual"
    unknown = [name for name in agreement.operations if name not in STATISTICS]
    keys = [agreement.exchange, *agreement.participants.values()]
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
    for broken, what, next_step in rules:
        if broken:
            raise AgreementError(f"the agreement of {agreement.owner} {what}", next_step)


_FEW = "is aggregate-only with so few participants that one could subtract its own share and see another's"
_RATIO = "is aggregate-only with too few records for each feature, so that who is in the sums would be plain"


def job_content(job: Job) -> str:
    """Digest of what is asked: everything but id, attempt, times, and the agreements that are shown with it."""
    fields = msgspec.to_builtins(job)
    return digest_of({name: value for name, value in fields.items() if name not in NOT_ASKED})


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
                "asset-signature", f"the asset of {member.party} is not signed by its pinned key", "send assets as they were signed"
            ) from error
        if asset.owner != member.party:
            raise RefusedError(
                "asset-signature", f"the asset given for {member.party} belongs to {asset.owner}", "send each owner's own asset"
            )
        if min(asset.records_train, asset.records_holdout, asset.groups_train, asset.groups_holdout) < 0:
            raise RefusedError("asset-signature", f"the asset of {member.party} has a negative count", "describe the asset anew")
        found[member.party] = (digest_of(document), asset)
    return found


def _refuse_if(broken: bool, clause: str, message: str, next_step: str) -> None:
    if broken:
        raise RefusedError(clause, message, next_step)


def _check_request(agreement: Agreement, job: Job, now_s: float) -> None:
    """Clauses about what is asked, and when."""
    _refuse_if(
        job.purpose not in agreement.purposes,
        "purpose",
        f"the agreement does not allow the purpose {job.purpose!r}",
        "ask the owner for an agreement that does",
    )
    _refuse_if(
        job.statistic not in STATISTICS,
        "statistic",
        f"{job.statistic!r} is not a statistic that this node can compute",
        f"use {', '.join(STATISTICS)}",
    )
    _refuse_if(
        job.statistic not in agreement.operations,
        "operation",
        f"the agreement does not allow {job.statistic}",
        "ask the owner for an agreement that does",
    )
    _refuse_if(now_s >= agreement.expires_at_s, "expiry", "the agreement has expired", "ask the owner for a new one")
    _refuse_if(now_s + CLOCK_SKEW_S < agreement.issued_at_s, "expiry", "the agreement has not begun", "wait, or set the clock")
    _refuse_if(now_s >= job.expires_at_s, "job-expiry", "the job has expired", "ask for it anew")
    _refuse_if(
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
    _refuse_if(bool(wrong), "stage", f"the agreement does not allow features {', '.join(wrong)}", "use an allowed stage")
    _refuse_if(not 1 <= job.stage.dimension <= 65536, "stage", f"a stage of {job.stage.dimension} features cannot be", "use a real one")


def _check_roster(agreement: Agreement, own_key: str, job: Job) -> dict[str, tuple[str, Asset]]:
    """Clauses about who takes part; returns the roster's verified assets."""
    parties = [member.party for member in job.roster]
    _refuse_if(
        parties != sorted(set(parties)) or not 1 <= len(parties) <= ROSTER_MAX,
        "roster",
        "the roster is not a sorted list of distinct parties",
        "sort it",
    )
    _refuse_if(agreement.owner not in parties, "roster", f"the roster does not name {agreement.owner}", "send the job to its roster only")
    for member in job.roster:
        pinned = agreement.participants.get(member.party)
        _refuse_if(
            pinned is None, "participants", f"the agreement does not name {member.party} as a participant", "ask the owner to add it"
        )
        _refuse_if(
            pinned != member.public_key,
            "participants",
            f"the key given for {member.party} is not the one the agreement pins",
            "use the pinned key",
        )
    _refuse_if(
        agreement.participants[agreement.owner] != own_key,
        "participants",
        "the agreement pins another key for this node",
        "sign a new agreement",
    )
    least = agreement.least_participants
    _refuse_if(
        len(parties) < least,
        "least-participants",
        f"the roster has {len(parties)} owners, the agreement asks for {least}",
        "wait for more owners",
    )
    assets = roster_assets(job, agreement.participants)
    _refuse_if(
        assets[agreement.owner][0] != agreement.asset, "asset", "the job names another asset than the agreement", "use the agreed asset"
    )
    commitments = [asset.commitment for _, asset in assets.values()]
    _refuse_if(
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
    left.
    """
    share = GOOD_SHARE_MIN if statistic.of_good else 1.0
    counts = [int(asset.records_train * share) for _, asset in assets.values()]
    if statistic.single or agreement.visibility == "individual":
        return int(assets[agreement.owner][1].records_train * share)
    return sum(counts) - max(counts) if len(counts) >= AGGREGATE_PARTICIPANTS_MIN else 0


def _check_dimension(agreement: Agreement, statistic: Statistic, params: Params, job: Job, assets: Mapping[str, tuple[str, Asset]]) -> None:
    if not statistic.releases_features:
        return
    dimension = statistic.dimension(params, job.stage)
    ratio, records = agreement.dimension_records_min_ratio, visible_records(agreement, statistic, assets)
    if statistic.single and not statistic.of_good:  # a few heads are a few times d + 1 numbers, not a matrix of them: the least ratio holds
        ratio = min(ratio, AGGREGATE_RATIO_MIN)
    _refuse_if(
        dimension * ratio > records,
        "dimension",
        f"{dimension} features need {dimension * ratio} records behind what becomes visible, there are {records}",
        "use fewer features or more owners",
    )
    if isinstance(params, HistogramsParams):
        cuts, least = params.cuts.shape[0], params.owner_records_min
        _refuse_if(
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
    assets = roster_assets(job, agreement.participants)
    own = assets[agreement.owner][1].records_train
    ratio, share = agreement.dimension_records_min_ratio, effective / max(1, own)
    left = int(visible_records(agreement, statistic, assets) * share + 1e-6)
    wanted = statistic.dimension(params, job.stage) * ratio
    _refuse_if(
        wanted > left,
        "dimension",
        f"the weights or parts of this job leave as much as {left} records behind what becomes visible, its features need {wanted}",
        "use larger penalties, fewer features or the head ridge",
    )
    _refuse_if(
        effective < agreement.least_group_size,
        "least-group-size",
        f"the weights or parts of this job leave fewer than {agreement.least_group_size} of this owner's records",
        "use larger penalties or the head ridge",
    )


def _check_single(job: Job, content: str, past: Sequence[PastJob]) -> None:
    """Clauses about heads, which are seen singly: each is d + 1 equations on the same sums, so over all runs there are only a few; and a
    site's head needs the fleet's total, which nobody whose own sums are in one may be sent."""
    shared = [p for p in past if p.shares_features(job)]
    heads = {p.content for p in shared if p.statistic == job.statistic} | {content}
    _refuse_if(
        len(heads) > SINGLE_HEADS_MAX,
        "own-head",
        f"{SINGLE_HEADS_MAX} heads of these features left before; more would add up to the sums behind them",
        "use those, or other features",
    )
    summed = job.statistic in SITE_STATISTICS and any(p.statistic in GRAM_STATISTICS for p in shared)
    _refuse_if(
        summed, "would-reveal", "this owner's own sums are in a fleet's, so the fleet's must not come here", "fit a site with no part in it"
    )


def _check_history(agreement: Agreement, statistic: Statistic, job: Job, roster: Roster, past: Sequence[PastJob]) -> None:
    """Clauses about this job beside those that were answered before."""
    content = job_content(job)
    terms = digest_of(agreement)
    runs = {p.run_id for p in past if p.agreement == terms}
    of_run = [p for p in past if p.run_id == job.run_id]
    _refuse_if(
        len(runs | {job.run_id}) > agreement.runs_max,
        "runs",
        f"the agreement's {agreement.runs_max} runs are used up",
        "ask the owner for a new agreement",
    )
    same = [p for p in of_run if (p.round, p.statistic) == (job.round, job.statistic)]
    _refuse_if(
        any(p.content != content for p in same),
        "replay",
        f"round {job.round} of {job.run_id} was asked before with something else in it",
        "use a new run id",
    )
    most = JOBS_PER_RUN_MAX[job.statistic]
    alike = {p.content for p in of_run if p.statistic == job.statistic} | {content}
    _refuse_if(len(alike) > most, "rounds", f"the run asked for {job.statistic} {most} times before", "start a new run")
    if job.statistic in GRAM_STATISTICS:
        others = any(p.stage != job.stage.digest for p in of_run if p.statistic in GRAM_STATISTICS)
        _refuse_if(others, "rounds", "the run asked for sums of other features before", "use one stage for each run")
    if statistic.effective is not None:
        asked = {p.content for p in past if p.statistic == job.statistic and p.shares_features(job)} | {content}
        message = f"{WEIGHTINGS_MAX} rounds over these features were answered before; more weightings of the same records would add up"
        _refuse_if(len(asked) > WEIGHTINGS_MAX, "rounds", message, "use what was fitted, the head ridge, or other features")
    if statistic.single:
        _check_single(job, content, past)
        return
    if not statistic.releases_features and agreement.visibility == "individual":
        return
    known_singly = seen_singly(agreement, job)
    summed = [p.roster for p in past if p.shares_features(job) and not STATISTICS[p.statistic].single]
    earlier = [known for known in hidden(summed, known_singly) if known]
    if agreement.visibility == "individual":
        left = sorted({party for known in earlier for party, _ in known} - {party for party, _ in roster})
        why = f"earlier sums of the same features held {', '.join(left)} too, whose share the difference would be" if left else None
    else:
        why = reveals(earlier, roster - known_singly, agreement.overlap_owners_min)
    _refuse_if(why is not None, "would-reveal", why or "", "keep the roster, let two owners leave together, or use another stage")


def check_job(agreement: Agreement, own_key: str, job: Job, past: Sequence[PastJob], now_s: float) -> tuple[Statistic, Any, Roster]:
    """Every clause in turn; returns the statistic, its parameters and the roster as members. Raises RefusedError.

    own_key: this node's public key. past: what this node answered under any agreement for the same owner.
    """
    _check_request(agreement, job, now_s)
    statistic, params = parsed_params(job.statistic, job.params, job.stage)
    _check_stages(agreement, job, params)
    assets = _check_roster(agreement, own_key, job)
    _refuse_if(
        statistic.single and not agreement.allow_own_head,
        "own-head",
        "the agreement does not let the owner's own head leave",
        "ask the owner",
    )
    _refuse_if(
        statistic.name == BRIER and not agreement.contribution,
        "contribution",
        "the agreement does not let owners be scored by their own sums",
        "ask the owner for an agreement with contribution and individual visibility",
    )
    own = assets[agreement.owner][1]
    least = agreement.least_group_size
    _refuse_if(
        statistic.releases_features and own.records_train < least,
        "least-group-size",
        f"this owner has fewer than {least} training records",
        "ask owners with more",
    )
    _check_dimension(agreement, statistic, params, job, assets)
    roster = frozenset((party, digest) for party, (digest, _) in assets.items())
    _check_history(agreement, statistic, job, roster, past)
    return statistic, params, roster
