"""A complete report made of invented numbers: TEST DATA, measured on nothing. Pictures are drawn here."""

from __future__ import annotations

import base64
import io
from typing import Any

import msgspec
import numpy as np
from PIL import Image

from isthmus.contracts import report as r
from isthmus.contracts.head import Array, Head, Stage
from isthmus.contracts.price import OwnerWeight, Price, Split, Usage
from isthmus.contracts.receipt import OutcomeSection, PartiesSection, PriceSection, Receipt, ShareSection, SplitSection, UsageSection
from isthmus.kit.canonical import canonical_bytes, digest_of, sha256_hex
from isthmus.kit.signing import SigningKey, payload_of, seal
from isthmus.ledger.merkle import inclusion_path, leaf_hash, root_of
from isthmus.ledger.receipts import leaf_bytes, salted, section_digest
from isthmus.ledger.splits import divide

D = 24
OWNERS = ("alder", "birch", "cedar")
NAMES = ("Alder Modules", "Birch Solar", "Cedar PV")
WEIGHTS = (912, 604, 388)
NOTE = "TEST DATA: drawn by a test, no licence needed"
KEY = SigningKey.from_seed(b"console test key".ljust(32, b"."))
STAGE = Stage(backbone="test-backbone", parts=("block/7",), dimension=D, digest="sha256:" + "5" * 64)


def random(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def head(seed: int, lo: float = -0.31, hi: float = 0.22) -> Head:
    coefficients = random(1).normal(0, 1.1e-5, D) + random(seed).normal(0, 2e-6, D)
    return Head(stage=STAGE, coefficients=Array.of(coefficients), bias=-0.12, lo=lo, hi=hi, decoder="test-decoder")


def png(pixels: np.ndarray) -> str:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def picture(seed: int) -> tuple[str, str]:
    """A drawn "cell" and a heat map over it."""
    noise = random(seed)
    y, x = np.mgrid[0:96, 0:96]
    grey = 120 + 40 * np.cos((y - 48) / 40) + noise.normal(0, 5, (96, 96)) - 60 * ((x % 32) < 1)
    at = noise.integers(15, 80, 2)
    grey -= 90 * np.exp(-(((x - at[0]) * 0.3 + (y - at[1])) ** 2) / 6) * (seed % 2)
    spot = np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / 260)
    heat = np.zeros((96, 96, 4), np.uint8)
    heat[..., :3] = (208, 64, 36) if seed % 2 else (42, 120, 184)
    heat[..., 3] = (200 * spot).astype(np.uint8)
    return png(np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, 2)), png(heat)


def cell(seed: int, model: Head) -> r.CellPart:
    """A cell whose attributions add up to its score, exactly as the head's numbers say."""
    coefficients = model.coefficients.array()
    wanted = [-0.92, 0.81, -0.55, 0.47, -0.12, 0.9, -0.7, 0.1][seed % 8]
    q = random(seed).integers(-9000, 9000, D)
    q = q + np.round((wanted - model.bias - coefficients @ q) * coefficients / (coefficients @ coefficients)).astype(int)
    q = np.clip(q, -32767, 32767)
    parts = coefficients * q
    score = float(model.bias + parts.sum())
    top = np.argsort(-np.abs(parts))[:6]
    shown = tuple(r.Attribution(feature=f"block 7, channel {i}", index=int(i), contribution=float(parts[i])) for i in top)
    image, heat = picture(seed)
    verdict = "good" if score <= model.lo else "defect" if score >= model.hi else "person"
    return r.CellPart(
        id=f"m{seed:02d}-c{seed * 7 % 60:02d}",
        owner=OWNERS[seed % 3],
        licence_note=NOTE,
        picture=image,
        heat=heat,
        score=score,
        verdict=verdict,
        label="defect" if seed % 2 else "good",
        certainty="unsure" if seed % 5 == 4 else "sure",
        kind="mono" if seed % 3 else "poly",
        bias=model.bias,
        attributions=shown,
        rest=float(parts.sum() - parts[top].sum()),
        features=tuple(int(v) for v in q),
    )


SPLIT = Split(
    id="split-1",
    effective_at_s=0,
    compute="sample-compute",
    compute_ppm=400_000,
    vendor="sample-vendor",
    vendor_ppm=100_000,
    exchange="exchange",
    exchange_ppm=50_000,
    owners_ppm=450_000,
    owners=tuple(OwnerWeight(party=o, weight=w) for o, w in zip(OWNERS, WEIGHTS, strict=True)),
    residue="exchange",
)
PRICE = Price(id="inspect-1", series="inspect", effective_at_s=0, currency="EUR", inference_micros=1503)


def receipt(place: int = 5, size: int = 11, unusual: str = "") -> Receipt:
    """A receipt as the ledger makes it, in a log of `size` leaves."""
    usage = Usage(inferences=4)
    charge = PRICE.charge_micros(usage)
    lines = divide(SPLIT, charge)
    bodies: dict[str, object] = {
        "usage": UsageSection(usage=usage, worst_case=Usage(inferences=8), model="inspect" + unusual),
        "price": PriceSection(price=PRICE, held_micros=2 * charge, priced_micros=charge, charge_micros=charge, overrun_micros=0),
        "split": SplitSection(rule=SPLIT, compute="sample-compute", charge_micros=charge, lines=lines),
        "outcome": OutcomeSection(outcome="reported", reason="", opened_at_ms=1_700_000_000_000, ended_at_ms=1_700_000_000_041),
        "parties": PartiesSection(caller="sample-user", compute="sample-compute", vendor="sample-vendor", exchange="exchange"),
    }
    for i, row in enumerate(lines):
        bodies[f"share-{i}"] = ShareSection(line=row, charge_micros=charge, currency="EUR", split_id=SPLIT.id)
    sections = salted(bodies, random(7).bytes)
    made = Receipt(format="isthmus-receipt/1", id="r-000005", at_ms=1_700_000_000_041, digests={}, sections=sections, leaf_index=place)
    return msgspec.convert(logged(made, size), Receipt)


def logged(made: Receipt, size: int = 11) -> dict[str, Any]:
    """The receipt with digests of its sections as they are, in a log whose head is signed: what the exchange itself could make."""
    place = made.leaf_index
    digests = {name: section_digest(name, section) for name, section in made.sections.items()}
    hashes = [leaf_hash(bytes([i])) for i in range(size)]
    hashes[place] = leaf_hash(leaf_bytes(made.id, made.at_ms, digests))
    path = inclusion_path(place, size, lambda lo, hi: root_of(hashes[lo:hi]))
    head_document = {"log": "test-log", "tree_size": size, "root": root_of(hashes).hex(), "at_ms": 1_700_000_001_000}
    envelope = msgspec.to_builtins(seal(KEY, "application/vnd.isthmus.tree-head+json", head_document))
    proof = {"leaf_index": place, "tree_size": size, "path": [step.hex() for step in path], "head": envelope}
    return {**msgspec.to_builtins(made), "digests": digests, "proof": proof}


def curves() -> tuple[tuple[r.RocCurve, ...], r.ScoreHistogram]:
    noise = random(3)
    out = []
    for name, party, apart in (("All, by sums", None, 2.0), *((n, o, a) for n, o, a in zip(NAMES, OWNERS, (1.7, 1.5, 1.2), strict=True))):
        good, bad = noise.normal(0, 1, 900), noise.normal(apart, 1, 420)
        cuts = np.linspace(5, -4, 60)
        points = [(0.0, 0.0), *((float((good >= c).mean()), float((bad >= c).mean())) for c in cuts), (1.0, 1.0)]
        auc = float((bad[:, None] > good[None, :]).mean())
        out.append(r.RocCurve(name=name, party=party, auc=auc, points=tuple(points)))
    bins = np.linspace(-2, 2, 257)
    good = np.histogram(noise.normal(-0.62, 0.3, 900), bins)[0]
    bad = np.histogram(noise.normal(0.42, 0.42, 420), bins)[0]
    return tuple(out), r.ScoreHistogram(low=-2, high=2, good=tuple(map(int, good)), defect=tuple(map(int, bad)))


def corruptions() -> tuple[r.CorruptionRow, ...]:
    rows = []
    for k, family in enumerate(("brightness", "contrast", "noise", "blur")):
        for severity in range(6):
            share = 0.714 * np.exp(-(0.03 + 0.05 * k) * severity**1.5)
            error = 0.031 + 0.004 * (k - 1) * severity
            rows.append(
                r.CorruptionRow(
                    family=family,
                    severity=severity,
                    answered_share=float(share),
                    error_share=float(error),
                    error_bound=float(error + 0.016 + 0.004 * severity),
                )
            )
    return tuple(rows)


def owners() -> tuple[r.OwnerPart, ...]:
    made = []
    for i, owner in enumerate(OWNERS):
        messages = tuple(
            r.SentMessage(kind=kind, shape=shape, body_bytes=size, digest="sha256:" + sha256_hex(f"{owner}{kind}".encode()), masked=masked)
            for kind, shape, size, masked in (
                ("moments/1", (352,), 2816, True),
                ("foldout/2", (5, 514), 20_568, True),
                ("clusters/2", (6,), 48, True),
                ("own-head/1", (25,), 200, False),
                ("evaluate/1", (21, 527), 88_536, True),
            )
        )
        made.append(
            r.OwnerPart(
                party=owner,
                records=WEIGHTS[i],
                groups=WEIGHTS[i] // 60,
                groups_inferred=True,
                defect_share=0.3,
                holdout_records=WEIGHTS[i] // 3,
                holdout_groups=WEIGHTS[i] // 180,
                bytes_left=sum(m.body_bytes for m in messages),
                images_left=0,
                messages=messages,
                log_head="sha256:" + sha256_hex(owner.encode()),
                auc_alone=(0.872, 0.861, 0.807)[i],
                alone_dimension=D,
                share=WEIGHTS[i] / sum(WEIGHTS),
            )
        )
    return tuple(made)


def split_rows(charge: int, without: str = "") -> tuple[r.SplitRow, ...]:
    rule = msgspec.structs.replace(SPLIT, owners=tuple(o for o in SPLIT.owners if o.party != without))
    return tuple(r.SplitRow(party=row.party, role=row.role, amount_micros=row.amount_micros) for row in divide(rule, charge))


def leave(charge: int) -> r.LeavePart:
    before = r.ModelState(
        owners=OWNERS,
        head=head(2),
        head_digest=digest_of(head(2)),
        records=sum(WEIGHTS),
        auc=0.9187,
        answered_share=0.714,
        error_bound=0.0478,
        certificate_issued=True,
        split=split_rows(charge),
    )
    gone = head(9, -0.36, 0.29)
    after = r.ModelState(
        owners=OWNERS[:2],
        head=gone,
        head_digest=digest_of(gone),
        records=sum(WEIGHTS[:2]),
        auc=0.9012,
        answered_share=0.652,
        error_bound=0.0493,
        certificate_issued=True,
        split=split_rows(charge, "cedar"),
    )
    refusal = r.RefusalShown(
        code="refused-by-node", message="leaving alone would reveal birch's sums by difference", next="wait for a second leaver"
    )
    return r.LeavePart(
        before=before,
        outcomes=(
            r.LeaveOutcome(
                party="cedar", rule="exact-withdrawal", sentence="Cedar's sums were taken away and the model solved again.", after=after
            ),
            r.LeaveOutcome(
                party="birch", rule="would-reveal", sentence="Two totals that differ by one owner reveal that owner.", refusal=refusal
            ),
        ),
    )


def certificate(model: Head) -> r.CertificatePart:
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "head.json", "digest": {"sha256": digest_of(model).removeprefix("sha256:")}}],
        "predicateType": "https://isthmus.test/certificate/v1",
        "predicate": {"tier": "T2", "test": True},
    }
    envelope = seal(KEY, "application/vnd.in-toto+json", statement)
    return r.CertificatePart(
        issued=True,
        tier="T2",
        digest="sha256:" + sha256_hex(payload_of(envelope)),
        statement=statement,
        envelope=msgspec.to_builtins(envelope),
        issued_at="2026-01-05T09:00:00Z",
        expires_at="2026-04-05T09:00:00Z",
    )


def site() -> r.SitePart:
    rows = (("fleet", 0.861, 0.58, 0.041, 0.067), ("local", 0.713, 0.22, 0.071, 0.14), ("combined", 0.884, 0.63, 0.036, 0.058))
    return r.SitePart(
        site="line-4",
        samples_given=40,
        samples_fit=28,
        samples_test=12,
        groups_test=2,
        groups_needed=8,
        samples_needed=188,
        audit_records=704,
        local_weight=3,
        candidates=tuple(r.SiteCandidate(name=n, auc=a, answered_share=s, error_share=e, error_bound=b) for n, a, s, e, b in rows),
        certificate=r.CertificatePart(
            issued=False,
            reasons=("2 held-out groups are too few to bound an error; 8 are needed",),
            more_groups_needed=6,
            more_records_needed=188,
        ),
        sentence="With no error among the 12 test labels the best provable bound is 22.1 %; a 5 % bound needs 59 answered without error.",
    )


def full_report() -> r.RunReport:
    """Everything present. All numbers are invented."""
    model = head(2)
    charge = 60_120
    roc, scores = curves()
    parties = [r.ReportParty(id=o, name=n, role="owner", sample=True, licence_note=NOTE) for o, n in zip(OWNERS, NAMES, strict=True)]
    others = (
        ("sample-compute", "Sample Compute", "compute"),
        ("sample-vendor", "Sample Vendor", "vendor"),
        ("exchange", "This exchange", "exchange"),
    )
    parties += [r.ReportParty(id=i, name=n, role=role, sample=True) for i, n, role in others]
    return r.RunReport(
        scenario="test-inspection",
        run_id="run-test-0001",
        at="2026-01-05T09:12:00Z",
        title="TEST DATA: three makers, one inspection model, no image moved",
        version="0.0-test",
        parties=tuple(parties),
        owners=owners(),
        model=r.ModelPart(
            auc_joint=0.9187,
            auc_pooled=0.9187,
            weights_max_rel_diff_to_pooled=3.1e-11,
            regularisation=0.0003,
            lo=-0.31,
            hi=0.22,
            dimension=D,
            records=sum(WEIGHTS),
            backbone="test-backbone",
            head_digest=digest_of(model),
            artefact_digest="sha256:" + "a" * 64,
            visibility="the total of all owners only",
            membership_auc=0.54,
        ),
        headline=r.HeadlinePart(
            answered_share=0.714,
            error_share=0.0318,
            error_bound=0.0478,
            error_goal=0.05,
            confidence=0.95,
            records=1320,
            answered=942,
            answered_good=640,
            answered_defects=302,
            missed_defects=19,
            false_alarms=11,
            groups=22,
            design_effect=1.31,
            recall=0.941,
            recall_bound=0.902,
            specificity=0.982,
            specificity_bound=0.961,
        ),
        bars=(
            r.BarRow(name="error-bound", value=0.0478, goal=0.05, compare="<=", holds=True),
            r.BarRow(name="answered-share", value=0.714, goal=0.5, compare=">=", holds=True),
            r.BarRow(name="recall-bound", value=0.902, goal=0.85, compare=">=", holds=True),
        ),
        slices=tuple(
            r.SliceRow(name=n, records=k, groups=g, accuracy=a, majority_rate=m, answered_share=s, error_share=e, error_bound=b)
            for n, k, g, a, m, s, e, b in (
                ("mono", 540, 9, 0.93, 0.74, 0.77, 0.027, 0.047),
                ("poly", 780, 13, 0.89, 0.68, 0.67, 0.036, 0.058),
            )
        ),
        corruptions=corruptions(),
        roc=roc,
        scores=scores,
        certificate=certificate(model),
        cells=tuple(cell(seed, model) for seed in range(8)),
        serving=r.ServingPart(
            requests=40,
            receipts=40,
            answered=29,
            to_person=11,
            latency_p50_ms=21.4,
            latency_p95_ms=33.9,
            refusals=(r.RefusalShown(code="artefact-edited", message="the model's bytes are not those that were certified"),),
        ),
        money=r.MoneyPart(
            currency="EUR",
            charge_micros=charge,
            price_micros=1503,
            price_unit="inference",
            price_version="inspect-1",
            split=split_rows(charge),
            entries=360,
            entries_sum_micros=0,
            units=(
                r.UnitRow(account="sample-user used", unit="inferences", amount=-40),
                r.UnitRow(account="sample-compute made", unit="inferences", amount=40),
            ),
            units_sum=0,
        ),
        receipt=receipt(),
        site=site(),
        leave=leave(charge),
        head=r.HeadDemo(
            text=canonical_bytes(model).decode(),
            digest=digest_of(model),
            code="artefact-edited",
            message="the model's head has digest {found}, the certificate names {expected}",
            next="fetch the certified file again",
        ),
        timings=(
            r.StepTime(name="moments of three owners", wall_s=21.3),
            r.StepTime(name="fit", wall_s=0.4),
            r.StepTime(name="evaluate under 20 corruptions", wall_s=61.8),
            r.StepTime(name="sample folders", wall_s=0.1, reused=True),
        ),
        notes=("Groups are inferred from the order of the files.",),
        figures={"auc": {"joint": 0.9187}, "images_left": 0},
    )
