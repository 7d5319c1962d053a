"""What a node answered before, and the clauses that hold a job against it. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from isthmus.contracts.agreement import Agreement
from isthmus.contracts.brier import BRIER
from isthmus.contracts.job import Job
from isthmus.contracts.parts import sources_of
from isthmus.contracts.question import QUESTION
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
)
from isthmus.contracts.textparts import text_sources
from isthmus.contracts.treesums import ASIDE_CLUSTERS, ASIDE_SCORES, HISTOGRAMS, ROUNDS_MAX
from isthmus.contracts.valuesums import VALUE_CLUSTERS, VALUE_EVALUATE, VALUE_FOLD_OUT, VALUE_MOMENTS
from isthmus.kit.canonical import digest_of
from isthmus.sandbox.agreements import agreement_digest
from isthmus.sandbox.overlap import Roster, reveals
from isthmus.sandbox.refusal import refuse_if
from isthmus.sandbox.singly import hidden, seen_singly
from isthmus.sandbox.statistics.registry import STATISTICS, Statistic

NOT_ASKED = ("id", "attempt", "created_at_s", "expires_at_s", "seen_singly")
"""Fields of a job that change nothing about what is computed."""
JOBS_PER_RUN_MAX = {MOMENTS: 1, FOLD_OUT: 2, CLUSTERS: 4, OWN_HEAD: 2, SITE_HEAD: 4, EVALUATE: 8, PAIR: 1}
JOBS_PER_RUN_MAX |= {HISTOGRAMS: ROUNDS_MAX, ASIDE_SCORES: 2, ASIDE_CLUSTERS: 4}
JOBS_PER_RUN_MAX |= {IRLS: 8}
JOBS_PER_RUN_MAX |= {BRIER: 1}
JOBS_PER_RUN_MAX |= {GAUSSIAN: 1, GAUSSIAN_FOLD_OUT: 2, GAUSSIAN_CLUSTERS: 6, SITE_GAUSSIAN: 4}
JOBS_PER_RUN_MAX |= {VALUE_MOMENTS: 1, VALUE_FOLD_OUT: 2, VALUE_CLUSTERS: 4, VALUE_EVALUATE: 8}
JOBS_PER_RUN_MAX |= {QUESTION: 1}
"""Different jobs of each statistic in one run: every further answer about the same records is one more equation on them."""
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


def job_content(job: Job) -> str:
    """Digest of what is asked: everything but id, attempt, times, and agreements that are shown; exact sums say nothing of noise."""
    fields = msgspec.to_builtins(job)
    left_out = (*NOT_ASKED, *(("noise",) if job.noise is None else ()))
    return digest_of({name: value for name, value in fields.items() if name not in left_out})


def _check_single(job: Job, content: str, past: Sequence[PastJob]) -> None:
    """Clauses about heads, which are seen singly: each is d + 1 equations on the same sums, so over all runs there are only a few; and a
    site's head needs the fleet's total, which nobody whose own sums are in one may be sent."""
    shared = [p for p in past if p.shares_features(job)]
    heads = {p.content for p in shared if p.statistic == job.statistic} | {content}
    refuse_if(
        len(heads) > SINGLE_HEADS_MAX,
        "own-head",
        f"{SINGLE_HEADS_MAX} heads of these features left before; more would add up to the sums behind them",
        "use those, or other features",
    )
    summed = job.statistic in SITE_STATISTICS and any(p.statistic in GRAM_STATISTICS for p in shared)
    refuse_if(
        summed, "would-reveal", "this owner's own sums are in a fleet's, so the fleet's must not come here", "fit a site with no part in it"
    )


def check_history(agreement: Agreement, statistic: Statistic, job: Job, roster: Roster, past: Sequence[PastJob]) -> None:
    """Clauses about this job beside those that were answered before."""
    content = job_content(job)
    terms = agreement_digest(agreement)
    runs = {p.run_id for p in past if p.agreement == terms}
    of_run = [p for p in past if p.run_id == job.run_id]
    refuse_if(
        len(runs | {job.run_id}) > agreement.runs_max,
        "runs",
        f"the agreement's {agreement.runs_max} runs are used up",
        "ask the owner for a new agreement",
    )
    same = [p for p in of_run if (p.round, p.statistic) == (job.round, job.statistic)]
    refuse_if(
        any(p.content != content for p in same),
        "replay",
        f"round {job.round} of {job.run_id} was asked before with something else in it",
        "use a new run id",
    )
    most = JOBS_PER_RUN_MAX[job.statistic]
    alike = {p.content for p in of_run if p.statistic == job.statistic} | {content}
    refuse_if(len(alike) > most, "rounds", f"the run asked for {job.statistic} {most} times before", "start a new run")
    partner = {QUESTION: HISTOGRAMS, HISTOGRAMS: QUESTION}.get(job.statistic)
    beside = job.noise is None and any(p.statistic == partner and p.shares_features(job) for p in past)
    refuse_if(
        beside,
        "would-reveal",
        f"{partner} was answered over these columns, and the two together part records more finely than each may",
        "use one of the two for these data",
    )
    if job.statistic in GRAM_STATISTICS:
        others = any(p.stage != job.stage.digest for p in of_run if p.statistic in GRAM_STATISTICS)
        refuse_if(others, "rounds", "the run asked for sums of other features before", "use one stage for each run")
    if statistic.effective is not None:
        asked = {p.content for p in past if p.statistic == job.statistic and p.shares_features(job)} | {content}
        message = f"{WEIGHTINGS_MAX} rounds over these features were answered before; more weightings of the same records would add up"
        refuse_if(len(asked) > WEIGHTINGS_MAX, "rounds", message, "use what was fitted, the head ridge, or other features")
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
        why = reveals(earlier, roster - known_singly, agreement.overlap_owners_min, agreement.participants)
    refuse_if(why is not None, "would-reveal", why or "", "keep the roster, let two owners leave together, or use another stage")
