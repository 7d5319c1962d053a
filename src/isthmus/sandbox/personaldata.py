"""Signs of personal data in an owner's folder, by heuristics: names of columns, shapes of values, places in pictures.

What is told is which sign was met where, in the words of the schema; never a value, a count or the name of a file. Faces, voices, names in
free text and what columns say together are not looked for.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable

from PIL import Image, UnidentifiedImageError

COLUMN_SIGNS: dict[str, re.Pattern[str]] = {
    "a name": re.compile(
        r"(^|_)(first|last|full|family|given|sur|user)?_?(name|surname|vorname|nachname|nom|prenom|nombre|apellido)($|_)", re.ASCII
    ),
    "an e-mail address": re.compile(r"e?_?mail", re.ASCII),
    "a phone number": re.compile(r"phone|mobile|telefon|(^|_)(tel|fax)($|_)", re.ASCII),
    "an address": re.compile(r"(^|_)(address|street|adresse|strasse|postcode|zip|plz|city|ort)($|_)", re.ASCII),
    "a birthday": re.compile(r"birth|(^|_)dob($|_)|geburt", re.ASCII),
    "an identifier of somebody": re.compile(
        r"(^|_)(patient|person|employee|customer|user|client|member|passport|ssn|iban)(_?(id|no|nr|number))?($|_)", re.ASCII
    ),
    "a place": re.compile(r"(^|_)(lat|lon|lng|latitude|longitude|gps)($|_)", re.ASCII),
    "sex or ethnicity": re.compile(r"(^|_)(sex|gender|race|ethnicity|religion|nationality)($|_)", re.ASCII),
}
VALUE_SIGNS: dict[str, re.Pattern[str]] = {
    "an e-mail address": re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+", re.ASCII),
    "a phone number": re.compile(r"(?<![\w.])\+\d{1,3}[ ./-]?\(?\d{2,4}\)?(?:[ ./-]?\d{2,4}){2,4}(?!\w)", re.ASCII),
    "an account number": re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?\b", re.ASCII),
    "an internet address": re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])", re.ASCII),
}
GPS_TAG = 0x8825
"""The GPS directory of EXIF 2.3."""
VALUES_LOOKED_AT_MAX = 200_000
"""Values of one column, or texts, that are looked at; in what follows signs are not looked for."""


def signs_in_names(names: Iterable[str]) -> list[str]:
    """Sentences about columns whose names say that they are personal."""
    found = []
    for name in names:
        signs = [sign for sign, pattern in COLUMN_SIGNS.items() if pattern.search(name.lower())]
        if signs:
            found.append(f"The column {name} is named like {' or '.join(signs)} (heuristic).")
    return found


def signs_in_values(values: Iterable[str]) -> set[str]:
    """Which shapes of personal data some of the values have."""
    found: set[str] = set()
    for number, value in enumerate(values):
        if number >= VALUES_LOOKED_AT_MAX or len(found) == len(VALUE_SIGNS):
            break
        found |= {sign for sign, pattern in VALUE_SIGNS.items() if sign not in found and pattern.search(value)}
    return found


def tells_place(raw: bytes) -> bool:
    """Whether a picture says in its EXIF where it was taken. A file that cannot be read says nothing here."""
    try:
        with Image.open(io.BytesIO(raw)) as image:
            return bool(image.getexif().get_ifd(GPS_TAG))
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False
