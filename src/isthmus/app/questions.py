"""Clean-room questions: a tree from somebody who asks, a job over the owners whose agreements allow it, and the answer's rows.

Asking is one call that may be repeated: it begins the job, says who is waited for, and gives the answer once there is one. An owner that
refuses is named with its clause, and the others are asked without it as long as enough are left.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from isthmus.app.answers import Origin, Z, rows_of
from isthmus.app.jobs import SandboxJobs
from isthmus.contracts.agreement import Agreement
from isthmus.contracts.answer import NoiseTold, OwnerCost, Preview, QuestionAnswer, QuestionRequest
from isthmus.contracts.errors import AgreementError, InputError, NotFoundError, RefusedError
from isthmus.contracts.job import JobRefusal, JobRequest, JobStatus, Noise
from isthmus.contracts.ports import Clock
from isthmus.contracts.question import (
    QUESTION,
    QuestionParams,
    cell_count,
    check_params,
    from_units,
    params_of,
    question_size,
    table_columns,
    told_numbers,
)
from isthmus.contracts.schema import checked_schema
from isthmus.kit.canonical import digest_of
from isthmus.kit.database import Database, named_sql
from isthmus.sandbox.accounting import rho_for
from isthmus.sandbox.budget import CLAUSE, epsilon_spent
from isthmus.sandbox.privacy import DEVIATION_MAX, cost_nanos, deviations_for, share_variance, unit_of
from isthmus.sandbox.service import SandboxService
from isthmus.sandbox.statistics.question import measure_name, question_blocks, table_stage
from isthmus.sandbox.statistics.sensitivity import NOT_TOLD, Unit

SQL = named_sql(Path(__file__).parent / "sql" / "questions.sql")
TTL_S = 900
"""How long owners have for one question."""
SELECT_MAX = 64
EPSILON_MIN, EPSILON_MAX = 1e-4, 100.0
"""What one answer may be asked to cost."""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How far a question has come. roster: whom the present job asks. ended: it was told as failed or refused, and is begun anew when it is
    asked again."""

    job: str = ""
    roster: tuple[str, ...] = ()
    refusals: tuple[JobRefusal, ...] = ()
    ended: bool = False


@dataclass(frozen=True)
class Asked:
    """A request with what follows from the agreements. agreements: party -> (digest, agreement) of those that may be asked."""

    request: QuestionRequest
    params: QuestionParams
    noise: Noise | None
    agreements: Mapping[str, tuple[str, Agreement]]
    refusals: tuple[JobRefusal, ...]

    @property
    def key(self) -> str:
        digests = {party: digest for party, (digest, _) in self.agreements.items()}
        return digest_of({"request": msgspec.structs.replace(self.request, preview=False), "agreements": digests})


def refusal_of(party: str, error: RefusedError) -> JobRefusal:
    return JobRefusal(party=party, clause=error.clause, message=error.message, next=error.next_step)


class Questions:
    """Thread-safe. folder: the exchange's state."""

    def __init__(self, folder: Path, sandbox: SandboxService, clock: Clock, ttl_s: int = TTL_S) -> None:
        self._db = Database(folder / "questions.sqlite", [SQL["schema_1"]])
        self._sandbox, self._jobs, self._clock, self._ttl_s = sandbox, SandboxJobs(sandbox), clock, ttl_s
        self._lock = threading.Lock()

    def close(self) -> None:
        self._db.close()

    @property
    def changes(self) -> int:
        """Grows whenever a job has come further."""
        return self._sandbox.changes

    def ask(self, request: QuestionRequest) -> QuestionAnswer:
        """The answer, or how far it is. Raises InputError for what cannot be asked, NotFoundError for an unknown owner."""
        asked = self._asked(request)
        if request.preview:
            preview = self._preview(asked, tuple(sorted(asked.agreements)))
            return self._told(asked, phase="preview", owners=tuple(sorted(asked.agreements)), refusals=asked.refusals, preview=preview)
        with self._lock:
            return self._walked(asked)

    # Who may be asked.

    def _asked(self, request: QuestionRequest) -> Asked:
        checked_schema(request.schema)
        names = [one.name for one in request.question.select]
        if not 1 <= len(names) <= SELECT_MAX or any(
            not 0 < one.share_ppm < 1_000_000 for one in request.question.select if one.kind == "quantile"
        ):
            raise InputError("the question selects nothing, too much, or a quantile that is none", f"select 1 to {SELECT_MAX} aggregates")
        if any(not one.column and one.kind != "count" for one in request.question.select):
            raise InputError("the question asks for a sum of no column", "name one")
        params = params_of(request.question, request.schema, request.epsilon != 0)
        check_params(params, request.schema)
        known = set(self._sandbox.parties())
        for party in request.owners:
            if party not in known:
                raise NotFoundError(f"no party {party!r} is registered here", "start that owner's node, and wait until it has registered")
        named = sorted(set(request.owners)) or sorted({owner for _, owner, _ in self._sandbox.agreements()})
        agreements, refusals = {}, []
        for party in named:
            try:
                agreements[party] = self._agreement(party, request)
            except RefusedError as error:
                if request.owners or error.clause != "purpose":
                    refusals.append(refusal_of(party, error))
        found = {party: agreement for party, (_, agreement) in agreements.items()}
        return Asked(request, params, _noise(request, params, list(found.values())), agreements, tuple(refusals))

    def _agreement(self, party: str, request: QuestionRequest) -> tuple[str, Agreement]:
        """The party's newest agreement for the purpose, if it lets questions be asked. Raises RefusedError by clause."""
        try:
            digest, agreement = self._jobs.agreement(party, request.purpose)
        except AgreementError as error:
            message = f"{party} has no agreement for the purpose {request.purpose!r}"
            raise RefusedError("purpose", message, "ask the owner for one") from error
        if QUESTION not in agreement.operations:
            raise RefusedError("operation", f"the agreement does not allow {QUESTION}", "ask the owner for an agreement that does")
        if self._clock.now_s() >= agreement.expires_at_s:
            raise RefusedError("expiry", "the agreement has expired", "ask the owner for a new one")
        if agreement.privacy is not None and not request.epsilon:
            raise RefusedError(CLAUSE, "the agreement lets only noisy answers leave", "ask again with --epsilon")
        return digest, agreement

    # From one call to the next.

    def _walked(self, asked: Asked) -> QuestionAnswer:
        raw = self._db.row(SQL["get"], {"key": asked.key})
        standing = Standing() if raw is None else msgspec.json.decode(raw["state"], type=Standing)
        if standing.ended or not standing.job:
            standing = Standing(roster=tuple(sorted(asked.agreements)), refusals=asked.refusals)
        while True:
            few = self._too_few(asked, standing)
            if few:
                self._keep(asked, msgspec.structs.replace(standing, ended=True))
                return self._told(asked, phase="refused", refusals=standing.refusals, reason=few)
            status = self._sandbox.job(standing.job) if standing.job else self._begun(asked, standing)
            standing = msgspec.structs.replace(standing, job=status.id)
            if status.phase == "failed" and status.refusals:
                gone = {one.party for one in status.refusals}
                left = tuple(party for party in standing.roster if party not in gone)
                standing = Standing(roster=left, refusals=(*standing.refusals, *status.refusals))
                continue
            self._keep(asked, msgspec.structs.replace(standing, ended=status.phase == "failed"))
            return self._of_status(asked, standing, status)

    def _keep(self, asked: Asked, standing: Standing) -> None:
        with self._db.transaction() as sql:
            sql.execute(SQL["put"], {"key": asked.key, "state": msgspec.json.encode(standing)})

    @staticmethod
    def _too_few(asked: Asked, standing: Standing) -> str:
        """Why those that are left cannot be asked; empty when they can."""
        wanted = {party: asked.agreements[party][1].least_participants for party in standing.roster}
        if not wanted:
            return "no owner answers this question"
        most = max(wanted, key=lambda party: wanted[party])
        if wanted[most] <= len(wanted):
            return ""
        return f"{len(wanted)} owners are left, and the agreement of {most} asks for {wanted[most]} (clause least-participants)"

    def _begun(self, asked: Asked, standing: Standing) -> JobStatus:
        stage, params = table_stage(asked.request.schema), msgspec.to_builtins(asked.params)
        noise = msgspec.to_builtins(asked.noise)
        roster = {party: asked.agreements[party][0] for party in standing.roster}
        run = digest_of({"stage": stage.digest, "params": params, "noise": noise, "roster": roster, "purpose": asked.request.purpose})
        return self._sandbox.create_job(
            JobRequest(
                run_id=f"ask-{run.removeprefix('sha256:')[:24]}",
                round=1,
                purpose=asked.request.purpose,
                scenario=asked.request.table,
                statistic=QUESTION,
                stage=stage,
                params=params,
                roster=standing.roster,
                ttl_s=self._ttl_s,
                noise=asked.noise,
            )
        )

    def _of_status(self, asked: Asked, standing: Standing, status: JobStatus) -> QuestionAnswer:
        common = {"owners": standing.roster, "refusals": standing.refusals, "job": status.id}
        if status.phase == "failed":
            return self._told(asked, phase="failed", reason=status.reason or "it ended without an answer", **common)
        if status.phase != "done" or status.total is None:
            return self._told(asked, phase="waiting", waiting_for=status.missing, **common)
        self._charged(asked, standing)
        agreements = [asked.agreements[party][1] for party in standing.roster]
        origin = Origin(max(a.least_group_size for a in agreements), deviations(asked, len(agreements)))
        total = status.total.array()
        rows = rows_of(asked.request.question, asked.params, asked.request.schema, total, origin, {})
        return self._told(asked, phase="done", rows=rows, **common)

    def _charged(self, asked: Asked, standing: Standing) -> None:
        """Notes what an answer cost each owner, as far as this exchange can tell."""
        with self._db.transaction() as sql:
            for party in standing.roster:
                digest, agreement = asked.agreements[party]
                cost = owner_cost(asked, len(standing.roster), agreement)
                sql.execute(SQL["put_cost"], {"job": standing.job, "party": party, "agreement": digest, "rho_nanos": cost})

    def _told(self, asked: Asked, **fields: object) -> QuestionAnswer:
        request = asked.request
        return QuestionAnswer(
            table=request.table,
            exact=not asked.params.noisy,
            epsilon=request.epsilon,
            groups=tuple(group.column for group in request.question.groups),
            names=tuple(one.name for one in request.question.select),
            **fields,  # type: ignore[arg-type]
        )

    # What it would cost.

    def _preview(self, asked: Asked, roster: tuple[str, ...]) -> Preview:
        params, schema = asked.params, asked.request.schema
        told = _noise_told(asked, len(roster)) if roster else ()
        costs = tuple(self._cost(asked, party, len(roster)) for party in roster)
        size = question_size(params, schema)
        return Preview(cells=cell_count(params, schema), numbers=told_numbers(params, schema), bytes_each=8 * size, noise=told, costs=costs)

    def _cost(self, asked: Asked, party: str, owners: int) -> OwnerCost:
        digest, agreement = asked.agreements[party]
        terms, cost = agreement.privacy, owner_cost(asked, owners, agreement)
        row = self._db.row(SQL["spent"], {"party": party})
        spent = 0 if row is None else int(row["nanos"])
        used = self._db.row(SQL["runs"], {"agreement": digest})
        return OwnerCost(
            party=party,
            agreement=digest,
            least_group_size=agreement.least_group_size,
            budget=terms is not None,
            epsilon=0.0 if terms is None else epsilon_spent(cost, terms.delta),
            epsilon_total=0.0 if terms is None else terms.epsilon,
            epsilon_after=0.0 if terms is None else epsilon_spent(spent + cost, terms.delta),
            runs_left=max(0, agreement.runs_max - (0 if used is None else int(used["runs"]))),
        )


def _noise(request: QuestionRequest, params: QuestionParams, agreements: list[Agreement]) -> Noise | None:
    """Noise that costs the owner with the largest privacy unit the epsilon that was asked for, an equal part of it for each kind of
    number. None for exact numbers. Raises InputError."""
    if not params.noisy:
        return None
    try:
        rho = rho_for(request.epsilon, request.delta)
    except ValueError as error:
        raise InputError(f"no privacy has epsilon {request.epsilon:g} and delta {request.delta:g}", "use such as 0.1 and 1e-5") from error
    if not EPSILON_MIN <= request.epsilon <= EPSILON_MAX:
        raise InputError(f"an epsilon of {request.epsilon:g} is out of bounds", f"use {EPSILON_MIN:g} to {EPSILON_MAX:g}")
    most = max([1, *(unit_of(one.privacy).records for one in agreements)])
    blocks = question_blocks(params, table_stage(request.schema), Unit(most), 0)
    part = 1.0 / (len(blocks) - 1)
    deviations = deviations_for(blocks, rho, {block.name: part for block in blocks[1:]})
    if max(deviations) > DEVIATION_MAX:
        raise InputError("so little may be told that noise would drown it", "ask with a larger epsilon")
    return Noise(deviations=deviations)


def owner_cost(asked: Asked, owners: int, agreement: Agreement) -> int:
    """Nano-rho that an answer costs one owner; 0 for an exact one."""
    if asked.noise is None:
        return 0
    blocks = question_blocks(asked.params, table_stage(asked.request.schema), unit_of(agreement.privacy), 0)
    return cost_nanos(blocks, asked.noise, owners)


def deviations(asked: Asked, owners: int) -> dict[tuple[str, str], float]:
    """(kind, column) -> standard deviation of the noise in a roster's total, in units; empty for an exact answer."""
    if asked.noise is None:
        return {}
    kinds = [("rows", ""), *((one.kind, one.column) for one in asked.params.measures)]
    told = asked.noise.deviations[1:]
    return {kind: (owners * share_variance(one, owners)) ** 0.5 for kind, one in zip(kinds, told, strict=True) if one != NOT_TOLD}


def _noise_told(asked: Asked, owners: int) -> tuple[NoiseTold, ...]:
    if asked.noise is None:
        return ()
    schema, widths = asked.request.schema, deviations(asked, owners)
    most = max([1, *(unit_of(one.privacy).records for _, one in asked.agreements.values())])
    blocks = {block.name: block for block in question_blocks(asked.params, table_stage(schema), Unit(most), 0)}
    found = [NoiseTold(kind="rows", column="", sensitivity=blocks["rows"].length, error=Z * widths["rows", ""])]
    for one in asked.params.measures:
        power = {"sum": 1, "squares": 2}.get(one.kind, 0)
        unit = from_units(table_columns(schema)[one.column], 1.0) ** power if power else 1.0
        length, error = blocks[measure_name(one)].length * unit, Z * widths[one.kind, one.column] * unit
        found.append(NoiseTold(kind=one.kind, column=one.column, sensitivity=length, error=error))
    return tuple(found)
