"""Would a roster, beside those that were answered before, reveal one owner's sums by subtraction?

Two tests, over members (party, asset version), so that a new version counts as one leaver and one joiner:
- two overlapping rosters must differ by nobody, or on each side by nobody or at least k owners;
- no combination of all the rosters so far may isolate one owner, for the exchange or for one roster member that knows its
  own share. From k = 3 on, also not for both together: with k = 2, one of two leavers and the exchange could subtract.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np

Member = tuple[str, str]
Roster = frozenset[Member]


UNPINNED = ""
"""The one voice of all members whose keys an agreement does not pin: whoever vouches for them may be all of them."""


def _voices(members: Iterable[Member], pinned: Collection[str] | None) -> int:
    return len({party if pinned is None or party in pinned else UNPINNED for party, _ in members})


def too_close(earlier: Roster, roster: Roster, owners_min: int, pinned: Collection[str] | None = None) -> bool:
    """Whether two rosters overlap and differ by some but fewer than owners_min owners on one side; those not pinned count as one."""
    if not earlier & roster:
        return False
    left, joined = _voices(earlier - roster, pinned), _voices(roster - earlier, pinned)
    return 0 < left < owners_min or 0 < joined < owners_min


def isolates_one(rosters: Sequence[Roster], collusion: bool = False, pinned: Collection[str] | None = None) -> Member | None:
    """A member whose share an outsider or one insider could compute from the rosters' sums, or None.

    A sum of sums isolates a member when its unit vector lies in the row space of the 0/1 roster matrix. The outsider (the
    exchange) sees every roster's sum. An insider sees those of the rosters that it stood in, with collusion those of all,
    and knows its own share: its columns, all versions, are struck out. Members that are not pinned are one insider together.
    """
    members = sorted(set().union(*rosters))
    for insider in _insiders({party for party, _ in members}, pinned):
        seen = [r for r in rosters if collusion or not insider or any(party in insider for party, _ in r)]
        columns = [member for member in members if member[0] not in insider]
        matrix = np.array([[float(member in roster) for member in columns] for roster in seen]).reshape(len(seen), len(columns))
        rank = int(np.linalg.matrix_rank(matrix)) if matrix.size else 0
        for position, member in enumerate(columns):
            unit = np.zeros((1, len(columns)))
            unit[0, position] = 1.0
            if rank and matrix[:, position].any() and int(np.linalg.matrix_rank(np.vstack([matrix, unit]))) == rank:
                return member
    return None


def _insiders(parties: set[str], pinned: Collection[str] | None) -> list[frozenset[str]]:
    """Nobody; each that is pinned; all others together."""
    own = sorted(parties if pinned is None else parties & set(pinned))
    others = frozenset(parties) - frozenset(own)
    return [frozenset(), *(frozenset({party}) for party in own), *([others] if others else [])]


def reveals(earlier: Sequence[Roster], roster: Roster, owners_min: int, pinned: Collection[str] | None = None) -> str | None:
    """Why the roster would reveal one owner's sums, or None. earlier: rosters answered for the same features. pinned: parties whose keys
    the agreement pins; all others count as one. None: all are pinned."""
    for known in earlier:
        if too_close(known, roster, owners_min, pinned):
            left, joined = sorted(p for p, _ in known - roster), sorted(p for p, _ in roster - known)
            changes = [f"without {', '.join(left)}"] * bool(left) + [f"with {', '.join(joined)}"] * bool(joined)
            return f"the roster differs from an earlier one by fewer than {owners_min} owners ({' and '.join(changes)})"
    found = isolates_one([*dict.fromkeys([*earlier, roster])], owners_min > 2, pinned)
    return None if found is None else f"this roster and earlier ones together isolate the sums of {found[0]}"
