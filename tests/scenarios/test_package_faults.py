"""Faults that are put into a package on purpose: each is found, with its file, its line, and what to do."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.assurance.bars import checked_bars
from isthmus.contracts.bars import PPM, Bars
from isthmus.contracts.errors import DocumentError, FolderError, InputError
from isthmus.contracts.scenario import Certify
from isthmus.kit.pictures import encode_png
from isthmus.scenarios.contents import FILE_BYTES_MAX, HOOKS, LOCK, MANIFEST, PACKAGE_FILES_MAX, PROBES_FILE, README, SCHEMA, VALUES
from isthmus.scenarios.located import YAML_BYTES_MAX, read_yaml
from isthmus.scenarios.package import load_package, scenario_of, shipped, shipped_folder
from isthmus.scenarios.rules import certify_breaches
from isthmus.scenarios.validation import content_findings, validate
from tests.scenarios.package_parts import NAME, Files, changed, errors, line_of, locked, on_disk, package

PICTURE = encode_png(np.full((16, 16, 3), 90, np.uint8))
RATIO = "records_per_feature: 20"
MANY = [f"{{family: {family}, severities: [1, 2, 3, 4, 5]}}" for family in ("noise", "shift")]
MANIFEST_FAULTS = [
    # old, new, code, mark of the line ("" = the new text), what is said (what or next)
    ("validity_days: 90", "validity_day: 90", "unknown-field", "", "did you mean validity_days?"),
    ("tier: T2", "tier: T2\ntear: T1", "unknown-field", "tear", "there is no field tear"),
    ("  groups_min: 8\n", "", "missing-field", "promises_ppm", "add groups_min: a whole number"),
    ("confidence_ppm: 950000", "confidence_ppm: 0.95", "wrong-type", "", "parts per million: write 950000"),
    ("confidence_ppm: 950000", "confidence_ppm: 95%", "wrong-type", "", "parts per million: write 950000"),
    ("confidence_ppm: 950000", "confidence_ppm: 95", "out-of-range", "", "parts per million: write 950000"),
    ("[100000, 75000, 50000]", "[0.1, 75000, 50000]", "wrong-type", "[0.1", "parts per million: write 100000"),
    ("micros_per_inference: 2000", "micros_per_inference: 0.002", "wrong-type", "", "write 2000"),
    ("validity_days: 90", "validity_days: 90 days", "wrong-type", "", "whole days: write 90"),
    ("validity_days: 90", "validity_days: 7776000", "out-of-range", "", "write 1 to 400, in days"),
    ("validity_days: 90", "validity_days: 0", "out-of-range", "", "1 to 400 days"),
    ("groups_min: 8", "groups_min: many", "wrong-type", "", "'many', text; a whole number is expected"),
    ("groups_min: 8", 'groups_min: "8"', "wrong-type", "", "remove the quotes"),
    ('version: "0.1.0"', "version: 0.1", "wrong-type", "", "put it in quotes"),
    ('version: "0.1.0"', "version: one", "bad-version", "", "MAJOR.MINOR.PATCH"),
    ('version: "0.1.0"', "version: 2026-01-02", "yaml-tag", "", "put it in quotes"),
    (f'id: "{NAME}"', "id: Bottle_Caps", "bad-id", "", "lower-case letters, digits and hyphens"),
    ("tier: T2", "tier: T9", "wrong-type", "", "T1, T2, T3"),
    ("output: verdict", "output: verdikt", "wrong-type", "", "did you mean verdict?"),
    ('["good", "defect"]', '["good", "good"]', "bad-classes", "", "name the good one, then the defect"),
    ('["good", "defect"]', '["good", "a", "b"]', "wrong-type", "", "3 items; 2 are expected"),
    ("owners_ppm: 450000", "owners_ppm: 440000", "shares-do-not-sum", "compute_ppm", "change one of them by +10000"),
    ("[100000, 75000, 50000]", "[50000, 75000, 100000]", "bad-promises", "", "descending"),
    ("recall_ppm_min: 500000", "recall_ppm_min: 400000", "blind-bars", "", "add up to more than 1000000"),
    ("auc_ppm_min: 600000", "auc_ppm_min: 400000", "blind-bars", "", "500000 or more"),
    ("views: [identity, flip-left-right,", "views: [flip-left-right, identity,", "bad-views", "views: [flip", "put identity first"),
    ("views: [identity, flip-left-right,", "views: [identity, identity,", "bad-views", "views: [identity", "each other view once"),
    ("lambdas: [0.003,", "lambdas: [0.01,", "bad-lambdas", "lambdas", "each once"),
    ("backbone: efficientnet-lite0", "head: trees\n  backbone: efficientnet-lite0", "bad-trees", "head: trees", "so that it is ridge"),
    ("backbone: efficientnet-lite0", "head: tree\n  backbone: efficientnet-lite0", "wrong-type", "head: tree", "did you mean trees?"),
    ("backbone: efficientnet-lite0", "trees: {depth: 2}\n  backbone: efficientnet-lite0", "bad-trees", "trees:", "write head: trees"),
    ("lambdas: [0.003,", "lambdas: [0, 0.003,", "bad-lambdas", "lambdas", "write a positive number"),
    ("lambdas: [0.003,", "lambdas: [.nan, 0.003,", "bad-lambdas", "lambdas", "write a positive number"),
    ("backbone: efficientnet-lite0", "backbone: resnet", "unknown-backbone", "", "use one of"),
    ("parts: [defects/max, defects/mean, texture/24]", "parts: [defects/least]", "unknown-part", "", "use block/N"),
    ("parts: [defects/max, defects/mean, texture/24]", "parts: [block/99]", "bad-parts", "", "use block/0 to block/15"),
    ("deep/8]", "texture/8]", "shared-sources", "parts_after_leaving", "share nothing with parts"),
    ("severities: [1, 2, 3, 4, 5]", "severities: [1, 2, 6]", "bad-severities", "", "count from 1 to at most 5"),
    ("families: [brightness, contrast, noise, blur]", "families: [fog]", "unknown-family", "", "brightness"),
    ("sure_weight: 2\n  un", "sure_weight: 99\n  un", "out-of-range", "sure_weight: 99", "write 1 to 16"),
    ("records_per_feature: 20", "records_per_feature: 2", "out-of-range", "", "4 or more"),
    (RATIO, f"{RATIO}\n  augmentations: [{{family: fog, severities: [1]}}]", "unknown-family", "fog", "use brightness"),
    (RATIO, f"{RATIO}\n  augmentations: [{{family: turn, severities: [0, 2]}}]", "bad-augmentations", "turn", "such as [1, 2]"),
    (RATIO, f"{RATIO}\n  augmentations: [{{family: turn, severities: []}}]", "bad-augmentations", "turn", "such as [1, 2]"),
    (RATIO, f"{RATIO}\n  augmentations: [{{family: turn, severity: 2}}]", "unknown-field", "turn", "did you mean severities?"),
    (RATIO, f"{RATIO}\n  head: logistic\n  drawn_weight: 1", "bad-augmentations", "drawn_weight", "leave drawn_weight out"),
    (
        RATIO,
        f"{RATIO}\n  head: gaussian\n  augmentations: [{{family: turn, severities: [1]}}]",
        "bad-augmentations",
        "family: turn",
        "as they are",
    ),
    (RATIO, f"{RATIO}\n  drawn_weight: 99", "out-of-range", "drawn_weight", "write 0 to 16"),
    (RATIO, f"{RATIO}\n  augmentations:\n    - {MANY[0]}\n    - {MANY[1]}", "bad-augmentations", "family: noise", "name fewer"),
    ("planning_power: 0.9", "planning_power: 80", "out-of-range", "", "between 0 and 1"),
    ("currency: EUR", "currency: euro", "bad-currency", "", "three capitals"),
    ("currency: EUR", "currency: NO", "wrong-type", "", "put it in quotes"),
    ("samples_default: 40", "samples_default: 3", "out-of-range", "", "8 or more"),
    ("[1, 2, 4, 8, 16, 32, 64]", "[0.01]", "bad-weightings", "", "0.0625"),
    ("sample_data: none", "sample_data: none\ntier: T1", "yaml-duplicate-key", "tier: T1", "remove one of the two"),
    ("  output: verdict", "\toutput: verdict", "yaml-tab", "", "indent with spaces"),
    ("tier: T2", "tier: &a T2\nextra: *a", "yaml-alias", "extra", "write the value out"),
    ("tier: T2", "tier: !!python/object:os.system x", "yaml-tag", "", "write plain data"),
    ("tier: T2", "tier: T2\n<<: {}", "yaml-key", "<<", "in quotes"),
    ("tier: T2", "tier: [T2", "yaml-syntax", "task", "close the bracket [ that line 4 opens"),
]


@pytest.mark.parametrize(("old", "new", "code", "mark", "said"), MANIFEST_FAULTS)
def test_a_fault_of_the_manifest_is_found(old: str, new: str, code: str, mark: str, said: str) -> None:
    files = changed(old, new)
    found = [one for one in content_findings(files) if one.file == MANIFEST and one.code == code]
    assert len(found) == 1, content_findings(files)
    assert found[0].line == line_of(files, mark or new) and found[0].column >= 1, found
    assert said in f"{found[0].what}; {found[0].next}", found
    assert found[0].what and found[0].next and found[0].level == "error"
    with pytest.raises(DocumentError) as caught:
        scenario_of(files, where="caps")
    assert MANIFEST in str(caught.value)


def test_all_faults_are_told_at_once() -> None:
    text = package()[MANIFEST].decode()
    for old, new in (("tier: T2", "tier: T9"), ("samples_default: 40", "samples_default: 4"), ("groups_min: 8", "groups: 8")):
        text = text.replace(old, new)
    found = errors(locked({**package(), MANIFEST: text.encode()}))
    assert [one.code for one in found] == ["wrong-type", "unknown-field", "out-of-range"], found


def test_a_small_share_is_doubted_and_not_refused() -> None:
    files = changed("answered_ppm_min: 50000", "answered_ppm_min: 5")
    found = content_findings(files)
    assert [(one.level, one.code) for one in found] == [("warning", "small-share")]
    assert found[0].next == "if 5 % is meant, write 50000" and scenario_of(files).certify.answered_ppm_min == 5


@pytest.mark.parametrize(
    ("raw", "code", "line"),
    [
        (b"id: a\ntitle: \xff\xfe\n", "not-utf8", 2),
        (b"", "yaml-empty", 1),
        (b"just words", "wrong-type", 1),
        (b"\0\1\2", "yaml-syntax", 1),
        (b"a: 1\n---\nb: 2\n", "yaml-syntax", 2),
        (b"[" * 20_000, "yaml-syntax", 1),
        (b"a: " + b"1" * 5000, "yaml-syntax", 1),
        (b"#" * (YAML_BYTES_MAX + 1), "file-size", 0),
        (b"? [a]\n: b\n", "yaml-key", 1),
    ],
)
def test_a_manifest_that_is_none(raw: bytes, code: str, line: int) -> None:
    found = [one for one in errors(locked({**package(), MANIFEST: raw})) if one.file == MANIFEST and "lock" not in one.code]
    assert (found[0].code, found[0].line) == (code, line), found


def test_aliases_do_not_blow_up() -> None:
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 60))
    document, found = read_yaml(MANIFEST, bomb.encode())
    assert document is None and found[0].code == "yaml-alias"


SCHEMA_FAULTS = [
    (
        '"x-path": "serve.micros_per_inference"',
        '"x-path": "serve.micros_per_inferense"',
        "knob-path",
        "did you mean serve.micros_per_inference?",
    ),
    ('"x-path": "serve.micros_per_inference"', '"x-path": "serve"', "knob-path", "no field 'serve'"),
    ('"x-path": "serve.currency"', '"x-path": "prohibited_use"', "knob-fixed", "no site sets it"),
    ('"default": 2000', '"default": 2001', "knob-default", "the manifest says 2000"),
    ('"default": 2000', '"default": 99999999999', "bad-schema", "or less"),
    ('"default": 90,', '"default": 90.5,', "bad-schema", "integer is expected"),
    ('"minimum": 0,', '"exclusiveMinimum": 0,', "bad-schema", "not understood"),
    ('"minimum": 0,', '"minimum": "0",', "bad-schema", "is no number"),
    ('"additionalProperties": false,', '"additionalProperties": true,', "bad-schema", "add both"),
    ('"pattern": "^[A-Z]{3}$"', '"pattern": "^(a+)+$"', "bad-schema", "no groups"),
    ('"pattern": "^[A-Z]{3}$"', '"pattern": "[A-Z]{3}"', "bad-schema", "begins with ^"),
    ('"title": "Currency of the price",', "", "bad-schema", "say what the knob does"),
    ('"x-path": "replicate.samples_default"', '"x-path": "serve.micros_per_inference"', "bad-schema", "so does another knob"),
    ('"title": "What a site may set",', '"title": "a", "title": "b",', "yaml-duplicate-key", "remove one"),
    ('"title": "What a site may set",', '"title": "a"', "json-syntax", "mend the line"),
    ('"maximum": 10000000', '"maximum": Infinity', "json-syntax", "no number"),
]


@pytest.mark.parametrize(("old", "new", "code", "said"), SCHEMA_FAULTS)
def test_a_fault_of_the_schema_is_found(old: str, new: str, code: str, said: str) -> None:
    found = errors(changed(old, new, SCHEMA))
    told = [one for one in found if one.code == code and said in f"{one.what}; {one.next}"]
    assert told and told[0].file == SCHEMA and told[0].line > 0, found


VALUE_FAULTS = [
    (b"price_micro: 5\n", "unknown-knob", 1, "did you mean price_micros?"),
    (b"# mine\nprice_micros: -1\n", "bad-value", 2, "write 0 or more"),
    (b"price_micros: 0.002\n", "bad-value", 1, "write 2000"),
    (b"currency: euro\n", "bad-value", 1, "^[A-Z]{3}$"),
    (b"promises_ppm: [100000, 5]\n", "bad-value", 1, "promises_ppm[1]: it is 5"),
    (b"promises_ppm: []\n", "bad-value", 1, "fewer than 1"),
    (b"site_samples: 10\npromises_ppm: [50000, 100000]\n", "bad-promises", 2, "with these values"),
    (b"- price_micros\n", "bad-values", 1, "name: value"),
    (b"price_micros: true\n", "bad-value", 1, "integer is expected"),
    (b"price_micros: 1\nprice_micros: 2\n", "yaml-duplicate-key", 2, "remove one"),
]


@pytest.mark.parametrize(("raw", "code", "line", "said"), VALUE_FAULTS)
def test_a_fault_of_the_values_is_found(raw: bytes, code: str, line: int, said: str, tmp_path: Path) -> None:
    files = locked({**package(), VALUES: raw})
    found = [one for one in errors(files) if one.file == VALUES]
    assert [(one.code, one.line) for one in found] == [(code, line)], found
    assert said in f"{found[0].what}; {found[0].next}"
    with pytest.raises(DocumentError, match=r"values\.yaml:"):
        scenario_of(files, where="caps")
    (tmp_path / "mine.yaml").write_bytes(raw)
    with pytest.raises(InputError, match=r"mine\.yaml:"):
        scenario_of(package(), tmp_path / "mine.yaml", "caps")


HOOK_FAULTS = [
    (b"import os\nos.remove('x')\n", "hooks-effect", 2),
    (b"X = open('x')\n", "hooks-effect", 1),
    (b"import requests\n", "hooks-import", 1),
    (b"from . import other\n", "hooks-import", 1),
    (b"from os import *\n", "hooks-import", 1),
    (b"import antigravity\n", "hooks-import", 1),
    (b"def f(x) -> int:\n    return 1\n", "hooks-untyped", 1),
    (b"def f(x: int):\n    return 1\n", "hooks-untyped", 1),
    (b"\n\ndef f(x: int = print(1)) -> int:\n    return x\n", "hooks-effect", 3),
    (b"def f(x: print(1)) -> int:\n    return 1\n", "hooks-effect", 1),
    (b"import functools\n@functools.cache\ndef f() -> int:\n    return 1\n", "hooks-effect", 3),
    (b"class A:\n    print(1)\n", "hooks-effect", 1),
    (b"def f(:\n", "hooks-syntax", 1),
    (b"if True:\n    X = 1\n", "hooks-effect", 1),
    (b"X = [y for y in range(9)]\n", "hooks-effect", 1),
    (b"a.b = 1\n", "hooks-effect", 1),
    (b"X: print(1) = 1\n", "hooks-effect", 1),
    (b"def f(x: (lambda: int)()) -> int:\n    return 1\n", "hooks-effect", 1),
]


@pytest.mark.parametrize(("raw", "code", "line"), HOOK_FAULTS)
def test_a_fault_of_hooks_is_found_and_nothing_runs(raw: bytes, code: str, line: int) -> None:
    found = errors(locked({**package(), HOOKS: raw}))
    assert [(one.file, one.code, one.line) for one in found] == [(HOOKS, code, line)], found


def test_plain_hooks_are_taken() -> None:
    raw = (
        b'"""Doc."""\nfrom __future__ import annotations\nimport math\nimport numpy as np\n\nLIMIT: int = 3\nWORDS = ("a", -1)\n\n\n'
        b"def f(x: list[int] | None = None, *rest: np.ndarray, key: str = 'a') -> float:\n    return math.pi\n"
    )
    assert content_findings(locked({**package(), HOOKS: raw})) == []


def test_hooks_are_never_imported(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    folder = on_disk(tmp_path / "p", locked({**package(), HOOKS: f"open({str(mark)!r}, 'w')\n".encode()}))
    assert any(one.code == "hooks-effect" for one in validate(folder))
    assert not mark.exists()


PROBES = b"cases:\n  - file: a.png\n    expect: good\n    why: clean\n"


@pytest.mark.parametrize(
    ("probes", "images", "code"),
    [
        (PROBES, {}, "probe-missing"),
        (PROBES, {"a.png": b"no image"}, "probe-unreadable"),
        (PROBES.replace(b"good", b"fine"), {"a.png": PICTURE}, "wrong-type"),
        (PROBES + PROBES[7:], {"a.png": PICTURE}, "probe-twice"),
        (PROBES.replace(b"a.png", b"../../secret.png"), {"a.png": PICTURE}, "probe-missing"),
        (PROBES.replace(b"clean", b"''"), {"a.png": PICTURE}, "empty-text"),
        (b"cases: none\n", {}, "wrong-type"),
    ],
)
def test_a_fault_of_probes_is_found(probes: bytes, images: Files, code: str) -> None:
    files = locked({**package(), PROBES_FILE: probes, **{f"probes/{name}": raw for name, raw in images.items()}})
    found = errors(files)
    assert [(one.file, one.code) for one in found] == [(PROBES_FILE, code)], found
    assert found[0].line > 0


def test_good_probes_are_taken_and_stray_images_doubted() -> None:
    refused = PROBES.replace(b"a.png", b"b.png").replace(b"good", b"refused")[7:]
    images = {"probes/a.png": PICTURE, "probes/b.png": b"no image, on purpose"}
    assert content_findings(locked({**package(), PROBES_FILE: PROBES + refused, **images})) == []
    stray = content_findings(locked({**package(), PROBES_FILE: PROBES, **images}))
    assert [(one.level, one.code, one.file) for one in stray] == [("warning", "no-probes", "probes/b.png")]


def test_a_readme_must_be_there_and_say_both_uses() -> None:
    files = package()
    assert [one.code for one in errors(locked({k: v for k, v in files.items() if k != README}))] == ["no-readme"]
    silent = locked({**files, README: b"# caps\n\n**Intended use.** Caps.\n"})
    found = errors(silent)
    assert [one.code for one in found] == ["readme-use"] and "prohibited use" in found[0].what


def test_a_lock_that_is_not_of_these_files() -> None:
    files = package()
    edited = errors({**files, README: files[README] + b"more\n"})
    assert [(one.code, one.file) for one in edited] == [("lock-stale", README)] and "isthmus scenario lock" in edited[0].next
    windows = errors({**files, README: files[README].replace(b"\n", b"\r\n")})
    assert "CRLF" in windows[0].what
    assert [one.code for one in errors({**files, "LICENSE": b"MIT"})] == ["lock-stale"]
    assert [one.code for one in errors({k: v for k, v in files.items() if k != SCHEMA})] == ["lock-stale"]
    assert [one.code for one in errors({**files, LOCK: files[LOCK] + b"\n"})] == ["bad-lock"]
    assert [one.code for one in errors({**files, LOCK: files[LOCK].replace(b'"bytes":', b'"bytes":1')})] == ["bad-lock"]
    assert [one.code for one in errors(locked(files, "other"))] == ["lock-stale"]
    unlocked = content_findings({k: v for k, v in files.items() if k != LOCK})
    assert [(one.level, one.code) for one in unlocked] == [("warning", "no-lock")]


@pytest.mark.parametrize(
    ("path", "raw", "level", "code"),
    [
        ("helper.py", b"x = 1", "error", "stray-code"),
        ("probes/run.sh", b"rm", "error", "stray-code"),
        ("__init__.py", b"import os", "error", "stray-code"),
        ("notes.docx", b"x", "warning", "unknown-file"),
        ("prompts/say.bin", b"x", "warning", "unknown-file"),
        ("README.md ", b"x", "error", "file-name"),
        ("con.txt", b"x", "error", "file-name"),
        ("ünï.txt", b"x", "error", "file-name"),
        ("readme.MD", b"x", "error", "file-name"),
        ("a/b/c/d/e.md", b"x", "error", "file-name"),
        ("LICENSE", b"x" * (FILE_BYTES_MAX + 1), "error", "file-size"),
    ],
)
def test_a_file_that_does_not_belong(path: str, raw: bytes, level: str, code: str, tmp_path: Path) -> None:
    folder = on_disk(tmp_path / "p", locked({**package(), path: raw}))
    assert (level, code) in {(one.level, one.code) for one in validate(folder)}, validate(folder)


def test_links_and_odd_files_are_not_followed(tmp_path: Path) -> None:
    folder = on_disk(tmp_path / "p", package())
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    (folder / "LICENSE").symlink_to(secret)
    (folder / "prompts").symlink_to(tmp_path)
    os.mkfifo(folder / "NOTICE")
    found = {(one.file, one.code) for one in validate(folder)}
    assert found == {("LICENSE", "symlink"), ("prompts", "symlink"), ("NOTICE", "file-kind")}


def test_hidden_files_and_caches_are_left_out(tmp_path: Path) -> None:
    folder = on_disk(tmp_path / "p", package())
    (folder / ".DS_Store").write_bytes(b"x")
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "hooks.pyc").write_bytes(b"x")
    assert validate(folder) == ()


def test_too_many_files(tmp_path: Path) -> None:
    folder = on_disk(tmp_path / "p", package())
    (folder / "probes").mkdir()
    for place in range(PACKAGE_FILES_MAX + 5):
        (folder / "probes" / f"n{place}.txt").write_bytes(b"")
    assert "package-size" in {one.code for one in validate(folder)}


def test_no_folder_and_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(FolderError):
        validate(tmp_path / "none")
    assert {one.code for one in validate(tmp_path)} == {"no-manifest", "no-readme", "no-lock"}


@settings(deadline=None)
@given(raw=st.binary(max_size=300))
def test_no_bytes_make_it_fall(raw: bytes) -> None:
    for path in (MANIFEST, SCHEMA, VALUES, HOOKS, LOCK, PROBES_FILE, README):
        for one in content_findings({**package(), path: raw}):
            assert one.what and one.next


@settings(deadline=None)
@given(
    promises=st.lists(st.integers(-5, PPM + 5), max_size=4).map(tuple),
    confidence=st.sampled_from([0, 499_999, 500_000, 950_000, PPM]),
    groups=st.integers(0, 4),
    recall=st.integers(-1, PPM + 1),
    specificity=st.integers(-1, PPM + 1),
    auc=st.integers(400_000, PPM + 1),
    severities=st.sampled_from([(), (1,), (1, 2), (2,), (1, 1)]),
    families=st.sampled_from([(), ("blur",), ("blur", "blur")]),
)
def test_bars_that_pass_here_pass_at_the_exchange(**given_: object) -> None:
    renamed = {
        "promises_ppm": given_["promises"],
        "confidence_ppm": given_["confidence"],
        "groups_min": given_["groups"],
        "recall_ppm_min": given_["recall"],
        "specificity_ppm_min": given_["specificity"],
        "auc_ppm_min": given_["auc"],
        "severities": given_["severities"],
        "families": given_["families"],
    }
    known = scenario_of(package()).certify
    certify = Certify(**{**{name: getattr(known, name) for name in known.__struct_fields__}, **renamed})  # type: ignore[arg-type]
    if not list(certify_breaches(certify)):
        fields = {name: getattr(certify, name) for name in Bars.__struct_fields__ if hasattr(certify, name)}
        for promise in certify.promises_ppm:
            checked_bars(Bars(**{**fields, "scenario": "a", "tier": "T2", "error_ppm_max": promise}))


def test_what_ships_has_no_fault_and_a_current_lock() -> None:
    """After an edit: isthmus scenario lock scenarios/NAME."""
    for name in shipped():
        assert validate(shipped_folder() / name) == (), name
        assert (shipped_folder() / name / LOCK).is_file()
        assert load_package(shipped_folder() / name).id == name


def test_what_ships_has_real_knobs() -> None:
    assert (
        load_package(shipped_folder() / "solar-cell-inspection", {"price_micros": 5, "promises_ppm": [60000]}).serve.micros_per_inference
        == 5
    )


def test_findings_are_in_order_and_once(tmp_path: Path) -> None:
    found = validate(on_disk(tmp_path / "p", {**changed("tier: T2", "tier: T9"), "odd.docx": b""}))
    last = [one for one in found if one.code == "lock-stale"]
    rest = [one for one in found if one.code != "lock-stale"]
    assert list(found) == rest + last, "what a new lock mends comes last"
    for part in (rest, last):
        assert part == sorted(set(part), key=lambda one: (one.file, one.line, one.column, one.level, one.code, one.what))
    assert {one.next for one in last} == {"once the rest is mended: isthmus scenario lock FOLDER"}
    assert {one.file for one in found} == {MANIFEST, "odd.docx"}
