"""A publisher's signature: over just this content, beside the archive, checked when a package is installed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from isthmus.cli.main import main
from isthmus.kit.signing import SigningKey
from tests.scenarios.package_parts import NAME, changed, on_disk, package


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    on_disk(tmp_path / "p", package())
    assert main(["scenario", "key", "me.key"]) == 0
    return tmp_path


def told(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> dict[str, object]:
    capsys.readouterr()
    assert main(["scenario", *words, "--json"]) == code
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def test_a_signed_package_is_installed_and_says_by_whom(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = told(capsys, "package", "p", "--into", "plain")
    made = told(capsys, "package", "p", "--sign", "me.key", "--publisher", "Plastics Ltd")
    archive = str(made["archive"])
    assert Path(archive).read_bytes() == Path(str(plain["archive"])).read_bytes(), "signed or not, the archive is the same"
    assert (place / "me.key").stat().st_mode & 0o077 == 0 and (place / "me.key.pub").read_text().strip() == made["public_key"]
    found = told(capsys, "install", archive, "--publisher", "me.key.pub", "--state", "a")
    assert (found["signed"], found["checked"], found["publisher"], found["new"]) == (True, True, "Plastics Ltd", True)
    found = told(capsys, "install", str(plain["archive"]), "--signature", f"{archive}.sig.json", "--state", "b")
    assert (found["signed"], found["checked"]) == (True, False)
    assert told(capsys, "install", str(plain["archive"]), "--state", "c")["signed"] is False
    assert main(["scenario", "install", str(plain["archive"]), "--state", "c"]) == 0
    assert "unsigned: nothing says who made it" in capsys.readouterr().out


def test_what_the_publisher_did_not_sign_is_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive = Path(str(told(capsys, "package", "p", "--sign", "me.key")["archive"]))
    other = SigningKey.from_seed(b"o" * 32).public_hex
    words = ["install", str(archive), "--state", "s"]
    assert told(capsys, *words, "--publisher", other, code=1)["error"]["code"] == "bad-signature"  # type: ignore[index]
    on_disk(place / "q", changed("tier: T2", "tier: T1"))
    changed_one = str(told(capsys, "package", "q", "--into", "q2")["archive"])
    sign = Path(f"{archive}.sig.json")
    Path(f"{changed_one}.sig.json").write_bytes(sign.read_bytes())
    for more in ((), ("--publisher", "me.key.pub")):
        found = told(capsys, "install", changed_one, "--state", "s", *more, code=1)
        assert "the signature is of" in found["error"]["message"]  # type: ignore[index]
    envelope = json.loads(sign.read_text())
    envelope["payload"] = envelope["payload"][:-8] + "AAAAAAA="
    sign.write_text(json.dumps(envelope))
    assert told(capsys, *words, "--publisher", "me.key.pub", code=1)["error"]["code"] == "bad-signature"  # type: ignore[index]
    sign.write_text("{}")
    assert told(capsys, *words, code=2)["error"]["code"] == "bad-document"  # type: ignore[index]
    sign.unlink()
    assert told(capsys, *words, "--publisher", "me.key.pub", code=1)["error"]["code"] == "bad-signature"  # type: ignore[index]
    assert told(capsys, "package", "p", "--sign", "none.key", code=2)["error"]["code"] == "bad-input"  # type: ignore[index]
    assert not (place / "none.key").exists() and not (place / "s" / "packages" / NAME).exists()
