"""What Flower's server runs: FedAvg as the quickstart does it; Newton's method and sums by messages of its own.

quick: replies are looked for every 0.05 s through the Grid's own push_messages and pull_messages, where send_and_receive looks every 3 s.
"""

import json
import time

import numpy as np
from flwr.app import ArrayRecord, Message, MessageType, RecordDict
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg

app = ServerApp()
QUICK_S = 0.05


def asked(grid, messages, quick):
    if not quick:
        return list(grid.send_and_receive(messages))
    waiting, found = set(grid.push_messages(messages)), []
    while waiting:
        replies = list(grid.pull_messages(list(waiting)))
        waiting -= {reply.metadata.reply_to_message_id for reply in replies}
        found += replies
        if waiting:
            time.sleep(QUICK_S)
    return found


def added(replies):
    parts = [reply.content["arrays"].to_numpy_ndarrays() for reply in replies]
    return [np.sum(arrays, axis=0) for arrays in zip(*parts, strict=True)]


@app.main()
def main(grid, context):
    config = context.run_config
    owners, size, quick = int(config["owners"]), int(config["features"]), bool(config["quick"])
    began = time.time()
    while len(ids := list(grid.get_node_ids())) < owners:
        time.sleep(0.05)
    if config["kind"] == "fedavg":
        start = ArrayRecord([np.zeros((1, size)), np.zeros(1)])
        ended = FedAvg(fraction_train=1.0, fraction_evaluate=1.0, min_available_nodes=owners).start(
            grid=grid, initial_arrays=start, num_rounds=int(config["rounds"])
        )
        coef, intercept = ended.arrays.to_numpy_ndarrays()
        found = [float(intercept[0]), *coef[0].tolist()]
    elif config["kind"] == "sums":
        record = RecordDict({})
        found = added(asked(grid, [Message(content=record, message_type=MessageType.QUERY, dst_node_id=one) for one in ids], quick))[
            0
        ].tolist()
    else:
        theta, lam = np.zeros(size + 1), float(config["lam"])
        penalty = np.concatenate([[0.0], np.full(size, lam * int(config["records"]))])
        for _ in range(int(config["rounds"])):
            record = RecordDict({"arrays": ArrayRecord([theta])})
            slope, curve = added(
                asked(grid, [Message(content=record, message_type=MessageType.TRAIN, dst_node_id=one) for one in ids], quick)
            )
            theta = theta + np.linalg.solve(curve + np.diag(penalty), slope - penalty * theta)
        found = theta.tolist()
    with open(f"{config['data']}/found.json", "w", encoding="utf-8") as file:
        json.dump({"found": found, "began_s": began, "ended_s": time.time()}, file)
