"""A scenario whose head is a Gaussian, built from sums of good records, judged by errors or by false alarms, and carried to a site."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from isthmus.app.builders import build_of, site_build_of
from isthmus.app.gaussian import GaussianBuild, GaussianSite
from isthmus.contracts.build import RunRequest, SiteRequest
from isthmus.contracts.errors import InputError, JobRefusedError
from isthmus.contracts.head import Head, Stage
from isthmus.contracts.statistic import GAUSSIAN, GAUSSIAN_FOLD_OUT, MOMENTS, PAIR, Corruption, PairParams
from isthmus.contracts.sums import good_moments_from, pair_from
from isthmus.foundry.foldout import NEVER
from isthmus.foundry.patches import POSITIONS
from tests.app.world import OWNERS, PURPOSE, House, SyntheticOwner, house, part, scenario

PARTS = ("patch-defects/max", "patch-rings/2")


@dataclass
class PatchOwner(SyntheticOwner):
    """Pictures of independent places; in a defect, and in a scratched picture, a tenth of the places lie far off."""

    def features(self, stage: Stage, split: str, view: str = "identity", corruption: Corruption | None = None) -> NDArray[np.int16]:
        known: dict[Any, NDArray[np.int16]] = self.__dict__.setdefault("_features", {})
        asked = (stage.digest, split, corruption, self.parts[split].y.tobytes())
        if asked not in known:
            known[asked] = self._drawn(stage, split, corruption)
        return known[asked]

    def _drawn(self, stage: Stage, split: str, corruption: Corruption | None) -> NDArray[np.int16]:
        found = self.parts[split]
        rng = np.random.default_rng(found.y.size + 7 * sum(map(ord, self.party + split)))
        q = rng.normal(size=(found.y.size, POSITIONS, stage.dimension))
        far = (found.y > 0) | (corruption is not None and corruption.family == "scratch")
        size = 0.0 if corruption is None else 0.6 * corruption.severity
        q[far, :20] += self.skill * (1.0 + 4.0 * rng.random((int(far.sum()), 1, 1))) + size
        return np.asarray(np.clip(np.rint(q * 300 + 50), -32767, 32767).astype(np.int16)).reshape(found.y.size, -1)


def patch_owner(party: str, seed: int, defects: bool = True, **sizes: int) -> PatchOwner:
    wanted = {"train": 120, "holdout": 120, **sizes}
    parts = {
        name: part(seed + place, size, group=1 if "audit" in sizes else 8) for place, (name, size) in enumerate(wanted.items()) if size
    }
    if not defects:
        parts = {name: dataclasses.replace(found, y=np.full(found.y.size, -1, dtype=np.int64)) for name, found in parts.items()}
    return PatchOwner(party, parts)


def wanted(promise: str, *promises_ppm: int, tier: str = "T1", **certify: Any) -> RunRequest:
    made = scenario(*promises_ppm, promise=promise, **certify)
    recipe = msgspec.structs.replace(made.recipe, head="gaussian", parts=PARTS, parts_after_leaving=("patch-deep/4",), lambdas=(0.01, 0.1))
    return RunRequest(scenario=msgspec.structs.replace(made, recipe=recipe, tier=tier), owners=OWNERS)


def only_good() -> RunRequest:
    return wanted("alarms", 100_000, 50_000, families=("scratch",), severities=(1, 2, 3))


def world(root: Path, **more: Any) -> House:
    return house(root, {party: patch_owner(party, 10 * seed, **more) for seed, party in enumerate(OWNERS)})


def walked(of: House, request: RunRequest, run_id: str = "run_1") -> tuple[bool, dict[str, Any]]:
    of.begun(run_id, request)
    build = build_of(of.shop, run_id, request)
    assert isinstance(build, GaussianBuild)
    return build.walk()


def test_joint_sums_are_those_of_the_pooled_good_records(tmp_path: Path) -> None:
    of = world(tmp_path)
    certified, result = walked(of, wanted("error", 100_000))
    assert certified, result["failures"]
    total = of.jobs.known[result["jobs"][GAUSSIAN]].total
    assert total is not None
    stage = msgspec.convert(result["stage"], Stage)
    sums = good_moments_from(total.array().astype(np.int64), stage.dimension, stage.zones)
    rows = np.concatenate([o.features(stage, "train")[o.parts["train"].y < 0] for o in of.jobs.owners.values()]).astype(np.int64)
    border = rows.reshape(len(rows), POSITIONS, -1)[:, :14].reshape(-1, stage.dimension)  # the first row of the grid is in the outer ring
    assert sums.records == len(rows) and sums.zones == 2 and sums.weight[0] == 2 * 52 * len(rows)
    assert (sums.gram[0] >= 0).any() and sums.gram[0][0, 0] > 2 * int((border[:, 0] ** 2).sum())
    assert sums.sum_w == 2 * POSITIONS * len(rows)
    assert np.array_equal(sums.sum_x.sum(axis=0), 2 * rows.reshape(-1, stage.dimension).sum(axis=0))
    assert result["auc"]["joint"] > 0.9 and result["own_heads"] == {}


def test_with_defects_the_usual_certificate_is_made(tmp_path: Path) -> None:
    certified, result = walked(world(tmp_path), wanted("error", 100_000, tier="T2"))
    assert certified, result["failures"]
    claims = result["claims"]
    assert "alarms" not in claims and claims["error_bound_ppm"] <= 100_000 and claims["recall_bound_ppm"] > 500_000


def test_only_good_pictures_prove_false_alarms_and_say_what_they_do_not_prove(tmp_path: Path) -> None:
    of = world(tmp_path, defects=False)
    certified, result = walked(of, only_good())
    assert certified, result["failures"]
    claims, alarms = result["claims"], result["claims"]["alarms"]
    assert alarms["good"] == 360 and alarms["alarms_bound_ppm"] <= result["bars"]["error_ppm_max"] <= 100_000
    assert alarms["defects"] == alarms["caught_bound_ppm"] == 0 and claims["error_bound_ppm"] == 1_000_000
    assert alarms["drawn_caught_bound_ppm"] > alarms["alarms_bound_ppm"]
    assert any("recall is not proven" in note and "59 caught defects" in note for note in result["notes"])
    assert result["head"]["hi"] == NEVER, "nothing is called a defect"


def test_only_good_pictures_are_not_enough_for_a_higher_tier(tmp_path: Path) -> None:
    request = only_good()
    request = msgspec.structs.replace(request, scenario=msgspec.structs.replace(request.scenario, tier="T2"))
    certified, result = walked(world(tmp_path, defects=False), request)
    assert not certified and any("tier T2 asks for a proven recall" in failure for failure in result["failures"])


def test_defects_that_were_held_out_prove_recall_for_a_higher_tier(tmp_path: Path) -> None:
    request = only_good()
    request = msgspec.structs.replace(request, scenario=msgspec.structs.replace(request.scenario, tier="T2"))
    certified, result = walked(world(tmp_path), request)
    assert certified, result["failures"]
    assert result["claims"]["alarms"]["defects"] > 50 and result["claims"]["alarms"]["caught_bound_ppm"] > 500_000


def test_a_blind_model_is_refused_however_rare_its_alarms(tmp_path: Path) -> None:
    blind = world(tmp_path, defects=False)
    for one in blind.jobs.owners.values():
        one.features = lambda stage, split, view="identity", corruption=None, of=one: PatchOwner.features(of, stage, split, view)  # type: ignore[method-assign, misc, assignment]
    certified, result = walked(blind, only_good())
    assert not certified and any("drawn scratch were caught" in failure for failure in result["failures"])


def test_without_a_scratch_nothing_shows_that_it_sees(tmp_path: Path) -> None:
    certified, result = walked(world(tmp_path, defects=False), wanted("alarms", 100_000))
    assert not certified and any("not blind" in failure for failure in result["failures"])


def test_too_few_good_ones_are_refused_by_the_node(tmp_path: Path) -> None:
    of = world(tmp_path)
    one = of.jobs.owners["alba"]
    one.parts["train"] = dataclasses.replace(one.parts["train"], y=np.where(np.arange(120) < 90, 1, -1).astype(np.int64))
    with pytest.raises(JobRefusedError, match="labelled good"):
        walked(of, only_good())


def test_sums_of_single_features_of_patches_are_refused(tmp_path: Path) -> None:
    request = wanted("error", 100_000)
    recipe = msgspec.structs.replace(request.scenario.recipe, head="ridge")
    request = msgspec.structs.replace(request, scenario=msgspec.structs.replace(request.scenario, recipe=recipe))
    of = world(tmp_path)
    of.begun("run_1", request)
    with pytest.raises(InputError, match="patches"):
        build_of(of.shop, "run_1", request).walk()


def carried(of: House, found: PatchOwner, request: RunRequest) -> tuple[bool, dict[str, Any]]:
    certified, result = walked(of, request)
    assert certified, result["failures"]
    of.catalogue.end("run_1", "certified", result, None)
    of.jobs.owners[found.party] = found
    of.jobs.agree(PURPOSE + "/site", found.party)
    asked = SiteRequest(run="run_1", site=found.party, fit=found.asset.records_train, proof=found.asset.records_holdout)
    of.begun("site_1", asked)
    build = site_build_of(of.shop, "site_1", asked)
    assert isinstance(build, GaussianSite)
    return build.walk()


def test_a_site_with_good_pictures_only_gets_its_own_promise(tmp_path: Path) -> None:
    of = world(tmp_path, defects=False)
    found = patch_owner("line-4", 77, defects=False, train=40, holdout=150, audit=40)
    certified, result = carried(of, found, only_good())
    assert certified, result["failures"]
    assert set(result["candidates"]) == {"fleet", "combined", "local"} and 0 <= result["candidates"]["combined"]["factor"] <= 1
    assert result["claims"]["alarms"]["good"] == 150 and result["arithmetic"]["provable"] <= 0.1


def test_a_site_with_few_good_pictures_is_told_how_many_are_missing(tmp_path: Path) -> None:
    of = world(tmp_path, defects=False)
    certified, result = carried(of, patch_owner("line-4", 77, defects=False, train=40, holdout=20, audit=40), only_good())
    assert not certified and result["arithmetic"]["answered_needed"] == 29 and result["arithmetic"]["labels_needed"] >= 9


def test_two_versions_are_compared_and_a_leaver_gets_other_features(tmp_path: Path) -> None:
    of = world(tmp_path)
    _, first = walked(of, wanted("error", 100_000))
    request = msgspec.structs.replace(wanted("error", 100_000), without=("cora",))
    _, second = walked(of, request, "run_2")
    assert list(second["stage"]["parts"]) == ["patch-deep/4"] and MOMENTS not in second["jobs"] and GAUSSIAN_FOLD_OUT in second["jobs"]
    old, new = (msgspec.convert(result["head"], Head) for result in (first, second))
    job = msgspec.structs.replace(
        of.jobs.asked[0], statistic=PAIR, stage=new.stage, params=msgspec.to_builtins(PairParams(old=old, new=new))
    )
    total = of.jobs.status(of.jobs.create(job).id).total
    assert total is not None and pair_from(total.array().astype(np.int64)).records == 360
