"""Sentences by key, in English and in whatever else has a file."""

from __future__ import annotations

import json
import string
from pathlib import Path

import pytest

from isthmus.cli.main import COMMANDS, EXAMPLES, START
from isthmus.contracts.errors import SettingError
from isthmus.kit.texts import FOLDER, languages, load_texts


def names_in(sentence: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(sentence) if name}


def test_another_language_falls_back_to_english(tmp_path: Path) -> None:
    (tmp_path / "en.json").write_text('{"a": "one {n}", "b": "two"}', encoding="utf-8")
    (tmp_path / "zh.json").write_text('{"a": "一 {n}"}', encoding="utf-8")
    texts = load_texts("zh", tmp_path)
    assert (texts("a", n=3), texts("b"), texts.has("c")) == ("一 3", "two", False)
    with pytest.raises(KeyError):
        texts("c")
    with pytest.raises(SettingError, match="xx"):
        load_texts("xx", tmp_path)


@pytest.mark.parametrize("language", languages())
def test_every_language_has_only_keys_and_names_of_english(language: str) -> None:
    english = json.loads((FOLDER / "en.json").read_text(encoding="utf-8"))
    sentences = json.loads((FOLDER / f"{language}.json").read_text(encoding="utf-8"))
    for key, sentence in sentences.items():
        assert key in english and names_in(sentence) == names_in(english[key]), key


def test_every_command_has_its_sentence() -> None:
    texts = load_texts("en")
    keys = [f"cli.{name}" for names in COMMANDS.values() for name in names] + [f"cli.section.{section}" for section in COMMANDS]
    assert all(texts.has(key) for key in [*keys, *(key for _, key in START), *(key for _, key in EXAMPLES)])
