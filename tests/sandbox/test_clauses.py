"""Every clause that a node may refuse by: one job that obeys it and is answered, and what a modified exchange tries against it.

The exchange here signs with the key that the agreements pin, and ignores them. The node is the real one, over its real loop.
"""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import isthmus.sandbox as sandbox
from isthmus.contracts.agreement import PrivacyTerms
from isthmus.contracts.asset import ASSET_TYPE
from isthmus.contracts.brier import BRIER
from isthmus.contracts.head import Array
from isthmus.contracts.job import PAUSED, Job, NodeTask, Noise, RosterMember
from isthmus.contracts.notice import NOTICE_TYPE, Notice
from isthmus.contracts.statistic import EVALUATE, OWN_HEAD
from isthmus.kit.signing import SigningKey, seal
from isthmus.sandbox.agreements import sealed_terms
from isthmus.sandbox.leaving import leave
from isthmus.sandbox.nodehome import NodeSettings, init_home
from isthmus.sandbox.nodestate import pause, resume
from isthmus.sandbox.notices import notices_of
from tests.sandbox.modified import HONEST, STRICT, Answer, ModifiedExchange, Words, artefact_params, signed_anew, strict_world
from tests.sandbox.world import VIEWS, D, Owner, tiny_head, tiny_stage, write_folder

STRANGER = SigningKey.from_seed(b"s" * 32)
SHORT_S = 3600
Try = Callable[[ModifiedExchange], Answer]


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModifiedExchange]:
    yield ModifiedExchange(strict_world(tmp_path_factory.mktemp("strict"), "alfa", "bravo", "carol", "delta", "echo"))


def changed(**changes: Any) -> Try:
    """A job with fields of its own."""
    return lambda exchange: exchange.ask(exchange.job(**changes))


def saying(**terms: Any) -> Try:
    """A job whose signed terms say something else."""
    return changed(terms=msgspec.structs.replace(HONEST, **terms))


def roster(change: Callable[[ModifiedExchange, tuple[RosterMember, ...]], tuple[RosterMember, ...]]) -> Try:
    def attempt(exchange: ModifiedExchange) -> Answer:
        job = exchange.job()
        return exchange.ask(msgspec.structs.replace(job, roster=change(exchange, job.roster)))

    return attempt


def after_an_answer(change: Callable[[Job], Job]) -> Try:
    """Another job once the first was answered."""

    def attempt(exchange: ModifiedExchange) -> Answer:
        job = exchange.job()
        assert exchange.ask(job).left
        return exchange.ask(change(job))

    return attempt


def words(change: Callable[[Words], Words]) -> Try:
    return lambda exchange: exchange.ask(exchange.job(), change=change)


def puppet(exchange: ModifiedExchange, members: tuple[RosterMember, ...]) -> tuple[RosterMember, ...]:
    asset = msgspec.structs.replace(exchange.world.owners["bravo"].home.asset, owner="puppet", commitment="sha256:" + "1" * 64)
    return (
        members[0],
        RosterMember(party="puppet", public_key=STRANGER.public_hex, asset=msgspec.to_builtins(seal(STRANGER, ASSET_TYPE, asset))),
    )


def with_key(exchange: ModifiedExchange, members: tuple[RosterMember, ...]) -> tuple[RosterMember, ...]:
    return (members[0], msgspec.structs.replace(members[1], public_key=STRANGER.public_hex), members[2])


def other_asset(exchange: ModifiedExchange, members: tuple[RosterMember, ...]) -> tuple[RosterMember, ...]:
    home = exchange.world.owners["alfa"].home
    earlier = msgspec.structs.replace(home.asset, records_train=9999, commitment="sha256:" + "2" * 64)
    return (msgspec.structs.replace(members[0], asset=msgspec.to_builtins(seal(home.key, ASSET_TYPE, earlier))), *members[1:])


def own_head(**changes: Any) -> dict[str, Any]:
    return {"statistic": OWN_HEAD, "params": {"views": VIEWS, "penalties": [1.0]}, **changes}


def evaluation(artefact: str | None = None, **terms: Any) -> Try:
    said = msgspec.structs.replace(HONEST, output="evaluation", **terms)
    return changed(statistic=EVALUATE, params=artefact_params(tiny_head(), artefact), stage=tiny_stage(1), terms=said)


def with_another_picture(exchange: ModifiedExchange) -> Answer:
    folder = exchange.world.owners["alfa"].home.folder
    first, second = (folder.root / file.path for file in folder.files[:2])
    kept = first.read_bytes()
    first.write_bytes(second.read_bytes())
    try:
        return exchange.ask(exchange.job())
    finally:
        first.write_bytes(kept)


def with_another_label(exchange: ModifiedExchange) -> Answer:
    node, job = exchange.world.owners["alfa"].node, exchange.job()
    assert exchange.ask(job).left
    kept = node._data
    first = kept.folder.files[0]
    flipped = dataclasses.replace(kept.folder, files=(dataclasses.replace(first, label=-first.label), *kept.folder.files[1:]))
    node._data = dataclasses.replace(kept, folder=flipped)
    try:
        return exchange.ask(msgspec.structs.replace(job, attempt=2))
    finally:
        node._data = kept


def five(*staying: str) -> Try:
    """All five together, then some of them."""

    def attempt(exchange: ModifiedExchange) -> Answer:
        job = exchange.job("alfa", "bravo", "carol", "delta", "echo")
        assert exchange.ask(job).left
        members = tuple(exchange.member(name) for name in staying)
        return exchange.ask(msgspec.structs.replace(job, run_id=job.run_id + "-later", roster=members))

    return attempt


def showing(change: Callable[[ModifiedExchange], Any]) -> Try:
    """A job that shows an agreement of an owner who is not in it."""
    return lambda exchange: exchange.ask(exchange.job(seen_singly=(change(exchange),)))


def deltas_own(exchange: ModifiedExchange) -> Any:
    return msgspec.to_builtins(exchange.world.owners["delta"].home.store.agreements()[0][1])


def made_up(exchange: ModifiedExchange) -> Any:
    """What delta never signed: individual visibility, by the exchange's own hand."""
    world = exchange.world
    terms = world.agreement(world.owners["delta"].home, {"delta": STRANGER.public_hex}, visibility="individual")
    return msgspec.to_builtins(sealed_terms(world.exchange_key, terms))


ONE_JOB: dict[str, tuple[Try, tuple[Try, ...]]] = {
    "purpose": (changed(purpose="inspect"), (changed(purpose="marketing"), changed(purpose=""))),
    "statistic": (changed(), (changed(statistic="rows/1"),)),
    "parameters": (changed(params={"views": VIEWS[:1]}), (changed(params={"views": VIEWS, "rows": True}), changed(params={"views": []}))),
    "operation": (changed(**own_head()), (changed(statistic="pair/1"), changed(statistic="irls/1"))),
    "job-expiry": (changed(), (changed(expires_at_s=1), changed(created_at_s=1_900_000_000, expires_at_s=1_900_000_100))),
    "stage": (changed(), (changed(stage=tiny_stage(999)), changed(stage=msgspec.structs.replace(tiny_stage(1), dimension=0)))),
    "dimension": (changed(), (changed(stage=msgspec.structs.replace(tiny_stage(1), dimension=80)),)),
    "jurisdiction": (
        saying(jurisdiction="fr"),
        (saying(jurisdiction="us"), saying(jurisdiction=""), saying(jurisdiction="*"), saying(jurisdiction="eu")),
    ),
    "models": (saying(models_to=("eu",)), (saying(models_to=("de", "us")), saying(models_to=()), saying(models_to=("*",)))),
    "output": (evaluation(), (saying(output="statistics"), saying(output=None), saying(output="evaluation"))),
    "owners-share": (
        saying(owners_share_ppm=400_000),
        (saying(owners_share_ppm=399_999), saying(owners_share_ppm=None), saying(owners_share_ppm=1_000_001)),
    ),
    "deletion": (saying(deletion_days=30), (saying(deletion_days=31), saying(deletion_days=None), saying(deletion_days=-1))),
    "roster": (
        roster(lambda x, m: m),
        (roster(lambda x, m: m[::-1]), roster(lambda x, m: (*m, m[2])), changed(roster=()), roster(lambda x, m: m[1:])),
    ),
    "participants": (roster(lambda x, m: m), (roster(puppet), roster(with_key))),
    "least-participants": (roster(lambda x, m: m[:3]), (roster(lambda x, m: m[:2]), roster(lambda x, m: m[:1]))),
    "asset": (roster(lambda x, m: m), (roster(other_asset),)),
    "asset-signature": (
        roster(lambda x, m: m),
        (
            roster(lambda x, m: (m[0], msgspec.structs.replace(m[1], asset=m[2].asset), m[2])),
            roster(lambda x, m: (m[0], msgspec.structs.replace(m[1], asset={}), m[2])),
        ),
    ),
    "agreement-signature": (
        showing(deltas_own),
        (showing(made_up), showing(lambda x: {**deltas_own(x), "signatures": []}), showing(lambda x: {})),
    ),
    "exchange-signature": (
        changed(),
        (lambda x: x.ask(x.job(), key=STRANGER), lambda x: x.ask(x.job(), key=x.world.owners["bravo"].home.key)),
    ),
    "replay": (
        after_an_answer(lambda job: msgspec.structs.replace(job, attempt=2)),
        (
            after_an_answer(lambda job: msgspec.structs.replace(job, params={"views": VIEWS[:2]})),
            after_an_answer(lambda job: msgspec.structs.replace(job, terms=msgspec.structs.replace(HONEST, jurisdiction="fr"))),
        ),
    ),
    "rounds": (
        after_an_answer(lambda job: msgspec.structs.replace(job, attempt=3)),
        (after_an_answer(lambda job: msgspec.structs.replace(job, round=2, params={"views": VIEWS[:2]})),),
    ),
    "would-reveal": (five("alfa", "bravo", "carol"), (five("alfa", "bravo", "carol", "delta"),)),
    "countersignature": (
        words(lambda given: given),
        (
            words(lambda given: {}),
            words(lambda given: {**given, "bravo": given["carol"]}),
            words(lambda given: {**given, "alfa": given["bravo"]}),
        ),
    ),
    "artefact": (evaluation(), (evaluation("sha256:" + "4" * 64),)),
    "data": (changed(), (with_another_picture,)),
    "payload": (after_an_answer(lambda job: msgspec.structs.replace(job, attempt=4)), (with_another_label,)),
}
"""clause -> (a job that obeys it, jobs that break it), all under one strict agreement."""
OWN_WORLD = (
    "paused",
    "privacy-budget",
    "privacy-unit",
    "noise",
    "records",
    "expiry",
    "runs",
    "own-head",
    "least-group-size",
    "agreement",
    "agreement-state",
    "withdrawn",
    "contribution",
    "notice",
)
"""Clauses that need an agreement or a moment of their own; each has a test of its name below."""
ELSEWHERE = {
    "noise": ("test_privacy", "test_noise_is_held_against_the_terms"),
    "privacy-budget": ("test_privacy", "test_exhausted_means_declined_whatever_the_purpose_or_the_buyer"),
    "privacy-unit": ("test_privacy", "test_groups_as_units_are_as_small_as_declared"),
    "columns": ("test_questions", "test_an_owner_that_refuses_is_named_and_the_others_answer"),
    "limits": ("test_question_attacks", "test_a_statement_that_never_ends_or_wants_all_memory_is_ended"),
    "questions": ("test_question_attacks", "test_questions_that_differ_by_one_record_are_not_both_answered"),
    "overflow": ("test_masking", "test_overflow_is_refused_before_masking"),
}
"""Clauses that no job of these reaches, because others refuse before or a table has to be asked: (module beside this one, its test)."""


@pytest.mark.parametrize("clause", ONE_JOB)
def test_a_job_that_obeys_is_answered(exchange: ModifiedExchange, clause: str) -> None:
    answer = ONE_JOB[clause][0](exchange)
    assert answer.refused == () and answer.left in (("vector",), ("head",))


@pytest.mark.parametrize(("clause", "number"), [(clause, number) for clause, (_, tries) in ONE_JOB.items() for number in range(len(tries))])
def test_a_job_that_breaks_it_is_refused_by_it(exchange: ModifiedExchange, clause: str, number: int) -> None:
    answer = ONE_JOB[clause][1][number](exchange)
    assert answer.refused == (clause,) and answer.left == ()


@pytest.fixture(scope="module")
def budgeted(tmp_path_factory: pytest.TempPathFactory) -> ModifiedExchange:
    terms = {"privacy": PrivacyTerms(epsilon=1.0, delta=1e-5, unit="group", unit_records_max=6), "allow_own_head": False}
    return ModifiedExchange(strict_world(tmp_path_factory.mktemp("budgeted"), **terms))


LOUD = Noise(deviations=(0, 0, 4_000, 80_000_000, 80_000_000, 1 << 40), norm_max=20_000)


def test_privacy_budget(budgeted: ModifiedExchange) -> None:
    assert budgeted.ask(budgeted.job(noise=LOUD)).left == ("vector",)
    assert budgeted.ask(budgeted.job()).refused == ("privacy-budget",)
    faint = msgspec.structs.replace(LOUD, deviations=(0, 0, 0, 0, 0, 1))
    assert budgeted.ask(budgeted.job(noise=faint)).refused == ("privacy-budget",)
    world = budgeted.world
    tight = PrivacyTerms(epsilon=0.001, delta=1e-5, unit="group", unit_records_max=6)
    signed_anew(world, privacy=tight, allow_own_head=False)
    assert budgeted.ask(budgeted.job(noise=LOUD)).refused == ("privacy-budget",)
    signed_anew(world, allow_own_head=False)


def test_noise(budgeted: ModifiedExchange) -> None:
    assert budgeted.ask(budgeted.job(noise=LOUD)).left == ("vector",)
    for deviations in ((1, 2, 3), (0,) * 6, (0, 0, 0, 0, 0, -5), (0, 0, 0, 0, 0, 1 << 50)):
        assert budgeted.ask(budgeted.job(noise=msgspec.structs.replace(LOUD, deviations=deviations))).refused == ("noise",)
    assert budgeted.ask(budgeted.job(noise=msgspec.structs.replace(LOUD, norm_max=-1))).refused == ("noise",)


def test_privacy_unit(budgeted: ModifiedExchange) -> None:
    """A group here has six records, as was agreed; an agreement on units of five would promise what the data does not keep."""
    assert budgeted.ask(budgeted.job(noise=LOUD)).left == ("vector",)
    smaller = PrivacyTerms(epsilon=1.0, delta=1e-5, unit="group", unit_records_max=5)
    signed_anew(budgeted.world, privacy=smaller, allow_own_head=False)
    assert budgeted.ask(budgeted.job(noise=LOUD)).refused == ("privacy-unit",)
    signed_anew(budgeted.world, allow_own_head=False)


def test_paused(exchange: ModifiedExchange) -> None:
    state, clock = exchange.world.root / "alfa" / "state", exchange.world.clock
    pause(state, clock)
    assert exchange.ask(exchange.job()).refused == ("paused",)
    resume(state)
    assert exchange.ask(exchange.job()).left == ("vector",)


def test_records(tmp_path: Path, exchange: ModifiedExchange) -> None:
    """A head is chosen by leaving groups out, so of one group none can leave."""
    assert exchange.ask(exchange.job(**own_head())).left == ("head",)
    listed = write_folder(tmp_path / "alfa" / "data", 7) / "labels.csv"
    listed.write_text(re.sub(r",m\d+,(\w+),train", r",m0,\1,train", listed.read_text()))
    there = ModifiedExchange(strict_world(tmp_path))
    assert there.ask(there.job(**own_head())).refused == ("records",)


def test_expiry(tmp_path: Path) -> None:
    exchange = ModifiedExchange(strict_world(tmp_path))
    exchange.world.clock.advance(SHORT_S - 1)
    assert exchange.ask(exchange.job()).left == ("vector",)
    exchange.world.clock.advance(1)
    assert exchange.ask(exchange.job()).refused == ("expiry",)


def test_runs(tmp_path: Path) -> None:
    exchange = ModifiedExchange(strict_world(tmp_path, runs_max=1))
    job = exchange.job()
    assert exchange.ask(job).left == ("vector",)
    assert exchange.ask(msgspec.structs.replace(job, attempt=2)).left == ("vector",)
    assert exchange.ask(exchange.job()).refused == ("runs",)


def test_own_head(tmp_path: Path, exchange: ModifiedExchange) -> None:
    assert exchange.ask(exchange.job(**own_head())).left == ("head",)
    without = ModifiedExchange(strict_world(tmp_path, allow_own_head=False))
    assert without.ask(without.job(**own_head())).refused == ("own-head",)


def test_least_group_size(tmp_path: Path, exchange: ModifiedExchange) -> None:
    records = exchange.world.owners["alfa"].home.asset.records_train
    there = ModifiedExchange(strict_world(tmp_path, least_group_size=records))
    assert there.ask(there.job()).left == ("vector",)
    signed_anew(there.world, least_group_size=records + 1)
    assert there.ask(there.job()).refused == ("least-group-size",)


def test_agreement(tmp_path: Path) -> None:
    world = strict_world(tmp_path)
    settings = NodeSettings(id="alfa", name="alfa", kind="owner", data=str(tmp_path / "alfa" / "data"), licence="test", sample=True)
    fresh: Owner = world.owner(init_home(tmp_path / "fresh", settings))
    there = ModifiedExchange(world)
    assert there.ask(there.job()).left == ("vector",)
    world.owners["alfa"] = fresh
    fresh.node._register = lambda: None  # type: ignore[method-assign]
    again = ModifiedExchange(world)
    assert again.ask(again.job()).refused == ("agreement",)


def test_agreement_state(tmp_path: Path) -> None:
    """An agreement that the exchange has not verified, or that either side has ended, answers nothing."""
    world = strict_world(tmp_path)
    there, alfa = ModifiedExchange(world), world.owners["alfa"]
    assert there.ask(there.job()).left == ("vector",)
    alfa.uplink.tampered_terms = lambda listed: []
    signed_anew(world, runs_max=900)
    assert there.ask(there.job()).refused == ("agreement-state",)
    alfa.uplink.tampered_terms = lambda listed: listed
    world.clock.advance(60)
    assert there.ask(there.job()).left == ("vector",)
    newest = alfa.home.agreements()[0][0]
    alfa.node._terms.terminate(newest, "the owner leaves", int(world.clock.now_s()))
    assert there.ask(there.job()).refused == ("agreement-state",)


def test_withdrawn(tmp_path: Path) -> None:
    """Whoever has left one purpose answers for the other; the word is the owner's, whatever the exchange made of it."""
    there = ModifiedExchange(strict_world(tmp_path, purposes=("inspect", "count")))
    there.world.service._withdrawals = None
    leave(tmp_path / "alfa" / "state", "count", "", int(there.world.clock.now_s()))
    assert there.ask(there.job()).left == ("vector",)
    job = there.job()
    assert there.ask(there.job(purpose="count")).refused == ("withdrawn",)
    leave(tmp_path / "alfa" / "state", None, "", int(there.world.clock.now_s()))
    assert there.ask(job).refused == ("withdrawn",) and there.ask(there.job()).left == ()


def test_contribution(tmp_path: Path) -> None:
    heads = msgspec.to_builtins(Array.of(np.full((2, D + 1), 1e-4)))
    asked: dict[str, Any] = {"statistic": BRIER, "params": {"heads": heads, "buckets": 2, "bucket_records_min": 4}}
    asked["terms"] = msgspec.structs.replace(HONEST, output="evaluation")
    scored: dict[str, Any] = {
        "operations": (*STRICT["operations"], BRIER),
        "visibility": "individual",
        "least_group_size": 2,
        "least_participants": 1,
    }
    scored["dimension_records_min_ratio"] = 1
    there = ModifiedExchange(strict_world(tmp_path, **scored, contribution=True))
    assert there.ask(there.job(**asked)).left == ("vector",)
    signed_anew(there.world, **scored, contribution=False)
    assert there.ask(there.job(**asked)).refused == ("contribution",)


def test_notice(exchange: ModifiedExchange) -> None:
    """What an owner is told of its sums comes from its exchange and is for itself, or it is not kept."""
    alfa, world = exchange.world.owners["alfa"], exchange.world
    notice = Notice(
        party="alfa", run="r", scenario="s", purpose="inspect", kind="turned", says="x", left_out=True, chance_ppm=1, at_s=1, next="look"
    )

    def told(document: Any) -> tuple[str, int]:
        alfa.uplink.tampered = lambda tasks: [NodeTask(phase="notice", job=msgspec.to_builtins(document))]
        alfa.node.step(0)
        alfa.uplink.tampered = lambda tasks: tasks
        return alfa.events[-1][0], len(notices_of(alfa.home.store))

    for_bravo = seal(world.exchange_key, NOTICE_TYPE, msgspec.structs.replace(notice, party="bravo"))
    for document in (seal(STRANGER, NOTICE_TYPE, notice), seal(world.exchange_key, ASSET_TYPE, notice), for_bravo, None):
        assert told(document) == ("notice-not-taken", 0)
    assert told(seal(world.exchange_key, NOTICE_TYPE, notice)) == ("notice", 1)


def _clauses_of(tree: ast.AST, constants: dict[str, str]) -> Iterator[str]:
    """Names that a module can refuse by: first of RefusedError(...), second of refuse_if(...); written out, or a constant of the room."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("RefusedError", "refuse_if"):
            said = node.args[node.func.id == "refuse_if"]
            if isinstance(said, ast.Name):
                assert said.id in constants, f"{ast.unparse(node)[:80]}: write the clause out, or as a constant"
                yield constants[said.id]
            else:
                names = [n.value for n in ast.walk(said) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
                assert names, f"{ast.unparse(node)[:80]}: write the clause out"
                yield from names


def _texts_of(tree: ast.Module) -> dict[str, str]:
    """The module's constants that are texts."""
    return {
        target.id: str(node.value.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def test_no_clause_goes_untested() -> None:
    room = Path(str(sandbox.__file__)).parent
    files = [path for path in sorted(room.rglob("*.py")) if path.name != "refusal.py"]
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in files}
    shared: dict[str, str] = {"PAUSED": PAUSED}
    for tree in trees.values():
        shared |= _texts_of(tree)
    found = {name for tree in trees.values() for name in _clauses_of(tree, {**shared, **_texts_of(tree)})}
    tested = {*ONE_JOB, *OWN_WORLD, *ELSEWHERE}
    assert found == tested, f"without a row: {sorted(found - tested)}; without a clause: {sorted(tested - found)}"
    assert all(f"test_{clause.replace('-', '_')}" in globals() for clause in OWN_WORLD)
    for module, name in ELSEWHERE.values():
        assert f"def {name}(" in (Path(__file__).parent / f"{module}.py").read_text(encoding="utf-8")
