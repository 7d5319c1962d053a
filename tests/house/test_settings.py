"""Every setting is used, and has a name, a default, a unit and a sentence."""

from __future__ import annotations

import re

from isthmus.kit.config import setting_lines
from tests.house.source import source_files


def test_every_setting_is_complete() -> None:
    for line in setting_lines():
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", line.name)
        assert line.variable == "ISTHMUS_" + line.name.upper()
        assert line.default and line.unit and line.sentence.endswith("."), line


def test_every_setting_is_read_somewhere() -> None:
    elsewhere = "\n".join(file.text for file in source_files() if file.name != "src/isthmus/kit/config.py")
    unused = [s.name for s in setting_lines() if s.name != "trace" and not re.search(rf"settings\(?\)?\.{s.name}\b", elsewhere)]
    assert not unused, f"a setting that nothing reads is a promise that nothing keeps: {unused}"
    assert "trace_wanted" in elsewhere
