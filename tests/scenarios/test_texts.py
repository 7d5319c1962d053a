"""Packages of texts: begun from a folder or a table, their rules, the sample shops, and what is not for texts."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from isthmus.cli.scenario import scenario as command
from isthmus.contracts.errors import FolderError
from isthmus.contracts.scenario import Interface
from isthmus.contracts.schema import Column
from isthmus.scenarios.columns import proposed_columns
from isthmus.scenarios.folder import survey
from isthmus.scenarios.package import load_package, shipped_folder
from isthmus.scenarios.rules import breaches
from isthmus.scenarios.sample_texts import CHINESE, PRODUCTS, RATED
from isthmus.scenarios.validation import validate

TALK = "text,mood,label\n" + "".join(f"sentence number {n} about something,{n % 3},{'defect' if n % 2 else 'good'}\n" for n in range(90))


def begun(tmp_path: Path, source: Path) -> Path:
    into = tmp_path / "package"
    ended = CliRunner().invoke(command, ["init", "letters", "--from", str(source), "--into", str(into), "--json"])
    assert ended.exit_code == 0, ended.output
    return into


def test_a_package_begins_from_sub_folders_of_texts(tmp_path: Path) -> None:
    for name in ("ok/a.txt", "ok/b.txt", "angry/c.txt"):
        (tmp_path / "mail" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mail" / name).write_text("words", encoding="utf-8")
    into = begun(tmp_path, tmp_path / "mail")
    made = load_package(into)
    assert made.interface.input == "text" and made.interface.classes == ("ok", "angry") and not validate(into)
    assert "texts seen" in (into / "README.md").read_text(encoding="utf-8")
    with pytest.raises(FolderError, match="holds texts"):
        survey(tmp_path / "mail")
    (tmp_path / "mail" / "ok").rename(tmp_path / "mail" / "calm")
    ended = CliRunner().invoke(command, ["init", "two", "--from", str(tmp_path / "mail"), "--into", str(tmp_path / "two")])
    assert isinstance(ended.exception, FolderError) and "says which texts are good" in ended.exception.message


def test_a_package_begins_from_a_table_with_texts(tmp_path: Path) -> None:
    (tmp_path / "records.csv").write_text(TALK, encoding="utf-8")
    into = begun(tmp_path, tmp_path)
    made = load_package(into)
    assert made.interface.schema is not None and made.interface.schema.columns == (Column(name="text", kind="text"),)
    assert not validate(into) and "mood | left out" in (into / "README.md").read_text(encoding="utf-8")


def test_a_table_of_numbers_with_a_remark_stays_a_table(tmp_path: Path) -> None:
    (tmp_path / "records.csv").write_text(TALK.replace("text,mood", "remark,mood"), encoding="utf-8")
    assert [column.name for column in proposed_columns(tmp_path).columns] == ["mood"]
    only = "remark,label\n" + "".join(f"a remark with number {n},good\n" for n in range(70))
    (tmp_path / "records.csv").write_text(only, encoding="utf-8")
    assert proposed_columns(tmp_path).columns == (Column(name="remark", kind="text"),)


@pytest.mark.parametrize(
    ("part", "changes", "code"),
    [
        ("interface", {"columns": [{"name": "x", "low": 0, "high": 1}]}, "bad-columns"),
        ("interface", {"input": "table", "columns": [{"name": "text", "kind": "text"}]}, "bad-columns"),
        ("interface", {"steps": 3}, "bad-columns"),
        ("recipe", {"backbone": "table"}, "unknown-backbone"),
        ("recipe", {"parts": ["meaning/400"]}, "bad-parts"),
        ("recipe", {"parts_after_leaving": ["meaning/8"]}, "shared-sources"),
        ("recipe", {"views": ["identity", "rotate-180"]}, "bad-views"),
        ("certify", {"families": ["noise"]}, "unknown-family"),
    ],
)
def test_what_a_package_of_texts_cannot_say_is_found(part: str, changes: dict[str, object], code: str) -> None:
    shipped = load_package(shipped_folder() / "complaint-triage")
    assert not breaches(shipped)
    document = json.loads(msgspec.json.encode(shipped))
    document[part] |= changes
    if changes.get("input") == "table":
        document["task"] = "table-inspection"
    found = breaches(msgspec.convert(document, type(shipped)))
    assert code in {one.code for one in found}, found


def test_the_sample_is_pinned_and_its_column_is_text() -> None:
    assert len(RATED.sha256) == len(CHINESE.sha256) == 64 and RATED.source and not CHINESE.source and len(PRODUCTS) == 4
    interface = Interface(input="text", output="verdict", classes=("a", "b"))
    assert interface.schema is not None and interface.schema.written
