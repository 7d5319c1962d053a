"""`isthmus worth`: what a certified model is worth at a site, by its bounds and the site's own costs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table

from isthmus.assurance.certificate import envelope_from
from isthmus.assurance.worth import worth as reckon
from isthmus.cli.certificate import public_key_from
from isthmus.cli.run import Teller
from isthmus.client.http import ExchangeClient
from isthmus.contracts.build import RunView
from isthmus.contracts.certificate import PAYLOAD_TYPE, Certificate, Claims
from isthmus.contracts.errors import DocumentError, InputError, NotFoundError
from isthmus.contracts.worth import Worth, WorthLine
from isthmus.kit.canonical import parse_canonical
from isthmus.kit.config import read_settings
from isthmus.kit.signing import key_id, payload_of, unseal
from isthmus.scenarios.local import LocalFleet
from isthmus.scenarios.replicate import open_package
from isthmus.scenarios.sitecosts import KNOWN, example, read_costs

FILE_BYTES_MAX = 1 << 24
"""A certificate's file, or the JSON object of a run; a larger one is refused before it is read."""


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Where the bounds come from. certified: whether a certificate stands behind them. checked: whether its signature was checked. notes:
    sentences that belong to the bounds."""

    what: str
    certified: bool
    checked: bool
    claims: Claims
    notes: tuple[str, ...] = ()


def source_from_file(path: Path, public_key: str | None) -> Source:
    """A certificate's envelope, or the object that `isthmus replicate --json` printed. Raises DocumentError, SignatureError."""
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise InputError(f"{path} has more than {FILE_BYTES_MAX} bytes", "give a certificate, or the JSON object of a run")
        raw = path.read_bytes()
        told = msgspec.json.decode(raw)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", "check the path and its permissions") from error
    except msgspec.DecodeError as error:
        raise DocumentError(f"{path} is not JSON", "give a certificate, or the JSON object of a run") from error
    try:
        if isinstance(told, dict) and isinstance(told.get("claims"), dict):
            return Source(
                what=f"the run in {path.name}", certified=bool(told.get("certificate")), checked=False, claims=_claims(told["claims"])
            )
        if not isinstance(told, dict) or "payload" not in told:
            raise DocumentError(
                f"{path} holds neither a certificate nor claims", "give a certificate's file, or what isthmus replicate --json printed"
            )
        envelope = envelope_from(raw)
        if public_key is None:
            document = parse_canonical(payload_of(envelope))
        else:
            public = public_key_from(public_key)
            document = unseal(envelope, PAYLOAD_TYPE, {key_id(public): public})
        found = msgspec.convert(document, Certificate)
    except msgspec.ValidationError as error:
        raise DocumentError(f"{path} holds no claims that can be read: {error}", "give a certificate of this release") from error
    said = found.predicate
    return Source(
        what=f"{said.scenario} at {said.site}", certified=True, checked=public_key is not None, claims=said.claims, notes=said.notes
    )


def _claims(document: Any) -> Claims:
    return msgspec.convert(document, Claims)


def source_from_run(scenario: str, site: str | None, state: Path) -> Source:
    """The latest certified run of a scenario in the state folder; with `site`, the latest run there that measured. Raises NotFoundError."""
    package = open_package(scenario, state)
    with Teller() as tell, LocalFleet(state / "logs") as fleet:
        tell("reading the run", 0, 0)
        url, _ = fleet.start_exchange(state)
        token = (state / "exchange" / "operator.token").read_text(encoding="ascii").strip()
        with ExchangeClient(url, token) as operator:
            views = [msgspec.convert(raw, RunView) for raw in operator.get("/v1/runs")]
            wanted = ("certified",) if site is None else ("certified", "refused")
            for listed in (view for view in views if view.scenario == package.id and view.state in wanted):
                view = msgspec.convert(operator.get(f"/v1/runs/{listed.id}"), RunView)
                result = view.result or {}
                if result.get("site") == site and result.get("claims"):
                    what = f"{package.id}{f' at {site}' if site else ''}, run {view.id}"
                    certified, notes = view.state == "certified", tuple(result.get("notes") or ())
                    return Source(what=what, certified=certified, checked=True, claims=_claims(result["claims"]), notes=notes)
    said = f"no run at {site}" if site else "no certified run"
    first = f"isthmus replicate {scenario} --site {site} --samples DIR" if site else f"isthmus run {scenario}"
    raise NotFoundError(f"there is {said} of {package.id} in {state}", f"first: {first}")


def _options(command: Any) -> Any:
    for name, figure in reversed(KNOWN.items()):
        command = click.option(f"--{name.replace('_', '-')}", name, default=None, help=f"{figure.says[0].upper()}{figure.says[1:]}.")(
            command
        )
    return command


@click.command()
@click.argument("source", required=False)
@click.option("--site", default=None, help="Of a scenario's run: the bounds of this site's model instead of the fleet's.")
@click.option("--costs", type=click.Path(path_type=Path), default=None, help="A YAML file of the site's own figures.")
@click.option("--public-key", default=None, help="Check the certificate's signature: 64 hex digits, or a file that holds them.")
@click.option("--state", type=click.Path(path_type=Path), default=None, help="State folder of the run; default from ISTHMUS_STATE.")
@click.option("--example", "wants_example", is_flag=True, help="Print a file of figures to fill in, and stop.")
@click.option("--json", "as_json", is_flag=True, help="One object on standard output instead of the table.")
@_options
def worth(
    source: str | None,
    site: str | None,
    costs: Path | None,
    public_key: str | None,
    state: Path | None,
    wants_example: bool,
    as_json: bool,
    **figures: str | None,
) -> None:
    """What a model is worth at a site: escapes avoided, hours, money and a break-even, each with the bound behind it.

    SOURCE is a certificate's file, the JSON object of `isthmus replicate --json`, or a scenario that was run in the state folder. All
    other figures are the site's own; none is assumed. Every result is the worst that the bounds allow.

    \b
    Examples:
      isthmus worth --example > costs.yaml
      isthmus worth line-4.certificate.json --costs costs.yaml
      isthmus worth solar-cell-inspection --site line-4 --costs costs.yaml --escape-cost 55
    """
    if wants_example:
        click.echo(example(), nl=False)
        return
    if source is None:
        raise click.UsageError("give a certificate's file, or a scenario that was run; --example prints the site's figures to fill in")
    known = read_costs(costs, figures)
    is_file = Path(source).is_file()
    found = source_from_file(Path(source), public_key) if is_file else source_from_run(source, site, read_settings(state=state).state)
    result = reckon(found.claims, known)
    if as_json:
        heading = {"source": found.what, "certified": found.certified, "signature_checked": found.checked}
        body = msgspec.to_builtins(msgspec.structs.replace(result, notes=(*found.notes, *result.notes)))
        click.echo(json.dumps({**heading, **body}, ensure_ascii=False))
    else:
        show(found, result)


def show(source: Source, result: Worth) -> None:
    """A line a figure: its value, which side of it the truth lies on, whose it is."""
    console = Console(highlight=False)
    console.print(f"Worth of {source.what}" + ("" if source.certified else " (not certified: nothing serves under these bounds)"))
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("", "", "figure", "rests on"):
        table.add_column(name, justify="right" if name == "figure" else "left", overflow="fold")
    for line in result.lines:
        rests = f"bounds: {', '.join(line.rests_on)}" if line.rests_on else "the site's own figures"
        side = "" if line.side == "site" else line.side
        table.add_row(line.name, side, written(line, result.currency), rests if line.value is not None else line.why)
    console.print(table)
    bounds = " · ".join(f"{name} {ppm / 10_000:.4g} %" for name, ppm in result.bounds.items())
    each, together = result.confidence_ppm / 10_000, result.together_ppm / 10_000
    console.print(f"Bounds of the certificate: {bounds}; each with {each:g} % confidence, all at once with at least {together:g} %.")
    for note in (
        source.notes + result.notes + (() if source.checked else ("the certificate's signature was not checked; --public-key does that",))
    ):
        console.print(f"Note: {note}.")


def written(line: WorthLine, currency: str) -> str:
    """A figure with its unit, for people."""
    if line.value is None:
        return "none"
    if line.unit == "parts/1000 a day":
        return f"{line.value / 1000:,.1f} a day"
    if line.unit == "seconds a day":
        return f"{line.value / 3600:,.1f} h a day"
    if line.unit.startswith("micros"):
        places = 2 if line.unit == "micros a day" else 4
        return f"{line.value / 1e6:,.{places}f} {currency}{line.unit.removeprefix('micros')}"
    return f"{line.value:,} {line.unit}"
