"""Names for things: sortable random ids and checked slugs."""

from __future__ import annotations

import os
import re

from isthmus.contracts.errors import InputError

_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?")


def new_id(prefix: str, now_s: float) -> str:
    """`prefix_` + 12 hex digits of milliseconds + 16 random hex digits; sorts by time."""
    return f"{prefix}_{int(now_s * 1000):012x}{os.urandom(8).hex()}"


def is_slug(value: str) -> bool:
    """Whether value is a lower-case slug of 1 to 64 letters, digits and inner hyphens."""
    return _SLUG.fullmatch(value) is not None


def slug(value: str, what: str) -> str:
    """Returns value if it is a lower-case slug of 1 to 64 letters, digits and inner hyphens; raises InputError."""
    if not is_slug(value):
        raise InputError(f"{what} {value!r} is not a name", "use 1 to 64 lower-case letters, digits and hyphens")
    return value
