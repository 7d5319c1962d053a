"""`isthmus scenario`: from nothing to an installed package, by the real command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import isthmus.cli.replicate as replicate_command
import isthmus.cli.run as run_command
from isthmus.cli.main import main
from isthmus.contracts.errors import InputError
from isthmus.contracts.head import Array, Head
from isthmus.foundry.export import build_artefact
from isthmus.foundry.features import stage
from isthmus.kit.pictures import DECODER, encode_png
from isthmus.scenarios.archive import packed
from isthmus.scenarios.contents import LOCK, MANIFEST, README
from isthmus.scenarios.package import shipped
from tests.scenarios.package_parts import NAME, changed, line_of, locked, on_disk, package

ARCHIVE = f"{NAME}-0.1.0.isthmus.zip"


@pytest.fixture(autouse=True)
def _own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ISTHMUS_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("COLUMNS", "200")


def told(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> dict[str, Any]:
    """The one JSON object of `isthmus scenario WORDS --json`."""
    assert main(["scenario", *words, "--json"]) == code, capsys.readouterr()
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    return found


def table(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    assert main(["scenario", *words]) == code, capsys.readouterr()
    return capsys.readouterr().out


def test_from_nothing_to_an_installed_package(tmp_path: Path) -> None:
    """In processes of their own, as a person would."""
    pixel = encode_png(np.zeros((8, 8, 3), np.uint8))
    for name in ("good", "dented"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        (tmp_path / "photos" / name / "1.png").write_bytes(pixel)

    def isthmus(*words: str) -> Any:
        done = subprocess.run(
            [sys.executable, "-m", "isthmus", "scenario", *words, "--json"], capture_output=True, text=True, cwd=tmp_path, check=False
        )
        assert done.returncode == 0 and done.stderr == "", done
        return json.loads(done.stdout)

    begun = isthmus("init", NAME, "--from", "photos", "--title", "Caps")
    assert set(begun["files"]) == {MANIFEST, README, "values.schema.json"}
    assert isthmus("validate", NAME) == {"folder": NAME, "errors": 0, "warnings": 0, "findings": []}
    packed_ = isthmus("package", NAME)
    assert packed_["archive"] == ARCHIVE and packed_["digest"] == begun["digest"]
    assert isthmus("install", ARCHIVE)["new"] is True
    assert isthmus("install", ARCHIVE)["new"] is False
    shown = isthmus("show", NAME)
    assert shown["digest"] == begun["digest"] and shown["scenario"]["interface"]["classes"] == ["good", "dented"]
    assert [row["where"] for row in isthmus("list")["packages"]] == ["installed", *["shipped"] * len(shipped())]


def test_validate_tells_place_and_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = changed("validity_days: 90", "validity_day: 90")
    folder = str(on_disk(tmp_path / "p", files))
    said = table(capsys, "validate", folder, code=1)
    assert (
        f"scenario.yaml:{line_of(files, 'validity_day:')}:3" in said
        and "did you mean validity_days?" in said
        and "1 error, 0 warnings" in said
    )
    found = told(capsys, "validate", folder, code=1)
    assert found["errors"] == 1 and found["findings"][0]["code"] == "unknown-field"
    assert set(found["findings"][0]) == {"level", "code", "file", "line", "column", "what", "next"}


def test_what_a_package_says_is_no_markup_of_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = changed('title: "Bottle caps"', 'title: "[bold]caps[/bold] [/]"')
    folder = str(on_disk(tmp_path / "p", files))
    assert "[bold]caps[/bold] [/]" in table(capsys, "show", folder)
    wrong = str(on_disk(tmp_path / "q", changed("tier: T2", 'tier: "[/red]"')))
    assert "[/red]" in table(capsys, "validate", wrong, code=1)


def test_lock_and_write_lock(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = on_disk(tmp_path / "p", package())
    assert told(capsys, "lock", str(folder))["written"] is False
    (folder / README).write_bytes(package()[README] + b"more")
    assert told(capsys, "validate", str(folder), code=1)["findings"][0]["code"] == "lock-stale"
    assert told(capsys, "validate", str(folder), "--write-lock")["errors"] == 0
    (folder / MANIFEST).write_bytes(changed("tier: T2", "tier: T9")[MANIFEST])
    before = (folder / LOCK).read_bytes()
    assert told(capsys, "validate", str(folder), "--write-lock", code=1)["errors"] == 2
    assert told(capsys, "lock", str(folder), code=2)["error"]["code"] == "bad-package"
    assert (folder / LOCK).read_bytes() == before


def test_show_with_values(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "site.yaml").write_text("price_micros: 9\n")
    found = told(capsys, "show", "solar-cell-inspection", "--values", "site.yaml")
    assert found["scenario"]["serve"]["micros_per_inference"] == 9 and found["values"] == {"price_micros": 9}
    assert {knob["name"]: knob["value"] for knob in found["knobs"]}["price_micros"] == 9
    said = table(capsys, "show", "solar-cell-inspection", "--values", "site.yaml")
    assert "9 (default 2000)" in said and "prohibited use" in said and "[100000, 75000, 50000] (default" not in said
    (tmp_path / "site.yaml").write_text("price: 9\n")
    error = told(capsys, "show", "solar-cell-inspection", "--values", "site.yaml", code=2)["error"]
    assert error["code"] == "bad-input" and "site.yaml:1:1" in error["message"] and "price_micros" in error["next"]


def test_diff_says_whether_a_certificate_stands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = str(on_disk(tmp_path / "one", package()))
    price = str(on_disk(tmp_path / "two", locked({**package(), README: package()[README] + b"more"})))
    bar = str(on_disk(tmp_path / "three", changed("groups_min: 8", "groups_min: 9")))
    assert "no difference" in table(capsys, "diff", one, one)
    found = told(capsys, "diff", one, price)
    assert found["needs_new_certificate"] is False and found["same_version_other_content"] is True
    assert "does not need a new certificate" in table(capsys, "diff", one, price)
    found = told(capsys, "diff", one, bar)
    assert found["needs_new_certificate"] is True
    assert found["changes"][0] == {"part": "manifest", "where": "certify.groups_min", "before": 8, "after": 9, "certificate": True}
    said = table(capsys, "diff", one, bar)
    assert "certify.groups_min" in said and "needs a new certificate" in said and "another version" in said


def test_diff_carries_a_sites_values_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = str(on_disk(tmp_path / "one", package()))
    renamed = str(on_disk(tmp_path / "two", changed('"price_micros"', '"fee_micros"', "values.schema.json")))
    narrow = str(on_disk(tmp_path / "three", changed('"maximum": 10000000', '"maximum": 3000', "values.schema.json")))
    (tmp_path / "site.yaml").write_text("price_micros: 5000\nvalidity_days: 90\n")
    found = told(capsys, "diff", one, renamed, "--values", "site.yaml", "--out", "new.yaml")["merge"]
    assert found["values"] == {"fee_micros": 5000, "validity_days": 90} and found["conflicts"] == []
    assert (tmp_path / "new.yaml").read_text() == "fee_micros: 5000\nvalidity_days: 90\n"
    assert told(capsys, "show", renamed, "--values", "new.yaml")["scenario"]["serve"]["micros_per_inference"] == 5000
    said = table(capsys, "diff", one, narrow, "--values", "site.yaml", "--out", "no.yaml", code=1)
    assert "conflict" in said and "above the most that is allowed; write 3000 or less" in said and not (tmp_path / "no.yaml").exists()
    (tmp_path / "site.yaml").write_text("prize: 5000\n")
    assert told(capsys, "diff", one, narrow, "--values", "site.yaml", code=2)["error"]["code"] == "bad-input"
    assert told(capsys, "diff", one, narrow, "--out", "x.yaml", code=2)["error"]["code"] == "bad-usage"


def test_probe_puts_the_cases_to_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(3)
    head = Head(
        stage=stage(("block/2",)), coefficients=Array.of(np.zeros(24)), bias=-1.0, lo=-0.5, hi=0.5, decoder=DECODER
    )  # says good to every picture
    (tmp_path / "model.onnx").write_bytes(build_artefact(head))
    image = encode_png(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8))
    listed = b"cases:\n- {file: a.png, expect: good, why: a clean one}\n- {file: b.png, expect: refused, why: the floor}\n"
    files = {"probes__probes_dot_yaml": listed, "probes__a_dot_png": image, "probes__b_dot_png": image}
    folder = str(on_disk(tmp_path / "with", package(**files)))
    found = told(capsys, "probe", folder, "--artefact", "model.onnx", code=1)
    assert found["failing"] == 1 and [(one["file"], one["found"], one["holds"]) for one in found["cases"]] == [
        ("a.png", "good", True),
        ("b.png", "good", False),
    ]
    said = table(capsys, "probe", folder, "--artefact", "model.onnx", code=1)
    assert "2 probes, 1 failing" in said and "the floor" in said
    without = str(on_disk(tmp_path / "without", package()))
    assert told(capsys, "probe", without, "--artefact", "model.onnx", code=2)["error"]["code"] == "bad-input"
    assert told(capsys, "probe", folder, "--artefact", "none.onnx", code=2)["error"]["code"] == "bad-input"
    (tmp_path / "odd.onnx").write_bytes(b"odd")
    assert told(capsys, "probe", folder, "--artefact", "odd.onnx", code=2)["error"]["code"] == "bad-model-file"


def test_refusals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, "show", "no-such", code=2)["error"]["code"] == "not-found"
    assert told(capsys, "validate", "no-such", code=2)["error"]["code"] == "bad-folder"
    assert told(capsys, "init", "No Such", code=2)["error"]["code"] == "bad-input"
    (tmp_path / "odd.zip").write_bytes(b"PK")
    assert told(capsys, "install", "odd.zip", code=2)["error"]["code"] == "bad-package"
    (tmp_path / ARCHIVE).write_bytes(packed(package()))
    told(capsys, "install", ARCHIVE)
    (tmp_path / ARCHIVE).write_bytes(packed(locked({**package(), README: package()[README] + b"more"})))
    assert told(capsys, "install", ARCHIVE, code=1)["error"]["code"] == "conflict"
    told(capsys, "init", NAME)
    assert told(capsys, "init", NAME, code=1)["error"]["code"] == "conflict"


def test_list_names_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "isthmus scenario install" in table(capsys, "list")
    (tmp_path / ARCHIVE).write_bytes(packed(package()))
    folder = Path(told(capsys, "install", ARCHIVE)["folder"])
    (folder / README).write_text("edited")
    rows = {row["where"]: row for row in told(capsys, "list")["packages"]}
    assert rows["installed"]["wrong"] and not rows["shipped"]["wrong"]
    assert "README.md" in table(capsys, "list")


@pytest.mark.parametrize("name", ["init", "validate", "lock", "show", "probe", "diff", "package", "install", "list"])
def test_help_has_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = table(capsys, name, "--help")
    assert "Example" in said and f"isthmus scenario {name}" in said


def test_run_and_replicate_take_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def caught(wanted: Any, *_: Any) -> Any:
        seen.append(wanted)
        raise InputError("seen", "stop")

    monkeypatch.setattr(run_command, "ScenarioRun", caught)
    monkeypatch.setattr(replicate_command, "replicated", caught)
    assert main(["run", NAME, "--values", "site.yaml"]) == 2
    assert main(["replicate", NAME, "--site", "line-4", "--samples", "40", "--values", "site.yaml"]) == 2
    assert [wanted.values for wanted in seen] == [Path("site.yaml"), Path("site.yaml")]


def test_run_refuses_values_before_it_starts_anything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "site.yaml").write_text("price_micros: -1\n")
    assert main(["run", "solar-cell-inspection", "--values", "site.yaml", "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["code"] == "bad-input" and "site.yaml:1:15" in error["message"], error
    assert not (tmp_path / "state").exists()
