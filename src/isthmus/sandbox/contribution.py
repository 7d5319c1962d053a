"""The split that follows from coalitions' losses, and the check of a signed document that states it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from isthmus.contracts.contribution import (
    CONTRIBUTION_FORMAT,
    CONTRIBUTION_TYPE,
    EXACT_OWNERS_MAX,
    PERMUTATIONS,
    SCORED_OWNERS_MAX,
    Contribution,
    OwnerShare,
    ScoredOwner,
)
from isthmus.contracts.errors import InputError, IsthmusError, ReceiptError
from isthmus.contracts.sums import LOSS_UNIT
from isthmus.kit.canonical import digest_of
from isthmus.kit.signing import Envelope, key_id, unseal
from isthmus.sandbox.shapley import (
    Values,
    all_coalitions,
    drawn_coalitions,
    drawn_errors,
    drawn_orders,
    drawn_values,
    exact_values,
    weights_of,
)

MICROS = 1_000_000
PERMUTATIONS_MIN = 100


@dataclass(frozen=True)
class Game:
    """Which coalitions are scored. orders: None where all are. masks: ascending."""

    owners: int
    seed: str
    orders: tuple[tuple[int, ...], ...] | None
    masks: tuple[int, ...]


def seed_of(run: str, owners: Sequence[ScoredOwner]) -> str:
    """Fixed by the run and by what owners committed to, before anything is scored."""
    return digest_of({"run": run, "commitments": [[one.party, one.commitment] for one in owners]})


def game_of(owners: int, seed: str, heads_max: int) -> Game:
    """Every coalition up to EXACT_OWNERS_MAX owners; else PERMUTATIONS drawn orders, or fewer for heads_max. Raises InputError."""
    if not 2 <= owners <= SCORED_OWNERS_MAX:
        raise InputError(f"{owners} owners cannot be scored", f"bring 2 to {SCORED_OWNERS_MAX}")
    if owners <= EXACT_OWNERS_MAX:
        return _game(owners, seed, 0)
    count = min(PERMUTATIONS, (heads_max - 1) // (owners - 1))
    if count < PERMUTATIONS_MIN:
        raise InputError(f"{heads_max} heads are too few to score {owners} owners", "take fewer features")
    return _game(owners, seed, count)


def _game(owners: int, seed: str, count: int) -> Game:
    if not count:
        return Game(owners, seed, None, tuple(all_coalitions(owners)))
    orders = tuple(drawn_orders(seed, owners, count))
    return Game(owners, seed, orders, tuple(drawn_coalitions(orders)))


@dataclass(frozen=True)
class Split:
    """What follows from losses. values: exact. errors: in units of a loss. weights: WEIGHT_TOTAL in sum."""

    values: Values
    errors: tuple[float, ...]
    weights: tuple[int, ...]
    by_rows: bool


def split_of(game: Game, losses: Mapping[int, int], records: int, rows: Sequence[int], confidence: float) -> Split:
    """losses: mask -> loss over `records` held-out records, 0 is the prior. rows: training records by owner. Raises InputError when a
    coalition is missing."""
    try:
        if game.orders is None:
            values, errors = exact_values(losses, game.owners), (0.0,) * game.owners
        else:
            values = drawn_values(losses, game.orders, game.owners)
            errors = tuple(drawn_errors(losses, game.orders, game.owners, records * LOSS_UNIT, confidence))
    except KeyError as error:
        raise InputError(f"the coalition {error} was not scored", "score every coalition of the document's method") from error
    weights, by_rows = weights_of(values, rows)
    return Split(values, errors, weights, by_rows)


def micros(numerator: int, denominator: int) -> int:
    """A fraction in millionths, rounded half up, in whole numbers."""
    return (2 * numerator * MICROS + denominator) // (2 * denominator)


def shares_of(
    parties: Sequence[str], split: Split, records: int, intervals: Sequence[tuple[float, float]] | None
) -> tuple[OwnerShare, ...]:
    """The owners' lines. intervals: of shares, as fractions."""
    unit = records * LOSS_UNIT
    found = []
    for place, party in enumerate(parties):
        low, high = (None, None) if intervals is None else (round(end * MICROS) for end in intervals[place])
        found.append(
            OwnerShare(
                party=party,
                value_micros=micros(split.values.numerators[place], split.values.denominator * unit),
                error_micros=int(np.ceil(split.errors[place] / unit * MICROS - 1e-9)),
                weight_ppm=split.weights[place],
                low_ppm=low,
                high_ppm=high,
            )
        )
    return tuple(found)


def checked_contribution(envelope: Envelope, public_key: str) -> Contribution:
    """The document, if the exchange's key (hex) signed it and its shares are what its scores give. Raises SignatureError, DocumentError,
    ReceiptError naming what differs. Intervals rest on parts of the held-out records that the document does not tell; they are not checked.
    """
    document = unseal(envelope, CONTRIBUTION_TYPE, {key_id(public_key): public_key})
    try:
        found = msgspec.convert(document, Contribution)
        masks, losses = (array.array() for array in (found.masks, found.losses))
    except (msgspec.ValidationError, IsthmusError) as error:
        raise ReceiptError(f"what was signed is no contribution: {error}", "ask the exchange for it anew") from error
    parties = [one.party for one in found.owners]
    _same("format", found.format, CONTRIBUTION_FORMAT)
    _same("owners", parties, sorted(set(parties)))
    _same("seed", found.seed, seed_of(found.run, found.owners))
    _same("method", found.method, "exact" if len(parties) <= EXACT_OWNERS_MAX else "drawn")
    if not 2 <= len(parties) <= SCORED_OWNERS_MAX or found.records < 1:
        raise ReceiptError(f"{len(parties)} owners and {found.records} records cannot have been scored", "ask the exchange for it anew")
    if found.method == "drawn" and not PERMUTATIONS_MIN <= found.permutations <= PERMUTATIONS:
        raise ReceiptError(f"{found.permutations} orders are not {PERMUTATIONS_MIN} to {PERMUTATIONS}", "ask the exchange for it anew")
    game = _game(len(parties), found.seed, found.permutations if found.method == "drawn" else 0)
    _same("coalitions", [int(mask) for mask in masks.reshape(-1)], list(game.masks))
    _same("losses", losses.shape, masks.shape)
    scored = {0: found.prior_loss, **{int(m): int(v) for m, v in zip(masks, losses, strict=True)}}
    if any(not 0 <= loss <= found.records * LOSS_UNIT for loss in scored.values()):
        raise ReceiptError("a coalition's loss is not possible", "ask the exchange for it anew")
    split = split_of(game, scored, found.records, [one.records_train for one in found.owners], found.confidence_ppm / MICROS)
    _same("by_rows", found.by_rows, split.by_rows)
    given = [(one.low_ppm, one.high_ppm) for one in found.shares]
    told = [msgspec.structs.replace(one, low_ppm=None, high_ppm=None) for one in found.shares]
    for said, due in zip(told, shares_of(parties, split, found.records, None), strict=False):
        for name in ("party", "value_micros", "weight_ppm"):
            _same(f"{due.party}'s {name}", getattr(said, name), getattr(due, name))
        if abs(said.error_micros - due.error_micros) > 1:
            raise ReceiptError(f"{due.party}'s bound is {said.error_micros}, its scores give {due.error_micros}", "do not pay by it")
    _same("shares", len(found.shares), len(parties))
    if any((low, high) != (None, None) and (low is None or high is None or not 0 <= low <= high <= MICROS) for low, high in given):
        raise ReceiptError("an interval of a share is not possible", "ask the exchange for it anew")
    return found


def _same(what: str, said: object, due: object) -> None:
    if said != due:
        short = f" says {said}, and its scores give {due}" if len(f"{said}{due}") < 120 else " is not what its scores give"
        raise ReceiptError(f"the contribution's {what}{short}", "do not pay by it; ask the exchange for it anew")
