"""The owner's ledger of privacy: what every noisy answer cost, over jobs, purposes and buyers, kept for the data's lifetime.

It is keyed by lineage, not by version of the data: changed data of the same owner is about the same people and machines, and does not
refill it. A release is appended durably, with the very noisy share, before that share can leave; so what was spent is never below what
left, whenever the process is killed. A record is in one split of one version of the asset, so answers about several splits of a version
cost what the dearest split costs; versions add up, because a record may stand in any. The same content asked again is given the same noisy
share and costs nothing: an average over answers to one question has one answer's noise in it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.agreement import PrivacyTerms
from isthmus.contracts.errors import RefusedError
from isthmus.kit.database import Database, named_sql
from isthmus.sandbox.accounting import NANOS, epsilon_of, nanos_down, rho_for

SQL = named_sql(Path(__file__).with_suffix(".sql"))
LEDGER_NAME = "privacy.sqlite"
CLAUSE = "privacy-budget"
Ints = NDArray[np.int64]


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """One noisy answer that left, or was about to.

    content: digest of what was asked, without attempt and times. rho_nanos: its cost. exchange: public key of who asked. agreement, asset:
    digests. payload: digest of the share before noise, which is how a changed answer to the same question is noticed. part: the split of
    the asset's records that it is about.
    """

    content: str
    rho_nanos: int
    statistic: str
    purpose: str
    run_id: str
    exchange: str
    agreement: str
    asset: str
    at_s: int
    payload: str
    part: str = "train"


def allowance_nanos(terms: PrivacyTerms) -> int:
    """What an agreement's epsilon and delta come to in nano-rho, rounded down."""
    return nanos_down(rho_for(terms.epsilon, terms.delta))


def epsilon_spent(rho_nanos: int, delta: float) -> float:
    """What so much nano-rho means as epsilon."""
    return epsilon_of(rho_nanos / NANOS, delta)


class PrivacyLedger:
    """SQLite in the node's own state folder; rows can only be added. Every write is durable before it returns. Raises StorageError."""

    def __init__(self, path: Path) -> None:
        self._database = Database(path, [SQL["schema_1"]])

    def close(self) -> None:
        self._database.close()

    def spent_nanos(self, lineage: str) -> int:
        """Nano-rho that left, ever: of the dearest split of each version of the asset, added up over versions."""
        row = self._database.row(SQL["spent"], {"lineage": lineage})
        return 0 if row is None else int(row["nanos"])

    def spent_on_nanos(self, lineage: str, asset: str, part: str) -> int:
        """What would be spent if this split of this version had been the dearest: what a further answer about it adds to."""
        splits = {
            (row["asset"], row["part"]): int(row["nanos"]) for row in self._database.rows(SQL["spent_by_split"], {"lineage": lineage})
        }
        dearest: dict[str, int] = {}
        for (version, _), nanos in splits.items():
            dearest[version] = max(nanos, dearest.get(version, 0))
        return sum(nanos for version, nanos in dearest.items() if version != asset) + splits.get((asset, part), 0)

    def left_nanos(self, lineage: str, terms: PrivacyTerms, asset: str = "", part: str = "") -> int:
        """What these terms leave, for answers about one split of one version where these are named; never below 0, also where an earlier
        agreement allowed more."""
        spent = self.spent_on_nanos(lineage, asset, part) if asset else self.spent_nanos(lineage)
        return max(0, allowance_nanos(terms) - spent)

    def releases(self, lineage: str) -> list[Release]:
        """In the order of their leaving."""
        return [_release(row) for row in self._database.rows(SQL["releases"], {"lineage": lineage})]

    def check(self, lineage: str, release: Release, terms: PrivacyTerms) -> None:
        """Whether a release could be paid for now. Raises RefusedError, clause `privacy-budget`."""
        if self._database.row(SQL["release"], {"lineage": lineage, "content": release.content}) is None:
            self._afford(lineage, release, terms)

    def paid(self, lineage: str, release: Release, terms: PrivacyTerms | None, noisy: Callable[[], Ints]) -> Ints:
        """The noisy share of a release: that of before for content that left before, else a new one, paid for.

        noisy: makes the new share; called only once it can be paid for. terms: None where the owner set no budget; the cost is kept all the
        same. Raises RefusedError: `privacy-budget` when too little is left; `payload` when the same content gives other numbers than
        before, so that the difference would show.
        """
        with self._database.transaction() as sql:
            row = self._database.row(SQL["release"], {"lineage": lineage, "content": release.content})
            if row is not None:
                if row["payload"] != release.payload:
                    message = "the same job gives other numbers than before, so that the difference would show"
                    raise RefusedError("payload", message, "start a new run")
                return np.frombuffer(row["share"], dtype="<i8").astype(np.int64)
            if terms is not None:
                self._afford(lineage, release, terms)
            share = noisy()
            sql.execute(SQL["append"], {"lineage": lineage, "share": share.astype("<i8").tobytes(), **msgspec.structs.asdict(release)})
        return share

    def _afford(self, lineage: str, release: Release, terms: PrivacyTerms) -> None:
        left = self.left_nanos(lineage, terms, release.asset, release.part)
        if release.rho_nanos > left:
            whole = f"epsilon {terms.epsilon:g} at delta {terms.delta:g}"
            message = f"this answer costs rho {release.rho_nanos / NANOS:.3g}, and {left / NANOS:.3g} is left of {whole}"
            raise RefusedError(CLAUSE, message, "ask for more noise, or ask the owner for a larger budget")


def _release(row: object) -> Release:
    return msgspec.convert({name: row[name] for name in Release.__struct_fields__}, Release)  # type: ignore[index]
