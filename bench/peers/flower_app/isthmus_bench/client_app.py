"""What Flower runs at each owner; after its examples quickstart-sklearn and federated-analytics."""

import time
import warnings

import numpy as np
from flwr.app import ArrayRecord, MetricRecord, RecordDict
from flwr.app import Message as Reply
from flwr.clientapp import ClientApp

app = ClientApp()
EDGE = 30.0


def rows_of(context):
    part = np.load(f"{context.run_config['data']}/site-{int(context.node_config['partition-id']) + 1}.npz")
    return part["z"], part["y"]


def answered(context, message, arrays, began_s, count):
    with open(f"{context.run_config['data']}/times-site-{int(context.node_config['partition-id']) + 1}.txt", "a", encoding="utf-8") as file:
        file.write(f"{began_s} {time.time()}\n")
    content = RecordDict({"arrays": ArrayRecord(arrays), "metrics": MetricRecord({"num-examples": count})})
    return Reply(content=content, reply_to=message)


def newton(z, y, theta, lam):
    rows = np.column_stack([np.ones(len(z)), z])
    chance = 1.0 / (1.0 + np.exp(-np.clip(rows @ theta, -EDGE, EDGE)))
    return [rows.T @ (y - chance), rows.T @ (rows * (chance * (1 - chance))[:, None])]


def averaged(z, y, arrays, lam):
    """One pass from the global model, as the quickstart does it."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=1.0 / (lam * len(z)), max_iter=1, warm_start=True, solver="saga")
    model.classes_ = np.array([0, 1])
    model.coef_, model.intercept_ = arrays[0], arrays[1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(z, y)
    return [model.coef_, model.intercept_]


@app.train()
def train(msg, context):
    began_s, (z, y) = time.time(), rows_of(context)
    arrays = msg.content["arrays"].to_numpy_ndarrays()
    lam = float(context.run_config["lam"])
    found = newton(z, y, arrays[0], lam) if context.run_config["kind"] == "newton" else averaged(z, y, arrays, lam)
    return answered(context, msg, found, began_s, len(z))


@app.evaluate()
def evaluate(msg, context):
    z, y = rows_of(context)
    coef, intercept = msg.content["arrays"].to_numpy_ndarrays()
    right = float(np.mean((z @ coef[0] + intercept[0] > 0) == (y > 0)))
    return Reply(content=RecordDict({"metrics": MetricRecord({"num-examples": len(z), "accuracy": right})}), reply_to=msg)


@app.query()
def query(msg, context):
    began_s, (z, y) = time.time(), rows_of(context)
    rows = np.column_stack([np.ones(len(z)), z, y])
    return answered(context, msg, [(rows.T @ rows)[np.triu_indices(rows.shape[1])]], began_s, len(z))
