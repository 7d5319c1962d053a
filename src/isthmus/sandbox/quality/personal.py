"""Personal data where none belongs, by the signs of sandbox.personaldata: findings, and work for people."""

from __future__ import annotations

from isthmus.contracts.quality import Finding, Level, WorkItem, charged
from isthmus.sandbox.personaldata import named_after_somebody, signs_in
from isthmus.sandbox.quality.columns import Found
from isthmus.sandbox.quality.material import Material, number_of

POSITION = "the place where it was taken"
SUBJECT = "a column named after a person's data"


def check_personal(material: Material) -> tuple[Found, tuple[str, ...]]:
    """(findings and work, kinds that were met)."""
    hits: dict[str, dict[str, str]] = {}  # kind -> path -> column
    for path in material.located:
        hits.setdefault(POSITION, {})[path] = ""
    for file, text in zip(material.files, material.texts, strict=False):
        for kind in signs_in(text):
            hits.setdefault(kind, {})[file.path] = ""
    named = _in_table(material, hits)
    findings = [
        _finding(kind, len(paths), material.size, next(iter(paths.values())), f"{len(paths)} records hold {kind}")
        for kind, paths in sorted(hits.items())
    ]
    findings += [
        _finding(SUBJECT, material.size, material.size, name, f"the column {name} is named after a person's data") for name in named
    ]
    work = tuple(
        WorkItem(path=path, action="fix", why=f"holds {kind}", check="personal", chance=0.9, gain=0.0, column=column)
        for kind, paths in sorted(hits.items())
        for path, column in paths.items()
    )
    return Found(tuple(findings), work), tuple(sorted({*hits, *([SUBJECT] if named else [])}))


def _in_table(material: Material, hits: dict[str, dict[str, str]]) -> list[str]:
    """Adds what texts in the table hold; returns columns that are named after a person's data."""
    table = material.table
    if table is None:
        return []
    owners = table.record_of_rows()
    for name, texts in table.cells.items():
        known: dict[str, set[str]] = {}
        for row, text in enumerate(texts):
            if len(text) < 5 or number_of(text) != float("inf"):
                continue
            if text not in known:
                known[text] = signs_in(text)
            for kind in known[text]:
                hits.setdefault(kind, {}).setdefault(material.files[int(owners[row])].path, name)
    return [name for name in table.cells if named_after_somebody(name)]


def _finding(kind: str, count: int, size: int, column: str, says: str) -> Finding:
    share = count / max(1, size)
    level: Level = "stop" if kind != SUBJECT else "care"
    return Finding(
        check="personal", level=level, says=says, records=count, share=round(share, 4), points=charged("personal", share), column=column
    )
