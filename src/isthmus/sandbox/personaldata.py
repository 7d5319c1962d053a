"""Signs of personal data in an owner's records, by heuristics: names of columns, shapes of values, places in pictures.

The only place that knows them. The public description of an asset tells which sign was met where, in the words of the schema, never a
value, a count or the name of a file; the owner's own check (sandbox.quality) counts the records too. Faces, voices, names in free text and
what columns say together are not looked for.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable

from PIL import Image

WHO_SIGNS: dict[str, re.Pattern[str]] = {
    "a name": re.compile(
        r"(^|_)(first|last|full|family|given|sur|user)?_?(name|surname|vorname|nachname|nom|prenom|nombre|apellido)($|_)", re.ASCII
    ),
    "an e-mail address": re.compile(r"(^|_)e?_?mails?(_?address)?($|_)", re.ASCII),
    "a phone number": re.compile(
        r"(^|_)((cell|mobile|tele)?_?(tele)?phone|mobile|telefon|tel|fax)(_?(no|nr|number)|nummer)?($|_)", re.ASCII
    ),
    "an address": re.compile(r"(^|_)(address|street|adresse|strasse)($|_)", re.ASCII),
    "a birthday": re.compile(r"(^|_)(birth(day|date)?|date_?of_?birth|dob|geburts(tag|datum))($|_)", re.ASCII),
    "an identifier of somebody": re.compile(
        r"(^|_)((patient|employee)(_?(id|no|nr|number))?|ssn|passport|iban|social_?security|national_?id|plate|kennzeichen)($|_)"
        r"|(^|_)(person|customer|user|client|member)(_?(id|no|nr|number))?$",
        re.ASCII,
    ),
}
"""What names of columns say of who it is. An internet address in a column's name counts as an address."""
ABOUT_SIGNS: dict[str, re.Pattern[str]] = {
    "a place": re.compile(r"(^|_)(lat|lon|lng|latitude|longitude|gps|postcode|zip|plz|city|ort)($|_)", re.ASCII),
    "sex or ethnicity": re.compile(r"(^|_)(sex|gender|race|ethnicity|religion|nationality)($|_)", re.ASCII),
}
"""What they say of somebody, but not who it is: told in public, and nothing to be mended, as a model may well need it."""
VALUE_SIGNS: dict[str, re.Pattern[str]] = {
    "an e-mail address": re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+", re.ASCII),
    "a phone number": re.compile(r"(?<![\w.+-])(?<!\d )(?:\+\d{1,3}[ ./-]?|0)\(?\d{2,4}\)?(?:[ ./-]?\d{2,4}){2,4}(?![\w-])", re.ASCII),
    "an account number": re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?\b", re.ASCII),
    "an internet address": re.compile(r"(?<![\d.])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?![\d.])", re.ASCII),
}
PHONE_DIGITS_MIN = 9
IBAN_CHARS_MIN = 15
GPS_TAG = 0x8825
"""The GPS directory of EXIF 2.3."""
VALUES_LOOKED_AT_MAX = 200_000
"""Values of one column, or texts, that are looked at; in what follows signs are not looked for."""


def named_after_somebody(name: str) -> bool:
    """Whether a column's name says that it holds who somebody is."""
    return any(pattern.search(name.lower()) for pattern in WHO_SIGNS.values())


def signs_in_names(names: Iterable[str]) -> list[str]:
    """Sentences about columns whose names say that they are personal."""
    found = []
    for name in names:
        signs = [sign for sign, pattern in {**WHO_SIGNS, **ABOUT_SIGNS}.items() if pattern.search(name.lower())]
        if signs:
            found.append(f"The column {name} is named like {' or '.join(signs)} (heuristic).")
    return found


def signs_in(text: str) -> set[str]:
    """Which shapes of personal data a text holds."""
    return {sign for sign in VALUE_SIGNS if _holds(sign, text)}


def signs_in_values(values: Iterable[str]) -> set[str]:
    """Which shapes of personal data some of the values have."""
    found: set[str] = set()
    for number, value in enumerate(values):
        if number >= VALUES_LOOKED_AT_MAX or len(found) == len(VALUE_SIGNS):
            break
        found |= {sign for sign in VALUE_SIGNS if sign not in found and _holds(sign, value)}
    return found


def _holds(sign: str, text: str) -> bool:
    matches = (match.group(0) for match in VALUE_SIGNS[sign].finditer(text))
    if sign == "a phone number":
        return any(sum(character.isdigit() for character in match) >= PHONE_DIGITS_MIN for match in matches)
    return any(sign != "an account number" or iban_holds(match) for match in matches)


def iban_holds(text: str) -> bool:
    """Whether the check digits of an account number fit (ISO 7064, modulo 97)."""
    plain = text.replace(" ", "")
    turned = plain[4:] + plain[:4]
    return len(plain) >= IBAN_CHARS_MIN and int("".join(str(int(c, 36)) for c in turned)) % 97 == 1


def tells_place(raw: bytes) -> bool:
    """Whether a picture says in its EXIF where it was taken. A file that cannot be read says nothing here."""
    try:
        with Image.open(io.BytesIO(raw)) as image:
            return bool(image.getexif().get_ifd(GPS_TAG))
    except (OSError, ValueError, SyntaxError, KeyError, TypeError, Image.DecompressionBombError):
        return False
