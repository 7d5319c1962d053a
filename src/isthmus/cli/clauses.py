"""Options of `isthmus node agree` about what becomes of sums, and what it does beside signing terms of its own: shows, answers, ends."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from isthmus.contracts.agreement import ANYWHERE, OUTPUTS, Agreement
from isthmus.contracts.errors import InputError, NotFoundError
from isthmus.contracts.negotiation import DeletionRecord, Negotiation
from isthmus.contracts.odrl import document_of
from isthmus.kit.canonical import parse_canonical
from isthmus.kit.clock import SystemClock
from isthmus.kit.signing import payload_of
from isthmus.sandbox.nodehome import NodeHome, only_one, open_home
from isthmus.sandbox.nodeterms import NodeTerms, agreements_at, offered_terms
from isthmus.sandbox.uplink import HttpUplink

PPM_OF_PERCENT = 10_000
Command = TypeVar("Command", bound=Callable[..., Any])
RESULTS = (
    click.option("--sums-to", "sums_to", multiple=True, help="Jurisdiction where the exchange may be (de, eu); repeat; default anywhere."),
    click.option("--models-to", "models_to", multiple=True, help="Jurisdiction where models may serve; repeat; default anywhere."),
    click.option("--output", "outputs", multiple=True, type=click.Choice(OUTPUTS), help="What may be made of the sums; default all."),
    click.option("--issuer", "issuers", multiple=True, help="id=PUBLIC_KEY of one whose word makes a key a participant's; repeat."),
    click.option("--owners-share", "owners_share", default=0.0, help="Percent of each charge that owners must get, at least."),
    click.option("--deletion-days", "deletion_days", type=click.IntRange(0, 3650), help="Days after the end until all is deleted."),
)
ASIDE = (
    click.option("--show", is_flag=True, help="Shows what this owner agreed to and where it stands; signs nothing."),
    click.option("--odrl", is_flag=True, help="With --show: the newest agreement as the ODRL document that was signed."),
    click.option("--offers", is_flag=True, help="Shows the terms that exchanges ask for; with --exchange, fetches them first."),
    click.option("--offer", "offer", default="", help="Signs exactly the terms of this offer."),
    click.option("--end", "end", default="", help="Ends an offer or an agreement, by its id or digest; the exchange is told."),
    click.option("--reason", default="", help="With --end: why, for the exchange to read."),
)


def clause_options(command: Command) -> Command:
    """Adds the options."""
    for option in reversed((*RESULTS, *ASIDE)):
        command = option(command)
    return command


def clause_terms(terms: dict[str, Any], pairs: Callable[[tuple[str, ...]], dict[str, str]]) -> dict[str, Any]:
    """The fields of Agreement that the options say. pairs: reads id=KEY texts."""
    share = terms["owners_share"]
    if not 0 <= share <= 100:
        raise InputError(f"--owners-share {share:g} is no share", "give percent, 0 to 100")
    return {
        "sums_to": terms["sums_to"] or (ANYWHERE,),
        "models_to": terms["models_to"] or (ANYWHERE,),
        "outputs": terms["outputs"] or OUTPUTS,
        "issuers": pairs(terms["issuers"]),
        "owners_share_ppm_min": round(share * PPM_OF_PERCENT),
        "deletion_days": terms["deletion_days"],
    }


def aside(state: Path, terms: dict[str, Any], as_json: bool) -> bool:
    """Does what was asked beside signing new terms; whether anything was."""
    asked = [name for name in ("show", "offers", "offer", "end") if terms[name]]
    if len(asked) > 1:
        raise InputError(f"--{' and --'.join(asked)} at once", "ask for one of them")
    if not asked:
        if not terms["purposes"]:
            raise InputError("no purpose is named", "give --purpose; or --show, --offers, --offer ID, --end ID")
        return False
    with only_one(state):
        home = open_home(state)
        try:
            shown, said = {"show": _shown, "offers": _offers, "offer": _signed, "end": _ended}[asked[0]](home, terms)
        finally:
            home.store.close()
    click.echo(json.dumps(shown) if as_json else said)
    return True


def _now_s() -> int:
    return int(SystemClock().now_s())


def _date(at_s: int) -> str:
    return datetime.datetime.fromtimestamp(at_s, tz=datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")


def _shown(home: NodeHome, terms: dict[str, Any]) -> tuple[Any, str]:
    found = agreements_at(home.store)
    if terms["odrl"]:
        if not found:
            raise NotFoundError("this node has signed no agreement", "run: isthmus node agree --purpose …")
        document = document_of(found[0][1])
        return document, json.dumps(document, indent=2, ensure_ascii=False)
    rows = [
        {"agreement": digest, "state": _state(at), "terms": msgspec.to_builtins(one), **_history(home, at)} for digest, one, at in found
    ]
    return rows, "\n\n".join(_page(digest, one, at, home) for digest, one, at in found) or "nothing is agreed"


def _state(at: Negotiation | None) -> str:
    return "unknown" if at is None else at.state


def _history(home: NodeHome, at: Negotiation | None) -> dict[str, Any]:
    """Messages, and the exchange's word on what it deleted."""
    if at is None:
        return {"messages": []}
    kept = home.store.negotiations.get(at.id)
    deletion = None if kept is None or kept.deletion is None else parse_canonical(payload_of(kept.deletion))
    return {"id": at.id, "messages": msgspec.to_builtins(at.messages), "deletion": deletion}


def _page(digest: str, one: Agreement, at: Negotiation | None, home: NodeHome) -> str:
    lines = [f"{digest}", f"  {_state(at)}, until {_date(one.expires_at_s)}, for {', '.join(one.purposes)}"]
    lines += [f"  {line}" for line in _terms_lines(one)]
    for said in () if at is None else at.messages:
        lines.append(
            f"  {_date(said.at_s)}  {said.sender:<8}  {said.message:<12}  {said.state}{f'  ({said.reason})' if said.reason else ''}"
        )
    deletion = _history(home, at).get("deletion")
    if deletion:
        record = msgspec.convert(deletion, DeletionRecord)
        lines.append(
            f"  {_date(record.deleted_at_s)}  the exchange signed that it deleted {len(record.totals)} sums of {len(record.jobs)} jobs, "
            f"{len(record.artefacts)} models"
        )
    return "\n".join(lines)


def _terms_lines(one: Agreement) -> list[str]:
    limits = f"{one.runs_max} runs, groups of {one.least_group_size} or more, {one.least_participants} owners or more, {one.visibility}"
    budget = "" if one.privacy is None else f", epsilon {one.privacy.epsilon:g} and delta {one.privacy.delta:g} a {one.privacy.unit}"
    found = [f"{', '.join(one.operations)}", f"{limits}{budget}"]
    found.append(f"sums to {', '.join(one.sums_to)}; models to {', '.join(one.models_to)}; makes {', '.join(one.outputs)}")
    share = f"at least {one.owners_share_ppm_min / PPM_OF_PERCENT:g} % of each charge to owners" if one.owners_share_ppm_min else ""
    deletion = "" if one.deletion_days is None else f"all deleted within {one.deletion_days} days of the end"
    return [*found, *(["; ".join(part for part in (share, deletion) if part)] if share or deletion else [])]


def _offers(home: NodeHome, terms: dict[str, Any]) -> tuple[Any, str]:
    if terms["exchange"]:
        uplink = HttpUplink(terms["exchange"], home.settings.id, home.key, SystemClock())
        try:
            NodeTerms(home.settings.id, home.key, home.store).answers(uplink.terms(), _now_s())
        finally:
            uplink.close()
    waiting = [kept for kept in home.store.negotiations.all() if kept.negotiation.state == "REQUESTED" and kept.offer is not None]
    drafts = [(kept.negotiation.id, offered_terms(kept.offer)) for kept in waiting if kept.offer is not None]
    shown = [{"id": id, "exchange": draft.exchange, "terms": msgspec.to_builtins(draft)} for id, draft in drafts]
    pages = [
        "\n".join(
            [id, f"  asked by the exchange with key {draft.exchange}, until {_date(draft.expires_at_s)}, for {', '.join(draft.purposes)}"]
            + [f"  {line}" for line in _terms_lines(draft)]
        )
        for id, draft in drafts
    ]
    return shown, "\n\n".join(pages) or "no exchange asks for terms"


def _signed(home: NodeHome, terms: dict[str, Any]) -> tuple[Any, str]:
    kept = home.store.negotiations.get(terms["offer"])
    if kept is None or kept.offer is None:
        raise NotFoundError(f"there is no offer {terms['offer']} here", "see isthmus node agree --offers")
    if kept.negotiation.state != "REQUESTED":
        raise InputError(f"the offer is {kept.negotiation.state} already", "see isthmus node agree --show")
    draft = offered_terms(kept.offer)
    if terms["exchange_key"] and terms["exchange_key"] != draft.exchange:
        raise InputError("the offer is of an exchange with another key", f"its key is {draft.exchange}; check whose that is")
    digest = home.agree(draft)
    shown = {"agreement": digest, "owner": draft.owner, "exchange": draft.exchange}
    return shown, f"{draft.owner} agreed: {digest}\nexchange key {draft.exchange}"


def _ended(home: NodeHome, terms: dict[str, Any]) -> tuple[Any, str]:
    found = NodeTerms(home.settings.id, home.key, home.store).terminate(terms["end"], terms["reason"], _now_s())
    return msgspec.to_builtins(found), f"{found.id} is {found.state}; the exchange is told when the node calls it next"
