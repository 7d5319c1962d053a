"""What people really give: each wrong thing gets one clear sentence, a code and an exit code that is not 0; odd but right things work."""

from __future__ import annotations

import io
import json
import socket
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from isthmus.assurance.certificate import issue
from isthmus.client.http import ExchangeClient
from isthmus.contracts.agreement import Agreement
from isthmus.kit.clock import SystemClock
from isthmus.kit.pictures import encode_png
from isthmus.kit.signing import SigningKey
from isthmus.sandbox.node import Identity, Node
from isthmus.sandbox.nodehome import NodeHome, NodeSettings, init_home
from isthmus.sandbox.outlog import OutLog
from isthmus.sandbox.uplink import HttpUplink
from isthmus.scenarios.run import checked_folders
from tests.assurance import test_certificate as issued
from tests.journeys.inspection import OPERATIONS, PURPOSE, SCENARIO, Ended, isthmus, owner_folder, run_words, scenario_folder, spoken
from tests.journeys.state import exchange_up
from tests.sandbox.world import tiny_tools

HUGE_SIDE_PIXELS = 7000
RECORDS = 24


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three folders that could be used."""
    root = tmp_path_factory.mktemp("good")
    return [owner_folder(root / name, seed, RECORDS) for seed, name in enumerate(("elm", "fir", "gum"))]


@pytest.fixture(scope="module")
def scenario(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scenario_folder(tmp_path_factory.mktemp("scenario") / "plates")


def labelled(folder: Path, lines: list[str]) -> None:
    (folder / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


# Folders of images. Each maker gets a folder that is good, and spoils it.


def is_missing(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()


def is_a_file(folder: Path) -> None:
    is_missing(folder)
    folder.write_text("no folder", encoding="utf-8")


def is_empty(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()


def names_absent_files(folder: Path) -> None:
    labelled(folder, ["path,label", "p0000.png,good", "nowhere.png,defect"])


def names_files_outside(folder: Path) -> None:
    labelled(folder, ["path,label", "p0000.png,good", "../fir/p0001.png,defect"])


def has_one_class(folder: Path) -> None:
    labelled(folder, ["path,label", *(f"p{i:04d}.png,good" for i in range(RECORDS))])


def has_labels_of_bytes(folder: Path) -> None:
    (folder / "labels.csv").write_bytes(bytes(range(256)) * 4)


def has_labels_that_are_no_csv(folder: Path) -> None:
    labelled(folder, ["path,label", '"p0000.png,good'])


def has_an_unknown_label(folder: Path) -> None:
    labelled(folder, ["path,label", "p0000.png,good", "p0001.png,broken"])


def has_an_image_of_text(folder: Path) -> None:
    (folder / "p0003.png").write_text("this is no image", encoding="utf-8")


def has_an_image_cut_short(folder: Path) -> None:
    (folder / "p0003.png").write_bytes((folder / "p0003.png").read_bytes()[:200])


def has_an_empty_image(folder: Path) -> None:
    (folder / "p0003.png").write_bytes(b"")


def has_a_huge_image(folder: Path) -> None:
    raw = io.BytesIO()
    Image.new("L", (HUGE_SIDE_PIXELS, HUGE_SIDE_PIXELS)).save(raw, format="PNG")
    (folder / "p0003.png").write_bytes(raw.getvalue())


def has_a_tiny_image(folder: Path) -> None:
    (folder / "p0003.png").write_bytes(encode_png(np.zeros((2, 2, 3), np.uint8)))


FOLDERS: dict[Callable[[Path], None], tuple[str, str]] = {
    is_missing: ("bad-folder", "is not a folder"),
    is_a_file: ("bad-folder", "is not a folder"),
    is_empty: ("bad-folder", "labels.csv"),
    names_absent_files: ("bad-folder", "nowhere.png"),
    names_files_outside: ("bad-folder", "not a path inside"),
    has_one_class: ("bad-folder", "labelled good"),
    has_labels_of_bytes: ("bad-folder", "UTF-8"),
    has_labels_that_are_no_csv: ("bad-folder", "labels.csv"),
    has_an_unknown_label: ("bad-folder", "'broken'"),
    has_an_image_of_text: ("bad-picture", "p0003.png"),
    has_an_image_cut_short: ("bad-picture", "p0003.png"),
    has_an_empty_image: ("bad-picture", "p0003.png"),
    has_a_huge_image: ("bad-picture", "p0003.png"),
    has_a_tiny_image: ("bad-picture", "p0003.png"),
}


@pytest.mark.parametrize("spoil", FOLDERS, ids=lambda spoil: spoil.__name__)
def test_a_folder_that(spoil: Callable[[Path], None], good: list[Path], scenario: Path, tmp_path: Path) -> None:
    code, said = FOLDERS[spoil]
    spoilt = owner_folder(tmp_path / "spoilt", 5, RECORDS)
    spoil(spoilt)
    error = spoken(*run_words(scenario, [*good[:2], spoilt], tmp_path / "state")).refused(code)
    assert said in error["message"], error
    assert "spoilt" in error["message"] or "p0003.png" in error["message"]
    assert not (tmp_path / "state" / "exchange").exists(), "nothing was started for it"


# Owners.


def test_two_owners_only(good: list[Path], scenario: Path, tmp_path: Path) -> None:
    error = spoken(*run_words(scenario, good[:2], tmp_path / "state")).refused("bad-input")
    assert "2 owners" in error["message"]


def test_the_same_folder_twice(good: list[Path], scenario: Path, tmp_path: Path) -> None:
    link = tmp_path / "elsewhere"
    link.symlink_to(good[0])
    for twice in (good[0], link):
        error = spoken(*run_words(scenario, [*good, twice], tmp_path / "state")).refused("bad-input")
        assert "is given twice" in error["message"]
    assert not (tmp_path / "state").exists()


def test_two_folders_of_one_name(good: list[Path], scenario: Path, tmp_path: Path) -> None:
    other = owner_folder(tmp_path / "site" / good[0].name, 8, RECORDS)
    error = spoken(*run_words(scenario, [*good, other], tmp_path / "state")).refused("bad-input")
    assert "would both be the owner elm" in error["message"]


# Scenarios, options, settings.


def test_a_scenario_that_is_not_there(good: list[Path], tmp_path: Path) -> None:
    error = spoken("run", "solar-cell-inspektion", "--state", tmp_path / "state", "--json").refused("not-found")
    assert "solar-cell-inspection" in error["next"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id: [unclosed", "not YAML"),
        ("just words", "scenario.yaml"),
        ("", "scenario.yaml"),
        (json.dumps({**SCENARIO, "extra": 1}), "extra"),
        (json.dumps({**SCENARIO, "tier": "T9"}), "tier"),
        (json.dumps({**SCENARIO, "recipe": {**SCENARIO["recipe"], "parts": "all"}}), "parts"),
        ("\0\1\2", "scenario.yaml"),
    ],
)
def test_a_scenario_that_is_malformed(text: str, said: str, good: list[Path], tmp_path: Path) -> None:
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "scenario.yaml").write_text(text, encoding="utf-8")
    error = spoken(*run_words(tmp_path / "odd", good, tmp_path / "state")).refused("bad-document")
    assert said in error["message"], error


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["run", "solar-cell-inspection", "--sample", "--json"], "bad-usage", "--sample"),
        (["run", "solar-cell-inspection", "--samples", "many", "--json"], "bad-usage", "many"),
        (["run", "solar-cell-inspection", "--samples", "3", "--json"], "bad-usage", "3"),
        (["run", "solar-cell-inspection", "--proof", "-1", "--json"], "bad-usage", "-1"),
        (["runn", "solar-cell-inspection", "--json"], "bad-input", "runn"),
        (["run", "--json"], "bad-usage", "SCENARIO"),
        (["replicate", "solar-cell-inspection", "--site", "line-4", "--json"], "bad-usage", "--samples"),
        (["replicate", "solar-cell-inspection", "--all", "x.csv", "--fit", "9", "--json"], "bad-usage", "--all goes without"),
        (["replicate", "solar-cell-inspection", "--all", "no such.csv", "--json"], "bad-document", "no such.csv"),
        (["up", "--port", "99999", "--json"], "bad-usage", "99999"),
    ],
)
def test_an_option(words: list[str], code: str, said: str, tmp_path: Path) -> None:
    error = spoken(*words).refused(code)
    assert said in error["message"], error


def test_a_setting_that_is_no_number(tmp_path: Path) -> None:
    error = isthmus("up", "--json", cwd=tmp_path, ISTHMUS_PORT="eighty").refused("bad-setting")
    assert "ISTHMUS_PORT" in error["message"]


def test_labels_of_the_sample_beside_own_folders(good: list[Path], scenario: Path, tmp_path: Path) -> None:
    error = spoken(*run_words(scenario, good, tmp_path / "state"), "--samples", "40").refused("bad-input")
    assert "--samples" in error["message"]


def test_no_samples_for_a_scenario_without_any(scenario: Path, tmp_path: Path) -> None:
    spoken("run", scenario, "--state", tmp_path / "state", "--json").refused("bad-input")


def test_a_site_before_any_run(good: list[Path], scenario: Path, tmp_path: Path) -> None:
    error = spoken("replicate", scenario, "--site", "s", "--samples", good[0], "--state", tmp_path / "state", "--json").refused("not-found")
    assert "isthmus run" in error["next"]


# Places and ports.


def test_a_state_folder_that_is_a_file(good: list[Path], scenario: Path, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file", encoding="utf-8")
    error = spoken(*run_words(scenario, good, tmp_path / "state")).refused()
    assert str(tmp_path / "state") in error["message"]
    error = spoken("up", "--state", tmp_path / "state", "--json").refused()
    assert str(tmp_path / "state") in error["message"]


def test_a_state_folder_where_nothing_can_be_written(good: list[Path], scenario: Path) -> None:
    """/proc takes no files, not even root's."""
    place = Path("/proc/isthmus-state")
    for words in (
        ["run", scenario, *(w for f in good for w in ("--data", f)), "--state", place, "--json"],
        ["up", "--state", place, "--json"],
    ):
        error = spoken(*words).refused()
        assert "/proc/isthmus-state" in error["message"]


def test_a_page_that_cannot_be_written_is_found_out_before_the_work(good: list[Path], scenario: Path, tmp_path: Path) -> None:
    words = [
        "run",
        scenario,
        *(w for f in good for w in ("--data", f)),
        "--state",
        tmp_path / "state",
        "--report",
        tmp_path / "no" / "r.html",
    ]
    error = spoken(*words, "--json").refused("storage-unavailable")
    assert "--report" in error["next"]
    assert not (tmp_path / "state" / "exchange").exists()


def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        error = spoken("up", "--state", tmp_path / "state", "--port", port, "--json").refused("exchange-not-started")
    assert str(port) in error["message"]
    assert "--port" in error["next"]


def test_a_state_folder_that_another_exchange_uses(tmp_path: Path) -> None:
    with exchange_up(tmp_path / "state"):
        error = isthmus("up", "--state", tmp_path / "state", "--port", "0", "--json").refused("exchange-not-started")
    assert "another exchange is running" in error["message"]
    assert "error [" not in error["message"]


# Keys, certificates, models.


def test_a_wrong_key_and_an_exchange_that_is_not_there(tmp_path: Path) -> None:
    with exchange_up(tmp_path / "state") as (url, _):
        error = spoken("book", "check", "--url", url, "--key", "isk_wrong", "--json").refused()
        assert "key" in error["message"]
    error = spoken("book", "check", "--url", url, "--key", "isk_wrong", "--json").refused("unreachable")
    assert url in error["message"]


@pytest.fixture
def certified(tmp_path: Path) -> Path:
    """A folder with a certificate that stands now, the model that it is about, and the issuer's key."""
    now_s = int(time.time())
    predicate = msgspec.structs.replace(issued.PREDICATE, not_before_s=now_s - 60, not_after_s=now_s + 3600)
    for name, given in (("now", predicate), ("past", msgspec.structs.replace(predicate, not_before_s=1000, not_after_s=2000))):
        envelope = issue(issued.KEY, "solar-cell-inspection", issued.DIGEST, given, issued.VERDICT)
        (tmp_path / f"{name}.json").write_bytes(msgspec.json.encode(envelope))
    (tmp_path / "model.onnx").write_bytes(issued.ARTEFACT)
    (tmp_path / "edited.onnx").write_bytes(issued.ARTEFACT[:-1] + b"!")
    (tmp_path / "other.pub").write_text(SigningKey.from_seed(b"o" * 32).public_hex, encoding="ascii")
    (tmp_path / "key.pub").write_text(issued.KEY.public_hex, encoding="ascii")
    return tmp_path


def verified(folder: Path, certificate: str = "now.json", model: str = "model.onnx", key: str = "key.pub") -> Ended:
    return spoken("certificate", "verify", folder / certificate, "--artefact", folder / model, "--public-key", folder / key, "--json")


def test_a_certificate_that_stands_and_four_that_do_not(certified: Path) -> None:
    assert verified(certified).document["valid"] is True
    codes = {
        verified(certified, model="edited.onnx").refused()["code"],
        verified(certified, key="other.pub").refused()["code"],
        verified(certified, certificate="past.json").refused()["code"],
    }
    assert len(codes) == 3, "each way to be refused has its own code"
    (certified / "torn.json").write_bytes((certified / "now.json").read_bytes()[:100])
    verified(certified, certificate="torn.json").refused()
    verified(certified, certificate="absent.json").refused()
    verified(certified, key="model.onnx").refused()


def test_a_receipt_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text("[1, 2", encoding="utf-8")
    spoken("receipt", "verify", tmp_path / "r.json", "--public-key", "0" * 64, "--json").refused("bad-document")
    spoken("receipt", "verify", tmp_path / "absent.json", "--public-key", "0" * 64, "--json").refused()


# Nodes.


def test_a_node_that_was_never_made_or_calls_nobody(good: list[Path], tmp_path: Path) -> None:
    # `node start` has no --json: it works until it is stopped.
    for words, said in (
        (["node", "start", "--state", tmp_path / "none", "--exchange", "http://127.0.0.1:9"], "no node's state folder"),
        (["node", "start", "--state", tmp_path / "none", "--exchange", "exchange"], "no address"),
    ):
        ended = spoken(*words)
        assert ended.code == 2
        assert ended.err.startswith("error [bad-input]:") and said in ended.err
    spoken("node", "log", "--state", tmp_path / "none", "--json").refused("bad-input")
    spoken("node", "init", good[0], "--state", tmp_path / "n", "--id", "Not A Slug", "--json").refused("bad-input")
    spoken("node", "agree", "--state", tmp_path / "none", "--purpose", "x", "--exchange-key", "0" * 64, "--json").refused("bad-input")


def expired_for(home: NodeHome, exchange: str, keys: dict[str, str], days_ago: int) -> Agreement:
    """Terms as of some days ago, for ten days."""
    issued_at_s = int(time.time()) - days_ago * 86_400
    return Agreement(
        owner=home.settings.id,
        asset=home.asset_digest,
        exchange=exchange,
        purposes=(PURPOSE,),
        operations=OPERATIONS,
        participants=keys,
        issued_at_s=issued_at_s,
        expires_at_s=issued_at_s + 10 * 86_400,
        runs_max=5,
        least_group_size=3,
        least_participants=3,
    )


def test_an_agreement_that_has_expired(good: list[Path], tmp_path: Path) -> None:
    """One owner's terms ran out yesterday: its node refuses, and the run says who and why."""
    homes = {}
    for folder in good:
        settings = NodeSettings(id=folder.name, name=folder.name, kind="owner", data=str(folder), licence="test", sample=True)
        homes[folder.name] = init_home(tmp_path / folder.name, settings)
    keys = {name: home.key.public_hex for name, home in homes.items()}
    with exchange_up(tmp_path / "state") as (url, token), ExchangeClient(url, token) as operator:
        exchange_key = operator.get("/v1/exchange")["public_key"]
        nodes = []
        for name, home in homes.items():
            home.agree(expired_for(home, exchange_key, keys, 11 if name == "fir" else 1))
            uplink, clock = HttpUplink(url, name, home.key, SystemClock()), SystemClock()
            me = Identity(name, home.key, home.party_envelope, home.asset_envelope)
            nodes.append(Node(me, home.owner_data(tiny_tools()), home.store, OutLog(home.log_path, home.key, clock), uplink, clock))
        for node in nodes:
            node.step(0)
        run = operator.post("/v1/runs", {"scenario": SCENARIO, "owners": list(homes)})["id"]
        deadline_s = time.monotonic() + 30
        while (view := operator.get(f"/v1/runs/{run}"))["state"] == "running" and time.monotonic() < deadline_s:
            nodes[1].step(0)
    assert view["state"] == "failed"
    assert view["error"]["code"] == "job-refused"
    assert "fir refused by its clause expiry: the agreement has expired" in view["error"]["message"]
    assert view["error"]["next"]


# Odd, and right.


def test_names_of_any_script_work(scenario: Path, tmp_path: Path) -> None:
    names = ("电池 一号", "Prüfzellen é", "завод-№7 🙂")
    for seed, name in enumerate(names):
        folder = owner_folder(tmp_path / name, seed, RECORDS)
        (folder / "p0001.png").rename(folder / "Zelle ü 细胞.png")
        text = (folder / "labels.csv").read_text(encoding="utf-8").replace("p0001.png", "Zelle ü 细胞.png")
        (folder / "labels.csv").write_text(text, encoding="utf-8")
        made = spoken("node", "init", folder, "--state", tmp_path / f"node {name}", "--id", f"o{seed}", "--name", name, "--json")
        assert made.code == 0, made.err
        assert made.document["records_train"] + made.document["records_holdout"] == RECORDS
    parties = checked_folders(tuple(tmp_path / name for name in names))
    assert len(parties) == 3
    assert all(party.isascii() for party in parties)


def test_cmyk_16_bit_and_other_formats_work(tmp_path: Path) -> None:
    folder = owner_folder(tmp_path / "odd", 3, RECORDS)
    grey = np.random.default_rng(2).integers(0, 65_535, (48, 48)).astype(np.uint16)
    made: list[tuple[str, Image.Image, str]] = [
        ("cmyk.jpg", Image.new("CMYK", (40, 40), (10, 200, 30, 4)), "JPEG"),
        ("cmyk.tif", Image.new("CMYK", (40, 40), (10, 200, 30, 4)), "TIFF"),
        ("deep.png", Image.fromarray(grey), "PNG"),
        ("deep.tif", Image.fromarray(grey), "TIFF"),
        ("clear.png", Image.new("RGBA", (40, 40), (10, 200, 30, 0)), "PNG"),
        ("palette.gif", Image.new("P", (40, 40)), "GIF"),
        ("bits.bmp", Image.new("1", (40, 40)), "BMP"),
    ]
    lines = (folder / "labels.csv").read_text(encoding="utf-8").splitlines()
    for name, image, form in made:
        image.save(folder / name, format=form)
        lines.append(f"{name},good,sure,lot-0,bri,train")
    labelled(folder, lines)
    ended = spoken("node", "init", folder, "--state", tmp_path / "node", "--id", "odd", "--json")
    assert ended.code == 0, ended.err
    assert ended.document["records_train"] + ended.document["records_holdout"] == RECORDS + len(made)
