"""evaluate/1: unweighted counts of verdicts on labelled records."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.head import Link
from isthmus.contracts.sums import EVALUATION_BINS, EVALUATION_COUNTS, Evaluation
from isthmus.kit.hatmatrix import Floats
from isthmus.kit.logits import scores_of
from isthmus.sandbox.statistics.foldout import group_sums, score_histogram, verdicts
from isthmus.sandbox.statistics.records import Records


def evaluation(records: Records, scores: Floats, lo: float, hi: float, chosen: NDArray[np.bool_], ranked: bool = True) -> Evaluation:
    """Counts over the records in `chosen` ((n,) mask). ranked: with a histogram of scores, for a ROC curve."""
    y, groups, score = records.y[chosen], records.groups[chosen], scores[chosen]
    found = verdicts(score, lo, hi)
    answered = found != 0
    wrong = answered & (found != y)
    defect = y > 0
    values = (
        y.size,
        np.unique(groups).size,
        defect.sum(),
        answered.sum(),
        wrong.sum(),
        (answered & defect).sum(),
        (wrong & defect).sum(),
        (answered & ~defect).sum(),
        (wrong & ~defect).sum(),
    )
    counts = {name: int(value) for name, value in zip(EVALUATION_COUNTS, values, strict=True)}
    histogram = score_histogram(score, y, EVALUATION_BINS) if ranked else np.zeros((2, EVALUATION_BINS), dtype=np.int64)
    return Evaluation(counts, group_sums(answered, wrong, groups), histogram)


def linear_scores(q: NDArray[np.int16], coefficients: Floats, bias: float, link: Link = "linear") -> Floats:
    """bias + q . coefficients behind a head's link, rounded to float32 as an artefact publishes it: (n,)."""
    found = q.astype(np.float64) @ coefficients + bias
    return (scores_of(found) if link == "logistic" else found).astype(np.float32).astype(np.float64)
