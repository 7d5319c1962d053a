"""A build with a logistic head: rounds, one artefact whose score is a probability, certificate; cut off and walked again it is the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from isthmus.app.builders import build_of, site_build_of
from isthmus.app.worker import RunCancelled
from isthmus.contracts.build import SiteRequest
from isthmus.contracts.head import Head
from isthmus.contracts.statistic import FOLD_OUT, IRLS, MOMENTS
from isthmus.foundry.engine import Scorer
from isthmus.sandbox.history import JOBS_PER_RUN_MAX
from tests.app.world import PURPOSE, House, house, request, site


def logistic_request(*promises_ppm: int, lambdas: tuple[float, ...] = (0.01, 0.1, 1.0), **more: Any) -> Any:
    wanted = request(*promises_ppm, **more)
    recipe = msgspec.structs.replace(wanted.scenario.recipe, head="logistic", lambdas=lambdas)
    return msgspec.structs.replace(wanted, scenario=msgspec.structs.replace(wanted.scenario, recipe=recipe))


def walked(of: House, wanted: Any, run_id: str = "run_1") -> tuple[bool, dict[str, Any]]:
    of.begun(run_id, wanted)
    return build_of(of.shop, run_id, wanted).walk()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[House, bool, dict[str, Any]]:
    of = house(tmp_path_factory.mktemp("logistic"))
    return of, *walked(of, logistic_request())


def test_a_probability_is_certified_in_few_rounds(built: tuple[House, bool, dict[str, Any]]) -> None:
    of, certified, result = built
    assert certified and result["head"]["link"] == "logistic"
    asked = [r.statistic for r in of.jobs.asked]
    assert asked[0] == MOMENTS and asked.count(FOLD_OUT) == 2
    assert asked.count(IRLS) == result["irls"]["rounds"] < JOBS_PER_RUN_MAX[IRLS]
    assert -2 <= result["thresholds"]["lo"] <= result["thresholds"]["hi"] <= 2
    assert result["auc"]["joint"] > 0.9


def test_the_head_is_what_scikit_learn_fits_on_pooled_rows(built: tuple[House, bool, dict[str, Any]]) -> None:
    of, _, result = built
    head = msgspec.convert(result["head"], Head)
    owners = of.jobs.owners.values()
    q = np.concatenate([o.features(head.stage, "train") for o in owners]).astype(float)
    y, w = np.concatenate([o.parts["train"].y for o in owners]), np.full(len(q), 2.0)
    mean, scale = q.mean(axis=0), np.maximum(q.std(axis=0), 1.0)
    lam = result["penalty"]
    peer = LogisticRegression(C=1 / (lam * w.sum()), tol=1e-12, solver="newton-cholesky", max_iter=200)
    peer.fit((q - mean) / scale, y, sample_weight=w)
    ours = head.coefficients.array() * scale
    assert np.abs(ours - peer.coef_[0]).max() <= 1e-6 * np.abs(peer.coef_[0]).max()


def test_the_artefact_publishes_what_the_nodes_compute(built: tuple[House, bool, dict[str, Any]]) -> None:
    of, _, result = built
    head = msgspec.convert(result["head"], Head)
    scorer = Scorer(of.catalogue.artefact(result["artefact_digest"]))
    rng = np.random.default_rng(3)
    pictures = [rng.integers(0, 256, (40, 40, 3), dtype=np.uint8) for _ in range(4)]
    scores, _ = scorer.judged(pictures)
    logits = head.bias + scorer.quantised(pictures).astype(float) @ head.coefficients.array()
    assert np.abs(scores - 2 * np.tanh(logits / 2)).max() < 1e-6 and (np.abs(scores) <= 2).all()


def test_cut_off_at_every_step_it_ends_as_one_that_was_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = house(tmp_path / "whole")
    result = walked(whole, logistic_request())[1]
    cut, left = house(tmp_path / "cut"), {"jobs": 0}
    wanted, run_id = logistic_request(), "run_1"
    cut.begun(run_id, wanted)

    def counted(asked: Any) -> None:
        if left["jobs"] == 0:
            raise RunCancelled
        left["jobs"] -= 1

    cut.jobs.before = counted
    ended: dict[str, Any] = {}
    for _ in range(40):
        left["jobs"] = 3
        try:
            ended = build_of(cut.shop, run_id, wanted).walk()[1]
            break
        except RunCancelled:
            continue
    assert ended["artefact_digest"] == result["artefact_digest"] and ended["irls"] == result["irls"]
    assert cut.jobs.made == whole.jobs.made, "no sum was made twice"


def test_the_next_site_gets_a_logistic_head_of_its_own(built: tuple[House, bool, dict[str, Any]]) -> None:
    of, _, result = built
    of.catalogue.end("run_1", "certified", result, None)
    found = site("line-4", 50, proof=250)
    of.jobs.owners[found.party] = found
    of.jobs.agree(PURPOSE + "/site", found.party)
    wanted = SiteRequest(run="run_1", site="line-4", fit=40, proof=250)
    of.begun("site_1", wanted)
    certified, carried = site_build_of(of.shop, "site_1", wanted).walk()
    assert certified, carried["failures"]
    assert carried["head"]["link"] == "logistic" and set(carried["candidates"]) == {"fleet", "combined", "local"}
    asked = [r.statistic for r in of.jobs.asked if r.roster == ("line-4",)]
    assert IRLS not in asked, "the site asks nobody for another round"
    assert all(c["auc"] > 0.85 for c in carried["candidates"].values())
