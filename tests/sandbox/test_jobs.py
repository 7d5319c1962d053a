"""Whole jobs in one process: what the exchange gets is exactly what the statistics promise."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from isthmus.contracts.brier import BRIER
from isthmus.contracts.errors import ConflictError, InputError, UnreachableError
from isthmus.contracts.head import Array
from isthmus.contracts.statistic import (
    CLUSTERS,
    EVALUATE,
    FOLD_OUT,
    GAUSSIAN_CLUSTERS,
    GAUSSIAN_FOLD_OUT,
    IRLS,
    MOMENTS,
    OWN_HEAD,
    SITE_GAUSSIAN,
    SITE_HEAD,
    Candidate,
    ClustersParams,
    Corruption,
    EvaluateParams,
    FleetCurve,
    FoldOutParams,
    NamedHead,
    SiteHeadParams,
    TrainingParams,
    Working,
    evaluation_keys,
)
from isthmus.contracts.sums import EVALUATION_SIZE, Moments, evaluation_from, foldout_from, group_sums_from, moments_from
from isthmus.contracts.treesums import HISTOGRAMS
from isthmus.kit.canonical import digest_of
from isthmus.kit.hatmatrix import design
from isthmus.sandbox.outlog import undeclared, verify_log
from isthmus.sandbox.statistics.foldout import fold_out_scores, score_histogram, weighted_loss
from isthmus.sandbox.statistics.moments import moments
from isthmus.sandbox.statistics.own_head import fit
from isthmus.sandbox.statistics.registry import STATISTICS
from isthmus.sandbox.terms import SINGLE_HEADS_MAX
from tests.sandbox.world import VIEWS, D, World, tiny_head, tiny_stage, tiny_tools


def training(world: World, name: str):
    data = world.owners[name].home.owner_data(tiny_tools())
    return data.training(tiny_stage(), TrainingParams(views=tuple(VIEWS)))


def total_of(world: World) -> Moments:
    packed = sum(moments(training(world, name)).packed() for name in world.owners)
    return moments_from(packed, D)


def candidate(total: Moments, penalty: float) -> Candidate:
    raw = fit(total, penalty).raw()
    return Candidate(penalty=penalty, bias=float(raw[0]), coefficients=Array.of(raw[1:]))


def run(world: World, statistic: str, params=None, **changes):
    job = world.service.create_job(world.request(statistic, params, **changes))
    world.steps()
    return world.service.job(job.id)


def brute_force_scores(world: World, name: str, total: Moments, penalty: float) -> np.ndarray:
    """Each group's scores by a fit from the summed rows of everybody, without that group."""
    f = fit(total, penalty)
    d = D
    prior = np.diag([0.0] + [penalty * total.sum_w] * d)
    parts = {n: training(world, n) for n in world.owners}
    mine = parts[name]
    scores = np.empty(mine.records.size)
    for group in np.unique(mine.records.groups):
        normal, target = prior.copy(), np.zeros(d + 1)
        for n, part in parts.items():
            q, y, w, g = part.stacked()
            keep = np.ones(len(y), dtype=bool) if n != name else g != group
            z = design(q[keep], f.mean, f.scale)
            normal += (z * w[keep, None]).T @ z
            target += (z * w[keep, None]).T @ y[keep]
        rows = mine.records.groups == group
        scores[rows] = design(mine.views[0][rows], f.mean, f.scale) @ np.linalg.solve(normal, target)
    return scores


def test_masked_sum_equals_pooled_moments_exactly(world: World) -> None:
    status = run(world, MOMENTS)
    assert status.phase == "done", status.reason
    pooled = total_of(world)
    assert np.array_equal(status.total.array(), pooled.packed())
    for owner in world.owners.values():
        vectors = [body for path, body in owner.uplink.sent if "/vector" in path]
        own = moments(training(world, owner.home.settings.id)).packed()
        assert len(vectors) == 1 and vectors[0] != own.astype("<i8").tobytes()
        assert not (np.frombuffer(vectors[0], "<i8") == own).any()


def test_single_vectors_are_forgotten_and_the_request_is_answered_again(world: World) -> None:
    first = run(world, MOMENTS)
    state = world.service._store.job(first.id)
    assert all(d.body is None for d in state.deliveries.values()) and set(first.bytes_received) == set(world.owners)
    sent = {name: len(owner.uplink.sent) for name, owner in world.owners.items()}
    world.restart_exchange()
    again = run(world, MOMENTS)
    assert again.digest == first.digest and again.total == first.total
    assert sent == {name: len(owner.uplink.sent) for name, owner in world.owners.items()}


def test_fold_out_is_near_refitting_without_each_group(world: World) -> None:
    """No owner is told the others' sums, so the pull of a group on the fit is estimated; the loss comes out within a few per cent."""
    pooled = total_of(world)
    for row, penalty in enumerate((0.01, 1.0)):
        fields = {"candidates": (candidate(pooled, penalty),), "total_weight": pooled.sum_w, "histograms": True}
        status = run(world, FOLD_OUT, msgspec.to_builtins(FoldOutParams(views=tuple(VIEWS), **fields)), round=row + 1)
        assert status.phase == "done", status.reason
        found = foldout_from(status.total.array(), 1)
        loss, histogram = 0, np.zeros((2, 256), dtype=np.int64)
        for name in world.owners:
            part = training(world, name)
            scores = brute_force_scores(world, name, pooled, penalty)
            loss += weighted_loss(scores, part.records.y, part.w)
            histogram += score_histogram(scores, part.records.y)
        fitted = sum(fitted_loss(world, name, pooled, penalty) for name in world.owners)
        assert abs(int(found.loss[0]) - loss) <= 0.02 * loss
        assert abs(int(found.loss[0]) - loss) < 0.35 * (loss - fitted)  # far nearer than scores that saw their own groups
        assert np.abs(found.histogram[0].cumsum(axis=1) - histogram.cumsum(axis=1)).max() <= 4
        assert found.histogram[0].sum() == pooled.records


def test_fold_out_scores_are_told_only_when_asked_for(world: World) -> None:
    pooled = total_of(world)
    params = FoldOutParams(views=tuple(VIEWS), candidates=(candidate(pooled, 0.1),), total_weight=pooled.sum_w, histograms=False)
    found = foldout_from(run(world, FOLD_OUT, msgspec.to_builtins(params)).total.array(), 1)
    assert not found.histogram.any() and found.loss[0] > 0 and found.sum_w > 0


def fitted_loss(world: World, name: str, total: Moments, penalty: float) -> int:
    part, raw = training(world, name), fit(total, penalty).raw()
    return weighted_loss(raw[0] + part.views[0] @ raw[1:], part.records.y, part.w)


def test_an_owner_that_is_all_there_is_finds_exact_fold_out_scores(world: World) -> None:
    part = training(world, "alfa")
    alone = moments(part)
    for penalty in (0.01, 1.0):
        f = fit(alone, penalty)
        raw = f.raw()
        scores = fold_out_scores(part, penalty, float(raw[0]), raw[1:], alone.sum_w)
        for group in np.unique(part.records.groups):
            q, y, w, g = part.stacked()
            z, keep = design(q, f.mean, f.scale), g != group
            normal = (z[keep] * w[keep, None]).T @ z[keep] + np.diag([0.0] + [penalty * alone.sum_w] * D)
            wanted = z[: part.records.size] @ np.linalg.solve(normal, (z[keep] * w[keep, None]).T @ y[keep])
            rows = part.records.groups == group
            assert np.allclose(scores[rows], wanted[rows], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("change", [{"total_weight": 3}, {"penalty": -1.0}, {"coefficients": D + 1}])
def test_a_candidate_that_is_no_fit_of_the_total_is_refused(world: World, change) -> None:
    pooled = total_of(world)
    one = candidate(pooled, 0.1)
    if "penalty" in change or "coefficients" in change:
        wrong = {"coefficients": Array.of(np.zeros(D + 1))} if "coefficients" in change else change
        one, change = msgspec.structs.replace(one, **wrong), {}
    fields = {"candidates": (one,), "total_weight": pooled.sum_w, **change}
    status = run(world, FOLD_OUT, msgspec.to_builtins(FoldOutParams(views=tuple(VIEWS), **fields)))
    assert status.phase == "failed" and {r.clause for r in status.refusals} == {"parameters"}


def test_nothing_that_an_owner_is_told_holds_a_matrix_of_the_others() -> None:
    """d + 1 coefficients a penalty, not the (d + 1)^2 of a Gram matrix or its inverse, from which the others' could be subtracted."""
    told = {"Candidate": Candidate, "Working": Working, "FleetCurve": FleetCurve} | {
        name: statistic.params for name, statistic in STATISTICS.items()
    }
    arrays = {
        (name, field)
        for name, params in told.items()
        for kind in params.__mro__
        for field, hint in getattr(kind, "__annotations__", {}).items()
        if "Array" in str(hint)
    }
    few = {(name, "coefficients") for name in ("Candidate", "Working", IRLS, "FleetCurve")}
    of_sites = {(SITE_HEAD, "fleet"), ("FleetCurve", "sums")}
    asked_next = {(HISTOGRAMS, "growing"), (HISTOGRAMS, "cuts")}  # one integer a node or cut: what is asked, no sums
    of_gaussians = {(name, "total") for name in (GAUSSIAN_FOLD_OUT, GAUSSIAN_CLUSTERS, SITE_GAUSSIAN)}  # its head says as much
    of_scored = {(BRIER, "heads")}  # d + 1 coefficients a coalition, told to owners who agreed to be scored; enough of them say as much
    assert arrays == few | of_sites | asked_next | of_gaussians | of_scored, "and a site's fleet is refused to whoever is in one"


def test_a_fleets_total_is_refused_to_whoever_is_in_it(world: World) -> None:
    pooled = total_of(world)
    assert run(world, MOMENTS).phase == "done"
    owner = world.owners["alfa"]
    fields = {"fleet": Array.of(pooled.packed()), "fleet_penalty": 0.1, "factors": (1.0,), "penalties": (0.1,)}
    params = msgspec.to_builtins(SiteHeadParams(views=tuple(VIEWS), **fields))
    keys = {name: o.home.key.public_hex for name, o in world.owners.items()}
    alone = {"purposes": ("site",), "least_participants": 1, "visibility": "individual", "operations": (SITE_HEAD,)}
    owner.home.agree(world.agreement(owner.home, keys, **alone))
    world.restart("alfa")
    world.steps(1)
    status = run(world, SITE_HEAD, params, purpose="site", run_id="run-site", roster=("alfa",))
    assert status.phase == "failed" and {r.clause for r in status.refusals} == {"would-reveal"}


def test_own_heads_of_an_owner_are_few_over_all_runs(world: World) -> None:
    """Each head is d + 1 equations on the same sums; many would be the sums."""
    phases = []
    for number in range(SINGLE_HEADS_MAX + 2):
        params = {"views": VIEWS, "penalties": [0.001 * 2**number]}
        phases.append(run(world, OWN_HEAD, params, run_id=f"run-{number % 5}", round=1 + number // 5).phase)
    assert phases == ["done"] * SINGLE_HEADS_MAX + ["failed"] * 2


def test_clusters_counts_answers_and_errors_by_group(world: World) -> None:
    pooled = total_of(world)
    params = ClustersParams(views=tuple(VIEWS), candidate=candidate(pooled, 0.1), lo=-0.2, hi=0.3, total_weight=pooled.sum_w)
    status = run(world, CLUSTERS, msgspec.to_builtins(params))
    sums = group_sums_from(status.total.array())
    a_all, e_all = [], []
    for name in world.owners:
        part = training(world, name)
        raw = fit(pooled, 0.1).raw()
        scores = fold_out_scores(part, 0.1, float(raw[0]), raw[1:], pooled.sum_w)
        verdict = np.where(scores >= 0.3, 1, np.where(scores <= -0.2, -1, 0))
        for group in np.unique(part.records.groups):
            rows = part.records.groups == group
            a_all.append(int((verdict[rows] != 0).sum()))
            e_all.append(int(((verdict[rows] != 0) & (verdict[rows] != part.records.y[rows])).sum()))
    a, e = np.array(a_all), np.array(e_all)
    assert (sums.groups, sums.a, sums.e, sums.aa, sums.ee, sums.ae) == ((a > 0).sum(), a.sum(), e.sum(), a @ a, e @ e, a @ e)
    assert sums.e > 0


def test_own_head_is_seen_singly_and_classifies(world: World) -> None:
    status = run(world, OWN_HEAD, {"views": VIEWS, "penalties": [0.001, 0.1, 10.0]}, stage=tiny_stage(2))
    assert status.phase == "done" and set(status.heads) == set(world.owners)
    for name, head in status.heads.items():
        values, part = head.array(), training(world, name)
        scores = values[0] + part.views[0] @ values[1:]
        assert values.shape == (D + 1,) and np.mean(np.sign(scores) == part.records.y) > 0.75
    entries = verify_log(world.owners["alfa"].log, world.owners["alfa"].home.key.public_hex)
    (left,) = [e for e in entries if e.kind == "head"]
    assert (left.shape, left.dtype, left.bytes) == ((D + 1,), "float64", 8 * (D + 1))


def test_evaluation_counts_are_those_of_the_artefact_on_held_out_records(world: World) -> None:
    head = tiny_head()
    params = EvaluateParams(
        artefact=digest_of(head),
        head=head,
        others=(NamedHead(name="alfa", head=tiny_head(lo=0, hi=0, slope=-1e-4, block=2)),),
        slices=("mono",),
        corruptions=(Corruption(family="brightness", severity=3),),
    )
    status = run(world, EVALUATE, msgspec.to_builtins(params))
    assert status.phase == "done", status.reason
    keys = evaluation_keys(params)
    parts = {key: evaluation_from(part) for key, part in zip(keys, status.total.array().reshape(-1, EVALUATION_SIZE), strict=True)}
    held = sum(owner.home.asset.records_holdout for owner in world.owners.values())
    clean = parts[("joint", "clean", "all")].counts
    wrong_way = parts[("alfa", "clean", "all")].counts
    assert clean["records"] == held == wrong_way["records"] == wrong_way["answered"]
    assert clean["answered"] == clean["answered_defects"] + clean["answered_good"] > 0
    assert clean["errors"] == clean["missed_defects"] + clean["false_alarms"] < clean["answered"] / 2 < wrong_way["errors"]
    assert parts[("joint", "brightness/3", "all")].counts != clean and parts[("joint", "clean", "mono")].counts["records"] == held
    assert parts[("joint", "clean", "all")].histogram.sum() == held


def test_log_holds_every_message_and_nothing_undeclared(world: World) -> None:
    run(world, MOMENTS)
    for owner in world.owners.values():
        entries = verify_log(owner.log, owner.home.key.public_hex)
        import hashlib

        assert [e.sha256 for e in entries] == [hashlib.sha256(body).hexdigest() for _, body in owner.uplink.sent]
        assert sum(e.bytes for e in entries) == sum(len(body) for _, body in owner.uplink.sent)
        assert undeclared(entries) == []


def test_killed_between_store_and_send_sends_the_same_bytes(world: World) -> None:
    job = world.service.create_job(world.request())
    alfa = world.owners["alfa"]
    tried: list[tuple[str, bytes]] = []

    def cut(path: str, body: bytes) -> None:
        if "/countersign" in path or "/vector" in path:
            tried.append((path, body))
            raise UnreachableError("cut")

    alfa.uplink.before = cut
    with pytest.raises(UnreachableError):
        alfa.node.step(0)
    world.steps(1, only=("bravo", "carol"))
    alfa = world.restart("alfa")
    alfa.uplink.before = lambda path, body: tried.append((path, body)) if "/countersign" in path else cut(path, body)
    alfa.node.step(0)
    with pytest.raises(UnreachableError):
        alfa.node.step(0)
    alfa = world.restart("alfa")
    alfa.uplink.before = lambda path, body: tried.append((path, body)) if "/vector" in path else None
    world.steps()
    status = world.service.job(job.id)
    assert status.phase == "done" and np.array_equal(status.total.array(), total_of(world).packed())
    kinds = [path.split("?")[0].rsplit("/", 1)[1] for path, _ in tried]
    assert kinds == ["countersign", "countersign", "vector", "vector"]
    assert tried[0] == tried[1] and tried[2] == tried[3]
    verify_log(alfa.log, alfa.home.key.public_hex)


def test_exchange_restarts_in_the_middle(world: World) -> None:
    job = world.service.create_job(world.request())
    for _ in range(4):
        for owner in list(world.owners.values()):
            owner.node.step(0)
            world.restart_exchange()
    assert world.service.job(job.id).phase == "done"


def test_second_run_reuses_features(world: World) -> None:
    run(world, MOMENTS)
    calls: list[int] = []
    data = world.owners["alfa"].home.owner_data(tiny_tools(), lambda done, total, label: calls.append(done))
    data.training(tiny_stage(), TrainingParams(views=tuple(VIEWS)))
    assert calls == []


def test_expired_job_names_who_is_missing_and_is_asked_anew(world: World) -> None:
    job = world.service.create_job(world.request(ttl_s=60))
    world.steps(3, only=("alfa", "bravo"))
    world.clock.advance(61)
    status = world.service.job(job.id)
    assert status.phase == "failed" and "carol" in status.reason
    second = world.service.create_job(world.request(ttl_s=60))
    assert second.id == job.id and second.attempt == 2 and second.digest != job.digest
    world.steps()
    assert world.service.job(job.id).phase == "done"


def test_bad_requests_are_refused_at_the_exchange(world: World) -> None:
    for statistic, params in (
        ("rows/1", {}),
        (MOMENTS, {"views": ["flip-up-down"]}),
        (MOMENTS, {"rows": 1}),
        (OWN_HEAD, {"penalties": [-1]}),
    ):
        with pytest.raises(InputError):
            world.service.create_job(world.request(statistic, params))
    with pytest.raises(InputError):
        world.service.create_job(world.request(roster=()))
    with pytest.raises(InputError):
        world.service.create_job(world.request(purpose="other"))


def test_other_bytes_on_retry_are_a_conflict(world: World) -> None:
    job = world.service.create_job(world.request())
    world.steps(1)
    owner = world.owners["alfa"]
    owner.node.step(0)
    path, body = next((p, b) for p, b in owner.uplink.sent if "/vector" in p)
    owner.uplink.post(path, body, "")
    with pytest.raises(ConflictError):
        owner.uplink.post(path, bytes(len(body)), "")
    assert world.service.job(job.id).bytes_received == {"alfa": len(body)}
