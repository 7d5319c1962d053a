"""What NVIDIA FLARE runs at each owner; its Client API, after its examples `hello-numpy`, `sklearn-linear` and the Newton-Raphson tutorial.

Runs in FLARE's own environment. --kind: tutorial (Newton's method as the tutorial has it), newton (the same, with the penalty, and slopes
and curvatures as means, which FLARE weights by records), fedavg (scikit-learn's SGD), sums (count, sums and products of one round).
"""

import argparse
import time

import numpy as np
import nvflare.client as flare
from nvflare.apis.fl_constant import FLMetaKey
from nvflare.app_common.abstract.fl_model import FLModel, ParamsType
from nvflare.app_common.np.constants import NPConstants

EDGE = 30.0


def newton(x, y, theta, lam, as_tutorial):
    rows = np.concatenate((np.ones((x.shape[0], 1)), x), axis=1)
    chance = 1.0 / (1.0 + np.exp(-np.clip(np.dot(rows, theta), -EDGE, EDGE)))
    gradient = np.dot(rows.T, y - chance)
    hessian = np.dot(rows.T, rows * (chance * (1 - chance)))
    if as_tutorial:
        return {"gradient": gradient, "hessian": hessian}
    penalty = np.full((rows.shape[1], 1), lam)
    penalty[0] = 0.0
    return {"gradient": gradient / len(x) - penalty * theta, "hessian": hessian / len(x) + np.diag(penalty[:, 0])}


def averaged(x, y, params, lam, state):
    """One pass of SGD from the global model, as the example sklearn-linear does it."""
    from sklearn.linear_model import SGDClassifier

    if "model" not in state:
        state["model"] = SGDClassifier(
            loss="log_loss", penalty="l2", alpha=lam, learning_rate="constant", eta0=1e-2, max_iter=1, warm_start=True, random_state=0
        )
        state["model"].classes_ = np.array([0, 1])
        state["model"].coef_ = np.zeros((1, x.shape[1]))
        state["model"].intercept_ = np.zeros((1,))
    if "coef" in params:
        state["model"].coef_, state["model"].intercept_ = params["coef"], params["intercept"]
    state["model"].fit(x, y[:, 0])
    return {"coef": state["model"].coef_, "intercept": state["model"].intercept_}


def sums(x, y):
    rows = np.concatenate((np.ones((x.shape[0], 1)), x, y), axis=1)
    return {NPConstants.NUMPY_KEY: rows.T.dot(rows)[np.triu_indices(rows.shape[1])]}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kind")
    parser.add_argument("--data")
    parser.add_argument("--lam", type=float, default=0.0)
    given = parser.parse_args()
    flare.init()
    site = flare.get_site_name()
    part = np.load(f"{given.data}/{site}.npz")
    x, y, state = part["z"], part["y"][:, None], {}
    while flare.is_running():
        model = flare.receive()
        if model is None:
            break
        at_s = time.time()
        if given.kind in ("tutorial", "newton"):
            params = newton(x, y, model.params[NPConstants.NUMPY_KEY], given.lam, given.kind == "tutorial")
        elif given.kind == "fedavg":
            params = averaged(x, y, model.params, given.lam, state)
        else:
            params = sums(x, y)
        answer = FLModel(params=params, params_type=ParamsType.FULL)
        answer.meta[FLMetaKey.NUM_STEPS_CURRENT_ROUND] = 1 if given.kind == "sums" else len(x)
        flare.send(answer)
        with open(f"{given.data}/times-{site}.txt", "a", encoding="utf-8") as file:
            file.write(f"{at_s} {time.time()}\n")


if __name__ == "__main__":
    main()
