"""The chain of a deployment's steps: read back and checked, and folded into where its versions stand. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from isthmus.contracts.errors import IsthmusError, LogTamperedError
from isthmus.contracts.life import STEP_TYPE, DeployedVersion, LifeStep, VersionState
from isthmus.kit.canonical import sha256_hex
from isthmus.kit.signing import Envelope, payload_of, unseal


@dataclass
class Life:
    """What follows from steps. versions: by number. current: number of the one that serves. served: numbers in the order in which each
    last began to serve. left: owners who have left by now."""

    versions: dict[int, DeployedVersion] = field(default_factory=dict)
    states: dict[int, VersionState] = field(default_factory=dict)
    current: int | None = None
    retired: bool = False
    served: list[int] = field(default_factory=list)
    left: frozenset[str] = frozenset()

    @property
    def serving(self) -> DeployedVersion | None:
        return None if self.current is None else self.versions[self.current]

    @property
    def next_number(self) -> int:
        return max(self.versions, default=0) + 1

    def left_in(self, number: int) -> list[str]:
        """Owners who have left, and whose records the version was fitted on."""
        return sorted(self.left & set(self.versions[number].owners))

    def may_return(self) -> list[int]:
        """Numbers to go back to, the best first: those that served and were not gone back from, latest first. Of a deployment that was
        retired, the one that served last is the first."""
        kept = [n for n in self.served if self.states[n] in ("superseded", "retired")]
        return list(reversed(kept))


def step_digest(envelope: Envelope) -> str:
    """A step's name: sha256 of its payload's bytes."""
    return "sha256:" + sha256_hex(payload_of(envelope))


def checked_steps(envelopes: Sequence[Envelope], trusted: Mapping[str, str]) -> list[LifeStep]:
    """The steps of one deployment, oldest first, if a trusted key sealed each and none is missing, moved or of another chain.

    trusted: key id -> public key (hex). That the newest are there cannot be seen from a chain. Raises LogTamperedError naming the step.
    """
    found: list[LifeStep] = []
    previous = ""
    for place, envelope in enumerate(envelopes):
        try:
            step = msgspec.convert(unseal(envelope, STEP_TYPE, trusted), LifeStep)
        except (IsthmusError, msgspec.ValidationError) as error:
            raise LogTamperedError(f"step {place} is not as it was sealed: {error}", "restore the record from a copy") from error
        if step.seq != place or step.previous != previous or (found and step.name != found[0].name):
            raise LogTamperedError(f"step {place} does not follow the one before", "restore the record from a copy")
        found.append(step)
        previous = step_digest(envelope)
    return found


def life_of(steps: Iterable[LifeStep]) -> Life:
    """Folds steps, oldest first."""
    life = Life()
    for step in steps:
        if step.version is not None:
            life.versions[step.version.number] = step.version
            life.states[step.version.number] = "proposed"
        if step.action == "propose":
            continue
        if step.before is not None:
            life.states[step.before] = "rolled-back" if step.action == "rollback" else "superseded"
        life.current, life.retired = step.after, step.action == "retire"
        if step.after is None:
            if step.before is not None:
                life.states[step.before] = "retired"
            continue
        life.states[step.after] = "serving"
        life.served = [n for n in life.served if n != step.after] + [step.after]
        version = life.versions[step.after]
        life.left = (life.left | set(version.without)) - set(version.owners)
    return life
