"""Whether the fleet's calibration may be trusted at a site: are the site's scores such as the fleet's were?

Null hypothesis, for each class by itself: the site's scores under the fleet's own head and the fleet's fold-out scores are exchangeable.
Statistic: the two-sample statistic of Anderson and Darling over bins (Pettitt, Biometrika 63, 1976; ties as in Scholz and Stephens,
JASA 82, 1987). Its null distribution is drawn, not approximated: under the null every choice of the site's records out of the joint ones
is as likely, so counts are drawn without replacement, and p = (1 + draws at least as large) / (1 + draws), which never understates
(Phipson and Smyth, 2010). Holm's procedure over the classes keeps the level of the whole.

A test that does not reject proves no sameness: `detectable_sd` says how large a difference would mostly have been seen. And a fleet's
records come in groups; a site that is one more group of the same kind may be told apart, rightly: single records are what is promised.
The conformal view: each site record's p-value among the fleet's of its class (Vovk, Gammerman and Shafer, 2005), counted where small.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from isthmus.contracts.errors import InputError
from isthmus.contracts.sums import Ints

CLASSES = ("good", "defect")
RECORDS_MIN = 5
LEVEL = 0.05
DRAWS = 1999
SEED = 59
STRANGE = 0.1
POWER = 0.8
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ClassTest:
    """One class. site, fleet: records. statistic, p: None where there are too few records to test. detectable_sd: a shift of the mean, in
    standard deviations, that is seen with probability POWER. strange: site records whose conformal p-value is at most STRANGE;
    strange_expected: how many there would be."""

    name: str
    site: int
    fleet: int
    statistic: float | None
    p: float | None
    detectable_sd: float | None
    strange: int
    strange_expected: float


@dataclass(frozen=True, kw_only=True)
class Exchangeability:
    """trusted: both classes were tested and neither was told apart. p: Holm's, of the most unlike class. sentence: all of it in words."""

    classes: tuple[ClassTest, ...]
    statistic: float | None
    p: float | None
    level: float
    trusted: bool
    sentence: str


def statistic(site: NDArray[np.int64], pooled: Ints) -> Floats:
    """Anderson-Darling over bins, (draws,). site: (draws, bins) counts of the smaller sample; pooled: (bins,) of both samples.

    A squared distance of the two shares below each edge, over its variance, weighted by the bin's records; half of a bin's own records
    count as below it.
    """
    total, size = float(pooled.sum()), site.sum(axis=1, keepdims=True).astype(np.float64)
    below = np.cumsum(site, axis=1) - 0.5 * site
    share = (np.cumsum(pooled) - 0.5 * pooled) / total
    spread = share * (1.0 - share)
    used = (pooled > 0) & (spread > 0)
    distance = (below[:, used] / size - share[used]) ** 2 / spread[used]
    return np.asarray(size[:, 0] * (distance @ (pooled[used] / total)), dtype=np.float64)


def _conformal(site: Ints, fleet: Ints, worse_above: bool) -> Floats:
    """(bins,) conformal p-value of a site record in each bin: the share of the fleet's that are as strange or stranger."""
    beyond = np.cumsum(fleet[::-1])[::-1] if worse_above else np.cumsum(fleet)
    return np.asarray((1.0 + beyond) / (1.0 + fleet.sum()), dtype=np.float64)


def _tested(name: str, fleet: Ints, site: Ints, draws: int, rng: np.random.Generator) -> ClassTest:
    n, m = int(site.sum()), int(fleet.sum())
    p_of = _conformal(site, fleet, worse_above=name == "good")
    strange = int(site[p_of <= STRANGE].sum())
    found: Floats | None = None
    p = value = detectable = None
    if min(n, m) >= RECORDS_MIN:
        pooled = fleet + site
        value = float(statistic(site[None, :], pooled)[0])
        found = statistic(rng.multivariate_hypergeometric(pooled, n, size=draws), pooled)
        p = (1.0 + int((found >= value * (1.0 - 1e-12)).sum())) / (1.0 + draws)
        detectable = float((-ndtri(LEVEL / 4.0) + ndtri(POWER)) * np.sqrt(1.0 / n + 1.0 / m))
    return ClassTest(
        name=name,
        site=n,
        fleet=m,
        statistic=value,
        p=p,
        detectable_sd=detectable,
        strange=strange,
        strange_expected=round(n * STRANGE, 1),
    )


def exchangeability(fleet: Ints, site: Ints, level: float = LEVEL, draws: int = DRAWS, seed: int = SEED) -> Exchangeability:
    """fleet, site: (2, bins) scores by class under one head that saw neither. The same counts and seed give the same answer.

    Raises InputError when the histograms do not belong together, or no level can be kept.
    """
    fleet, site = np.asarray(fleet, dtype=np.int64), np.asarray(site, dtype=np.int64)
    if fleet.shape != site.shape or fleet.ndim != 2 or fleet.shape[0] != len(CLASSES) or min(int(fleet.min()), int(site.min())) < 0:
        raise InputError("the score histograms of fleet and site do not belong together", "ask for the sums again")
    if not 0.0 < level < 1.0 or draws < 1:
        raise InputError(f"a test at the level {level} with {draws} draws cannot be made", "use 0.05 and 1999")
    rng = np.random.default_rng(seed)
    classes = tuple(_tested(name, fleet[place], site[place], draws, rng) for place, name in enumerate(CLASSES))
    known = [test for test in classes if test.p is not None and test.statistic is not None]
    holm, running = {}, 0.0
    for place, test in enumerate(sorted(known, key=lambda one: one.p or 0.0)):
        running = max(running, min(1.0, (len(known) - place) * (test.p or 0.0)))
        holm[test.name] = running
    least = min(known, key=lambda one: one.p or 0.0) if known else None
    p = None if least is None else holm[least.name]
    trusted = len(known) == len(classes) and p is not None and p > level
    return Exchangeability(
        classes=classes,
        statistic=None if least is None else least.statistic,
        p=p,
        level=level,
        trusted=trusted,
        sentence=_sentence(classes, least, p, level, trusted),
    )


def _sentence(classes: tuple[ClassTest, ...], least: ClassTest | None, p: float | None, level: float, trusted: bool) -> str:
    few = [f"{test.site} {test.name}" for test in classes if test.p is None]
    if p is not None and p <= level and least is not None:
        return (
            f"the fleet's calibration is not trusted here: scores of {least.name} ones differ from the fleet's (p = {p:.3g}, level"
            f" {level:g}; {least.strange} of {least.site} lie where a tenth of the fleet's do); thresholds rest on the site's labels alone"
        )
    if few:
        return (
            f"the fleet's calibration could not be tested here, with {' and '.join(few)} among the labels ({RECORDS_MIN} of each are"
            " needed), and is not trusted; thresholds rest on the site's labels alone"
        )
    seen = max(test.detectable_sd or 0.0 for test in classes)
    p_text = "" if p is None else f" (p = {p:.2g}, level {level:g})"
    return (
        f"the site's scores were not told apart from the fleet's{p_text}; with so few labels a shift below about {seen:.1f} standard"
        " deviations would mostly go unseen; thresholds rest on the fleet's scores and the site's"
        if trusted
        else "the fleet's calibration is not trusted here; thresholds rest on the site's labels alone"
    )
