"""Holds a run's owners against each other before anything is fitted, where their agreements let their sums be seen singly.

Whoever does not belong is left out, the run goes on without it where the others' terms allow, and each owner concerned is told by a
notice. Where sums are seen in total only, all that can be held against arithmetic is the total: that something is wrong shows, whose it is
does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import msgspec

from isthmus.app.ownersums import owner_moments
from isthmus.app.workshop import Workshop
from isthmus.contracts.agreement import Agreement
from isthmus.contracts.asset import Asset
from isthmus.contracts.build import RunRequest
from isthmus.contracts.errors import InputError, JobRefusedError
from isthmus.contracts.notice import Notice
from isthmus.contracts.ports import Json
from isthmus.contracts.statistic import TrainingParams
from isthmus.contracts.sums import Moments
from isthmus.foundry.possible import Declared, broken_rules
from isthmus.foundry.stages import feature_names, stage_of
from isthmus.foundry.suspects import Screening, Suspicion, flag_places, number_features, screened, told
from isthmus.foundry.tablefeatures import TABLE_BACKBONE
from isthmus.sandbox.notices import NoticeBoard

PPM = 1_000_000
AGGREGATE_ONLY = (
    "The owners' sums are seen in total only: that the total belongs to real records was checked, and whose share is damaged, shuffled, in"
    " another unit or a copy cannot be seen. Each owner can check its own records with isthmus asset check."
)
NEXT = {
    "impossible": "run isthmus node init again, and see that nothing changes the node's files",
    "repeated": "remove repeated records: isthmus asset check DIR lists them",
    "copied": "see who else holds these records; who agreed first stays",
    "units": "compare the columns' units with the scenario's: isthmus asset check DIR --scenario NAME",
    "turned": "see which label means which class",
    "shuffled": "see whether labels still belong to their records",
    "noisy": "look at doubtful labels: isthmus asset check DIR --worklist FILE",
    "contrary": "compare how labels are given with the other owners",
}


@dataclass(frozen=True)
class Screened:
    """request: without who was left out. told: for the run's result."""

    request: RunRequest
    told: Json


def seen_singly(request: RunRequest, terms: Mapping[str, Agreement]) -> bool:
    """Whether all owners let themselves be judged by their own sums, and the model is made of moments of labels."""
    if request.scenario.recipe.head == "gaussian" or request.scenario.interface.foretold:
        return False
    mine = [terms[party] for party in request.roster]
    return all(one.visibility == "individual" and one.contribution and one.least_participants <= 1 for one in mine)


def screen(shop: Workshop, board: NoticeBoard, run_id: str, request: RunRequest, purpose: str, terms: Mapping[str, Agreement]) -> Screened:
    """Asks each owner for its own sums, names who does not belong, tells them, and takes them off the roster. Raises JobFailedError, and
    InputError where too few owners would be left."""
    if not seen_singly(request, terms):
        return Screened(request, {"suspicions": [], "left_out": [], "blind": [AGGREGATE_ONLY]})
    scenario = request.scenario
    recipe, name = scenario.recipe, f"{scenario.id}@{scenario.version}"
    parts = recipe.parts_after_leaving if request.without and recipe.parts_after_leaving else recipe.parts
    stage = stage_of(recipe.backbone, parts, scenario.interface.schema)
    try:
        whose = (shop, run_id, name, purpose, stage, recipe.training, request.roster)
        sums = owner_moments(*whose, models_to=scenario.serve.models_to, owners_share_ppm=scenario.serve.owners_ppm)
    except JobRefusedError as error:
        return Screened(request, {"suspicions": [], "left_out": [], "blind": [f"Owners were not compared: {error.message}."]})
    names = feature_names(stage) if recipe.backbone == TABLE_BACKBONE else []
    columns = stage.schema.columns if stage.schema is not None and names else ()
    assets = {party: shop.jobs.owner(party, purpose) for party in request.roster}
    declared = {party: declared_of(recipe.training, asset, flag_places(names)) for party, asset in assets.items()}
    order = sorted(request.roster, key=lambda party: (terms[party].issued_at_s, party))
    found = screened(sums, declared, number_features(names, columns), order)
    out, why = _allowed(found, request, terms)
    for suspicion in found.suspicions:
        board.put(_notice(suspicion, run_id, name, purpose, suspicion.party in out, int(shop.clock.now_s())))
    document = {**told(found), "left_out": list(out)}
    if why:
        document["blind"] = [*document["blind"], why]
    return Screened(msgspec.structs.replace(request, left=(*request.left, *out)), document)


def remarks(found: Json) -> list[str]:
    """What a run's notes say of its screening: whom it named, and whether the run went on without."""
    out = set(found["left_out"])
    words = {True: "was left out", False: "was named, and stayed in"}
    return [f"{one['party']} {words[one['party'] in out]}: {one['says']}" for one in found["suspicions"]]


def _allowed(found: Screening, request: RunRequest, terms: Mapping[str, Agreement]) -> tuple[tuple[str, ...], str]:
    """(who is left out, why nobody is although somebody should be). Sums that no records have are never fitted on: where too few owners
    would be left without them, the run ends."""
    out = found.out
    staying = [party for party in request.roster if party not in out]
    least = max((terms[party].least_participants for party in staying), default=1)
    if not out or len(staying) >= max(1, least):
        return out, ""
    certain = sorted({s.party for s in found.suspicions if s.kind == "impossible"})
    said = "; ".join(f"{s.party}: {s.says}" for s in found.suspicions if s.out)
    if certain:
        raise InputError(f"{said}; without {', '.join(out)} too few owners are left ({len(staying)} of {least})", "bring more owners")
    return (), f"Nobody was left out, because too few owners would be left ({len(staying)} of {least}); {said}."


def _notice(suspicion: Suspicion, run_id: str, scenario: str, purpose: str, left_out: bool, at_s: int) -> Notice:
    return Notice(
        party=suspicion.party,
        run=run_id,
        scenario=scenario,
        purpose=purpose,
        kind=suspicion.kind,
        says=suspicion.says,
        left_out=left_out,
        chance_ppm=min(PPM, round(suspicion.chance * PPM)),
        at_s=at_s,
        next=NEXT[suspicion.kind],
    )


def declared_of(training: TrainingParams, asset: Asset, flags: tuple[int, ...] = ()) -> Declared:
    """What an owner's asset says its sums must be of."""
    return Declared.of(training, asset.records_train, asset.groups_train, flags)


def check_total(total: Moments, training: TrainingParams, assets: Mapping[str, Asset]) -> None:
    """Raises InputError where no records have such a total: a share is damaged or made up. Whose cannot be told."""
    declared = Declared.of(training, sum(a.records_train for a in assets.values()), sum(a.groups_train for a in assets.values()))
    broken = broken_rules(replace(total), declared)
    if broken:
        raise InputError(f"no records have the sums of these owners together: {'; '.join(broken)}", "run again; a share was damaged")
