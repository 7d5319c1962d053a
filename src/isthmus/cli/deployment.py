"""`isthmus deployment`: deployments through their versions."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from isthmus.app.lifelog import checked_steps
from isthmus.cli.comparison import compared, show_comparison
from isthmus.cli.receipt import URL_DEFAULT, public_key_text
from isthmus.cli.sitevalues import merge_json, show_merge, write_values
from isthmus.client.address import standing
from isthmus.client.http import ExchangeClient
from isthmus.contracts.errors import ConflictError, InputError, JobFailedError, NotFoundError
from isthmus.contracts.life import (
    ComparisonOrder,
    DeployedVersion,
    DeploymentHistory,
    DeploymentView,
    LifeStep,
    RetireOrder,
    RollbackOrder,
    ShadowOrder,
    ShadowView,
    UpgradeOrder,
)
from isthmus.kit.clock import SystemClock
from isthmus.kit.config import read_settings
from isthmus.kit.ids import new_id, slug
from isthmus.kit.signing import Envelope, key_id
from isthmus.scenarios.contents import Contents
from isthmus.scenarios.valuemerge import package_merge
from isthmus.scenarios.workbench import contents_of, digest_of_contents, listed

SHOWN_CHARS = 19
JSON_HELP = "One JSON object instead of a table."
URL = click.option(
    "--url", default=None, help=f"Where the exchange answers; default: where the one on the state folder does, or {URL_DEFAULT}."
)
KEY = click.option("--key", default=None, help="The operator's key; default: operator.token in the state folder.")
STATE = click.option("--state", type=click.Path(path_type=Path), default=None, help="State folder; default from ISTHMUS_STATE.")
NAME = click.argument("name", callback=lambda ctx, param, value: slug(value, "the deployment"))
AS_JSON = click.option("--json", "as_json", is_flag=True, help=JSON_HELP)
WHY = click.option("--why", required=True, help="The reason, for the record.")
ORDER_ID = click.option("--id", "order_id", default=None, help="Id of this order: with the same one again, nothing is done twice.")


@click.group()
def deployment() -> None:
    """Deployments through their versions: what serves, what served, and how to go back.

    A deployment is one name that callers use, such as bottle-caps or bottle-caps-line-4. Each certified run or replicate gives it a
    version. Every step is kept for good, signed by the exchange: which version, by whom, when and why.

    \b
    When a new version disappoints:
      isthmus deployment list
      isthmus deployment rollback bottle-caps --why "more false alarms since Monday"
      isthmus deployment history bottle-caps

    \b
    When a new version should prove itself first:
      isthmus run bottle-caps --data A --data B --data C --candidate
      isthmus deployment upgrade bottle-caps --why "a fourth owner joined"

    Going back takes seconds and loses no request. Nothing serves without a valid certificate, also not by going back.
    """


def operator(url: str | None, key: str | None, state: Path | None) -> ExchangeClient:
    """A client with the operator's key. url: None for the exchange that runs on the state folder. Raises InputError when there is no
    key."""
    home = read_settings(state=state).state / "exchange"
    if key is None:
        path = home / "operator.token"
        try:
            key = path.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"there is no operator's key in {path}", "give --key, or the exchange's --state") from error
    if url is None:
        found = standing(home)
        url = URL_DEFAULT if found is None else found[0]
    return ExchangeClient(url, key)


def an_id(order_id: str | None) -> str:
    return order_id if order_id is not None else new_id("order", SystemClock().now_s())


def when(at_s: int) -> str:
    return datetime.datetime.fromtimestamp(at_s, datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


@deployment.command("list")
@URL
@KEY
@STATE
@AS_JSON
def list_command(url: str | None, key: str | None, state: Path | None, as_json: bool) -> None:
    """Lists every deployment: which version serves, and why one does not.

    Example:  isthmus deployment list --json
    """
    with operator(url, key, state) as exchange:
        document = exchange.get("/v1/deployments")
    if as_json:
        click.echo(json.dumps({"deployments": document}))
        return
    table = Table(title=f"{len(document)} deployment{'' if len(document) == 1 else 's'}", title_justify="left")
    for name in ("name", "site", "state", "serves", "scenario", "versions", "problem"):
        table.add_column(name, overflow="fold")
    for view in msgspec.convert(document, list[DeploymentView]):
        serving = next((one.version for one in view.versions if one.version.number == view.current), None)
        table.add_row(
            escape(view.name),
            escape(view.site),
            view.state if view.ready or view.state != "serving" else "[bold red]refusing[/]",
            "–" if serving is None else f"{serving.number} ({serving.deployment.version})",
            "–" if serving is None else escape(serving.scenario or "–"),
            str(len(view.versions)),
            escape(view.problem),
        )
    Console().print(table)


@deployment.command()
@NAME
@click.option(
    "--public-key", default=None, help="The exchange's public key that you trust: 64 hex digits, or a file; default: the one it sends."
)
@URL
@KEY
@STATE
@AS_JSON
def history(name: str, public_key: str | None, url: str | None, key: str | None, state: Path | None, as_json: bool) -> None:
    """Shows the versions of NAME and every step of its life, after the chain of signatures was checked.

    With --public-key the check does not rest on the exchange's own word. Exit code 1 or more when a step was edited, moved or taken out.

    Example:  isthmus deployment history bottle-caps
    """
    with operator(url, key, state) as exchange:
        found = msgspec.convert(exchange.get(f"/v1/deployments/{name}"), DeploymentHistory)
    public = found.public_key if public_key is None else public_key_text(public_key)
    steps = checked_steps([msgspec.convert(step, Envelope) for step in found.steps], {key_id(public): public})
    if as_json:
        shown = {"deployment": msgspec.to_builtins(found.deployment), "steps": msgspec.to_builtins(steps), "public_key": public}
        click.echo(json.dumps(shown))
        return
    _show_versions(found.deployment)
    table = Table(title=f"{len(steps)} steps, each signed by key {key_id(public)} and naming the one before", title_justify="left")
    for title in ("step", "when", "what", "serves", "who", "why"):
        table.add_column(title, overflow="fold")
    for step in steps:
        change = f"{'–' if step.before is None else step.before} → {'–' if step.after is None else step.after}"
        table.add_row(str(step.seq), when(step.at_s), step.action, change, escape(step.who), escape(step.why))
    Console().print(table)


def _show_versions(view: DeploymentView) -> None:
    table = Table(title=f"{escape(view.name)}: {view.state}", title_justify="left")
    for title in ("version", "state", "scenario", "artefact", "certificate", "package", "values", "problem"):
        table.add_column(title, overflow="fold")
    for one in view.versions:
        version, of = one.version, one.version.deployment
        table.add_row(
            f"{version.number} ({of.version})",
            one.state,
            escape(version.scenario or "–"),
            of.artefact_digest[:SHOWN_CHARS],
            of.certificate_digest[:SHOWN_CHARS],
            version.origin.package[:SHOWN_CHARS] or "–",
            escape(", ".join(f"{name}={json.dumps(value)}" for name, value in version.origin.values.items()) or "–"),
            escape(one.problem),
        )
    Console().print(table)


@deployment.command()
@NAME
@click.argument("package", metavar="PACKAGE")
@click.option("--from", "before", default=None, help="The package that serves now; default: the installed one of the recorded digest.")
@click.option("--out", type=click.Path(path_type=Path), default=None, help="Write the values for PACKAGE to this file.")
@URL
@KEY
@STATE
@AS_JSON
def values(
    name: str, package: str, before: str | None, out: Path | None, url: str | None, key: str | None, state: Path | None, as_json: bool
) -> int:
    """Carries the site's values of NAME, as its record has them, to PACKAGE: the next version of its scenario.

    A three-way merge of the old package's defaults, the site's values and the new package's knobs. What no longer fits is a conflict,
    with a sentence each; then no file is written.

    \b
    Example, the whole way to a new package:
      isthmus deployment values bottle-caps bottle-caps@0.2.0 --out site.yaml
      isthmus run bottle-caps@0.2.0 --values site.yaml --data A --data B --data C --candidate
      isthmus deployment upgrade bottle-caps --why "0.2.0 knows dents"

    Exit code 1: a conflict.
    """
    home = read_settings(state=state).state
    with operator(url, key, state) as exchange:
        view = msgspec.convert(exchange.get(f"/v1/deployments/{name}"), DeploymentHistory).deployment
    serving = next((one.version for one in view.versions if one.version.number == view.current), None)
    if serving is None:
        raise ConflictError(f"nothing serves as {name}", "name the packages: isthmus scenario diff OLD NEW --values FILE")
    old = contents_of(before, home) if before is not None else _recorded(serving, home)
    if serving.origin.package and digest_of_contents(old) != serving.origin.package:
        raise ConflictError(f"{before} is not the package that version {serving.number} of {name} was made from", "give --from that one")
    merge = package_merge(old, serving.origin.values, contents_of(package, home))
    if as_json:
        click.echo(json.dumps(merge_json(merge)))
    else:
        show_merge(merge)
    if out is not None and not merge.conflicts:
        write_values(merge, out)
    return 1 if merge.conflicts else 0


def _recorded(version: DeployedVersion, home: Path) -> Contents:
    """The package that a version was made from, among those that a name finds. Raises NotFoundError."""
    for one, found, _ in listed(home):
        if found is not None:
            contents = contents_of(str(one.folder), home)
            if digest_of_contents(contents) == version.origin.package:
                return contents
    raise NotFoundError(f"no package here has the digest of version {version.number}", "give it with --from, as a folder or an archive")


def _told(document: Any, as_json: bool, sentence: str) -> None:
    if as_json:
        click.echo(json.dumps(document))
    else:
        Console(soft_wrap=True).print(sentence)


@deployment.command()
@NAME
@click.option("--to", type=click.IntRange(1), default=None, help="Number of the version; default: the newest that was proposed.")
@click.option("--requests", type=click.IntRange(1), default=200, show_default=True, help="Answered requests to compare.")
@click.option("--show", is_flag=True, help="Begin nothing; show what was counted so far.")
@URL
@KEY
@STATE
@AS_JSON
def shadow(
    name: str, to: int | None, requests: int, show: bool, url: str | None, key: str | None, state: Path | None, as_json: bool
) -> None:
    """Puts a proposed version of NAME beside the one that serves, and counts how their verdicts differ on real requests.

    The shadow scores each request after it was answered. Its answers are returned to nobody and charged to nobody, and it slows no
    caller: what it cannot take at once it skips. Real requests have no labels, so a shadow shows what would change, not which of the two
    is right; `isthmus deployment upgrade` shows that. It goes on over restarts until --requests are compared or another version serves.

    \b
    Examples:
      isthmus deployment shadow bottle-caps --requests 500
      isthmus deployment shadow bottle-caps --show
    """
    with operator(url, key, state) as exchange:
        path = f"/v1/deployments/{name}/shadow"
        document = exchange.get(path) if show else exchange.post(path, msgspec.to_builtins(ShadowOrder(to=to, requests=requests)))
    if as_json:
        click.echo(json.dumps(document))
        return
    found = msgspec.convert(document, ShadowView)
    table = Table(title=f"{escape(name)}: verdicts of version {found.old}, and of its shadow, version {found.new}", title_justify="left")
    for title in ("answered", *(f"shadow: {verdict}" for verdict in found.verdicts)):
        table.add_column(title, justify="left" if title == "answered" else "right")
    for verdict, row in zip(found.verdicts, found.table, strict=True):
        table.add_row(verdict, *map(str, row))
    Console().print(table)
    told = f"{found.state}: {found.requests} of {found.wanted} requests compared, {found.skipped} skipped, {found.failed} failed"
    Console(soft_wrap=True).print(told)


@deployment.command()
@NAME
@click.option("--to", type=click.IntRange(1), default=None, help="Number of the version; default: the newest that was proposed.")
@click.option(
    "--margin",
    type=click.FloatRange(0, 50, min_open=True),
    default=2.0,
    show_default=True,
    help="More wrong answers borne, in % of records.",
)
@click.option(
    "--lost",
    type=click.FloatRange(0, 50, min_open=True),
    default=5.0,
    show_default=True,
    help="Fewer right answers borne, in % of records.",
)
@click.option("--why", default="", help="The reason, for the record; needed unless --dry-run.")
@click.option(
    "--accept-worse", default="", metavar="REASON", help="Upgrade although it is not shown to be as good; the reason is recorded."
)
@click.option("--dry-run", is_flag=True, help="Compare and tell; change nothing.")
@ORDER_ID
@URL
@KEY
@STATE
@AS_JSON
def upgrade(
    name: str,
    to: int | None,
    margin: float,
    lost: float,
    why: str,
    accept_worse: str,
    dry_run: bool,
    order_id: str | None,
    url: str | None,
    key: str | None,
    state: Path | None,
    as_json: bool,
) -> int:
    """Puts a proposed version of NAME in the place of the one that serves, once it is shown not to be inferior.

    Both versions judge the same held-out records at the owners' nodes; only counts leave. The new one is not inferior when, at 95 %
    confidence, it gives at most --margin more wrong answers and loses at most --lost right ones. Else the upgrade is refused, and how
    many records would show it is said. --accept-worse takes it all the same, with a reason; a certificate is never waived.

    A version is proposed by a run with --candidate. The owners' nodes must be up; those that a run keeps in the state folder are started.

    \b
    Examples:
      isthmus run bottle-caps --data A --data B --data C --candidate
      isthmus deployment upgrade bottle-caps --dry-run
      isthmus deployment upgrade bottle-caps --why "a fourth owner joined"

    Exit code 1: not shown, so not done.
    """
    if not dry_run and not why.strip():
        raise click.UsageError("give --why, or --dry-run")
    wanted = ComparisonOrder(to=to, margin_ppm=round(margin * 10_000), lost_margin_ppm=round(lost * 10_000))
    with operator(url, key, state) as exchange:
        try:
            view = compared(exchange, name, wanted, read_settings(state=state).state)
        except JobFailedError:
            if dry_run or not accept_worse:
                raise
            view = None
        result = None if view is None else view.result
        if result is not None and not as_json:
            show_comparison(result)
        passed = result is not None and result["passed"]
        if dry_run or not (passed or accept_worse):
            if as_json:
                click.echo(json.dumps({"comparison": result, "step": None}))
            elif not passed:
                Console(soft_wrap=True).print("not shown to be as good: " + escape("; ".join((result or {}).get("failures", ()))))
            return 0 if passed else 1
        number = to if result is None else result["new"]
        order = UpgradeOrder(id=an_id(order_id), why=why, to=number, comparison="" if view is None else view.id, accept_worse=accept_worse)
        document = exchange.post(f"/v1/deployments/{name}/upgrade", msgspec.to_builtins(order))
    step = msgspec.convert(document, LifeStep)
    _told(
        {"comparison": result, "step": document},
        as_json,
        f"{escape(name)} serves version {step.after} (step {step.seq}, order {escape(step.id)})",
    )
    return 0


@deployment.command()
@NAME
@click.option("--to", type=click.IntRange(1), default=None, help="Number of the version; default: the last one whose certificate holds.")
@WHY
@ORDER_ID
@URL
@KEY
@STATE
@AS_JSON
def rollback(
    name: str, to: int | None, why: str, order_id: str | None, url: str | None, key: str | None, state: Path | None, as_json: bool
) -> None:
    """Takes NAME back to the version that served before.

    The previous version was kept loaded, so this takes a moment; requests under way are answered by the version that has them. A version
    whose certificate expired or was withdrawn is passed over, and so is one that was fitted on the data of an owner who has left since. If
    none is left, nothing changes and each reason is said. A retired deployment is taken back by this too.

    \b
    Examples:
      isthmus deployment rollback bottle-caps --why "misses dents since the new lamp"
      isthmus deployment rollback bottle-caps --to 3 --why "the lamp was it" --id ticket-812
    """
    order = RollbackOrder(id=an_id(order_id), why=why, to=to)
    with operator(url, key, state) as exchange:
        document = exchange.post(f"/v1/deployments/{name}/rollback", msgspec.to_builtins(order))
    step = msgspec.convert(document, LifeStep)
    _told(document, as_json, f"{escape(name)} serves version {step.after} again (step {step.seq}, order {escape(step.id)})")


@deployment.command()
@NAME
@WHY
@ORDER_ID
@URL
@KEY
@STATE
@AS_JSON
def retire(name: str, why: str, order_id: str | None, url: str | None, key: str | None, state: Path | None, as_json: bool) -> None:
    """Takes NAME out of service. Its history and all receipts stay.

    Requests under way are answered; new ones get 410 deployment-retired. `isthmus deployment rollback NAME` takes it back.

    Example:  isthmus deployment retire bottle-caps --why "line 4 was sold"
    """
    order = RetireOrder(id=an_id(order_id), why=why)
    with operator(url, key, state) as exchange:
        document = exchange.post(f"/v1/deployments/{name}/retire", msgspec.to_builtins(order))
    step = msgspec.convert(document, LifeStep)
    _told(document, as_json, f"{escape(name)} is retired (step {step.seq}, order {escape(step.id)}); its history and receipts stay")
