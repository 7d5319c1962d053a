"""A run's facts as the report that the console draws. What was not measured stays None."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from isthmus import __version__
from isthmus.assurance.auc import roc_points
from isthmus.assurance.bounds import more_records
from isthmus.contracts import report as r
from isthmus.contracts.bars import PPM
from isthmus.contracts.certificate import AlarmClaim, Claims
from isthmus.contracts.head import Head
from isthmus.contracts.ports import Json
from isthmus.contracts.statistic import CLEAN, JOINT
from isthmus.contracts.sums import SCORE_LIMIT
from isthmus.contracts.treesums import HISTOGRAMS
from isthmus.kit.canonical import canonical_bytes, sha256_hex
from isthmus.kit.texts import Texts, load_texts
from isthmus.sandbox.outlog import LogEntry
from isthmus.scenarios.cells import cells
from isthmus.scenarios.facts import OwnerFacts, RunFacts
from isthmus.scenarios.figures import figures
from isthmus.scenarios.findings import (
    alarms_of,
    bars_of,
    claims_of,
    clusters_of,
    evaluation,
    head_of,
    histogram_of,
    names_of,
    next_promise,
    promises_of,
    ratio,
    result_of,
    share,
    statement_of,
    time_text,
    visibility_of,
)
from isthmus.scenarios.scored import contribution_words
from isthmus.scenarios.story_next import leave_part, site_part
from isthmus.scenarios.story_service import example_receipt, money_part, service_parties, serving_part
from isthmus.scenarios.story_values import forecasts_shown, value_bars, value_corruptions, value_rows
from isthmus.scenarios.trial_words import percent

LANGUAGES = Path(__file__).parent / "languages"
VECTOR, SINGLE_HEAD = "vector", "head"


def story(facts: RunFacts, language: str = "en") -> r.RunReport:
    """The report of one run. Raises SettingError for a language that has no sentences, and what reading pictures raises."""
    say = load_texts(language, LANGUAGES, records=facts.scenario.interface.schema is not None)
    result = result_of(facts.fleet)
    numbers = bool(facts.scenario.interface.foretold)
    verdicts = None if numbers else result
    shown = () if numbers else cells(facts, say=say)
    return r.RunReport(
        scenario=facts.scenario.id,
        run_id="" if facts.fleet is None else facts.fleet.id,
        at=facts.at,
        title=facts.scenario.title,
        version=__version__,
        pictures=facts.scenario.interface.schema is None,
        parties=_parties(facts),
        owners=tuple(_owner(item, result) for item in facts.owners),
        model=_model(facts),
        headline=None if verdicts is None else _headline(verdicts),
        values=value_rows(result) if numbers and result is not None else (),
        forecasts=forecasts_shown(facts) if numbers else (),
        bars=() if result is None else value_bars(result, say) if numbers else _bars(result, say),
        slices=() if verdicts is None else _slices(verdicts),
        corruptions=() if result is None else value_corruptions(result) if numbers else _corruptions(result),
        roc=() if verdicts is None else _curves(verdicts, names_of(facts), say),
        scores=None if verdicts is None else _scores(verdicts),
        calibration=None if verdicts is None else _calibration(verdicts),
        certificate=None if result is None else certificate_part(result, facts.scenario.title),
        cells=shown,
        serving=serving_part(facts),
        money=money_part(facts),
        receipt=example_receipt(facts),
        site=site_part(facts, say),
        leave=leave_part(facts, say),
        head=_head_demo(facts),
        timings=tuple(r.StepTime(name=name, wall_s=wall_s, reused=reused) for name, wall_s, reused in facts.timings),
        notes=tuple(_notes(facts, result, shown, say)),
        figures=figures(facts),
    )


# Who took part, and what left.


def _parties(facts: RunFacts) -> tuple[r.ReportParty, ...]:
    known = (result_of(facts.fleet) or {}).get("owners", {})

    def party(item: OwnerFacts, role: str) -> r.ReportParty:
        licence = facts.licence_note or str(known.get(item.owner.party, {}).get("licence", ""))
        return r.ReportParty(id=item.owner.party, name=item.owner.name, role=role, sample=facts.sample, licence_note=licence)

    own = [party(item, "owner") for item in facts.owners] + ([party(facts.line, "line")] if facts.line else [])
    return (*own, *service_parties(facts))


def _message(entry: LogEntry) -> r.SentMessage:
    """masked: yes for vectors of a roster, no for a head, which leaves as it is; unknown for documents, which hold no sums."""
    return r.SentMessage(
        kind=entry.statistic or entry.kind,
        shape=entry.shape,
        body_bytes=entry.bytes,
        digest="sha256:" + entry.sha256,
        masked=True if entry.kind == VECTOR else False if entry.kind == SINGLE_HEAD else None,
        at=time_text(entry.at_ms / 1000),
    )


def _owner(item: OwnerFacts, result: Json | None) -> r.OwnerPart:
    owner, found = item.owner, result or {}
    rows = {party: asset["records_train"] for party, asset in found.get("owners", {}).items()}
    own_head = found.get("own_heads", {}).get(owner.party)
    return r.OwnerPart(
        party=owner.party,
        records=owner.records_train,
        groups=owner.groups_train,
        groups_inferred=owner.groups_inferred,
        holdout_records=owner.records_holdout,
        holdout_groups=owner.groups_holdout,
        bytes_left=item.bytes_left,
        images_left=item.images_left,
        messages=tuple(_message(entry) for entry in item.entries),
        log_head="sha256:" + sha256_hex(canonical_bytes(item.entries[-1])) if item.entries else None,
        auc_alone=found.get("auc", {}).get(owner.party),
        alone_dimension=None if own_head is None else own_head["stage"]["dimension"],
        share=ratio(rows[owner.party], sum(rows.values())) if owner.party in rows else None,
    )


# The model and what was proven of it.


def _model(facts: RunFacts) -> r.ModelPart | None:
    result, given = result_of(facts.fleet), facts.reference
    if result is None:
        return None
    head: Head = head_of(result)
    return r.ModelPart(
        auc_joint=result["auc"].get(JOINT),
        auc_pooled=None if given is None else given.auc_pooled,
        weights_max_rel_diff_to_pooled=None if given is None else given.weights_max_rel_diff,
        regularisation=None if result.get("trees", {}).get("steepness", 1) is None else result.get("penalty"),
        lo=head.lo,
        hi=head.hi,
        dimension=head.stage.dimension,
        records=result["moments"]["records"],
        backbone=head.stage.backbone,
        head_digest=result["head_digest"],
        artefact_digest=result["artefact_digest"],
        visibility=visibility_of(facts.owners, "contribution" in result),
        membership_auc=None if given is None else given.membership_auc,
    )


def _known(ppm: int, whole: int) -> float | None:
    """A share of `whole` records; None when there were none."""
    return share(ppm) if whole else None


def _headline(result: Json) -> r.HeadlinePart | None:
    claims, row = claims_of(result), evaluation(result)
    if claims is None or row is None:
        return None
    counts = row["counts"]
    defects, good = counts["answered_defects"], counts["answered_good"]
    alarms = alarms_of(result)
    if alarms is not None:
        return _alarm_headline(claims, alarms, share(bars_of(result).error_ppm_max))
    return r.HeadlinePart(
        answered_share=share(claims.answered_ppm),
        error_share=_known(claims.error_ppm, claims.answered),
        error_bound=_known(claims.error_bound_ppm, claims.answered),
        error_goal=share(bars_of(result).error_ppm_max),
        confidence=share(claims.confidence_ppm),
        records=claims.records,
        answered=claims.answered,
        answered_good=good - counts["false_alarms"] + counts["missed_defects"],
        answered_defects=defects - counts["missed_defects"] + counts["false_alarms"],
        missed_defects=counts["missed_defects"],
        false_alarms=counts["false_alarms"],
        groups=claims.groups,
        design_effect=share(claims.design_effect_ppm),
        recall=_known(claims.recall_ppm, defects),
        recall_bound=_known(claims.recall_bound_ppm, defects),
        specificity=_known(claims.specificity_ppm, good),
        specificity_bound=_known(claims.specificity_bound_ppm, good),
    )


def _alarm_headline(claims: Claims, alarms: AlarmClaim, goal: float) -> r.HeadlinePart:
    """Of a model that only says good, and leaves all else to a person."""
    return r.HeadlinePart(
        answered_share=share(claims.answered_ppm),
        error_share=_known(alarms.alarms_ppm, alarms.good),
        error_bound=_known(alarms.alarms_bound_ppm, alarms.good),
        error_goal=goal,
        confidence=share(claims.confidence_ppm),
        records=claims.records,
        answered=claims.answered,
        answered_good=claims.answered,
        answered_defects=0,
        missed_defects=alarms.defects - alarms.caught if alarms.defects else None,
        false_alarms=alarms.alarms,
        groups=claims.groups,
        design_effect=share(claims.design_effect_ppm),
        recall=_known(alarms.caught_ppm, alarms.defects),
        recall_bound=_known(alarms.caught_bound_ppm, alarms.defects),
        specificity=_known(PPM - alarms.alarms_ppm, alarms.good),
        specificity_bound=_known(PPM - alarms.alarms_bound_ppm, alarms.good),
        alarms=True,
    )


def _bar(name: str, value: float | None, goal: float, compare: str = ">=", holds: bool | None = None) -> r.BarRow:
    if holds is None and value is not None:
        holds = value <= goal if compare == "<=" else value >= goal
    return r.BarRow(name=name, value=value, goal=goal, compare=compare, holds=holds)


def _bars(result: Json, say: Texts) -> tuple[r.BarRow, ...]:
    """Each promise's error bar, then the other bars of the promise that the figures are about."""
    rows = [
        _bar(
            say("bar.alarms" if promise.alarms else "bar.promise", goal=percent(promise.error_goal)),
            promise.error_bound,
            promise.error_goal,
            "<=",
        )
        for promise in promises_of(result)
    ]
    claims, row, bars = claims_of(result), evaluation(result), bars_of(result)
    if claims is None or row is None:
        return tuple(rows)
    counts, alarms = row["counts"], alarms_of(result)
    if alarms is not None:
        drawn = _known(alarms.drawn_caught_bound_ppm, alarms.drawn)
        return (*rows, _bar(say("bar.drawn"), drawn, share(alarms.alarms_bound_ppm)))
    rows += [
        _bar("answered-share", share(claims.answered_ppm), share(bars.answered_ppm_min)),
        _bar("recall-bound", _known(claims.recall_bound_ppm, counts["answered_defects"]), share(bars.recall_ppm_min)),
        _bar("specificity-bound", _known(claims.specificity_bound_ppm, counts["answered_good"]), share(bars.specificity_ppm_min)),
        _bar("groups", clusters_of(row).groups, bars.groups_min),
        _bar(say("bar.auc"), share(claims.auc_bound_ppm), share(bars.auc_ppm_min), holds=claims.auc_bound_ppm > bars.auc_ppm_min),
    ]
    rows += [
        _bar(
            say("bar.slice", name=part.name),
            share(part.accuracy_ppm),
            share(part.majority_ppm),
            holds=part.accuracy_ppm > part.majority_ppm,
        )
        for part in claims.slices
        if part.judged
    ]
    return tuple(rows)


def _slices(result: Json) -> tuple[r.SliceRow, ...]:
    claims = claims_of(result)
    rows = []
    for part in () if claims is None else claims.slices:
        found = evaluation(result, part=part.name)
        counts = {} if found is None else found["counts"]
        answered = counts.get("answered", 0)
        rows.append(
            r.SliceRow(
                name=part.name,
                records=part.records,
                groups=part.groups,
                accuracy=_known(part.accuracy_ppm, answered),
                majority_rate=share(part.majority_ppm),
                answered_share=share(part.answered_ppm),
                error_share=None if found is None else ratio(found["counts"]["errors"], answered),
                error_bound=1 - share(part.accuracy_bound_ppm) if answered else None,
                false_alarm_share=ratio(counts.get("false_alarms", 0), counts.get("answered_good", 0)),
                missed_share=ratio(counts.get("missed_defects", 0), counts.get("answered_defects", 0)),
            )
        )
    return tuple(rows)


def _corruptions(result: Json) -> tuple[r.CorruptionRow, ...]:
    """Severity 0 is the clean image, once in each family."""
    claims, clean = claims_of(result), evaluation(result)
    if claims is None or clean is None:
        return ()
    rows: list[r.CorruptionRow] = []
    for part in claims.corruptions:
        if part.family not in {row.family for row in rows}:
            rows.append(_clean_row(part.family, claims))
        found = evaluation(result, condition=f"{part.family}/{part.severity}")
        answered = 0 if found is None else found["counts"]["answered"]
        rows.append(
            r.CorruptionRow(
                family=part.family,
                severity=part.severity,
                answered_share=share(part.answered_ppm),
                error_share=ratio(part.errors, answered),
                error_bound=_known(part.error_bound_ppm, answered),
            )
        )
    return tuple(rows)


def _clean_row(family: str, claims: Claims) -> r.CorruptionRow:
    return r.CorruptionRow(
        family=family,
        severity=0,
        answered_share=share(claims.answered_ppm),
        error_share=_known(claims.error_ppm, claims.answered),
        error_bound=_known(claims.error_bound_ppm, claims.answered),
    )


def _curves(result: Json, names: dict[str, str], say: Texts) -> tuple[r.RocCurve, ...]:
    """The joint model, then each owner alone; without a curve where a class is missing."""
    curves = []
    for name, auc in result["auc"].items():
        row = evaluation(result, head=name, condition=CLEAN)
        points = () if row is None else tuple((p.false_alarm_rate, p.recall) for p in reversed(roc_points(histogram_of(row))))
        if points:
            label = say("roc.joint") if name == JOINT else say("roc.alone", name=names.get(name, name))
            curves.append(r.RocCurve(name=label, party=None if name == JOINT else name, auc=auc, points=points))
    return tuple(curves)


def _calibration(result: Json) -> r.CalibrationPart | None:
    claims = claims_of(result)
    found = None if claims is None else claims.calibration
    if found is None:
        return None
    rows = tuple(
        r.CalibrationRow(
            low=share(part.low_ppm),
            high=share(part.high_ppm),
            stated_low=share(part.stated_low_ppm),
            stated_high=share(part.stated_high_ppm),
            records=part.records,
            defects=part.defects,
            share_low=share(part.share_low_ppm),
            share_high=share(part.share_high_ppm),
        )
        for part in found.ranges
    )
    return r.CalibrationPart(
        brier_low=share(found.brier_low_ppm),
        brier_high=share(found.brier_high_ppm),
        brier_bound=share(found.brier_bound_ppm),
        brier_base=share(found.brier_base_ppm),
        error_low=share(found.error_low_ppm),
        error_high=share(found.error_high_ppm),
        rows=rows,
    )


def _scores(result: Json) -> r.ScoreHistogram | None:
    row = evaluation(result)
    if row is None:
        return None
    good, defect = (tuple(int(n) for n in part) for part in histogram_of(row))
    return r.ScoreHistogram(low=-SCORE_LIMIT, high=SCORE_LIMIT, good=good, defect=defect)


def certificate_part(result: Json, name: str) -> r.CertificatePart:
    """The certificate, or the refusal with what is missing."""
    given = result.get("certificate")
    if given is None:
        groups, records = (None, None) if head_of(result).outputs else _missing(result)
        return r.CertificatePart(
            issued=False, name=name, reasons=tuple(result["failures"]), more_groups_needed=groups, more_records_needed=records
        )
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


def _missing(result: Json) -> tuple[int | None, int | None]:
    """(groups, held-out records) still needed for the error bar; None where that is not what is missing.

    Records: those that would have to be answered without a new error, divided by the share that is answered.
    """
    row, claims, bars = evaluation(result), claims_of(result), bars_of(result)
    if row is None or claims is None:
        return None, None
    sums = clusters_of(row)
    groups = bars.groups_min - sums.groups if sums.groups < bars.groups_min else None
    goal = share(bars.error_ppm_max)
    if claims.error_bound_ppm <= bars.error_ppm_max or not sums.a or sums.e / sums.a > goal:
        return groups, None
    answered = more_records(sums.e, sums.a, float(result["design_effect"]), sums.groups, goal, share(bars.confidence_ppm))
    return groups, -(-answered * claims.records // claims.answered)


def _head_demo(facts: RunFacts) -> r.HeadDemo | None:
    """The certified head's document, with the refusal that an edited model really got."""
    result, refusal = result_of(facts.fleet), facts.artefact_edit_refusal
    if result is None or refusal is None:
        return None
    code, message, then = refusal
    text = canonical_bytes(head_of(result)).decode()
    return r.HeadDemo(text=text, digest=result["head_digest"], code=code, message=message, next=then)


def _tree_notes(facts: RunFacts, result: Json, say: Texts) -> list[str]:
    """How trees were grown, where they were. Bytes: of the owner whom most left."""
    told = result.get("trees")
    if told is None:
        return []
    left = max((sum(e.bytes for e in item.entries if e.statistic == HISTOGRAMS) for item in facts.owners), default=0)
    counts = {name: told[name] for name in ("kept", "grown", "rounds")}
    return [say("note.trees", **counts, numbers=f"{told['numbers_told']:,}", bytes=f"{left:,}")]


def _notes(facts: RunFacts, result: Json | None, shown: Sequence[r.CellPart], say: Texts) -> list[str]:
    notes: list[str] = []
    if result is not None:
        notes += [note[:1].upper() + note[1:] for note in result["notes"]]
        stricter = next_promise(result)
        if stricter is not None:
            notes += [say("note.next", goal=percent(stricter.error_goal), sentence=sentence) for sentence in stricter.missing]
        planned = result.get("thresholds", {}).get("note")
        if planned:
            notes.append(say("note.plan", note=planned))
        notes += _tree_notes(facts, result, say)
        scored = contribution_words(result, names_of(facts), say)
        notes += [scored[:1].upper() + scored[1:] + "."] if scored else []
    if facts.reference is not None and facts.reference.membership:
        attacks = ", ".join(f"{name} {auc:.2f}" for name, auc in facts.reference.membership.items())
        notes.append(say("note.membership", list=attacks))
    if any(cell.attributions for cell in shown):
        notes.append(say("note.cells"))
    elif any(cell.heat for cell in shown):
        notes.append(say("note.heat"))
    if facts.line is not None:
        line = facts.line
        notes.append(say("note.line", name=line.owner.name, bytes=f"{line.bytes_left:,}", images=line.images_left))
    return [*notes, *([facts.licence_note] if facts.licence_note else [])]
