"""Two versions of a deployment, compared at the owners' nodes on the same held-out records."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from isthmus.client.http import ExchangeClient
from isthmus.contracts.build import ENDED, RunView
from isthmus.contracts.errors import JobFailedError
from isthmus.contracts.life import ComparisonOrder, DeploymentHistory
from isthmus.kit.filelock import held
from isthmus.sandbox.nodehome import KEY_NAME, LOCK_NAME
from isthmus.scenarios.local import LocalFleet, wait_for_nodes

FLEET = "fleet"
POLL_S = 0.25


def needed_nodes(exchange: ExchangeClient, name: str, to: int | None) -> list[str]:
    """Parties whose node a comparison needs. to: the version to compare with; None, the newest proposed."""
    view = msgspec.convert(exchange.get(f"/v1/deployments/{name}"), DeploymentHistory).deployment
    wanted = [one.version for one in view.versions if (one.state == "proposed" if to is None else one.version.number == to)]
    if not wanted:
        return []
    return [view.site] if view.site != FLEET else sorted(set(wanted[-1].owners) - set(wanted[-1].without))


def idle_homes(home: Path, parties: list[str]) -> dict[str, Path]:
    """party -> its node's state folder, of those that a run keeps below `home` and that no process works in now."""
    found = {}
    for party in parties:
        folder = home / "nodes" / party
        if (folder / KEY_NAME).is_file():
            with held(folder / LOCK_NAME) as idle:
                if idle:
                    found[party] = folder
    return found


def compared(exchange: ExchangeClient, name: str, order: ComparisonOrder, home: Path | None = None) -> RunView:
    """Has two versions compared at the owners' nodes; waits for the end. home: a state folder; nodes that a run keeps there and that do
    not run are started for the comparison, and stopped after it. Raises JobFailedError, which names a node that is missing: the comparison
    would wait for it in vain.
    """
    needed = needed_nodes(exchange, name, order.to)
    here = {} if home is None else idle_homes(home, needed)
    alive = {node["party"] for node in exchange.get("/v1/nodes") if node["alive"]}
    missing = [party for party in needed if party not in alive and party not in here]
    if missing:
        raise JobFailedError(
            f"the nodes of {', '.join(missing)} are not up", "start each: isthmus node start --state ITS-FOLDER --exchange URL"
        )
    if home is None or not here:
        return _compared(exchange, name, order)
    with LocalFleet(home / "logs") as fleet:
        for party, folder in here.items():
            fleet.start_home(party, folder, exchange.address)
        wait_for_nodes(exchange, fleet, set(here))
        return _compared(exchange, name, order)


def _compared(exchange: ExchangeClient, name: str, order: ComparisonOrder) -> RunView:
    view = msgspec.convert(exchange.post(f"/v1/deployments/{name}/comparison", msgspec.to_builtins(order)), RunView)
    while view.state not in ENDED:
        time.sleep(POLL_S)
        view = msgspec.convert(exchange.get(f"/v1/runs/{view.id}"), RunView)
    if view.state == "failed":
        error = view.error or {}
        raise JobFailedError(f"the comparison failed: {error.get('message', 'no reason was given')}", str(error.get("next", "")))
    return msgspec.convert(exchange.get(f"/v1/runs/{view.id}"), RunView)


def show_comparison(found: dict[str, Any]) -> None:
    """What `compared` found, for people."""
    console = Console()
    title = f"versions {found['old']} and {found['new']} on the same {found['records']} held-out records of {', '.join(found['parties'])}"
    table = Table(title=escape(title), title_justify="left")
    for name in ("of all records", "more", "fewer", "difference", "may be as much as", "less than", ""):
        table.add_column(name, justify="left" if name in ("of all records", "") else "right", overflow="fold")
    for one in found["differences"]:
        mark = "[green]shown[/]" if one["holds"] else "[bold red]not shown[/]"
        shares = (f"{one[name]:+.2%}" for name in ("share", "bound"))
        table.add_row(one["what"], str(one["worse"]), str(one["better"]), *shares, f"{one['margin']:.2%}", mark)
    console.print(table)
    needed = found["records_needed"]
    if needed:
        console.print(f"at these rates {needed} held-out records would show it")
