"""Noise at the node: what a job has to add, what it costs, and what an exchange that cheats gets for it."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.contracts.agreement import PrivacyTerms
from isthmus.contracts.errors import AgreementError, InputError, RefusedError
from isthmus.contracts.head import Array
from isthmus.contracts.job import Noise
from isthmus.contracts.question import QUESTION
from isthmus.contracts.statistic import (
    CLUSTERS,
    EVALUATE,
    FOLD_OUT,
    IRLS,
    MOMENTS,
    PAIR,
    EvaluateParams,
    IrlsParams,
    MomentsParams,
    PairParams,
)
from isthmus.contracts.sums import evaluation_from, moments_from
from isthmus.kit.canonical import digest_of
from isthmus.kit.hatmatrix import Floats
from isthmus.sandbox.accounting import rho_of
from isthmus.sandbox.folder import groups_of
from isthmus.sandbox.jobstore import JobStore
from isthmus.sandbox.nodehome import NodeSettings, init_home, open_home
from isthmus.sandbox.privacy import check_units, cost_nanos, noise_of, share_variance, told_only
from isthmus.sandbox.service import SandboxService
from isthmus.sandbox.statistics.evaluation import evaluation
from isthmus.sandbox.statistics.irls import irls
from isthmus.sandbox.statistics.moments import moments
from isthmus.sandbox.statistics.pair import pair
from isthmus.sandbox.statistics.records import Records, TrainingRecords, shortened
from isthmus.sandbox.statistics.registry import STATISTICS
from isthmus.sandbox.statistics.sensitivity import Unit, evaluate_blocks, irls_blocks, moments_blocks, pair_blocks
from isthmus.sandbox.terms import check_agreement
from tests.sandbox.test_attacks import job_of, offered
from tests.sandbox.world import VIEWS, D, World, tiny_head, tiny_stage, write_folder

TERMS = PrivacyTerms(epsilon=1.0, delta=1e-5)
NORM = 20_000
MOMENT_NOISE = Noise(deviations=(0, 0, 400, 8_000_000, 8_000_000, 1 << 38), norm_max=NORM)

DEAR = Noise(deviations=(0, 0, 100, 2_000_000, 2_000_000, 1 << 36), norm_max=NORM)


def private_world(tmp_path, owners: int = 3, **terms: Any) -> World:
    world = World(tmp_path, terms={"privacy": TERMS, "allow_own_head": False, **terms})
    world.add(*("alfa", "bravo", "carol", "delta", "echo")[:owners])
    world.steps(1)
    return world


def noisy_request(world: World, **changes: Any) -> Any:
    return world.request(**{"noise": MOMENT_NOISE, **changes})


# Sensitivity: no record changes a statistic by more than is declared.


def rows_of(rng: np.random.Generator, records: int, groups: int, views: int = 2) -> TrainingRecords:
    y = np.where(rng.random(records) < 0.5, -1, 1).astype(np.int64)
    found = Records(y, rng.integers(0, groups, records), ("",) * records)
    q = [rng.integers(-32767, 32768, (records, D)).astype(np.int16) for _ in range(views)]
    return TrainingRecords(found, tuple(shortened(one, NORM) for one in q), rng.integers(1, 3, records))


def without(rows: TrainingRecords, gone: np.ndarray) -> TrainingRecords:
    kept = ~gone
    records = Records(
        rows.records.y[kept], rows.records.groups[kept], tuple(k for k, keep in zip(rows.records.kinds, kept, strict=True) if keep)
    )
    return TrainingRecords(records, tuple(q[kept] for q in rows.views), rows.w[kept])


def within(blocks: Any, change: Floats) -> None:
    place = 0
    for block in blocks:
        part = change[place : place + block.entries].astype(np.float64)
        assert float(np.linalg.norm(part)) <= block.length * (1 + 1e-12), block.name
        place += block.entries
    assert place == change.size


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4), st.booleans())
def test_no_unit_changes_a_statistic_by_more_than_is_declared(seed: int, records: int, grouped: bool) -> None:
    rng = np.random.default_rng(seed)
    rows = rows_of(rng, 14, 4)
    size = records if grouped else 1
    rows.records.groups[:size] = 99
    gone = np.arange(14) < size
    unit = Unit(size, grouped)
    training = {"views": ("identity", "rotate-180"), "sure_weight": 2, "unsure_weight": 1}
    less = without(rows, gone)
    change = moments(rows).packed() - moments(less).packed()
    within(moments_blocks(MomentsParams(**training), tiny_stage(), unit, NORM), change)
    asked = IrlsParams(**training, coefficients=Array.of(rng.normal(size=D + 1) * 1e-4), total_weight=100)
    within(irls_blocks(asked, tiny_stage(), unit, NORM), irls(rows, asked).packed() - irls(less, asked).packed())
    scores = rng.uniform(-2, 2, 14)
    everyone, others = np.ones(14, dtype=bool), ~gone
    head = tiny_head()
    change = evaluation(rows.records, scores, -0.1, 0.1, everyone).packed() - evaluation(rows.records, scores, -0.1, 0.1, others).packed()
    within(evaluate_blocks(EvaluateParams(artefact="", head=head), tiny_stage(), unit, 0), change)
    old, new = rng.integers(-1, 2, 14), rng.integers(-1, 2, 14)
    change = pair(rows.records, old, new).packed() - pair(less.records, old[others], new[others]).packed()
    within(pair_blocks(PairParams(old=head, new=head), tiny_stage(), unit, 0), change)


def test_views_and_weights_multiply_the_sensitivity() -> None:
    one = moments_blocks(MomentsParams(views=("identity",), sure_weight=1), tiny_stage(), Unit(), NORM)
    four = moments_blocks(MomentsParams(views=tuple(VIEWS), sure_weight=1), tiny_stage(), Unit(), NORM)
    heavy = moments_blocks(MomentsParams(views=tuple(VIEWS), sure_weight=3, drawn_weight=2), tiny_stage(), Unit(5, True), NORM)
    assert [b.length for b in four[1:]] == [4 * b.length for b in one[1:]]
    assert [b.length for b in heavy[1:]] == [5 * 14 * b.length for b in one[1:]]


def test_statistics_that_nothing_bounds_say_so() -> None:
    bounded = {name for name, s in STATISTICS.items() if s.sensitivity is not None}
    assert bounded == {MOMENTS, IRLS, EVALUATE, PAIR, QUESTION}


def test_rows_are_shortened_and_never_lengthened() -> None:
    q = np.array([[30000, -30000, 100, 0], [3, 4, 0, 0]], dtype=np.int16)
    found = shortened(q, 1000)
    assert np.linalg.norm(found[0].astype(float)) <= 1000
    assert found[1].tolist() == q[1].tolist()
    assert shortened(q, 0) is q


# Noise: enough from all but one.


def test_all_but_one_share_have_the_declared_deviation() -> None:
    assert share_variance(1000, 5) * 4 >= 1000**2
    assert share_variance(1000, 1) >= 1000**2
    blocks = moments_blocks(MomentsParams(views=("identity",)), tiny_stage(), Unit(), NORM)
    noise = Noise(deviations=(0, 0, 0, 1000, 0, 0), norm_max=NORM)
    drawn = np.stack([sum(noise_of(blocks, noise, 5) for _ in range(4)) for _ in range(800)])[:, 4 : 4 + D].astype(float)
    assert abs(drawn.std() / 1000 - 1) < 0.08
    alone = cost_nanos(blocks, noise, 5)
    assert alone == pytest.approx(1e9 * rho_of(blocks[3].length, 1000.0**2), rel=1e-6)
    share = np.ones(sum(b.entries for b in blocks), dtype=np.int64)
    assert told_only(share, blocks, noise).sum() == D


def test_the_total_is_the_sum_of_noisy_shares_that_every_owner_paid_for(tmp_path) -> None:
    """Each owner's noisy share is in its ledger; what the exchange has is the sum of those and nothing else."""
    world = private_world(tmp_path)
    status = world.service.create_job(noisy_request(world))
    world.steps()
    found = world.service.job(status.id)
    assert found.phase == "done" and found.total is not None
    total = found.total.array().astype(np.int64)
    assert (moments_from(total, D).records, moments_from(total, D).groups, moments_from(total, D).sum_w) == (0, 0, 0)
    kept = [o.home.store.privacy._database.rows("SELECT share FROM releases")[0]["share"] for o in world.owners.values()]
    assert np.array_equal(total, sum(np.frombuffer(share, dtype="<i8") for share in kept))
    for name, owner in world.owners.items():
        spent = owner.home.store.privacy.releases(name)
        assert [r.statistic for r in spent] == [MOMENTS] and spent[0].rho_nanos > 0


# Clauses.


@pytest.fixture(scope="module")
def paid(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Owners with budgets of which nothing is spent: only for jobs that are not answered."""
    return private_world(tmp_path_factory.mktemp("paid"))


@pytest.mark.parametrize(
    ("clause", "changes"),
    [
        ("privacy-budget", {"noise": None}),
        ("noise", {"noise": Noise(deviations=(1, 2, 3))}),
        ("noise", {"noise": Noise(deviations=(0,) * 6)}),
        ("noise", {"noise": Noise(deviations=(0, 0, 0, 0, 0, -5))}),
        ("noise", {"noise": Noise(deviations=(0, 0, 0, 0, 0, 1 << 50))}),
        ("noise", {"noise": Noise(deviations=(0, 0, 0, 0, 0, 1), norm_max=-1)}),
        ("privacy-budget", {"noise": Noise(deviations=(0, 0, 0, 0, 0, 1))}),
        ("noise", {"statistic": CLUSTERS, "params": {"candidate": None, "total_weight": 1, "lo": 0, "hi": 0}}),
        ("noise", {"statistic": EVALUATE, "params": {"slices": ["mono"]}}),
        ("noise", {"statistic": EVALUATE, "params": {}, "noise": Noise(deviations=(0, 50, 0, 50, 50, 50))}),
    ],
)
def test_noise_is_held_against_the_terms(paid: World, clause: str, changes: dict[str, Any]) -> None:
    world = paid
    head = tiny_head()
    if changes.get("statistic") == EVALUATE:
        changes = {**changes, "params": {"artefact": digest_of(head), "head": msgspec.to_builtins(head), **changes["params"]}}
    if changes.get("statistic") == CLUSTERS:
        one = {"penalty": 1.0, "bias": 0.0, "coefficients": msgspec.to_builtins(Array.of(np.zeros(D)))}
        changes = {**changes, "params": {**changes["params"], "candidate": one, "views": VIEWS}}
    job = job_of(world, **{"noise": MOMENT_NOISE, **changes})
    terms = msgspec.structs.replace(job.terms, output="evaluation" if job.statistic == EVALUATE else "model")
    assert offered(world, "alfa", msgspec.structs.replace(job, terms=terms)) == [clause]


def test_the_dimension_rule_gives_way_to_a_budget_only(paid: World, tmp_path) -> None:
    wide = msgspec.structs.replace(tiny_stage(), dimension=40)
    noise = Noise(deviations=(0, 0, 400, 80_000_000, 80_000_000, 1 << 38), norm_max=NORM)
    assert offered(paid, "alfa", job_of(paid, run_id="wide", stage=wide, noise=noise)) == []
    free = World(tmp_path / "free")
    free.add("alfa", "bravo", "carol")
    free.steps(1)
    assert offered(free, "alfa", job_of(free, stage=wide, noise=noise)) == ["dimension"]


def test_statistics_without_a_bound_are_refused_under_a_budget(paid: World) -> None:
    world = paid
    one = {"penalty": 1.0, "bias": 0.0, "coefficients": msgspec.to_builtins(Array.of(np.zeros(D)))}
    params = {"views": VIEWS, "candidates": [one], "total_weight": 1000}
    assert offered(world, "alfa", job_of(world, statistic=FOLD_OUT, params=params, noise=None)) == ["privacy-budget"]


def test_exhausted_means_declined_whatever_the_purpose_or_the_buyer(tmp_path) -> None:
    world = private_world(tmp_path, purposes=("inspect", "resell"), runs_max=20)
    clauses: list[str] = []
    for number in range(5):
        purpose = "resell" if number % 2 else "inspect"
        status = world.service.create_job(noisy_request(world, run_id=f"run-{number}", purpose=purpose, noise=DEAR))
        world.steps(2)
        clauses.append(world.service.job(status.id).phase)
    done = clauses.count("done")
    assert 2 <= done < 5 and clauses == ["done"] * done + ["failed"] * (5 - done)
    alfa = world.owners["alfa"]
    assert set(alfa.refusals()) == {"privacy-budget"}
    assert alfa.home.store.privacy.left_nanos("alfa", TERMS) < alfa.home.store.privacy.releases("alfa")[0].rho_nanos


def test_new_data_a_new_agreement_or_a_restart_do_not_refill_it(tmp_path) -> None:
    world = private_world(tmp_path)
    world.service.create_job(noisy_request(world))
    world.steps()
    spent = world.owners["alfa"].home.store.privacy.spent_nanos("alfa")
    assert world.restart("alfa").home.store.privacy.spent_nanos("alfa") == spent > 0
    write_folder(tmp_path / "other", 77)
    settings_new = NodeSettings(id="alfa", name="alfa", kind="owner", data=str(tmp_path / "other"), licence="test", sample=True)
    home = init_home(world.root / "alfa" / "state", settings_new)
    home.agree(world.agreement(home, {n: o.home.key.public_hex for n, o in world.owners.items()}))
    assert home.store.privacy.spent_nanos("alfa") == spent
    assert home.store.privacy.left_nanos("alfa", TERMS, home.asset_digest, "train") < home.store.privacy.left_nanos("bravo", TERMS)


# Attacks from an exchange that ignores the agreement.


def forget(world: World, place: int) -> None:
    """An exchange that begins anew, with the same key."""
    world.service = SandboxService(JobStore(world.root / f"again{place}.sqlite"), world.exchange_key, world.clock)
    for owner in world.owners.values():
        owner.uplink.service = world.service
        owner.node._posted.clear()
    world.steps(1)


def asked_again(world: World, request: Any) -> np.ndarray:
    """The same question once more after its job has run out: its next attempt."""
    status = world.service.create_job(request)
    world.steps()
    found = world.service.job(status.id).total
    assert found is not None
    return found.array().astype(np.int64)


def test_an_average_over_the_same_question_has_one_answers_noise(tmp_path) -> None:
    """The exchange forgets the job and asks anew, under other times and attempts: the same noisy shares come back, masks fresh."""
    world = private_world(tmp_path)
    request = noisy_request(world, ttl_s=30)
    first = asked_again(world, request)
    spent = world.owners["alfa"].home.store.privacy.spent_nanos("alfa")
    for place in range(2):
        world.clock.advance(60)
        forget(world, place)
        assert np.array_equal(asked_again(world, request), first), place
    assert world.owners["alfa"].home.store.privacy.spent_nanos("alfa") == spent
    vectors = [body for path, body in world.owners["alfa"].uplink.sent if "/vector" in path]
    assert len(set(vectors)) == len(vectors) == 3


def test_the_same_round_with_other_noise_is_another_question(tmp_path) -> None:
    world = private_world(tmp_path)
    job = job_of(world, noise=MOMENT_NOISE)
    world.service.create_job(noisy_request(world))
    world.steps()
    louder = Noise(deviations=(0, 0, 400, 9_000_000, 8_000_000, 1 << 38), norm_max=NORM)
    assert offered(world, "alfa", msgspec.structs.replace(job, noise=louder, attempt=2)) == ["replay"]


def test_averaging_over_runs_is_paid_for_each_time(tmp_path) -> None:
    world = private_world(tmp_path, runs_max=20)
    alfa = world.owners["alfa"].home.store.privacy
    costs = []
    for number in range(2):
        asked_again(world, noisy_request(world, run_id=f"r{number}"))
        costs.append(alfa.spent_nanos("alfa"))
    assert costs[1] == 2 * costs[0]


def test_a_job_that_failed_after_it_was_paid_is_not_paid_again(tmp_path) -> None:
    """Refused by one owner, tried again: neither a refill nor a second price."""
    world = private_world(tmp_path)
    status = world.service.create_job(noisy_request(world, ttl_s=30))
    world.steps(1)
    world.owners["alfa"].node.step(0)
    spent = world.owners["alfa"].home.store.privacy.spent_nanos("alfa")
    assert spent > 0
    world.clock.advance(31)
    world.service.create_job(noisy_request(world, ttl_s=30))
    world.steps()
    assert world.service.job(status.id).phase == "done"
    assert world.owners["alfa"].home.store.privacy.spent_nanos("alfa") == spent


def test_a_refused_job_costs_nothing_and_gives_nothing_back(paid: World) -> None:
    world = paid
    job = job_of(world, run_id="cheap", noise=Noise(deviations=(0, 0, 0, 0, 0, 1)))
    for attempt in range(1, 4):
        assert offered(world, "alfa", msgspec.structs.replace(job, attempt=attempt)) == ["privacy-budget"]
    assert world.owners["alfa"].home.store.privacy.spent_nanos("alfa") == 0


def test_splits_of_one_version_cost_what_the_dearest_costs(tmp_path) -> None:
    world = private_world(tmp_path)
    head = tiny_head()
    world.service.create_job(noisy_request(world))
    world.steps()
    ledger = world.owners["alfa"].home.store.privacy
    trained = ledger.spent_nanos("alfa")
    params = msgspec.to_builtins(EvaluateParams(artefact=digest_of(head), head=head))
    status = world.service.create_job(
        noisy_request(world, round=2, statistic=EVALUATE, params=params, noise=Noise(deviations=(0, 60, 0, 60, 0, 60)))
    )
    world.steps()
    found = world.service.job(status.id)
    assert found.phase == "done" and found.total is not None
    assert evaluation_from(found.total.array().astype(np.int64)).counts["records"] == 0
    assert ledger.spent_nanos("alfa") == trained
    assert {r.part for r in ledger.releases("alfa")} == {"train", "holdout"}


def test_groups_as_units_are_as_small_as_declared(paid: World) -> None:
    folder = paid.owners["alfa"].home.folder
    terms = PrivacyTerms(epsilon=50.0, delta=1e-5, unit="group", unit_records_max=6)
    check_units(terms, lambda: groups_of(folder))
    check_units(TERMS, lambda: groups_of(folder))
    moved = dataclasses.replace(folder.files[0], split="holdout")
    for broken, files in (
        (msgspec.structs.replace(terms, unit_records_max=5), folder.files),
        (terms, (moved, *folder.files[1:])),
    ):
        with pytest.raises(RefusedError) as told:
            check_units(broken, lambda files=files: groups_of(dataclasses.replace(folder, files=files)))  # type: ignore[misc]
        assert told.value.clause == "privacy-unit"


def test_privacy_terms_that_promise_nothing(paid: World) -> None:
    world = paid
    honest = world.agreement(world.owners["alfa"].home, {n: o.home.key.public_hex for n, o in world.owners.items()})
    check_agreement(honest)
    for changes in (
        {"epsilon": 0.0},
        {"epsilon": math.inf},
        {"delta": 0.5},
        {"delta": 0.0},
        {"unit_records_max": 0},
        {"unit_records_max": 3},
    ):
        broken = msgspec.structs.replace(honest, privacy=msgspec.structs.replace(TERMS, **changes))
        with pytest.raises(AgreementError):
            check_agreement(broken)
    for terms in ({"allow_own_head": True}, {"contribution": True, "visibility": "individual"}):
        with pytest.raises(AgreementError):
            check_agreement(msgspec.structs.replace(honest, **terms))


def test_evaluations_with_slices_are_told_apart_from_noise() -> None:
    with pytest.raises(RefusedError):
        evaluate_blocks(EvaluateParams(artefact="", head=tiny_head(), slices=("mono",)), tiny_stage(), Unit(), 0)


def test_exact_and_noisy_answers_about_the_same_data_exclude_each_other(tmp_path) -> None:
    world = private_world(tmp_path)
    home = world.owners["alfa"].home
    keys = {n: o.home.key.public_hex for n, o in world.owners.items()}
    with pytest.raises(InputError, match="no epsilon holds"):
        home.agree(world.agreement(home, keys, privacy=None, purposes=("resell",)))
    home.agree(world.agreement(home, keys, privacy=msgspec.structs.replace(TERMS, epsilon=2.0), purposes=("resell",)))
    later = int(world.clock.now_s()) + 4000
    home.agree(world.agreement(home, keys, privacy=None, issued_at_s=later, expires_at_s=later + 10))


def test_a_ledger_that_was_taken_away_does_not_begin_anew(tmp_path) -> None:
    world = private_world(tmp_path)
    world.service.create_job(noisy_request(world))
    world.steps()
    alfa = world.owners["alfa"]
    alfa.home.store.close()
    for file in (world.root / "alfa" / "state").glob("privacy.sqlite*"):
        file.unlink()
    world.owners["alfa"] = world.owner(open_home(world.root / "alfa" / "state"))
    assert offered(world, "alfa", job_of(world, run_id="again", noise=MOMENT_NOISE)) == ["privacy-budget"]
