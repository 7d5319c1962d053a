"""A box's runner as a process of its own, with nothing but numpy, onnxruntime and Pillow: it checks, judges, keeps, sends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from isthmus.contracts.edge import EdgeBox
from isthmus.foundry.engine import Scorer
from isthmus.kit.signing import SigningKey
from isthmus.ledger.check import check_book
from tests.app.edge_world import PARTY, EdgeWorld, picture, pictures_in, run_box, runner_words

VERDICTS = ("good", "defect", "person")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EdgeWorld]:
    found = EdgeWorld(tmp_path_factory.mktemp("edge") / "state")
    yield found
    found.close()


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def standing(world: EdgeWorld, box: EdgeBox) -> tuple[int, int]:
    """(records taken, pictures charged) as the exchange has them."""
    taken = next(found.taken for found in world.exchange.edge.boxes() if found.box == box.box)
    receipts = [r for r in world.exchange.meter.receipts.latest(1000) if r.sections["parties"].body["caller"] == box.box]
    return taken, sum(receipt.usage.inferences for receipt in receipts)


def test_it_says_what_the_engine_says_and_reports_time_and_memory(world: EdgeWorld, tmp_path: Path) -> None:
    box, folder = world.folder(tmp_path / "box")
    seen = pictures_in(tmp_path / "seen", 12)
    done = run_box(folder, seen)
    assert done.returncode == 0, done.stderr
    found = {line["name"]: line for line in lines(done.stdout)}
    scores, verdicts = Scorer(world.exchange.catalogue.artefact(box.artefact_digest)).judged([picture(seed) for seed in range(12)])
    assert [float(found[f"p{seed:04d}.png"]["score"]) for seed in range(12)] == [float(np.float32(score)) for score in scores]
    assert [found[f"p{seed:04d}.png"]["verdict"] for seed in range(12)] == [VERDICTS[verdict] for verdict in verdicts]
    told = lines(done.stderr)[-1]
    assert told["judged"] == 12 and told["left"] == 88 and told["ms"]["median"] > 0 and told["exchange"]["taken"] == 0
    assert told["peak_bytes"] is None or 20e6 < told["peak_bytes"] < 2e9


def test_plain_pixels_need_no_pillow(world: EdgeWorld, tmp_path: Path) -> None:
    _, folder = world.folder(tmp_path / "box")
    seen = tmp_path / "seen"
    seen.mkdir()
    np.save(seen / "a.npy", picture(1))
    pixels = picture(1)
    (seen / "b.ppm").write_bytes(b"P6\n%d %d\n255\n" % (pixels.shape[1], pixels.shape[0]) + pixels.tobytes())
    pictures_in(seen, 1)
    words = runner_words(folder, seen)
    done = subprocess.run([*words[:5], "--no-pillow", *words[5:]], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = lines(done.stdout)
    assert [line["name"] for line in found] == ["a.npy", "b.ppm"] and found[0]["score"] == found[1]["score"]
    named = subprocess.run([*words[:5], "--no-pillow", str(folder), str(seen / "p0000.png")], capture_output=True, text=True, check=False)
    assert named.returncode == 1 and "install pillow" in lines(named.stdout)[0]["error"]
    with_pillow = run_box(folder, pictures_in(tmp_path / "other", 2), seen / "b.ppm")
    assert {line["name"] for line in lines(with_pillow.stdout)} == {"p0000.png", "p0001.png"}, "b.ppm was judged before"


def edited(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes())) and None


def document(**changes: Any) -> Callable[[bytes], bytes]:
    return lambda raw: json.dumps({**json.loads(raw), **changes}).encode()


REFUSALS: dict[str, tuple[Callable[[Path], None], str]] = {
    "one bit of the model": (edited("model.onnx", lambda raw: raw[:-1] + bytes([raw[-1] ^ 1])), "not the file that was certified"),
    "the certificate's claims": (edited("certificate.json", lambda raw: raw.replace(b"LCJ0aWVy", b"LCJ0aWVz")), ""),
    "another issuer": (edited("issuer.pub", lambda raw: SigningKey.generate().public_hex.encode()), "no key that is trusted here"),
    "another decoder": (edited("target.json", document(decoder="other/1")), "decoded by isthmus-rgb8/1"),
    "a higher tier": (edited("target.json", document(tier="T3")), "for tier T2 only"),
    "another certificate's name": (edited("target.json", document(certificate_digest="sha256:" + "0" * 64)), "target.json names"),
    "no certificate": (lambda folder: (folder / "certificate.json").unlink(), "cannot be used"),
    "an empty model": (edited("model.onnx", lambda raw: b""), "not the file that was certified"),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_it_refuses_with_one_sentence_and_judges_nothing(world: EdgeWorld, tmp_path: Path, what: str) -> None:
    _, folder = world.folder(tmp_path / "box")
    change, said = REFUSALS[what]
    before = (folder / "certificate.json").read_bytes()
    change(folder)
    if what == "the certificate's claims":
        envelope = json.loads(before)
        envelope["payload"] = envelope["payload"][:200] + ("A" if envelope["payload"][200] != "A" else "B") + envelope["payload"][201:]
        (folder / "certificate.json").write_text(json.dumps(envelope), encoding="utf-8")
        said = "the certificate was edited"
    done = run_box(folder, pictures_in(tmp_path / "seen", 1))
    assert done.returncode == 2 and done.stdout == "" and "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1 and done.stderr.startswith("refused: ") and said in done.stderr, done.stderr
    assert not (folder / "journal.jsonl").exists() or (folder / "journal.jsonl").read_bytes() == b""


def test_a_pinned_key_and_a_tier_of_ones_own(world: EdgeWorld, tmp_path: Path) -> None:
    box, folder = world.folder(tmp_path / "box")
    seen = pictures_in(tmp_path / "seen", 1)
    assert run_box(folder, seen, "--public-key", box.public_key).returncode == 0
    assert "no key that is trusted" in run_box(folder, seen, "--public-key", SigningKey.generate().public_hex).stderr
    assert "for tier T2 only" in run_box(folder, seen, "--tier", "T3").stderr
    assert "there is no " in run_box(folder, tmp_path / "nowhere").stderr


def test_the_allowance_and_what_cannot_be_read(world: EdgeWorld, tmp_path: Path) -> None:
    _, folder = world.folder(tmp_path / "box", allowance=2)
    seen = pictures_in(tmp_path / "seen", 3)
    (seen / "a.png").write_bytes((seen / "p0000.png").read_bytes()[:60])
    done = run_box(folder, seen)
    assert done.returncode == 2 and "2 pictures that were paid for are used" in done.stderr
    told = lines(done.stdout)
    assert "error" in told[0] and [line["name"] for line in told[1:]] == ["p0000.png", "p0001.png"]


def test_it_keeps_what_it_cannot_send_and_sends_it_once(world: EdgeWorld, tmp_path: Path) -> None:
    box, folder = world.folder(tmp_path / "box", url="http://127.0.0.1:9")
    seen = pictures_in(tmp_path / "seen", 7)
    away = run_box(folder, seen)
    assert away.returncode == 0 and lines(away.stderr)[-1]["exchange"]["waiting"] == 7 and "why" in lines(away.stderr)[-1]["exchange"]
    assert standing(world, box) == (0, 0)
    with world.listening() as url:
        assert lines(run_box(folder, seen, "--url", url).stderr)[-1]["exchange"]["taken"] == 7
        assert standing(world, box) == (7, 7)
        (folder / "sent.json").unlink()
        pictures_in(seen, 2, first=7)
        last = lines(run_box(folder, seen, "--url", url).stderr)[-1]
        assert last["judged"] == 2 and last["exchange"]["taken"] == 9 and last["exchange"]["waiting"] == 0
        assert standing(world, box) == (9, 9), "all was sent again, and only what is new was counted"
    key = world.exchange.key
    assert check_book(world.exchange.meter.db, {key.key_id: key.public_hex}).receipts
    doubtful = [line for line in lines(away.stdout) if line["verdict"] == "person"]
    assert len([t for t in world.exchange.edge.tickets() if t.box == box.box]) >= len(doubtful)
    assert not any("p0000" in str(msgspec.to_builtins(t)) for t in world.exchange.edge.tickets()), "names of files stay at the box"


def test_killed_again_and_again_it_loses_and_doubles_nothing(world: EdgeWorld, tmp_path: Path) -> None:
    box, folder = world.folder(tmp_path / "box")
    seen, total, name = pictures_in(tmp_path / "seen", 60), 60, folder / "journal.jsonl"
    with world.listening() as url:
        for after in (1, 9, 23, 41):
            words = runner_words(folder, seen, "--url", url, "--watch", "--poll-s", "0.01", "--send-s", "0.02")
            child = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            deadline_s = time.monotonic() + 30
            while (name.read_bytes().count(b"\n") if name.exists() else 0) < after and time.monotonic() < deadline_s:
                time.sleep(0.002)
            child.kill()
            child.wait()
            with name.open("ab") as file:
                file.write(b'{"local": {"name": "p00')
        done = run_box(folder, seen, "--url", url)
        assert done.returncode == 0, done.stderr
    entries = lines(name.read_text(encoding="utf-8"))
    assert sorted(entry["local"]["name"] for entry in entries) == [f"p{seed:04d}.png" for seed in range(total)]
    assert standing(world, box) == (total, total)


def test_a_withdrawn_certificate_stops_the_box_once_it_hears_of_it(tmp_path: Path) -> None:
    world = EdgeWorld(tmp_path / "state")
    _, folder = world.folder(tmp_path / "box")
    seen = pictures_in(tmp_path / "seen", 2)
    assert run_box(folder, seen).returncode == 0
    world.exchange.catalogue.revoke(world.deployment.certificate_digest, "a fault was found")
    pictures_in(seen, 1, first=2)
    assert run_box(folder, seen).returncode == 0, "offline it cannot know"
    pictures_in(seen, 1, first=3)
    with world.listening() as url:
        done = run_box(folder, seen, "--url", url)
    assert done.returncode == 2 and "withdrawn" in done.stderr and done.stdout == ""
    again = run_box(folder, seen)
    assert again.returncode == 2 and "withdrawn" in again.stderr, "it remembers"
    world.close()


def test_half_written_files_are_not_read_and_new_ones_are(world: EdgeWorld, tmp_path: Path) -> None:
    _, folder = world.folder(tmp_path / "box")
    seen = tmp_path / "seen"
    seen.mkdir()
    words = runner_words(folder, seen, "--watch", "--remove", "--poll-s", "0.3")
    child = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    pixels = picture(1, 64)
    raw = b"P6\n64 64\n255\n" + pixels.tobytes()
    for share in range(1, 11):
        (seen / "slow.ppm").write_bytes(raw[: len(raw) * share // 10])
        time.sleep(0.15)
    (seen / ".part.png").write_bytes(b"being written")
    (seen / "whole.part").write_bytes(raw)
    (seen / "whole.part").replace(seen / "whole.ppm")
    deadline_s = time.monotonic() + 20
    while any((seen / name).exists() for name in ("slow.ppm", "whole.ppm")) and time.monotonic() < deadline_s:
        time.sleep(0.05)
    child.send_signal(signal.SIGINT) if os.name == "posix" else child.terminate()
    out, err = child.communicate(timeout=60)
    assert {line["name"] for line in lines(out)} == {"slow.ppm", "whole.ppm"} and not any("error" in line for line in lines(out)), out + err
    assert [path.name for path in seen.iterdir()] == [".part.png"]


def test_an_edited_journal_and_a_clock_that_was_set_back_are_refused(world: EdgeWorld, tmp_path: Path) -> None:
    _, folder = world.folder(tmp_path / "box")
    seen, name = pictures_in(tmp_path / "seen", 3), folder / "journal.jsonl"
    run_box(folder, seen)
    whole = name.read_bytes()
    name.write_bytes(whole.replace(b'"at_s": ', b'"at_s": 1', 1))
    assert "journal.jsonl was edited" in run_box(folder, seen).stderr
    name.write_bytes(b"".join(whole.splitlines(keepends=True)[1:]))
    assert "journal.jsonl was edited" in run_box(folder, seen).stderr
    rows = whole.splitlines(keepends=True)
    last = json.loads(rows[-1])
    last["record"]["at_s"] += 100 * 86_400
    name.write_bytes(b"".join([*rows[:-1], json.dumps(last).encode() + b"\n"]))
    assert "clock stands before" in run_box(folder, seen).stderr


def test_two_runners_do_not_write_one_journal(world: EdgeWorld, tmp_path: Path) -> None:
    _, folder = world.folder(tmp_path / "box")
    seen = pictures_in(tmp_path / "seen", 1)
    words = runner_words(folder, seen, "--watch", "--poll-s", "0.05")
    first = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert first.stdout is not None and "p0000" in first.stdout.readline()
    assert run_box(folder, pictures_in(tmp_path / "other", 1, first=5)).returncode == 0
    pictures_in(seen, 1, first=1)
    out, err = first.communicate(timeout=60)
    assert first.returncode == 2 and "another runner writes journal.jsonl" in err and "p0001" not in out
    assert run_box(folder, seen).returncode == 0, "the journal is whole"


def test_the_runner_is_small_and_party_names_are_checked(world: EdgeWorld, tmp_path: Path) -> None:
    _, folder = world.folder(tmp_path / "box")
    assert len((folder / "runner.py").read_text(encoding="utf-8").splitlines()) <= 200
    assert PARTY in json.loads((folder / "target.json").read_text(encoding="utf-8"))["box"]
    if os.name == "posix":
        assert (folder / "box.key").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("package", ["cryptography", "isthmus"])
def test_the_guard_refuses_what_a_box_does_not_have(world: EdgeWorld, tmp_path: Path, package: str) -> None:
    """The check itself can fail: a runner that wanted another package would be found out."""
    _, folder = world.folder(tmp_path / "box")
    edited("runner.py", lambda raw: raw.replace(b"import numpy as np", b"import numpy as np\nimport " + package.encode()))(folder)
    done = run_box(folder, pictures_in(tmp_path / "seen", 1))
    told = (f"No module named '{package}'", f"{package} is not installed on this box")
    assert done.returncode == 1 and any(sentence in done.stderr for sentence in told), done.stderr
