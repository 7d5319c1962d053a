"""`isthmus judge`: puts pictures or rows to a deployment, and tells its verdicts."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from isthmus.cli.caller import AS_JSON, KEY, STATE, URL, caller
from isthmus.client.http import ExchangeClient
from isthmus.contracts.certificate import Certificate
from isthmus.contracts.errors import FolderError, InputError, RemoteError, RequestReusedError
from isthmus.contracts.inference import IMAGE, TEXT, VERDICT, VERDICTS
from isthmus.contracts.lot import lot_name
from isthmus.gateway.wire import HEADER_LENGTH, format_request, parse_answer
from isthmus.kit.canonical import parse_canonical
from isthmus.kit.config import read_settings
from isthmus.kit.ids import slug
from isthmus.kit.pictures import FILE_BYTES_MAX, SUFFIXES
from isthmus.kit.signing import Envelope, payload_of
from isthmus.sandbox.rowfiles import RowFiles, rows_named
from isthmus.scenarios.hookrun import action_of, actions, same_scenario
from isthmus.scenarios.workbench import contents_of, lock_given

SHOWN_MAX = 40
"""Verdicts that the table shows; --json has all."""
REFUSED = "refused"
FILES = {IMAGE: ("pictures", SUFFIXES), TEXT: ("texts", frozenset({".txt", ".md"}))}
"""Inputs of which a file is one record: what they are called, and how their names end."""
REFUSES_ONE = (400, 413, 415, 422)
"""Statuses by which one record is refused; others concern all of them."""


@dataclass(frozen=True)
class Asked:
    """What one record got. verdict: or `refused`, then `why` says why. receipt: empty when there is none. action: what the package's
    hook says of it."""

    name: str
    verdict: str
    score: float | None = None
    receipt: str = ""
    charge_micros: int = 0
    why: str = ""
    certificate: str = ""
    action: str = ""


def records_in(paths: tuple[Path, ...], shape: list[int], name: str) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of every record in the files and folders named. shape: of the model's input, as its metadata has it. name: of
    the input. Raises FolderError."""
    steps = shape[1] if name != IMAGE and len(shape) == 3 else 1
    for path in paths:
        if name in FILES:
            yield from _files(path, *FILES[name])
        else:
            yield from _rows(path, steps)


def _files(path: Path, what: str, suffixes: frozenset[str]) -> Iterator[tuple[str, bytes]]:
    """A file, or those in a folder that are of the kind."""
    files = sorted(one for one in path.rglob("*") if one.suffix.lower() in suffixes and one.is_file()) if path.is_dir() else [path]
    if not files:
        raise FolderError(f"{path} holds no {what}", f"give {what}: {', '.join(sorted(suffixes))}")
    for file in files:
        try:
            if file.stat().st_size > FILE_BYTES_MAX:
                raise FolderError(f"{file} has more than the {FILE_BYTES_MAX} bytes allowed", "give a smaller one")
            yield str(file.relative_to(path) if path.is_dir() else file), file.read_bytes()
        except OSError as error:
            raise FolderError(f"{file} cannot be read: {error.strerror}", "check the path and its permissions") from error


def _rows(path: Path, steps: int) -> Iterator[tuple[str, bytes]]:
    """Rows of a CSV file, or the windows of `steps` rows that follow each other; FILE.csv#91-120 names one."""
    named = rows_named(path.name)
    tables = RowFiles(path.parent)
    if named is not None:
        yield path.name, tables.record(*named)
        return
    if path.suffix.lower() != ".csv":
        raise FolderError(f"{path} is no CSV file, and this model judges rows", "give FILE.csv with a header, or FILE.csv#FIRST-LAST")
    count = tables.count(path.name)
    if count < steps:
        raise FolderError(f"{path} has {count} rows, and one record is a window of {steps}", "give a longer file")
    for first in range(1, count - steps + 2, steps):
        yield f"{path.name}#{first}" + (f"-{first + steps - 1}" if steps > 1 else ""), tables.record(path.name, first, first + steps - 1)


class Hook:
    """A package's `action`. Raises PackageError, NotFoundError."""

    def __init__(self, package: str, state: Path) -> None:
        lock = lock_given(package, state)
        self.scenario, self.source = f"{lock.id}@{lock.version}", action_of(contents_of(package, state))

    def told(self, exchange: ExchangeClient, found: list[Asked]) -> list[Asked]:
        """The answers with what to do. Raises InputError when another scenario's certificate answered, PackageError."""
        for digest in {one.certificate for one in found if one.certificate}:
            envelope = msgspec.convert(exchange.get(f"/v1/certificates/{digest}"), Envelope)
            said = msgspec.convert(parse_canonical(payload_of(envelope)), Certificate)
            same_scenario(self.scenario, said.predicate.scenario)
        answered = [one for one in found if one.score is not None]
        texts = iter(actions(self.source, [(one.verdict, one.score) for one in answered if one.score is not None]) if answered else ())
        return [one if one.score is None else replace(one, action=next(texts)) for one in found]


def request_id(deployment: str, lot: str | None, name: str, raw: bytes) -> str | None:
    """Within a lot the same record under the same name is one request, however often it is sent; else each sending is its own."""
    if lot is None:
        return None
    digest = hashlib.sha256(json.dumps([deployment, lot, name, hashlib.sha256(raw).hexdigest()]).encode()).hexdigest()
    return f"lot-{digest[:40]}"


def ask_one(exchange: ExchangeClient, deployment: str, input_name: str, name: str, raw: bytes, lot: str | None) -> Asked:
    """One record; a refusal of this record is told as one. Raises what concerns all records: a key, a balance, a deployment."""
    body, header_bytes = format_request([raw], request_id(deployment, lot, name, raw), name=input_name, lot=lot)
    headers = {"content-type": "application/octet-stream", HEADER_LENGTH: str(header_bytes)}
    try:
        response = exchange.send("POST", f"/v2/models/{deployment}/infer", content=body, headers=headers)
    except RemoteError as error:
        if error.status not in REFUSES_ONE and error.remote_code != RequestReusedError.code:
            raise
        return Asked(name, REFUSED, why=error.message)
    length = response.headers.get(HEADER_LENGTH)
    answer = parse_answer(response.content, None if length is None else int(length))
    said = answer.parameters
    return Asked(
        name,
        str(answer.verdicts[0]),
        float(answer.scores[0]),
        str(said["receipt"]),
        int(said["charge_micros"]),
        certificate=str(said["certificate"]),
    )


@click.command()
@click.argument("name", callback=lambda ctx, param, value: slug(value, "the deployment"))
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--lot", default=None, help="Judge them as this lot: a name, for isthmus lot certify.")
@click.option(
    "--hooks", default=None, metavar="PACKAGE", help="Also say what to do: by the package's hook, run here, in a process of its own."
)
@URL
@KEY
@STATE
@AS_JSON
def judge(
    name: str, paths: tuple[Path, ...], lot: str | None, hooks: str | None, url: str | None, key: str, state: Path | None, as_json: bool
) -> int:
    """Has the deployment NAME judge pictures, texts, or rows of CSV files: verdicts, receipts and what it cost.

    PATHS are pictures or texts, or folders of them; for tables and series, CSV files with a header, or FILE.csv#FIRST-LAST. With --lot
    the same record under the same name is judged and paid once, however often it is sent. With --hooks the package's own function says what
    to do with each answer; it runs as you, so name packages that you trust.

    \b
    Examples:
      isthmus judge bottle-caps photos/new --key packing-hall.key
      isthmus judge produce-grading pallet-7.csv --lot pallet-7 --key orchard.key

    Exit code 1: a record was refused.
    """
    if lot is not None:
        lot_name(lot)
    if missing := [str(path) for path in paths if not path.exists() and rows_named(path.name) is None]:
        raise InputError(f"there is no {missing[0]}", "check the path")
    hook = None if hooks is None else Hook(hooks, read_settings(state=state).state)
    with caller(url, key, state) as exchange:
        model = exchange.get(f"/v2/models/{name}")
        if VERDICT not in {output["name"] for output in model["outputs"]}:
            raise InputError(f"{name} foretells numbers, and judge tells verdicts", "use the Open Inference Protocol, or isthmus warn")
        told = model["inputs"][0]
        found = [ask_one(exchange, name, told["name"], one, raw, lot) for one, raw in records_in(paths, told["shape"], told["name"])]
        if hook is not None:
            found = hook.told(exchange, found)
    counts = Counter(one.verdict for one in found)
    if as_json:
        records = [{field: getattr(one, field) for field in Asked.__dataclass_fields__} for one in found]
        click.echo(json.dumps({"deployment": name, "lot": lot, "counts": dict(counts), "records": records}))
    else:
        _show(name, lot, found, counts)
    return 1 if counts[REFUSED] else 0


def _show(name: str, lot: str | None, found: list[Asked], counts: Counter[str]) -> None:
    console = Console()
    title = f"{escape(name)}{'' if lot is None else f', lot {escape(lot)}'}"
    table = Table(title=title, title_justify="left")
    acted = any(one.action for one in found)
    for column in ("record", "verdict", "score", *(("do",) if acted else ()), "receipt"):
        table.add_column(column, justify="right" if column == "score" else "left", overflow="fold")
    for one in found[:SHOWN_MAX]:
        score = "–" if one.score is None else f"{one.score:+.3f}"
        do = (escape(one.action),) if acted else ()
        table.add_row(escape(one.name), one.verdict, score, *do, one.receipt if not one.why else escape(one.why))
    console.print(table)
    if len(found) > SHOWN_MAX:
        console.print(f"the first {SHOWN_MAX} of {len(found)}; --json shows all")
    said = ", ".join(f"{counts[verdict]} {verdict}" for verdict in (*VERDICTS, REFUSED) if counts[verdict] or verdict != REFUSED)
    Console(soft_wrap=True).print(f"{len(found)} judged: {said}; {sum(one.charge_micros for one in found) / 1e6:g} charged")
