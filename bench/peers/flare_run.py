"""Drives NVIDIA FLARE for bench/sandbox.py, in FLARE's own environment: makes a job by its recipes, runs it, prints one JSON object.

    python flare_run.py simulator|poc KIND ROOT --owners 3 --rounds 5 [--quick] [--ports SERVER:SITE1,SITE2,...]

simulator: `nvflare simulator` as its tutorials run. poc: one server and a process an owner, provisioned by `nvflare poc prepare`, over
mutual TLS. --quick: every polling interval that FLARE lets be set, at 0.05 s, and no step damped.
"""

import argparse
import glob
import json
import os
import re
import shutil
import subprocess
import sys
import time

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
QUICK_S = 0.05
ADMIN = "admin@nvidia.com"


def recipe_of(given, data):
    script = os.path.join(HERE, "flare_client.py")
    words = f"--kind {given.kind} --data {data} --lam {given.lam}"
    if given.kind in ("tutorial", "newton"):
        from nvflare.app_common.np.recipes.lr.fedavg import FedAvgLrRecipe

        return FedAvgLrRecipe(
            name=given.kind,
            min_clients=given.owners,
            num_rounds=given.rounds,
            damping_factor=0.8,
            num_features=given.features,
            train_script=script,
            train_args=words,
            launch_external_process=given.kind == "tutorial",
            command=f"{sys.executable} -u",
        )
    if given.kind == "fedavg":
        from nvflare.app_opt.sklearn import SklearnFedAvgRecipe

        model = {"n_classes": 2, "learning_rate": "constant", "eta0": 1e-2, "loss": "log_loss", "penalty": "l2", "fit_intercept": 1}
        return SklearnFedAvgRecipe(
            name=given.kind, min_clients=given.owners, num_rounds=given.rounds, model_params=model, train_script=script, train_args=words
        )
    if given.kind == "sums":
        from nvflare.app_common.np.recipes.fedavg import NumpyFedAvgRecipe

        size = (given.features + 2) * (given.features + 3) // 2
        return NumpyFedAvgRecipe(
            name=given.kind, min_clients=given.owners, num_rounds=1, model=np.zeros(size).tolist(), train_script=script, train_args=words
        )
    sys.path.insert(0, HERE)
    from flare_stats import Columns
    from nvflare.recipe.fedstats import FedStatsRecipe

    wanted = {"count": {}, "sum": {}, "mean": {}, "stddev": {}}
    sites = [f"site-{place + 1}" for place in range(given.owners)]
    return FedStatsRecipe(
        name=given.kind,
        stats_output_path="statistics/found.json",
        sites=sites,
        statistic_configs=wanted,
        stats_generator=Columns(data),
        min_count=1,
        min_noise_level=0.0001,
        max_noise_level=0.0002,
        max_bins_percent=99,
    )


def edited(path, change):
    with open(path, encoding="utf-8") as file:
        found = json.load(file)
    change(found)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(found, file)


def quicker(job, kind):
    """Polling as short as FLARE lets it be set in a job."""

    def server(found):
        found["server"] = {"task_request_interval": QUICK_S}
        for flow in found["workflows"]:
            if kind in ("newton", "sums"):
                flow.setdefault("args", {})["task_check_period"] = QUICK_S
            if kind == "newton":
                flow["args"].update(damping_factor=1.0, epsilon=0.0)

    for path in glob.glob(f"{job}/app*/config/config_fed_server.json"):
        edited(path, server)
    for path in glob.glob(f"{job}/app*/config/config_fed_client.json"):
        edited(path, lambda found: found.update(default_task_fetch_interval=QUICK_S))


def exported(given, root):
    jobs = os.path.join(root, "jobs")
    recipe_of(given, given.root).export(jobs)
    job = os.path.join(jobs, os.listdir(jobs)[0])
    if given.quick:
        quicker(job, given.kind)
    return job


def simulated(given, root):
    job = exported(given, root)
    words = [
        os.path.join(os.path.dirname(sys.executable), "nvflare"),
        "simulator",
        "-w",
        f"{root}/workspace",
        "-n",
        str(given.owners),
        "-t",
        str(given.owners),
        job,
    ]
    began = time.time()
    with open(f"{root}/simulator.log", "w", encoding="utf-8") as log:
        subprocess.run(words, stdout=log, stderr=log, check=True)
    return {"asked_s": began, "ended_s": time.time(), "started_s": 0.0}, f"{root}/workspace"


def provisioned(given, root):
    """(production folder, workspace) with ports of our own."""
    workspace = f"{root}/poc"
    env = {**os.environ, "NVFLARE_POC_WORKSPACE": workspace, "HOME": root}
    nvflare = os.path.join(os.path.dirname(sys.executable), "nvflare")
    subprocess.run(
        [nvflare, "poc", "prepare", "-n", str(given.owners)], env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    production = glob.glob(f"{workspace}/*/prod_00")[0]
    server, sites = given.ports.split(":")
    ports = {"server": server, ADMIN: server, **{f"site-{k + 1}": port for k, port in enumerate(sites.split(","))}}
    for name, port in ports.items():
        for path in glob.glob(f"{production}/{name}/startup/fed_*.json"):
            with open(path, encoding="utf-8") as file:
                text = re.sub(r"\b8002\b", port, file.read())
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
    return production


def by_processes(given, root):
    from nvflare.fuel.flare_api.flare_api import new_secure_session

    job, production = exported(given, root), provisioned(given, root)
    names = ["server", *(f"site-{place + 1}" for place in range(given.owners))]
    began = time.time()
    children = []
    for name in names:
        log = open(f"{root}/{name}.log", "w", encoding="utf-8")
        children.append(
            subprocess.Popen(
                ["bash", f"{production}/{name}/startup/sub_start.sh", "--once"],
                cwd=f"{production}/{name}",
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        )
    try:
        session = None
        while session is None:
            try:
                session = new_secure_session(ADMIN, f"{production}/{ADMIN}", timeout=60)
            except Exception:
                if time.time() - began > 90:
                    raise
                time.sleep(0.2)
        while len(session.get_system_info().client_info) < given.owners:
            time.sleep(0.1)
        ready = time.time()
        print(json.dumps({"ready": True}), flush=True)
        sys.stdin.readline()
        asked = time.time()
        number = session.submit_job(job)
        session.monitor_job(number, timeout=300, poll_interval=0.1)
        ended = time.time()
        print(json.dumps({"done": True}), flush=True)
        sys.stdin.readline()
        where = session.download_job_result(number)
        session.close()
    finally:
        for child in children:
            try:
                os.killpg(child.pid, 15)
            except ProcessLookupError:
                pass
        time.sleep(1)
        for child in children:
            try:
                os.killpg(child.pid, 9)
            except ProcessLookupError:
                pass
            child.wait()
    return {"asked_s": asked, "ended_s": ended, "started_s": ready - began}, where


def outcome(kind, where):
    """The model, or the sums, as FLARE left them."""
    if kind in ("tutorial", "newton"):
        path = glob.glob(f"{where}/**/models/weights.npy", recursive=True)[0]
        return np.load(path).reshape(-1).tolist()
    if kind == "sums":
        path = glob.glob(f"{where}/**/models/server.npy", recursive=True)[0]
        return np.load(path).reshape(-1).tolist()
    if kind == "fedavg":
        import joblib

        found = joblib.load(glob.glob(f"{where}/**/*.joblib", recursive=True)[0])
        return [
            float(np.ravel(found.intercept_)[0] if hasattr(found, "intercept_") else np.ravel(found["intercept"])[0]),
            *np.ravel(found.coef_ if hasattr(found, "coef_") else found["coef"]).tolist(),
        ]
    with open(glob.glob(f"{where}/**/found.json", recursive=True)[0], encoding="utf-8") as file:
        return json.load(file)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("mode")
    parser.add_argument("kind")
    parser.add_argument("root")
    parser.add_argument("--owners", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--features", type=int)
    parser.add_argument("--lam", type=float, default=0.0)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--ports", default="")
    given = parser.parse_args()
    given.root = os.path.abspath(given.root)
    work = os.path.join(given.root, "flare")
    shutil.rmtree(work, ignore_errors=True)
    os.makedirs(work)
    times, where = (by_processes if given.mode == "poc" else simulated)(given, work)
    print(json.dumps({**times, "found": outcome(given.kind, where)}), flush=True)


if __name__ == "__main__":
    main()
