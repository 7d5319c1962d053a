"""`isthmus party`: who takes part. The operator invites, an owner joins over the network, an owner changes its key."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import click

from isthmus.cli.agree import STATE
from isthmus.client.address import standing
from isthmus.client.http import ExchangeClient
from isthmus.contracts.errors import InputError, NotFoundError
from isthmus.contracts.party import Invitation
from isthmus.kit.clock import SystemClock
from isthmus.kit.config import read_settings
from isthmus.kit.pinning import address_of, check_private
from isthmus.sandbox.joining import invitation_of, join, text_of
from isthmus.sandbox.keychange import rotate_key
from isthmus.sandbox.nodehome import NodeSettings, init_home, only_one
from isthmus.scenarios.package import find_package, load_package

HOUR_S = 3600
EXCHANGE_STATE = click.option(
    "--state", type=click.Path(path_type=Path), default=None, help="The exchange's state folder; default from ISTHMUS_STATE."
)
JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object.")


@click.group()
def party() -> None:
    """Who takes part: the operator invites, an owner joins, an owner changes its key."""


def _operator(state: Path | None) -> tuple[ExchangeClient, str, str]:
    """(client with the operator's token, address with pin, public key) of the exchange that runs on a state folder here."""
    folder = read_settings(state=state).state / "exchange"
    known = standing(folder)
    if known is None:
        raise NotFoundError(f"no exchange runs on {folder.parent}", "start it with isthmus up, or name its folder with --state")
    try:
        token = (folder / "operator.token").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the operator's token in {folder} cannot be read", "run this as the exchange's operator") from error
    return ExchangeClient(known[0], token), *known


@party.command()
@EXCHANGE_STATE
@click.option("--purpose", "purposes", multiple=True, required=True, help="What the guest is asked to agree to; repeat for more.")
@click.option("--id", "guest", default="", help="The only party id that may be taken with it; any when left out.")
@click.option("--hours", default=72, show_default=True, type=click.IntRange(1, 24 * 90), help="Hours until it expires.")
@click.option("--address", default="", help="The exchange's address as guests reach it; default: the one that it listens on.")
@click.option("--out", type=click.Path(path_type=Path), default=None, help="Writes the invitation into this file.")
@JSON
def invite(state: Path | None, purposes: tuple[str, ...], guest: str, hours: int, address: str, out: Path | None, as_json: bool) -> None:
    """Makes an invitation that one party may join by, once. Hand it over by a way of your own: it holds a secret."""
    client, known, public_key = _operator(state)
    if address and "#" not in address and "#" in known:
        address = f"{address.rstrip('/')}#{known.partition('#')[2]}"
    with client:
        issued = client.post("/v1/invitations", {"purposes": list(purposes), "ttl_s": hours * HOUR_S, "party": guest})
    invitation = Invitation(
        exchange=str(address_of(address or known)),
        public_key=public_key,
        purposes=purposes,
        token=issued["token"],
        expires_at_s=issued["expires_at_s"],
        party=guest,
    )
    text = text_of(invitation)
    if out is not None:
        out.touch(mode=0o600)
        out.write_text(text + "\n", encoding="utf-8")
    shown = {"id": issued["id"], "exchange": invitation.exchange, "public_key": public_key, "expires_at_s": issued["expires_at_s"]}
    if as_json:
        click.echo(json.dumps({**shown, "invitation": text}))
        return
    click.echo(f"invitation {issued['id']}, good once, for {hours} hours, at {invitation.exchange}")
    click.echo(f"withdraw it with: isthmus party revoke {issued['id']}")
    click.echo(text if out is None else f"written to {out}")


@party.command()
@EXCHANGE_STATE
@JSON
def invitations(state: Path | None, as_json: bool) -> None:
    """Lists the invitations: open, used, expired, revoked."""
    client = _operator(state)[0]
    with client:
        found = client.get("/v1/invitations")
    if as_json:
        click.echo(json.dumps({"invitations": found}))
        return
    for one in found:
        who = f" by {one['used_by']}" if one["used_by"] else f" for {one['party']}" if one["party"] else ""
        click.echo(f"{one['id']}  {one['state']}{who}  {', '.join(one['purposes'])}")
    if not found:
        click.echo("no invitations")


@party.command()
@click.argument("invitation")
@EXCHANGE_STATE
def revoke(invitation: str, state: Path | None) -> None:
    """Withdraws the invitation with the id INVITATION."""
    client = _operator(state)[0]
    with client:
        client.post(f"/v1/invitations/{invitation}/revocation", {})
    click.echo(f"{invitation} is revoked")


@party.command("join")
@click.argument("invitation")
@click.argument("data", type=click.Path(path_type=Path))
@STATE
@click.option("--id", "name_id", default="", help="The party's id; the one that the invitation names when left out.")
@click.option("--name", default="", help="The party's name for people; the id when left out.")
@click.option("--licence", default="proprietary", show_default=True, help="Licence of the data.")
@click.option("--scenario", default="", help="A package whose columns and outcomes the rows must fit.")
@click.option("--sample", is_flag=True, help="Marks party and data as made up for demonstration.")
@click.option("--plain-http", is_flag=True, help="Allows an invitation without TLS to another machine.")
@JSON
def join_command(invitation: str, data: Path, state: Path, name_id: str, plain_http: bool, as_json: bool, **told: Any) -> None:
    """Joins an exchange: describes the folder DATA as `isthmus node init` does, and registers with INVITATION, a text or a file.

    Nothing of the data is sent. Then agree, and start the node: both commands are printed.
    """
    found = invitation_of(invitation)
    check_private(address_of(found.exchange), plain_http)
    name_id = name_id or found.party
    if not name_id:
        raise InputError("the invitation names no party", "give --id")
    interface = load_package(find_package(told["scenario"])).interface if told["scenario"] else None
    settings = NodeSettings(
        id=name_id,
        name=told["name"] or name_id,
        kind="owner",
        data=str(data.absolute()),
        licence=told["licence"],
        sample=told["sample"],
        targets=() if interface is None else interface.foretold,
    )
    with only_one(state, make=True):
        home = init_home(state, settings, schema=None if interface is None else interface.schema)
        try:
            joined = join(home, found, SystemClock())
        finally:
            home.store.close()
    others = [f"--participant {party}={key}" for party, key in joined.participants.items()]
    purposes = [f"--purpose {shlex.quote(purpose)}" for purpose in joined.purposes]
    agree = " ".join(["isthmus node agree --state", shlex.quote(str(state)), *purposes, *others])
    shown = {"party": name_id, "public_key": home.key.public_hex, "exchange": found.exchange, "exchange_key": joined.public_key}
    if as_json:
        click.echo(json.dumps({**shown, "purposes": joined.purposes, "participants": joined.participants, "agree": agree}))
        return
    click.echo(f"{name_id} joined {found.exchange}\nyour public key {home.key.public_hex}\nexchange key {joined.public_key}")
    click.echo("asked of you: " + ", ".join(joined.purposes))
    for other, key in joined.participants.items():
        click.echo(f"taking part: {other} {key}")
    click.echo("Compare these keys with their owners by a way of your own, give them yours, and read the terms. Then:")
    click.echo(f"  {agree}\n  isthmus node start --state {shlex.quote(str(state))}")


@party.command("rotate-key")
@STATE
@JSON
def rotate(state: Path, as_json: bool) -> None:
    """Gives the party of a node a new key, signed by the old one; its id, agreements and history stay.

    Stop the node first. It tells the exchange when it starts again; from then on the old key is refused. Others' agreements stand: their
    nodes follow the signed change. To finish a change that was cut off, ask again.
    """
    with only_one(state):
        word = rotate_key(state, SystemClock())
    shown = {"party": word.party, "public_key": word.new_key, "before": word.old_key, "sequence": word.sequence}
    click.echo(json.dumps(shown) if as_json else f"{word.party}: key {word.sequence} is {word.new_key}\nit was {word.old_key}")
