"""The public face is committed and as the code says."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from isthmus.cli.reference import differing, reference_files, schema_files
from tests.house.source import ROOT

REFERENCE = ROOT / "docs" / "reference"


@pytest.fixture(scope="module")
def files() -> dict[str, str]:
    return reference_files()


def test_committed_reference_is_what_the_code_says(files: dict[str, str]) -> None:
    assert not (wrong := differing(REFERENCE, files)), f"run make reference: {wrong}"


def test_a_difference_is_seen(tmp_path: Path, files: dict[str, str]) -> None:
    assert set(differing(tmp_path, files)) == set(files)
    (tmp_path / "schemas").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert differing(tmp_path, files) == []
    (tmp_path / "errors.md").write_text(files["errors.md"].replace("404", "405"), encoding="utf-8")
    (tmp_path / "schemas" / "ghost.json").write_text("{}", encoding="utf-8")
    assert differing(tmp_path, files) == ["errors.md", "schemas/ghost.json"]


def test_schemas_are_json_schemas() -> None:
    for name, text in schema_files().items():
        schema = json.loads(text)
        jsonschema.Draft202012Validator.check_schema(schema)
        assert schema["$id"] == "isthmus/" + Path(name).stem


def test_openapi_refers_only_to_what_it_holds(files: dict[str, str]) -> None:
    document = json.loads(files["openapi.json"])
    assert document["openapi"].startswith("3.1") and document["paths"]
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert operation["summary"], path
    for reference in _references(document):
        assert reference.removeprefix("#/components/schemas/") in document["components"]["schemas"], reference


def _references(value: object) -> list[str]:
    if isinstance(value, dict):
        return [r for key, inner in value.items() for r in ([inner] if key == "$ref" else _references(inner))]
    return [r for inner in value for r in _references(inner)] if isinstance(value, list) else []
