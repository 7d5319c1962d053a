"""Every kind of fault is planted and must be found; a clean folder must not be accused."""

from __future__ import annotations

import io
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from isthmus.app.refining import Refining
from isthmus.contracts.errors import FolderError, InputError, StorageError
from isthmus.contracts.quality import CHARGES, Finding, WorkItem, charged, score_of
from isthmus.sandbox.folder import read_labels
from isthmus.sandbox.personaldata import iban_holds, named_after_somebody, signs_in, signs_in_names, signs_in_values
from isthmus.sandbox.quality.alike import near_pictures, near_rows, near_texts
from isthmus.sandbox.quality.check import Checked
from isthmus.sandbox.quality.doubts import label_doubts
from isthmus.sandbox.quality.worklist import apply_worklist, listed, read_worklist

COLUMNS = ("height", "weight", "pressure", "colour")


def rows_of(seed: int, count: int = 240) -> list[dict[str, str]]:
    """Rows whose label follows from weight and pressure, with few hard ones."""
    rng = np.random.default_rng(seed)
    rows = []
    for place in range(count):
        height, weight, pressure = rng.normal(170, 8), rng.normal(70, 9), rng.normal(120, 12)
        score = (weight - 70) / 9 + (pressure - 120) / 12 + 0.15 * rng.normal()
        rows.append(
            {
                "height": f"{height:.2f}",
                "weight": f"{weight:.2f}",
                "pressure": f"{pressure:.2f}",
                "colour": str(rng.choice(["red", "blue"])),
                "label": "defect" if score > 0 else "good",
                "group": f"g{place // 2}",
                "split": "holdout" if (place // 2) % 4 == 3 else "train",
            }
        )
    return rows


def folder_of(root: Path, rows: list[dict[str, str]]) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    names = list(rows[0])
    (root / "records.csv").write_text("\n".join([",".join(names), *(",".join(row[n] for n in names) for row in rows)]) + "\n", "utf-8")
    return root


def checked(root: Path) -> Checked:
    return Refining().check(root)


def of(found: Checked, check: str) -> list[Finding]:
    return [f for f in found.report.findings if f.check == check and f.level not in ("good", "unavailable")]


def paths(found: Checked, check: str) -> set[str]:
    return {item.path for item in found.work if item.check == check}


def test_a_clean_folder_is_not_accused(tmp_path: Path) -> None:
    found = checked(folder_of(tmp_path, rows_of(1)))
    assert not [f for f in found.report.findings if f.points > 1], found.report.findings
    assert found.report.score >= 98
    assert not of(found, "units") and not of(found, "leakage") and not of(found, "tell-tale")


def test_planted_faults_are_found_by_record(tmp_path: Path) -> None:
    rows = rows_of(2)
    for place in (10, 31, 52):
        rows[place]["height"] = f"{float(rows[place]['height']) / 2.54:.2f}"  # inch
    rows[60] = {**rows[60], **{n: rows[20][n] for n in COLUMNS}, "split": rows[20]["split"], "group": rows[20]["group"]}
    held, train = next(r for r in rows if r["split"] == "holdout"), rows[80]
    assert train["split"] == "train"
    for name in COLUMNS:
        train[name] = held[name]
    rows[81]["weight"], rows[100]["weight"] = "heavy", ""
    rows[12]["colour"] = "anna.muster@example.org"
    found = checked(folder_of(tmp_path, rows))
    assert {"records.csv#11", "records.csv#32", "records.csv#53"} <= paths(found, "units")
    fix = next(item for item in found.work if item.path == "records.csv#11" and item.check == "units")
    assert fix.action == "fix" and abs(float(fix.value) / float(rows_of(2)[10]["height"]) - 1) < 1e-3
    assert "records.csv#61" in paths(found, "duplicates")
    assert paths(found, "leakage") == {"records.csv#81"}
    assert "records.csv#82" in paths(found, "out-of-range")
    assert of(found, "missing")[0].records == 1
    assert "an e-mail address" in found.report.personal and "records.csv#13" in paths(found, "personal")
    assert found.report.score < 95
    told = msgspec.json.encode(found.report).decode()
    assert "records.csv" not in told and "muster" not in told, "the report names a record"


def test_wrong_labels_stand_on_top_of_the_list_and_held_out_ones_are_left_alone(tmp_path: Path) -> None:
    rows = rows_of(3, 400)
    rng = np.random.default_rng(3)
    flipped = set()
    for place in rng.permutation(400)[:40].tolist():
        rows[place]["label"] = "good" if rows[place]["label"] == "defect" else "defect"
        flipped.add(f"records.csv#{place + 1}")
    trained = {p for p in flipped if rows[int(p.split("#")[1]) - 1]["split"] == "train"}
    found = checked(folder_of(tmp_path, rows))
    named = paths(found, "label-errors")
    assert not {p for p in named if rows[int(p.split("#")[1]) - 1]["split"] != "train"}
    assert len(named & flipped) / len(named) > 0.8 and len(named & flipped) / len(trained) > 0.3
    assert abs((found.report.label_error_share or 0) - 0.1) < 0.08


def test_a_column_made_of_the_answer_and_a_constant_one(tmp_path: Path) -> None:
    rows = rows_of(4)
    for row in rows:
        row["outcome_code"] = f"{(1 if row['label'] == 'defect' else 0) + 0.01 * float(row['height']):.3f}"
        row["site"] = "7"
    found = checked(folder_of(tmp_path, rows))
    assert [f.column for f in of(found, "tell-tale")] == ["outcome_code"]


def test_groups_on_both_sides_of_the_split(tmp_path: Path) -> None:
    rows = rows_of(5)
    for row in rows[:8]:
        row["group"] = "g0"
    rows[7]["split"] = "holdout"
    assert of(checked(folder_of(tmp_path, rows)), "leakage")


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), copies=st.integers(1, 12))
def test_near_rows_finds_copies_and_only_those(seed: int, copies: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((300, 8))
    source = rng.permutation(300)[:copies]
    noisy = values[source] + rng.normal(0, 0.004, (copies, 8))
    found = near_rows(np.concatenate([values, noisy]))
    assert set(found) == {(int(s), 300 + k) for k, s in enumerate(source)}


def test_near_pictures_finds_what_was_saved_again() -> None:
    rng = np.random.default_rng(6)
    base = [np.asarray(Image.fromarray(rng.integers(0, 255, (8, 8), dtype=np.uint8)).resize((96, 96))) for _ in range(60)]
    thumbs = []
    for pixels in [*base, *base[:5]]:
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, format="JPEG", quality=50 if len(thumbs) >= 60 else 95)
        thumbs.append(np.asarray(Image.open(out).convert("L").resize((32, 32))))
    assert set(near_pictures(np.stack(thumbs))) == {(k, 60 + k) for k in range(5)}


def test_near_texts() -> None:
    words = [f"word{n}" for n in range(200)]
    rng = np.random.default_rng(7)
    texts = [" ".join(rng.choice(words, 40)) for _ in range(30)]
    texts.append(texts[3].upper() + " and more")
    assert set(near_texts(tuple(texts))) == {(3, 30)}


def test_personal_data_in_words() -> None:
    assert signs_in("call +49 171 2345 678 or write x.y@z.de") == {"a phone number", "an e-mail address"}
    assert signs_in("DE89 3704 0044 0532 0130 00") == {"an account number"} and not iban_holds("DE89 3704 0044 0532 0130 01")
    assert not signs_in("serial 2024-11-26 at 12:30, 3.14159, ISO 9001, part 0815")
    assert signs_in_values(["x.y@z.de", "10.0.0.1", "999.0.0.1"]) == {"an e-mail address", "an internet address"}


def test_columns_named_after_somebody_are_a_fault_and_those_about_somebody_are_only_told() -> None:
    who = ("patient_id", "e_mail", "Surname", "geburtsdatum", "telephone_no", "customer", "ip_address", "plate")
    assert all(named_after_somebody(name) for name in who) and len(signs_in_names(who)) == len(who)
    assert not any(
        named_after_somebody(name) for name in ("sex", "latitude", "zip", "member_force", "client_load", "automobile_age", "mailbox")
    )
    assert len(signs_in_names(["sex", "latitude", "zip", "pressure"])) == 3


def test_too_little_to_doubt_labels() -> None:
    with pytest.raises(InputError, match="too few"):
        label_doubts(np.zeros((30, 2), np.int16), np.ones(30, np.int64), np.arange(30))


def test_a_mended_copy_is_written_beside_the_folder(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "ward", rows_of(8))
    before = (root / "records.csv").read_bytes()
    work = [
        WorkItem(path="records.csv#1", action="remove", why="=cmd()", check="duplicates", chance=1, gain=1),
        WorkItem(path="records.csv#2", action="relabel", why="x", check="label-errors", chance=1, gain=1, value="good"),
        WorkItem(path="records.csv#3", action="fix", why="x", check="units", chance=1, gain=1, column="height", value="171.5"),
        WorkItem(path="records.csv#4", action="look", why="x", check="out-of-range", chance=1, gain=1),
    ]
    for name in ("work.csv", "work.json"):
        (tmp_path / name).write_text(listed(work, name.endswith("json")), "utf-8")
        assert read_worklist(tmp_path / name) == work
    assert "'=cmd()" in (tmp_path / "work.csv").read_text("utf-8")
    folder = read_labels(root)
    mended = apply_worklist(folder, work, tmp_path / "mended")
    assert len(mended.files) == len(folder.files) - 1 and (root / "records.csv").read_bytes() == before
    lines = (tmp_path / "mended" / "records.csv").read_text("utf-8").splitlines()
    assert lines[2].startswith("171.5") and "good" in lines[1]
    with pytest.raises(StorageError, match="exists"):
        apply_worklist(folder, work, tmp_path / "mended")
    with pytest.raises(StorageError, match="inside"):
        apply_worklist(folder, work, root / "mended")
    with pytest.raises(InputError, match="no record"):
        apply_worklist(folder, [msgspec.structs.replace(work[0], path="records.csv#999")], tmp_path / "other")
    with pytest.raises(FolderError, match="nothing"):
        apply_worklist(folder, [msgspec.structs.replace(work[0], path=file.path) for file in folder.files], tmp_path / "none")
    assert not [entry for entry in tmp_path.iterdir() if entry.name.endswith(".part")]


@pytest.mark.parametrize("text", ["", "path\nx", "path,action\nrecords.csv#1,burn", "path,action,gain\nrecords.csv#1,look,much", "\xff"])
def test_a_list_of_work_that_cannot_be_used(tmp_path: Path, text: str) -> None:
    (tmp_path / "work.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError):
        read_worklist(tmp_path / "work.csv")


@given(share=st.floats(0, 1), check=st.sampled_from(sorted(CHARGES)))
def test_a_score_falls_with_the_share_and_never_below_nought(share: float, check: str) -> None:
    points = charged(check, share)
    assert 0 <= points <= CHARGES[check].points and charged(check, share / 2) <= points
    one = Finding(check=check, level="note", says="", points=points)
    assert score_of((one, one)) == score_of((one,)) == max(0, round(100 - points))
