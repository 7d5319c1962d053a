"""The table of sites: what it may say, and what is said of one that cannot be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from isthmus.contracts.errors import DocumentError, InputError, NotFoundError
from isthmus.kit.clock import SetClock
from isthmus.scenarios.rollout import Rollout, SiteLine, own_values, read_sites, rollout


def table(folder: Path, text: str) -> Path:
    path = folder / "sites.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_table_of_sites_is_read_with_folders_beside_it(tmp_path: Path) -> None:
    found = read_sites(table(tmp_path, "\ufeffsite, samples,fit ,proof\nhall-2,photos/hall 2,40,59\n\nline-4,40,,\n"))
    assert [(one.line, one.site, one.samples, one.fit, one.proof) for one in found] == [
        (2, "hall-2", tmp_path / "photos/hall 2", 40, 59),
        (4, "line-4", 40, None, None),
    ]
    short = read_sites(table(tmp_path, "samples,site\nphotos,hall-2\n"))
    assert (short[0].site, short[0].samples, short[0].fit) == ("hall-2", tmp_path / "photos", None)


@pytest.mark.parametrize(
    ("text", "said", "then"),
    [
        ("", "no column site", "site,samples"),
        ("site,sample\nx,y\n", "'sample' is not known", "did you mean 'samples'"),
        ("site,samples,site\nx,y,z\n", "stands twice", "each once"),
        ("site,fit\nx,3\n", "no column", "begin with"),
        ("site,samples\n", "names 0 sites", "1 to"),
        ("site,samples\nHall 2,photos\n", "line 2: site 'Hall 2' is not a name", "lower-case"),
        ("site,samples\na,photos\na,others\n", "line 3: a stands in line 2", "once"),
        ("site,samples\na,\n", "line 2: a has no samples", "folder"),
        ("site,samples,fit\na,photos,forty\n", "fit is 'forty'", "whole number"),
        ("site,samples,fit\na,photos,-1\n", "fit is '-1'", "whole number"),
        ("site,samples\na,photos,of,ours\n", "more cells than columns", "quotes"),
        ("site,samples,value\na,photos,x\n", "'value' is not known", "did you mean 'values'"),
        ("site,samples,values.\na,photos,x\n", "'values.' is not known", "values"),
        ("site,samples,values.price\na,photos,{a: 1}\n", "values.price is '{a: 1}'", "one value"),
        ("site,samples,values.price\na,photos,[1\n", "values.price is '[1'", "one value"),
    ],
)
def test_a_table_that_cannot_be_used_is_told_where(tmp_path: Path, text: str, said: str, then: str) -> None:
    with pytest.raises(DocumentError) as caught:
        read_sites(table(tmp_path, text))
    assert said in caught.value.message and then in caught.value.next_step and "sites.csv" in caught.value.message


def test_a_table_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="cannot be read"):
        read_sites(tmp_path / "none.csv")
    (tmp_path / "sites.csv").write_bytes(b"site,samples\n\xff\xfe,x\n")
    with pytest.raises(DocumentError, match="cannot be read"):
        read_sites(tmp_path / "sites.csv")


def test_without_an_exchange_no_site_is_begun(tmp_path: Path) -> None:
    lines = read_sites(table(tmp_path, "site,samples\na,photos\n"))
    with pytest.raises(NotFoundError, match="no exchange"):
        list(rollout(asked(lines, tmp_path), lambda what, done, total: None))
    with pytest.raises(InputError, match="at a time"):
        list(rollout(asked(lines, tmp_path, parallel=99), lambda what, done, total: None))


def test_values_of_a_site_by_file_and_by_single_knobs(tmp_path: Path) -> None:
    (tmp_path / "hall.yaml").write_text("price_micros: 5\nvalidity_days: 9\n", encoding="utf-8")
    text = 'site,samples,values,values.price_micros,values.weightings\na,p,hall.yaml,7,\nb,p,,,"[1, 4]"\nc,p,,,\nd,p,hall.yaml,,\n'
    lines = read_sites(table(tmp_path, text))
    wanted = asked(lines, tmp_path)
    assert own_values(wanted, lines[0]) == {"price_micros": 7, "validity_days": 9}
    assert own_values(wanted, lines[1]) == {"weightings": [1, 4]}
    assert own_values(wanted, lines[2]) is None
    assert own_values(wanted, lines[3]) == tmp_path / "hall.yaml"
    over = asked(lines, tmp_path, values=tmp_path / "hall.yaml")
    assert own_values(over, lines[1]) == {"price_micros": 5, "validity_days": 9, "weightings": [1, 4]}
    assert own_values(over, lines[2]) == tmp_path / "hall.yaml"


def asked(lines: tuple[SiteLine, ...], state: Path, **more: Any) -> Rollout:
    return Rollout(scenario="solar-cell-inspection", sites=lines, state=state, seed=0, clock=SetClock(), **more)
