"""Clauses about noise: what a job must add to be answered under a privacy budget, what that costs, and the noisy share itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.agreement import Agreement, PrivacyTerms
from isthmus.contracts.errors import AgreementError
from isthmus.contracts.job import Job, Noise
from isthmus.sandbox.accounting import nanos_up, rho_of_shares
from isthmus.sandbox.budget import CLAUSE
from isthmus.sandbox.folder import DataFolder
from isthmus.sandbox.noise import discrete_gaussian
from isthmus.sandbox.refusal import refuse_if
from isthmus.sandbox.statistics.registry import Params, Statistic
from isthmus.sandbox.statistics.sensitivity import NOT_TOLD, Block, Unit

Ints = NDArray[np.int64]
DEVIATION_MAX = 1 << 40
EPSILON_MAX, DELTA_MAX = 100.0, 0.01
UNIT_RECORDS_MAX = 1 << 20


def check_privacy(agreement: Agreement) -> None:
    """Raises AgreementError when its privacy terms promise nothing, or cannot be kept."""
    terms = agreement.privacy
    if terms is None:
        return
    rules = (
        (not 0 < terms.epsilon <= EPSILON_MAX, f"has an epsilon of {terms.epsilon!r}", f"use above 0, up to {EPSILON_MAX:g}"),
        (
            not 0 < terms.delta <= DELTA_MAX,
            f"has a delta of {terms.delta!r}",
            f"use above 0, up to {DELTA_MAX:g}; far below one by its records",
        ),
        (not 1 <= terms.unit_records_max <= UNIT_RECORDS_MAX, "has a unit of no records", "say how many a group may have"),
        (terms.unit == "record" and terms.unit_records_max != 1, "calls one record several", "leave unit_records_max at 1"),
        (agreement.contribution, "asks for noise and for scoring by its own exact sums", "drop one of the two"),
        (agreement.allow_own_head, "asks for noise and lets its own exact head leave", "drop one of the two"),
    )
    for broken, what, next_step in rules:
        if broken:
            raise AgreementError(f"the agreement of {agreement.owner} {what}", next_step)


def unit_of(terms: PrivacyTerms | None) -> Unit:
    """Whose presence the noise hides."""
    return Unit() if terms is None else Unit(terms.unit_records_max, terms.unit == "group")


def check_units(terms: PrivacyTerms | None, folder: DataFolder) -> None:
    """Groups are as small as declared, and each is in one split, where a group is the unit. Raises RefusedError."""
    if terms is None or terms.unit != "group":
        return
    sizes: dict[str, int] = {}
    splits: dict[str, str] = {}
    for file in folder.files:
        sizes[file.group] = sizes.get(file.group, 0) + 1
        straddles = splits.setdefault(file.group, file.split) != file.split
        refuse_if(straddles, "privacy-unit", "a group of this owner's stands in two splits", "prepare the asset with whole groups")
    larger = max(sizes.values(), default=0) > terms.unit_records_max
    refuse_if(larger, "privacy-unit", f"a group of this owner's has more than {terms.unit_records_max} records", "agree on a larger unit")


def share_variance(deviation: int, voices: int) -> float:
    """Of each node's own noise, so that the shares of all but one voice have the deviation; rounded up."""
    return math.nextafter(deviation**2 / max(1, voices - 1), math.inf)


def cost_nanos(blocks: tuple[Block, ...], noise: Noise, voices: int) -> int:
    """Nano-rho of one answer, rounded up."""
    told = [(block, deviation) for block, deviation in zip(blocks, noise.deviations, strict=True) if deviation != NOT_TOLD]
    shares = max(1, voices - 1)
    return nanos_up(sum(rho_of_shares(b.length, share_variance(deviation, voices), shares, b.entries) for b, deviation in told))


def deviations_for(blocks: tuple[Block, ...], rho: float, parts: Mapping[str, float]) -> tuple[int, ...]:
    """A deviation for each block, so that one stretch of blocks (one condition of several) costs rho in all. parts: a block's name -> its
    part of rho; those that are not named are not told."""
    return tuple(
        max(1, math.ceil(block.length / math.sqrt(2.0 * rho * parts[block.name]))) if block.name in parts else NOT_TOLD for block in blocks
    )


def check_noise(agreement: Agreement, statistic: Statistic, params: Params, job: Job) -> tuple[Block, ...]:
    """Whether the job's noise can be made, and is there where it must be; returns the statistic's blocks, none without noise.

    Raises RefusedError: `privacy-budget` for exact sums under a budget, `noise` for noise that is none.
    """
    if job.noise is None:
        exact = "this owner's answers carry noise, and the job asks for exact ones"
        refuse_if(agreement.privacy is not None, CLAUSE, exact, "ask with noise, or ask the owner for an agreement without a budget")
        return ()
    bounded = statistic.sensitivity
    refuse_if(
        bounded is None, "noise", f"nothing bounds what one record changes in {statistic.name}", "ask for statistics that can be noisy"
    )
    assert bounded is not None
    noise = job.noise
    refuse_if(not 0 <= noise.norm_max <= DEVIATION_MAX, "noise", "the length that rows are shortened to is none", "give a whole number")
    blocks = bounded(params, job.stage, unit_of(agreement.privacy), noise.norm_max)
    what = f"{statistic.name} has {len(blocks)} blocks, and the job has noise for {len(noise.deviations)}"
    refuse_if(len(noise.deviations) != len(blocks), "noise", what, "give one deviation a block")
    wrong = any(not 0 <= deviation <= DEVIATION_MAX for deviation in noise.deviations) or not any(noise.deviations)
    refuse_if(wrong, "noise", "the deviations are no noise", f"give whole numbers up to {DEVIATION_MAX}, 0 for a block that is not told")
    for block, deviation in zip(blocks, noise.deviations, strict=True):
        loose = deviation != NOT_TOLD and not math.isfinite(block.length)
        refuse_if(
            loose, "noise", f"nothing bounds what one unit changes in the {block.name} of {statistic.name}", "give it the deviation 0"
        )
    return blocks


def paid_for(agreement: Agreement, job: Job) -> bool:
    """Whether noise and a budget take the place of the dimension rule."""
    return agreement.privacy is not None and job.noise is not None


def told_only(share: Ints, blocks: tuple[Block, ...], noise: Noise) -> Ints:
    """The share with zeros in the blocks that are not told."""
    kept = np.concatenate([np.full(b.entries, deviation != NOT_TOLD) for b, deviation in zip(blocks, noise.deviations, strict=True)])
    return np.where(kept, share, 0)


def noise_of(blocks: tuple[Block, ...], noise: Noise, voices: int, sampler: Callable[[float, int], Ints] = discrete_gaussian) -> Ints:
    """One node's own noise, entry by entry."""
    parts: list[Any] = [
        sampler(share_variance(deviation, voices), b.entries) if deviation != NOT_TOLD else np.zeros(b.entries, dtype=np.int64)
        for b, deviation in zip(blocks, noise.deviations, strict=True)
    ]
    return np.concatenate(parts)
