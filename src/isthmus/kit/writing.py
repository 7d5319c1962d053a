"""The one named decoder that turns bytes into a text: at the owners' nodes, in what a package proposes, and where it serves.

A certificate names `TEXT_DECODER`, because a model's promise holds for texts decoded this way. UTF-8, strictly; a byte-order mark at the
begin is dropped; line ends become one kind; then Unicode's normal form C, so that a letter with its accent is the same however it was
typed. In memory a text is its code points, (characters,) uint32.
"""

from __future__ import annotations

import unicodedata

import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.errors import InputError

TEXT_DECODER = "isthmus-text/1"
TEXT_SUFFIXES = frozenset({".txt"})
TEXT_BYTES_MAX = 16 * 1024
"""One text; a longer one is a document of many, to be cut where its author cut it."""

CONTROLS_TAKEN = "\n\t"
Text = NDArray[np.uint32]


def decode_text(raw: bytes, name: str = "the text") -> Text:
    """Bytes -> (characters,) uint32, at least one that is no blank. Raises InputError: too long, no UTF-8, with control characters,
    empty."""
    if len(raw) > TEXT_BYTES_MAX:
        raise InputError(f"{name} has {len(raw)} bytes, more than the {TEXT_BYTES_MAX} allowed", "send it in parts")
    try:
        found = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{name} is not UTF-8 text (byte {error.start})", "save it as UTF-8") from error
    plain = unicodedata.normalize("NFC", found.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n"))
    wrong = next((c for c in plain if unicodedata.category(c) == "Cc" and c not in CONTROLS_TAKEN), None)
    if wrong is not None:
        raise InputError(f"{name} holds the control character U+{ord(wrong):04X}", "send text, not a binary file")
    if not plain.strip():
        raise InputError(f"{name} is empty", "send at least one word")
    return coded(plain)


def coded(text: str) -> Text:
    """Characters -> code points."""
    return np.frombuffer(text.encode("utf-32-le"), dtype="<u4").astype(np.uint32)


def written(text: Text) -> str:
    """Code points -> characters. Raises InputError when they are none."""
    if text.dtype != np.uint32 or text.ndim != 1:
        raise InputError(f"a text is {text.shape} of {text.dtype}", "give (characters,) code points")
    try:
        return np.ascontiguousarray(text).astype("<u4").tobytes().decode("utf-32-le")
    except UnicodeDecodeError as error:
        raise InputError("a text holds numbers that are no characters", "give code points of Unicode") from error
