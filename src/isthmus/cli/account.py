"""`isthmus account`: who may call the exchange, and what there is to spend."""

from __future__ import annotations

import json
import os
import re
from decimal import Decimal
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from isthmus.cli.deployment import AS_JSON, KEY, ORDER_ID, STATE, URL, an_id, operator
from isthmus.contracts.errors import InputError, StorageError
from isthmus.kit.ids import slug

MICROS = 1_000_000
_MONEY = re.compile(r"[0-9]{1,9}(\.[0-9]{1,6})?", re.ASCII)
_DAYS_MAX = 3650
PARTY = click.argument("party", callback=lambda ctx, param, value: slug(value, "the party"))


@click.group()
def account() -> None:
    """Accounts of those who call: a key to ask with, and a balance that pays."""


def micros_of(text: str) -> int:
    """An amount such as 5 or 2.50 in millionths. Raises InputError."""
    if not _MONEY.fullmatch(text):
        raise InputError(f"{text!r} is no amount", "write it as 5 or 2.50")
    return int(Decimal(text) * MICROS)


@account.command("open")
@PARTY
@click.option("--credit", default="0", show_default=True, help="Amount to put on the balance, such as 5.00.")
@click.option("--currency", default="EUR", show_default=True, help="Currency of the credit.")
@click.option("--days", type=click.IntRange(1, _DAYS_MAX), default=90, show_default=True, help="How long the key lasts.")
@click.option(
    "--out", type=click.Path(path_type=Path), default=None, help="Write the key to this new file, for you only, instead of showing it."
)
@ORDER_ID
@URL
@KEY
@STATE
@AS_JSON
def open_command(
    party: str,
    credit: str,
    currency: str,
    days: int,
    out: Path | None,
    order_id: str | None,
    url: str | None,
    key: str | None,
    state: Path | None,
    as_json: bool,
) -> None:
    """Makes a key for PARTY, and credits its balance. For the operator; whoever has the key can spend the balance.

    The exchange keeps books and no money: a credit says that PARTY has paid, or will.

    \b
    Example:
      isthmus account open packing-hall --credit 5.00 --out packing-hall.key
    """
    amount = micros_of(credit)
    if out is not None and out.exists():
        raise InputError(f"{out} is there already", "name another file, or remove it; its key goes on working until it is revoked")
    with operator(url, key, state) as exchange:
        if amount:
            order = {"id": an_id(order_id), "currency": currency, "amount_micros": amount, "reason": "credit at the opening of an account"}
            exchange.post(f"/v1/accounts/{party}/credit", order)
        made = exchange.post("/v1/keys", {"party": party, "label": "account", "expires_in_s": days * 86_400})
    bearer = str(made["bearer"])
    if out is not None:
        _write_key(out, bearer)
    if as_json:
        click.echo(json.dumps({"party": party, "credit_micros": amount, "currency": currency, **({} if out else {"key": bearer})}))
        return
    console = Console(soft_wrap=True)
    console.print(f"{escape(party)} has a key for {days} days{f' and {credit} {escape(currency)} more to spend' if amount else ''}")
    console.print(f"key: {escape(str(out)) if out is not None else bearer}")


def _write_key(out: Path, bearer: str) -> None:
    try:
        with os.fdopen(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(bearer + "\n")
    except OSError as error:
        raise StorageError(
            f"{out} cannot be written: {error.strerror}", "the key was made all the same; revoke it, and name another file"
        ) from error


@account.command()
@PARTY
@URL
@KEY
@STATE
@AS_JSON
def show(party: str, url: str | None, key: str | None, state: Path | None, as_json: bool) -> None:
    """Shows PARTY's balances and counted units.

    Example:  isthmus account show packing-hall
    """
    with operator(url, key, state) as exchange:
        document = exchange.get(f"/v1/accounts/{party}")
    if as_json:
        click.echo(json.dumps(document))
        return
    table = Table(title=escape(party), title_justify="left")
    for name in ("account", "unit", "balance", "held"):
        table.add_column(name, justify="left" if name in ("account", "unit") else "right", overflow="fold")
    for one in document["balances"]:
        money = "@" not in one["account"]["unit"]
        amounts = (f"{one[name] / MICROS:,.6f}".rstrip("0").rstrip(".") if money else str(one[name]) for name in ("balance", "held"))
        table.add_row(one["account"]["role"], escape(one["account"]["unit"]), *amounts)
    Console().print(table)
