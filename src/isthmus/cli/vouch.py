"""`isthmus node vouch` and `isthmus node vouched`: an issuer's word for a party's key, given and kept."""

from __future__ import annotations

import json
from pathlib import Path

import click
import msgspec

from isthmus.cli.agree import DAY_S, STATE
from isthmus.contracts.errors import InputError
from isthmus.kit.clock import SystemClock
from isthmus.kit.ids import slug
from isthmus.kit.signing import Envelope, SigningKey
from isthmus.sandbox.nodehome import KEY_NAME, only_one, open_home, settings_of
from isthmus.sandbox.terms import is_public_key
from isthmus.sandbox.voices import CREDENTIAL_S_MAX, credential


@click.command()
@STATE
@click.option("--party", required=True, help="The id of the party that is vouched for.")
@click.option("--key", "public_key", required=True, help="Its public key (hex).")
@click.option(
    "--days", default=90, show_default=True, type=click.IntRange(1, CREDENTIAL_S_MAX // DAY_S), help="Days until the word expires."
)
def vouch(state: Path, party: str, public_key: str, days: int) -> None:
    """Signs that a key is a party's, for owners whose agreements name this one as an issuer; prints the word as JSON."""
    if not is_public_key(public_key):
        raise InputError(f"{public_key!r} is no public key", "give 64 lower-case hex digits")
    issuer, now_s = settings_of(state).id, int(SystemClock().now_s())
    word = credential(SigningKey.load_or_create(state / KEY_NAME), issuer, slug(party, "party id"), public_key, now_s, now_s + days * DAY_S)
    click.echo(json.dumps(msgspec.to_builtins(word)))


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@STATE
def vouched(file: Path, state: Path) -> None:
    """Keeps an issuer's word for this node's key, from FILE; the node registers it when it starts."""
    try:
        envelope = msgspec.json.decode(file.read_bytes(), type=Envelope)
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}", "check the path") from error
    except msgspec.DecodeError as error:
        raise InputError(f"{file} is no signed word: {error}", "give what isthmus node vouch printed") from error
    with only_one(state):
        home = open_home(state)
        try:
            word = home.keep_credential(envelope)
        finally:
            home.store.close()
    click.echo(f"{word.issuer} vouches for {word.party}")
