"""Facts of an invented run that is complete in itself: TEST DATA, measured on nothing. Pictures are drawn here."""

from __future__ import annotations

import datetime
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from PIL import Image

from isthmus.assurance.arithmetic import arithmetic
from isthmus.assurance.auc import auc
from isthmus.assurance.bars import bars_digest, judge
from isthmus.assurance.certificate import certificate_digest, issue
from isthmus.assurance.evidence import Evidence, evidence_digest
from isthmus.contracts.bars import Bars
from isthmus.contracts.build import RunView
from isthmus.contracts.certificate import Predicate
from isthmus.contracts.head import Array, Head, Stage
from isthmus.contracts.inference import VERDICTS
from isthmus.contracts.price import OwnerWeight, Price, Split, Usage
from isthmus.contracts.receipt import OutcomeSection, PartiesSection, PriceSection, Receipt, SplitSection, UsageSection
from isthmus.contracts.scenario import Scenario
from isthmus.contracts.sums import EVALUATION_BINS, EVALUATION_COUNTS, Evaluation, GroupSums, score_bins
from isthmus.foundry.engine import Scorer
from isthmus.foundry.export import build_artefact, head_digest
from isthmus.foundry.features import stage
from isthmus.kit.clock import SetClock
from isthmus.kit.pictures import DECODER, read_picture
from isthmus.kit.signing import SigningKey, seal
from isthmus.ledger.merkle import inclusion_path, leaf_hash, root_of
from isthmus.ledger.receipts import leaf_bytes, salted, section_digest
from isthmus.ledger.splits import divide
from isthmus.sandbox.outlog import Leaving, OutLog, verify_log
from isthmus.scenarios.facts import OwnerFacts, Reference, RunFacts, Served, ServingFacts
from isthmus.scenarios.local import Owner
from isthmus.scenarios.package import find_package, load_package

KEY = SigningKey.from_seed(b"story test key".ljust(32, b"."))
NOTE = "TEST DATA: drawn by a test, no licence needed"
NOW_S = 1_760_000_000
OWNERS = {"alder": 600, "birch": 401, "cedar": 300}
LEAVER, LINE = "cedar", "line-4"
PARTS, FEW_PARTS = ("block/1", "block/2"), ("block/1",)
BACKBONE = "efficientnet-lite0"
PRICE = Price(id="inspect-1", series="inspect", effective_at_s=0, currency="EUR", inference_micros=2_003)
SPLIT = Split(
    id="split-1",
    effective_at_s=0,
    compute="sample-compute",
    compute_ppm=300_000,
    vendor="sample-vendor",
    vendor_ppm=150_000,
    exchange="exchange",
    exchange_ppm=100_000,
    owners_ppm=450_000,
    owners=tuple(OwnerWeight(party=party, weight=rows) for party, rows in OWNERS.items()),
    residue="exchange-residue",
)
EDIT_REFUSAL = ("certificate-artefact", "the artefact sha256:0123456789ab is not the one that was certified", "load the certified bytes")


def scenario() -> Scenario:
    return load_package(find_package("solar-cell-inspection"))


def head(parts: tuple[str, ...], seed: int, lo: float, hi: float) -> Head:
    """Random coefficients on a real stage."""
    found: Stage = stage(parts, backbone=BACKBONE)
    values = np.round(np.random.default_rng(seed).normal(0, 2.4e-5, found.dimension) * 2**40) / 2**40
    return Head(stage=found, coefficients=Array.of(values), bias=-0.1, lo=lo, hi=hi, decoder=DECODER)


def evaluated(seed: int, apart: float, lo: float, hi: float, records: int = 900, groups: int = 15) -> Evaluation:
    """What a model of such scores would have counted; defects lie `apart` above good ones."""
    rng = np.random.default_rng(seed)
    defect = rng.random(records) < 0.35
    scores = np.clip(rng.normal(np.where(defect, apart / 2, -apart / 2), 0.35), -1.9, 1.9)
    group = np.arange(records) % groups
    called, passed = scores >= hi, scores <= lo
    answered = called | passed
    wrong = (called & ~defect) | (passed & ~called & defect)
    values = (
        records,
        groups,
        defect.sum(),
        answered.sum(),
        wrong.sum(),
        (answered & defect).sum(),
        (wrong & defect).sum(),
        (answered & ~defect).sum(),
        (wrong & ~defect).sum(),
    )
    a, e = (np.bincount(group, part, groups).astype(int) for part in (answered, wrong))
    sums = GroupSums(int((a > 0).sum()), int(a.sum()), int(e.sum()), int((a * a).sum()), int((e * e).sum()), int((a * e).sum()))
    histogram = np.stack(
        [np.bincount(score_bins(scores[defect == kind], EVALUATION_BINS), minlength=EVALUATION_BINS) for kind in (False, True)]
    )
    return Evaluation({name: int(v) for name, v in zip(EVALUATION_COUNTS, values, strict=True)}, sums, histogram)


def evaluation_row(name: str, condition: str, part: str, value: Evaluation) -> dict[str, Any]:
    clusters = {field: getattr(value.clusters, field) for field in value.clusters.FIELDS}
    place = {"head": name, "condition": condition, "slice": part}
    return {**place, "counts": value.counts, "clusters": clusters, "histogram": value.histogram.tolist()}


def rung(model: Head, ppm: int, evidence: Evidence) -> tuple[dict[str, Any], Any]:
    certify = scenario().certify
    bars = Bars(
        scenario="solar-cell-inspection", tier="T2", error_ppm_max=ppm, families=certify.families[:1], severities=certify.severities[:2]
    )
    verdict = judge(bars, evidence)
    row = {
        "bars": msgspec.to_builtins(bars),
        "bars_digest": bars_digest(bars),
        "thresholds": {
            "lo": model.lo,
            "hi": model.hi,
            "share": 0.6,
            "error_rate": 0.02,
            "predicted_bound": 0.05,
            "reached": True,
            "note": "",
        },
        "design_effect": evidence.design_effect,
        "head": msgspec.to_builtins(model),
        "head_digest": head_digest(model),
        "artefact_digest": "sha256:" + "a" * 64,
        "passed": verdict.passed,
        "failures": list(verdict.failures),
        "notes": list(verdict.notes),
        "claims": msgspec.to_builtins(verdict.claims),
    }
    return row, verdict


def certified(model: Head, digest: str, site: str, verdict: Any, evidence: Evidence) -> dict[str, Any]:
    predicate = Predicate(
        tier="T2",
        scenario="solar-cell-inspection@0.1.0",
        site=site,
        decoder=DECODER,
        head_digest=head_digest(model),
        stage_digest=model.stage.digest,
        bars_digest=verdict.bars_digest,
        evidence_digest=evidence_digest(evidence),
        claims=verdict.claims,
        parties=tuple(OWNERS),
        agreements=("sha256:" + "b" * 64,) * len(OWNERS),
        not_before_s=NOW_S,
        not_after_s=NOW_S + 90 * 86_400,
        notes=verdict.notes,
    )
    envelope = issue(KEY, "solar-cell-inspection", digest, predicate, verdict)
    return {"digest": certificate_digest(envelope), "envelope": msgspec.to_builtins(envelope)}


def build_result(of: tuple[str, ...], owners: dict[str, int], apart: float = 1.3, ladder: tuple[int, ...] = (100_000, 20_000)) -> Any:
    """A build's result as app/build.py makes it. Two rungs; with apart = 1.3 the first is proven and the second is not."""
    model = head(of, 5, -0.2, 0.2)
    clean = evaluated(1, apart, model.lo, model.hi)
    parts = {"mono": evaluated(2, apart, model.lo, model.hi, 400), "poly": evaluated(3, apart, model.lo, model.hi, 500)}
    corrupted = {("brightness", s): recount(evaluated(1, apart, model.lo - 0.2 * s, model.hi), clean) for s in (1, 2)}
    evidence = Evidence(clean=clean, slices=parts, corrupted=corrupted, design_effect=1.2, groups_inferred=True)
    tried = [rung(model, ppm, evidence) for ppm in ladder]
    passed = [item for item in tried if item[1].passed]
    row, verdict = passed[-1] if passed else tried[0]
    alone = {party: evaluated(20 + i, 0.7, 0.0, 0.0) for i, party in enumerate(owners)} if of == PARTS else {}
    own = head(FEW_PARTS, 9, 0.0, 0.0)
    rows = [evaluation_row("joint", "clean", "all", clean)]
    rows += [evaluation_row("joint", "clean", name, value) for name, value in parts.items()]
    rows += [evaluation_row("joint", f"{family}/{s}", "all", value) for (family, s), value in corrupted.items()]
    rows += [evaluation_row(party, "clean", "all", value) for party, value in alone.items()]
    return {
        "owners": {party: {"owner": party, "licence": "x", "records_train": n} for party, n in owners.items()},
        "stage": msgspec.to_builtins(model.stage),
        "moments": {"records": sum(owners.values()), "groups": 21, "sum_w": 2 * sum(owners.values())},
        "penalty": 0.3,
        "own_heads": {party: msgspec.to_builtins(own) for party in alone},
        "auc": {"joint": auc(clean.histogram), **{party: auc(value.histogram) for party, value in alone.items()}},
        "promises": [item[0] for item in tried],
        **row,
        "evaluations": rows,
        "certificate": certified(model, "sha256:" + "a" * 64, "fleet", verdict, evidence) if passed else None,
        "jobs": {},
    }


def recount(value: Evaluation, clean: Evaluation) -> Evaluation:
    """The same records: corruptions must not change how many there are."""
    assert value.counts["records"] == clean.counts["records"]
    return value


def site_result(fleet: dict[str, Any]) -> dict[str, Any]:
    """A site's result as app/site.py makes it: 40 labels to fit, none to prove, hence refused."""
    model = msgspec.convert(fleet["head"], Head)
    found = arithmetic(0.1, 0.95, 0, 0, 0, 0.6)
    candidates = {}
    for i, name in enumerate(("fleet", "combined", "local")):
        value = evaluated(40 + i, 1.0 + 0.1 * i, model.lo, model.hi, 680, 680)
        candidates[name] = {"loss": 0.4, "factor": 4.0, "penalty": 0.3, "auc": auc(value.histogram), "counts": value.counts}
    return {
        "site": LINE,
        "fleet_run": "run_fleet",
        "fit": 40,
        "proof": 0,
        "audit": 680,
        "best": "combined",
        "candidates": candidates,
        "head": fleet["head"],
        "artefact_digest": "sha256:" + "c" * 64,
        "thresholds": {"lo": model.lo, "hi": model.hi},
        "arithmetic": {name: getattr(found, name) for name in found.__dataclass_fields__},
        "passed": False,
        "failures": [found.sentence],
        "claims": None,
        "certificate": None,
    }


def left_by(folder: Path, party: str, rows: int, single: str) -> OwnerFacts:
    """An owner with a real signed log of three messages; single: the statistic of its head."""
    log = OutLog(folder / party / "left.jsonl", KEY, SetClock(float(NOW_S)))
    log.append(Leaving("asset", b"{}" * 9, "exchange"))
    log.append(Leaving("vector", bytes(8 * 20), "exchange", "job", "moments/1", (20,), "uint64"))
    log.append(Leaving("head", bytes(8 * 5), "exchange", "job", single, (5,), "float64"))
    entries = verify_log(log.path, KEY.public_hex)
    owner = Owner(
        party=party,
        name=f"{party.capitalize()} [Modules]",
        data=folder / "data" / party,
        state=folder / party,
        public_key=KEY.public_hex,
        records_train=rows,
        records_holdout=rows // 2,
        groups_train=8,
        groups_holdout=4,
        groups_inferred=True,
    )
    return OwnerFacts(owner=owner, entries=tuple(entries), bytes_left=sum(e.bytes for e in entries), images_left=0)


def receipt(place: int, size: int, caller: str) -> Receipt:
    """A receipt of one inference, with its proof in a log of `size` leaves."""
    usage = Usage(inferences=1)
    charge = PRICE.charge_micros(usage)
    bodies: dict[str, object] = {
        "usage": UsageSection(usage=usage, worst_case=usage, model="inspect"),
        "price": PriceSection(price=PRICE, held_micros=charge, priced_micros=charge, charge_micros=charge, overrun_micros=0),
        "split": SplitSection(rule=SPLIT, compute=SPLIT.compute, charge_micros=charge, lines=divide(SPLIT, charge)),
        "outcome": OutcomeSection(outcome="reported", reason="", opened_at_ms=1000 * NOW_S, ended_at_ms=1000 * NOW_S + 40),
        "parties": PartiesSection(caller=caller, compute=SPLIT.compute, vendor=SPLIT.vendor, exchange=SPLIT.exchange),
    }
    sections = salted(bodies, np.random.default_rng(place).bytes)
    digests = {name: section_digest(name, section) for name, section in sections.items()}
    name, at_ms = f"r-{place:06d}", 1000 * NOW_S + 40
    hashes = [leaf_hash(bytes([i])) for i in range(size)]
    hashes[place] = leaf_hash(leaf_bytes(name, at_ms, digests))
    path = inclusion_path(place, size, lambda lo, hi: root_of(hashes[lo:hi]))
    tree = {"log": "test-log", "tree_size": size, "root": root_of(hashes).hex(), "at_ms": at_ms}
    envelope = msgspec.to_builtins(seal(KEY, "application/vnd.isthmus.tree-head+json", tree))
    proof = {"leaf_index": place, "tree_size": size, "path": [step.hex() for step in path], "head": envelope}
    fields = {"format": "isthmus-receipt/1", "id": name, "at_ms": at_ms, "digests": digests, "leaf_index": place, "proof": proof}
    return msgspec.convert({**fields, "sections": msgspec.to_builtins(sections)}, Receipt)


@cache
def artefact() -> bytes:
    return build_artefact(head(PARTS, 5, -0.2, 0.2))


def drawn(folder: Path, seed: int, grey: bool) -> Path:
    rng = np.random.default_rng(seed)
    blocks = np.kron(rng.integers(0, 256, (6, 8, 1 if grey else 3)), np.ones((10, 10, 1))).astype(np.uint8)
    path = folder / f"cell-{seed:02d}.png"
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.broadcast_to(blocks, (60, 80, 3)).copy()).save(path)
    return path


def served(folder: Path, count: int) -> tuple[Served, ...]:
    """Requests with the scores that the artefact really gives to drawn pictures; labels are made up, every fourth is wrong."""
    paths = [drawn(folder, seed, grey=seed % 2 == 0) for seed in range(count)]
    scores, verdicts = Scorer(artefact()).judged([read_picture(path) for path in paths])
    made = []
    for place, path in enumerate(paths):
        verdict = VERDICTS[int(verdicts[place])]
        right = "defect" if scores[place] > 0 else "good"
        label = right if place % 4 else "good" if right == "defect" else "defect"
        made.append(
            Served(
                path=path,
                label=label,
                certainty="sure",
                kind="mono",
                score=float(np.float32(scores[place])),
                verdict=verdict,
                latency_s=0.01 + 0.001 * place,
                receipt_id=f"r-{place:06d}",
                charge_micros=PRICE.inference_micros,
            )
        )
    return tuple(made)


def view(name: str, result: dict[str, Any]) -> RunView:
    """As it comes over HTTP: through JSON."""
    kept = msgspec.json.decode(msgspec.json.encode(result))
    state = "refused" if result["certificate"] is None else "certified"
    return RunView(id=name, scenario="solar-cell-inspection", state=state, step="", steps=(), result=kept)  # type: ignore[arg-type]


def serving_facts(folder: Path, count: int = 12) -> ServingFacts:
    receipts = tuple(receipt(place, count, "sample-user") for place in range(count))
    units = [("sample-user", "used", -count), ("sample-compute", "made", count)]
    balance = {"held": 0, "floor": None, "available": None}
    accounts = {
        party: {
            "party": party,
            "balances": [
                {"account": {"party": party, "role": role, "unit": "inferences@sha256:" + "a" * 64}, "balance": amount, **balance},
                {"account": {"party": party, "role": "balance", "unit": "EUR"}, "balance": 7, **balance},
            ],
        }
        for party, role, amount in units
    }
    return ServingFacts(
        served=served(folder, count),
        receipts=receipts,
        refusals=(
            ("missing-key", "the request has no bearer key", "send one"),
            ("missing-key", "the request has no bearer key", "send one"),
        ),
        book={"holds": True, "lines": [], "sums": {"EUR": 0, "inferences@sha256:" + "a" * 64: 0}, "receipts": count, "entries": 99},
        caller="sample-user",
        accounts=accounts,
    )


def whole_facts(folder: Path) -> RunFacts:
    """Everything is there."""
    fleet = build_result(PARTS, OWNERS)
    leave = build_result(FEW_PARTS, {party: n for party, n in OWNERS.items() if party != LEAVER}, apart=1.1)
    return RunFacts(
        scenario=scenario(),
        sample=True,
        licence_note=NOTE,
        owners=tuple(left_by(folder, party, rows, "own-head/1") for party, rows in OWNERS.items()),
        line=left_by(folder, LINE, 40, "site-head/1"),
        fleet=view("run_fleet", fleet),
        site=view("run_site", site_result(fleet)),
        leave=view("run_leave", leave),
        leaver=LEAVER,
        serving=serving_facts(folder / "data" / LINE),
        reference=Reference(auc_pooled=0.9, weights_max_rel_diff=3e-11, membership_auc=0.55, membership={"leverage": 0.55}),
        artefact=artefact(),
        artefact_edit_refusal=EDIT_REFUSAL,
        exchange_key=KEY.public_hex,
        at=datetime.datetime.fromtimestamp(NOW_S, datetime.UTC).isoformat(),
        wall_s=123.4,
        timings=[("build", 60.0, False), ("serve", 4.0, True)],
    )
