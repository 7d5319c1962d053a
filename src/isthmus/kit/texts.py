"""Sentences meant for people, looked up by key, in one JSON file per language under `languages/`.

English is complete. Another language may have fewer keys; what it lacks is said in English.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from isthmus.contracts.errors import SettingError

FOLDER = Path(__file__).parent / "languages"
BASE = "en"


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


def load_texts(language: str, folder: Path = FOLDER) -> Texts:
    """Texts of a language code such as `en`. Raises SettingError when there is no file for it."""
    if language not in languages(folder):
        raise SettingError(f"there are no sentences in the language {language!r}", f"use one of {', '.join(languages(folder))}")
    return Texts(language, _sentences(folder / f"{language}.json"), _sentences(folder / f"{BASE}.json"))


@cache
def _sentences(path: Path) -> dict[str, str]:
    return {str(key): str(value) for key, value in json.loads(path.read_text(encoding="utf-8")).items()}
