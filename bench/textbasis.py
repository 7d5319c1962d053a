"""Makes the public basis of texts anew from public translations and compares it with the one that ships.

    .venv/bin/python bench/textbasis.py [--json] [--write]

The texts: messages of Django (BSD-3-Clause) that have a translation in every one of LANGUAGES, read out of its pinned wheel, which is not
installed. Only the basis ships, no text. No text of anybody's scenario enters. Needs the extra `text`; about three minutes.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from solar_cells import bar, machine

import isthmus.foundry
from isthmus.foundry.textbasis import COUNTS, FILE, made_text_basis, shipped_text_basis
from isthmus.foundry.textfeatures import Embedder
from isthmus.kit.config import package_cache
from isthmus.scenarios.sample_packages import Package, package_file

DJANGO = Package(
    name="django",
    version="5.2.19",
    file="django-5.2.19-py3-none-any.whl",
    sha256="5965d974a5218a2b68a11dd1276434707f23886525c23f0598eccedaf4f4ca00",
    licence="BSD-3-Clause",
)
LANGUAGES = (
    "de",
    "fr",
    "es",
    "it",
    "pt_BR",
    "nl",
    "pl",
    "ru",
    "uk",
    "tr",
    "ar",
    "he",
    "fa",
    "hi",
    "id",
    "ja",
    "ko",
    "zh_Hans",
    "vi",
    "sv",
    "cs",
)
CHARACTERS_MIN, MESSAGES_MAX = 20, 220
_ENTRY = re.compile(r"\n\s*\n")
_SOURCE = re.compile(r'^msgid ((?:".*"\n?)+)', re.MULTILINE)
_TARGET = re.compile(r'^msgstr(?:\[0\])? ((?:".*"\n?)+)', re.MULTILINE)


def _plain(quoted: str) -> str:
    joined = "".join(line.strip()[1:-1] for line in quoted.strip().split("\n"))
    return joined.replace("\\n", " ").replace('\\"', '"')


def messages(text: str) -> dict[str, str]:
    """A .po file's messages of CHARACTERS_MIN and more, source -> translation, without doubtful ones."""
    found = {}
    for entry in _ENTRY.split(text):
        source, target = _SOURCE.search(entry), _TARGET.search(entry)
        if "fuzzy" in entry or source is None or target is None:
            continue
        pair = _plain(source.group(1)), _plain(target.group(1))
        if len(pair[0]) >= CHARACTERS_MIN and pair[1]:
            found[pair[0]] = pair[1]
    return found


def parallel(archive: Path) -> tuple[list[str], list[str]]:
    """(texts, their languages): every message in English and in all of LANGUAGES."""
    by_language: dict[str, dict[str, str]] = {}
    with zipfile.ZipFile(archive) as wheel:
        for language in LANGUAGES:
            wanted = f"/locale/{language}/LC_MESSAGES/django.po"
            names = sorted(name for name in wheel.namelist() if name.endswith(wanted))
            by_language[language] = {k: v for name in names for k, v in messages(wheel.read(name).decode("utf-8")).items()}
    common = sorted(set.intersection(*(set(found) for found in by_language.values())))[:MESSAGES_MAX]
    texts = [text for message in common for text in (message, *(by_language[language][message] for language in LANGUAGES))]
    return texts, ["en", *LANGUAGES] * len(common)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--write", action="store_true", help="put the new basis in the place of the one that ships")
    given = parser.parse_args()
    began = time.monotonic()
    texts, languages = parallel(package_file(DJANGO, package_cache()))
    embedder, rows = Embedder(), []
    for place, text in enumerate(texts):
        rows.append(embedder.embedded(text)[0])
        if place % 20 == 0:
            print(f"\r{place} of {len(texts)} public texts", end="", file=sys.stderr, flush=True)
    source = f"{len(texts) // (1 + len(LANGUAGES))} messages of Django {DJANGO.version} (BSD-3-Clause) in {1 + len(LANGUAGES)} languages"
    made = made_text_basis(np.stack(rows), languages, source)
    if given.write:
        target = Path(str(isthmus.foundry.__file__)).parent / FILE
        target.write_text(json.dumps(made.document(), indent=0) + "\n", encoding="utf-8")
        shipped_text_basis.cache_clear()
    ships = shipped_text_basis()
    gap = float(np.abs(made.matrix - ships.matrix).max() / np.abs(ships.matrix).max())
    figures: dict[str, Any] = {
        "source": ships.source,
        "texts": len(texts),
        "digest": ships.digest,
        "made": made.digest,
        "directions": COUNTS,
    }
    figures |= {"gap": gap, "ms_a_text": round((time.monotonic() - began) / len(texts) * 1e3, 1)}
    bars = [bar("directions made anew differ from those that ship by", gap, 0.01, "of the largest entry", at_most=True)]
    result = {"bench": "textbasis", "machine": machine(), "figures": figures, "bars": bars}
    print(json.dumps(result) if given.json else f"\n{ships.source}: made anew it differs by {gap:.2e} of the largest entry")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
