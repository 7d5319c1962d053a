"""Installing, finding by name, site values, and what a difference means for a certificate."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.contracts.errors import ConflictError, DocumentError, FolderError, InputError, NotFoundError, PackageError
from isthmus.contracts.scenario import Scenario
from isthmus.kit.pictures import encode_png
from isthmus.scenarios.contents import HOOKS, LOCK, MANIFEST, README, SCHEMA, VALUES
from isthmus.scenarios.package import find_package, load_package, scenario_of, shipped_folder
from isthmus.scenarios.packagediff import CERTIFIED, package_diff
from isthmus.scenarios.shelves import distributed, install, installed, version_order
from isthmus.scenarios.template import begun, classes_of
from isthmus.scenarios.validation import content_findings
from isthmus.scenarios.workbench import begin, install_given, listed, relock
from tests.scenarios.package_parts import NAME, Files, changed, locked, on_disk, package


def version(number: str, files: Files | None = None) -> Files:
    found = dict(files or package())
    text = found[MANIFEST].decode().replace('version: "0.1.0"', f'version: "{number}"')
    return locked({**found, MANIFEST: text.encode()}, version=number)


# Installing.


def test_twice_is_as_once(tmp_path: Path) -> None:
    folder, new = install(tmp_path, package())
    again, second = install(tmp_path, package())
    assert new and not second and folder == again == tmp_path / "packages" / NAME / "0.1.0"
    assert find_package(NAME, tmp_path) == folder and load_package(folder).id == NAME
    assert [p.name for p in (tmp_path / "packages").iterdir()] == [NAME]


def test_other_content_under_one_version_is_a_conflict(tmp_path: Path) -> None:
    folder, _ = install(tmp_path, package())
    before = (folder / README).read_bytes()
    with pytest.raises(ConflictError, match="another version"):
        install(tmp_path, locked({**package(), README: package()[README] + b"more"}))
    assert (folder / README).read_bytes() == before


def test_what_was_edited_where_it_is_installed_is_refused(tmp_path: Path) -> None:
    folder, _ = install(tmp_path, package())
    (folder / MANIFEST).write_bytes(changed("tier: T2", "tier: T1")[MANIFEST])
    with pytest.raises(PackageError, match="not what its lock says"):
        find_package(NAME, tmp_path)
    with pytest.raises(PackageError, match="was edited there"):
        install(tmp_path, package())
    (folder / LOCK).unlink()
    with pytest.raises(PackageError, match=r"no scenario\.lock"):
        find_package(NAME, tmp_path)


def test_many_at_once_install_one(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        done = [job.result() for job in [pool.submit(install, tmp_path, package()) for _ in range(16)]]
    assert {folder for folder, _ in done} == {tmp_path / "packages" / NAME / "0.1.0"} and sum(new for _, new in done) == 1


def test_a_package_with_a_fault_is_not_installed(tmp_path: Path) -> None:
    folder = on_disk(tmp_path / "p", changed("tier: T2", "tier: T9"))
    with pytest.raises(PackageError, match=r"scenario\.yaml:4:7"):
        install_given(str(folder), tmp_path / "state")
    assert not (tmp_path / "state").exists()


def test_the_latest_release_is_found_and_any_by_version(tmp_path: Path) -> None:
    for number in ("0.9.0", "0.10.0", "0.11.0-rc.1"):
        install(tmp_path, version(number))
    assert find_package(NAME, tmp_path).name == "0.10.0"
    assert find_package(f"{NAME}@0.9.0", tmp_path).name == "0.9.0"
    assert find_package(f"{NAME}@0.11.0-rc.1", tmp_path).name == "0.11.0-rc.1"
    assert [one.version for one in installed(tmp_path)] == ["0.11.0-rc.1", "0.10.0", "0.9.0"]
    with pytest.raises(NotFoundError):
        find_package(f"{NAME}@9.9.9", tmp_path)


def test_versions_are_ordered_as_semver_says() -> None:
    order = ["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc.1", "1.0.0", "1.0.1", "1.10.0"]
    for place, one in enumerate(order):
        assert all(version_order(one, other) < 0 < version_order(other, one) for other in order[place + 1 :])
    assert version_order("1.0.0+a", "1.0.0+b") == 0


def test_a_version_that_does_not_ship_is_not_found() -> None:
    assert find_package("solar-cell-inspection@0.1.0")
    with pytest.raises(PackageError, match="asked for"):
        find_package("solar-cell-inspection@0.0.9")


# Distributions.


def distribution(root: Path, top: str, name: str, value: str, files: Files, below: str = "", code: str = "") -> Path:
    """A tiny installed distribution. code: of its top-level package."""
    root.mkdir(exist_ok=True)
    info = root / f"{top}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {top}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[isthmus.scenarios]\n{name} = {value}\n")
    on_disk(root / top / below, files)
    if code:
        (root / top / "__init__.py").write_text(code)
    return root / top / below


def test_a_distribution_brings_a_package_and_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = tmp_path / "ran"
    site = tmp_path / "site"
    code = f"open({str(mark)!r}, 'w')\n"
    folder = distribution(site, "caps_by_acme", NAME, "caps_by_acme.package", package(), "package", code)
    monkeypatch.syspath_prepend(str(site))
    assert find_package(NAME, tmp_path / "state") == folder
    assert load_package(folder).id == NAME
    assert [(one.name, one.where) for one in distributed()] == [(NAME, "distribution")]
    assert not mark.exists() and "caps_by_acme" not in sys.modules
    install(tmp_path / "state", version("0.2.0"))
    assert find_package(NAME, tmp_path / "state").name == "0.2.0", "what is installed comes first"


def test_a_distribution_may_be_the_folder_itself_and_shadow_what_ships(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "solar-cell-inspection"
    files = {path: (shipped_folder() / name / path).read_bytes() for path in (MANIFEST, README, SCHEMA)}
    folder = distribution(tmp_path / "site", "solar_by_acme", name, "solar_by_acme", locked({**files, "LICENSE": b"x"}, name))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert find_package(name) == folder


@pytest.mark.parametrize(
    "value", ["caps_by_acme:attr", "caps_by_acme.none", "no_such_top", "sys", "../x", "caps_by_acme..x", "isthmus.scenarios"]
)
def test_an_entry_point_that_leads_nowhere_is_passed_over(value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distribution(tmp_path / "site", "caps_by_acme", NAME, value, package(), "package")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    with pytest.raises(NotFoundError):
        find_package(NAME)


def test_two_distributions_of_one_name_are_a_conflict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for top in ("caps_by_acme", "caps_by_zeta"):
        distribution(tmp_path / "site", top, NAME, top, package())
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    with pytest.raises(ConflictError, match="two distributions"):
        find_package(NAME)


def test_a_distribution_is_held_to_its_lock_and_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = distribution(tmp_path / "site", "caps_by_acme", "other-name", "caps_by_acme", package())
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    with pytest.raises(PackageError, match="asked for"):
        find_package("other-name")
    (folder / README).write_text("other")
    assert [wrong != "" for one, _, wrong in listed(tmp_path) if one.where == "distribution"] == [True]


# Values.


def test_values_take_their_place_and_nothing_else_changes() -> None:
    plain = scenario_of(package())
    given_ = {"price_micros": 7, "currency": "CHF", "promises_ppm": [90_000], "site_samples": 12, "validity_days": 30}
    found = scenario_of(package(), given_)
    assert (found.serve.micros_per_inference, found.serve.currency, found.certify.promises_ppm) == (7, "CHF", (90_000,))
    assert (found.replicate.samples_default, found.certify.validity_days) == (12, 30)
    assert found.recipe == plain.recipe and scenario_of(package(), {}) == plain


def test_the_packages_own_values_count_unless_others_are_given() -> None:
    files = locked({**package(), VALUES: b"price_micros: 3\nsite_samples: 9\n"})
    assert scenario_of(files).serve.micros_per_inference == 3
    instead = scenario_of(files, {"price_micros": 4})
    assert (instead.serve.micros_per_inference, instead.replicate.samples_default) == (4, 40)


def test_values_of_a_package_without_knobs_are_refused() -> None:
    bare = locked({path: raw for path, raw in package().items() if path != SCHEMA})
    with pytest.raises(InputError, match="no knob"):
        scenario_of(bare, {"price_micros": 4})
    assert content_findings(bare) == []


def test_values_in_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        scenario_of(package(), tmp_path / "none.yaml")


def test_a_broken_schema_takes_no_values() -> None:
    broken = changed('"default": 2000', '"default": 2001', SCHEMA)
    with pytest.raises(DocumentError, match=r"values\.schema\.json"):
        scenario_of(broken, {"price_micros": 4})


@settings(deadline=None)
@given(price=st.integers(-10, 10_000_010), days=st.integers(-1, 200), samples=st.integers(0, 500))
def test_values_are_applied_exactly_when_they_are_within_limits(price: int, days: int, samples: int) -> None:
    fits = 0 <= price <= 10_000_000 and 1 <= days <= 180 and 8 <= samples <= 400
    given_ = {"price_micros": price, "validity_days": days, "site_samples": samples}
    if fits:
        found = scenario_of(package(), given_)
        assert (found.serve.micros_per_inference, found.certify.validity_days, found.replicate.samples_default) == (price, days, samples)
    else:
        with pytest.raises(InputError):
            scenario_of(package(), given_)


# Differences.


def certificate(after: Files, before: Files | None = None) -> bool:
    return package_diff(before or package(), after).certificate


def test_a_price_or_a_readme_needs_no_new_certificate() -> None:
    price = package()[SCHEMA].replace(b'"default": 2000', b'"default": 3000')
    manifest = package()[MANIFEST].replace(b"micros_per_inference: 2000", b"micros_per_inference: 3000")
    found = package_diff(package(), locked({**package(), SCHEMA: price, MANIFEST: manifest, README: package()[README] + b"more"}))
    assert not found.certificate and found.clash
    said = {(change.part, change.where) for change in found.changes}
    assert {("manifest", "serve.micros_per_inference"), ("knob", "price_micros.default"), ("file", README)} <= said


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("texture/24]", "texture/20]"),
        ("groups_min: 8", "groups_min: 9"),
        ("tier: T2", "tier: T3"),
        ("prohibited_use: ", "prohibited_use: 'Only this.' # "),
        ('["good", "defect"]', '["good", "bad"]'),
        ("[1, 2, 4, 8, 16, 32, 64]", "[1, 2]"),
    ],
)
def test_a_recipe_a_bar_or_a_use_needs_a_new_certificate(old: str, new: str) -> None:
    assert certificate(changed(old, new)) and certificate(package(), changed(old, new))


def test_hooks_and_prompts_need_a_new_certificate_and_probes_do_not() -> None:
    assert certificate(locked({**package(), HOOKS: b"X = 1\n"}))
    assert certificate(locked({**package(), "prompts/a.md": b"say"}))
    assert not certificate(locked({**package(), "probes/a.txt": b"note"}))


def test_values_count_in_a_difference() -> None:
    valued = locked({**package(), VALUES: b"promises_ppm: [60000]\n"})
    found = package_diff(package(), valued)
    assert found.certificate and [c.where for c in found.changes if c.part == "manifest"] == ["certify.promises_ppm"]


def test_no_difference_and_another_version() -> None:
    assert package_diff(package(), package()).changes == ()
    found = package_diff(package(), version("0.2.0"))
    assert not found.certificate and not found.clash


def test_every_certified_field_is_one_of_the_manifest() -> None:
    assert {path.partition(".")[0] for path in CERTIFIED} <= set(Scenario.__struct_fields__)


# Beginning and locking.


@settings(deadline=None)
@given(title=st.text(max_size=60), name=st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True))
def test_every_name_and_title_makes_a_package_without_fault(title: str, name: str) -> None:
    files = begun(name, title)
    assert content_findings(files) == []
    assert scenario_of(files).id == name


@pytest.mark.parametrize("name", ["null", "on", "1e5", "007", "12", "true", "a"])
def test_a_name_that_yaml_would_take_for_something_else(name: str) -> None:
    assert scenario_of(begun(name)).id == name


@pytest.mark.parametrize("name", ["", "A", "a b", "-a", "ä", "../a", "a" * 65])
def test_a_name_that_is_none(name: str) -> None:
    with pytest.raises(InputError):
        begun(name)


def images(folder: Path, *classes: str) -> Path:
    pixel = encode_png(np.zeros((8, 8, 3), np.uint8))
    for place, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for number in range(2 + place):
            (folder / name / f"{number}.png").write_bytes(pixel)
    return folder


def test_classes_are_read_from_sub_folders(tmp_path: Path) -> None:
    two = begun(NAME, classes=classes_of(images(tmp_path / "two", "dent", "ok")))
    assert scenario_of(two).interface.classes == ("ok", "dent") and b"| dent | defect | 2 |" in two[README]
    three = begun(NAME, classes=classes_of(images(tmp_path / "three", "crack", "dent", "good")))
    assert scenario_of(three).interface.classes == ("good", "defect") and content_findings(three) == []
    odd = begun(NAME, classes=classes_of(images(tmp_path / "odd", "good", 'a "b": [#] ü|')))
    assert scenario_of(odd).interface.classes == ("good", 'a "b": [#] ü|') and content_findings(odd) == []


def test_sub_folders_that_do_not_say_which_is_good(tmp_path: Path) -> None:
    with pytest.raises(FolderError, match="which images are good"):
        classes_of(images(tmp_path / "x", "left", "right"))


def test_beginning_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    (tmp_path / NAME / "mine.txt").write_text("mine")
    with pytest.raises(ConflictError):
        begin(tmp_path / NAME, NAME, "", None)
    assert [p.name for p in (tmp_path / NAME).iterdir()] == ["mine.txt"]


def test_locking_again_writes_only_what_changed(tmp_path: Path) -> None:
    folder = on_disk(tmp_path / "p", package())
    assert relock(folder)[1] is False
    (folder / README).write_bytes(package()[README] + b"more")
    lock, new = relock(folder)
    assert new and relock(folder) == (lock, False)
    (folder / MANIFEST).write_bytes(changed("tier: T2", "tier: T9")[MANIFEST])
    with pytest.raises(PackageError):
        relock(folder)
