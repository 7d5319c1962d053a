"""`isthmus worth`: from a certificate's file or a run's object, with the site's figures; what is missing or edited is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from isthmus.cli.main import main
from isthmus.cli.worthsource import Known, source_known
from isthmus.contracts.errors import InputError, NotFoundError
from isthmus.contracts.life import RetireOrder
from isthmus.scenarios.sitecosts import example
from tests.app.versions import Versions
from tests.cli.test_certificate_command import KEY, Case, claims


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Case(tmp_path).write(notes=("errors cluster",))
    (tmp_path / "costs.yaml").write_text(example(), encoding="utf-8")
    return tmp_path


def words(folder: Path, *more: str) -> list[str]:
    return ["worth", str(folder / "c.json"), "--costs", str(folder / "costs.yaml"), *more]


def test_the_table_says_whose_each_figure_is(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words(folder)) == 0
    out = capsys.readouterr().out
    for word in (
        "cells at fleet",
        "escapes avoided",
        "at least",
        "at most",
        "the site's own figures",
        "recall 85 %",
        "Note: errors cluster",
    ):
        assert word in out, out
    assert "signature was not checked" in " ".join(out.split())


def test_one_object_with_integers_only(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words(folder, "--json", "--public-key", str(folder / "k.pub"), "--escape-cost", "55")) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["certified"] and told["signature_checked"] and told["bounds"]["recall"] == 850_000
    assert all(line["value"] is None or isinstance(line["value"], int) for line in told["lines"])
    saved = next(line for line in told["lines"] if line["name"] == "saved")
    assert saved["side"] == "at least" and {"recall", "specificity", "error"} <= set(saved["rests_on"])


def test_a_runs_object_will_do(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "c.json").write_text(json.dumps({"run": "x", "claims": msgspec.to_builtins(claims()), "certificate": None}), encoding="utf-8")
    assert main(words(folder)) == 0
    assert "not certified" in capsys.readouterr().out


def test_an_edited_certificate_is_told_when_the_key_is_given(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    envelope = json.loads((folder / "c.json").read_text())
    envelope["signatures"][0]["sig"] = envelope["signatures"][0]["sig"][::-1]
    (folder / "c.json").write_text(json.dumps(envelope), encoding="utf-8")
    assert main(words(folder, "--public-key", KEY.public_hex, "--json")) != 0
    assert json.loads(capsys.readouterr().out)["error"]["code"] in ("bad-signature", "certificate-edited")


@pytest.mark.parametrize(
    ("text", "code"),
    [("{}", "bad-document"), ('{"payload": 3}', "certificate-edited"), ("no", "bad-document"), ('{"claims": {}}', "bad-document")],
)
def test_other_files_are_refused(folder: Path, capsys: pytest.CaptureFixture[str], text: str, code: str) -> None:
    (folder / "c.json").write_text(text, encoding="utf-8")
    assert main(words(folder, "--json")) != 0
    assert json.loads(capsys.readouterr().out)["error"]["code"] == code


def test_missing_figures_are_one_clear_error_with_an_example(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["worth", str(folder / "c.json"), "--parts-per-day", "100"]) == 2
    told = capsys.readouterr().err
    assert "escape_cost: 40.00" in told and told.count("\n") == 1
    assert main(["worth", "--example"]) == 0
    assert capsys.readouterr().out == example()


class House:
    """Answers as the exchange does, over real records of two certified versions."""

    def __init__(self, versions: Versions) -> None:
        self.versions = versions

    def get(self, path: str) -> Any:
        catalogue = self.versions.house.catalogue
        found: Any
        if path == "/v1/deployments":
            found = self.versions.lives.views()
        elif path == "/v1/runs":
            found = catalogue.runs()
        elif path.startswith("/v1/runs/"):
            found = catalogue.view(path.removeprefix("/v1/runs/"))
        elif path == "/v1/certificates":
            found = [{"digest": one, "envelope": envelope, "revoked": revoked} for one, envelope, revoked in catalogue.certificates()]
        else:
            found = catalogue.certificate(path.removeprefix("/v1/certificates/"))
        return msgspec.json.decode(msgspec.json.encode(found))


def test_what_serves_counts_and_not_the_newest_run(tmp_path: Path) -> None:
    versions = Versions(tmp_path)
    first, second = versions.put("run_1", 100_000), versions.put("run_2", 200_000, candidate=True)
    known = Known(House(versions), versions.house.key.public_hex, first.name, None)  # type: ignore[arg-type]
    try:
        found = source_known(known, None, None)
        assert "version 1" in found.what and first.certificate_digest[:19] in found.what and found.certified and found.checked
        named = source_known(known, second.certificate_digest[:20], None)
        assert second.certificate_digest[:19] in named.what and named.what != found.what
        with pytest.raises(NotFoundError, match="0 certificates"):
            source_known(known, "sha256:" + "0" * 12, None)
        with pytest.raises(InputError, match="too short"):
            source_known(known, "sha256:ab", None)
        with pytest.raises(NotFoundError, match="no run at hall-2"):
            source_known(Known(known._exchange, versions.house.key.public_hex, first.name, "hall-2"), None, None)
        versions.lives.retire(first.name, RetireOrder(id="o1", why="sold"), "exchange/k1")
        assert known.serving() is None
        versions.house.catalogue.revoke(second.certificate_digest, "edited")
        assert source_known(known, second.certificate_digest, None).certified is False
    finally:
        versions.close()
