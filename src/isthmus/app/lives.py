"""Deployments through their versions: deploy, propose, roll back, retire, each a signed step in a chain, and the registry brought in line.

The order of things makes a crash harmless: a version is verified and loaded beside the one that serves, then the step is recorded in one
transaction, then requests go to it. Cut off before the record, it never happened; after it, the next start loads what the record says.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from isthmus.app.lifelog import Life, checked_steps, life_of, step_digest
from isthmus.contracts.deployment import Deployment
from isthmus.contracts.errors import (
    ConflictError,
    DeploymentRetiredError,
    DeploymentStoppedError,
    InputError,
    IsthmusError,
    LogTamperedError,
    NotFoundError,
)
from isthmus.contracts.life import (
    STEP_FORMAT,
    STEP_TYPE,
    Action,
    DeployedVersion,
    DeploymentHistory,
    DeploymentView,
    LifeStep,
    RetireOrder,
    RollbackOrder,
    UpgradeOrder,
    VersionView,
)
from isthmus.contracts.ports import Clock, Json
from isthmus.gateway.registry import Registry
from isthmus.kit.canonical import digest_of
from isthmus.kit.database import Database, named_sql
from isthmus.kit.signing import Envelope, SigningKey, seal

SQL = named_sql(Path(__file__).parent / "sql" / "lives.sql")
VERSION_CHARS = 12

WHY_CHARS_MAX = 500
"""The reason that a step of a deployment's life is given."""

STEP_ID_CHARS_MAX = 100
"""The id of a step of a deployment's life."""


def version_name(deployment: Deployment) -> str:
    """A version's name at the data path: another artefact, certificate, price or split is another version."""
    terms = [deployment.artefact_digest, deployment.certificate_digest, deployment.price_id, deployment.split_id]
    return digest_of(terms).removeprefix("sha256:")[:VERSION_CHARS]


_ACCEPT = "give more held-out records, or say why it is taken all the same: --accept-worse REASON"


def _unproven(compared: Json | None, old: int, new: int) -> list[str]:
    """Why a comparison does not carry an upgrade; empty when it does."""
    if compared is None:
        return ["it was not compared with what serves"]
    if (compared.get("old"), compared.get("new")) != (old, new):
        return [f"the comparison is of versions {compared.get('old')} and {compared.get('new')}, not of {old} and {new}"]
    return [] if compared.get("passed") else list(compared.get("failures", ()))


class Lives:
    """The record of all deployments in `folder`, and what keeps the registry as the record says. Safe from several threads.

    artefact_path: digest -> file. key: the exchange's, seals steps.
    """

    def __init__(self, folder: Path, registry: Registry, artefact_path: Callable[[str], Path], key: SigningKey, clock: Clock) -> None:
        self._db = Database(folder / "deployments.sqlite", [SQL["schema_1"]])
        self._registry, self._artefact_path, self._key, self._clock = registry, artefact_path, key, clock
        self._lock = threading.RLock()

    def close(self) -> None:
        self._db.close()

    # The record.

    def names(self) -> list[str]:
        return [row["name"] for row in self._db.rows(SQL["names"])]

    def envelopes(self, name: str) -> list[Envelope]:
        return [msgspec.json.decode(row["envelope"], type=Envelope) for row in self._db.rows(SQL["steps_of"], {"name": name})]

    def steps(self, name: str) -> list[LifeStep]:
        """Checked as they are read: a record that was edited is told, never served from. Raises LogTamperedError."""
        found = checked_steps(self.envelopes(name), {self._key.key_id: self._key.public_hex})
        if found and found[0].name != name:
            raise LogTamperedError(f"the record of {name} is that of {found[0].name}", "restore the record from a copy")
        return found

    def life(self, name: str) -> Life:
        """Raises NotFoundError when there never was such a deployment."""
        steps = self.steps(name)
        if not steps:
            raise NotFoundError(f"there is no deployment {name[:64]!r} here", "list them: isthmus deployment list")
        return life_of(steps)

    def record(self, name: str, action: Action, order: msgspec.Struct, who: str, **fields: Any) -> LifeStep:
        """Seals and keeps the next step; durable when it returns. order: has id and why."""
        envelopes = self.envelopes(name)
        wanted: Any = order
        step = LifeStep(
            format=STEP_FORMAT,
            name=name,
            seq=len(envelopes),
            id=wanted.id,
            order=digest_of({"action": action, "order": order}),
            action=action,
            who=who,
            why=wanted.why,
            at_s=int(self._clock.now_s()),
            previous=step_digest(envelopes[-1]) if envelopes else "",
            **fields,
        )
        row = {"name": name, "seq": step.seq, "id": step.id, "envelope": msgspec.json.encode(seal(self._key, STEP_TYPE, step))}
        with self._db.transaction() as db:
            db.execute(SQL["step_add"], row)
        return step

    def known(self, name: str, action: Action, order: msgspec.Struct) -> LifeStep | None:
        """The step that stands under an order's id. Raises ConflictError when it stands for another order, InputError for a bad id."""
        wanted: Any = order
        if not 1 <= len(wanted.id) <= STEP_ID_CHARS_MAX or not wanted.id.isprintable():
            raise InputError("an order needs an id of its own", f"give 1 to {STEP_ID_CHARS_MAX} printable characters")
        if not wanted.why.strip() or len(wanted.why) > WHY_CHARS_MAX:
            raise InputError("an order says why", f"give a reason of 1 to {WHY_CHARS_MAX} characters: --why")
        found = next((step for step in self.steps(name) if step.id == wanted.id), None)
        if found is not None and found.order != digest_of({"action": action, "order": order}):
            raise ConflictError(f"the id {wanted.id!r} was used before for another step of {name}", "use a new id for a new step")
        return found

    # Steps.

    def deploy(self, version: DeployedVersion, step_id: str, who: str, why: str, propose: bool = False) -> DeployedVersion:
        """Puts a certified version into service; propose: only records it, for a later upgrade, as is done when the name is retired.

        The same step_id again gives the version as it stands, whatever came after. Raises what `Registry.load` raises.
        """
        deployment = msgspec.structs.replace(version.deployment, version=version_name(version.deployment))
        order = RetireOrder(id=step_id, why=why)  # an id and a reason; what is deployed stands in the step itself
        with self._lock:
            steps = self.steps(deployment.name)
            life = life_of(steps)
            standing = next((s for s in steps if s.id == step_id and s.version is not None), None)
            if standing is not None and standing.version is not None:
                self._settle(deployment.name, life)
                return standing.version
            same = next((v for v in life.versions.values() if v.deployment == deployment), None)
            if same is not None and (propose or same.number == life.current):
                self._settle(deployment.name, life)
                return same
            made = msgspec.structs.replace(version, number=life.next_number, deployment=deployment)
            if propose or life.retired:
                return self.record(deployment.name, "propose", order, who, version=made).version or made
            self._loaded(deployment, standby=life.current is not None)
            self._recorded(made, deployment.name, "deploy", order, who, before=life.current, after=made.number, version=made)
            return made

    def _loaded(self, deployment: Deployment, standby: bool, proven: bool = False) -> None:
        self._registry.load(deployment, self._artefact_path(deployment.artefact_digest), standby=standby, proven=proven)

    def _recorded(self, target: DeployedVersion, name: str, action: Action, order: msgspec.Struct, who: str, **fields: Any) -> LifeStep:
        """Records a step whose target is loaded, then sends requests to it. A record that fails leaves all as it was."""
        try:
            step = self.record(name, action, order, who, **fields)
        except IsthmusError:
            if target.deployment.version != self._current_version(name):
                why = DeploymentStoppedError(f"{name} version {target.deployment.version} was not put into service", "try again")
                self._registry.drop(name, target.deployment.version, why)
            raise
        self._settle(name, life_of(self.steps(name)))
        return step

    def _current_version(self, name: str) -> str | None:
        serving = life_of(self.steps(name)).serving
        return None if serving is None else serving.deployment.version

    def rollback(self, name: str, order: RollbackOrder, who: str) -> LifeStep:
        """Back to the version that served before, if its certificate and bytes still hold; else to the one before that.

        Never to one that was fitted on the data of an owner who has left since. Raises ConflictError with the reason for each version
        that cannot be gone back to; then what serves is as it was.
        """
        with self._lock:
            life = self.life(name)
            standing = self.known(name, "rollback", order)
            if standing is not None:
                self._settle(name, life)
                return standing
            refused = []
            for number in self._targets(name, life, order.to):
                why = self._why_not(life, number)
                if not why:
                    target = life.versions[number]
                    return self._recorded(target, name, "rollback", order, who, before=life.current, after=number)
                refused.append(f"version {number}: {why}")
            refused += [f"version {n}: it was gone back from (--to {n} takes it)" for n in life.served if life.states[n] == "rolled-back"]
            said = "; ".join(refused) or "no other version has served"
            raise ConflictError(f"{name} has nothing to go back to: {said}", "certify a version and deploy it, or retire the deployment")

    @staticmethod
    def _targets(name: str, life: Life, to: int | None) -> list[int]:
        if to is None:
            return [number for number in life.may_return() if number != life.current]
        if to == life.current:
            raise ConflictError(f"{name} serves version {to} already", "name another version")
        if to not in life.served:
            raise NotFoundError(f"{name} never served a version {to}", f"see its versions: isthmus deployment history {name}")
        return [to]

    def _why_not(self, life: Life, number: int) -> str:
        """Why a version cannot serve; empty when it can, and then it is loaded beside what serves."""
        left = life.left_in(number)
        if left:
            return f"it was fitted on the data of {', '.join(left)}, who left since"
        deployment = life.versions[number].deployment
        try:
            if deployment.version in self._registry.versions(deployment.name):
                self._registry.admit(self._registry.find(deployment.name, deployment.version))
            else:
                self._loaded(deployment, standby=True, proven=number in life.served)
        except IsthmusError as error:
            return error.message
        return ""

    @staticmethod
    def upgrade_target(name: str, life: Life, to: int | None) -> int:
        """The number that an upgrade is to: as told, else the newest that was proposed. Raises ConflictError, NotFoundError."""
        if to is None:
            proposed = [number for number, state in life.states.items() if state == "proposed"]
            if not proposed:
                raise ConflictError(f"no version of {name} is proposed", "make one: isthmus run SCENARIO --candidate")
            return max(proposed)
        if to not in life.versions:
            raise NotFoundError(f"{name} has no version {to}", f"see its versions: isthmus deployment history {name}")
        if to == life.current:
            raise ConflictError(f"{name} serves version {to} already", "name another version")
        return to

    def upgrade(self, name: str, order: UpgradeOrder, who: str, compared: Json | None, shadow: Json | None = None) -> LifeStep:
        """From what serves to a certified version that is shown not to be inferior. compared: what the comparison found. shadow: what a
        shadow run of the two counted, for the record only: it knows no labels.

        Raises ConflictError with the reasons when that is not shown, unless the order says why it is accepted; the certificate is never
        waived.
        """
        with self._lock:
            life = self.life(name)
            standing = self.known(name, "upgrade", order)
            if standing is not None:
                self._settle(name, life)
                return standing
            number = self.upgrade_target(name, life, order.to)
            unproven = [] if life.current is None else _unproven(compared, life.current, number)
            if unproven and not order.accept_worse.strip():
                raise ConflictError(f"version {number} of {name} is not shown to be as good: {'; '.join(unproven)}", _ACCEPT)
            if len(order.accept_worse) > WHY_CHARS_MAX:
                raise InputError("the reason of --accept-worse is too long", f"use up to {WHY_CHARS_MAX} characters")
            why = self._why_not(life, number)
            if why:
                raise ConflictError(f"version {number} of {name} cannot serve: {why}", "certify it again")
            accepted = order.accept_worse if unproven else ""
            found = {"comparison": order.comparison, "found": compared, "shadow": shadow}
            proof = {**found, "accepted": accepted, "unproven": unproven}
            return self._recorded(life.versions[number], name, "upgrade", order, who, before=life.current, after=number, proof=proof)

    def retire(self, name: str, order: RetireOrder, who: str) -> LifeStep:
        """Takes the deployment out of service: requests under way are answered, new ones are refused, engines end. The record and all
        receipts stay; `rollback` takes it back."""
        with self._lock:
            life = self.life(name)
            standing = self.known(name, "retire", order)
            if standing is None:
                if life.retired:
                    raise ConflictError(f"{name} is retired already", "take it back with isthmus deployment rollback, or leave it")
                standing = self.record(name, "retire", order, who, before=life.current)
            self._settle(name, self.life(name))
            return standing

    # The registry.

    def _settle(self, name: str, life: Life) -> None:
        """Makes the registry serve what the record says: the current version, and beside it the one that would be gone back to, which
        answers only those who name it."""
        if life.retired:
            self._registry.retire(name, DeploymentRetiredError(f"{name} was retired", "ask its operator which deployment to use"))
            return
        if life.serving is None:
            return
        current = life.serving.deployment.version
        loaded = self._registry.versions(name)
        if current not in loaded:
            self._loaded(life.serving.deployment, standby=False, proven=True)
        self._registry.prefer(name, current)
        kept = {current, *(life.versions[n].deployment.version for n in life.may_return()[:1])}
        for number, version in life.versions.items():
            found = version.deployment.version
            if found not in kept:
                state = {"rolled-back": "was gone back from", "proposed": "was not put into service"}.get(
                    life.states[number], "is superseded"
                )
                why = DeploymentStoppedError(f"{name} version {found} {state}; {current} serves", "name no version, or that one")
                self._registry.drop(name, found, why)

    def load_all(self) -> dict[str, str]:
        """Loads what the record says serves, then what would be gone back to; returns name -> refusal of what may not serve."""
        refused: dict[str, str] = {}
        with self._lock:
            lives: dict[str, Life] = {}
            for name in self.names():
                try:
                    lives[name] = life_of(self.steps(name))
                    self._settle(name, lives[name])
                except IsthmusError as error:
                    refused[name] = str(error)
            for life in lives.values():
                for number in () if life.retired or life.current is None else life.may_return()[:1]:
                    self._why_not(life, number)
        return refused

    # Views.

    def view(self, name: str) -> DeploymentView:
        """Raises NotFoundError."""
        return self._view(name, self.life(name))

    def _view(self, name: str, life: Life) -> DeploymentView:
        versions = tuple(
            VersionView(version=version, state=life.states[number], problem=self._problem(life, number))
            for number, version in sorted(life.versions.items())
        )
        problem = "" if life.current is None else self._serving_problem(name)
        return DeploymentView(
            name=name,
            site=next(iter(life.versions.values())).deployment.site,
            state="retired" if life.retired else "serving" if life.current is not None else "proposed",
            current=life.current,
            ready=life.current is not None and not problem,
            problem=problem,
            versions=versions,
        )

    def _serving_problem(self, name: str) -> str:
        try:
            self._registry.admit(self._registry.find(name))
        except IsthmusError as error:
            return error.message
        return ""

    def _problem(self, life: Life, number: int) -> str:
        left = life.left_in(number)
        if left:
            return f"it was fitted on the data of {', '.join(left)}, who left since"
        try:
            self._registry.check(life.versions[number].deployment)
        except IsthmusError as error:
            return error.message
        return ""

    def views(self) -> list[DeploymentView]:
        """All of them; one whose record was damaged is there with what is wrong with it."""
        found: list[DeploymentView] = []
        for name in self.names():
            try:
                found.append(self.view(name))
            except LogTamperedError as error:
                found.append(
                    DeploymentView(name=name, site="", state="damaged", current=None, ready=False, problem=error.message, versions=())
                )
        return found

    def history(self, name: str) -> DeploymentHistory:
        """Raises NotFoundError."""
        steps = tuple(msgspec.to_builtins(envelope) for envelope in self.envelopes(name))
        return DeploymentHistory(deployment=self.view(name), steps=steps, public_key=self._key.public_hex)
