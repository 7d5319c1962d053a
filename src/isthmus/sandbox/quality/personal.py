"""Personal data where none belongs: names of columns, addresses and numbers in texts, places in pictures. Faces are not looked for."""

from __future__ import annotations

import re

from isthmus.contracts.quality import Finding, Level, WorkItem, charged
from isthmus.sandbox.quality.columns import Found
from isthmus.sandbox.quality.material import Material, number_of

NAMES = re.compile(
    r"(?:^|_)(?:first_?name|last_?name|full_?name|sur_?name|name|vorname|nachname|nom|prenom|nombre|apellido|e?_?mail|phone|telephone|telefon"
    r"|mobile|address|adresse|street|strasse|birth(?:day|date)?|date_?of_?birth|dob|geburtsdatum|ssn|passport|iban|patient(?:_?id)?|employee"
    r"|social_?security|national_?id|ip_?address|plate|kennzeichen)(?:_|$)",
    re.ASCII | re.IGNORECASE,
)
PATTERNS: dict[str, re.Pattern[str]] = {
    "e-mail address": re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+", re.ASCII),
    "phone number": re.compile(r"(?<![\w.+-])(?<!\d )(?:\+\d{1,3}[ ./-]?|0)\(?\d{2,4}\)?(?:[ ./-]?\d{2,4}){2,4}(?![\w-])", re.ASCII),
    "bank account": re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?\b", re.ASCII),
    "internet address": re.compile(r"(?<![\d.])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?![\d.])", re.ASCII),
}
DIGITS_MIN = 9
"""Of a phone number."""
POSITION = "place where a picture was taken"
SUBJECT = "column named after a person's data"


def iban_holds(text: str) -> bool:
    """Whether the check digits fit (ISO 7064, modulo 97)."""
    plain = text.replace(" ", "")
    turned = plain[4:] + plain[:4]
    return len(plain) >= 15 and int("".join(str(int(c, 36)) for c in turned)) % 97 == 1


def kinds_of(text: str) -> set[str]:
    """Which kinds of personal data a text holds."""
    found = set()
    for kind, pattern in PATTERNS.items():
        for match in pattern.finditer(text):
            given = match.group(0)
            if kind == "phone number" and sum(c.isdigit() for c in given) < DIGITS_MIN:
                continue
            if kind == "bank account" and not iban_holds(given):
                continue
            found.add(kind)
            break
    return found


def check_personal(material: Material) -> tuple[Found, tuple[str, ...]]:
    """(findings and work, kinds that were met)."""
    hits: dict[str, dict[str, str]] = {}  # kind -> path -> column
    for path in material.located:
        hits.setdefault(POSITION, {})[path] = ""
    for file, text in zip(material.files, material.texts, strict=False):
        for kind in kinds_of(text):
            hits.setdefault(kind, {})[file.path] = ""
    named = _in_table(material, hits)
    findings = [
        _finding(kind, len(paths), material.size, next(iter(paths.values())), f"{len(paths)} records hold a {kind}")
        for kind, paths in sorted(hits.items())
    ]
    findings += [
        _finding(SUBJECT, material.size, material.size, name, f"the column {name} is named after a person's data") for name in named
    ]
    work = tuple(
        WorkItem(path=path, action="fix", why=f"holds a {kind}", check="personal", chance=0.9, gain=0.0, column=column)
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
                known[text] = kinds_of(text)
            for kind in known[text]:
                hits.setdefault(kind, {}).setdefault(material.files[int(owners[row])].path, name)
    return [name for name in table.cells if NAMES.search(name)]


def _finding(kind: str, count: int, size: int, column: str, says: str) -> Finding:
    share = count / max(1, size)
    level: Level = "stop" if kind != SUBJECT else "care"
    return Finding(
        check="personal", level=level, says=says, records=count, share=round(share, 4), points=charged("personal", share), column=column
    )
