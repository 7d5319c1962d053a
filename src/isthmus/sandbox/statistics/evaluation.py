"""evaluate/1: unweighted counts of verdicts on labelled records."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.head import Link
from isthmus.contracts.sums import EVALUATION_BINS, EVALUATION_COUNTS, Evaluation, GroupSums
from isthmus.kit.hatmatrix import Floats
from isthmus.kit.logits import scores_of
from isthmus.sandbox.statistics.foldout import score_histogram, verdicts
from isthmus.sandbox.statistics.records import GroupTally, Records


class EvaluationTally:
    """Verdicts by one pair of thresholds, counted over chunks. ranked: with a histogram of scores, for a ROC curve. contiguous: whether
    each group's records stand together."""

    def __init__(self, lo: float, hi: float, ranked: bool, contiguous: bool = False) -> None:
        self._lo, self._hi, self._ranked = lo, hi, ranked
        self._counts = dict.fromkeys(EVALUATION_COUNTS, 0)
        self._groups = GroupTally(3, contiguous)
        self._histogram = np.zeros((2, EVALUATION_BINS), dtype=np.int64)

    def add(self, records: Records, scores: Floats, chosen: NDArray[np.bool_]) -> None:
        """The records in `chosen` ((n,) mask) of a chunk."""
        y, score = records.y[chosen], scores[chosen]
        found = verdicts(score, self._lo, self._hi)
        answered, defect = found != 0, y > 0
        wrong = answered & (found != y)
        counts = {
            "records": y.size,
            "defects": defect.sum(),
            "answered": answered.sum(),
            "errors": wrong.sum(),
            "answered_defects": (answered & defect).sum(),
            "missed_defects": (wrong & defect).sum(),
            "answered_good": (answered & ~defect).sum(),
            "false_alarms": (wrong & ~defect).sum(),
        }
        for name, count in counts.items():
            self._counts[name] += int(count)
        self._groups.add(np.stack([np.ones_like(answered), answered, wrong], axis=1).astype(np.int64), records.groups[chosen])
        if self._ranked:
            self._histogram += score_histogram(score, y, EVALUATION_BINS)

    def evaluation(self) -> Evaluation:
        """All that was added."""
        done = self._groups.finish()
        _, a, e = done.totals.tolist()
        clusters = GroupSums(int(done.present[1]), a, e, int(done.products[1, 1]), int(done.products[2, 2]), int(done.products[1, 2]))
        return Evaluation({**self._counts, "groups": done.groups}, clusters, self._histogram)


def evaluation(records: Records, scores: Floats, lo: float, hi: float, chosen: NDArray[np.bool_], ranked: bool = True) -> Evaluation:
    """Counts over the records in `chosen` ((n,) mask), all at once."""
    tally = EvaluationTally(lo, hi, ranked)
    tally.add(records, scores, chosen)
    return tally.evaluation()


def linear_scores(q: NDArray[np.int16], coefficients: Floats, bias: float, link: Link = "linear") -> Floats:
    """bias + q . coefficients behind a head's link, rounded to float32 as an artefact publishes it: (n,)."""
    found = q.astype(np.float64) @ coefficients + bias
    return (scores_of(found) if link == "logistic" else found).astype(np.float32).astype(np.float64)
