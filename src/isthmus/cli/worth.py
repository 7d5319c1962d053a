"""`isthmus worth`: what a certified model is worth at a site, by its bounds and the site's own costs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table

from isthmus.assurance.worth import worth as reckon
from isthmus.cli.run import Teller
from isthmus.cli.worthsource import Known, Source, source_from_file, source_known
from isthmus.client.http import ExchangeClient
from isthmus.contracts.worth import Worth, WorthLine
from isthmus.kit.config import read_settings
from isthmus.scenarios.local import LocalFleet
from isthmus.scenarios.replicate import open_package
from isthmus.scenarios.sitecosts import KNOWN, example, read_costs


def _of_scenario(scenario: str, site: str | None, certificate: str | None, run: str | None, state: Path | None) -> Source:
    """What the exchange of the state folder knows; it is started for this where it does not run."""
    home = read_settings(state=state).state
    package = open_package(scenario, home)
    with Teller() as tell, LocalFleet(home / "logs") as fleet:
        tell("reading the certificate", 0, 0)
        url, public_key = fleet.start_exchange(home)
        token = (home / "exchange" / "operator.token").read_text(encoding="ascii").strip()
        with ExchangeClient(url, token) as operator:
            return source_known(Known(operator, public_key, package.id, site), certificate, run)


def _options(command: Any) -> Any:
    for name, figure in reversed(KNOWN.items()):
        command = click.option(f"--{name.replace('_', '-')}", name, default=None, help=f"{figure.says[0].upper()}{figure.says[1:]}.")(
            command
        )
    return command


@click.command()
@click.argument("source", required=False)
@click.option("--site", default=None, help="Of a scenario's run: the bounds of this site's model instead of the fleet's.")
@click.option("--certificate", default=None, help="Of a scenario: by this certificate's digest, instead of what serves.")
@click.option("--run", default=None, help="Of a scenario: by this run's id, certified or not, instead of what serves.")
@click.option("--costs", type=click.Path(path_type=Path), default=None, help="A YAML file of the site's own figures.")
@click.option("--public-key", default=None, help="Check the certificate's signature: 64 hex digits, or a file that holds them.")
@click.option("--state", type=click.Path(path_type=Path), default=None, help="State folder of the run; default from ISTHMUS_STATE.")
@click.option("--example", "wants_example", is_flag=True, help="Print a file of figures to fill in, and stop.")
@click.option("--json", "as_json", is_flag=True, help="One object on standard output instead of the table.")
@_options
def worth(
    source: str | None,
    site: str | None,
    certificate: str | None,
    run: str | None,
    costs: Path | None,
    public_key: str | None,
    state: Path | None,
    wants_example: bool,
    as_json: bool,
    **figures: str | None,
) -> None:
    """What a model is worth at a site: escapes avoided, hours, money and a break-even, each with the bound behind it.

    SOURCE is a certificate's file, the JSON object of `isthmus replicate --json`, or a scenario that was run in the state folder: then
    the certificate that serves now counts, and it is said which. All other figures are the site's own; none is assumed. Every result is the
    worst that the bounds allow.

    \b
    Examples:
      isthmus worth --example > costs.yaml
      isthmus worth line-4.certificate.json --costs costs.yaml
      isthmus worth solar-cell-inspection --site line-4 --costs costs.yaml --escape-cost 55
      isthmus worth solar-cell-inspection --certificate sha256:9078685fff2c --costs costs.yaml
    """
    if wants_example:
        click.echo(example(), nl=False)
        return
    if source is None:
        raise click.UsageError("give a certificate's file, or a scenario that was run; --example prints the site's figures to fill in")
    known = read_costs(costs, figures)
    is_file = Path(source).is_file()
    if is_file and (certificate is not None or run is not None):
        raise click.UsageError("--certificate and --run are of a scenario in the state folder, and a file was given")
    found = source_from_file(Path(source), public_key) if is_file else _of_scenario(source, site, certificate, run, state)
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
