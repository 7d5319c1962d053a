"""`isthmus contribution`: what each owner's records added to a model, and the check that the split follows from the scores."""

from __future__ import annotations

import json
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from isthmus.cli.deployment import AS_JSON, KEY, STATE, URL, operator
from isthmus.cli.receipt import public_key_text
from isthmus.contracts.contribution import Contribution
from isthmus.contracts.errors import DocumentError, InputError, NotFoundError
from isthmus.contracts.ports import Json
from isthmus.kit.signing import Envelope
from isthmus.sandbox.contribution import checked_contribution

FILE_BYTES_MAX = 64 * 1024 * 1024
PPM = 1_000_000


@click.group()
def contribution() -> None:
    """What owners are paid by: Shapley values of their records, from scores that the exchange signs.

    \b
      isthmus run heart-screening --contribution
      isthmus contribution show RUN --out contribution.json
      isthmus contribution verify contribution.json --public-key KEY
    """


@contribution.command()
@click.argument("run")
@click.option("--out", type=click.Path(path_type=Path), default=None, help="Write the signed document to this file.")
@URL
@KEY
@STATE
@AS_JSON
def show(run: str, out: Path | None, url: str | None, key: str | None, state: Path | None, as_json: bool) -> None:
    """Shows what the owners of RUN added, and the shares that they are paid by.

    Example:  isthmus contribution show run_0123456789abcdef01234567 --out contribution.json
    """
    with operator(url, key, state) as exchange:
        result = exchange.get(f"/v1/runs/{run}").get("result") or {}
        public_key = exchange.get("/v1/exchange")["public_key"]
    told = result.get("contribution")
    if told is None:
        raise NotFoundError(f"the owners of {run} were not scored", "run the scenario with --contribution")
    found = checked_contribution(msgspec.convert(told["envelope"], Envelope), public_key)
    if out is not None:
        out.write_text(json.dumps(told["envelope"]), encoding="utf-8")
    if as_json:
        click.echo(json.dumps(summary(found)))
    else:
        _show(found, Console())


@contribution.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--public-key", required=True, help="The exchange's public key that you trust: 64 hex digits, or a file that holds them.")
@AS_JSON
def verify(file: Path, public_key: str, as_json: bool) -> None:
    """Recomputes the split of FILE from its signed scores, without any exchange; refuses it when they do not agree.

    Example:  isthmus contribution verify contribution.json --public-key 0123...
    """
    found = checked_contribution(_read(file), public_key_text(public_key))
    if as_json:
        click.echo(json.dumps({"holds": True, **summary(found)}))
        return
    _show(found, Console())
    click.echo("the split follows from the signed scores; intervals are the exchange's word")


def _read(file: Path) -> Envelope:
    try:
        if file.stat().st_size > FILE_BYTES_MAX:
            raise InputError(f"{file} has more than {FILE_BYTES_MAX} bytes", "give the file that isthmus contribution show --out wrote")
        return msgspec.json.decode(file.read_bytes(), type=Envelope)
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}", "give the file that isthmus contribution show --out wrote") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DocumentError(f"{file} is no signed document: {error}", "give the file that isthmus contribution show --out wrote") from error


def summary(found: Contribution) -> Json:
    """The document without its coalitions, as one object."""
    fields = ("run", "scenario", "method", "permutations", "seed", "confidence_ppm", "records", "parts", "prior_loss", "by_rows")
    return {
        **{name: getattr(found, name) for name in fields},
        "coalitions": int(found.masks.shape[0]),
        "shares": msgspec.to_builtins(found.shares),
    }


def _show(found: Contribution, console: Console) -> None:
    how = "every coalition" if found.method == "exact" else f"{found.permutations} drawn orders of the owners"
    table = Table(title=f"{escape(found.scenario)}: {how}, {found.records} held-out records in {found.parts} parts", title_justify="left")
    for title in ("owner", "records", "Brier score lowered by", "share", f"{found.confidence_ppm / PPM:.0%} interval"):
        table.add_column(title, justify="left" if title == "owner" else "right")
    for owner, share in zip(found.owners, found.shares, strict=True):
        bound = f" ± {share.error_micros / PPM:.4f}" if found.method == "drawn" else ""
        interval = "–" if share.low_ppm is None or share.high_ppm is None else f"{share.low_ppm / PPM:.1%} to {share.high_ppm / PPM:.1%}"
        value = f"{share.value_micros / PPM:+.4f}{bound}"
        table.add_row(escape(owner.party), f"{owner.records_train:,}", value, f"{share.weight_ppm / PPM:.4%}", interval)
    console.print(table)
    if found.by_rows:
        console.print("no owner lowered the score, so shares are by training records")
