"""`isthmus certificate verify`: it stands for one file, one key, one time; every other case is told by its code."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from isthmus.cli.main import main
from isthmus.contracts.certificate import PAYLOAD_TYPE, PREDICATE_TYPE, STATEMENT_TYPE, Certificate, Claims, Predicate, Subject
from isthmus.kit.canonical import sha256_hex
from isthmus.kit.pictures import DECODER
from isthmus.kit.signing import SigningKey, payload_of, seal

KEY = SigningKey.from_seed(b"e" * 32)
MODEL = b"model bytes"


def claims() -> Claims:
    return Claims(
        records=600,
        groups=12,
        groups_inferred=True,
        confidence_ppm=950_000,
        design_effect_ppm=1_200_000,
        answered=420,
        answered_ppm=700_000,
        errors=9,
        error_ppm=21_429,
        error_bound_ppm=41_200,
        recall_ppm=900_000,
        recall_bound_ppm=850_000,
        specificity_ppm=950_000,
        specificity_bound_ppm=920_000,
        auc_ppm=930_000,
        auc_bound_ppm=900_000,
    )


def predicate(**changes: object) -> Predicate:
    now_s = int(time.time())
    base = Predicate(
        tier="T2",
        scenario="cells",
        site="fleet",
        decoder=DECODER,
        head_digest="sha256:" + "1" * 64,
        stage_digest="sha256:" + "2" * 64,
        bars_digest="sha256:" + "3" * 64,
        evidence_digest="sha256:" + "4" * 64,
        claims=claims(),
        parties=("a", "b"),
        agreements=(),
        not_before_s=now_s - 60,
        not_after_s=now_s + 3600,
    )
    return msgspec.structs.replace(base, **changes)


@dataclass
class Case:
    folder: Path

    def write(self, **changes: object) -> list[str]:
        """Files of a certificate; returns the command line that verifies it."""
        statement = Certificate(
            type_=STATEMENT_TYPE,
            subject=(Subject(name="cells.onnx", digest={"sha256": sha256_hex(MODEL)}),),
            predicate_type=PREDICATE_TYPE,
            predicate=predicate(**changes),
        )
        self.envelope = seal(KEY, PAYLOAD_TYPE, statement)
        (self.folder / "c.json").write_bytes(msgspec.json.encode(self.envelope))
        (self.folder / "m.onnx").write_bytes(MODEL)
        (self.folder / "k.pub").write_text(KEY.public_hex + "\n", encoding="ascii")
        return self.line()

    def line(self, **options: str) -> list[str]:
        given = {"artefact": str(self.folder / "m.onnx"), "public-key": str(self.folder / "k.pub"), **options}
        return [
            "certificate",
            "verify",
            str(self.folder / "c.json"),
            *(part for name, value in given.items() for part in (f"--{name}", value)),
        ]


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def refused(line: list[str], code: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(line) != 0
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith(f"error [{code}]: ") and said.err.count("\n") == 1, said
    return said.err


def test_it_stands(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(case.write()) == 0
    said = capsys.readouterr()
    assert "stands for this file" in said.out and "70.0 %" in said.out and "4.12 %" in said.out and "not checked" in said.out
    assert said.err == ""


def test_json(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*case.write(), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["valid"] is True and said["issuer_key_id"] == KEY.key_id and said["revocation_checked"] is False
    assert said["certificate"] == "sha256:" + sha256_hex(payload_of(case.envelope))


def test_the_key_may_be_given_as_text(case: Case) -> None:
    case.write()
    assert main(case.line(**{"public-key": KEY.public_hex.upper()})) == 0


def test_an_edited_model_is_refused(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    line = case.write()
    (case.folder / "m.onnx").write_bytes(MODEL[:-1] + b"X")
    refused(line, "certificate-wrong-artefact", capsys)


def test_an_edited_certificate_is_refused(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    line = case.write()
    document = json.loads((case.folder / "c.json").read_bytes())
    payload = payload_of(case.envelope).replace(b'"error_bound_ppm":41200', b'"error_bound_ppm":11200')
    document["payload"] = base64.b64encode(payload).decode()
    (case.folder / "c.json").write_text(json.dumps(document), encoding="utf-8")
    refused(line, "certificate-edited", capsys)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"not_after_s": 1_700_000_000}, "certificate-expired"),
        ({"not_before_s": 4_000_000_000}, "certificate-not-yet-valid"),
        ({"tier": "T1"}, "certificate-wrong-tier"),
        ({"decoder": "other/1"}, "certificate-wrong-decoder"),
    ],
)
def test_what_does_not_hold_now_is_refused(case: Case, changes: dict[str, object], code: str, capsys: pytest.CaptureFixture[str]) -> None:
    case.write(**changes)
    refused(case.line(tier="T2"), code, capsys)


def test_another_issuer_is_refused(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    case.write()
    refused(case.line(**{"public-key": SigningKey.from_seed(b"x" * 32).public_hex}), "certificate-issuer-unknown", capsys)


def test_a_withdrawn_certificate_is_refused(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    case.write()
    listed = case.folder / "revoked.txt"
    listed.write_text(f"sha256:{sha256_hex(payload_of(case.envelope))}\n", encoding="ascii")
    refused(case.line(revoked=str(listed)), "certificate-revoked", capsys)
    listed.write_text("sha256:" + "0" * 64 + "\n\n", encoding="ascii")
    assert main(case.line(revoked=str(listed))) == 0
    assert "not checked" not in capsys.readouterr().out
    listed.write_text("all of them\n", encoding="ascii")
    refused(case.line(revoked=str(listed)), "bad-document", capsys)


def test_files_that_cannot_be_used(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    case.write()
    refused(case.line(artefact=str(case.folder / "none.onnx")), "bad-input", capsys)
    refused(case.line(**{"public-key": "abc"}), "bad-input", capsys)
    refused(case.line(**{"public-key": str(case.folder / "m.onnx")}), "bad-input", capsys)
    (case.folder / "c.json").write_bytes(b"\xff\x00 not json")
    refused(case.line(), "certificate-edited", capsys)
