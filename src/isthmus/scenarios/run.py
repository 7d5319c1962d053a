"""`isthmus run`: walks a scenario through its whole loop on this machine, through the exchange's own HTTP API."""

from __future__ import annotations

import datetime
import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from isthmus.assurance.certificate import check
from isthmus.client.http import ExchangeClient
from isthmus.contracts.agreement import AGGREGATE_RATIO_MIN
from isthmus.contracts.brier import BRIER
from isthmus.contracts.errors import CertificateError, FolderError, InputError, JobFailedError, RemoteError
from isthmus.contracts.head import Head
from isthmus.contracts.operations import OPERATIONS, fleet_operations
from isthmus.contracts.ports import Clock, Json
from isthmus.contracts.scenario import Scenario
from isthmus.contracts.statistic import EVALUATE, PAIR
from isthmus.contracts.targets import Target
from isthmus.contracts.valuesums import VALUE_STATISTICS
from isthmus.kit.signing import Envelope, key_id
from isthmus.sandbox.folder import LabelledFile, read_folder
from isthmus.sandbox.outlog import undeclared, verify_log
from isthmus.sandbox.ports import Tools
from isthmus.scenarios.facts import OwnerFacts, RunFacts
from isthmus.scenarios.local import LocalFleet, Owner, Tell, Terms, agree, ended_run, prepare_owner, wait_for_nodes
from isthmus.scenarios.package import find_package, load_package
from isthmus.scenarios.reference import reference
from isthmus.scenarios.replicate import SiteSettings, prepare_site, request_site, site_terms
from isthmus.scenarios.samples import Sample, sample
from isthmus.scenarios.serving import serve_samples
from isthmus.scenarios.workbench import origin_of, probe_fields

AFTER_LEAVING = "/after-leaving"
OWNERS_MIN = 3
SITE = "line-4"
NAME_CHARS = 40
RESERVED = frozenset({"joint", "fleet", "exchange", "sample-user", "sample-compute", "sample-model-vendor", SITE})


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """What the command was told. data: the user's own folders, one an owner; empty for the sample owners. samples, proof: labels of
    the next line to fit on and to prove with. tools: as the nodes have them, for the pooled reference on sample files. values: a file of
    site values, instead of the package's own. candidate: what is certified is proposed, not put into service. contribution: owners let
    their sums be seen singly, are scored and paid by that; then each has own_records_per_feature records behind each feature."""

    scenario: str
    state: Path
    data: tuple[Path, ...]
    samples: int | None
    proof: int
    seed: int
    tools: Tools
    clock: Clock
    values: Path | None = None
    candidate: bool = False
    contribution: bool = False
    own_records_per_feature: int = AGGREGATE_RATIO_MIN


def party_of(folder: Path) -> str:
    """The party id that an owner gets from its folder's name; the same name gives the same id."""
    name = folder.resolve().name
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:NAME_CHARS].strip("-")
    if not name.isascii() or not plain or len(name) > NAME_CHARS:
        plain = f"{plain or 'owner'}-{hashlib.sha256(name.encode(errors='surrogateescape')).hexdigest()[:6]}"
    return f"owner-{plain}" if plain in RESERVED else plain


def scored_terms(terms: Terms, own_records_per_feature: int) -> Terms:
    """The same terms for owners who want to be scored: nothing may then be kept in aggregate."""
    return replace(
        terms,
        operations=(*terms.operations, BRIER),
        visibility="individual",
        contribution=True,
        least_participants=1,
        records_per_feature=own_records_per_feature,
    )


def checked_folders(data: tuple[Path, ...]) -> dict[str, Path]:
    """party -> folder. Raises FolderError, InputError when a folder is missing or two would be one owner."""
    found: dict[str, Path] = {}
    for folder in data:
        if not folder.is_dir():
            raise FolderError(f"{folder} is not a folder", "give one folder an owner")
        if any(folder.samefile(other) for other in found.values()):
            raise InputError(f"{folder} is given twice", "give each owner's own folder once")
        party = party_of(folder)
        if party in found:
            raise InputError(
                f"{found[party]} and {folder} would both be the owner {party}", "rename one: an owner is named after its folder"
            )
        found[party] = folder
    return found


class ScenarioRun:
    """One run; `walk` gives its facts. tell: hears of progress."""

    def __init__(self, settings: RunSettings, tell: Tell) -> None:
        self._settings, self._tell = settings, tell
        folder = find_package(settings.scenario, settings.state)
        self._scenario: Scenario = load_package(folder, settings.values)
        self._package: Json = {"origin": msgspec.to_builtins(origin_of(folder, settings.values)), **probe_fields(folder)}
        if not settings.data and self._scenario.sample_data == "none":
            raise InputError(f"{self._scenario.id} has no sample data", "give one folder an owner with --data")
        self._sample: Sample | None = None if settings.data else sample(self._scenario.sample_data)
        if settings.data and len(settings.data) < OWNERS_MIN:
            raise InputError(
                f"{len(settings.data)} owners were given, sums need {OWNERS_MIN} so that nobody's own can be seen",
                "give one --data folder an owner, or use `isthmus try` for a single folder",
            )
        self._parties = checked_folders(settings.data)
        if settings.data and (settings.samples is not None or settings.proof):
            raise InputError(
                "--samples and --proof are of the sample's next line, --data is not", "carry the run on with isthmus replicate"
            )
        note = "" if self._sample is None else self._sample.note
        self.facts = RunFacts(scenario=self._scenario, sample=self._sample is not None, licence_note=note)
        self._began_s = settings.clock.monotonic_s()

    def walk(self) -> RunFacts:
        """The facts. Raises IsthmusError; what was finished by then is kept and found again by the next run."""
        self.facts.at = datetime.datetime.fromtimestamp(self._settings.clock.now_s(), datetime.UTC).isoformat(timespec="seconds")
        owners, line = self._owners()
        with LocalFleet(self._settings.state / "logs") as fleet:
            with self._timed("start"):
                url, self.facts.exchange_key = fleet.start_exchange(self._settings.state)
                self._agreements(owners, line)
                for owner in (*owners, *((line,) if line else ())):
                    fleet.start_node(owner, url)
            token = (self._settings.state / "exchange" / "operator.token").read_text(encoding="ascii").strip()
            with ExchangeClient(url, token) as operator:
                wait_for_nodes(operator, fleet, {o.party for o in owners} | ({line.party} if line else set()))
                self._loop(operator, fleet, owners, line)
        with self._timed("reference"):
            self._reference(owners)
        self.facts.owners = tuple(self._left(owner) for owner in owners)
        self.facts.line = None if line is None else self._left(line)
        self.facts.wall_s = self._settings.clock.monotonic_s() - self._began_s
        return self.facts

    def _loop(self, operator: ExchangeClient, fleet: LocalFleet, owners: list[Owner], line: Owner | None) -> None:
        candidate = self._settings.candidate
        request: Json = {"scenario": msgspec.to_builtins(self._scenario), "owners": [o.party for o in owners], **self._package}
        request |= {"candidate": candidate, "contribution": self._settings.contribution}
        with self._timed("build"):
            self.facts.fleet = ended_run(operator, fleet, operator.post("/v1/runs", request), "build", self._tell)
        result = self.facts.fleet.result or {}
        self.facts.artefact = operator.send("GET", f"/v1/models/{result['artefact_digest']}/artefact").content
        if self.facts.fleet.state == "certified" and not candidate:
            with self._timed("serve"):
                self._serve(operator, line or owners[0], result)
        if candidate or self._targets:  # the life of what serves goes on; numbers know no next line, and no other features for a leaver
            return
        if line is not None:
            with self._timed("next line"):
                self.facts.site = request_site(operator, fleet, self.facts.fleet, line, self._tell, **self._package)
        with self._timed("leaving"):
            self.facts.leaver = owners[-1].party
            gone = "left" if self._settings.contribution else "without"  # who is scored may be shown, so the features stay
            leaving = {**request, gone: [self.facts.leaver], "clean_only": True, "contribution": False}
            try:
                self.facts.leave = ended_run(operator, fleet, operator.post("/v1/runs", leaving), "leaving", self._tell)
            except (JobFailedError, RemoteError) as error:
                self.facts.leave_refusal = (error.as_dict()["code"], error.message, error.next_step)

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        began_s = self._settings.clock.monotonic_s()
        self._tell(name, 0, 0)
        yield
        self.facts.timings.append((name, round(self._settings.clock.monotonic_s() - began_s, 2), False))

    # Owners.

    @property
    def _targets(self) -> tuple[Target, ...]:
        return self._scenario.interface.foretold

    def _owners(self) -> tuple[list[Owner], Owner | None]:
        state = self._settings.state
        with self._timed("owners"):
            if self._sample is None:
                return [self._own(party, folder) for party, folder in self._parties.items()], None
            folders = self._sample.folders(state / "sample-data")
            owners, schema = [], self._scenario.interface.schema
            for place, party in enumerate(self._sample.of_kind("owner")):
                self._tell("owners", place, len(self._sample.parties))
                home, licence = state / "nodes" / party.party, self._sample.licence
                data = folders[party.party]
                owners.append(
                    prepare_owner(party.party, party.name, "owner", data, home, licence, True, schema, self._targets, self._good_alone)
                )
            sites = () if self._targets else self._sample.of_kind("site")  # a model of numbers is not carried on by a few labels
            return owners, prepare_site(self._site_settings(sites[0].party), self._scenario) if sites else None

    def _site_settings(self, site: str) -> SiteSettings:
        wanted = self._settings
        return SiteSettings(
            scenario=wanted.scenario,
            state=wanted.state,
            site=site,
            samples=wanted.samples or self._scenario.replicate.samples_default,
            fit=None,
            proof=wanted.proof,
            seed=wanted.seed,
            clock=wanted.clock,
            values=wanted.values,
        )

    def _own(self, party: str, folder: Path) -> Owner:
        name = folder.resolve().name
        home, schema = self._settings.state / "nodes" / party, self._scenario.interface.schema
        return prepare_owner(party, name, "owner", folder, home, "proprietary", False, schema, self._targets, self._good_alone)

    @property
    def _good_alone(self) -> bool:
        return self._scenario.recipe.head == "gaussian"

    def _agreements(self, owners: list[Owner], line: Owner | None) -> None:
        """Each owner signs its terms: sums in aggregate only, and, should a partner leave, sums of other features seen singly."""
        purpose, key, clock = self._scenario.purpose, self.facts.exchange_key, self._settings.clock
        keys = {o.party: o.public_key for o in owners}
        together = Terms(
            purpose=purpose,
            operations=VALUE_STATISTICS if self._targets else fleet_operations(self._scenario.recipe.head),
            allow_own_head=not self._targets,
            records_per_feature=self._scenario.recipe.records_per_feature,
        )
        if self._settings.contribution:
            together = scored_terms(together, self._settings.own_records_per_feature)
        for owner in owners:
            agree(owner, key, keys, together, clock)
            if self._targets:
                continue
            after = Terms(
                purpose=purpose + AFTER_LEAVING,
                operations=(*OPERATIONS[self._scenario.recipe.head], EVALUATE, PAIR),
                least_participants=2,
                visibility="individual",
            )
            agree(owner, key, keys, after, clock)
        if line is not None:
            agree(line, key, {line.party: line.public_key}, site_terms(purpose, self._scenario.recipe.head), clock)

    def _left(self, owner: Owner) -> OwnerFacts:
        """What left, by the owner's own signed log. Raises LogTamperedError."""
        entries = verify_log(owner.state / "left.jsonl", owner.public_key)
        return OwnerFacts(
            owner=owner, entries=tuple(entries), bytes_left=sum(e.bytes for e in entries), images_left=len(undeclared(entries))
        )

    # Steps at the exchange.

    def _serve(self, operator: ExchangeClient, user: Owner, result: Json) -> None:
        files: list[LabelledFile] = list(read_folder(user.data, self._targets).files)
        wanted = self._scenario.serve.sample_requests
        chosen = files[:: max(1, len(files) // wanted)][:wanted]
        model, run_id = result["deployment"]["name"], result["artefact_digest"]
        tell = lambda done, total, label: self._tell(label, done, total)  # noqa: E731
        currency, schema = self._scenario.serve.currency, self._scenario.interface.schema
        self.facts.serving = serve_samples(operator, model, currency, user.data, chosen, run_id, tell, schema)
        self.facts.artefact_edit_refusal = self._edited(result)

    def _edited(self, result: Json) -> tuple[str, str, str] | None:
        """The refusal that one edited byte of the model really gets."""
        if self.facts.artefact is None:
            return None
        edited = bytearray(self.facts.artefact)
        edited[len(edited) // 2] ^= 1
        envelope = msgspec.convert(result["certificate"]["envelope"], Envelope)
        key = self.facts.exchange_key
        try:
            decoder = msgspec.convert(result["head"], Head).decoder
            check(envelope, bytes(edited), {key_id(key): key}, self._scenario.tier, self._settings.clock.now_s(), frozenset(), decoder)
        except CertificateError as error:
            return (error.code, error.message, error.next_step)
        return None

    def _reference(self, owners: list[Owner]) -> None:
        fleet = self.facts.fleet
        other = bool(self._targets) or self._scenario.recipe.head == "gaussian"
        if not self.facts.sample or fleet is None or fleet.result is None or other:
            return
        head = msgspec.convert(fleet.result["head"], Head)
        params = self._scenario.recipe.training
        self.facts.reference = reference(owners, head, float(fleet.result["penalty"]), params, self._settings.tools)
