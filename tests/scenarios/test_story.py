"""The telling of a run: figures, tables, cells and the report, with every part there and with each part missing."""

from __future__ import annotations

import copy
import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from isthmus.console.report import render
from isthmus.contracts.head import Head
from isthmus.contracts.report import RunReport
from isthmus.kit.canonical import digest_of, sha256_hex
from isthmus.kit.texts import load_texts
from isthmus.scenarios.cells import cells, feature_names
from isthmus.scenarios.facts import RunFacts
from isthmus.scenarios.figures import figures
from isthmus.scenarios.findings import promise_of
from isthmus.scenarios.story import story
from isthmus.scenarios.story_next import on_stage
from isthmus.scenarios.tables import LANGUAGES, headline, money_text, tables
from tests.scenarios import story_facts as made

PARTS = ("fleet", "site", "leave", "leaver", "serving", "reference", "artefact", "artefact_edit_refusal", "line")
KEYS = {
    "auc": {"joint", "alone", "pooled"},
    "certificate": {"digest", "issued", "reasons"},
    "site": {"name", "best", "auc", "certificate", "labels", "exchangeability", "labels_needed", "provable", "sentence"},
    "leave": {"party", "auc", "records", "dimension", "answered_share", "error_bound", "error_goal", "refusal"},
    "runs": {"fleet", "site", "leave"},
}
TOP = {
    *KEYS,
    *("scenario", "sample", "weights_max_rel_diff_to_pooled", "answered_share", "answered_error_bound", "error_goal", "promises"),
    *("bytes_left", "images_left", "visibility", "membership_auc", "membership", "requests", "receipts", "charge_micros", "currency"),
    *("entries_sum_micros", "split", "wall_s", "calibration", "contribution", "trees"),
}


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> RunFacts:
    return made.whole_facts(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def whole(facts: RunFacts) -> RunReport:
    return story(facts)


def without(facts: RunFacts, *parts: str) -> RunFacts:
    changed = copy.copy(facts)
    for part in parts:
        setattr(changed, part, () if part == "owners" else None)
    return changed


def bare(facts: RunFacts) -> RunFacts:
    return RunFacts(scenario=facts.scenario, sample=False, licence_note="")


def with_result(facts: RunFacts, **fields: Any) -> RunFacts:
    """The same facts with another fleet result."""
    assert facts.fleet is not None and facts.fleet.result is not None
    changed = copy.copy(facts)
    changed.fleet = msgspec.structs.replace(facts.fleet, result={**facts.fleet.result, **fields})
    return changed


def refused(facts: RunFacts) -> RunFacts:
    changed = copy.copy(facts)
    changed.fleet = made.view("run_fleet", made.build_result(made.PARTS, made.OWNERS, ladder=(20_000,)))
    changed.serving, changed.site, changed.artefact_edit_refusal = None, None, None
    return changed


def printed(facts: RunFacts) -> str:
    out = io.StringIO()
    console = Console(file=out, width=110)
    for part in tables(facts):
        console.print(part)
    return out.getvalue()


# Figures.


def test_every_key_is_there_whatever_is_missing(facts: RunFacts) -> None:
    for some in (facts, bare(facts), refused(facts), *(without(facts, part) for part in PARTS)):
        found = figures(some)
        assert set(found) == TOP
        assert all(set(found[key]) == inner for key, inner in KEYS.items())
        assert set(found["site"]["auc"]) == {"fleet", "local", "combined"}
        json.dumps(found, allow_nan=False)


def test_nothing_is_invented_for_a_run_that_found_nothing(facts: RunFacts) -> None:
    found = figures(bare(facts))
    known = {"scenario", "sample", "wall_s"}

    def values(value: Any) -> list[Any]:
        return [v for inner in value.values() for v in values(inner)] if isinstance(value, dict) else [value]

    assert all(v is None for key in TOP - known for v in values(found[key]))
    report = story(bare(facts))
    empty = {name for name in report.__struct_fields__ if getattr(report, name) in (None, ())}
    assert empty >= set(report.__struct_fields__) - {"scenario", "run_id", "at", "title", "version", "pictures", "figures"}


def test_figures_are_those_of_the_strictest_proven_promise(facts: RunFacts) -> None:
    found = figures(facts)
    assert [p["proven"] for p in found["promises"]] == [True, False]
    assert found["error_goal"] == 0.1 and found["answered_error_bound"] == found["promises"][0]["error_bound"] <= 0.1
    assert found["promises"][0]["missing"] == [] and "% among answered" in found["promises"][1]["missing"][0]
    assert found["certificate"]["issued"] is True and found["certificate"]["digest"].startswith("sha256:")
    assert found["visibility"] == "aggregate; own heads singly" and found["images_left"] == 0
    assert found["bytes_left"] == dict.fromkeys((*made.OWNERS, made.LINE), 18 + 160 + 40)
    assert found["auc"]["alone"].keys() == made.OWNERS.keys() and found["auc"]["pooled"] == 0.9


def test_a_refused_run_says_so_and_why(facts: RunFacts) -> None:
    some = refused(facts)
    found = figures(some)
    assert found["certificate"] == {"digest": None, "issued": False, "reasons": found["promises"][0]["missing"]}
    assert found["answered_error_bound"] > found["error_goal"] == 0.02
    part = story(some).certificate
    assert part is not None and not part.issued and part.reasons and part.digest is None and part.envelope is None
    said = part.reasons[0]
    assert part.more_records_needed is not None and "about 480 more" in said and part.more_records_needed >= 480
    assert "Not certified" in headline(some, load_texts("en", LANGUAGES))


def test_a_figure_that_is_not_finite_becomes_null(facts: RunFacts) -> None:
    changed = copy.copy(facts)
    assert facts.reference is not None
    changed.reference = dataclasses.replace(facts.reference, weights_max_rel_diff=float("nan"))
    assert figures(changed)["weights_max_rel_diff_to_pooled"] is None


# Money.


def test_splits_sum_to_the_charges(facts: RunFacts, whole: RunReport) -> None:
    assert facts.serving is not None and whole.money is not None and whole.leave is not None
    charged = sum(one.charge_micros for one in facts.serving.served)
    assert sum(figures(facts)["split"].values()) == charged == whole.money.charge_micros == sum(r.amount_micros for r in whole.money.split)
    after = whole.leave.outcomes[0].after
    assert after is not None and sum(row.amount_micros for row in after.split) == charged
    assert made.LEAVER not in {row.party for row in after.split} and made.LEAVER in {row.party for row in whole.leave.before.split}
    assert whole.money.entries_sum_micros == 0 and whole.money.units_sum == 0 and sum(u.amount for u in whole.money.units) == 0


def test_the_same_receipt_twice_counts_once(facts: RunFacts) -> None:
    assert facts.serving is not None
    changed = copy.copy(facts)
    changed.serving = dataclasses.replace(facts.serving, receipts=facts.serving.receipts * 2)
    assert figures(changed)["split"] == figures(facts)["split"] and figures(changed)["receipts"] == len(facts.serving.receipts)


def test_a_book_that_does_not_balance_shows(facts: RunFacts) -> None:
    assert facts.serving is not None
    changed = copy.copy(facts)
    changed.serving = dataclasses.replace(facts.serving, book={**facts.serving.book, "sums": {"EUR": 0, "USD": -3, "inferences@x": 9}})
    assert figures(changed)["entries_sum_micros"] == -3
    changed.serving = dataclasses.replace(facts.serving, book={})
    assert figures(changed)["entries_sum_micros"] is None


@given(st.integers(-(2**53), 2**53))
def test_money_is_written_exactly(micros: int) -> None:
    number, currency = money_text(micros, "EUR").split(" ")
    whole, part = number.replace(",", "").split(".")
    sign = -1 if whole.startswith("-") else 1
    assert currency == "EUR" and len(part) >= 2
    assert sign * (abs(int(whole)) * 1_000_000 + int(part.ljust(6, "0"))) == micros


# Cells.


def test_explanations_add_up_as_the_page_checks_them(facts: RunFacts) -> None:
    found = cells(facts)
    result = facts.fleet.result if facts.fleet else None
    assert result is not None and len(found) >= 8
    head = msgspec.convert(result["head"], Head)
    for cell in found:
        assert cell.score is not None and cell.bias is not None and cell.rest is not None and cell.features is not None
        total = cell.bias + cell.rest + sum(a.contribution for a in cell.attributions)
        assert abs(total - cell.score) <= 1e-6 * max(1.0, abs(cell.score))
        assert len(cell.attributions) == 8 and cell.picture and cell.heat and (cell.heat_limit or 0) > 0
        again = head.bias + float(np.asarray(cell.features, dtype=np.float64) @ head.coefficients.array())
        assert abs(again - cell.score) <= 1e-6
        assert cell.owner == made.LINE
    names = feature_names(head.stage)
    assert len(names) == head.stage.dimension and names[0] == "block 1, channel 0" and names[-1].startswith("block 2, channel")


def test_wrong_ones_come_first_and_each_picture_once(facts: RunFacts) -> None:
    found = cells(facts, per_kind=2)
    kinds = ["wrong" if c.verdict != "person" and c.verdict != c.label else str(c.verdict) for c in found]
    assert kinds == sorted(kinds, key=["wrong", "good", "defect", "person"].index)
    assert set(kinds) == {"wrong", "good", "defect", "person"} and max(kinds.count(k) for k in kinds) <= 2
    assert len({c.id for c in found}) == len(found)


def test_no_picture_without_a_licence_note_and_no_explanation_without_the_artefact(facts: RunFacts) -> None:
    own = copy.copy(facts)
    own.licence_note = ""
    assert all(c.picture is None and c.heat is None and c.attributions for c in cells(own))
    assert all(c.picture and c.bias is None and not c.attributions and c.features is None for c in cells(without(facts, "artefact")))


def test_a_picture_that_is_gone_is_left_out(facts: RunFacts) -> None:
    assert facts.serving is not None
    gone = dataclasses.replace(facts.serving.served[0], path=Path("gone.png"), label="good", verdict="defect", score=5.0)
    changed = copy.copy(facts)
    changed.serving = dataclasses.replace(facts.serving, served=(gone, *facts.serving.served))
    first = cells(changed)[0]
    assert (first.id, first.owner, first.picture, first.attributions) == ("gone", "sample-user", None, ())


# The report.


def test_the_whole_report_renders(facts: RunFacts, whole: RunReport) -> None:
    page = render(whole)
    assert "story" not in whole.title and len(page) > 50_000
    for name in ("model", "headline", "scores", "certificate", "serving", "money", "receipt", "site", "leave", "head", "figures"):
        assert getattr(whole, name) is not None, name
    for name in ("parties", "owners", "bars", "slices", "corruptions", "roc", "cells", "timings", "notes"):
        assert getattr(whole, name), name
    assert {p.role for p in whole.parties} == {"owner", "line", "compute", "vendor", "exchange", "user"}
    assert all(p.sample for p in whole.parties if p.id != "exchange")


@pytest.mark.parametrize("parts", [*((part,) for part in (*PARTS, "owners")), PARTS])
def test_the_report_renders_without_each_part(facts: RunFacts, parts: tuple[str, ...]) -> None:
    some = without(facts, *parts)
    report = story(some)
    assert render(report) and printed(some)
    if "fleet" in parts:
        assert report.model is None and report.headline is None and report.leave is None and report.cells == () and report.head is None
    if parts == ("reference",):
        assert report.model is not None and report.model.auc_pooled is None and report.model.membership_auc is None
    if parts == ("serving",):
        assert report.money is None and report.receipt is None and report.cells == ()
    if parts == ("leave",):
        assert report.leave is None
    if parts == ("artefact_edit_refusal",):
        assert report.head is None


def test_roc_ends_and_histograms_hold_all_records(whole: RunReport) -> None:
    assert whole.scores is not None and whole.headline is not None
    assert sum(whole.scores.good) + sum(whole.scores.defect) == whole.headline.records
    assert [c.party for c in whole.roc] == [None, *made.OWNERS]
    for curve in whole.roc:
        assert curve.points[0] == (0.0, 0.0) and curve.points[-1] == (1.0, 1.0)
        assert list(curve.points) == sorted(curve.points)


def test_headline_parts_are_all_records(whole: RunReport) -> None:
    part = whole.headline
    assert part is not None and part.answered_good is not None and part.answered_defects is not None
    assert part.answered_good + part.answered_defects == part.answered
    assert part.error_bound is not None and part.error_goal is not None and part.error_bound <= part.error_goal


def test_bars_agree_with_the_verdict(facts: RunFacts, whole: RunReport) -> None:
    assert facts.fleet is not None and facts.fleet.result is not None
    promises = [bar for bar in whole.bars if "promise of" in bar.name]
    assert [(bar.goal, bar.holds) for bar in promises] == [(0.1, True), (0.02, False)]
    assert all(bar.holds for bar in whole.bars if bar not in promises) and len(whole.bars) == 2 + 5 + 2
    assert promise_of(facts.fleet.result) is not None


def test_slices_and_corruptions_follow_the_claims(whole: RunReport) -> None:
    assert [row.name for row in whole.slices] == ["mono", "poly"]
    assert [(row.family, row.severity) for row in whole.corruptions] == [("brightness", s) for s in (0, 1, 2)]
    for row in (*whole.slices, *whole.corruptions):
        assert row.error_bound is not None and row.error_share is not None and row.error_bound >= row.error_share


def test_nothing_answered_is_not_an_error_of_zero(facts: RunFacts) -> None:
    assert facts.fleet is not None and facts.fleet.result is not None
    result = copy.deepcopy(facts.fleet.result)
    nothing = {"answered": 0, "answered_ppm": 0, "errors": 0, "error_ppm": 0, "error_bound_ppm": 1_000_000}
    for row in (result, *result["promises"]):
        row["claims"] |= nothing
        row["passed"], row["failures"] = False, ["nothing is answered"]
    counts = dict.fromkeys(("answered", "errors", "answered_defects", "missed_defects", "answered_good", "false_alarms"), 0)
    for row in result["evaluations"]:
        row["counts"] |= counts
        row["clusters"] = dict.fromkeys(row["clusters"], 0)
    result["certificate"] = None
    some = with_result(facts, **result)
    report = story(some)
    assert report.headline is not None and report.headline.error_share is None and report.headline.error_bound is None
    assert report.headline.recall is None and all(row.accuracy is None for row in report.slices)
    assert figures(some)["answered_error_bound"] is None and "answers none" in printed(some)
    assert render(report)


def test_owners_carry_their_logs(facts: RunFacts, whole: RunReport) -> None:
    first = whole.owners[0]
    assert [(m.kind, m.masked) for m in first.messages] == [("asset", None), ("moments/1", True), ("own-head/1", False)]
    assert sum(m.body_bytes for m in first.messages) == first.bytes_left
    assert first.log_head is not None and first.log_head.startswith("sha256:") and first.defect_share is None
    assert sum(o.share or 0 for o in whole.owners) == pytest.approx(1)
    assert first.alone_dimension is not None and whole.model is not None and first.alone_dimension < (whole.model.dimension or 0)


def test_the_head_document_is_the_one_that_was_certified(facts: RunFacts, whole: RunReport) -> None:
    demo, certificate = whole.head, whole.certificate
    assert demo is not None and certificate is not None and certificate.statement is not None
    assert "sha256:" + sha256_hex(demo.text.encode()) == demo.digest == certificate.statement["predicate"]["head_digest"]
    assert (demo.code, demo.message, demo.next) == made.EDIT_REFUSAL
    assert certificate.expires_at is not None and certificate.expires_at.startswith("2026-01-07")


def test_only_the_one_leaver_was_computed(whole: RunReport) -> None:
    leave = whole.leave
    assert leave is not None and [o.party for o in leave.outcomes] == [made.LEAVER] and set(leave.before.owners) == set(made.OWNERS)
    after = leave.outcomes[0].after
    assert after is not None and made.LEAVER not in after.owners and after.certificate_issued is True
    assert after.head is not None and leave.before.head is not None and after.head.stage == leave.before.head.stage
    assert "held-out images of those who stayed" in leave.outcomes[0].sentence
    assert "gives Cedar [Modules]'s own sums of those 24, from 300 images" in leave.outcomes[0].sentence


def test_sums_of_other_features_are_said_not_to_be_subtractable(facts: RunFacts) -> None:
    changed = copy.copy(facts)
    kept = {party: n for party, n in made.OWNERS.items() if party != made.LEAVER}
    changed.leave = made.view("run_leave", made.build_result(("block/4",), kept))
    part = story(changed).leave
    assert part is not None and part.outcomes[0].after is not None and "cannot be subtracted" in part.outcomes[0].sentence
    before, after = part.before.head, part.outcomes[0].after.head
    assert before is not None and after is not None and before.stage.parts == after.stage.parts == ("block/1", "block/2", "block/4")
    assert not (before.coefficients.array() * after.coefficients.array()).any() and before.coefficients.array().any()


def test_a_model_that_was_not_judged_whole_is_not_called_refused(facts: RunFacts) -> None:
    assert facts.leave is not None and facts.leave.result is not None
    result = copy.deepcopy(facts.leave.result)
    result["claims"]["corruptions"], result["certificate"] = [], None
    changed = copy.copy(facts)
    changed.leave = msgspec.structs.replace(facts.leave, result=result)
    part = story(changed).leave
    assert part is not None and part.outcomes[0].after is not None and part.outcomes[0].after.certificate_issued is None
    assert "no certificate was asked for" in part.outcomes[0].sentence


def test_a_refused_leaving_is_shown_in_its_own_words(facts: RunFacts) -> None:
    changed = without(facts, "leave")
    changed.leave_refusal = ("refused-by-node", "the sums would reveal birch's", "wait")
    part = story(changed).leave
    assert part is not None and part.outcomes[0].after is None and part.outcomes[0].refusal is not None
    assert part.outcomes[0].refusal.code == "refused-by-node" == figures(changed)["leave"]["refusal"]["code"]
    assert "would reveal" in printed(changed)


def test_a_smaller_head_on_the_larger_stage_gives_the_same_scores() -> None:
    small, large = made.head(made.FEW_PARTS, 3, -0.1, 0.1), made.head(("block/0", "block/1", "block/2"), 4, -0.1, 0.1)
    placed = on_stage(small, large.stage)
    assert placed is not None and placed.stage == large.stage and digest_of(placed) != digest_of(small)
    q = np.random.default_rng(0).integers(-9000, 9000, large.stage.dimension)
    own = np.array(["block 1," in name for name in feature_names(large.stage)])
    assert placed.coefficients.array() @ q == pytest.approx(small.coefficients.array() @ q[own], rel=1e-12)
    assert on_stage(large, small.stage) is None


def test_a_site_step_that_failed_is_no_site_model(facts: RunFacts) -> None:
    assert facts.site is not None
    changed = copy.copy(facts)
    changed.site = msgspec.structs.replace(facts.site, state="failed", result=None, error={"code": "x", "message": "the node went away"})
    part = story(changed).site
    assert part is not None and part.candidates == () and part.samples_given is None and "the node went away" in part.sentence
    assert figures(changed)["site"]["best"] is None and figures(changed)["site"]["name"] == made.LINE


# The tables.


def test_the_tables_fit_one_screen_and_say_the_main_things(facts: RunFacts) -> None:
    text = printed(facts)
    flat = " ".join(text.split())
    assert len(text.splitlines()) <= 40
    assert "at a proven error of at most 10 %" in flat and "A promise of 2 % is not proven yet: about 480 more answered" in flat
    assert "Alder [Modules], alone" in flat and "the book's entries sum to 0" in flat and "0.024036 EUR" in flat
    assert "Beware groups were inferred from the order of files; the bounds rest on that" in flat
    assert "Fleet and local (chosen)" in flat and "line-4: not certified." in flat and "without Cedar [Modules]" in flat
