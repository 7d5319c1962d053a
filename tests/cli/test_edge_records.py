"""A box that judges rows and windows: the same numbers as the service, the same refusals, and nothing where the columns were edited."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.cli.edge.records import Rows, table
from isthmus.cli.export import write_box
from isthmus.contracts.certificate import PAYLOAD_TYPE, PREDICATE_TYPE, STATEMENT_TYPE, Certificate, Subject
from isthmus.contracts.edge import EdgeBox
from isthmus.contracts.errors import IsthmusError
from isthmus.contracts.head import Array, Head
from isthmus.contracts.schema import Column, Schema
from isthmus.foundry.engine import Scorer
from isthmus.foundry.export import artefact_digest, build_artefact, head_digest
from isthmus.foundry.stages import stage_of
from isthmus.kit.canonical import digest_of, sha256_hex
from isthmus.kit.records import RECORD_DECODER, decode_record
from isthmus.kit.signing import payload_of, seal
from isthmus.sandbox.rowfiles import RowFiles
from tests.app.edge_world import run_box
from tests.cli.test_certificate_command import KEY, predicate

COLUMNS = (
    Column(name="heat", low=0, high=100),
    Column(name="flow", low=0.1, high=10, log=True, missing=True),
    Column(name="state", kind="category", levels=("Idle", "running", "off")),
)
TABLE, SERIES = Schema(columns=COLUMNS), Schema(columns=COLUMNS[:2], steps=3)
SCHEMAS = {"table": TABLE, "series": SERIES}
PARTS = {"table": ("columns", "bins/4"), "series": ("last/2", "summary")}
VERDICTS = ("good", "defect", "person")
_FIELD = st.one_of(
    st.sampled_from(["", "NA", " ? ", "idle", "Running ", "off", "12", "-0.5", "1e3", "1e999", "nan", "inf", "0x1", "1_0", "٣", "x"]),
    st.floats(allow_nan=False).map(repr),
    st.integers(-(10**6), 10**6),
    st.floats(-1e6, 1e6),
    st.none(),
    st.booleans(),
    st.lists(st.integers(), max_size=1),
)
_ROW = st.dictionaries(st.sampled_from(["heat", "flow", "state", "other"]), _FIELD, max_size=4)


def plain(schema: Schema) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(msgspec.json.encode(schema))
    return found


def either(kind: str, raw: bytes) -> tuple[Any, Any]:
    """What box and service read of a record; None where it is refused."""
    found: list[Any] = []
    for read in (Rows(plain(SCHEMAS[kind])).decoded, lambda raw: decode_record(raw, "r", SCHEMAS[kind])):
        try:
            found.append(read(raw))
        except (ValueError, RecursionError, IsthmusError):
            found.append(None)
    return found[0], found[1]


def same(one: Any, other: Any) -> bool:
    return (one is None) == (other is None) and (one is None or (one.dtype == other.dtype and np.array_equal(one, other, equal_nan=True)))


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(["table", "series"]), st.lists(_ROW, min_size=1, max_size=4), st.booleans())
def test_a_box_reads_what_the_service_reads(kind: str, rows: list[dict[str, Any]], alone: bool) -> None:
    document = rows[0] if alone else rows
    assert same(*either(kind, json.dumps(document).encode()))


ODD = (
    b"",
    b"[]",
    b"3",
    b"[[]]",
    b'{"heat": NaN}',
    b'{"heat": 1, "heat": 2, "state": "off"}',
    b'{"heat": "\\ud800", "state": "off"}',
    b"\xff",
    b'{"heat": 1e400, "state": "off"}',
    b"[" * 5000,
    b'{"heat": 1, "state": "off"} x',
    b'{"heat": ' + b"9" * 30 + b', "state": "off"}',
)


@pytest.mark.parametrize("raw", ODD)
def test_odd_json_is_read_or_refused_alike(raw: bytes) -> None:
    assert same(*either("table", raw)), raw


def test_a_rows_bytes_do_not_depend_on_where_it_stood(tmp_path: Path) -> None:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["Heat", "state", " flow", "note"])
    rows = [["1.50", "off", "", 'a "b", c'], ["2", "Idle", "3", "ä\n\x7f\x01\\"], ["7", "running", "?", ""]]
    writer.writerows(rows)
    (tmp_path / "t.csv").write_text("\ufeff" + out.getvalue(), encoding="utf-8")
    found = dict(Rows(plain(TABLE)).records(tmp_path / "t.csv"))
    tables = RowFiles(tmp_path)
    assert found == {f"t.csv#{place}": tables.record("t.csv", place, place) for place in (1, 2, 3)}
    windows = dict(Rows(plain(SERIES)).records(tmp_path / "t.csv"))
    assert windows == {"t.csv#1-3": tables.record("t.csv", 1, 3)}
    assert len(list(Rows({**plain(SERIES), "steps": 2}, 1).records(tmp_path / "t.csv"))) == 2
    for text in ("", "a,a\n1,2\n", "a,b\n1\n", 'a\n"x\n'):
        with pytest.raises(ValueError, match=r"."):
            table(text.encode())


def boxed(folder: Path, kind: str, allowance: int = 1000) -> Head:
    """A box with a certified head for records, as `isthmus export` writes it."""
    stage = stage_of(kind, PARTS[kind], SCHEMAS[kind])
    slopes = Array.of(np.random.default_rng(7).normal(0, 1e-5, stage.dimension))
    head = Head(stage=stage, coefficients=slopes, bias=0.1, lo=-0.2, hi=0.3, decoder=RECORD_DECODER)
    artefact = build_artefact(head)
    subject = Subject(name="m", digest={"sha256": sha256_hex(artefact)})
    said = predicate(decoder=RECORD_DECODER, head_digest=head_digest(head), stage_digest=stage.digest)
    statement = Certificate(type_=STATEMENT_TYPE, subject=(subject,), predicate_type=PREDICATE_TYPE, predicate=said)
    envelope = seal(KEY, PAYLOAD_TYPE, statement)
    box = EdgeBox(
        box="line-box-1",
        party="line",
        deployment="pumps",
        version="1",
        site="fleet",
        tier="T2",
        decoder=RECORD_DECODER,
        artefact_digest=artefact_digest(artefact),
        certificate_digest="sha256:" + sha256_hex(payload_of(envelope)),
        certificate=msgspec.to_builtins(envelope),
        public_key=KEY.public_hex,
        allowance=allowance,
        prepaid_micros=0,
        currency="EUR",
        key="k",
    )
    write_box(folder, box, artefact, "", head=head)
    return head


def written(path: Path, kind: str, count: int) -> Path:
    rng = np.random.default_rng(3)
    lines = ["heat,flow,state,other"]
    for _ in range(count):
        flow = "" if rng.random() < 0.2 else f"{rng.lognormal():.4f}"
        lines.append(f"{rng.normal(50, 40):.3f},{flow},{('Idle', 'running', 'off')[rng.integers(3)]},x")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("kind", ["table", "series"])
def test_the_runner_says_what_the_service_says(kind: str, tmp_path: Path) -> None:
    head = boxed(tmp_path / "box", kind)
    rows = written(tmp_path / "rows.csv", kind, 60)
    done = run_box(tmp_path / "box", rows)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    raws = dict(Rows(plain(SCHEMAS[kind])).records(rows))
    records = [decode_record(raw, name, SCHEMAS[kind]) for name, raw in raws.items()]
    scores, verdicts = Scorer(build_artefact(head)).judged(records)
    assert [one["name"] for one in found] == list(raws)
    assert [float(one["score"]) for one in found] == [float(np.float32(score)) for score in scores]
    assert [one["verdict"] for one in found] == [VERDICTS[verdict] for verdict in verdicts]
    assert {"good", "defect", "person"} == {one["verdict"] for one in found}, "each verdict came"
    assert [one["image"] for one in found] == ["sha256:" + sha256_hex(raw) for raw in raws.values()]
    with rows.open("a", encoding="utf-8") as file:
        file.write("1,1,off,x\n" * SCHEMAS[kind].steps)
    again = run_box(tmp_path / "box", rows)
    assert len(again.stdout.splitlines()) == 1, "only what is new is judged"


def test_a_bad_row_is_named_and_the_others_are_judged(tmp_path: Path) -> None:
    boxed(tmp_path / "box", "table", allowance=4)
    seen = tmp_path / "seen"
    seen.mkdir()
    (seen / "rows.csv").write_text("heat,flow,state\n1,,off\nhot,1,off\n2,,on\n3,1,Idle\n", encoding="utf-8")
    (seen / "one.json").write_text('{"heat": 3, "state": "off"}', encoding="utf-8")
    (seen / "many.jsonl").write_text('{"heat": 4, "state": "off"}\n\n{"heat": 5}\n', encoding="utf-8")
    done = run_box(tmp_path / "box", seen)
    told = [json.loads(line) for line in done.stdout.splitlines()]
    bad = {line["name"]: line["error"] for line in told if "error" in line}
    assert set(bad) == {"many.jsonl#3", "rows.csv#2", "rows.csv#3"}
    assert "no column state" in bad["many.jsonl#3"] and "none of Idle, running, off" in bad["rows.csv#3"]
    assert done.returncode == 1 and [line["name"] for line in told if "seq" in line] == [
        "many.jsonl#1",
        "one.json",
        "rows.csv#1",
        "rows.csv#4",
    ]
    (seen / "two.json").write_text('{"heat": 4, "state": "off"}', encoding="utf-8")
    again = run_box(tmp_path / "box", seen)
    assert again.returncode == 2 and "the 4 records that were paid for are used" in again.stderr, again.stderr


def test_columns_that_were_edited_are_refused(tmp_path: Path) -> None:
    boxed(tmp_path / "box", "table")
    path = tmp_path / "box" / "head.json"
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b'["Idle","running","off"]', b'["off","running","Idle"]'))
    assert path.read_bytes() != raw
    done = run_box(tmp_path / "box", written(tmp_path / "rows.csv", "table", 2))
    assert done.returncode == 2 and "head.json is not the head that was certified" in done.stderr and not done.stdout
    assert digest_of(json.loads(raw)) == "sha256:" + sha256_hex(raw), "the file is the head's one form"
