"""The report as text: what is inlined, what is escaped, what is refused."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import isthmus.console.report as console_report
from isthmus.console.report import SCRIPTS, embedded_json, page_texts, render
from isthmus.contracts.errors import DocumentError
from isthmus.contracts.report import RunReport
from tests.console.sample_report import full_report

FOLDER = Path(console_report.__file__).parent / "report_page"
EMPTY = RunReport(scenario="nothing", run_id="run-0", at="2026-01-01T00:00:00Z")
HOSTILE = "</script><script>window.pwned=1</script><img src=x onerror='window.pwned=1'>\u2028{{report}} ${alert(1)} 电池片"


def data_of(page: str) -> object:
    found = re.search(r'<script type="application/json" id="report-data">(.*?)</script>', page, re.S)
    assert found
    return json.loads(found.group(1))


def test_all_that_is_given_is_embedded_and_nothing_else() -> None:
    for report in (full_report(), EMPTY):
        data = data_of(render(report))
        assert data == msgspec.json.decode(msgspec.json.encode(report))
        assert isinstance(msgspec.convert(data, RunReport), RunReport)


def test_numbers_that_are_not_finite_become_not_measured() -> None:
    model = msgspec.structs.replace(full_report().model, auc_joint=float("nan"))  # type: ignore[type-var]
    data = data_of(render(msgspec.structs.replace(EMPTY, model=model)))
    assert isinstance(data, dict)
    assert data["model"]["auc_joint"] is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(json_values)
@settings(max_examples=150, deadline=None)
def test_embedded_json_keeps_its_value_and_cannot_end_its_element(value: object) -> None:
    text = embedded_json(value)
    assert json.loads(text) == value
    assert not set("<>&\u2028\u2029") & set(text)


def test_hostile_names_stay_data() -> None:
    full = full_report()
    parties = tuple(msgspec.structs.replace(p, name=HOSTILE, licence_note=HOSTILE) for p in full.parties)
    page = render(msgspec.structs.replace(full, title=HOSTILE, scenario=HOSTILE, parties=parties))
    assert page.count("<script") == 3
    assert page.count("</script>") == 3
    assert "<img" not in page


def test_the_policy_in_the_head_allows_exactly_this_script_and_style() -> None:
    page = render(full_report())
    for element in ("script", "style"):
        source = re.search(rf"<{element}>(.*?)</{element}>", page, re.S)
        assert source
        digest = base64.b64encode(hashlib.sha256(source.group(1).encode()).digest()).decode()
        assert f"{element}-src 'sha256-{digest}'" in page
    assert "default-src 'none'" in page


@pytest.mark.parametrize("name", [*SCRIPTS, "style.css", "page.html"])
def test_sources_fetch_nothing_and_parse_no_markup(name: str) -> None:
    source = (FOLDER / name).read_text(encoding="utf-8")
    for word in (
        "fetch(",
        "XMLHttpRequest",
        "innerHTML",
        "insertAdjacentHTML",
        "eval(",
        "new Function",
        "@import",
        "url(http",
        "crypto.subtle",
    ):
        assert word not in source
    assert not re.search(r"(?:src|href)=.https?:", source)
    assert "</script" not in source or name == "page.html"
    assert len(source.splitlines()) <= 500


def test_every_text_that_the_scripts_name_exists() -> None:
    texts = page_texts("en")
    sources = "\n".join((FOLDER / name).read_text(encoding="utf-8") for name in SCRIPTS)
    named = set(re.findall(r"\b(?:t|para|missing)\('([a-z0-9.\-]+)'[,)]", sources))
    named |= {key for pair in re.findall(r"t\([\w.]+ \? '([a-z0-9.\-]+)' : '([a-z0-9.\-]+)'", sources) for key in pair}
    assert len(named) > 120
    assert named - set(texts) == set()


def test_pictures_need_a_licence_note_beside_them() -> None:
    full = full_report()
    bare = msgspec.structs.replace(full.cells[0], licence_note="  ")
    data = data_of(render(msgspec.structs.replace(full, cells=(bare,))))
    assert isinstance(data, dict)
    assert data["cells"][0]["picture"] is None
    assert data["cells"][0]["heat"] is None


@pytest.mark.parametrize("picture", ["https://example.org/a.png", "data:text/html;base64,AAAA", "data:image/svg+xml;base64,AAAA", "x.png"])
def test_a_picture_that_is_an_address_is_refused(picture: str) -> None:
    full = full_report()
    cell = msgspec.structs.replace(full.cells[0], picture=picture)
    with pytest.raises(DocumentError, match="data URI"):
        render(msgspec.structs.replace(full, cells=(cell,)))


def test_an_unknown_language_is_refused() -> None:
    with pytest.raises(DocumentError, match="no texts"):
        render(EMPTY, "../../etc")
