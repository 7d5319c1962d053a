"""`isthmus export`: a certified model, its certificate and a small runner, for a machine that judges offline."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console

from isthmus.app.catalogue import write_whole
from isthmus.assurance.certificate import check, envelope_from
from isthmus.client.address import standing
from isthmus.client.http import ExchangeClient
from isthmus.contracts.deployment import Deployment
from isthmus.contracts.edge import ALLOWANCE_MAX, EdgeBox
from isthmus.contracts.errors import InputError, NotFoundError
from isthmus.contracts.head import Head
from isthmus.contracts.life import DeploymentView
from isthmus.foundry.features import INTEGERS
from isthmus.kit.canonical import canonical_bytes
from isthmus.kit.clock import SystemClock
from isthmus.kit.config import read_settings
from isthmus.kit.signing import key_id
from isthmus.scenarios.local import LocalFleet

RUNNER = Path(__file__).parent / "edge"
RUNNER_FILES = ("runner.py", "journal.py", "certificate.py", "pictures.py", "records.py", "spool.py", "mqtt.py", "opcua.py")
FORMAT = "isthmus-edge/1"
OTHER_TARGETS = "other execution providers are declared, untested: the certificate stands for CPUExecutionProvider"
DIGEST_CHARS_MIN = 12


@contextlib.contextmanager
def operator_of(state: Path, url: str | None, key: str | None) -> Iterator[ExchangeClient]:
    """A client with the operator's key: of the exchange at url, or of one over the state folder, started here and stopped at the end.

    Raises NotFoundError when there is no exchange in the folder, ExchangeStateError when it does not start.
    """
    token_file = state / "exchange" / "operator.token"
    if key is None and not token_file.is_file():
        raise NotFoundError(f"there is no exchange in {state}", "first: isthmus run SCENARIO; or name its --state")
    token = key or token_file.read_text(encoding="ascii").strip()
    if url is not None:
        with ExchangeClient(url, token) as operator:
            yield operator
        return
    with LocalFleet(state / "logs") as fleet:
        found, _ = fleet.start_exchange(state)
        with ExchangeClient(found, token) as operator:
            yield operator


def deployment_of(listed: list[dict[str, Any]], name: str) -> Deployment:
    """The version that serves under this name, or any whose artefact's digest begins so (at least DIGEST_CHARS_MIN digits).

    Raises NotFoundError; InputError for one that the runner cannot serve.
    """
    found = _named(msgspec.convert(listed, list[DeploymentView]), name)
    if found.targets or (found.schema is not None and found.schema.written):
        what = "gives numbers" if found.targets else "judges texts"
        raise InputError(f"{found.name} {what}, and the runner takes pictures, rows and windows to verdicts", "ask the exchange for these")
    return found


def _named(listed: list[DeploymentView], name: str) -> Deployment:
    serving = [one.version.deployment for view in listed for one in view.versions if one.version.number == view.current]
    known = [*(one.version.deployment for view in listed for one in view.versions), *serving]
    digits = name.removeprefix("sha256:")
    for found in reversed(known):
        digest = found.artefact_digest.removeprefix("sha256:")
        if (found.name == name and found in serving) or (len(digits) >= DIGEST_CHARS_MIN and digest.startswith(digits)):
            return found
    names = ", ".join(sorted({found.name for found in known})) or "none"
    raise NotFoundError(f"{name!r} is no deployment here; there is {names}", "name one of them, or an artefact's digest")


def checked_folder(folder: Path) -> Path:
    """A folder that may be written: not there yet, or empty. Raises InputError."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is not an empty folder", "give a new folder: a box has its own journal and key")
    return folder


def target_of(head: Head) -> str:
    """What the model was certified for: cpu-int8 where its backbone computes in integers, else cpu-fp32."""
    return "cpu-int8" if head.stage.backbone.endswith(INTEGERS) else "cpu-fp32"


def write_box(folder: Path, box: EdgeBox, artefact: bytes, url: str, target: str = "cpu-fp32", head: Head | None = None) -> None:
    """Writes the box, after it was checked as any holder would check it. head: the certified one, which names the columns of records; none
    for pictures. Raises CertificateError, StorageError."""
    envelope = envelope_from(msgspec.json.encode(box.certificate))
    trusted = {key_id(box.public_key): box.public_key}
    said = check(envelope, artefact, trusted, box.tier, SystemClock().now_s(), frozenset(), box.decoder).predicate
    document = {
        "format": FORMAT,
        "target": target,
        "other_targets": OTHER_TARGETS,
        "scenario": said.scenario,
        "valid_until_s": said.not_after_s,
        "url": url,
        **{name: getattr(box, name) for name in EdgeBox.__struct_fields__ if name not in ("certificate", "key", "public_key")},
    }
    for name in RUNNER_FILES:
        write_whole(folder / name, (RUNNER / name).read_bytes())
    write_whole(folder / "model.onnx", artefact)
    if head is not None:
        write_whole(folder / "head.json", canonical_bytes(head))
    write_whole(folder / "certificate.json", msgspec.json.encode(envelope))
    write_whole(folder / "issuer.pub", box.public_key.encode() + b"\n")
    write_whole(folder / "box.key", box.key.encode() + b"\n", mode=0o600)
    write_whole(folder / "target.json", json.dumps(document, indent=2).encode() + b"\n")


@click.command()
@click.argument("name")
@click.option("--edge", "folder", required=True, type=click.Path(path_type=Path), help="The new folder to write; carry it to the machine.")
@click.option("--party", required=True, help="Who pays for what the box will judge.")
@click.option(
    "--allowance",
    type=click.IntRange(1, ALLOWANCE_MAX),
    default=10_000,
    show_default=True,
    help="Pictures or records to pay for beforehand.",
)
@click.option("--credit", is_flag=True, help="Credit the party with what the allowance costs first.")
@click.option("--state", type=click.Path(path_type=Path), default=None, help="State folder; default from ISTHMUS_STATE.")
@click.option(
    "--url", default=None, help="Where the exchange answers; default: where the one on the state folder does. The box will send to it."
)
@click.option("--key", default=None, help="The operator's key; the default is read from the state folder.")
@click.option("--send-to", default=None, help="Where the box will find the exchange, if that is not --url.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of the sentences.")
def export(
    name: str,
    folder: Path,
    party: str,
    allowance: int,
    credit: bool,
    state: Path | None,
    url: str | None,
    key: str | None,
    send_to: str | None,
    as_json: bool,
) -> None:
    """Writes the certified model of NAME as a folder that runs offline.

    NAME is a deployment (a scenario's id, or SCENARIO-SITE) or the digest of its artefact. The folder holds the model, its
    certificate, the issuer's public key, and a runner that needs Python, onnxruntime and numpy (and pillow for image files). The runner
    checks the certificate before anything else, keeps a journal, and sends what it judged when an exchange answers.

    Example:  isthmus export solar-cell-inspection --edge box-1 --party line-4 --credit
    """
    checked_folder(folder)
    home = read_settings(state=state).state
    if url is None and (known := standing(home / "exchange")) is not None:
        url = known[0]
    with operator_of(home, url, key) as operator:
        found = deployment_of(operator.get("/v1/deployments"), name)
        artefact = operator.send("GET", f"/v1/models/{found.artefact_digest}/artefact").content
        head = msgspec.convert(operator.get(f"/v1/models/{found.artefact_digest}/head"), Head)
        order = {"deployment": found.name, "version": found.version, "party": party, "allowance": allowance, "credit": credit}
        box = msgspec.convert(operator.post("/v1/edge/boxes", order), EdgeBox)
    write_box(folder, box, artefact, send_to if send_to is not None else url or "", target_of(head), None if found.schema is None else head)
    said = {
        name: getattr(box, name) for name in ("box", "artefact_digest", "certificate_digest", "allowance", "prepaid_micros", "currency")
    }
    if as_json:
        click.echo(json.dumps({"folder": str(folder), **said}))
        return
    console = Console()
    console.print(
        f"{folder}: {box.deployment} for {target_of(head)}, {len(artefact) / 1e6:.1f} MB, certified {box.certificate_digest[:19]}..."
    )
    noun, needs, what = ("pictures", " pillow", "PICTURES") if found.schema is None else ("records", "", "TABLES.csv")
    console.print(f"box {box.box}: {allowance} {noun}, paid beforehand by {party}: {box.prepaid_micros / 1e6:.2f} {box.currency}")
    console.print(f"there: pip install onnxruntime numpy{needs}; python {folder.name}/runner.py {what}")
