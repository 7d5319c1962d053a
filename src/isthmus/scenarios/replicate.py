"""`isthmus replicate`: a certified run goes to another site with a few local labels, and no change of code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec

from isthmus.assurance.arithmetic import prospects
from isthmus.client.http import ExchangeClient
from isthmus.contracts.bars import PPM
from isthmus.contracts.build import RunView
from isthmus.contracts.errors import FolderError, InputError, NotFoundError
from isthmus.contracts.operations import site_operations
from isthmus.contracts.ports import Clock, Json
from isthmus.contracts.scenario import Scenario
from isthmus.kit.ids import slug
from isthmus.sandbox.folder import HOLDOUT, read_folder
from isthmus.sandbox.labelbook import chosen_paths
from isthmus.scenarios.draw import draw, site_folder
from isthmus.scenarios.local import EXCHANGE, LocalFleet, Owner, Tell, Terms, agree, ended_run, prepare_owner, wait_for_nodes
from isthmus.scenarios.package import SiteValues, find_package, load_package
from isthmus.scenarios.samples import sample as sample_named
from isthmus.scenarios.workbench import origin_of, probe_fields

AT_SITE = "/site"
FIT_SHARE = 0.5
FIT_MAX = 40


@dataclass(frozen=True, kw_only=True)
class SiteSettings:
    """What the command was told. samples: the site's labelled folder, or a number of labels of the sample's line. fit, proof: how many
    to fit on and to keep for proof; None: up to FIT_MAX, at most half, and the rest. values: this site's own, or a file of them.
    candidate: what is certified is proposed, not put into service."""

    scenario: str
    state: Path
    site: str
    samples: Path | int
    fit: int | None
    proof: int | None
    seed: int
    clock: Clock
    values: SiteValues | None = None
    candidate: bool = False


def site_terms(purpose: str, head: str = "ridge") -> Terms:
    """What a site lets its exchange do: fit the site's own model beside the data, and count its verdicts."""
    return Terms(
        purpose=purpose + AT_SITE,
        operations=site_operations(head),
        least_participants=1,
        least_group_size=1,
        visibility="individual",
        allow_own_head=True,
        records_per_feature=0,
    )


@dataclass(frozen=True)
class Drawn:
    """A site's samples before any work. folder: labelled. fit, proof: how many are fitted on, and kept for proof. good, defects: of the
    latter."""

    site: str
    name: str
    folder: Path
    licence: str
    sample: bool
    fit: int
    proof: int
    good: int
    defects: int


def drawn(settings: SiteSettings, scenario: Scenario) -> Drawn:
    """Which samples a site has, and how they will be used. Raises FolderError, InputError."""
    site = slug(settings.site, "site")
    state = settings.state
    if isinstance(settings.samples, int):
        given = None if scenario.sample_data == "none" else sample_named(scenario.sample_data)
        known = {party.party: party for party in (() if given is None else given.of_kind("site"))}
        if given is None or site not in known:
            raise InputError(
                f"{site} is no line of the sample data",
                f"use --site {' or '.join(known) or 'NAME'}, or --samples DIR of labelled records",
            )
        source, fit, proof = given.folders(state / "sample-data")[site], settings.samples, settings.proof or 0
        name, licence, sample = known[site].name, given.licence, True
    else:
        source, name, licence, sample = settings.samples, site, "proprietary", False
        if not source.is_dir():
            raise FolderError(f"{source} is not a folder", "give a folder with labels.csv, or with sub-folders of images")
        files, chosen = read_folder(source).files, chosen_paths(source)
        count, teaching = len(files), sum(file.path in chosen for file in files)
        fit = settings.fit if settings.fit is not None else min(FIT_MAX, int(count * FIT_SHARE))
        proof = settings.proof if settings.proof is not None else count - max(fit, teaching)
    files = read_folder(source).files
    split_of = draw(files, fit, proof, settings.seed, chosen_paths(source))
    kept = [file.label for file in files if split_of[file.path] == HOLDOUT]
    defects = sum(label > 0 for label in kept)
    return Drawn(site, name, source, licence, sample, fit, proof, len(kept) - defects, defects)


def plan_of(found: Drawn, scenario: Scenario) -> Json:
    """The arithmetic of what this site's samples can show at best, before anything is begun."""
    certify = scenario.certify
    lines = prospects(found.good, found.defects, [ppm / PPM for ppm in certify.promises_ppm], certify.confidence_ppm / PPM)
    counts = {"site": found.site, "fit": found.fit, "proof": found.proof, "proof_good": found.good, "proof_defects": found.defects}
    return {**counts, "prospects": [asdict(line) for line in lines]}


def prepare_site(settings: SiteSettings, scenario: Scenario) -> Owner:
    """Draws the samples and makes the site's node. Raises FolderError, InputError."""
    found, schema = drawn(settings, scenario), scenario.interface.schema
    data = site_folder(found.folder, settings.state / "site-data" / found.site, found.fit, found.proof, settings.seed)
    home = settings.state / "nodes" / found.site
    alone = scenario.recipe.head == "gaussian"
    return prepare_owner(found.site, found.name, "site", data, home, found.licence, found.sample, schema, good_alone=alone)


def certified_run(runs: Sequence[Any], scenario: Scenario) -> RunView:
    """The latest certified build of the scenario. Raises NotFoundError."""
    for raw in runs:
        view = msgspec.convert(raw, RunView)
        if view.id.startswith("run_") and view.scenario == scenario.id and view.state == "certified":
            return view
    raise NotFoundError(f"there is no certified run of {scenario.id} in this state folder", f"first: isthmus run {scenario.id}")


def request_site(
    operator: ExchangeClient, fleet: LocalFleet, run: RunView, site: Owner, tell: Tell, own: Scenario | None = None, **more: Any
) -> RunView:
    """Asks the exchange to carry a run to a site whose node is up; waits for the end. own: the scenario with the site's own values.
    more: further fields of the SiteRequest."""
    wanted: Json = {"run": run.id, "site": site.party, "fit": site.records_train, "proof": site.records_holdout, **more}
    if own is not None:
        wanted["scenario"] = msgspec.to_builtins(own)
    return ended_run(operator, fleet, operator.post("/v1/sites", wanted), "next line", tell, {EXCHANGE, site.party})


def package_fields(settings: SiteSettings) -> Json:
    """What a site's request says of its package: where it came from, and its probes."""
    folder = find_package(settings.scenario, settings.state)
    return {"origin": msgspec.to_builtins(origin_of(folder, settings.values)), **probe_fields(folder)}


def open_package(name: str, state: Path, values: SiteValues | None = None) -> Scenario:
    """The scenario with site values, when there is an exchange in the state folder that may have run it. Raises NotFoundError."""
    scenario = load_package(find_package(name, state), values)
    if scenario.interface.foretold:
        what = f"{scenario.id} foretells numbers, which takes no labels of good and defect"
        raise InputError(what, "let the site's own node join the owners and run anew, or use the fleet's model there")
    if not (state / "exchange").is_dir():
        raise NotFoundError(f"there is no exchange in {state}", f"first: isthmus run {scenario.id}, or name its --state")
    return scenario


def replicate(settings: SiteSettings, tell: Tell, before: Callable[[Json], None] = lambda plan: None) -> RunView:
    """The site's run with its result. before: hears the sample arithmetic (see `plan_of`) before any work begins.

    Raises IsthmusError; a refusal by the bars is a result, not an error.
    """
    scenario = open_package(settings.scenario, settings.state, settings.values)
    before(plan_of(drawn(settings, scenario), scenario))
    tell("site", 0, 0)
    site = prepare_site(settings, scenario)
    with LocalFleet(settings.state / "logs") as fleet:
        url, key = fleet.start_exchange(settings.state)
        agree(site, key, {site.party: site.public_key}, site_terms(scenario.purpose, scenario.recipe.head), settings.clock)
        fleet.start_node(site, url)
        token = (settings.state / "exchange" / "operator.token").read_text(encoding="ascii").strip()
        with ExchangeClient(url, token) as operator:
            run = certified_run(operator.get("/v1/runs"), scenario)
            wait_for_nodes(operator, fleet, {site.party})
            own = None if settings.values is None else scenario
            more = package_fields(settings)
            return request_site(operator, fleet, run, site, tell, own, candidate=settings.candidate, **more)
