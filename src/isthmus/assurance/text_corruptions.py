"""Declared corruptions of a text: what hurried hands, old forms and short fields do, in five severities each.

    typos    a share of the letters is left out, doubled, or changes places with the next one
    case     a share of the words is written in capitals, as by whoever shouts
    marks    a share of accents and of punctuation is missing, as on a foreign keyboard
    cut      only the begin of the text is there, as where a field is too short

No family knows a language, so one scenario may have several; in a script without capitals or accents the second and third change little or
nothing, and a certificate counts them as they are. The constants are ours and part of what a certificate means. Deterministic: the
generator is keyed by the text itself, so that every node and every run sees the same characters. A letter or place that is hit in a mild
case is also hit in a harder one.
"""

from __future__ import annotations

import hashlib
import unicodedata

import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.errors import InputError
from isthmus.kit.writing import Text, coded, written

TEXT_FAMILIES = ("typos", "case", "marks", "cut")
TYPO_SHARE = (0.01, 0.02, 0.04, 0.08, 0.16)
CASE_SHARE = (0.1, 0.25, 0.5, 0.75, 1.0)
MARKS_SHARE = (0.2, 0.4, 0.6, 0.8, 1.0)
CUT_KEPT = (0.9, 0.8, 0.65, 0.5, 0.35)
CUT_CHARACTERS_MIN = 8
"""What is never cut away."""


def _uniform(text: str, family: str, count: int) -> NDArray[np.float64]:
    """(count,) numbers strictly between 0 and 1, from a counter-based generator."""
    seed = hashlib.sha256(f"{family} {text}".encode()).digest()
    words = np.random.Philox(key=int.from_bytes(seed[:16], "little")).random_raw(count)
    return ((words >> np.uint64(32)).astype(np.float64) + 0.5) / 2.0**32


def _typos(text: str, step: int) -> str:
    drawn, kinds = np.split(_uniform(text, "typos", 2 * len(text)), 2)
    letters = list(text)
    place = 0
    while place < len(letters):
        if letters[place].isalpha() and drawn[place] < TYPO_SHARE[step]:
            if kinds[place] < 1 / 3:
                letters[place] = ""
            elif kinds[place] < 2 / 3 or place + 1 == len(letters):
                letters[place] *= 2
            else:
                letters[place], letters[place + 1] = letters[place + 1], letters[place]
                place += 1
        place += 1
    return "".join(letters)


def _case(text: str, step: int) -> str:
    words = text.split(" ")
    drawn = _uniform(text, "case", len(words))
    return " ".join(word.upper() if place < CASE_SHARE[step] else word for word, place in zip(words, drawn.tolist(), strict=True))


def _marks(text: str, step: int) -> str:
    apart = unicodedata.normalize("NFD", text)
    drawn = _uniform(text, "marks", len(apart))
    lost = [unicodedata.category(c) in ("Mn", "Po") and place < MARKS_SHARE[step] for c, place in zip(apart, drawn.tolist(), strict=True)]
    return unicodedata.normalize("NFC", "".join(c for c, gone in zip(apart, lost, strict=True) if not gone))


def _cut(text: str, step: int) -> str:
    return text[: max(CUT_CHARACTERS_MIN, round(len(text) * CUT_KEPT[step]))]


_MAKERS = {"typos": _typos, "case": _case, "marks": _marks, "cut": _cut}


def corrupt_text(record: Text, family: str, severity: int) -> Text:
    """(characters,) uint32 -> another text; the same where nothing would be left of it. family: one of TEXT_FAMILIES. severity: 1 to 5.

    Raises InputError for others.
    """
    if family not in TEXT_FAMILIES:
        raise InputError(f"the corruption {family!r} is not known for texts", f"use one of {', '.join(TEXT_FAMILIES)}")
    if severity not in range(1, len(TYPO_SHARE) + 1):
        raise InputError(f"the severity {severity} is not known", "use 1 to 5")
    found = _MAKERS[family](written(record), severity - 1)
    return coded(found) if found.strip() else record
