"""`isthmus node agree`: an owner signs what one purpose may do with its data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import httpx

from isthmus.contracts.agreement import ANY_STAGE, Agreement
from isthmus.contracts.brier import BRIER
from isthmus.contracts.errors import InputError, UnreachableError
from isthmus.contracts.statistic import CLUSTERS, EVALUATE, FOLD_OUT, IRLS, MOMENTS, OWN_HEAD, PAIR
from isthmus.contracts.valuesums import VALUE_STATISTICS
from isthmus.kit.clock import SystemClock
from isthmus.sandbox.nodehome import only_one, open_home

STATE = click.option("--state", type=click.Path(path_type=Path), required=True, help="The node's own state folder.")
DEFAULT_OPERATIONS = (MOMENTS, FOLD_OUT, CLUSTERS, EVALUATE, PAIR, *VALUE_STATISTICS)
DAY_S = 24 * 3600


@click.command()
@STATE
@click.option("--purpose", "purposes", multiple=True, required=True, help="What the sums may be used for; repeat for more.")
@click.option("--operation", "operations", multiple=True, help=f"Allowed statistics; default {', '.join(DEFAULT_OPERATIONS)}.")
@click.option("--participant", "participants", multiple=True, help="id=PUBLIC_KEY of another owner that may take part; repeat.")
@click.option("--exchange-key", default="", help="The exchange's public key (hex).")
@click.option("--exchange", default="", help="The exchange's address, to ask it for its key when --exchange-key is left out.")
@click.option("--stage", "stages", multiple=True, help="Digests of allowed feature extractors; default any.")
@click.option("--days", default=30, show_default=True, type=click.IntRange(1, 3650), help="Days until it expires.")
@click.option("--runs-max", default=20, show_default=True, help="How many runs it allows.")
@click.option("--least-group-size", default=20, show_default=True, help="Fewest own records behind a number that leaves.")
@click.option("--least-participants", default=3, show_default=True, help="Fewest owners in a roster.")
@click.option("--visibility", type=click.Choice(["aggregate", "individual"]), default="aggregate", show_default=True)
@click.option("--records-per-feature", default=4, show_default=True, help="Records behind what becomes visible, for each feature.")
@click.option("--allow-own-head", is_flag=True, help="Lets this owner's own fitted head leave, seen singly.")
@click.option("--logistic", is_flag=True, help=f"Also lets {IRLS} be asked for: the rounds of a logistic fit.")
@click.option(
    "--contribution",
    is_flag=True,
    help="Lets this owner be scored by its own sums, which other owners' nodes then see in heads; only with individual visibility.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def agree(state: Path, as_json: bool, **terms: Any) -> None:
    """Signs an agreement: what this owner lets one purpose do with its data."""
    exchange_key = terms["exchange_key"] or _key_of(terms["exchange"])
    with only_one(state):
        home = open_home(state)
        now_s = int(SystemClock().now_s())
        agreement = Agreement(
            owner=home.settings.id,
            asset=home.asset_digest,
            exchange=exchange_key,
            purposes=terms["purposes"],
            operations=_operations(terms),
            participants={home.settings.id: home.key.public_hex, **_participants(terms["participants"])},
            issued_at_s=now_s,
            expires_at_s=now_s + terms["days"] * DAY_S,
            runs_max=terms["runs_max"],
            least_group_size=terms["least_group_size"],
            least_participants=terms["least_participants"],
            visibility=terms["visibility"],
            stages=terms["stages"] or (ANY_STAGE,),
            dimension_records_min_ratio=terms["records_per_feature"],
            allow_own_head=terms["allow_own_head"],
            contribution=terms["contribution"],
            sample=home.settings.sample,
        )
        digest = home.agree(agreement)
        home.store.close()
    shown = {"agreement": digest, "owner": agreement.owner, "exchange": exchange_key}
    click.echo(json.dumps(shown) if as_json else f"{agreement.owner} agreed: {digest}\nexchange key {exchange_key}")


def _operations(terms: dict[str, Any]) -> tuple[str, ...]:
    """Those that were named; else the usual ones, and what the flags add."""
    flags = ((OWN_HEAD, terms["allow_own_head"]), (IRLS, terms["logistic"]), (BRIER, terms["contribution"]))
    return terms["operations"] or (*DEFAULT_OPERATIONS, *(name for name, allowed in flags if allowed))


def _participants(given: tuple[str, ...]) -> dict[str, str]:
    pairs = {}
    for text in given:
        party, equals, public_key = text.partition("=")
        if not equals or not party or party in pairs:
            raise InputError(f"--participant {text!r} cannot be used", "write id=PUBLIC_KEY, once for each party")
        pairs[party] = public_key
    return pairs


def _key_of(address: str) -> str:
    """The exchange's public key as it tells it: trust on first use, shown to the owner."""
    if not address:
        raise InputError("the agreement needs the exchange's public key", "give --exchange-key, or --exchange to ask it")
    try:
        answer = httpx.get(f"{address.rstrip('/')}/v1/exchange", timeout=10.0, trust_env=False)
        return str(answer.raise_for_status().json()["public_key"])
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError) as error:
        raise UnreachableError(f"the exchange at {address} did not tell its key: {error}", "start it, or give --exchange-key") from error
