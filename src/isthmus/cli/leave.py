"""`isthmus node leave`: an owner takes its agreements back."""

from __future__ import annotations

import json
from pathlib import Path

import click
import msgspec

from isthmus.cli.agree import STATE
from isthmus.contracts.errors import IsthmusError, StorageError
from isthmus.contracts.withdrawal import Withdrawal
from isthmus.kit.canonical import canonical_bytes
from isthmus.kit.clock import SystemClock
from isthmus.kit.signing import SigningKey
from isthmus.sandbox.leaving import leave as leave_purpose
from isthmus.sandbox.nodehome import KEY_NAME, STORE_NAME, only_one, settings_of
from isthmus.sandbox.nodestore import NodeStore
from isthmus.sandbox.outlog import LOG_NAME, Leaving, OutLog
from isthmus.sandbox.uplink import HttpUplink

JSON = "application/json"


@click.command()
@STATE
@click.option("--purpose", default=None, help="Leave this purpose only, with all below it; the default is every purpose.")
@click.option("--why", default="", help="The reason, for the record; the exchange sees it.")
@click.option("--exchange", default=None, help="Send it now, to the exchange at this address; a node that runs sends it by itself.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def leave(state: Path, purpose: str | None, why: str, exchange: str | None, as_json: bool) -> None:
    """Takes agreements back for good: no later job of theirs is answered, and the exchange must do without this owner's records.

    Each withdrawal is signed and kept here before anything is sent. The node may be running, the exchange may be away, the data may be
    gone. Models that were made with this owner's records lapse, and are made again without them where the others' terms allow it.

    Example:  isthmus node leave --state STATE --purpose heart-screening --why "our contract ends"
    """
    found = leave_purpose(state, purpose, why, int(SystemClock().now_s()))
    sent = _sent(state, exchange) if exchange else "waits for the node: isthmus node start sends it, a running node within seconds"
    if as_json:
        click.echo(json.dumps({"withdrawals": msgspec.to_builtins(found), "sent": sent}))
        return
    for word in found:
        click.echo(_line(word))
    click.echo(f"exchange: {sent}")
    click.echo("from now on this node refuses every job of theirs (clause withdrawn)")


def _line(word: Withdrawal) -> str:
    return f"{word.owner} has left {', '.join(word.purposes)}: agreement {word.agreement[:19]}… is withdrawn"


def _sent(state: Path, exchange: str) -> str:
    """Sends what is kept, each message logged before it leaves; says in words what came of it. A failure loses nothing."""
    clock = SystemClock()
    try:
        with only_one(state):
            key, store = SigningKey.load_or_create(state / KEY_NAME), NodeStore(state / STORE_NAME)
            uplink = HttpUplink(exchange, settings_of(state).id, key, clock)
            try:
                log = OutLog(state / LOG_NAME, key, clock)
                for envelope in store.withdrawals():
                    body = canonical_bytes(envelope)
                    log.append(Leaving("withdrawal", body, uplink.address))
                    uplink.post("/v1/withdrawals", body, JSON)
            finally:
                uplink.close()
                store.close()
    except StorageError as error:
        return f"not sent from here ({error.message}); a node that runs sends it within seconds"
    except IsthmusError as error:
        return f"not sent yet, kept here for the node's next start: {error.message}"
    return f"told at {exchange}"
