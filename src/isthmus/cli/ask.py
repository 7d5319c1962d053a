"""`isthmus ask`: puts one SELECT to several owners' tables under their agreements; only sums leave, and the answer says what they hide."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid

from isthmus.cli.asksql import Table, question_of, table_named
from isthmus.cli.deployment import AS_JSON, KEY, STATE, URL, operator
from isthmus.client.http import ExchangeClient
from isthmus.contracts.answer import AnswerRow, OwnerCost, QuestionAnswer, QuestionRequest, Told
from isthmus.contracts.errors import InputError, JobFailedError, JobRefusedError
from isthmus.contracts.job import JobRefusal
from isthmus.scenarios.package import find_package, load_package

WAIT_S = 1.0
QUIET_S = 2.0
TIMEOUT_S_MAX = 3600
ROWS_SHOWN_MAX = 60
BAR_CHARS = 24


@click.command()
@click.argument("question")
@click.option("--purpose", default=None, help="What the answer is for, as the agreements name it; the package's own when left out.")
@click.option("--owners", default="", metavar="A,B,C", help="Whom to ask; all whose agreements allow it when left out.")
@click.option(
    "--epsilon", default=0.0, type=click.FloatRange(0), help="Ask for noisy numbers, at this cost to each owner's privacy budget."
)
@click.option(
    "--delta", default=1e-5, show_default=True, type=click.FloatRange(0, 1, min_open=True, max_open=True), help="Beside --epsilon."
)
@click.option("--preview", is_flag=True, help="Only say what it would tell and what it would cost each owner; nothing is computed.")
@click.option("--timeout", "timeout_s", default=120, show_default=True, type=click.IntRange(1, TIMEOUT_S_MAX), help="Seconds to wait.")
@URL
@KEY
@STATE
@AS_JSON
def ask(
    question: str,
    purpose: str | None,
    owners: str,
    epsilon: float,
    delta: float,
    preview: bool,
    timeout_s: int,
    url: str | None,
    key: str | None,
    state: Path | None,
    as_json: bool,
) -> int:
    """Asks a QUESTION, one SELECT, of several owners' tables: counts, sums, means, variances and quantiles, by groups.

    The table is a scenario's id (in double quotes where it has hyphens) or the path of its package: the owners declared its columns when
    they joined. A number is grouped by equal parts of its declared range, bins(age, 7); label is each record's outcome. Each owner's node
    holds the question against its agreement by itself. Cells that rest on too few of an owner's records are left out there.

    \b
    Examples:
      isthmus ask 'SELECT avg(age), count(*) FROM "heart-screening" GROUP BY sex'
      isthmus ask 'SELECT count(*) FROM "heart-screening" GROUP BY bins(age, 7), label' --epsilon 0.2
      isthmus ask 'SELECT median(chol) FROM "heart-screening"' --epsilon 0.1 --preview

    Exit code 1: nobody answered.
    """
    name = table_named(question)
    package = load_package(find_package(name))
    if package.interface.schema is None:
        raise InputError(f"{name} takes no rows of tables", "ask about a package that declares columns")
    table = Table(name, package.interface.schema, package.interface.classes)
    request = QuestionRequest(
        table=package.id,
        schema=table.schema,
        question=question_of(question, table),
        purpose=purpose or package.purpose,
        owners=tuple(sorted({one.strip() for one in owners.split(",") if one.strip()})),
        epsilon=epsilon,
        delta=delta,
        preview=preview,
    )
    with operator(url, key, state) as exchange:
        found = _answered(exchange, request, timeout_s)
    classes = dict(zip(("good", "defect"), table.classes, strict=False))
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(found)))
    elif found.phase in ("preview", "done"):
        _show(found, classes)
    if found.phase in ("preview", "done"):
        return 0
    said = "; ".join(f"{one.party} refused by its clause {one.clause}: {one.message}" for one in found.refusals)
    told = ". ".join(part for part in (found.reason, said) if part)
    if as_json:
        return 1
    if found.refusals:
        raise JobRefusedError(told, found.refusals[-1].next)
    raise JobFailedError(told, "see that the owners' nodes are running, then ask again")


def _answered(exchange: ExchangeClient, request: QuestionRequest, timeout_s: int) -> QuestionAnswer:
    """The answer once there is one. After QUIET_S a line on standard error says who is waited for."""
    began_s = time.monotonic()
    console = Console(stderr=True)
    with console.status("asking") as line:
        line.stop()
        while True:
            document = exchange.post(f"/v1/questions?wait_s={WAIT_S:g}", msgspec.to_builtins(request))
            found = msgspec.convert(document, QuestionAnswer)
            passed_s = time.monotonic() - began_s
            if found.phase != "waiting":
                return found
            if passed_s > timeout_s:
                message = f"{', '.join(found.waiting_for)} did not answer within {timeout_s} s"
                raise JobFailedError(message, "start those nodes, and ask again: the question stands until it expires")
            if passed_s > QUIET_S:
                done = len(found.owners) - len(found.waiting_for)
                line.update(f"{done} of {len(found.owners)} owners; waiting for {', '.join(found.waiting_for)}, {passed_s:.0f} s")
                line.start()


def _number(value: float | None) -> str:
    if value is None:
        return "?"
    return f"{value:,.0f}" if value == round(value) and abs(value) < 1e15 else f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.1f}"


def shown(told: Told) -> str:
    """A number with its bounds, where they are not itself."""
    if told.value is None:
        return "–"
    if told.low == told.value == told.high:
        return _number(told.value)
    if told.low is None and told.high is None:
        return f"{_number(told.value)} (bounds not known)"
    return f"{_number(told.value)} ({_number(told.low)} to {_number(told.high)})"


def _show(found: QuestionAnswer, classes: dict[str, str]) -> None:
    console = Console(soft_wrap=False)
    if found.preview is not None:
        _show_preview(found, console)
    else:
        _show_rows(found, classes, console)
    for one in found.refusals:
        console.print(_refused(one), soft_wrap=True)


def _refused(one: JobRefusal) -> str:
    return escape(f"{one.party} takes no part, by its clause {one.clause}: {one.message}; {one.next}")


def _show_rows(found: QuestionAnswer, classes: dict[str, str], console: Console) -> None:
    kind = "exact" if found.exact else f"noisy, epsilon {found.epsilon:g}; bounds hold at 95 %, each number by itself"
    grid = Grid(title=f"{escape(found.table)}, {len(found.owners)} owners, {kind}", title_justify="left")
    for name in found.groups:
        grid.add_column(escape(name), overflow="fold")
    for name in found.names:
        grid.add_column(escape(name), justify="right", overflow="fold")
    bars = _bars(found)
    grid.add_column("" if bars else "note", overflow="fold")
    if bars:
        grid.add_column("note", overflow="fold")
    for place, row in enumerate(found.rows[:ROWS_SHOWN_MAX]):
        names = [classes.get(name, name) if group == "label" else name for group, name in zip(found.groups, row.groups, strict=True)]
        told = [shown(one) for one in row.told] if row.shown else ["not shown"] * len(found.names)
        bar = [bars[place]] if bars else []
        grid.add_row(*(escape(one) for one in (*names, *told)), *bar, escape(row.why))
    console.print(grid)
    if len(found.rows) > ROWS_SHOWN_MAX:
        console.print(f"the first {ROWS_SHOWN_MAX} of {len(found.rows)} rows; --json has all")
    console.print(f"owners: {escape(', '.join(found.owners))}", soft_wrap=True)


def _bars(found: QuestionAnswer) -> list[str]:
    """A bar for each row from its first number, where rows are groups and no number is negative."""
    values = [_first(row) for row in found.rows]
    most = max(values, default=0.0)
    if not found.groups or most <= 0 or min(values) < 0:
        return []
    return ["█" * round(BAR_CHARS * value / most) for value in values]


def _first(row: AnswerRow) -> float:
    value = row.told[0].value if row.told else None
    return 0.0 if value is None else value


def _show_preview(found: QuestionAnswer, console: Console) -> None:
    preview = found.preview
    assert preview is not None
    console.print(
        f"{escape(found.table)}: {preview.cells} cells, {preview.numbers} numbers; each owner would send {preview.bytes_each:,}"
        " bytes of sums. Nothing was computed.",
        soft_wrap=True,
    )
    if preview.noise:
        grid = Grid(title="noise on each number of the total", title_justify="left")
        for name in ("number", "one unit changes it by at most", "error in the total (95 %)"):
            grid.add_column(name, justify="left" if name == "number" else "right")
        for one in preview.noise:
            grid.add_row(escape(f"{one.kind} {one.column}".strip()), f"{one.sensitivity:,.6g}", f"± {one.error:,.4g}")
        console.print(grid)
    grid = Grid(title="what it costs each owner, as far as this exchange knows; the owner's own ledger decides", title_justify="left")
    for name in ("owner", "epsilon of this answer", "epsilon after it, of all", "answers left", "least group"):
        grid.add_column(name, justify="left" if name == "owner" else "right")
    for cost in preview.costs:
        grid.add_row(escape(cost.party), *_budget(cost, found.exact), str(cost.runs_left), str(cost.least_group_size))
    console.print(grid)


def _budget(cost: OwnerCost, exact: bool) -> tuple[str, str]:
    if not cost.budget:
        return ("exact, no budget" if exact else "no budget asked"), "–"
    over = " (too much)" if cost.epsilon_after > cost.epsilon_total else ""
    return f"{cost.epsilon:.4g}", f"{cost.epsilon_after:.4g} of {cost.epsilon_total:g}{over}"
