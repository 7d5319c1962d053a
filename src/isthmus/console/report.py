"""The report of one run as a single HTML file that fetches nothing."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from importlib.resources import files

import msgspec

from isthmus.contracts.errors import DocumentError
from isthmus.contracts.report import CellPart, RunReport
from isthmus.kit.texts import record_texts

SCRIPTS = (
    "sha256.js",
    "dom.js",
    "charts.js",
    "flows.js",
    "heads.js",
    "splits.js",
    "receipts.js",
    "cells.js",
    "sections.js",
    "values.js",
    "touch_head.js",
    "touch_receipt.js",
    "touch_leave.js",
    "page.js",
)
PICTURE = re.compile(r"data:image/(?:png|jpeg);base64,[A-Za-z0-9+/]+={0,2}")
LANGUAGES = ("en",)


def _asset(name: str) -> str:
    return files("isthmus.console").joinpath("report_page", name).read_text(encoding="utf-8")


def page_texts(language: str) -> dict[str, str]:
    """The page's texts by key. Raises DocumentError for a language that has none."""
    if language not in LANGUAGES:
        raise DocumentError(f"the report has no texts in {language!r}", f"use one of {', '.join(LANGUAGES)}")
    return msgspec.json.decode(_asset(f"texts_{language}.json"), type=dict[str, str])


def embedded_json(document: object) -> str:
    """JSON that can stand inside a script element: no `<`, `>`, `&` or line separator in it, and the same value when read."""
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _source_hash(source: str) -> str:
    """The Content-Security-Policy source expression that allows exactly this inline script or style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"


def shown_cell(cell: CellPart) -> CellPart:
    """The cell as it may be shown: without pictures where no licence note stands beside them.

    Raises DocumentError when a picture is not a PNG or JPEG data URI.
    """
    for picture in (cell.picture, cell.heat):
        if picture is not None and not PICTURE.fullmatch(picture):
            raise DocumentError(f"the picture of {cell.id!r} is not a PNG or JPEG data URI", "embed the bytes themselves, not an address")
    if cell.licence_note.strip():
        return cell
    return msgspec.structs.replace(cell, picture=None, heat=None, fields=())


def render(report: RunReport, language: str = "en") -> str:
    """One HTML file: style, script, texts and data inline; no address in it is fetched, and its policy forbids to.

    Numbers that are not finite become null and are shown as not measured. Raises DocumentError for an unknown language or
    a picture that is not a data URI.
    """
    texts = page_texts(language) if report.pictures else record_texts(page_texts(language))
    shown = msgspec.structs.replace(report, cells=tuple(shown_cell(cell) for cell in report.cells))
    data = msgspec.json.decode(msgspec.json.encode(shown))
    style = _asset("style.css")
    script = '"use strict";\n(() => {\n' + "\n".join(_asset(name) for name in SCRIPTS) + "\n})();\n"
    parts = {
        "language": html.escape(language),
        "title": html.escape(report.title or texts["title"].replace("{scenario}", report.scenario)),
        "skip": html.escape(texts["page.skip"]),
        "contents": html.escape(texts["page.contents"]),
        "noscript": html.escape(texts["page.noscript"]),
        "style_hash": _source_hash(style),
        "script_hash": _source_hash(script),
        "style": style,
        "script": script,
        "report": embedded_json(data),
        "texts": embedded_json(texts),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found.group(1)], _asset("page.html"))
