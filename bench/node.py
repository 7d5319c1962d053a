"""What an owner's node needs: memory, time to start, bytes that leave.

    .venv/bin/python bench/node.py [--json] [--scenario heart-screening] [--scenario solar-cell-inspection] [--whole]

For each scenario its sample owners' nodes and an exchange are started as processes of their own, over loopback, and one model is built
(without declared corruptions; with --whole, with them). Memory is the kernel's own count of a node's process: resident when it had started
and had not been asked anything, and the peak by the end (VmHWM). The data that is being read is in it. Start-up is from the command to the
first call that the exchange takes. Bytes are those of the owner's signed log.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
from bench_command import say

from isthmus.client.http import ExchangeClient
from isthmus.contracts.operations import fleet_operations
from isthmus.kit.clock import SystemClock
from isthmus.sandbox.outlog import LOG_NAME, verify_log
from isthmus.scenarios.local import LocalFleet, Owner, Terms, agree, ended_run, prepare_owner, wait_for_nodes
from isthmus.scenarios.package import find_package, load_package
from isthmus.scenarios.samples import sample

SCENARIOS = ("heart-screening", "solar-cell-inspection")
PEAK_MB_MAX = 300.0
STATUS_KB = 1024.0


def memory_mb(pid: int) -> dict[str, float]:
    """{resident, peak} of a process, in MB, by /proc."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    found = dict(line.split(":", 1) for line in lines if line.startswith(("VmRSS", "VmHWM")))
    return {"resident": int(found["VmRSS"].split()[0]) / STATUS_KB, "peak": int(found["VmHWM"].split()[0]) / STATUS_KB}


def owners_of(root: Path, scenario: Any) -> list[Owner]:
    known = sample(scenario.sample_data)
    folders, schema = known.folders(root / "data"), scenario.interface.schema
    return [
        prepare_owner(p.party, p.name, "owner", folders[p.party], root / "nodes" / p.party, known.licence, True, schema)
        for p in known.of_kind("owner")
    ]


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def measured(name: str, root: Path, whole: bool) -> dict[str, Any]:
    """One scenario's build, and what each node needed for it."""
    scenario = load_package(find_package(name))
    owners = owners_of(root, scenario)
    with LocalFleet(root / "logs") as fleet:
        url, key = fleet.start_exchange(root)
        terms = Terms(
            purpose=scenario.purpose,
            operations=fleet_operations(scenario.recipe.head),
            allow_own_head=True,
            records_per_feature=scenario.recipe.records_per_feature,
        )
        for owner in owners:
            agree(owner, key, {o.party: o.public_key for o in owners}, terms, SystemClock())
        token = (root / "exchange" / "operator.token").read_text(encoding="ascii").strip()
        with ExchangeClient(url, token) as operator:
            starts_s = {}
            for owner in owners:
                began_s = time.monotonic()
                fleet.start_node(owner, url)
                wait_for_nodes(operator, fleet, {owner.party})
                starts_s[owner.party] = time.monotonic() - began_s
            idle = {owner.party: memory_mb(fleet.children[owner.party].pid)["resident"] for owner in owners}
            request = {"scenario": msgspec.to_builtins(scenario), "owners": [o.party for o in owners], "clean_only": not whole}
            began_s = time.monotonic()
            view = ended_run(operator, fleet, operator.post("/v1/runs", request), "build", lambda *_: None)
            wall_s = time.monotonic() - began_s
            peak = {owner.party: memory_mb(fleet.children[owner.party].pid)["peak"] for owner in owners}
    nodes = {}
    for owner in owners:
        entries = verify_log(owner.state / LOG_NAME, owner.public_key)
        nodes[owner.party] = {
            "start_s": round(starts_s[owner.party], 2),
            "idle_mb": round(idle[owner.party], 1),
            "peak_mb": round(peak[owner.party], 1),
            "data_mb": round(folder_bytes(owner.data) / 1e6, 2),
            "bytes_left": sum(entry.bytes for entry in entries),
            "messages": len(entries),
        }
    return {"state": view.state, "wall_s": round(wall_s, 1), "nodes": nodes}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--scenario", action="append", help=f"default: {', '.join(SCENARIOS)}")
    parser.add_argument("--whole", action="store_true", help="with declared corruptions")
    given = parser.parse_args()
    figures = {}
    for name in given.scenario or SCENARIOS:
        say(f"{name}: one build by nodes of their own")
        with tempfile.TemporaryDirectory() as folder:
            figures[name] = measured(name, Path(folder), given.whole)
    bars = [
        {"name": f"{name}: a node's peak memory", "value": peak, "goal": PEAK_MB_MAX, "unit": "MB", "holds": peak <= PEAK_MB_MAX}
        for name, found in figures.items()
        for peak in [max(node["peak_mb"] for node in found["nodes"].values())]
    ]
    if given.json:
        machine = {"python": platform.python_version(), "system": platform.system(), "processor": platform.machine()}
        print(json.dumps({"bench": "node", "machine": machine, "figures": figures, "bars": bars}))
        return
    print(f"{'scenario':24}{'node':12}{'start s':>9}{'idle MB':>9}{'peak MB':>9}{'data MB':>9}{'left bytes':>12}")
    for name, found in figures.items():
        for party, node in found["nodes"].items():
            numbers = f"{node['start_s']:9.2f}{node['idle_mb']:9.1f}{node['peak_mb']:9.1f}{node['data_mb']:9.2f}{node['bytes_left']:12,}"
            print(f"{name[:23]:24}{party[:11]:12}{numbers}")
    for bar in bars:
        print(f"{'holds' if bar['holds'] else 'FAILS'}: {bar['name']} {bar['value']} {bar['unit']}, at most {bar['goal']}")


if __name__ == "__main__":
    main()
