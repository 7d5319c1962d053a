"""An asset's public description: Croissant 1.1, and not one record in it."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from isthmus.cli.main import isthmus
from isthmus.contracts.croissant import CONTEXT, AssetFacts, band_of, description_of, published
from isthmus.contracts.documentschemas import asset_description_schema
from isthmus.contracts.errors import DocumentError, FolderError, InputError
from isthmus.contracts.schema import Column, Schema
from isthmus.sandbox.columnasset import read_columns
from isthmus.sandbox.columndescription import described_columns
from isthmus.sandbox.columnlayout import column_place
from isthmus.sandbox.description import described, mock_sample
from isthmus.sandbox.nodehome import NodeSettings, init_home
from isthmus.sandbox.ownerdata import silent
from tests.sandbox.world import write_folder

CANARIES = ("canary-7319@example.org", "Zephyrine Canary", "+49 170 7319731", "7319.731", "canary-file-7319")
TABLE = """person_name,email,joined,pressure,remark,label,group
Zephyrine Canary,canary-7319@example.org,1973-11-09,7319.731,call +49 170 7319731,good,canary-file-7319
Bo,b@example.org,2020-01-02,1.5,none,defect,b
"""


def rows_folder(root: Path, text: str = TABLE) -> Path:
    root.mkdir(parents=True)
    (root / "records.csv").write_text(text, encoding="utf-8")
    return root


def texts_folder(root: Path) -> Path:
    for name in ("good", "bad"):
        (root / name).mkdir(parents=True)
        (root / name / "canary-file-7319.txt").write_text(
            f"{name}: Zephyrine Canary, +49 170 7319731, canary-7319@example.org", encoding="utf-8"
        )
    return root


def pictures_folder(root: Path) -> Path:
    for name, level in (("good", 60), ("bad", 200)):
        (root / name).mkdir(parents=True)
        exif = Image.Exif()
        exif.get_ifd(0x8825)[2] = (50.0, 7.0, 31.0)
        exif[0x010E] = "Zephyrine Canary 7319.731"
        raw = io.BytesIO()
        Image.fromarray(np.full((8, 8, 3), level, dtype=np.uint8)).save(raw, "JPEG", exif=exif)
        (root / name / "canary-file-7319.jpg").write_bytes(raw.getvalue())
    return root


def windows_folder(root: Path) -> Path:
    root.mkdir(parents=True)
    (root / "gauge.csv").write_text("level,flow\n" + "".join(f"{n},{n}.5\n" for n in range(1, 9)) + "7319.731,1\n", encoding="utf-8")
    (root / "labels.csv").write_text("path,label\ngauge.csv#1-3,good\ngauge.csv#4-6,defect\ngauge.csv#7-9,good\n", encoding="utf-8")
    return root


FOLDERS = {"table": rows_folder, "text": texts_folder, "image": pictures_folder, "series": windows_folder}


def document(root: Path, **given: Any) -> dict[str, Any]:
    found: dict[str, Any] = description_of(described(root, "asset", "alfa", "CC-BY-4.0", "2026-11-26", **given))
    return found


def check_structure(found: dict[str, Any]) -> None:
    """What Croissant 1.1 requires of a data set that embeds no data: sections "Required", "FileSet", "RecordSet" and "Field"."""
    jsonschema.Draft202012Validator(asset_description_schema()).validate(found)
    for name in ("name", "description", "license", "url", "creator", "datePublished"):
        assert found[name], name
    assert found["@type"] == "sc:Dataset" and "http://mlcommons.org/croissant/1.1" in found["conformsTo"]
    ids: set[str] = set()
    for one in found["distribution"]:
        assert one["@type"] in ("cr:FileSet", "cr:FileObject") and one["encodingFormat"] and one["includes"]
        ids.add(one["@id"])
    for record_set in found["recordSet"]:
        fields = {field["@id"]: field for field in record_set["field"]}
        assert record_set["@type"] == "cr:RecordSet" and len(fields) == len(record_set["field"])
        for field in fields.values():
            assert field["@type"] == "cr:Field" and field["dataType"].startswith("sc:") and field["source"]["fileSet"]["@id"] in ids
            assert ("arrayShape" in field) == field.get("isArray", False)
        assert record_set["examples"] and all(set(example) == set(fields) for example in record_set["examples"])
    used = set(re.findall(r'"([a-zA-Z]+):[a-zA-Z]+"', json.dumps(found)))
    assert used - {"urn", "https", "http"} <= set(CONTEXT)


@pytest.mark.parametrize("kind", FOLDERS)
def test_no_planted_value_is_in_the_description(tmp_path: Path, kind: str) -> None:
    found = document(FOLDERS[kind](tmp_path / "data"))
    check_structure(found)
    text = json.dumps(found, ensure_ascii=False)
    assert not [canary for canary in CANARIES if canary in text]
    assert "7319" not in text and "Zephyrine" not in text


@pytest.mark.parametrize("kind", FOLDERS)
def test_the_official_library_reads_it(tmp_path: Path, kind: str) -> None:
    if importlib.util.find_spec("mlcroissant") is None:
        pytest.skip("mlcroissant is not installed; the structural test above holds the same document to the specification")
    mlcroissant = importlib.import_module("mlcroissant")
    metadata = mlcroissant.Dataset(jsonld=document(FOLDERS[kind](tmp_path / "data"))).metadata
    assert not metadata.issues.errors and not metadata.issues.warnings
    assert len(metadata.record_sets[0].examples) >= 1


@pytest.mark.parametrize(
    ("kind", "signs"),
    [
        (
            "table",
            (
                "person_name is named like a name",
                "email is named like an e-mail",
                "remark have the shape of a phone",
                "email have the shape of an e-mail",
            ),
        ),
        ("text", ("an e-mail address", "a phone number")),
        ("image", ("EXIF",)),
        ("series", ("Nothing that looks personal",)),
    ],
)
def test_signs_of_personal_data_are_told(tmp_path: Path, kind: str, signs: tuple[str, ...]) -> None:
    told = " ".join(document(FOLDERS[kind](tmp_path / "data"))["rai:personalSensitiveInformation"])
    assert all(sign in told for sign in signs), told


def test_types_follow_from_how_values_parse_and_ranges_only_from_the_schema(tmp_path: Path) -> None:
    fields = {field["name"]: field for field in document(rows_folder(tmp_path / "data"))["recordSet"][0]["field"]}
    assert {name: field["dataType"] for name, field in fields.items()} == {
        "person_name": "sc:Text",
        "email": "sc:Text",
        "joined": "sc:Date",
        "pressure": "sc:Float",
        "remark": "sc:Text",
        "label": "sc:Text",
    }
    assert not any("Low" in key or "High" in key for field in fields.values() for key in field)
    schema = Schema(
        columns=(Column(name="pressure", unit="bar", low=0, high=9), Column(name="valve", kind="category", levels=("open", "shut")))
    )
    declared = document(tmp_path / "data", schema=schema)["recordSet"][0]
    assert [field["name"] for field in declared["field"]] == ["pressure", "valve", "label"]
    assert (declared["field"][0]["isthmus:declaredLow"], declared["field"][0]["isthmus:unit"]) == (0, "bar")
    for example in declared["examples"]:
        assert 0 <= example["records/pressure"] <= 9 and example["records/valve"] in ("open", "shut")


def test_the_made_up_sample_is_the_same_whatever_the_data(tmp_path: Path) -> None:
    one = document(rows_folder(tmp_path / "a"))["recordSet"][0]["examples"]
    other = document(rows_folder(tmp_path / "b", TABLE.replace("7319.731", "4.5").replace("Bo", "Al")))["recordSet"][0]["examples"]
    assert one == other


def test_windows_are_arrays_of_their_steps(tmp_path: Path) -> None:
    schema = Schema(columns=(Column(name="level", low=0, high=10), Column(name="flow", low=0, high=10)), steps=3)
    found = document(windows_folder(tmp_path / "data"), schema=schema)
    check_structure(found)
    assert [field.get("arrayShape") for field in found["recordSet"][0]["field"]] == ["3", "3", None]
    assert len(found["recordSet"][0]["examples"][0]["records/level"]) == 3


@pytest.mark.parametrize("header", ["4711,17", "canary-7319@example.org,x", "2021-01-01,y"])
def test_a_first_line_that_may_be_a_record_is_not_told(tmp_path: Path, header: str) -> None:
    root = windows_folder(tmp_path / "data")
    (root / "gauge.csv").write_text(header + "\n" + "1,2\n" * 9, encoding="utf-8")
    with pytest.raises(FolderError) as caught:
        document(root)
    assert "header" in caught.value.next_step and header.split(",", maxsplit=1)[0] not in str(caught.value)


@given(st.integers(0, 10**7))
def test_bands_hold_the_count_and_tell_its_first_digit_only(count: int) -> None:
    said = band_of(count)
    if count < 10:
        assert said == "fewer than 10"
        return
    low, high = (int(part.replace(",", "")) for part in said.split("-"))
    assert low <= count <= high and band_of(low) == band_of(high) == said and str(low)[1:] in ("0" * (len(str(low)) - 1),)


def test_of_a_quality_report_no_count_and_no_sentence_is_told(tmp_path: Path) -> None:
    report = {
        "score": 71,
        "records": 7319,
        "groups": 3,
        "findings": [{"check": "missing", "level": "care", "says": "7319 of them", "records": 7319, "share": 0.2537}],
    }
    quality = published(report)
    found = document(rows_folder(tmp_path / "data"), quality=quality)
    assert found["isthmus:quality"]["findings"][0]["share"] == 0.25, "four digits would tell how many records there are"
    assert found["isthmus:quality"]["score"] == 71 and "7319" not in json.dumps(found)


@pytest.mark.parametrize("report", [{}, {"score": "good"}, {"score": 1, "findings": [7]}, {"score": 1, "findings": 7}])
def test_a_report_that_is_none_is_refused(report: dict[str, Any]) -> None:
    with pytest.raises(DocumentError):
        published(report)


def test_facts_alone_make_the_document() -> None:
    facts = AssetFacts("a", "o", "proprietary", "table", (), "10-19", (), mock_sample(()), "2026-01-01")
    assert description_of(facts) == description_of(facts) and description_of(facts)["license"] == "proprietary"


def test_the_command_describes_a_folder_and_a_node(tmp_path: Path) -> None:
    data = write_folder(tmp_path / "data", 1)
    out = tmp_path / "asset.json"
    run = CliRunner().invoke(isthmus, ["asset", "describe", str(data), "--salt", str(tmp_path / "salt"), "--out", str(out)])
    assert run.exit_code == 0 and "no record is in it" in run.output
    first = json.loads(out.read_text(encoding="utf-8"))
    check_structure(first)
    again = CliRunner().invoke(isthmus, ["asset", "describe", str(data), "--salt", str(tmp_path / "salt"), "--json"])
    assert json.loads(again.output)["isthmus:commitment"] == first["isthmus:commitment"]
    assert "isthmus:commitment" not in json.loads(CliRunner().invoke(isthmus, ["asset", "describe", str(data), "--json"]).output)
    home = init_home(
        tmp_path / "state", NodeSettings(id="alfa", name="alfa", kind="owner", data=str(data), licence="CC-BY-4.0", sample=True)
    )
    home.store.close()
    node = json.loads(CliRunner().invoke(isthmus, ["asset", "describe", "--state", str(tmp_path / "state"), "--json"]).output)
    assert node["isthmus:commitment"] == home.asset.commitment and node["isthmus:sample"] is True
    assert node["license"] == "https://spdx.org/licenses/CC-BY-4.0"


def told_by_command(*words: str) -> dict[str, Any]:
    run = CliRunner().invoke(isthmus, ["asset", "describe", *words, "--json"])
    assert run.exit_code == 0, (run.output, run.exception)
    found: dict[str, Any] = json.loads(run.output)
    check_structure(found)
    return found


def test_a_node_tells_the_report_that_it_keeps_and_none_of_earlier_data(tmp_path: Path) -> None:
    data, state = rows_folder(tmp_path / "data", TABLE + "Cy,c@example.org,2020-01-03,2.5,none,good,c\n" * 20), tmp_path / "state"
    home = init_home(state, NodeSettings(id="alfa", name="alfa", kind="owner", data=str(data), licence="own", sample=True))
    home.store.close()
    assert "isthmus:quality" not in told_by_command("--state", str(state))
    checked = CliRunner().invoke(isthmus, ["asset", "check", "--state", str(state), "--json"])
    assert checked.exit_code == 0, checked.output
    report = json.loads(checked.output)
    kept = told_by_command("--state", str(state))
    assert kept["isthmus:quality"] == json.loads(msgspec.json.encode(published(report))) and "7319" not in json.dumps(kept)
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"score": 7}))
    assert told_by_command("--state", str(state), "--quality", str(other))["isthmus:quality"]["score"] == 7
    (data / "records.csv").write_text(TABLE + "Di,d@example.org,2020-01-03,2.5,none,good,d\n" * 9, encoding="utf-8")
    init_home(state, home.settings).store.close()
    assert "isthmus:quality" not in told_by_command("--state", str(state))


def columns_file(path: Path, named: bool = True) -> Path:
    """The table with the planted values, as one file in columns."""
    path.parent.mkdir(parents=True)
    rows = list(csv.DictReader(io.StringIO(TABLE)))
    columns: dict[str, list[Any]] = {(name if named else f"+49 170 7319731 {name}"): [row[name] for row in rows] for name in rows[0]}
    if path.suffix == ".csv":
        path.write_text(TABLE if named else TABLE.partition("\n")[2], encoding="utf-8")
        return path
    arrow = pytest.importorskip("pyarrow")
    columns["pressure"], columns["count"], columns["wet"] = [7319.731, None], [7319, 1], [True, False]
    made = arrow.table(columns)
    if path.suffix == ".parquet":
        importlib.import_module("pyarrow.parquet").write_table(made, path)
    else:
        importlib.import_module("pyarrow.feather").write_feather(made, path)
    return path


@pytest.mark.parametrize("name", ["big.csv", "big.parquet", "big.feather"])
def test_a_table_in_columns_is_described_and_no_planted_value_is_in_it(tmp_path: Path, name: str) -> None:
    data, state = columns_file(tmp_path / "data" / name), tmp_path / "state"
    home = init_home(state, NodeSettings(id="alfa", name="alfa", kind="owner", data=str(data), licence="own", sample=True))
    home.store.close()
    found = told_by_command("--state", str(state))
    assert found["isthmus:commitment"] == home.asset.commitment and found["isthmus:recordsBand"] == "fewer than 10"
    unchecked = CliRunner().invoke(isthmus, ["asset", "check", "--state", str(state)])
    assert isinstance(unchecked.exception, InputError) and "a table in columns" in unchecked.exception.message
    text = json.dumps(found, ensure_ascii=False)
    assert "7319" not in text and "Zephyrine" not in text and not [canary for canary in CANARIES if canary in text]
    types = {field["name"]: field["dataType"] for field in found["recordSet"][0]["field"]}
    typed = {"count": "sc:Integer", "wet": "sc:Boolean"} if name != "big.csv" else {}
    usual = {"person_name": "sc:Text", "email": "sc:Text", "joined": "sc:Date", "pressure": "sc:Float", "remark": "sc:Text"}
    assert types == {**usual, **typed, "label": "sc:Text"}
    told = " ".join(found["rai:personalSensitiveInformation"])
    assert "person_name is named like a name" in told and "remark have the shape of a phone" in told
    salt = str(tmp_path / "salt")
    bound = [told_by_command(str(data), "--salt", salt)["isthmus:commitment"] for _ in range(2)]
    assert bound[0] == bound[1] != home.asset.commitment
    assert found["distribution"][0]["includes"][0] == {".csv": "*.csv", ".parquet": "*.parquet", ".feather": "*.arrow"}[data.suffix]


def test_columns_have_the_type_that_all_batches_have(tmp_path: Path) -> None:
    path = tmp_path / "data" / "big.csv"
    path.parent.mkdir()
    rows = [f"{n},{n if n < 9000 else n + 0.5},{n if n < 9000 else 'x'},,{'defect' if n % 3 else 'good'}" for n in range(10_000)]
    path.write_text("\n".join(["whole,real,mixed,empty,label", *rows]) + "\n", encoding="utf-8")
    found = told_by_command(str(path))
    fields = {field["name"]: (field["dataType"], field.get("isthmus:parses")) for field in found["recordSet"][0]["field"]}
    assert fields == {
        "whole": ("sc:Integer", "all"),
        "real": ("sc:Float", "all"),
        "mixed": ("sc:Text", "some"),
        "empty": ("sc:Text", "none"),
        "label": ("sc:Text", None),
    }
    assert found["isthmus:recordsBand"] == "10,000-19,999"


def test_a_table_in_columns_has_its_scenarios_fields_and_no_first_record_for_names(tmp_path: Path) -> None:
    schema = Schema(columns=(Column(name="pressure", unit="bar", low=0, high=9000),))
    place = column_place(columns_file(tmp_path / "a" / "big.csv"))
    assert place is not None
    asset, _ = read_columns(*place, silent, schema)
    facts = described_columns(asset, "a", "alfa", "own", "2026-11-26", schema)
    assert [(one.name, one.unit, one.high) for one in facts.fields] == [("pressure", "bar", 9000), ("label", "", None)]
    pytest.importorskip("pyarrow")
    place = column_place(columns_file(tmp_path / "b" / "big.parquet", named=False))
    assert place is not None
    layout = msgspec.structs.replace(place[2], label="+49 170 7319731 label")
    asset, _ = read_columns(place[0], place[1], layout, silent)
    with pytest.raises(FolderError, match="looks like data") as refused:
        described_columns(asset, "a", "alfa", "own", "2026-11-26")
    assert "7319" not in str(refused.value)
