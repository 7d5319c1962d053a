"""The page of a check: one HTML file that loads nothing, with the records that a person should look at. It stays with the owner."""

from __future__ import annotations

import base64
import html
import io
import re
from importlib.resources import files

from PIL import Image

from isthmus.contracts.errors import PictureError
from isthmus.contracts.quality import Finding, WorkItem
from isthmus.kit.pictures import read_picture
from isthmus.sandbox.quality.check import Checked
from isthmus.sandbox.quality.material import Material

SHELF_MAX = 36
THUMB_PIXELS = 224
TEXT_CHARS_MAX = 400
SHELVES = (
    ("label-errors", "Labels that are probably wrong"),
    ("leakage", "Training records with a held-out twin"),
    ("duplicates", "Records with the content of another"),
    ("near-duplicates", "Records that are nearly the same as another"),
    ("units", "Values that look as if they were in another unit"),
    ("out-of-range", "Values beyond their range"),
    ("personal", "Personal data"),
    ("unreadable", "Records that cannot be read"),
)


def quality_page(checked: Checked) -> str:
    """The page as text."""
    report, static = checked.report, files("isthmus.console") / "quality_page_static"
    mood = "good" if report.score >= 80 else "care" if report.score >= 50 else "stop"
    told = f"{report.records} records in {report.groups} groups" + (f", read as {report.scenario} reads them" if report.scenario else "")
    blocks = {
        "title": html.escape(f"Check of {checked.material.folder.root.resolve().name}"),
        "style": (static / "style.css").read_text(encoding="utf-8"),
        "score": str(report.score),
        "mood": mood,
        "about": html.escape(told),
        "findings": "".join(_finding(finding) for finding in report.findings),
        "shelves": "".join(_shelf(checked, check, title) for check, title in SHELVES),
        "not_checked": "".join(f"<li>{html.escape(line)}</li>" for line in report.not_checked),
    }
    page = (static / "page.html").read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda match: blocks[match.group(1)], page)


def _finding(finding: Finding) -> str:
    points = f"&minus;{finding.points:g}" if finding.points else ""
    return (
        f'<tr><td class="points">{points}</td><td class="check {finding.level}">{html.escape(finding.check)}</td>'
        f"<td>{html.escape(finding.says)}</td></tr>"
    )


def _shelf(checked: Checked, check: str, title: str) -> str:
    items = [item for item in checked.work if item.check == check]
    if not items:
        return ""
    shown = "".join(_figure(checked.material, item) for item in items[:SHELF_MAX])
    more = f'<p class="soft">and {len(items) - SHELF_MAX} more in the work list</p>' if len(items) > SHELF_MAX else ""
    return f'<section><h2>{html.escape(title)} ({len(items)})</h2><div class="shelf">{shown}</div>{more}</section>'


def _figure(material: Material, item: WorkItem) -> str:
    looks = [_look(material, path) for path in (item.path, item.twin) if path]
    pair = f'<div class="pair">{"".join(looks)}</div>' if any(looks) else ""
    do = f"{item.action} {item.column} {item.value}".strip() if item.action == "fix" else f"{item.action} {item.value}".strip()
    twin = f"<br>twin: {html.escape(item.twin)}" if item.twin else ""
    return (
        f"<figure>{pair}<figcaption><b>{html.escape(do)}</b>{html.escape(item.why)}{twin}"
        f'<br><span class="soft">{html.escape(item.path)} &middot; chance {item.chance:.2f}</span></figcaption></figure>'
    )


def _look(material: Material, path: str) -> str:
    if material.kind == "texts":
        place = next((n for n, file in enumerate(material.files) if file.path == path), None)
        return "" if place is None else f'<span class="soft">{html.escape(material.texts[place][:TEXT_CHARS_MAX])}</span>'
    if material.kind != "image":
        return ""
    try:
        image = Image.fromarray(read_picture(material.folder.root / path))
    except PictureError:
        return ""
    image.thumbnail((THUMB_PIXELS, THUMB_PIXELS))
    out = io.BytesIO()
    image.save(out, format="JPEG", quality=82)
    return f'<img alt="{html.escape(path)}" src="data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode()}">'
