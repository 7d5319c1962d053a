"""The closing tables of a run in the terminal: one screen, in plain words. Sentences are in `languages/`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from isthmus.contracts.ports import Json
from isthmus.contracts.statistic import JOINT
from isthmus.kit.texts import Texts, load_texts
from isthmus.scenarios.facts import RunFacts
from isthmus.scenarios.findings import (
    SITE_MODELS,
    bars_of,
    claims_of,
    entries_sum,
    names_of,
    next_promise,
    promise_of,
    ratio,
    receipts_of,
    remedy,
    result_of,
    share,
    split_of,
    statement_of,
    time_text,
)
from isthmus.scenarios.scored import contribution_words
from isthmus.scenarios.story_values import value_headline, value_lines
from isthmus.scenarios.trial_words import bound_percent, percent

LANGUAGES = Path(__file__).parent / "languages"
REASONS_MAX = 2
DIGEST_CHARS = 19
MICROS = 1_000_000


def tables(facts: RunFacts, language: str = "en") -> list[Table | str]:
    """What to print, in order. Raises SettingError for a language that has no sentences."""
    say = load_texts(language, LANGUAGES, records=facts.scenario.interface.schema is not None)
    numbers = bool(facts.scenario.interface.foretold)
    parts: list[Table | str] = [value_headline(facts, say) if numbers else headline(facts, say)]
    if numbers:
        parts.append(_values(facts, say))
    if facts.owners:
        parts.append(_owners(facts, say))
    parts.append(_lines(_model_lines(facts, say) + _service_lines(facts, say)))
    site = result_of(facts.site)
    if site is not None:
        parts.append(say("site.title", site=site["site"], fit=site["fit"], proof=site["proof"], audit=site["audit"]))
        parts.append(_site(site, say))
    parts.append(_lines(_after_lines(facts, say)))
    return parts


def headline(facts: RunFacts, say: Texts) -> str:
    """The one sentence of the run, and what the next stricter promise needs."""
    result = result_of(facts.fleet)
    promise = None if result is None else promise_of(result)
    if result is None or promise is None:
        return say("headline.none")
    goal = percent(promise.error_goal)
    if promise.error_bound is None:
        return say("headline.nothing", goal=goal)
    kind = "headline.alarms." if promise.alarms else "headline."
    words = say(
        kind + ("proven" if promise.proven else "refused"),
        share=percent(promise.answered_share),
        rest=percent(1 - promise.answered_share),
        goal=goal,
        bound=bound_percent(promise.error_bound),
        confidence=percent(share(bars_of(result).confidence_ppm)),
    )
    stricter = next_promise(result)
    if stricter is not None and stricter.missing:
        words += " " + say("headline.next", goal=percent(stricter.error_goal), remedy=remedy(stricter.missing[0]))
    return words


def money_text(micros: int, currency: str) -> str:
    """1_500_000 -> '1.50 EUR', 2_001 -> '0.002001 EUR': exact, at least two digits behind the point."""
    whole, part = divmod(abs(micros), MICROS)
    digits = f"{part:06d}".rstrip("0").ljust(2, "0")
    return f"{'-' if micros < 0 else ''}{whole:,}.{digits} {currency}"


def _auc(value: float | None, say: Texts) -> str:
    return say("unknown") if value is None else f"{value:.3f}"


def _table(columns: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for place, column in enumerate(columns):
        table.add_column(column, justify="right" if place else "left", header_style="bold")
    return table


def _lines(rows: list[tuple[str, str]]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for name, value in rows:
        table.add_row(Text(name), Text(value))
    return table


def _owners(facts: RunFacts, say: Texts) -> Table:
    found = (result_of(facts.fleet) or {}).get("auc", {})
    ranked = not facts.scenario.interface.foretold
    keys = [key for key in ("owner", "train", "holdout", "auc", "bytes", "images") if ranked or key != "auc"]
    table = _table([say(f"owners.{key}") for key in keys])

    def row(name: str, train: str, held: str, auc: str, *left: str) -> None:
        table.add_row(*(Text(value) for value in (name, train, held, *([auc] if ranked else []), *left)))

    for item in facts.owners:
        owner = item.owner
        counts = (f"{owner.records_train:,}", f"{owner.records_holdout:,}")
        left = (f"{item.bytes_left:,}", f"{item.images_left:,}")
        row(say("owners.alone", name=owner.name), *counts, _auc(found.get(owner.party), say), *left)
    train, held = (sum(getattr(item.owner, name) for item in facts.owners) for name in ("records_train", "records_holdout"))
    left = (f"{sum(item.bytes_left for item in facts.owners):,}", f"{sum(item.images_left for item in facts.owners):,}")
    row(say("owners.joint"), f"{train:,}", f"{held:,}", _auc(found.get(JOINT), say), *left)
    if facts.reference is not None:
        row(say("owners.pooled"), f"{train:,}", f"{held:,}", _auc(facts.reference.auc_pooled, say), "", "")
    return table


def _values(facts: RunFacts, say: Texts) -> Table:
    """A line a number that is foretold, and one for each slice."""
    table = _table([say(f"values.{key}") for key in ("name", "miss", "skill", "efficiency", "rmse", "width")])
    for line in value_lines(facts, say):
        table.add_row(*(Text(value) for value in line))
    return table


def _certificate_text(result: Json, say: Texts) -> str:
    given = result.get("certificate")
    if given is None:
        reasons = list(result["failures"])
        words = say("certificate.refused", reason=" | ".join(reasons[:REASONS_MAX]))
        return words + (" | " + say("certificate.more", n=len(reasons) - REASONS_MAX) if len(reasons) > REASONS_MAX else "")
    found = statement_of(given).predicate
    until = time_text(found.not_after_s)[:10]
    return say("certificate.issued", tier=found.tier, until=until, digest=given["digest"][:DIGEST_CHARS] + "…")


def _stated_text(result: Json, say: Texts) -> str:
    """What was found of stated probabilities; empty where the head states none."""
    claims = claims_of(result)
    if claims is None or claims.calibration is None:
        return ""
    found = claims.calibration
    briers = (found.brier_low_ppm, found.brier_high_ppm, found.brier_bound_ppm, found.brier_base_ppm)
    low, high, bound, base = (f"{share(ppm):.3f}" for ppm in briers)
    error = f"{percent(share(found.error_low_ppm))} to {percent(share(found.error_high_ppm))}"
    confidence = percent(share(claims.confidence_ppm))
    return say("stated", low=low, high=high, bound=bound, base=base, confidence=confidence, error=error, rounds=result["irls"]["rounds"])


def _model_lines(facts: RunFacts, say: Texts) -> list[tuple[str, str]]:
    rows = []
    if facts.reference is not None:
        difference = facts.reference.weights_max_rel_diff
        if difference is not None:
            rows.append((say("line.weights"), say("weights", difference=f"{difference:.1e}")))
        rows.append((say("line.membership"), say("membership", auc=f"{facts.reference.membership_auc:.2f}")))
    result = result_of(facts.fleet)
    if result is not None:
        rows.append((say("line.certificate"), _certificate_text(result, say)))
        scored = contribution_words(result, names_of(facts), say)
        rows += [(say("line.contribution"), scored)] if scored else []
        stated = _stated_text(result, say)
        rows += [(say("line.stated"), stated)] if stated else []
        rows += [(say("line.care"), note) for note in result["notes"]]
    return rows


def _service_lines(facts: RunFacts, say: Texts) -> list[tuple[str, str]]:
    if facts.serving is None:
        return []
    receipts, currency = receipts_of(facts), facts.scenario.serve.currency
    total = entries_sum(facts.serving.book)
    words = say(
        "served",
        requests=len(facts.serving.served),
        receipts=len(receipts),
        charge=money_text(sum(receipt.charge_micros for receipt in receipts), currency),
        sum=say("unknown") if total is None else total,
    )
    parts = [
        say("split.part", party=names_of(facts).get(party, party), amount=money_text(amount, currency))
        for (_, party), amount in split_of(receipts).items()
    ]
    return [(say("line.served"), words), *([(say("line.split"), " · ".join(parts))] if parts else [])]


def _site(result: Json, say: Texts) -> Table:
    table = _table([say(f"site.{key}") for key in ("model", "auc", "answered", "error")])
    for name in SITE_MODELS:
        row = result["candidates"].get(name)
        if row is None:
            continue
        counts = row["counts"] or {}
        rates = (ratio(counts.get("answered", 0), counts.get("records", 0)), ratio(counts.get("errors", 0), counts.get("answered", 0)))
        label = say(f"site.{name}")
        cells = (
            say("site.chosen", name=label) if name == result["best"] else label,
            _auc(row["auc"], say),
            *(say("unknown") if rate is None else percent(rate) for rate in rates),
        )
        table.add_row(*(Text(cell) for cell in cells))
    return table


def _after_lines(facts: RunFacts, say: Texts) -> list[tuple[str, str]]:
    rows = []
    site = result_of(facts.site)
    if site is not None:
        key = "site.refused" if site["certificate"] is None else "site.certified"
        rows.append((say("line.site"), say(key, site=site["site"], sentence=site["arithmetic"]["sentence"])))
        if "exchangeability" in site:  # a run of an earlier release has none
            rows.append((say("line.calibration"), site["exchangeability"]["sentence"] + "."))
    party = names_of(facts).get(facts.leaver or "", facts.leaver or "")
    leave = result_of(facts.leave)
    if leave is not None:
        words = say(
            "leave",
            party=party,
            auc=_auc(leave["auc"].get(JOINT), say),
            records=f"{leave['moments']['records']:,}",
            dimension=leave["stage"]["dimension"],
        )
        rows.append((say("line.leave"), words))
    elif facts.leave_refusal is not None:
        rows.append((say("line.leave"), say("leave.refused", party=party, message=facts.leave_refusal[1])))
    if facts.licence_note:
        rows.append((say("line.licence"), facts.licence_note))
    return [*rows, (say("line.time"), say("time", s=f"{facts.wall_s:.0f}"))]
