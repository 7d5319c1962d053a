"""`isthmus scenario learn`: reviewed doubtful cases become training records of a new version, and its gain is measured.

The held-out records stay as they were, so old and new are measured on the same ones. Whether the new version replaces the old is another
step's to decide: `upgrade` is called with both runs.

The exchange sees two totals, before and after; their difference is the sums over the new records of all owners together. So at least two
owners must bring reviews (the nodes refuse a roster of which one member alone changed), and the new records beside the largest owner's must
be enough for the features, against every earlier run on the same features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from isthmus.client.http import ExchangeClient
from isthmus.contracts.build import RunView
from isthmus.contracts.certificate import Claims
from isthmus.contracts.errors import ConflictError, InputError, NotFoundError
from isthmus.contracts.operations import fleet_operations
from isthmus.contracts.ports import Clock, Json
from isthmus.contracts.scenario import Scenario
from isthmus.sandbox.nodehome import settings_of
from isthmus.sandbox.reviewed import Added, add_reviewed
from isthmus.scenarios.local import LocalFleet, Owner, Tell, Terms, agree, ended_run, prepare_owner, wait_for_nodes
from isthmus.scenarios.replicate import certified_run, open_package

HUNDRED = 100
OWNERS_MIN = 2
LEAST_RATIO = 4
"""Records for each feature behind what becomes visible, as nodes ask of any total."""

Upgrade = Callable[[ExchangeClient, RunView, RunView], Json]


@dataclass(frozen=True, kw_only=True)
class LearnSettings:
    """What the command was told. reviews: party -> folder of judged cases. values: a file of site values, as the certified run had it."""

    scenario: str
    state: Path
    reviews: Mapping[str, Path]
    clock: Clock
    values: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Promise:
    """One promise before and after. error_ppm_max: of the promise. answered: share of the held-out records, ppm. proven: by the bars."""

    error_ppm_max: int
    answered_ppm: tuple[int, int]
    proven: tuple[bool, bool]


@dataclass(frozen=True, kw_only=True)
class Gain:
    """Old and new on the same held-out records. training: records that teach. Pairs are (old, new). What is gained for each hundred reviews
    is in ppm too, and None when none was added."""

    records: int
    training: tuple[int, int]
    added: int
    auc_ppm: tuple[int, int]
    auc_bound_ppm: tuple[int, int]
    promises: tuple[Promise, ...]

    @property
    def auc_ppm_per_hundred(self) -> int | None:
        return None if not self.added else round((self.auc_ppm[1] - self.auc_ppm[0]) * HUNDRED / self.added)

    def answered_ppm_per_hundred(self, promise: Promise) -> int | None:
        return None if not self.added else round((promise.answered_ppm[1] - promise.answered_ppm[0]) * HUNDRED / self.added)


@dataclass(frozen=True, kw_only=True)
class Learned:
    """before: the certified run that was learned from; after: the new one, certified or refused. upgrade: what the upgrade step said."""

    before: RunView
    after: RunView
    added: Mapping[str, Added]
    gain: Gain
    upgrade: Json | None


def learn(settings: LearnSettings, tell: Tell, upgrade: Upgrade | None = None) -> Learned:
    """Adds the reviews, runs again, compares. Raises IsthmusError; a new version that misses the bars is a result, not an error.

    Reviews that were added stay when a later step fails; the same call goes on from there.
    """
    scenario = open_package(settings.scenario, settings.state, settings.values)
    with LocalFleet(settings.state / "logs") as fleet:
        url, key = fleet.start_exchange(settings.state)
        token = (settings.state / "exchange" / "operator.token").read_text(encoding="ascii").strip()
        with ExchangeClient(url, token) as operator:
            latest = whole_run(operator, certified_run(operator.get("/v1/runs"), scenario))
            parties = list((latest.result or {})["owners"])
            _check_reviews(settings, parties)
            added = {}
            for place, (party, folder) in enumerate(settings.reviews.items()):
                tell("adding reviews", place, len(settings.reviews))
                home = settings_of(settings.state / "nodes" / party)
                added[party] = add_reviewed(Path(home.data), folder, settings.clock)
            owners = [_owner(settings.state, party) for party in parties]
            earlier = earlier_runs(operator, latest, {owner.party: owner.records_train for owner in owners})
            before = certified_run([msgspec.to_builtins(view) for view in earlier], scenario)
            for view in earlier:
                check_enough(new_records(view, owners), (latest.result or {})["stage"]["dimension"], scenario)
            _agree_all(owners, key, scenario, settings.clock)
            for owner in owners:
                fleet.start_node(owner, url)
            wait_for_nodes(operator, fleet, set(parties))
            request: Json = {"scenario": msgspec.to_builtins(scenario), "owners": parties, "candidate": upgrade is not None}
            after = ended_run(operator, fleet, operator.post("/v1/runs", request), "learn", tell)
            gain = gained(before.result or {}, after.result or {})
            said = None if upgrade is None or after.state != "certified" else upgrade(operator, before, after)
            return Learned(before=before, after=after, added=added, gain=gain, upgrade=said)


def whole_run(operator: ExchangeClient, listed: RunView) -> RunView:
    """The run with its result, which lists leave out."""
    return msgspec.convert(operator.get(f"/v1/runs/{listed.id}"), RunView)


def earlier_runs(operator: ExchangeClient, latest: RunView, training: Mapping[str, int]) -> list[RunView]:
    """Ended runs on the same features and owners with other numbers of training records than now, the newest first. So the run that a call
    before this one had begun is none of them. training: party -> records. Raises NotFoundError when there is none."""
    stage, found = (latest.result or {})["stage"]["digest"], []
    for raw in operator.get("/v1/runs"):
        listed = msgspec.convert(raw, RunView)
        if not listed.id.startswith("run_") or listed.scenario != latest.scenario or listed.state not in ("certified", "refused"):
            continue
        view = whole_run(operator, listed)
        result = view.result or {}
        then = {party: owner["records_train"] for party, owner in result.get("owners", {}).items()}
        if result.get("stage", {}).get("digest") == stage and set(then) == set(training) and then != training:
            found.append(view)
    if not any(view.state == "certified" for view in found):
        raise NotFoundError("no review is new to the certified run, so nothing was learned", "give folders with new judged pictures")
    return found


def new_records(view: RunView, owners: Sequence[Owner]) -> dict[str, int]:
    """party -> training records that have come since a run."""
    then = (view.result or {})["owners"]
    return {owner.party: max(0, owner.records_train - then[owner.party]["records_train"]) for owner in owners}


def _check_reviews(settings: LearnSettings, parties: Sequence[str]) -> None:
    """Raises InputError, NotFoundError."""
    for party, folder in settings.reviews.items():
        if party not in parties:
            raise NotFoundError(f"{party} is no owner of the certified run", f"its owners are {', '.join(parties)}")
        if not folder.is_dir():
            raise InputError(f"{folder} is not a folder", "give the folder with the reviewed pictures, sorted or listed in labels.csv")
    if len(settings.reviews) < OWNERS_MIN:
        raise InputError(
            f"{len(settings.reviews)} owner brings reviews; the difference of old and new sums would be that owner's own",
            f"give reviews of {OWNERS_MIN} owners or more",
        )


def check_enough(training: Mapping[str, int], dimension: int, scenario: Scenario) -> None:
    """Whether the new records of all owners less the largest are enough for the features: what one owner and the exchange together could
    see of the others. training: party -> new training records. Raises InputError."""
    ratio = max(1, min(scenario.recipe.records_per_feature, LEAST_RATIO))
    others = sum(training.values()) - max(training.values())
    if others < ratio * dimension:
        raise InputError(
            f"the new records beside the largest owner's are {others}, too few for {dimension} features:"
            " the difference of old and new sums would tell who is among them",
            f"collect {ratio * dimension - others} more (they stay in the folders), then run this again",
        )


def _owner(state: Path, party: str) -> Owner:
    """The owner's node with its data taken up anew."""
    home = settings_of(state / "nodes" / party)
    return prepare_owner(party, home.name, home.kind, Path(home.data), state / "nodes" / party, home.licence, home.sample)


def _agree_all(owners: list[Owner], exchange_key: str, scenario: Scenario, clock: Clock) -> None:
    """What `isthmus run` agrees, about the new assets."""
    keys = {owner.party: owner.public_key for owner in owners}
    terms = Terms(
        purpose=scenario.purpose,
        operations=fleet_operations(scenario.recipe.head),
        allow_own_head=True,
        records_per_feature=scenario.recipe.records_per_feature,
    )
    for owner in owners:
        agree(owner, exchange_key, keys, terms, clock)


def gained(before: Mapping[str, Any], after: Mapping[str, Any]) -> Gain:
    """Compares two runs' results. Raises ConflictError when they were not measured on the same held-out records."""
    held = [{p: (o["records_holdout"], o["groups_holdout"]) for p, o in run["owners"].items()} for run in (before, after)]
    if held[0] != held[1]:
        raise ConflictError("the held-out records changed between the two runs, so they cannot be compared", "run the scenario anew")
    training = [sum(o["records_train"] for o in run["owners"].values()) for run in (before, after)]
    claims = [msgspec.convert(run["claims"], Claims) for run in (before, after)]
    rows = [{row["bars"]["error_ppm_max"]: row for row in run["promises"]} for run in (before, after)]
    promises = [
        Promise(
            error_ppm_max=goal,
            answered_ppm=(rows[0][goal]["claims"]["answered_ppm"], rows[1][goal]["claims"]["answered_ppm"]),
            proven=(rows[0][goal]["passed"], rows[1][goal]["passed"]),
        )
        for goal in sorted(set(rows[0]) & set(rows[1]), reverse=True)
    ]
    return Gain(
        records=claims[1].records,
        training=(training[0], training[1]),
        added=training[1] - training[0],
        auc_ppm=(claims[0].auc_ppm, claims[1].auc_ppm),
        auc_bound_ppm=(claims[0].auc_bound_ppm, claims[1].auc_bound_ppm),
        promises=tuple(promises),
    )
