"""Sentences meant for people, looked up by key, in one JSON file per language under `languages/`.

English is complete. Another language may have fewer keys; what it lacks is said in English.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from isthmus.contracts.errors import SettingError

FOLDER = Path(__file__).parent / "languages"
BASE = "en"
RECORDS, RECORD_WORDS = "records:", "records:words"


class Texts:
    """Sentences of one language."""

    def __init__(self, language: str, sentences: Mapping[str, str], base: Mapping[str, str]) -> None:
        self.language = language
        self._sentences = sentences
        self._base = base

    def __call__(self, key: str, **values: object) -> str:
        """The sentence of a key, with {names} filled in. An unknown key or name is a fault of the program: KeyError."""
        sentence = self._sentences.get(key) or self._base[key]
        return sentence.format_map(values) if values else sentence

    def has(self, key: str) -> bool:
        return key in self._base

    def all(self) -> dict[str, str]:
        """Every sentence by its key, English where the language lacks one; for pages that fill them in themselves."""
        return {**self._base, **self._sentences}


def languages(folder: Path = FOLDER) -> list[str]:
    """Codes of the languages that have a file."""
    return sorted(path.stem for path in folder.glob("*.json"))


def record_texts(texts: Mapping[str, str]) -> dict[str, str]:
    """The same texts for records that are not pictures: those that have a wording of their own (`records:KEY`) in it, the others with the
    language's own words for pictures exchanged (`records:words`, as in `image=record;images=records`)."""
    if RECORD_WORDS not in texts:
        return dict(texts)
    words = dict(pair.split("=") for pair in texts[RECORD_WORDS].split(";"))
    longest_first = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
    pattern = re.compile(rf"\{{[^}}]*\}}|{longest_first}")  # a {name} to be filled in stays as it is
    found = {key: pattern.sub(lambda m: words.get(m.group(), m.group()), text) for key, text in texts.items() if key != RECORD_WORDS}
    return found | {key.removeprefix(RECORDS): text for key, text in found.items() if key.startswith(RECORDS)}


def load_texts(language: str, folder: Path = FOLDER, records: bool = False) -> Texts:
    """Texts of a language code such as `en`. records: worded for records that are no pictures. Raises SettingError when there is no file
    for it."""
    if language not in languages(folder):
        raise SettingError(f"there are no sentences in the language {language!r}", f"use one of {', '.join(languages(folder))}")
    own, base = _sentences(folder / f"{language}.json"), _sentences(folder / f"{BASE}.json")
    return Texts(language, record_texts(own), record_texts(base)) if records else Texts(language, own, base)


@cache
def _sentences(path: Path) -> dict[str, str]:
    return {str(key): str(value) for key, value in json.loads(path.read_text(encoding="utf-8")).items()}
