"""What came after the model: the next line, and an owner who leaves, as the report shows them."""

from __future__ import annotations

import msgspec
import numpy as np

from isthmus.contracts import report as r
from isthmus.contracts.head import Array, Head, Stage
from isthmus.contracts.parts import sources_of
from isthmus.contracts.ports import Json
from isthmus.contracts.statistic import JOINT
from isthmus.contracts.textparts import text_sources
from isthmus.foundry.features import stage
from isthmus.foundry.stageparts import checked_parts, joined_parts, part_columns, part_size
from isthmus.kit.texts import Texts
from isthmus.scenarios.facts import RunFacts
from isthmus.scenarios.findings import (
    SITE_MODELS,
    alarms_of,
    bars_of,
    claims_of,
    head_of,
    names_of,
    promise_of,
    ratio,
    receipts_of,
    result_of,
    share,
    split_of,
    statement_of,
    time_text,
)
from isthmus.scenarios.story_service import charged_without, split_rows

PAIR = 2


def site_part(facts: RunFacts, say: Texts) -> r.SitePart | None:
    """The next line; None when no step of it was begun."""
    if facts.site is None:
        return None
    party = "" if facts.line is None else facts.line.owner.party
    result = facts.site.result
    if result is None:
        said = str((facts.site.error or {}).get("message", facts.site.state))
        return r.SitePart(site=party, sentence=say("site.failed", site=party, message=said))
    found, claims, fleet = result["arithmetic"], claims_of(result), result_of(facts.fleet)
    combined = result["candidates"].get("combined")
    return r.SitePart(
        site=result["site"],
        samples_given=result["fit"] + result["proof"],
        samples_fit=result["fit"],
        samples_test=result["proof"],
        groups_test=None if claims is None else claims.groups,
        groups_needed=None if fleet is None else bars_of(fleet).groups_min,
        samples_needed=found["labels_needed"],
        audit_records=result["audit"],
        local_weight=None if combined is None else combined["factor"],
        candidates=tuple(_candidate(name, result) for name in SITE_MODELS if name in result["candidates"]),
        certificate=_site_certificate(result, facts),
        sentence=found["sentence"],
    )


def _candidate(name: str, result: Json) -> r.SiteCandidate:
    """Figures of records that only measure; the bound, for the chosen one, is of those that were kept for proof."""
    row, claims = result["candidates"][name], claims_of(result)
    counts = row["counts"] or {"records": 0, "answered": 0, "errors": 0}
    proven = name == result["best"] and claims is not None and claims.answered > 0
    alarms = alarms_of(result)
    bound_ppm = None if claims is None else claims.error_bound_ppm if alarms is None else alarms.alarms_bound_ppm
    return r.SiteCandidate(
        name=name,
        auc=row["auc"],
        answered_share=ratio(counts["answered"], counts["records"]),
        error_share=ratio(counts["errors"], counts["answered"]),
        error_bound=share(bound_ppm) if proven and bound_ppm is not None else None,
    )


def _site_certificate(result: Json, facts: RunFacts) -> r.CertificatePart:
    given, name = result["certificate"], f"{facts.scenario.title}: {result['site']}"
    if given is None:
        needed = result["arithmetic"]["labels_needed"]
        return r.CertificatePart(issued=False, name=name, reasons=tuple(result["failures"]), more_records_needed=needed or None)
    statement = statement_of(given)
    return r.CertificatePart(
        issued=True,
        name=name,
        tier=statement.predicate.tier,
        digest=given["digest"],
        statement=msgspec.to_builtins(statement),
        envelope=given["envelope"],
        issued_at=time_text(statement.predicate.not_before_s),
        expires_at=time_text(statement.predicate.not_after_s),
    )


# Leaving.


def leave_part(facts: RunFacts, say: Texts) -> r.LeavePart | None:
    """The model before, and what became of it when the one leaver of this run left; other leavers were not computed."""
    before, party = result_of(facts.fleet), facts.leaver
    if before is None or party is None:
        return None
    after, refusal = result_of(facts.leave), facts.leave_refusal
    outcomes: tuple[r.LeaveOutcome, ...] = ()
    if after is not None:
        outcomes = (_outcome(facts, party, before, after, say),)
    elif refusal is not None:
        code, message, then = refusal
        shown = r.RefusalShown(code=code, message=message, next=then)
        sentence = say("leave.refusal", party=names_of(facts).get(party, party))
        outcomes = (r.LeaveOutcome(party=party, rule=say("leave.rule"), sentence=sentence, refusal=shown),)
    elif facts.leave is None:
        return None
    head = head_of(before) if after is None else _together(head_of(before), head_of(after))[0]
    return r.LeavePart(before=_state(before, head, split_rows(split_of(receipts_of(facts)), {})), outcomes=outcomes)


def _outcome(facts: RunFacts, party: str, before: Json, after: Json, say: Texts) -> r.LeaveOutcome:
    first, second = head_of(before), head_of(after)
    related, shared = _in_common(first.stage, second.stage)
    words = [
        say(
            "leave.shared" if related else "leave.other",
            party=names_of(facts).get(party, party),
            dimension=second.stage.dimension,
            before=first.stage.dimension,
            shared=shared,
            records=before["owners"][party]["records_train"],
        )
    ]
    if len(after["owners"]) == PAIR:
        words.append(say("leave.pair"))
    words.append(say("leave.test"))
    if not _judged_whole(after):
        words.append(say("leave.clean"))
    placed, shown = _together(first, second)
    if shown.stage == placed.stage != second.stage:
        words.append(say("leave.zeros"))
    state = _state(after, shown, split_rows(charged_without(facts, party), {}))
    return r.LeaveOutcome(party=party, rule=say("leave.rule"), sentence=" ".join(words), after=state)


def _in_common(first: Stage, second: Stage) -> tuple[bool, int]:
    """Whether two stages are made of the same things, and how many features of the second are also the first's."""
    if first.schema is not None and first.schema.written and first.schema == second.schema:
        return bool(text_sources(first.parts) & text_sources(second.parts)), 0
    if first.schema is not None or second.schema is not None:
        return first.schema == second.schema, second.dimension if first.parts == second.parts else 0
    shelves = {part.shelf: part for part in checked_parts(second.parts)}
    same = [min(part, shelves[part.shelf]) for part in checked_parts(first.parts) if part.shelf in shelves]
    related = first.backbone == second.backbone and bool(sources_of(first.parts) & sources_of(second.parts))
    return related, sum(part_size(part) for part in same)


def _together(first: Head, second: Head) -> tuple[Head, Head]:
    """Both heads over the features of both, so that they can be compared and the same features can be scored by both.

    As they are when they rest on different backbones, or are no sums over features.
    """
    if first.gaussian is not None or second.gaussian is not None:
        return first, second
    if first.stage.backbone != second.stage.backbone or first.stage.schema is not None:
        return first, second
    union = stage(tuple(part.text for part in joined_parts(first.stage.parts, second.stage.parts)), backbone=first.stage.backbone)
    return on_stage(first, union) or first, on_stage(second, union) or second


def _judged_whole(result: Json) -> bool:
    """Whether all that the bars ask for was measured, so that a missing certificate is a refusal."""
    claims, bars = claims_of(result), bars_of(result)
    return claims is not None and len(claims.corruptions) == len(bars.families) * len(bars.severities)


def _state(result: Json, head: Head, split: tuple[r.SplitRow, ...]) -> r.ModelState:
    best = promise_of(result)
    return r.ModelState(
        owners=tuple(result["owners"]),
        head=None if head.gaussian is not None else head,
        head_digest=result["head_digest"],
        records=result["moments"]["records"],
        auc=result["auc"].get(JOINT),
        answered_share=None if best is None else best.answered_share,
        error_bound=None if best is None else best.error_bound,
        certificate_issued=result["certificate"] is not None if _judged_whole(result) else None,
        split=split,
    )


def on_stage(head: Head, larger: Stage) -> Head | None:
    """The same scores from a larger stage's features: each coefficient at its feature's place, zeros elsewhere.

    None when the larger stage lacks some of the head's features.
    """
    theirs, own = checked_parts(larger.parts), checked_parts(head.stage.parts)
    room = {part.shelf: part.number for part in theirs}
    if head.stage.backbone != larger.backbone or any(part.number > room.get(part.shelf, -1) for part in own):
        return None
    values, placed, start = head.coefficients.array(), np.zeros(larger.dimension), 0
    begins = part_columns(theirs)
    for part in own:
        size, begin = part_size(part), begins[part.shelf]
        placed[begin : begin + size] = values[start : start + size]
        start += size
    return msgspec.structs.replace(head, stage=larger, coefficients=Array.of(placed))
