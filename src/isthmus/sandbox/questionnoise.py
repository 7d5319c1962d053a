"""Noise on the answer to a question, and what it costs the owner's privacy budget.

Each owner adds a share, so that the shares of all but one owner of the roster suffice: should one owner tell the asker its own share of
noise, what is left hides as much as was paid for. Where an owner's sums are seen singly, its own share suffices. All owners of a roster add
their shares, also those whose agreements ask for none.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.agreement import Agreement, PrivacyTerms
from isthmus.contracts.errors import RefusedError
from isthmus.contracts.question import FLAGS, Noise, QuestionParams, cell_sizes, cell_width, noises
from isthmus.contracts.schema import Schema
from isthmus.sandbox.accounting import nanos_up, rho_of_shares
from isthmus.sandbox.budget import CLAUSE
from isthmus.sandbox.noise import VARIANCE_MAX, discrete_gaussian

SHARE_VARIANCE_MIN = 2.0
"""Of a share: below it, sums of shares are no longer nearly a discrete Gaussian."""
NO_TERMS = PrivacyTerms(epsilon=1e9, delta=1e-9)
"""Of an owner that sets no budget and takes part in a noisy answer all the same: noted, and never exhausted."""


def shares_of(owners: int, single: bool) -> int:
    """How many shares must hide a unit by themselves."""
    return 1 if single else max(1, owners - 1)


def share_variance(noise: Noise, shares: int) -> float:
    """Of one owner's share."""
    return max(SHARE_VARIANCE_MIN, noise.variance / shares)


def cost_nanos(params: QuestionParams, schema: Schema, owners: int, single: bool) -> int:
    """What the answer costs one owner, in nano-rho, rounded up; hardly above `params.rho_nanos`. single: its sums are seen singly."""
    shares = shares_of(owners, single)
    found = noises(params, schema)
    return nanos_up(math.fsum(rho_of_shares(one.sensitivity, share_variance(one, shares), shares, one.entries) for one in found))


def check_noise(agreement: Agreement, params: QuestionParams, schema: Schema, groups: Iterable[str] = ()) -> None:
    """Raises RefusedError when the agreement asks for noise and the question has none, or too little for the agreement's privacy unit.
    groups: of the owner's records, where they are known."""
    terms = agreement.privacy
    if terms is None:
        return
    if not params.rho_nanos:
        raise RefusedError(CLAUSE, "the agreement lets only noisy answers leave", "ask again with --epsilon")
    most = terms.unit_records_max if terms.unit == "group" else 1
    if params.unit_records < most:
        message = f"a privacy unit of this owner has up to {most} records, and the noise is for {params.unit_records}"
        raise RefusedError(CLAUSE, message, "ask anew, with noise for as many")
    if terms.unit == "group" and max(Counter(groups).values(), default=0) > most:
        raise RefusedError(CLAUSE, "a group here has more records than the agreement declares", "the owner agrees anew")
    if any(one.variance > VARIANCE_MAX for one in noises(params, schema)):
        raise RefusedError("parameters", "so little may be told that noise would drown it", "ask with a larger epsilon")


def noisy(share: NDArray[np.int64], params: QuestionParams, schema: Schema, owners: int, single: bool) -> NDArray[np.int64]:
    """The share with this owner's noise on every number but the flags, which are zeros in a noisy answer."""
    cells = share.reshape(math.prod(cell_sizes(params, schema)), cell_width(params)).copy()
    shares, at = shares_of(owners, single), FLAGS
    for one in noises(params, schema):
        added = discrete_gaussian(share_variance(one, shares), one.entries).reshape(len(cells), -1)
        if one.kind == "histogram":
            cells[:, at + FLAGS : at + (FLAGS + 1) * added.shape[1] : FLAGS + 1] += added
            at += (FLAGS + 1) * added.shape[1]
        else:
            cells[:, at] += added[:, 0]
            at += 1
    return cells.reshape(-1)
