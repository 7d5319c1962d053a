"""Which owner's sums do not belong with the others': poison and mistakes, from sums that may be seen singly. Pure.

Arithmetic first (foundry.possible): sums that no records have, records counted several times, two owners with the same records. Then what
is likely. Each owner's labels are held against a head of all the *others* together, every owner with the same say, so that a large one
does not make the rule: r is the correlation of that head's score with the owner's labels, which follows from its sums. Hospitals differ,
so being different accuses nobody. An owner is accused where its r is less than half of what the others have among themselves (ALLOWANCE),
by more than chance: Fisher's z of half their median less z of its own, over 1 / sqrt(n - 3), where n is the number of records less a
design effect for groups. So an honest owner whose labels follow the others' rule at least half as well as usual is accused with a chance
of at most `false_alarm`, shared among the owners (Bonferroni). Whoever stands out most is set aside, and the rest are compared again.

How it stands out names the mistake: r below nought, labels turned; nothing in its features says anything of its labels, shuffled; a
weaker form of the others' rule, noisy labels; another rule, contrary. The last two are left out only where the others are better off
without: `influence` is by how much the loss of heads on each other owner, itself left out, falls when this one is left out as well.

Units: a number's column at an owner differs from the others' by several times what these differ among themselves, and one known conversion
(kit.units) makes of the others' column about what this owner has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from isthmus.contracts.errors import InputError
from isthmus.contracts.schema import Column
from isthmus.contracts.sums import FEATURE_MAX, Moments
from isthmus.foundry.possible import Declared, broken_rules, joined, repeats, same_records
from isthmus.kit.units import CONVERSIONS, Conversion

FALSE_ALARM = 0.05
ALLOWANCE = 0.5
PENALTY = 0.1
"""Of the heads that owners are held against, per unit of weight on standardised features."""
GROUP_LIKENESS = 0.05
"""Correlation within a group that the design effect assumes: 1 + (records a group - 1) times this."""
USUAL_MIN = 0.15
"""Where the others' own correlations are lower, their rule says too little to hold anybody against."""
NOTHING_SAID = 0.01
ALIGNED_MIN = 0.5
ALIKE_CHANCE = 1e-6
HARM_MIN = 0.002
UNIT_OFF_MIN, UNIT_BETWEEN_MAX, UNIT_LEFT_MAX, UNIT_NEAR = 0.2, 3.0, 0.35, 0.1
"""An owner's column is off when its mean and standard deviation together differ from the others' by so much of half the declared range, and
by so many times what the others differ among themselves; a conversion explains it when it leaves no more than this share, or this much."""
UNIT_CHANCE = 0.01
"""Measured, by bench/poison.py: a share of honest owners that is not larger is said to have another unit."""
WEIGHT_MIN = 20
Kind = Literal["impossible", "repeated", "copied", "units", "turned", "shuffled", "noisy", "contrary"]
CERTAIN: tuple[Kind, ...] = ("impossible", "repeated", "copied")
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Suspicion:
    """One owner, one reason. chance: of accusing an honest owner so; 0 where it is arithmetic. out: whether it is to be left out. others:
    who has the same records. says: a sentence for the owner."""

    party: str
    kind: Kind
    says: str
    chance: float
    out: bool
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class NumberFeature:
    """Where a number's column stands among the features. missing: place of the flag that it is missing, or -1."""

    column: Column
    place: int
    missing: int = -1


@dataclass(frozen=True)
class Screening:
    """agreement: party -> r. influence: party -> fall of the others' mean loss without it, positive where they are better off. distance:
    party -> root mean square distance of its features' means from the others', in standard deviations; being far accuses nobody. blind:
    what could not be looked for, in sentences."""

    suspicions: tuple[Suspicion, ...]
    agreement: dict[str, float] = field(default_factory=dict)
    influence: dict[str, float] = field(default_factory=dict)
    distance: dict[str, float] = field(default_factory=dict)
    blind: tuple[str, ...] = ()

    @property
    def out(self) -> tuple[str, ...]:
        """Who is left out, in order of name."""
        return tuple(sorted({s.party for s in self.suspicions if s.out}))


def screened(
    sums: Mapping[str, Moments],
    declared: Mapping[str, Declared],
    numbers: Sequence[NumberFeature] = (),
    order: Sequence[str] = (),
    false_alarm: float = FALSE_ALARM,
) -> Screening:
    """Holds every owner against the others. order: who agreed first; of two with the same records the later one is left out. Raises
    InputError when there is no owner, or dimensions differ."""
    if not sums or len({m.dimension for m in sums.values()}) > 1:
        raise InputError("there are no sums, or of unlike features", "give sums of one stage")
    found = _certain(sums, declared, order or sorted(sums))
    out = {s.party for s in found if s.out}
    rest = {party: m for party, m in sums.items() if party not in out and _fit_to_compare(m)}
    blind = []
    if len(rest) >= 3:
        units = _units(rest, numbers)
        found += units
        rest = {party: m for party, m in rest.items() if party not in {s.party for s in units}}
    if len(rest) < 3:
        blind.append("fewer than three owners are left to hold against each other, so labels were not compared")
        return Screening(tuple(found), distance=distances(sums), blind=tuple(blind))
    harm = influences(rest)
    labels, agreement = _labels(rest, harm, false_alarm / len(rest))
    return Screening((*found, *labels), agreement, harm, distances(sums), tuple(blind))


def _certain(sums: Mapping[str, Moments], declared: Mapping[str, Declared], order: Sequence[str]) -> list[Suspicion]:
    found = []
    for party, moments in sums.items():
        rules = broken_rules(moments, declared[party])
        if rules:
            found.append(Suspicion(party, "impossible", f"no records have these sums: {'; '.join(rules)}", 0.0, True))
            continue
        times = repeats(moments, declared[party])
        if times > 1:
            says = f"every record is counted {times} times"
            found.append(Suspicion(party, "repeated", says, 0.5 ** sums[party].dimension, True))
    broken = {s.party for s in found if s.kind == "impossible"}
    parties = [party for party in order if party in sums and party not in broken]
    for place, later in enumerate(parties):
        same = [first for first in parties[:place] if same_records(sums[first], sums[later])]
        if same:
            found.append(Suspicion(later, "copied", f"holds the same records as {', '.join(same)}", 0.0, True, tuple(same)))
            continue
        near = [first for first in parties[:place] if _too_alike(sums[first], sums[later])]
        if near:
            says = f"its sums are so much like those of {', '.join(near)} that they share most records"
            found.append(Suspicion(later, "copied", says, ALIKE_CHANCE, True, tuple(near)))
    return found


def _fit_to_compare(moments: Moments) -> bool:
    return moments.sum_w >= WEIGHT_MIN and abs(moments.sum_wy) < moments.sum_w


def independent(moments: Moments) -> float:
    """Records less the design effect of groups."""
    return moments.records / (1.0 + (moments.records / max(1, moments.groups) - 1.0) * GROUP_LIKENESS)


def _too_alike(one: Moments, other: Moments) -> bool:
    """Whether the means of features and of labels times features differ by less than two samples of one source would.

    Hotelling's statistic of the difference, in the directions that vary; far below its degrees of freedom only where records are shared.
    Owners that differ in truth lie above it, so that it accuses none of them.
    """
    a, b = joined(one), joined(other)
    middle = (a + b) / 2.0
    covariance = middle[2:, 2:] - np.outer(middle[0, 2:], middle[0, 2:])
    values, vectors = np.linalg.eigh(covariance)
    kept = values > 1e-6 * max(float(values[-1]), 1e-12)
    root = vectors[:, kept] / np.sqrt(values[kept])
    size = 1.0 / (1.0 / independent(one) + 1.0 / independent(other))
    plain = (a[0, 2:] - b[0, 2:]) @ root
    crossed = (a[1, 2:] - a[0, 1] * a[0, 2:] - b[1, 2:] + b[0, 1] * b[0, 2:]) @ root
    statistic = float(size * (plain @ plain))
    label_spread = max(1e-9, 1.0 - middle[0, 1] ** 2)
    statistic += float(size * (crossed @ crossed) / label_spread)
    freedom = 2 * int(kept.sum())
    return freedom >= 8 and float(stats.chi2.cdf(statistic, freedom)) < ALIKE_CHANCE


def _mean(parts: Sequence[Moments]) -> Floats:
    """Second moments of (1, y, q), every owner with the same say."""
    return np.asarray(np.mean([joined(part) for part in parts], axis=0))


def _head(matrix: Floats) -> tuple[float, Floats]:
    """(bias, coefficients) of the ridge head of such moments."""
    mean, target = matrix[0, 2:], matrix[0, 1]
    covariance = matrix[2:, 2:] - np.outer(mean, mean)
    scale = np.maximum(np.sqrt(np.maximum(np.diag(covariance), 0.0)), 1.0)
    normal = covariance / np.outer(scale, scale) + PENALTY * np.eye(len(mean))
    slopes = np.linalg.solve(normal, (matrix[1, 2:] - target * mean) / scale) / scale
    return float(target - slopes @ mean), np.asarray(slopes)


def _correlation(matrix: Floats, slopes: Floats) -> float:
    """Of a head's score with the labels of these moments; 0 where either does not vary."""
    mean, target = matrix[0, 2:], matrix[0, 1]
    spread = float(slopes @ (matrix[2:, 2:] - np.outer(mean, mean)) @ slopes)
    labels = float(matrix[1, 1] - target**2)
    if spread <= 1e-12 or labels <= 1e-12:
        return 0.0
    return float(np.clip(slopes @ (matrix[1, 2:] - target * mean) / np.sqrt(spread * labels), -0.999, 0.999))


def _loss(matrix: Floats, head: tuple[float, Floats]) -> float:
    """Mean squared error of a head on these moments."""
    bias, slopes = head
    cross = bias * matrix[0, 1] + slopes @ matrix[1, 2:]
    square = bias**2 + 2 * bias * (slopes @ matrix[0, 2:]) + slopes @ matrix[2:, 2:] @ slopes
    return float(matrix[1, 1] - 2 * cross + square)


def influences(sums: Mapping[str, Moments]) -> dict[str, float]:
    """party -> by how much the mean loss on the other owners falls without it; who judges was left out of the head."""
    parties, found = sorted(sums), {}
    for party in parties:
        changes = []
        for judge in parties:
            if judge == party:
                continue
            without = [sums[p] for p in parties if p not in (judge, party)]
            matrix = joined(sums[judge])
            changes.append(_loss(matrix, _head(_mean([*without, sums[party]]))) - _loss(matrix, _head(_mean(without))))
        found[party] = float(np.mean(changes))
    return found


def distances(sums: Mapping[str, Moments]) -> dict[str, float]:
    """party -> how far the means of its features lie from the others', root mean square, in the others' standard deviations."""
    found = {}
    for party, own in sums.items():
        others = [m for name, m in sums.items() if name != party and m.sum_w > 0]
        if not others or own.sum_w <= 0:
            continue
        matrix = _mean(others)
        mean = matrix[0, 2:]
        spread = np.sqrt(np.maximum(np.diag(matrix[2:, 2:]) - mean**2, 1.0))
        found[party] = float(np.sqrt(np.mean(((own.sum_wx / own.sum_w - mean) / spread) ** 2)))
    return found


def _labels(sums: Mapping[str, Moments], harm: Mapping[str, float], chance: float) -> tuple[list[Suspicion], dict[str, float]]:
    """The worst owner is set aside and the rest compared anew, until nobody stands out or three are left."""
    rest = dict(sums)
    found: list[Suspicion] = []
    met: dict[str, float] = {}
    first = True
    while len(rest) >= 3:
        agreement = {party: _agreement(party, rest) for party in rest}
        met |= agreement if first else {}
        first = False
        margins = {party: _margin(party, rest, agreement, chance) for party in rest}
        worst = max(margins, key=lambda party: margins[party])
        if margins[worst] <= 0:
            break
        found.append(_named(worst, rest, agreement, harm, chance))
        del rest[worst]
    return found, met


def _agreement(party: str, sums: Mapping[str, Moments]) -> float:
    others = [m for name, m in sums.items() if name != party]
    return _correlation(joined(sums[party]), _head(_mean(others))[1])


def _margin(party: str, sums: Mapping[str, Moments], agreement: Mapping[str, float], chance: float) -> float:
    """Above nought where an owner is accused. What the others have among themselves is found without it, where three are left."""
    names = [name for name in sums if name != party]
    if len(names) >= 3:
        usual = float(np.median([_agreement(name, {n: sums[n] for n in names}) for name in names]))
    else:
        usual = float(np.min([_correlation(joined(sums[a]), _head(joined(sums[b]))[1]) for a in names for b in names if a != b]))
    if usual < USUAL_MIN:
        return -np.inf
    size = max(1.0, independent(sums[party]) - 3.0)
    return float((np.arctanh(ALLOWANCE * usual) - np.arctanh(agreement[party])) * np.sqrt(size) - stats.norm.isf(chance))


def _named(party: str, sums: Mapping[str, Moments], agreement: Mapping[str, float], harm: Mapping[str, float], chance: float) -> Suspicion:
    """How an owner that stands out does so."""
    own, r = sums[party], agreement[party]
    size = max(4.0, independent(own))
    others = _head(_mean([m for name, m in sums.items() if name != party]))[1]
    told = f"(correlation {r:.2f} with the rule of the others)"
    if np.arctanh(r) * np.sqrt(size - 3.0) < -stats.norm.isf(chance):
        return Suspicion(party, "turned", f"its labels say the opposite of what the others' say {told}", chance, True)
    if explained_chance(own) > NOTHING_SAID:
        return Suspicion(party, "shuffled", f"its labels have nothing to do with its own features {told}", chance, True)
    mine = _head(joined(own))[1]
    spread = joined(own)[2:, 2:] - np.outer(joined(own)[0, 2:], joined(own)[0, 2:])
    size_mine, size_others = float(mine @ spread @ mine), float(others @ spread @ others)
    aligned = float(mine @ spread @ others) / max(1e-12, np.sqrt(size_mine * size_others))
    harmful = harm[party] > HARM_MIN
    if aligned >= ALIGNED_MIN:
        return Suspicion(party, "noisy", f"its labels follow the others' rule, but far more weakly {told}", chance, harmful)
    return Suspicion(party, "contrary", f"its labels follow another rule than the others' {told}", chance, harmful)


def explained_chance(own: Moments) -> float:
    """Chance of explaining so much of the labels by the features if they had nothing to do with each other (F test), 1 where there are too
    few records."""
    matrix = joined(own)
    mean = matrix[0, 2:]
    covariance = matrix[2:, 2:] - np.outer(mean, mean)
    values, vectors = np.linalg.eigh(covariance)
    kept = values > 1e-6 * max(float(values[-1]), 1e-12)
    target = (matrix[1, 2:] - matrix[0, 1] * mean) @ vectors[:, kept]
    share = float((target**2 / values[kept]).sum() / max(1e-12, matrix[1, 1] - matrix[0, 1] ** 2))
    freedom, left = int(kept.sum()), independent(own) - 1.0 - int(kept.sum())
    if left < 2 or share >= 1.0:
        return 1.0 if left < 2 else 0.0
    return float(stats.f.sf((share / freedom) / ((1.0 - share) / left), freedom, left))


def _units(sums: Mapping[str, Moments], numbers: Sequence[NumberFeature]) -> list[Suspicion]:
    found = []
    for party, own in sums.items():
        wrong = []
        for number in numbers:
            others = [_column(m, number) for name, m in sums.items() if name != party]
            conversion = _conversion(_column(own, number), [o for o in others if o is not None], number.column)
            if conversion is not None:
                wrong.append(f"{number.column.name} ({conversion.name})")
        if wrong:
            says = f"columns look as if they were in another unit: {', '.join(wrong)}"
            found.append(Suspicion(party, "units", says, UNIT_CHANCE, True))
    return found


def _column(own: Moments, number: NumberFeature) -> tuple[float, float] | None:
    """(mean, standard deviation) of a column on its declared range, -1 to 1, where it is known; None where hardly ever."""
    weight = own.sum_w - (own.sum_wx[number.missing] / FEATURE_MAX if number.missing >= 0 else 0.0)
    if weight < WEIGHT_MIN:
        return None
    mean = float(own.sum_wx[number.place]) / weight / FEATURE_MAX
    square = float(own.gram[number.place, number.place]) / weight / FEATURE_MAX**2
    return mean, float(np.sqrt(max(0.0, square - mean**2)))


def _conversion(own: tuple[float, float] | None, others: list[tuple[float, float]], column: Column) -> Conversion | None:
    if own is None or len(others) < 2:
        return None
    mean, spread = float(np.median([m for m, _ in others])), max(0.02, float(np.median([s for _, s in others])))
    off = abs(own[0] - mean) + abs(own[1] - spread)
    between = max(abs(m - mean) + abs(s - spread) for m, s in others)
    if off < UNIT_OFF_MIN or off < UNIT_BETWEEN_MAX * between:
        return None
    best: tuple[float, Conversion] | None = None
    meant = _values(mean + spread * stats.norm.ppf((np.arange(400) + 0.5) / 400), column)
    for conversion in CONVERSIONS:
        written = _placed(conversion.undone(meant), column)
        left = abs(float(written.mean()) - own[0]) + abs(float(written.std()) - own[1])
        if best is None or left < best[0]:
            best = (left, conversion)
    assert best is not None
    return best[1] if best[0] <= max(UNIT_NEAR, UNIT_LEFT_MAX * off) else None


def _ends(column: Column) -> tuple[float, float]:
    return (float(np.log(column.low)), float(np.log(column.high))) if column.log else (column.low, column.high)


def _values(place: Floats, column: Column) -> Floats:
    """Places on the declared range -> values in the column's unit."""
    low, high = _ends(column)
    scaled = low + (np.clip(place, -1, 1) + 1) / 2 * (high - low)
    return np.asarray(np.exp(scaled) if column.log else scaled)


def _placed(values: Floats, column: Column) -> Floats:
    """Values -> places on the declared range, those beyond it at its ends."""
    inside = np.clip(values, column.low, column.high)
    low, high = _ends(column)
    return np.asarray(2 * ((np.log(inside) if column.log else inside) - low) / (high - low) - 1)


def number_features(names: Sequence[str], columns: Sequence[Column]) -> tuple[NumberFeature, ...]:
    """Where numbers stand among a table's features, whose names are those of foundry.tablefeatures."""
    places = {name: place for place, name in enumerate(names)}
    return tuple(
        NumberFeature(column, places[column.name], places.get(f"{column.name} is missing", -1))
        for column in columns
        if column.kind == "number" and column.name in places
    )


def flag_places(names: Sequence[str]) -> tuple[int, ...]:
    """Features of a table that are there or not."""
    return tuple(place for place, name in enumerate(names) if " is " in name)


def told(screening: Screening) -> dict[str, Any]:
    """The screening as plain data, for a run's result."""
    return {
        "suspicions": [
            {"party": s.party, "kind": s.kind, "says": s.says, "chance": s.chance, "out": s.out, "others": list(s.others)}
            for s in screening.suspicions
        ],
        "agreement": screening.agreement,
        "influence": screening.influence,
        "distance": screening.distance,
        "blind": list(screening.blind),
    }
