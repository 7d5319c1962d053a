"""The score of a logarithm of odds as graph operators: those of `kit.logits.scores_of`, in the same order, in doubles.

Each is one elementwise sum, product or quotient, so the runtime gives the bits that a node's own arithmetic gives.
"""

from __future__ import annotations

import numpy as np

from isthmus.contracts.sums import SCORE_LIMIT
from isthmus.foundry.backbone import GraphWriter
from isthmus.kit.logits import HALVINGS, LOGIT_MAX, LOGIT_STEP, TAYLOR


def add_logistic_score(graph: GraphWriter, logits: str) -> str:
    """Adds 4 p - 2 behind (n,) doubles; returns the name of the (n,) doubles."""
    values = {
        "least": -LOGIT_MAX,
        "most": LOGIT_MAX,
        "steps": 1.0 / LOGIT_STEP,
        "step": LOGIT_STEP,
        "small": -(2.0**-HALVINGS),
        "one": 1.0,
        "limit": SCORE_LIMIT,
    }
    for name, value in values.items():
        graph.constant(f"logit_{name}", np.array(value, np.float64))
    for place, term in enumerate(TAYLOR):
        graph.constant(f"taylor_{place}", np.array(term, np.float64))
    cut = graph.node("Clip", [logits, "logit_least", "logit_most"], "logit_cut")
    counted = graph.node("Round", [graph.node("Mul", [cut, "logit_steps"], "logit_in_steps")], "logit_rounded")
    stepped = graph.node("Mul", [counted, "logit_step"], "logit_stepped")
    small = graph.node("Mul", [graph.node("Abs", [stepped], "logit_size"), "logit_small"], "logit_part")
    power = graph.node("Add", [graph.node("Mul", [small, "taylor_0"], "power_0_times"), "taylor_1"], "power_1")
    for place in range(2, len(TAYLOR)):
        power = graph.node("Add", [graph.node("Mul", [power, small], f"power_{place}_times"), f"taylor_{place}"], f"power_{place}")
    for place in range(HALVINGS):
        power = graph.node("Mul", [power, power], f"power_squared_{place}")
    above, below = (graph.node(kind, ["logit_one", power], f"odds_{kind.lower()}") for kind in ("Sub", "Add"))
    ratio = graph.node("Div", [above, below], "odds_ratio")
    signed = graph.node("Mul", [graph.node("Sign", [stepped], "logit_sign"), ratio], "odds_signed")
    return graph.node("Mul", [signed, "logit_limit"], "score_of_odds")
