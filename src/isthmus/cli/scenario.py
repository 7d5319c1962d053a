"""`isthmus scenario`: packages begun, checked, compared, packed and installed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from isthmus.assurance.probes import probed
from isthmus.cli.certificate import public_key_from
from isthmus.cli.learn import learn
from isthmus.cli.sitevalues import merge_json, show_merge, write_values
from isthmus.contracts.errors import InputError, StorageError
from isthmus.contracts.package import Finding
from isthmus.contracts.scenario import Recipe, Scenario, Trees
from isthmus.contracts.statistic import condition_name
from isthmus.foundry.engine import Scorer
from isthmus.kit.clock import SystemClock
from isthmus.kit.config import read_settings
from isthmus.kit.signing import SigningKey
from isthmus.scenarios.archive import SUFFIX
from isthmus.scenarios.contents import HOOKS, PROBES_FILE, Contents
from isthmus.scenarios.located import dotted
from isthmus.scenarios.lock import lock_of
from isthmus.scenarios.package import scenario_of, site_values
from isthmus.scenarios.packagediff import Change, PackageDiff, package_diff, told_elsewhere
from isthmus.scenarios.publisher import checked_publisher, publisher_key, signature_file, signed, write_signature
from isthmus.scenarios.validation import knobs_of, validate
from isthmus.scenarios.valuemerge import package_merge
from isthmus.scenarios.values import Knob, at_path
from isthmus.scenarios.workbench import begin, contents_of, digest_of_contents, install_given, listed, lock_given, pack, probe_cases, relock

JSON_HELP = "One JSON object instead of a table."
STATE_HELP = "State folder that packages are installed in; default from ISTHMUS_STATE."
FOLDER = click.Path(path_type=Path)


@click.group()
def scenario() -> None:
    """Scenario packages: one folder, checked, locked, packed, and installed at the next site.

    \b
    From nothing to another site:
      isthmus scenario init bottle-caps --from photos
      isthmus scenario validate bottle-caps
      isthmus scenario package bottle-caps
      isthmus scenario install bottle-caps-0.1.0.isthmus.zip
      isthmus run bottle-caps --data OWNER-1 --data OWNER-2 --data OWNER-3
    """


scenario.add_command(learn)


def say(document: Mapping[str, Any]) -> None:
    """One JSON object on standard output."""
    click.echo(json.dumps(document, ensure_ascii=False))


@scenario.command()
@click.argument("name")
@click.option("--from", "source", type=FOLDER, help="A folder of images or texts by class, or with records.csv: what it has is read.")
@click.option("--title", default="", help="What it inspects, in a few words; default from the name.")
@click.option("--into", type=FOLDER, default=None, help="Folder to write the package into; default a folder NAME here.")
@click.option("--json", "as_json", is_flag=True, help=JSON_HELP)
def init(name: str, source: Path | None, title: str, into: Path | None, as_json: bool) -> None:
    """Begins a package NAME from the template for images, for rows of tables, or for texts. It validates as it is.

    No image, row or text is copied. NAME has lower-case letters, digits and hyphens.

    \b
    Examples:
      isthmus scenario init bottle-caps
      isthmus scenario init bottle-caps --from photos --title "Caps of half-litre bottles"
      isthmus scenario init pump-check --from pumps    (pumps/records.csv)
    """
    folder = into or Path(name)
    lock = begin(folder, name, title, source)
    if as_json:
        say({"folder": str(folder), "id": lock.id, "version": lock.version, "digest": lock.digest, "files": [f.path for f in lock.files]})
        return
    console = Console()
    console.print(f"{escape(str(folder))} holds the package {escape(lock.id)} {lock.version}: {', '.join(f.path for f in lock.files)}")
    console.print(f"next: say both uses in your words, then isthmus scenario lock {escape(str(folder))}")


@scenario.command("validate")
@click.argument("folder", type=FOLDER)
@click.option("--write-lock", is_flag=True, help="Write scenario.lock anew first, if there is no other error.")
@click.option("--json", "as_json", is_flag=True, help=JSON_HELP)
def validate_command(folder: Path, write_lock: bool, as_json: bool) -> int:
    """Finds every fault of the package in FOLDER, with file, line and what to do.

    Exit code 0: no error. 1: at least one. Warnings do not count.

    \b
    Examples:
      isthmus scenario validate bottle-caps
      isthmus scenario validate bottle-caps --write-lock --json
    """
    found = validate(folder)
    if write_lock and not any(one.level == "error" and "lock" not in one.code for one in found):
        relock(folder)
        found = validate(folder)
    found = tuple(msgspec.structs.replace(one, next=one.next.replace("FOLDER", str(folder))) for one in found)
    errors = sum(one.level == "error" for one in found)
    if as_json:
        counts = {"errors": errors, "warnings": len(found) - errors}
        say({"folder": str(folder), **counts, "findings": msgspec.to_builtins(found)})
    else:
        _show_findings(folder, found, errors)
    return 1 if errors else 0


def counted(count: int, noun: str) -> str:
    """`1 error`, `2 errors`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _show_findings(folder: Path, found: tuple[Finding, ...], errors: int) -> None:
    console = Console()
    if not found:
        console.print(f"{escape(str(folder))}: no fault found")
        return
    table = Table(
        title=f"{escape(str(folder))}: {counted(errors, 'error')}, {counted(len(found) - errors, 'warning')}", title_justify="left"
    )
    for name in ("where", "", "what", "next"):
        table.add_column(name, overflow="fold")
    for one in found:
        mark = "[bold red]error[/]" if one.level == "error" else "[yellow]warning[/]"
        table.add_row(escape(one.place), f"{mark} {one.code}", escape(one.what), escape(one.next))
    console.print(table)


@scenario.command("lock")
@click.argument("folder", type=FOLDER)
@click.option("--json", "as_json", is_flag=True, help=JSON_HELP)
def lock_command(folder: Path, as_json: bool) -> None:
    """Writes scenario.lock of FOLDER anew: the sha256 of every file, and the package's digest. Refused while there are errors.

    Example:  isthmus scenario lock bottle-caps
    """
    lock, new = relock(folder)
    if as_json:
        say({**msgspec.to_builtins(lock), "written": new})
        return
    Console().print(f"{escape(lock.id)} {lock.version} {lock.digest} ({len(lock.files)} files; {'written' if new else 'as it was'})")


@scenario.command()
@click.argument("package", metavar="PACKAGE")
@click.option("--values", type=FOLDER, default=None, help="Show it with these site values, a YAML file.")
@click.option("--state", type=FOLDER, default=None, help=STATE_HELP)
@click.option("--json", "as_json", is_flag=True, help=JSON_HELP)
def show(package: str, values: Path | None, state: Path | None, as_json: bool) -> None:
    """Says what PACKAGE is for, what it promises, what a site may set, and what it consists of.

    PACKAGE is a name, NAME@VERSION, a folder, or an archive.

    \b
    Examples:
      isthmus scenario show solar-cell-inspection
      isthmus scenario show bottle-caps-0.1.0.isthmus.zip --values line-4.yaml
    """
    contents = contents_of(package, read_settings(state=state).state)
    found, digest, knobs = scenario_of(contents, values), digest_of_contents(contents), knobs_of(contents)[1]
    if as_json:
        say(shown(contents, found, digest, knobs, site_values(contents, values)))
    else:
        _show_package(contents, found, digest, knobs)


def plain(found: Scenario) -> dict[str, Any]:
    """The manifest as JSON has it, lists as lists."""
    document: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(found))
    return document


def shown(contents: Contents, found: Scenario, digest: str, knobs: tuple[Knob, ...], given: Mapping[str, Any]) -> dict[str, Any]:
    """The one JSON object of `show`."""
    manifest = plain(found)
    listed_knobs = [
        {
            "name": knob.name,
            "title": knob.title,
            "x-path": dotted(knob.path),
            "default": knob.default,
            "value": at_path(manifest, knob.path),
            "limits": dict(knob.limits),
        }
        for knob in knobs
    ]
    files = msgspec.to_builtins(lock_of(contents, found.id, found.version).files)
    return {"digest": digest, "scenario": manifest, "values": dict(given), "knobs": listed_knobs, "files": files}


def _show_package(contents: Contents, found: Scenario, digest: str, knobs: tuple[Knob, ...]) -> None:
    console = Console()
    table = Table("", "", show_header=False, box=None, pad_edge=False)
    for column in table.columns:
        column.overflow = "fold"
    promises = ", ".join(f"{ppm / 10_000:g} %" for ppm in found.certify.promises_ppm)
    for name, value in (
        ("scenario", f"{found.id} {found.version}: {found.title}"),
        ("digest", digest),
        ("intended use", found.intended_use),
        ("prohibited use", found.prohibited_use),
        ("tier, task", f"{found.tier}, {found.task}: {' or '.join(found.interface.classes)}"),
        ("model", f"{found.recipe.backbone}; {', '.join(found.recipe.parts)}"),
        ("head", _head_words(found.recipe)),
        ("learns from", _rows_of(found)),
        ("promises tried", f"at most {promises} error among answers, at {found.certify.confidence_ppm / 10_000:g} % confidence"),
        ("certificate lasts", f"{found.certify.validity_days} days"),
        ("price", f"{found.serve.micros_per_inference} micro-{found.serve.currency} an inference"),
        ("code", f"{HOOKS}, which never runs beside data" if HOOKS in contents else "none"),
        ("files", f"{len(contents)}, {sum(map(len, contents.values()))} bytes"),
    ):
        table.add_row(name, escape(value))
    console.print(table)
    manifest = plain(found)
    what = Table(title="What a site may set" if knobs else "A site may set nothing", title_justify="left")
    for name in ("knob", "value", "limits", "sets"):
        what.add_column(name, overflow="fold")
    for knob in knobs:
        what.add_row(f"{escape(knob.name)}\n[dim]{escape(knob.title)}[/]", *map(escape, _knob_cells(knob, at_path(manifest, knob.path))))
    console.print(what)


def _head_words(recipe: Recipe) -> str:
    if recipe.head != "trees":
        return f"{recipe.head}, {len(recipe.lambdas)} {'shrinkages' if recipe.head == 'gaussian' else 'penalties'} tried"
    grown = recipe.trees or Trees()
    asked = f"{grown.cuts} cuts on each of {grown.features} features a tree, drawn anew for each"
    kept = f"one group in {grown.aside} set aside to choose how many are kept"
    begun = "going on from the ridge head, " if grown.start == "ridge" else ""
    return f"boosted trees: {begun}up to {grown.trees} of {grown.depth} levels, rate {grown.rate:g}; {asked}; {kept}"


def _rows_of(found: Scenario) -> str:
    """How a record enters the training sums."""
    training = found.recipe.training
    rows = [*training.views, *(condition_name(one) for one in training.augmentations)]
    rows += ["drawn defects on good ones"] if training.drawn_weight else []
    return f"{len(rows)} row{'s' if len(rows) > 1 else ''} of each record: {', '.join(rows)}"


def _knob_cells(knob: Knob, value: Any) -> tuple[str, str, str]:
    limits = ", ".join(f"{word} {json.dumps(limit)}" for word, limit in knob.limits.items() if word != "type")
    mark = "" if value == knob.default else f" (default {json.dumps(knob.default)})"
    return json.dumps(value) + mark, f"{knob.limits['type']}{', ' if limits else ''}{limits}", dotted(knob.path)


@scenario.command()
@click.argument("package", metavar="PACKAGE")
@click.option("--artefact", required=True, type=FOLDER, help="The model file, as GET /v1/models/DIGEST/artefact sends it.")
@click.option("--state", type=FOLDER, default=None, help=STATE_HELP)
@click.option("--json", "as_json", is_flag=True, help=JSON_HELP)
def probe(package: str, artefact: Path, state: Path | None, as_json: bool) -> int:
    """Puts the cases in PACKAGE's probes to a model file, here and without an exchange.

    `good` and `defect` must be the model's very verdict; `refused` must be left to a person, or be no image that is taken. A run does the
    same with what it has certified, and deploys no model that fails a case.

    Exit code 0: every case holds. 1: one does not.

    Example:  isthmus scenario probe bottle-caps --artefact bottle-caps.onnx
    """
    contents = contents_of(package, read_settings(state=state).state)
    cases = probe_cases(contents)
    if not cases:
        raise InputError(f"{package} has no probes", f"list some in {PROBES_FILE}: file, expect, why")
    try:
        raw = artefact.read_bytes()
    except OSError as error:
        raise InputError(f"{artefact} cannot be read: {error.strerror}", "check the path and its permissions") from error
    found = probed(cases, Scorer(raw).judged, scenario_of(contents, where=package).interface.schema)
    failing = sum(not one.holds for one in found)
    if as_json:
        say({"cases": [{**asdict(one), "holds": one.holds} for one in found], "failing": failing})
        return 1 if failing else 0
    table = Table(title=f"{counted(len(found), 'probe')}, {failing} failing", title_justify="left")
    for name in ("case", "must be", "is", "", "why"):
        table.add_column(name, overflow="fold")
    for one in found:
        mark = "[green]holds[/]" if one.holds else "[bold red]fails[/]"
        table.add_row(escape(one.file), one.expect, one.found, mark, escape(one.why))
    Console().print(table)
    return 1 if failing else 0


@scenario.command()
@click.argument("before", metavar="BEFORE")
@click.argument("after", metavar="AFTER")
@click.option("--values", type=FOLDER, default=None, help="A site's values for BEFORE: also say what becomes of each under AFTER.")
@click.option("--out", type=FOLDER, default=None, help="Write the values for AFTER to this file; refused while one is in conflict.")
@click.option("--state", type=FOLDER, default=None, help=STATE_HELP)
@click.option("--json", "as_json", is_flag=True, help=JSON_HELP)
def diff(before: str, after: str, values: Path | None, out: Path | None, state: Path | None, as_json: bool) -> int:
    """Says what differs between two packages, and whether a certificate of BEFORE still says what AFTER is.

    Each is a name, NAME@VERSION, a folder, or an archive. A price or a README needs no new certificate; a recipe, a bar or a use does.

    With --values it carries a site's values over: a renamed knob keeps its value, what the site had left at the old default follows the
    new one, and what no longer fits is a conflict (exit code 1), never silently changed.

    \b
    Examples:
      isthmus scenario diff bottle-caps-0.1.0.isthmus.zip bottle-caps
      isthmus scenario diff bottle-caps@0.1.0 bottle-caps@0.2.0 --values line-4.yaml --out line-4-new.yaml
    """
    if out is not None and values is None:
        raise click.UsageError("--out goes with --values")
    home = read_settings(state=state).state
    packages = contents_of(before, home), contents_of(after, home)
    found = package_diff(*packages)
    merge = None
    if values is not None:
        scenario_of(packages[0], values, before)
        merge = package_merge(packages[0], site_values(packages[0], values), packages[1])
    if as_json:
        changes = [{name: getattr(change, name) for name in change.__dataclass_fields__} for change in found.changes]
        says = {"before": found.names[0], "after": found.names[1], "needs_new_certificate": found.certificate}
        carried = {} if merge is None else {"merge": merge_json(merge)}
        say({**says, "same_version_other_content": found.clash, "changes": changes, **carried})
    else:
        _show_diff(found)
        if merge is not None:
            show_merge(merge)
    if merge is not None and out is not None and not merge.conflicts:
        write_values(merge, out)
    return 1 if merge is not None and merge.conflicts else 0


def _show_diff(found: PackageDiff) -> None:
    console = Console()
    changes = [change for change in found.changes if not told_elsewhere(change)]
    if not found.changes:
        console.print(f"no difference: {escape(found.names[0])}")
        return
    table = Table(title=f"{escape(found.names[0])}\n{escape(found.names[1])}", title_justify="left")
    for name in ("what", "before", "after", "certificate"):
        table.add_column(name, overflow="fold")
    for change in changes:
        mark = "[bold]needs a new one[/]" if change.certificate else "stands"
        table.add_row(f"{change.part} {escape(change.where)}", *(escape(_cell(change, v)) for v in (change.before, change.after)), mark)
    if changes:
        console.print(table)
    else:
        console.print("the files differ, and say the same")
    console.print("needs a new certificate" if found.certificate else "does not need a new certificate")
    if found.clash:
        console.print("both have one name and version: give the second another version")


def _cell(change: Change, value: Any) -> str:
    if value is None:
        return "–"
    return str(value)[:12] if change.part == "file" else json.dumps(value, ensure_ascii=False)


@scenario.command()
@click.argument("folder", type=FOLDER)
@click.option("--into", type=FOLDER, default=Path(), help="Folder to write the archive into; default here.")
@click.option("--sign", "key_file", type=FOLDER, default=None, help="Sign it with the key in this file; see isthmus scenario key.")
@click.option("--publisher", default="", help="With --sign: how you call yourself.")
@click.option("--json", "as_json", is_flag=True, help=JSON_HELP)
def package(folder: Path, into: Path, key_file: Path | None, publisher: str, as_json: bool) -> None:
    """Packs FOLDER into one file, NAME-VERSION.isthmus.zip. The same files give the same bytes, on any machine.

    Refused while there are errors or the lock is not current. With --sign a file *.isthmus.zip.sig.json is written beside it, which says
    that the holder of the key vouches for just this content.

    \b
    Examples:
      isthmus scenario package bottle-caps --into dist
      isthmus scenario package bottle-caps --sign publisher.key --publisher "Plastics Ltd"
    """
    key = None if key_file is None else publisher_key(key_file)
    target, lock = pack(folder, into)
    size, signature = target.stat().st_size, signature_file(target)
    if key is not None:
        write_signature(signature, signed(lock, key, publisher, SystemClock().now_s()))
    if as_json:
        made = {"archive": str(target), "bytes": size, "id": lock.id, "version": lock.version, "digest": lock.digest}
        say({**made, **({} if key is None else {"signature": str(signature), "public_key": key.public_hex})})
        return
    console = Console(soft_wrap=True)
    console.print(f"{escape(str(target))} ({size} bytes)\n{lock.digest}")
    if key is not None:
        console.print(f"{escape(str(signature))}, signed by key {key.key_id}")


@scenario.command("key")
@click.argument("file", type=FOLDER)
def key_command(file: Path) -> None:
    """Makes a publisher's key in FILE, for you only, and writes its public key to FILE.pub. One that stands there is kept.

    Give the public key to those who install your packages, by another way than the packages.

    Example:  isthmus scenario key publisher.key
    """
    key = SigningKey.load_or_create(file)
    public = file.with_name(file.name + ".pub")
    try:
        public.write_text(key.public_hex + "\n", encoding="ascii")
    except OSError as error:
        raise StorageError(f"{public} cannot be written: {error.strerror}", "check the folder and the disk") from error
    click.echo(f"{file}: key {key.key_id}, public key {key.public_hex} in {public}")


@scenario.command()
@click.argument("package", metavar="PACKAGE")
@click.option("--publisher", default=None, help="Install only what this public key signed: 64 hex digits, or a file.")
@click.option("--signature", type=FOLDER, default=None, help="The signature's file; default the one beside the archive.")
@click.option("--state", type=FOLDER, default=None, help=STATE_HELP)
@click.option("--json", "as_json", is_flag=True, help=JSON_HELP)
def install(package: str, publisher: str | None, signature: Path | None, state: Path | None, as_json: bool) -> None:
    """Installs PACKAGE, an archive or a folder, so that `isthmus run` finds it by name. Twice is as once.

    Refused: errors, a lock that is not current, and other content under a name and version that stand. With --publisher also what is not
    signed by that key. A package without a signature is taken otherwise, and it is said.

    \b
    Examples:
      isthmus scenario install bottle-caps-0.1.0.isthmus.zip
      isthmus scenario install bottle-caps-0.1.0.isthmus.zip --publisher plastics.pub
    """
    home = read_settings(state=state).state
    trusted = None if publisher is None else public_key_from(publisher)
    said, sentence = checked_publisher(Path(package), lock_given(package, home), signature, trusted)
    lock, folder, new = install_given(package, home)
    if as_json:
        who = {"signed": said is not None, "checked": trusted is not None, "publisher": said.publisher if said else ""}
        say({"id": lock.id, "version": lock.version, "digest": lock.digest, "folder": str(folder), "new": new, **who})
        return
    console = Console(soft_wrap=True)
    console.print(escape(sentence))
    console.print(f"{escape(lock.id)} {lock.version} {'is installed' if new else 'was installed already'} in {escape(str(folder))}")
    console.print(f"next: isthmus scenario show {escape(lock.id)}")


@scenario.command("list")
@click.option("--state", type=FOLDER, default=None, help=STATE_HELP)
@click.option("--json", "as_json", is_flag=True, help=JSON_HELP)
def list_command(state: Path | None, as_json: bool) -> None:
    """Lists every package that a name finds: installed, brought by Python distributions, shipped. The first of a name is the one found.

    Example:  isthmus scenario list --json
    """
    rows = [
        {
            "name": one.name,
            "version": found.version if found is not None else one.version,
            "title": found.title if found is not None else "",
            "where": one.where,
            "folder": str(one.folder),
            "wrong": wrong,
        }
        for one, found, wrong in listed(read_settings(state=state).state)
    ]
    if as_json:
        say({"packages": rows})
        return
    table = Table(title=counted(len(rows), "package"), title_justify="left")
    for name in ("name", "version", "where", "title"):
        table.add_column(name, overflow="fold")
    for row in rows:
        note = f"[bold red]{escape(row['wrong'])}[/]" if row["wrong"] else escape(row["title"])
        table.add_row(escape(row["name"]), escape(row["version"]), row["where"], note)
    Console().print(table)
    if not any(row["where"] == "installed" for row in rows):
        Console(soft_wrap=True).print(f"next: isthmus scenario install NAME-VERSION{SUFFIX}")
